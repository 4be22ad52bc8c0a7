"""The stages of a shot, how many frames may be in each at once, and how a stopped job is left.

    read      two frames: more do not make a disk quicker
    matte     as many as the job wants in flight
    write     up to four, and no more than there are processors

Each frame has a thread of its own, which passes a gate before every stage. Reading the next frame
and writing the last one so overlap with the daemon's work. The rule that must not be broken: a
thread that waits, at a gate or anywhere else in a shot, looks every `POLL_S` whether the job was
stopped, and then leaves with `Cancelled`.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Optional

from mattebridge.errors import Cancelled

READERS = 2
MAX_WRITERS = 4
POLL_S = 0.1


class Gates:
    """The gates of one job; closing them, or setting `cancelled`, stops it."""

    def __init__(self, in_flight: int, cancelled: threading.Event) -> None:
        self.cancelled = cancelled
        self._closed = threading.Event()
        self._gates = {
            "read": threading.BoundedSemaphore(READERS),
            "matte": threading.BoundedSemaphore(max(1, in_flight)),
            "write": threading.BoundedSemaphore(min(MAX_WRITERS, os.cpu_count() or 1)),
        }

    def close(self) -> None:
        """Admit no frame to any stage any more."""
        self._closed.set()

    @property
    def is_closed(self) -> bool:
        return self._closed.is_set()

    @property
    def is_stopped(self) -> bool:
        """Whether the gates are closed, or will be, since the job was cancelled."""
        return self._closed.is_set() or self.cancelled.is_set()

    def leave_if_stopped(self) -> None:
        """Raise `Cancelled` when the job was stopped."""
        if self.is_stopped:
            raise Cancelled("the job was stopped")

    @contextlib.contextmanager
    def enter(self, stage: str, times: Optional[Counter[str]] = None) -> Iterator[None]:
        """Wait for a place at a stage and keep it; raises `Cancelled` when the job was stopped.

        times: gets the milliseconds spent in the stage, and those spent waiting for it.
        """
        gate, asked = self._gates[stage], time.monotonic()
        while not gate.acquire(timeout=POLL_S):
            self.leave_if_stopped()
        entered = time.monotonic()
        try:
            self.leave_if_stopped()
            yield
        finally:
            gate.release()
            if times is not None:
                times[f"room_{stage}_ms"] += round((time.monotonic() - entered) * 1000)
                times["room_wait_ms"] += round((entered - asked) * 1000)
