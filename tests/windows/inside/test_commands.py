"""`mattebridge matte` and `clips` on files, with a daemon in another process. As `test_daemon.py`.

What they write is compared by `tests/e2e/test_under_wine.py` with what Linux writes.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mattebridge.cli import main
from mattebridge.client import MatteClient
from mattebridge.errors import FrameWriteError, SequenceError
from mattebridge.image_io.output_names import refuse_collisions
from windows import jobs
from windows.patience import LIMIT_S, connect
from windows.running import Daemon, wait_for

MANY = 60
# The command as a console starts it. Neither console nor C runtime of Wine 8 know Ctrl-Break: when
# the event of that name is set, this raises the signal, in a thread as the runtime of Windows does.
IN_A_CONSOLE = """
import ctypes, signal, sys, threading
from mattebridge.cli import main
kernel32 = ctypes.WinDLL("kernel32")
kernel32.SetConsoleCtrlHandler(None, False)
kernel32.CreateEventW.restype = ctypes.c_void_p
pressed = ctypes.c_void_p(kernel32.CreateEventW(None, True, False, sys.argv[1]))
def listen():
    kernel32.WaitForSingleObject(pressed, 0xFFFFFFFF)
    signal.raise_signal(signal.SIGBREAK)
threading.Thread(target=listen, daemon=True).start()
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    started = Daemon(tmp_path_factory.mktemp("Run Folder") / "v1")
    yield started
    started.kill()


@pytest.fixture(scope="module")
def shot() -> Path:
    return Path(os.environ["MATTEBRIDGE_TEST_SHOT"])


def run(daemon: Daemon, arguments: list[str], *more: object) -> int:
    running = ["--instance", str(daemon.folder), "--no-spawn", "--progress", "plain"]
    return main([*arguments, *map(str, more), *running])


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def sessions(client: MatteClient) -> list[int]:
    return [session["pid"] for session in client.status(LIMIT_S)["sessions"]]


@pytest.mark.parametrize("name", ["exr", "long", "png", "video", "clips", "long clips"])
def test_a_job_writes_its_pictures(daemon: Daemon, shot: Path, name: str) -> None:
    results = Path(os.environ["MATTEBRIDGE_TEST_RESULTS"])
    assert run(daemon, jobs.commands(shot, results)[name]) == 0


@pytest.mark.parametrize("place", ["drive", "server"])
def test_a_job_reads_and_writes_on_another_drive_and_on_a_server(
    daemon: Daemon, place: str
) -> None:
    """`X:` and `\\\\server\\share`, which lead to the folder of the shot and the results."""
    root = Path(os.environ[f"MATTEBRIDGE_TEST_{place.upper()}"])
    assert root.drive + root.root == str(root)
    shot = root / Path(os.environ["MATTEBRIDGE_TEST_SHOT"]).name
    assert run(daemon, jobs.commands(shot, root / place)["exr"]) == 0
    plate = Path(os.environ["MATTEBRIDGE_TEST_SHOT"]) / "exr" / "plate.1001.exr"
    # The same file by another name is no place for a result.
    with pytest.raises(SequenceError, match="is an input of this job"):
        refuse_collisions([shot / "exr" / "plate.1001.exr"], [plate])
    assert run(daemon, jobs.commands(shot, root / place)["exr"]) == 2  # they exist


def test_a_resumed_job_makes_what_is_missing_or_damaged_alone(
    daemon: Daemon, shot: Path, tmp_path: Path
) -> None:
    command = jobs.commands(shot, tmp_path)["exr"]
    assert run(daemon, command) == 0
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.exr")}
    missing, damaged = sorted(made)[0], sorted(made)[-1]
    missing.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-9])
    report = tmp_path / "report.jsonl"
    assert run(daemon, command) == 2  # they exist
    assert run(daemon, command, "--resume", "--report", report) == 0
    records = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    assert [(r["frame"], r["status"]) for r in records] == [
        (1001, "done"), (1002, "found"), (1003, "done"),
    ]  # fmt: skip
    changed = {path for path in made if path.stat().st_mtime_ns != made[path]}
    assert {path.stem for path in changed} == {"plate.1001", "plate.1003"}


