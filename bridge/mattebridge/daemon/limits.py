"""What the daemon allows, decided by the machine's owner: environment over built-in default.

Every figure that bounds memory, time or number is here, so that tests can make them small and a
farm can make them fit. What an artist may change travels in requests, not here.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Callable, Optional, TypeVar

from mattebridge.errors import UsageError

_Number = TypeVar("_Number", int, float)

# Left to everybody else, whatever the quotas say.
RESERVED_BYTES = 256 << 20


def total_memory_bytes() -> int:
    """The machine's memory, or the control group's limit where that is smaller."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            total = min(total, int(file.read()))
    except (OSError, ValueError):
        pass  # no control group, or "max"
    return total


def available_memory_bytes() -> int:
    """What can still be had without swapping, by the kernel's estimate."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return total_memory_bytes()


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
    slot_bytes: int = _limit("MATTEBRIDGE_SLOT_BYTES", lambda: total_memory_bytes() // 2)
    session_bytes: int = _limit("MATTEBRIDGE_SESSION_BYTES", lambda: total_memory_bytes() // 4)
    plate_bytes: int = _limit("MATTEBRIDGE_PLATE_BYTES", lambda: total_memory_bytes() // 8)
    queue: int = _limit("MATTEBRIDGE_QUEUE", lambda: 256)
    hello_s: float = _limit("MATTEBRIDGE_HELLO_S", lambda: 3.0)
    outbox_s: float = _limit("MATTEBRIDGE_OUTBOX_S", lambda: 10.0)
    # Lets batch work through now and then while somebody works interactively all day.
    batch_ageing_s: float = _limit("MATTEBRIDGE_BATCH_AGEING_S", lambda: 10.0)
    worker_idle_s: float = _limit("MATTEBRIDGE_WORKER_IDLE_S", lambda: 600.0)
    drain_s: float = _limit("MATTEBRIDGE_DRAIN_S", lambda: 30.0)
    # A stage that takes ten times as long as usual, and at least a minute, is a wedge.
    watchdog_s: float = _limit("MATTEBRIDGE_WATCHDOG_S", lambda: 60.0)
    watchdog_first_s: float = _limit("MATTEBRIDGE_WATCHDOG_FIRST_S", lambda: 300.0)
    watchdog_factor: float = _limit("MATTEBRIDGE_WATCHDOG_FACTOR", lambda: 10.0)
    restarts: int = _limit("MATTEBRIDGE_RESTARTS", lambda: 5)
    idle_exit_s: Optional[float] = None  # None: only when told to
