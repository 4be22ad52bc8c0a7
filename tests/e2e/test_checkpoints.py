"""A checkpoint of the user's own: added, rendered by the daemon, spoiled, replaced and removed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from fakes.daemon_process import DaemonProcess
from fakes.generated_weights import generated_state, plate_pair
from fakes.places import BRIDGE
from fakes.reuse import check_reuse
from mattebridge import cli
from mattebridge.errors import MessageError, ModelError
from mattebridge.models.background_matting.networks import MattingRefine
from mattebridge.models.weights.installed import InstalledModels

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 96, 128
LIMIT_S = 60


class Shelf:
    """A daemon, its folder of weights, and the command that fills it."""

    def __init__(self, folder: Path) -> None:
        self.models = InstalledModels(folder / "models")
        self.daemon = DaemonProcess(MATTEBRIDGE_MODELS=str(self.models.folder))

    @property
    def variables(self) -> dict[str, str]:
        """The environment that leads the command to this daemon and this folder."""
        return {
            "MATTEBRIDGE_MODELS": str(self.models.folder),
            "MATTEBRIDGE_RUNTIME_DIR": str(self.daemon.folder),
        }

    def command(self, *arguments: str, status: int = 0) -> str:
        """What `mattebridge models` says, in this process, which has loaded torch already."""
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
            for name, value in self.variables.items():
                patch.setenv(name, value)
            assert cli.main(["models", *arguments]) == status
        return said.getvalue()

    def process(self, *arguments: str) -> str:
        """The same in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "mattebridge", "models", *arguments],
            env={**self.daemon.environment, "PYTHONPATH": str(BRIDGE), **self.variables},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stored(self, name: str) -> Path:
        return Path(self.models.records()[name].path)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    with shelf.daemon:
        shelf.daemon.wait_ready()
        yield shelf


def network(raised: float = 0.0) -> MattingRefine:
    """A plain network; `raised` makes it another one of the same kind."""
    made = MattingRefine("mobilenetv2")
    made.load_state_dict(generated_state(made.state_dict()))
    with torch.no_grad():
        made.decoder.conv4.bias[0] += raised
        made.refiner.conv4.bias[0] += raised
    return made


def save(made: MattingRefine, path: Path) -> str:
    if path.suffix == ".pth":
        torch.save({"state_dict": made.state_dict()}, path)
    else:
        safetensors.torch.save_file(made.state_dict(), path)
    return str(path)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    plate, clean = plate_pair(HEIGHT, WIDTH)
    return tuple(
        np.ascontiguousarray(image[0].permute(1, 2, 0).numpy()) for image in (plate, clean)
    )


def assert_is_the_matte_of(made: MattingRefine, matte) -> None:
    with torch.inference_mode():
        alpha, foreground, *_ = made(*plate_pair(HEIGHT, WIDTH))
    assert np.abs(matte.alpha - alpha[0].permute(1, 2, 0).numpy()).max() <= 1e-5
    assert np.abs(matte.foreground - foreground[0].permute(1, 2, 0).numpy()).max() <= 1e-5


def loaded(client) -> set[str]:
    return {model["name"] for model in client.models() if model["loaded"]}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_an_added_checkpoint_gives_the_matte_of_the_plain_network(shelf, tmp_path, suffix):
    name = f"portrait{suffix}"
    made = network(raised=0.05 if suffix == ".pth" else 0.0)
    client = shelf.daemon.client()
    with pytest.raises(ModelError, match=f"there is no model '{name}'"):
        client.matte(*pictures(), colorspace="srgb", model=name)
    said = shelf.process("add", save(made, tmp_path / f"a{suffix}"), "--name", name)
    assert "another MATTEBRIDGE_MODELS" not in said
    assert name in shelf.process("list")
    matte = client.matte(*pictures(), colorspace="srgb", model=name, exact=True)
    assert matte.model == name
    assert matte.digest == shelf.models.records()[name].digest
    assert matte.notes["model"] == {
        **matte.notes["model"],
        "exact": True,
        "precision": "float32",
        "backbone_scale": 0.25,
    }
    assert_is_the_matte_of(made, matte)
    fast = client.matte(*pictures(), colorspace="srgb", model=name)
    assert np.abs(fast.alpha - matte.alpha).max() < 1e-3
    assert name in loaded(client)


def test_a_checkpoint_that_is_replaced_while_loaded_gives_the_new_matte(shelf, tmp_path):
    first, second = network(), network(raised=-0.2)
    client = shelf.daemon.client()
    shelf.command("add", save(first, tmp_path / "a.pth"), "--name", "swapped")
    before = client.matte(*pictures(), colorspace="srgb", model="swapped", exact=True)
    save(second, tmp_path / "a.pth")
    shelf.command("add", str(tmp_path / "a.pth"), "--name", "swapped", status=2)
    shelf.command("add", str(tmp_path / "a.pth"), "--name", "swapped", "--replace")
    after = client.matte(*pictures(), colorspace="srgb", model="swapped", exact=True)
    assert before.digest != after.digest
    assert_is_the_matte_of(first, before)
    assert_is_the_matte_of(second, after)
    assert np.abs(before.alpha - after.alpha).max() > 0.1


