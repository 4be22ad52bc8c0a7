"""The user's folder of weights: what goes in, what is refused, and what a reader ever sees."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
import threading
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from fakes.generated_weights import generated_state
from fakes.mostly_slow import mostly_slow
from mattebridge.errors import MessageError, ModelError, UsageError
from mattebridge.models.background_matting.networks import make_network
from mattebridge.models.registry import Registry
from mattebridge.models.weights import installed
from mattebridge.models.weights.file import digest_of
from mattebridge.models.weights.installed import InstalledModels, models_folder

# What is there without any model that was added.
BUILT_IN = ["difference", "screen", "twoplate"]


@lru_cache(maxsize=3)
def checkpoint(family: str = "MattingRefine", kernel: int = 3, raised: float = 0.0) -> bytes:
    """A .safetensors file; `raised` makes it another one of the same kind."""
    settings = {"refine_kernel_size": kernel} if family == "MattingRefine" else {}
    with torch.device("meta"):
        shapes = make_network(family, "mobilenetv2", **settings).state_dict()
    state = generated_state(shapes)
    state["decoder.conv4.bias"] = state["decoder.conv4.bias"] + raised
    return safetensors.torch.save(state)


@pytest.fixture
def models(tmp_path: Path) -> InstalledModels:
    return InstalledModels(tmp_path / "models")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "published.safetensors"
    path.write_bytes(checkpoint())
    return path


def stored(models: InstalledModels) -> list[str]:
    return sorted(os.listdir(models.folder / "weights"))


def registry_text(models: InstalledModels, text: str | bytes) -> None:
    models.folder.mkdir(exist_ok=True)
    data = text if isinstance(text, bytes) else text.encode()
    (models.folder / "models.json").write_bytes(data)


# --- adding and removing --------------------------------------------------------------------------


def test_a_file_is_copied_in_under_its_digest(models: InstalledModels, file: Path) -> None:
    record = models.add(file, "portrait", licence="MIT")
    assert record.digest == digest_of(file.read_bytes())
    assert stored(models) == [record.digest.removeprefix("sha256:")]
    assert Path(record.path).read_bytes() == file.read_bytes()
    assert not os.path.samefile(record.path, file)
    assert dict(record.settings) == {
        "class": "MattingRefine",
        "backbone": "mobilenetv2",
        "kernel": 3,
    }
    assert (record.licence, record.file_name) == ("MIT", "published.safetensors")
    assert record.size_bytes == file.stat().st_size
    assert models.records() == {"portrait": record}
    written = json.loads((models.folder / "models.json").read_text())
    assert written["version"] == 1
    assert written["models"]["portrait"]["digest"] == record.digest
    assert "path" not in written["models"]["portrait"]


def test_the_folder_is_private_and_holds_nothing_unfinished(
    models: InstalledModels, file: Path
) -> None:
    models.add(file, "portrait")
    assert models.folder.stat().st_mode & 0o077 == 0
    assert sorted(os.listdir(models.folder)) == ["lock", "models.json", "weights"]


def test_the_model_is_listed_with_what_its_weights_told(
    models: InstalledModels, file: Path
) -> None:
    models.add(file, "portrait", licence="MIT")
    card = Registry(models).card("portrait")
    assert (card.family, card.licence) == ("background_matting", "MIT")
    assert card.summary.startswith("MattingRefine with mobilenetv2")
    assert set(card.settings_schema) == {
        "backbone_scale",
        "refine_mode",
        "refine_sample_pixels",
        "refine_threshold",
        "precision",
    }


def test_the_same_file_under_two_names_is_kept_once(models: InstalledModels, file: Path) -> None:
    models.add(file, "one")
    models.add(file, "two")
    assert len(stored(models)) == 1
    models.remove("one")
    assert len(stored(models)) == 1
    models.check("two")
    models.remove("two")
    assert stored(models) == []
    assert models.records() == {}


def test_another_file_takes_a_name_only_when_asked(models: InstalledModels, file: Path) -> None:
    first = models.add(file, "portrait", licence="MIT")
    file.write_bytes(checkpoint(raised=0.1))
    with pytest.raises(UsageError, match=r"added already, from published.*--replace"):
        models.add(file, "portrait")
    assert models.records()["portrait"].digest == first.digest
    second = models.add(file, "portrait", replace=True)
    assert second.digest != first.digest
    assert second.licence == "MIT"
    assert stored(models) == [second.digest.removeprefix("sha256:")]


def test_adding_the_same_file_again_mends_a_damaged_copy(
    models: InstalledModels, file: Path
) -> None:
    record = models.add(file, "portrait")
    Path(record.path).write_bytes(b"damaged")
    with pytest.raises(ModelError):
        models.check("portrait")
    models.add(file, "portrait")
    models.check("portrait")


def test_what_was_not_added_cannot_be_removed_or_checked(
    models: InstalledModels, file: Path
) -> None:
    models.add(file, "portrait")
    for act in (models.remove, models.check):
        with pytest.raises(ModelError, match="no model 'other' was added; those that were: port"):
            act("other")
        with pytest.raises(ModelError, match="'difference' is built in"):
            act("difference")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "..",
        ".",
        "-",
        "../../x",
        "/etc/passwd",
        "a\0b",
        "\\\\server\\share",
        "x" * 65,
        "x" * 10_000,
        "portrаit",  # a Cyrillic a
        "Portrait",
        "a b",
        "a\n",
    ],
)
def test_a_name_that_is_none_is_refused_before_the_file_is_looked_at(
    models: InstalledModels, name: str
) -> None:
    with pytest.raises(UsageError, match="is not a model name") as caught:
        models.add(Path("/no/such/file"), name)
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()
    assert not models.folder.exists()


@pytest.mark.parametrize("name", ["difference", "default"])
def test_a_built_in_model_cannot_be_shadowed(
    models: InstalledModels, file: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="built-in"):
        models.add(file, name)
    models.add(file, "x")
    text = (models.folder / "models.json").read_text()
    registry_text(models, text.replace('"x"', f'"{name}"'))
    assert models() == {}
    assert "name of a built-in one" in models.problem
    models.remove(name)
    assert models.problem == "" or not models()


@pytest.mark.slow
def test_many_commands_at_once_lose_no_model(models: InstalledModels, file: Path) -> None:
    def add(index: int) -> None:
        InstalledModels(models.folder).add(file, f"model{index}")

    threads = [threading.Thread(target=add, args=(index,)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(models.records()) == [f"model{index}" for index in range(6)]


def test_what_a_killed_command_left_is_swept_by_the_next(
    models: InstalledModels, file: Path
) -> None:
    models.add(file, "portrait")
    say_name = "from mattebridge.whole_files import temporary_name as t; print(t('1' * 64))"
    ended = subprocess.run([sys.executable, "-c", say_name], capture_output=True, text=True)
    orphan = models.folder / "weights" / ("0" * 64)
    half = models.folder / "weights" / ended.stdout.strip()
    other = models.folder / "weights" / "notes.txt"
    for path in (orphan, half, other):
        path.write_bytes(b"x")
    models.add(file, "second")
    assert not orphan.exists()
    assert not half.exists()
    assert other.exists()


@pytest.mark.slow  # killed at every step, each in a process that loads torch
def test_a_killed_command_leaves_the_model_whole_or_absent(
    models: InstalledModels, file: Path
) -> None:
    """Killed between any two steps: either nothing is listed, or what is listed is whole."""
    script = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from mattebridge.models.weights import installed\n"
        "from mattebridge import whole_files\n"
        "left = int(sys.argv[1])\n"
        "replace = os.replace\n"
        "def dying(*given):\n"
        "    global left\n"
        "    if left == 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    left -= 1\n"
        "    replace(*given)\n"
        "whole_files.os.replace = dying\n"
        f"installed.InstalledModels(Path({str(models.folder)!r})).add(Path({str(file)!r}), 'p')\n"
    )
    for steps in (0, 1, 2):
        subprocess.run([sys.executable, "-c", script, str(steps)], timeout=60)
        records = InstalledModels(models.folder).records()
        assert (steps == 2) == bool(records)
        for record in records.values():
            record.read()


def test_a_disk_that_is_full_says_so(
    models: InstalledModels, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Any, data: Any) -> int:
        raise installed.FrameWriteError("x") from OSError(28, "No space left on device")

    monkeypatch.setattr(installed, "replace_file", full)
    with pytest.raises(ModelError, match="No space left on device; make room") as caught:
        models.add(file, "portrait")
    assert caught.value.details["reason"] == "write"
    assert models.records() == {}


def test_a_folder_that_may_not_be_written_says_so(tmp_path: Path, file: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ModelError, match=r"cannot write .*taken.*MATTEBRIDGE_MODELS"):
        InstalledModels(tmp_path / "taken" / "models").add(file, "portrait")


# --- files that are no checkpoint (F26) -----------------------------------------------------------


class Trap:
    """Makes a file when it is unpickled by a reader that trusts."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (open, (str(self.canary), "w"))


