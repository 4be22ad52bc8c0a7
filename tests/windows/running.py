"""A daemon in a process of its own, started by a test that runs on Windows or under Wine."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mattebridge.client import MatteClient
from mattebridge.errors import ConnectionFailed, VersionError
from windows.patience import LIMIT_S


def wait_for(condition: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.05)


def accepts(folder: Path) -> bool:
    try:
        MatteClient.connect(str(folder)).close()
    except ConnectionFailed:
        return False
    except VersionError:
        return True
    return True


RUN = ("-m", "mattebridge.daemon")


def start(folder: Path, program: Sequence[str] = RUN) -> subprocess.Popen[bytes]:
    """A front of this folder, in no console's background."""
    return subprocess.Popen(
        [sys.executable, *program, f"--folder={folder}", "--devices=cpu", "--foreground"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


class Daemon:
    """`python -m mattebridge.daemon`, or a program in its place, and what it printed."""

    def __init__(self, folder: Path, *, program: Sequence[str] = RUN) -> None:
        self.folder = folder
        self.process = start(folder, program)
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_for(lambda: accepts(folder) or self.process.poll() is not None, "it does not accept")
        assert self.process.poll() is None, self.said

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.decode("utf-8", "replace"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
