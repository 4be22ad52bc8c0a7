"""The memory of a running job: a budget for its frames, and what the daemon's workers hold.

A frame is admitted when its bytes (inputs, results and what is encoded) fit into what the frames on
their way leave of the budget. So the memory of a job does not grow with the length of the shot.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Optional

from mattebridge.errors import MattebridgeError
from mattebridge.shot.ports import Client

# How often the daemon is asked for its memory, and how long it may take to reply.
STATUS_EVERY_S = 1.0
STATUS_LIMIT_S = 2.0


class ByteBudget:
    """The bytes of the frames on their way; a frame that is alone is always admitted."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.frames = 0

    def acquire(self, size: int) -> bool:
        """Admit a frame of so many bytes; False when it must wait."""
        if self.frames and self.used + size > self.limit:
            return False
        self.used += size
        self.frames += 1
        return True

    def release(self, size: int) -> None:
        """A frame of so many bytes has ended."""
        self.used -= size
        self.frames -= 1


class DaemonMemory:
    """The memory of the daemon's workers, for the record; the daemon is asked now and then."""

    def __init__(self, client: Optional[Client]) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._next = 0.0
        self._bytes = 0

    def now(self) -> int:
        """In bytes, 0 when unknown: as last replied, while that is recent or another frame asks."""
        if self._client is None or not self._lock.acquire(blocking=False):
            return self._bytes
        try:
            if time.monotonic() >= self._next:
                with contextlib.suppress(MattebridgeError, KeyError, TypeError):
                    workers = self._client.status(timeout_s=STATUS_LIMIT_S)["workers"]
                    # A worker that has not started holds none.
                    held = [worker["memory"].get("resident_bytes", 0) for worker in workers]
                    self._bytes = sum(held)
                self._next = time.monotonic() + STATUS_EVERY_S
        finally:
            self._lock.release()
        return self._bytes
