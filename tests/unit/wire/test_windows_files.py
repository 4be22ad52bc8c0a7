"""Replacing files that are held open, and long paths, by the rules of Windows; on every system."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mattebridge.wire import windows_files
from mattebridge.wire.files import HeldOpenError

LONG = "\\".join(["shots of a long name"] * 12)


@pytest.mark.parametrize(
    ("bare", "prefixed"),
    [
        (rf"C:\{LONG}\a.exr", rf"\\?\C:\{LONG}\a.exr"),
        (rf"\\server\share\{LONG}", rf"\\?\UNC\server\share\{LONG}"),
    ],
)
def test_a_long_path_gets_the_prefix_once_and_is_the_same_without_it(
    bare: str, prefixed: str
) -> None:
    assert windows_files.with_prefix(bare) == prefixed
    assert windows_files.with_prefix(prefixed) == prefixed
    assert windows_files.without_prefix(prefixed) == bare
    assert windows_files.without_prefix(bare) == bare


@pytest.mark.parametrize(
    "path", [r"C:\shots\a.exr", r"\\server\share\a.exr", rf"\\.\pipe\{LONG}", rf"\\?\C:\{LONG}"]
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert windows_files.with_prefix(path) == path


def test_a_file_is_replaced_as_soon_as_its_reader_lets_it_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, tries = os.replace, []

    def held_twice(source: Path, target: Path) -> None:
        tries.append(source)
        if len(tries) < 3:
            raise PermissionError(13, "the process cannot access the file")
        replace(source, target)

    monkeypatch.setattr(os, "replace", held_twice)
    for name in ("new", "old"):
        (tmp_path / name).write_text(name)
    windows_files.replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    assert len(tries) == 3


def test_a_file_that_is_held_longer_is_an_error_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(source: Path, target: Path) -> None:
        raise PermissionError(13, "the process cannot access the file")

    monkeypatch.setattr(os, "replace", held)
    monkeypatch.setattr(windows_files, "HELD_OPEN_S", 0.0)
    with pytest.raises(HeldOpenError, match="another program has the old file open"):
        windows_files.replace(tmp_path / "new", tmp_path / "old")
