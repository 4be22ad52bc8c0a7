"""What `status` and `ping` say about the daemon, and the figures that are counted for it."""

from __future__ import annotations

import os
import statistics
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mattebridge.daemon.doorkeeper import Doorkeeper
from mattebridge.daemon.held_plates import HeldCleanPlates
from mattebridge.daemon.leases import Lease, Request
from mattebridge.daemon.limits import Limits
from mattebridge.daemon.queue import FairQueue
from mattebridge.daemon.workers import WorkerProcess
from mattebridge.errors import one_line
from mattebridge.version import __version__
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.folder import LOG

REMEMBERED_FRAMES = 256


class Tally:
    """What is counted in one daemon run: frames by result, refusals by code, recent times."""

    def __init__(self) -> None:
        self.frames = {"done": 0, "error": 0, "cancelled": 0}
        self.refused: Counter[str] = Counter()
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=REMEMBERED_FRAMES)

    def add_times(self, queue_ms: float, render_ms: float, total_ms: float) -> None:
        """Count the times of one rendered frame."""
        self._recent.append((queue_ms, render_ms, total_ms))

    def timings(self) -> dict[str, float]:
        """The median times of the recent frames; empty before the first."""
        if not self._recent:
            return {}
        columns = zip(*self._recent)
        names = ("queue_ms", "render_ms", "total_ms")
        return {name: round(statistics.median(c), 1) for name, c in zip(names, columns)}


class Status:
    """A view of the parts of one daemon; it changes none of them."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        *,
        door: Doorkeeper,
        queue: FairQueue[Request],
        workers: Sequence[WorkerProcess],
        clean_plates: HeldCleanPlates,
        tally: Tally,
        color: Mapping[str, str],
        notes: Sequence[str],
    ) -> None:
        self._folder, self._limits = folder, limits
        self._door, self._queue, self._workers = door, queue, workers
        self._clean_plates, self._tally, self._notes = clean_plates, tally, notes
        self._color = color
        self._started = time.monotonic()

    def state(self) -> str:
        """One word: draining, failed, degraded, starting, busy or ready."""
        states = {worker.state for worker in self._workers}
        if self._door.draining:
            return "draining"
        if not states:
            return "starting"  # which devices there are is not known yet
        if states == {"failed"}:
            return "failed"
        if "failed" in states:
            return "degraded"
        if states <= {"starting", "dying", "absent"} and states != {"absent"}:
            return "starting"
        if len(self._queue) and "idle" not in states:
            return "busy"
        return "ready"

    def brief(self, now: float) -> dict[str, Any]:
        """The reply to `ping`."""
        return {
            "state": self.state(),
            "uptime_s": round(now - self._started, 3),
            "queue": len(self._queue),
            "workers": [worker.brief(now) for worker in self._workers],
        }

    def full(self, now: float) -> dict[str, Any]:
        """The reply to `status`, and the content of status.json."""
        leases = list(self._door.leases.values())[: protocol.MAX_ITEMS]
        return {
            "state": self.state(),
            "version": __version__,
            "protocol": [protocol.PROTOCOL_MIN, protocol.PROTOCOL_MAX],
            "pid": os.getpid(),
            "instance": self._folder.name,
            "folder": str(self._folder),
            "log": str(self._folder / LOG),
            "uptime_s": round(now - self._started, 1),
            "workers": [worker.describe(now) for worker in self._workers],
            "models": next((worker.models for worker in self._workers if worker.models), []),
            "queue": {
                "interactive": self._queue.count("interactive"),
                "batch": self._queue.count("batch"),
                "limit": self._limits.queue,
            },
            "sessions": [_session(lease) for lease in leases],
            "users": list(self._door.users),
            "frames": dict(self._tally.frames),
            "timings": self._tally.timings(),
            "memory": self._memory(),
            "plates": self._clean_plates.describe(),
            "color": dict(self._color),
            "notes": list(self._notes),
            "refused": dict(self._tally.refused + self._door.refusals),
        }

    def _memory(self) -> dict[str, int]:
        return {
            "arena_bytes": self._door.used_bytes,
            "arena_limit": self._limits.slot_bytes,
            "plate_bytes": self._clean_plates.used_bytes,
            "plate_limit": self._limits.plate_bytes,
            "front_bytes": oslayer.current().resident_bytes(),
        }


def _session(lease: Lease) -> dict[str, Any]:
    return {
        "client": one_line(str(lease.client.get("name", "")), 40),
        "host": one_line(str(lease.client.get("host", "")), 40),
        "pid": lease.peer.pid,
        "arenas": len(lease.arenas),
        "bytes": lease.arena_bytes,
        "out": len(lease.active),
        "frames": lease.frames,
    }
