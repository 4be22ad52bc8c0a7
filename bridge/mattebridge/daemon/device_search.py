"""The search for GPUs under `--devices auto`: a child process, beside which the front serves.

    front --starts--> `python -m mattebridge.daemon.devices auto` --one line of JSON--> found(...)

Only torch can tell which devices there are and whether they compute, and loading torch takes
seconds, on a busy machine many. So the door is open before the search begins, and requests wait in
the queue until it has ended. A search that fails, or finds nothing that computes, ends with the CPU
and a note that says why; the note stays in `status`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import sys
import time
from typing import Any, Callable, Optional

from mattebridge.daemon.devices import AUTO, CHECK_LIMIT_S, CHILD, CPU, MAX_REASON
from mattebridge.daemon.loop import Loop
from mattebridge.daemon.workers import END_LIMIT_S
from mattebridge.errors import one_line
from mattebridge.wire import oslayer
from mattebridge.wire.children import Output

log = logging.getLogger(__name__)

# Told once: the devices to serve from, and notes for `status`.
Found = Callable[[list[str], list[str]], None]
MOST_BYTES = 1 << 20


class DeviceSearch:
    """One search, started with `start`; `found` is called on the loop."""

    def __init__(self, loop: Loop, found: Found, *, limit_s: float = CHECK_LIMIT_S) -> None:
        self._loop, self._found, self._limit_s = loop, found, limit_s
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._killed: Optional[subprocess.Popen[bytes]] = None  # and not reaped yet
        self._output: Optional[Output] = None
        self._said = b""
        self._until = 0.0

    def start(self) -> None:
        """Start the child process."""
        try:
            self._process, self._output = oslayer.current().start_child(
                [sys.executable, "-m", CHILD, AUTO]
            )
        except OSError as error:
            self._fail(f"it could not be started: {error}")
            return
        self._until = time.monotonic() + self._limit_s
        self._loop.watch(self._output.fileno(), self._read)

    def tick(self, now: float) -> None:
        """End a search that takes too long; reap its child process."""
        if self._killed is not None and self._killed.poll() is not None:
            self._killed = None
        if self._process is not None and now > self._until:
            self._kill()
            self._fail(f"it did not end within {self._limit_s:g} s")

    def stop(self) -> None:
        """Kill and reap the child process, because the front ends."""
        self._kill()
        if self._killed is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._killed.wait(END_LIMIT_S)

    def _kill(self) -> None:
        """Kill the child process, if it runs, without waiting: a driver may hold it for long."""
        process, self._process = self._process, None
        if process is None or self._output is None:
            return
        self._loop.forget(self._output.fileno())
        self._output.close()
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        self._killed = process

    def _read(self) -> None:
        assert self._output is not None
        try:
            data = self._output.read()
        except BlockingIOError:
            return
        self._said = (self._said + data)[-MOST_BYTES:]
        if data:
            return
        said = self._said.decode("utf-8", "replace").strip().splitlines() or ["no output"]
        self._kill()  # it has closed its output: it ends by itself, or never
        # Libraries print warnings of their own, before and after.
        answer = next((line for line in reversed(said) if line.startswith("{")), "")
        try:
            self._choose(json.loads(answer))
        except (ValueError, KeyError, TypeError, AttributeError):
            self._fail(said[-1])

    def _choose(self, answer: dict[str, Any]) -> None:
        devices = [str(name) for name in answer["devices"]]
        notes = [f"{name} is not used: {why}" for name, why in answer["reasons"].items()]
        if not devices:
            why = "none of its devices computes" if notes else str(answer["seen"])
            notes.append(f"a GPU driver is installed, but {why}: serving on the CPU")
        self._end(devices or [CPU], notes)

    def _fail(self, why: str) -> None:
        self._end([CPU], [f"the search for GPUs failed ({why}): serving on the CPU"])

    def _end(self, devices: list[str], notes: list[str]) -> None:
        kept = [one_line(note, 2 * MAX_REASON) for note in notes]
        for note in kept:
            log.warning("%s", note)
        log.info("devices: %s", ", ".join(devices))
        self._found(devices, kept)
