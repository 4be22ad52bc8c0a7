"""The limits of the daemon, set by the owner of the machine: environment over built-in default.

Every bound on memory, time or number is here, so that a test can make it small and a farm can
adapt it. What an artist may change is part of a request, not of this file.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Callable, Optional, TypeVar

from mattebridge.errors import UsageError
from mattebridge.wire import oslayer

_Number = TypeVar("_Number", int, float)

# Never lent, whatever the quotas allow: memory for the other programs of the machine.
RESERVED_BYTES = 256 << 20


def _share_of_memory(parts: int) -> Callable[[], int]:
    """One part of the machine's memory, as a default."""
    return lambda: oslayer.current().total_memory_bytes() // parts


def _from_environment(name: str, default: Callable[[], _Number]) -> Callable[[], _Number]:
    def read() -> _Number:
        raw = os.environ.get(name)
        fallback = default()
        if not raw:
            return fallback
        try:
            value = type(fallback)(raw)
        except ValueError:
            raise UsageError(f"{name} must be a number; it is {raw!r}") from None
        if not 0 <= value < math.inf:
            raise UsageError(f"{name} must be finite and not negative; it is {raw!r}")
        return value

    return read


def _limit(name: str, default: Callable[[], _Number]) -> _Number:
    value: _Number = field(default_factory=_from_environment(name, default))
    return value


@dataclass(frozen=True)
class Limits:
    """All limits of one daemon run; times in seconds, sizes in bytes."""

    sessions: int = _limit("MATTEBRIDGE_MAX_SESSIONS", lambda: 64)
    arenas_per_session: int = _limit("MATTEBRIDGE_MAX_ARENAS", lambda: 8)
    slot_bytes: int = _limit("MATTEBRIDGE_SLOT_BYTES", _share_of_memory(2))
    session_bytes: int = _limit("MATTEBRIDGE_SESSION_BYTES", _share_of_memory(4))
    plate_bytes: int = _limit("MATTEBRIDGE_PLATE_BYTES", _share_of_memory(8))
    # The models that stay loaded: of all workers on the CPU together, of each worker on a GPU.
    model_bytes: int = _limit("MATTEBRIDGE_MODEL_BYTES", _share_of_memory(4))
    # Frames kept for other parameters: of all workers on the CPU together, of each on a GPU.
    frame_bytes: int = _limit("MATTEBRIDGE_FRAME_BYTES", _share_of_memory(16))
    queue: int = _limit("MATTEBRIDGE_QUEUE", lambda: 256)
    hello_s: float = _limit("MATTEBRIDGE_HELLO_S", lambda: 3.0)
    outbox_s: float = _limit("MATTEBRIDGE_OUTBOX_S", lambda: 10.0)
    # Batch frames make progress even while an artist works interactively all day.
    batch_ageing_s: float = _limit("MATTEBRIDGE_BATCH_AGEING_S", lambda: 10.0)
    worker_idle_s: float = _limit("MATTEBRIDGE_WORKER_IDLE_S", lambda: 600.0)
    drain_s: float = _limit("MATTEBRIDGE_DRAIN_S", lambda: 30.0)
    # A worker hangs when a stage takes ten times as long as usual, and at least a minute.
    watchdog_s: float = _limit("MATTEBRIDGE_WATCHDOG_S", lambda: 60.0)
    watchdog_first_s: float = _limit("MATTEBRIDGE_WATCHDOG_FIRST_S", lambda: 300.0)
    watchdog_factor: float = _limit("MATTEBRIDGE_WATCHDOG_FACTOR", lambda: 10.0)
    restarts: int = _limit("MATTEBRIDGE_RESTARTS", lambda: 5)
    idle_exit_s: Optional[float] = None  # None: it never exits because it is idle
    parent_pid: Optional[int] = None  # it ends when this process, its parent, has ended