def test_the_exit_status_says_what_went_wrong(
    daemon: Daemon, shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plates = tmp_path / "plates"
    plates.mkdir()
    for path in (shot / "exr").iterdir():
        (plates / path.name).write_bytes(path.read_bytes())
    clean_plate = ["--clean-plate", str(plates / "clean.####.exr")]
    command = ["matte", str(plates / "plate.####.exr"), *clean_plate, *jobs.MODEL]
    command += ["-o", str(tmp_path / "out")]
    (plates / "plate.1002.exr").write_bytes(b"no picture")
    assert run(daemon, command) == 3
    assert "plate.1002.exr" in capsys.readouterr().err
    assert len(files(tmp_path / "out")) == 2 * 3 + 1
    assert run(daemon, command, "--frames", "1001-1004", "--resume") == 2
    assert "no frame 1004" in capsys.readouterr().err
    other = ["--instance", str(tmp_path / "none"), "--no-spawn", "-o", str(tmp_path / "other")]
    assert main([*command, *other, "--frames", "1001"]) == 5
    assert "no daemon is running" in capsys.readouterr().err


def test_a_result_that_another_program_has_open_is_kept_whole_and_named(
    daemon: Daemon, shot: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*jobs.commands(shot, tmp_path)["exr"], "--frames", "1001"]
    assert run(daemon, command) == 0
    made = tmp_path / "exr" / "alpha" / "plate.1001.exr"
    before, there = made.read_bytes(), files(tmp_path)
    with made.open("rb"):  # without FILE_SHARE_DELETE
        status = run(daemon, command, "--existing", "overwrite")
        assert status == FrameWriteError.exit_status
        assert f"cannot write {made}: another program has the old file open" in (
            capsys.readouterr().err
        )
        assert made.read_bytes() == before
    assert files(tmp_path) == there
    assert run(daemon, command, "--existing", "overwrite") == 0


@pytest.fixture(scope="module")
def kernel32() -> Any:
    """The calls of consoles; this process has one of its own, which those that it starts share."""
    calls: Any = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    calls.CreateEventW.restype = ctypes.c_void_p
    calls.FreeConsole()
    assert calls.AllocConsole()
    return calls


@pytest.mark.parametrize("key", ["Ctrl-C", "Ctrl-Break"])
def test_a_job_that_the_console_ends_leaves_whole_files_and_the_daemon(
    daemon: Daemon, shot: Path, tmp_path: Path, kernel32: Any, key: str
) -> None:
    plates = tmp_path / "plates"
    plates.mkdir()
    plate = (shot / "exr" / "plate.1001.exr").read_bytes()
    for frame in range(MANY):
        (plates / f"plate.{frame:04d}.exr").write_bytes(plate)
    out = tmp_path / "out"
    command = ["matte", str(plates), "--clean-plate", str(shot / "exr" / "clean.1001.exr"),
               "-o", str(out), *jobs.MODEL]  # fmt: skip
    running = ["--instance", str(daemon.folder), "--no-spawn", "--progress", "plain"]
    flags = subprocess.CREATE_NEW_PROCESS_GROUP  # type: ignore[attr-defined]
    name = f"mattebridge-test-{os.getpid()}-{key}"
    pressed = ctypes.c_void_p(kernel32.CreateEventW(None, True, False, name))
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_CONSOLE, name, *command, *running],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        creationflags=flags,
    ) as job:  # fmt: skip
        assert job.stdout is not None
        assert job.stderr is not None
        said = [job.stdout.readline(), job.stdout.readline()]
        assert b" done " in said[1], said
        if key == "Ctrl-C":
            os.kill(job.pid, signal.CTRL_C_EVENT)  # type: ignore[attr-defined]
        else:
            kernel32.SetEvent(pressed)
        rest, errors = job.stdout.read(), job.stderr.read()
        assert job.wait(LIMIT_S) == 4, rest + errors
    kernel32.CloseHandle(pressed)
    assert b"cancelled" in errors
    left = files(out)
    done = {name for name in left if name.endswith(".exr")}
    assert 0 < len(done) < 3 * MANY
    assert set(left) - done == {"plate.mattebridge.jsonl"}
    with connect(daemon.folder) as client:
        wait_for(lambda: sessions(client) == [os.getpid()], "its session is still there")
        assert client.status(LIMIT_S)["memory"]["arena_bytes"] == 0
    report = tmp_path / "report.jsonl"
    assert run(daemon, command, "--resume", "--frames", "0-5", "--report", report) == 0
    assert len(report.read_text("utf-8").splitlines()) == 6
