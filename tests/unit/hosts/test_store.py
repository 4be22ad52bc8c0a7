"""Mattes on disk: what a set holds, what other runs find, and what Clear may remove."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from mattebridge.errors import FrameWriteError
from mattebridge.hosts import store
from mattebridge.hosts.request import MadeFrame, ShotSettings
from mattebridge.wire import oslayer

LOOK = ShotSettings(model="difference")


def make(folder: Path, numbers: range, look: str = "a") -> list[MadeFrame]:
    """Frames of a run, with their files where the runs of a host put them."""
    made = []
    for number in numbers:
        path = store.frame_file(folder, f"{look}{number}")
        found = path.is_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{look}{number}")
        made.append(MadeFrame(number, "main", path.stem, path, found))
    return made


def shown(folder: Path) -> dict[int, str]:
    """What a Read of a set shows, by frame."""
    return {int(path.name.split(".")[2]): path.read_text() for path in folder.glob("*.exr")}


def test_stores_of_unsaved_documents_lie_in_one_folder_of_this_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    layer = oslayer.current()
    folders = {store.unsaved_folder()}
    monkeypatch.setattr(oslayer, "find", lambda: layer)
    for user in (7, 3**180):  # an account of Linux, and one of Windows
        monkeypatch.setattr(layer, "user_id", lambda user=user: user)
        folders.add(store.unsaved_folder())
    assert len(folders) == 3
    for folder in folders:
        assert folder.parent == tmp_path
        assert re.fullmatch("mattebridge-mattes-[0-9a-f]{1,12}", folder.name)


# ------------------------------------------------------------------------------------------- clear


def test_clear_removes_what_its_own_script_made_and_the_empty_folders(tmp_path: Path) -> None:
    place = tmp_path / "uid"
    first = store.update_set(place, None, make(place, range(1, 4)), LOOK, "s", writer="v1.nk")
    store.update_set(place, first, make(place, range(3, 6), "b"), LOOK, "t", writer="v1.nk")
    assert store.clear(place, "v1.nk") is True
    assert not place.exists()


def test_clear_in_a_later_version_of_a_script_leaves_the_mattes_of_the_earlier_one(
    tmp_path: Path,
) -> None:
    place = tmp_path / "uid"
    first = store.update_set(place, None, make(place, range(1, 4)), LOOK, "s", writer="v1.nk")
    second = store.update_set(
        place, first, make(place, range(2, 3), "b"), LOOK, "t", writer="v2.nk"
    )
    assert shown(second) == {1: "a1", 2: "b2", 3: "a3"}
    assert store.clear(place, "v2.nk") is False
    assert not second.exists()
    assert not store.frame_file(place, "b2").exists()
    assert shown(first) == {1: "a1", 2: "a2", 3: "a3"}
    assert store.clear(place, "v1.nk") is True


@pytest.mark.parametrize("order", [("v1.nk", "v2.nk"), ("v2.nk", "v1.nk")])
def test_mattes_that_two_scripts_show_go_with_the_last_of_them(
    tmp_path: Path, order: tuple[str, str]
) -> None:
    place = tmp_path / "uid"
    first = store.update_set(place, None, make(place, range(1, 3)), LOOK, "s", writer="v1.nk")
    again = store.update_set(place, first, make(place, range(1, 3)), LOOK, "s", writer="v2.nk")
    assert again == first
    assert store.clear(place, order[0]) is False
    assert shown(first) == {1: "a1", 2: "a2"}
    assert store.clear(place, order[1]) is True


def test_clear_leaves_every_file_that_no_record_names(tmp_path: Path) -> None:
    place = tmp_path / "uid"
    folder = store.update_set(place, None, make(place, range(1, 3)), LOOK, writer="v1.nk")
    foreign = [folder / "notes.txt", place / "frames" / "old9.exr", place / "keep" / "plate.exr"]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("not ours")
    assert store.clear(place, "v1.nk") is False
    assert sorted(path for path in place.rglob("*") if path.is_file()) == sorted(foreign)


def test_clear_without_any_record_removes_nothing(tmp_path: Path) -> None:
    (tmp_path / "plate.exr").write_text("the artist's own")
    make(tmp_path, range(1, 3))
    assert store.clear(tmp_path, "v1.nk") is False
    assert len(list(tmp_path.rglob("*.exr"))) == 3


@pytest.mark.parametrize(
    "change",
    [{"made": ["../../plate"]}, {"sets": [".."]}, {"sets": ["../../shot"]}, {"frames": []}],
    ids=str,
)
def test_a_damaged_record_leads_clear_nowhere_else(tmp_path: Path, change: object) -> None:
    place = tmp_path / "uid"
    store.update_set(place, None, make(place, range(1, 2)), LOOK, writer="v1.nk")
    outside = [tmp_path / "plate.exr", tmp_path / "set.json", tmp_path / "shot" / "set.json"]
    (tmp_path / "shot").mkdir()
    for path in outside:
        path.write_text('{"frames": {"main.0001": "a1"}}')
    (record,) = (place / "runs").iterdir()
    assert isinstance(change, dict)
    record.write_text(json.dumps({**json.loads(record.read_text()), **change}))
    store.clear(place, "v1.nk")
    assert all(path.is_file() for path in outside)


def test_clear_by_a_user_who_may_not_write_there_is_an_error_and_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.update_set(tmp_path, None, make(tmp_path, range(1, 3)), LOOK, writer="v1.nk")
    # Not by modes: root, as whom tests run in containers, may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, *_, **__: Path(path) == folder)
    with pytest.raises(FrameWriteError, match=r"press Clear. Nothing was removed"):
        store.clear(tmp_path, "v1.nk")
    assert shown(folder) == {1: "a1", 2: "a2"}


def test_a_file_that_cannot_be_removed_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.update_set(tmp_path, None, make(tmp_path, range(1, 3)), LOOK, writer="v1.nk")
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path.name == "a2.exr":
            raise PermissionError(13, "Permission denied")
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(FrameWriteError, match=r"1 of 6 files in .* could not be removed"):
        store.clear(tmp_path, "v1.nk")


# ---------------------------------------------------------------------------------------- the sets


def test_a_script_that_was_moved_keeps_the_frames_of_its_set(tmp_path: Path) -> None:
    before = store.update_set(
        tmp_path / "old", None, make(tmp_path / "old", range(1, 4)), LOOK, "s", writer="v1.nk"
    )
    after = store.update_set(
        tmp_path / "new", before, make(tmp_path / "new", range(2, 3), "b"), LOOK, "t", writer="x.nk"
    )
    assert shown(after) == {1: "a1", 2: "b2", 3: "a3"}
    shutil.rmtree(tmp_path / "old")
    assert shown(after) == {1: "a1", 2: "b2", 3: "a3"}


def test_a_set_is_found_again_where_its_folder_was_moved_with_the_script(tmp_path: Path) -> None:
    place = tmp_path / "old" / "uid"
    folder = store.update_set(place, None, make(place, range(1, 3)), LOOK)
    os.rename(tmp_path / "old", tmp_path / "new")
    assert store.find_set(tmp_path / "new" / "uid", folder) == tmp_path / "new/uid" / folder.name
    assert store.find_set(tmp_path / "elsewhere", folder) is None


def test_a_frame_whose_file_is_gone_is_not_said_to_be_in_the_set(tmp_path: Path) -> None:
    first = store.update_set(tmp_path, None, make(tmp_path, range(1, 4)), LOOK)
    (first / "matte.main.0003.exr").unlink()
    store.frame_file(tmp_path, "a3").unlink()
    second = store.update_set(tmp_path, first, make(tmp_path, range(4, 5)), LOOK)
    assert sorted(store.read_set(second)["frames"]) == ["main.0001", "main.0002", "main.0004"]


def test_what_is_missing_in_a_set_is_there_after_the_next_run(tmp_path: Path) -> None:
    made = make(tmp_path, range(1, 4))
    folder = store.update_set(tmp_path, None, made, LOOK)
    (folder / "matte.main.0002.exr").unlink()
    assert store.update_set(tmp_path, None, made, LOOK) == folder
    assert shown(folder) == {1: "a1", 2: "a2", 3: "a3"}


def test_folders_have_the_permissions_of_the_folder_around_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    before = os.umask(0o002)
    try:
        folder = store.update_set(tmp_path, None, make(tmp_path, range(1, 2)), LOOK)
    finally:
        os.umask(before)
    for made in (folder, tmp_path / "frames", tmp_path / "runs"):
        mode = made.stat().st_mode
        assert stat.S_IMODE(mode) & 0o775 == 0o775
        # A file system without group inheritance keeps it off in the folder above as well.
        assert mode & stat.S_ISGID == tmp_path.stat().st_mode & stat.S_ISGID


# --------------------------------------------------------------------------------------- the runs


def test_the_runs_of_a_farm_add_up_whichever_ends_last(tmp_path: Path) -> None:
    first = store.update_set(tmp_path, None, make(tmp_path, range(1, 3)), LOOK, "s", writer="a.nk")
    second = store.update_set(tmp_path, None, make(tmp_path, range(3, 5)), LOOK, "s", writer="a.nk")
    assert shown(first) == {1: "a1", 2: "a2"}
    assert shown(second) == {1: "a1", 2: "a2", 3: "a3", 4: "a4"}
    assert store.take_up(tmp_path, None, LOOK, "s", writer="a.nk") == second
    assert store.take_up(tmp_path, second, LOOK, "s", writer="a.nk") is None


def test_two_runs_that_end_at_once_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = store._read_runs

    def as_both_saw_it(place: Path, names: str = "*.json") -> list[object]:
        return []

    for numbers in (range(1, 3), range(3, 5)):
        monkeypatch.setattr(store, "_read_runs", as_both_saw_it)
        store.update_set(tmp_path, None, make(tmp_path, numbers), LOOK, "s", writer="a.nk")
    monkeypatch.setattr(store, "_read_runs", kept)
    found = store.take_up(tmp_path, None, LOOK, "s", writer="a.nk")
    assert found is not None
    assert shown(found) == {1: "a1", 2: "a2", 3: "a3", 4: "a4"}
    assert store.clear(tmp_path, "a.nk") is True


@pytest.mark.parametrize(
    ("settings", "source", "writer"),
    [
        (ShotSettings(model="difference", foreground="unmix"), "s", "a.nk"),
        (LOOK, "t", "a.nk"),
        (LOOK, "s", "b.nk"),
    ],
    ids=["settings", "source", "writer"],
)
def test_frames_of_another_state_or_script_are_not_taken_up(
    tmp_path: Path, settings: ShotSettings, source: str, writer: str
) -> None:
    store.update_set(tmp_path, None, make(tmp_path, range(1, 3)), LOOK, "s", writer="a.nk")
    assert store.take_up(tmp_path, None, settings, source, writer=writer) is None


def test_the_records_of_one_state_are_one_file(tmp_path: Path) -> None:
    for number in range(1, 9):
        store.update_set(tmp_path, None, make(tmp_path, range(number, number + 1)), LOOK, "s")
    assert len(list((tmp_path / "runs").iterdir())) == 1
