"""A host in a process of its own: a few lines of client code that a test can kill at any line.

`HostProcess` starts an interpreter. `HostFamily` is for loops: one interpreter that has loaded the
client forks host after host, so that a turn costs a fork and not the loading of numpy.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Optional

from fakes.limits import SOON_S

LOAD = """
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
"""

CONNECT = """
plate, clean_plate = shot(seed=99)
client = MatteClient.connect(folder, name="victim")
"""

FORK = """
for _line in sys.stdin:
    host = os.fork()
    if not host:
        break
    say("born", host)
    os.waitpid(host, 0)
    say("reaped", host)
else:
    sys.exit()
"""


def _start(folder: Path, code: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    paths = [path for path in sys.path if path]
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
    )


class Said:
    """The lines that a process writes to its standard output."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        self._said = b""

    def forget(self) -> None:
        """Only what is said from now on counts."""
        self._said = b""

    def heard(self, word: str, timeout_s: float = SOON_S) -> str:
        """Wait for a line that starts with `word`; the rest of that line."""
        until = time.monotonic() + timeout_s
        while True:
            for line in self._said.decode().splitlines(keepends=True):
                if line.startswith(word) and line.endswith("\n"):
                    return line[len(word) :].strip()
            ready, _, _ = select.select([self._fd], [], [], max(0.0, until - time.monotonic()))
            data = os.read(self._fd, 65536) if ready else b""
            if not data:
                raise AssertionError(f"the host did not say {word!r}, but {self._said!r}")
            self._said += data


class HostProcess:
    """`with HostProcess(folder, "client.submit(plate, clean_plate); sleep()") as host:`."""

    def __init__(self, folder: Path, code: str, **environment: str) -> None:
        self.process = _start(folder, LOAD + CONNECT + textwrap.dedent(code), environment)
        self.heard = Said(self.process).heard

    @property
    def pid(self) -> int:
        """Of the host."""
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the host."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and reap."""
        self.process.kill()
        self.process.wait(SOON_S)

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


class ForkedHost:
    """One host of a family."""

    def __init__(self, pid: int, said: Said) -> None:
        self.pid = pid
        self._said = said
        self.heard = said.heard
        self._reaped = False

    def kill(self) -> None:
        """SIGKILL, and wait until it is reaped."""
        if not self._reaped:
            os.kill(self.pid, signal.SIGKILL)
            self._said.heard(f"reaped {self.pid}")
            self._reaped = True


class HostFamily:
    """`with HostFamily(folder, code) as family: ... with family.host() as host:`, one at a time."""

    def __init__(self, folder: Path, code: str) -> None:
        self._process = _start(folder, LOAD + FORK + CONNECT + textwrap.dedent(code), {})
        self._said = Said(self._process)

    @contextlib.contextmanager
    def host(self) -> Iterator[ForkedHost]:
        """A new process that runs the code; killed at the end if it still runs."""
        assert self._process.stdin is not None
        self._said.forget()
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        host = ForkedHost(int(self._said.heard("born")), self._said)
        try:
            yield host
        finally:
            host.kill()

    def __enter__(self) -> HostFamily:
        return self

    def __exit__(self, *_error: object) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(SOON_S)
