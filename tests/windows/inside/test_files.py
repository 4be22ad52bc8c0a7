"""Files that are whole or absent, on Windows."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mattebridge import whole_files
from mattebridge.daemon.runtime import move_log
from mattebridge.errors import FrameWriteError
from mattebridge.wire import windows_files


def test_a_file_is_replaced_once_its_reader_has_closed_it(tmp_path: Path) -> None:
    path = tmp_path / "plate.1001.exr"
    path.write_bytes(b"old")
    reader = path.open("rb")
    closing = threading.Timer(0.2, reader.close)
    closing.start()
    whole_files.replace_file(path, b"new")
    closing.join()
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_stays_open_is_an_error_that_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows_files, "HELD_OPEN_S", 0.1)
    path = tmp_path / "plate.1001.exr"
    path.write_bytes(b"old")
    with (
        path.open("rb"),
        pytest.raises(FrameWriteError, match="another program has the old file open"),
    ):
        whole_files.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_process_left_is_swept_once_that_process_has_ended(tmp_path: Path) -> None:
    mine = tmp_path / whole_files.temporary_name("plate.1001.exr")
    mine.touch()
    assert whole_files.sweep_temporaries([tmp_path]) == [mine]
    code = (
        "import sys; from pathlib import Path; from mattebridge import whole_files as w; "
        "(Path(sys.argv[1]) / w.temporary_name('plate.1002.exr')).touch(); print(flush=True); "
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    other.stdout.readline()
    (left,) = tmp_path.iterdir()
    assert whole_files.sweep_temporaries([tmp_path]) == []
    other.communicate()
    assert whole_files.sweep_temporaries([tmp_path]) == [left]
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folder_with_a_long_path_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / ("shot" * 40) / ("plate" * 20)
    whole_files.replace_file(folder / "plate.1001.exr", b"frame")
    assert (folder / "plate.1001.exr").read_bytes() == b"frame"
    assert [path.name for path in folder.iterdir()] == ["plate.1001.exr"]
    assert str(windows_files.reachable(folder)).startswith("\\\\?\\")


def test_nothing_is_written_under_a_name_that_means_another_file(tmp_path: Path) -> None:
    for name, says in (("nul.exr", "device"), ("take:b.exr", "hidden stream"), ("a.", "drops")):
        with pytest.raises(FrameWriteError, match=f"cannot write .*{says}"):
            whole_files.replace_file(tmp_path / name, b"frame")
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_another_process_has_open_is_rotated(tmp_path: Path) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    with log.open("ab") as launcher:
        launcher.write(b"before\n")
        launcher.flush()
        move_log(str(log), str(old))
        launcher.write(b"after\n")
    assert (old.read_bytes(), log.read_bytes()) == (b"before\n", b"after\n")