def test_a_frame_that_is_asked_for_again_is_that_of_the_weights_of_now(shelf, tmp_path):
    images = dict(zip(("plate", "clean_plate"), pictures()))
    client = shelf.daemon.client()
    for raised, more in ((0.0, ()), (-0.2, ("--replace",))):
        file = tmp_path / f"{raised}.pth"
        shelf.command("add", save(network(raised), file), "--name", "again", *more)
        check_reuse(client, images, model="again", colorspace="srgb")
    client.unload_model("again")
    assert "reused" not in client.matte(**images, model="again", colorspace="srgb").notes


def test_a_checkpoint_that_is_removed_while_loaded_is_gone_from_the_daemon(shelf, tmp_path):
    client = shelf.daemon.client()
    shelf.command("add", save(network(), tmp_path / "a.pth"), "--name", "shortlived")
    client.load_model("shortlived")
    assert "shortlived" in loaded(client)
    stored = shelf.stored("shortlived")
    shelf.command("remove", "shortlived")
    assert not stored.exists() or "portrait.safetensors" in shelf.models.records()
    with pytest.raises(ModelError, match="there is no model 'shortlived'"):
        client.matte(*pictures(), colorspace="srgb", model="shortlived")
    assert "shortlived" not in {model["name"] for model in client.models()}
    (worker,) = client.status()["workers"]
    assert "shortlived" not in worker["memory"]["models"]


def test_a_stored_file_that_went_bad_fails_its_own_frames_and_no_others(shelf, tmp_path):
    client = shelf.daemon.client()
    shelf.command("add", save(network(raised=0.3), tmp_path / "a.pth"), "--name", "spoiled")
    stored = shelf.stored("spoiled")
    data = stored.read_bytes()
    canary = tmp_path / "canary"
    spoilt = {
        "cannot be read": lambda: stored.unlink(),
        "are not those that were added": lambda: stored.write_bytes(hostile(canary)),
        "is empty": lambda: stored.write_bytes(b""),
        "is not a file": lambda: (stored.unlink(), os.mkfifo(stored)),
        "is a symbolic link": lambda: (stored.unlink(), stored.symlink_to(tmp_path / "a.pth")),
    }
    for says, spoil in spoilt.items():
        spoil()
        with pytest.raises(ModelError, match=f"weights of model 'spoiled'.*{says}") as caught:
            client.matte(*pictures(), colorspace="srgb", model="spoiled")
        assert not caught.value.retry
        assert client.matte(*pictures(), colorspace="srgb").model == "difference"
    assert not canary.exists()
    assert client.status()["workers"][0]["restarts"] == 0
    stored.unlink()
    stored.write_bytes(data)
    assert client.matte(*pictures(), colorspace="srgb", model="spoiled").model == "spoiled"


class Trap:
    """Makes a file when it is unpickled by a reader that trusts."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (open, (str(self.canary), "w"))


def hostile(canary: Path) -> bytes:
    file = io.BytesIO()
    torch.save({"a": Trap(canary)}, file)
    return file.getvalue()


def test_a_damaged_registry_costs_the_added_models_and_no_others(shelf):
    client = shelf.daemon.client()
    registry = shelf.models.folder / "models.json"
    registry.parent.mkdir(exist_ok=True)
    before = registry.read_bytes() if registry.exists() else b'{"version": 1, "models": {}}'
    registry.write_text("{")
    try:
        with pytest.raises(ModelError, match=r"models\.json cannot be used"):
            client.matte(*pictures(), colorspace="srgb", model="portrait.pth")
        assert client.matte(*pictures(), colorspace="srgb").model == "difference"
        assert "models.json cannot be used" in shelf.command("list")
    finally:
        registry.write_bytes(before)


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "a\0b", "\\\\server\\share", "x" * 10_000, "portrаit", ".."]
)
def test_a_hostile_name_is_answered_and_never_reaches_the_disk(shelf, name):
    client = shelf.daemon.client()
    with pytest.raises((MessageError, ModelError)) as caught:
        client.matte(*pictures(), colorspace="srgb", model=name)
    assert caught.value.code in ("E_MESSAGE", "E_MODEL")
    assert len(caught.value.message) < 1000
    for operation in (client.load_model, client.unload_model):
        with pytest.raises((MessageError, ModelError)):
            operation(name)


def test_sixty_checkpoints_still_fit_into_the_list(shelf, tmp_path):
    path = Path(save(network(), tmp_path / "a.pth"))
    names = [f"{'m' * 60}{index}" for index in range(60)]
    shelf.models.add(path, names[0], licence="x" * 200)
    text = (shelf.models.folder / "models.json").read_text()
    found = json.loads(text)
    for name in names:
        found["models"][name] = found["models"][names[0]]
    (shelf.models.folder / "models.json").write_text(json.dumps(found))
    try:
        assert len(shelf.daemon.client().models()) >= 30
    finally:
        (shelf.models.folder / "models.json").write_text(text)
        shelf.models.remove(names[0])
