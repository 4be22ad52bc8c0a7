"""Fronts that start at the same moment, forked from one process that has loaded the front.

For loops: a turn costs a few forks and not as many interpreters that load the same modules, and the
fronts leave the mark together instead of whenever their imports are done.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Optional

from fakes.host_process import Said
from fakes.light_python import light_python
from fakes.limits import SOON_S

FORK = """
import os, signal, sys
import mattebridge.daemon.front
from mattebridge.daemon.__main__ import main

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

def leave(*_signal):
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    os._exit(1)

def wait_for_one():
    pid, status = os.wait()
    running.remove(pid)
    return os.waitstatus_to_exitcode(status)

running = set()
for line in sys.stdin:
    mark, start = os.pipe()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for _ in range(int(line)):
        pid = os.fork()
        if not pid:
            os.close(start)
            os.read(mark, 1)
            os.close(mark)
            os._exit(main(sys.argv[1:]))
        running.add(pid)
    signal.signal(signal.SIGTERM, leave)
    os.close(mark)
    os.close(start)
    statuses = [wait_for_one() for _ in range(len(running) - 1)]
    say("left", *running, *statuses)
    wait_for_one()
    say("reaped")
"""


class ForkedFronts:
    """`with ForkedFronts(folder) as fronts: winner, statuses = fronts.race(6)`."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [light_python(), "-c", FORK, f"--folder={folder}", "--devices=cpu"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._said = Said(self._process)

    def race(self, count: int) -> tuple[int, list[int]]:
        """Start so many; the pid of the one that stays, and the exit statuses of the others."""
        assert self._process.stdin is not None
        self._said.forget()
        self._process.stdin.write(f"{count}\n".encode())
        self._process.stdin.flush()
        winner, *statuses = map(int, self._said.heard("left", SOON_S).split())
        return winner, statuses

    def kill(self, winner: int) -> None:
        """SIGKILL, and wait until it is reaped."""
        os.kill(winner, signal.SIGKILL)
        self._said.heard("reaped", SOON_S)

    def __enter__(self) -> ForkedFronts:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        if kind is not None:
            self._process.terminate()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()
        self._process.wait(SOON_S)
