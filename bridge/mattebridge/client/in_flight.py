"""One request that is out: its images, its arena, and what was answered."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import numpy as np

from mattebridge.client.matte import Matte, Pixels
from mattebridge.client.session import Arena, Session, error_of
from mattebridge.errors import Cancelled, DaemonLost, MattebridgeError
from mattebridge.wire import protocol
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import PlaneSpec


class InFlight:
    """One request that is out: what was sent, where its pixels lie, what came back."""

    def __init__(
        self,
        *,
        until: float,
        message: dict[str, Any],
        images: Optional[dict[str, Pixels]] = None,
        outputs: Sequence[PlaneSpec] = (),
        out: Optional[dict[str, Pixels]] = None,
        frame: Optional[int] = None,
        progress: Optional[Callable[[str, int, int], None]] = None,
    ) -> None:
        self.id = os.urandom(protocol.ID_BYTES)
        self.until = until
        self.deadline_at = until
        self.message = message
        self.images = images or {}
        self.outputs = list(outputs)
        self.out = out or {}
        self.frame = frame
        self.progress = progress
        self.arena: Optional[Arena] = None
        self.inputs: list[Plane] = []
        self.results: list[Plane] = []
        self.timings: dict[str, float] = {}
        self.retries = 0
        self.losses = 0
        self.registered = False
        self.resend_at = 0.0
        self.sent_at = 0.0
        self.finished = False
        self.reply: dict[str, Any] = {}
        self.error: Optional[Exception] = None
        self.trouble: Optional[Exception] = None  # what the progress function raised
        self.matte: Optional[Matte] = None

    def collect(self, reply: Mapping[str, Any], arena: Arena) -> None:
        """Copy the results out of the arena, so that it can serve the next frame."""
        arrived = time.monotonic()
        self.timings["wait_ms"] = (arrived - self.sent_at) * 1000
        images: dict[str, Pixels] = {}
        for plane in self.results:
            view = arena.memory.array(plane)
            target = self.out.get(plane.role)
            if target is None:
                images[plane.role] = view.copy()
            else:
                np.copyto(target, view if target.ndim == 3 else view[..., 0])
                images[plane.role] = target
        self.timings["copy_out_ms"] = (time.monotonic() - arrived) * 1000
        self.matte = Matte(
            **images,
            frame=self.frame,
            model=str(reply.get("model", "")),
            digest=str(reply.get("digest", "")),
            degraded=tuple(reply.get("degraded", ())),
            notes=reply.get("notes", {}),
            timings={**reply.get("timings", {}), **self.timings},
        )

    def outcome(self) -> Matte:
        """The matte, or the error raised."""
        if self.error is not None:
            raise self.error
        return self.matte or Matte()


def copy_inputs(request: InFlight, old: Arena, session: Session) -> Arena:
    """An arena of the new session with the inputs that lie in the old one."""
    arena = session.free_arena(old.memory.size_bytes)
    assert arena is not None
    arena.generation = 1
    arena.memory.write_begin(1)
    for plane in request.inputs:
        arena.memory.copy_range(old.memory, plane.off, plane.size_bytes)
    arena.memory.write_end(1)
    return arena


def reply_error(reply: Mapping[str, Any]) -> Optional[MattebridgeError]:
    if reply["op"] == "error":
        return error_of(reply)
    if reply["op"] == "cancelled":
        return Cancelled("the frame was cancelled")
    return None


def body(reply: Mapping[str, Any]) -> dict[str, Any]:
    """A reply without its envelope: plain values that can be printed as JSON."""
    return {key: value for key, value in reply.items() if key not in ("op", "id", "epoch")}


def closed_meanwhile() -> DaemonLost:
    return DaemonLost("the client was closed while the request was out", retry=False)


def lost_twice(cause: DaemonLost) -> DaemonLost:
    return DaemonLost(
        f"{cause.message}, for the second time with this frame: see the daemon's log", retry=False
    )
