"""A host in a process of its own: a few lines of client code that a test can kill at any line."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import TracebackType
from typing import Optional

PREAMBLE = """
import os, sys, time
from pathlib import Path
import numpy as np
from mattebridge import errors
from mattebridge.client import MatteClient
from fakes.pictures import PLAIN, shot

def say(*words):
    # In one piece: a forked child may speak at the same moment.
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def sleep():
    say("sleeping")
    time.sleep(600)

folder = sys.argv[1]
plate, clean_plate = shot(seed=99)
client = MatteClient.connect(folder, name="victim")
"""


class HostProcess:
    """`with HostProcess(folder, "client.submit(plate, clean_plate); sleep()") as host:`."""

    def __init__(self, folder: Path, code: str, **environment: str) -> None:
        paths = [path for path in sys.path if path]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
        )
        self._said = b""

    @property
    def pid(self) -> int:
        """Of the host."""
        return self.process.pid

    def heard(self, word: str, timeout_s: float = 30.0) -> str:
        """Wait until the host has said a line that starts with `word`; the rest of that line."""
        until = time.monotonic() + timeout_s
        while True:
            for line in self._said.decode().splitlines(keepends=True):
                if line.startswith(word) and line.endswith("\n"):
                    return line[len(word) :].strip()
            assert self.process.stdout is not None
            fd = self.process.stdout.fileno()
            ready, _, _ = select.select([fd], [], [], max(0.0, until - time.monotonic()))
            data = os.read(fd, 65536) if ready else b""
            if not data:
                raise AssertionError(f"the host did not say {word!r}, but {self._said!r}")
            self._said += data

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the host."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.process.kill()
        self.process.wait(20)

    def __enter__(self) -> HostProcess:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
