"""Folders of clips while workers and daemons are killed and the disk is full: exit statuses, whole
files, and a resume that gives the bytes of an undisturbed run. Workers have the light engine."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import numpy as np
import pytest

from fakes.daemon_process import DaemonProcess, wait_for
from mattebridge.image_io import read_frame, write_frame

pytestmark = pytest.mark.slow

HEIGHT, WIDTH = 40, 56
FRAMES = (1001, 1002, 1003)
LIMIT_S = 120
# Between the size of a file of an even frame and that of frame 1002, which is noise.
FULL_BYTES = 4 << 10


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Two clips with clean plates."""
    clean = np.full((HEIGHT, WIDTH, 3), 0.25, np.float16)
    for clip in ("first", "second"):
        for number in FRAMES:
            plate = clean.copy()
            plate[8:30, 10 + number % 5 : 40] = 0.75
            if number == 1002:
                noise = np.random.default_rng(7).random((22, 30, 3), np.float32)
                plate[8:30, 10:40] = 0.5 + noise
            path = tmp_path / "clips" / clip / f"Input/a.{number}.exr"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_frame(path, plate)
        (tmp_path / "clips" / clip / "CleanPlate").mkdir()
        write_frame(tmp_path / "clips" / clip / "CleanPlate/clean.exr", clean)
    return tmp_path / "clips"


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """While it exists, a frame that reaches it waits."""
    (tmp_path / "gate").touch()
    return tmp_path / "gate"


class Job:
    """`mattebridge clips` on a daemon."""

    def __init__(self, daemon: DaemonProcess, folder: Path) -> None:
        self.daemon, self.folder = daemon, folder

    def start(
        self, out: str, *more: str, prepare: Optional[Callable[[], None]] = None
    ) -> subprocess.Popen[str]:
        line = [self.daemon.python, "-m", "mattebridge", "clips", str(self.folder), "-o"]
        line += [str(self.folder.parent / out), "--model", "difference", *more]
        line += ["--instance", str(self.daemon.folder), "--progress", "plain"]
        return subprocess.Popen(
            line,
            env=self.daemon.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def run(
        self, out: str, *more: str, prepare: Optional[Callable[[], None]] = None
    ) -> tuple[int, str]:
        """Exit status, and what is said on the error stream."""
        return self.ended(self.start(out, *more, prepare=prepare))

    @staticmethod
    def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
        try:
            _, errors = process.communicate(timeout=LIMIT_S)
        finally:
            process.kill()
        return process.returncode, errors

    def made(self, out: str) -> dict[str, bytes]:
        """The files of a run; each of them is whole, and nothing else is there but ledgers."""
        root = self.folder.parent / out
        found = {str(p.relative_to(root)): p for p in sorted(root.rglob("*")) if p.is_file()}
        pictures = {name: p for name, p in found.items() if p.suffix in (".exr", ".png")}
        assert all(name.endswith("jsonl") for name in set(found) - set(pictures))
        for path in pictures.values():
            read_frame(path)
        return {name: path.read_bytes() for name, path in pictures.items()}


@pytest.fixture
def undisturbed(clips: Path) -> Iterator[dict[str, bytes]]:
    """What a run makes when nothing goes wrong."""
    with DaemonProcess(light=True) as daemon:
        job = Job(daemon, clips)
        assert job.run("undisturbed") == (0, "")
        yield job.made("undisturbed")


def assert_resumed(job: Job, out: str, undisturbed: dict[str, bytes]) -> None:
    assert job.run(out, "--resume") == (0, "")
    assert job.made(out) == undisturbed


def test_a_killed_worker_costs_nothing_but_time(
    clips: Path, gate: Path, undisturbed: dict[str, bytes]
) -> None:
    with DaemonProcess(light=True, hooks=f"model#1002=gate:{gate}") as daemon:
        job = Job(daemon, clips)
        process = job.start("out")
        reached = gate.with_name("gate.reached")
        wait_for(reached.exists, LIMIT_S, "a worker has the frame")
        for pid in daemon.worker_pids():
            os.kill(pid, signal.SIGKILL)
        gate.unlink()
        assert job.ended(process) == (0, "")
        assert job.made("out") == undisturbed


def test_a_frame_that_kills_its_workers_is_the_only_one_that_is_missing(
    clips: Path, undisturbed: dict[str, bytes]
) -> None:
    with DaemonProcess(light=True, hooks="model#1002=kill") as daemon:
        job = Job(daemon, clips)
        status, errors = job.run("out")
        assert status == 3
        assert "first: frame 1002" in errors
        assert "second: frame 1002" in errors
        wanted = {name: data for name, data in undisturbed.items() if ".1002." not in name}
        assert job.made("out") == wanted
    with DaemonProcess(light=True) as daemon:
        assert_resumed(Job(daemon, clips), "out", undisturbed)


def test_a_killed_daemon_ends_the_run_with_five_or_is_replaced(
    clips: Path, gate: Path, undisturbed: dict[str, bytes]
) -> None:
    with DaemonProcess(light=True, hooks=f"model#1003=gate:{gate}") as daemon:
        job = Job(daemon, clips)
        process = job.start("out", "--no-spawn")
        reached = gate.with_name("gate.reached")
        wait_for(reached.exists, LIMIT_S, "a worker has the last frame of the first clip")
        daemon.kill()
        gate.unlink()
        status, errors = job.ended(process)
        assert status == 5
        assert errors.startswith("mattebridge: ")
        # The second clip would fare no better.
        assert all(name.startswith("first") for name in job.made("out"))
        daemon.start()
        assert_resumed(job, "out", undisturbed)


@pytest.mark.parametrize("limit", [FULL_BYTES, 1], ids=["at the second frame", "at once"])
def test_a_full_disk_ends_a_clip_with_three_and_leaves_no_part_of_a_file(
    clips: Path, undisturbed: dict[str, bytes], limit: int
) -> None:
    sizes = {name: len(data) for name, data in undisturbed.items()}
    assert max(size for name, size in sizes.items() if ".1002." in name) > FULL_BYTES
    assert max(size for name, size in sizes.items() if ".1001." in name) < FULL_BYTES

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with DaemonProcess(light=True) as daemon:
        job = Job(daemon, clips)
        status, errors = job.run("out", prepare=fill)
        assert status == 3
        assert errors.startswith("mattebridge: first: ")
        assert "cannot write" in errors
        made = job.made("out")
        assert made.items() <= undisturbed.items()
        assert any(".1001." in name for name in made) == (limit == FULL_BYTES)
        assert_resumed(job, "out", undisturbed)
