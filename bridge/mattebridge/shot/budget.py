"""How many bytes of frames may be in memory at once, and what the daemon takes."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Optional

from mattebridge.errors import MattebridgeError
from mattebridge.shot.ports import Client

# How often the daemon is asked for its memory, and how long an answer may take.
STATUS_EVERY_S = 1.0
STATUS_LIMIT_S = 2.0


class DaemonMemory:
    """What the daemon's workers hold, as it says itself; asked now and then, for the record."""

    def __init__(self, client: Optional[Client]) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._next = 0.0
        self._bytes = 0

    def now(self) -> int:
        """Bytes; what was said last while another frame asks, or soon after; 0 when unknown."""
        if self._client is None or not self._lock.acquire(blocking=False):
            return self._bytes
        try:
            if time.monotonic() >= self._next:
                with contextlib.suppress(MattebridgeError, KeyError, TypeError):
                    workers = self._client.status(timeout_s=STATUS_LIMIT_S)["workers"]
                    held = [worker["memory"]["resident_bytes"] for worker in workers]
                    self._bytes = sum(held)
                self._next = time.monotonic() + STATUS_EVERY_S
        finally:
            self._lock.release()
        return self._bytes


class ByteBudget:
    """Bytes of frames on their way; one frame is always admitted, however big."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.frames = 0

    def take(self, size: int) -> bool:
        if self.frames and self.used + size > self.limit:
            return False
        self.used += size
        self.frames += 1
        return True

    def give_back(self, size: int) -> None:
        self.used -= size
        self.frames -= 1