def refused(models: InstalledModels, path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        models.add(path, "portrait")
    assert models.records() == {}
    assert not (models.folder / "weights").exists() or stored(models) == []
    return caught.value


def test_what_is_no_file_is_not_added(models: InstalledModels, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert "No such file" in refused(models, tmp_path / "absent.pth").message
    assert "No such file" in refused(models, tmp_path / "dangling").message
    assert "is not a file" in refused(models, tmp_path).message
    assert "is not a file" in refused(models, tmp_path / "fifo").message
    assert "is not a file" in refused(models, Path("/dev/zero")).message
    assert "is empty" in refused(models, tmp_path / "empty").message


@pytest.mark.parametrize("keep", [10, 5000, -1000])
def test_a_truncated_file_is_not_added(models: InstalledModels, file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    assert refused(models, file).details["reason"] == "unreadable"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\n<!DOCTYPE html>\n<html>Sign in</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ", "no ._ before it"),
        (b"some text", "is damaged, or holds more than weights; download it again"),
    ],
)
def test_what_was_saved_in_place_of_a_checkpoint_is_named(
    models: InstalledModels, tmp_path: Path, content: bytes, said: str
) -> None:
    path = tmp_path / "._CorridorKey.pth"
    path.write_bytes(content)
    error = refused(models, path)
    assert said in error.message
    assert error.details["reason"] == "unreadable"
    # What torch says to those who call it is no remedy here.
    assert "torch.load" not in error.message


def test_weights_of_another_architecture_are_not_added(
    models: InstalledModels, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    assert "not weights of BackgroundMattingV2" in refused(models, path).message
    state = safetensors.torch.load(checkpoint())
    state.pop("aspp.convs.0.0.weight")
    torch.save(state, path)
    assert "lack aspp.convs.0.0.weight" in refused(models, path).message


@pytest.mark.parametrize("old_format", [False, True])
def test_a_hostile_pickle_is_not_added_and_never_runs(
    models: InstalledModels, tmp_path: Path, old_format: bool
) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    torch.save({"a": Trap(canary)}, path, _use_new_zipfile_serialization=not old_format)
    assert refused(models, path).details["reason"] == "unreadable"
    path.write_bytes(pickle.dumps(Trap(canary)))
    assert refused(models, path).details["reason"] == "unreadable"
    assert not canary.exists()


@pytest.mark.parametrize(
    ("signature", "offset", "value"),
    [
        (b"PK\x01\x02", 6, 64),  # a directory entry that asks for version 6.4 of the format
        (b"PK\x01\x02", 0, 0),  # no directory entry where one should be
        (b"PK\x06\x06", 40, 0xFF),  # a directory of another size
        (b"PK\x06\x06", 48, 0xFF),  # a directory in another place
        (b"PK\x06\x07", 16, 2),  # one of two disks
    ],
)
def test_a_damaged_archive_is_not_added(
    models: InstalledModels, tmp_path: Path, signature: bytes, offset: int, value: int
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"encoder.weight": torch.zeros(3)}, path)
    data = bytearray(path.read_bytes())
    data[data.index(signature) + offset] = value
    path.write_bytes(data)
    error = refused(models, path)
    assert error.details["reason"] == "unreadable"
    assert "download it again" in error.message


def test_a_zip_bomb_is_not_added(models: InstalledModels, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", b"\0" * 50_000_000)
    assert "does not compress" in refused(models, path).message


# --- stored files that went bad (F26) -------------------------------------------------------------


def spoil_missing(path: Path) -> None:
    path.unlink()


def spoil_truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def spoil_changed(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)


def spoil_empty(path: Path) -> None:
    path.write_bytes(b"")


def spoil_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def spoil_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def spoil_link_out(path: Path) -> None:
    outside = path.parents[2] / "outside"
    path.rename(outside)
    path.symlink_to(outside)  # the very same bytes: even so


SPOILED = {
    spoil_missing: "missing",
    spoil_truncated: "digest",
    spoil_changed: "digest",
    spoil_empty: "unreadable",
    spoil_folder: "missing",
    spoil_fifo: "missing",
    spoil_link_out: "link",
}


@pytest.mark.parametrize(("spoil", "reason"), SPOILED.items())
def test_a_stored_file_that_went_bad_is_refused_with_a_sentence(
    models: InstalledModels, file: Path, spoil: Any, reason: str
) -> None:
    spoil(Path(models.add(file, "portrait").path))
    for act in (lambda: models.check("portrait"), lambda: made_and_loaded(models)):
        with pytest.raises(ModelError, match="the weights of model 'portrait'") as caught:
            act()
        assert caught.value.details["reason"] == reason
    assert Registry(models).card("portrait").name == "portrait"


def made_and_loaded(models: InstalledModels) -> None:
    Registry(models).make("portrait").load("cpu")


def test_a_stored_file_replaced_by_a_hostile_one_never_runs(
    models: InstalledModels, file: Path, tmp_path: Path
) -> None:
    record = models.add(file, "portrait")
    canary = tmp_path / "canary"
    torch.save({"a": Trap(canary)}, record.path)
    with pytest.raises(ModelError, match="not those that were added"):
        made_and_loaded(models)
    assert not canary.exists()


# --- the registry file ----------------------------------------------------------------------------


def test_changes_are_seen_by_a_reader_that_was_there_before(
    models: InstalledModels, file: Path
) -> None:
    reader = Registry(InstalledModels(models.folder), aliases={})
    assert reader.names() == []
    models.add(file, "one")
    assert reader.names() == ["one"]
    models.add(file, "two")
    assert "two" in reader
    models.remove("one")
    assert reader.names() == ["two"]


def test_an_unchanged_registry_is_not_read_again(
    models: InstalledModels, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.add(file, "one")
    models()
    monkeypatch.setattr(installed, "_read_registry", None)
    assert list(models()) == ["one"]


BAD_REGISTRIES = {
    "no JSON": "{",
    "another shape": "[1, 2]",
    "no version": '{"models": {}}',
    "models no map": '{"version": 1, "models": 3}',
    "version no number": '{"version": "1", "models": {}}',
    "deep": "[" * 100_000,
    "no text": b"\xff\xfe\x00",
    "empty": "",
    "huge": " " * (2 << 20),
}


@pytest.mark.parametrize("text", BAD_REGISTRIES.values(), ids=BAD_REGISTRIES)
def test_a_damaged_registry_costs_the_added_models_and_no_other(
    models: InstalledModels, file: Path, text: str | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    registry_text(models, text)
    registry = Registry(installed.built_in, models)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert registry.names() == BUILT_IN
    assert len(caplog.records) == 1
    with pytest.raises(ModelError, match=r"no model 'x'.*models\.json cannot be used"):
        registry.card("x")
    with pytest.raises(ModelError, match=r"models\.json cannot be used") as caught:
        models.add(file, "portrait")
    assert caught.value.details["reason"] == "registry"
    found = (models.folder / "models.json").read_bytes()
    assert found == (text if isinstance(text, bytes) else text.encode())


def test_a_registry_that_is_no_file_costs_the_added_models_and_no_other(
    models: InstalledModels,
) -> None:
    models.folder.mkdir()
    os.mkfifo(models.folder / "models.json")
    assert models() == {}
    assert "not a file, or too large" in models.problem
    (models.folder / "models.json").unlink()
    (models.folder / "models.json").mkdir()
    assert models() == {}
    assert "not a file, or too large" in models.problem


def test_a_registry_of_a_newer_version_is_left_alone(models: InstalledModels, file: Path) -> None:
    registry_text(models, '{"version": 2, "models": {}}')
    assert models() == {}
    with pytest.raises(ModelError, match="written by a newer mattebridge"):
        models.add(file, "portrait")


SIZED = (
    '{"digest": "sha256:%s", "size_bytes": SIZE, "family": "background_matting", "settings": {}, '
    '"licence": "", "file_name": "", "added": ""}' % ("0" * 64)
)
BAD_ENTRIES = {
    "a size without end": SIZED.replace("SIZE", "Infinity"),
    "a size that is no number": SIZED.replace("SIZE", "NaN"),
    "a size below nothing": SIZED.replace("SIZE", "-1"),
    "a size beyond all disks": SIZED.replace("SIZE", "1" + "0" * 30),
    "no map": "3",
    "nothing in it": "{}",
    "a path for a digest": '{"digest": "sha256:../../../etc/passwd", "size_bytes": 1, "family": '
    '"background_matting", "settings": {}, "licence": "", "file_name": "", "added": ""}',
    "settings no map": '{"digest": "sha256:%s", "size_bytes": 1, "family": "x", "settings": 1, '
    '"licence": "", "file_name": "", "added": ""}' % ("0" * 64),
    "family no text": '{"digest": "sha256:%s", "size_bytes": 1, "family": 1, "settings": {}, '
    '"licence": "", "file_name": "", "added": ""}' % ("0" * 64),
}


@pytest.mark.parametrize("entry", mostly_slow(BAD_ENTRIES.values(), quick=3), ids=BAD_ENTRIES)
def test_an_entry_that_makes_no_sense_costs_no_other(
    models: InstalledModels, file: Path, entry: str
) -> None:
    models.add(file, "good")
    text = (models.folder / "models.json").read_text()
    registry_text(models, text.replace('"models": {', f'"models": {{"bad": {entry},'))
    assert list(models()) == ["good"]
    assert "'bad'" in models.problem
    models.add(file, "third")
    assert list(models()) == ["good", "third"]
    models.remove("bad")
    assert list(models()) == ["good", "third"]
    assert models.problem == ""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"background_matting"', '"of_the_future"', "of a family that this version does not know"),
        ('"MattingRefine"', "7", "is incomplete"),
        ('"class"', '"clas"', "is incomplete"),
    ],
)
def test_an_entry_that_this_version_cannot_use_is_said(
    models: InstalledModels, file: Path, old: str, new: str, says: str
) -> None:
    models.add(file, "portrait")
    text = (models.folder / "models.json").read_text()
    registry_text(models, text.replace(old, new))
    assert models() == {}
    assert says in models.problem
    assert list(models.records()) == ["portrait"]


# --- where ----------------------------------------------------------------------------------------


def test_the_folder_is_the_users_data_folder_or_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert models_folder() == tmp_path / "mattebridge" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert models_folder() == tmp_path / "home" / ".local" / "share" / "mattebridge" / "models"
    monkeypatch.setenv("MATTEBRIDGE_MODELS", str(tmp_path / "mine"))
    assert models_folder() == tmp_path / "mine"


def test_a_setting_that_names_no_folder_costs_the_added_models_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_MODELS", "relative/folder")
    with pytest.raises(UsageError, match="must be the full path"):
        models_folder()
    registry = Registry()
    assert registry.names() == BUILT_IN
    with pytest.raises(ModelError, match="MATTEBRIDGE_MODELS is 'relative/folder'"):
        registry.card("portrait")


@pytest.mark.parametrize(
    "name",
    mostly_slow(["../../x", "x\0", "x" * 10_000, "/x", "\\\\srv\\x", "а", ".."], quick=3),
)
def test_a_hostile_name_in_a_request_never_reaches_the_disk(
    models: InstalledModels, file: Path, name: str
) -> None:
    models.add(file, "x")
    outside = models.folder.parent / "x"
    outside.write_bytes(checkpoint())
    registry = Registry(models, aliases={})
    with pytest.raises((MessageError, ModelError)) as caught:
        registry.make(name)
    assert caught.value.code in ("E_MESSAGE", "E_MODEL")
    assert "\0" not in caught.value.message


def test_listing_added_models_imports_neither_torch_nor_numpy(
    models: InstalledModels, file: Path
) -> None:
    models.add(file, "portrait")
    script = (
        "import sys; from mattebridge.models.registry import Registry;"
        "names = [c['name'] for c in Registry().describe()];"
        "assert names == ['difference', 'portrait', 'screen', 'twoplate'];"
        "print([m for m in ('torch', 'cv2', 'numpy', 'OpenImageIO') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MATTEBRIDGE_MODELS": str(models.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
