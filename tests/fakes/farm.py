"""A farm of one machine: the real `openjd`, `mattebridge` on its PATH, folders of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from fakes.daemon_process import is_alive, wait_for
from fakes.light_python import light_python
from fakes.limits import SOON_S
from fakes.places import BRIDGE, ROOT
from mattebridge.image_io import write_frame

TEMPLATE = ROOT / "farm" / "openjd" / "template.yaml"
WIDTH, HEIGHT = 64, 48
LIMIT_S = 120.0


def paint_shot(folder: Path, frames: Sequence[int], name: str = "plate") -> None:
    """A textured wall as clean.exr, and name.####.exr with a bright bar that moves before it."""
    rng = np.random.default_rng(7)
    wall = 0.1 + 0.2 * rng.random((HEIGHT // 4, WIDTH // 4, 3), dtype=np.float32)
    clean = wall.repeat(4, axis=0).repeat(4, axis=1)
    write_frame(folder / "clean.exr", clean)
    for frame in frames:
        plate = clean.copy()
        left = 4 + 4 * (frame % 10)
        plate[8:40, left : left + 14] = np.float32([2.0, 0.7, 0.1])
        write_frame(folder / f"{name}.{frame:04d}.exr", plate)


@dataclass(frozen=True)
class Action:
    """What a session ran: `enter`, `exit`, or the frames of a chunk; and how it ended."""

    what: str
    status: int
    words: str


class Run:
    """What `openjd run` did, read from its log: it flattens every exit status to 1."""

    def __init__(self, status: int, log: str) -> None:
        self.status = status
        self.log = log
        self.lines = [line.partition("\t")[2] for line in log.splitlines()]
        self.actions = list(self._read())

    @property
    def endings(self) -> list[tuple[str, int]]:
        return [(action.what, action.status) for action in self.actions]

    def __getitem__(self, what: str) -> Action:
        return next(action for action in self.actions if action.what == what)

    def seconds_between(self, first: str, then: str) -> float:
        """By the log's own clock, between the first lines that hold these words."""
        times = []
        for words in (first, then):
            line = next(line for line in self.log.splitlines() if words in line)
            hours, minutes, seconds = line.partition("\t")[0].split(":")
            times.append(3600 * int(hours) + 60 * int(minutes) + float(seconds))
        return times[1] - times[0]

    def _read(self) -> Any:
        what, words = "", []
        for line in self.lines:
            words.append(line)
            if "Entering Environment" in line:
                what, words = "enter", []
            elif "Exiting Environment" in line:
                what, words = "exit", []
            elif found := re.match(r"Frame\(CHUNK\[INT\]\) = (.*)", line):
                what, words = found.group(1), []
            elif found := re.search(r"exited with code: (-?\d+)", line):
                yield Action(what, int(found.group(1)), "\n".join(words))


class Farm:
    """Runs commands as a worker does; `close` leaves no process and no file."""

    def __init__(self, folder: Path, *, light: bool = False, **environment: str) -> None:
        """light: the command and what it starts run in the light interpreter."""
        self._python = light_python() if light else sys.executable
        self.folder = folder
        # Socket paths are short; pytest's folders are not.
        self.home = Path(tempfile.mkdtemp(prefix="mb-"))
        self.instance = "farm-test"
        (self.home / "run").mkdir(mode=0o700)
        self._put_command_on_path()
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("MATTEBRIDGE_", "OPENJD"))},
            "PATH": f"{self.home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PYTHONPATH": str(BRIDGE),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "TMPDIR": str(self.home),
            "OMP_NUM_THREADS": "1",
            **environment,
        }
        self.started: list[subprocess.Popen[str]] = []

    def _put_command_on_path(self) -> None:
        command = self.home / "bin" / "mattebridge"
        command.parent.mkdir()
        command.write_text(
            f"#!{self._python}\nimport sys\nfrom mattebridge.cli import main\nsys.exit(main())\n"
        )
        command.chmod(0o755)

    # -- running ----------------------------------------------------------------------------

    def start(
        self, command: Sequence[str], umask: int = -1, **environment: str
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*command],
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            umask=umask,
        )
        self.started.append(process)
        return process

    def mattebridge(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """One command by itself; its words and its exit status."""
        process = self.start(["mattebridge", *arguments], **environment)
        return subprocess.CompletedProcess(arguments, *self._end(process))

    def start_job(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """`openjd run` of our template (or of `template=`), not waited for."""
        template = str(options.pop("template", TEMPLATE))
        values = {
            "Plate": str(self.folder / "plate.####.exr"),
            "CleanPlate": str(self.folder / "clean.exr"),
            "Output": str(self.folder / "out"),
            "Instance": self.instance,
            **options.pop("values", {}),
        }
        job = ["openjd", "run", template, "--step", "Matte", "-p", json.dumps(values), *arguments]
        return self.start([sys.executable, "-m", *job], **options)

    def end_job(self, process: subprocess.Popen[str]) -> Run:
        return Run(*self._end(process))

    def job(self, *arguments: str, **options: Any) -> Run:
        """`openjd run`, to its end."""
        return self.end_job(self.start_job(*arguments, **options))

    def openjd(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        process = self.start([sys.executable, "-m", "openjd", *arguments])
        return subprocess.CompletedProcess(arguments, *self._end(process))

    def _end(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        try:
            words, _ = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"still running: {process.communicate()[0]}") from None
        return process.returncode, words

    # -- a look at the daemon ---------------------------------------------------------------

    @property
    def runtime(self) -> Path:
        return self.home / "run" / "mattebridge" / self.instance

    def daemon_pid(self) -> Optional[int]:
        """Of the front that was last here; None when there never was one."""
        try:
            return int(json.loads((self.runtime / "status.json").read_text())["pid"])
        except (OSError, ValueError):
            return None

    def daemon_lives(self) -> bool:
        pid = self.daemon_pid()
        return pid is not None and is_alive(pid)

    def daemons_so_far(self) -> int:
        """How many daemons have served in this folder."""
        log = self.runtime / "log"
        return log.read_text().count(" serving in ") if log.exists() else 0

    def kill_daemon(self) -> None:
        pid = self.daemon_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not is_alive(pid), SOON_S, "the daemon dies")

    # -- a look at the frames ---------------------------------------------------------------

    def made(self, output: str = "out") -> dict[str, bytes]:
        """Every picture, by its path below the output folder."""
        folder = self.folder / output
        paths = sorted(path for path in folder.rglob("*.exr") if not path.name.startswith("."))
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}

    def leftovers(self, output: str = "out") -> list[Path]:
        return [path for path in (self.folder / output).rglob("*") if path.suffix == ".tmp"]

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        pid = self.daemon_pid()
        if pid is not None and is_alive(pid):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not is_alive(pid), SOON_S, "the daemon dies")
        shutil.rmtree(self.home, ignore_errors=True)
