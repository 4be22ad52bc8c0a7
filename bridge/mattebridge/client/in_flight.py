"""One request that is out: what was sent, where its pixels lie, and what came back.

    images --write--> arena --wire_message--> daemon --reply--> collect --> Matte, or an error

A frame has an arena from the moment it is filled until its final reply has been read out of it (or
until `released`, where the reply came before the worker had finished). A control request (`ping`,
`models_list`...) has none. Nothing here waits or locks; exchange.py does both.

Runs on Python 3.9.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, Optional

import numpy as np

from mattebridge.client.matte import Matte
from mattebridge.client.session import Arena, Session
from mattebridge.color import Pixels
from mattebridge.errors import (
    BusyError,
    Cancelled,
    DaemonLost,
    MattebridgeError,
    TornError,
    WorkerLostError,
)
from mattebridge.wire import protocol
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import PlaneSpec

Progress = Callable[[str, int, int], None]


class InFlight:
    """One request, from its making to its outcome."""

    def __init__(
        self,
        *,
        until: float,
        message: dict[str, Any],
        images: Optional[dict[str, Pixels]] = None,
        outputs: Sequence[PlaneSpec] = (),
        out: Optional[dict[str, Pixels]] = None,
        frame: Optional[int] = None,
        progress: Optional[Progress] = None,
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
        self.losses = 0  # how often the daemon was lost while this was out
        self.waits_for_next = False  # a daemon that is stopping has refused it
        self.registered = False
        self.resend_at = 0.0
        self.sent_at = 0.0
        self.finished = False
        self.reply: dict[str, Any] = {}
        self.error: Optional[Exception] = None
        self.progress_error: Optional[Exception] = None  # what the progress function raised
        self.matte: Optional[Matte] = None

    def wire_message(self) -> dict[str, Any]:
        """The request as it is sent now, from the arena that it has now."""
        message = {**self.message, "id": self.id}
        if self.arena is not None:
            message.update(slot=self.arena.number, gen=self.arena.generation)
        if message["op"] == "plate_put":
            message["plane"] = self.inputs[0].to_wire()
        elif message["op"] == "render":
            message["in"] = [plane.to_wire() for plane in self.inputs]
            message["out"] = [plane.to_wire() for plane in self.results]
            left_ms = int((self.deadline_at - time.monotonic()) * 1000)
            message["deadline_ms"] = min(max(1, left_ms), protocol.MAX_DEADLINE_MS)
        return message

    def is_answered_by(self, reply: Mapping[str, Any]) -> bool:
        """Whether a final reply with this id is about what the arena holds now."""
        if self.arena is None:
            return True
        found = (reply.get("slot"), reply.get("gen"))
        return found == (self.arena.number, self.arena.generation)

    def plan_retry(self, error: MattebridgeError, *, held: bool) -> bool:
        """Whether this error is answered by sending the same frame again, at `resend_at`."""
        if held or self.arena is None or not error.retry:
            return False
        if isinstance(error, BusyError):
            pause_s = max(1, error.details.get("retry_after_ms", 100)) / 1000
        elif isinstance(error, (WorkerLostError, TornError)) and self.retries == 0:
            self.retries += 1
            pause_s = 0.0
        else:
            return False
        resend_at = time.monotonic() + pause_s
        if resend_at >= min(self.until, self.deadline_at):
            return False
        self.resend_at = resend_at
        return True

    def move_to(self, session: Session) -> None:
        """Take an arena of another session, with the inputs that lie in the present one."""
        old = self.arena
        assert old is not None
        arena = session.free_arena(old.memory.size_bytes)
        assert arena is not None
        with arena.writing():
            for plane in self.inputs:
                arena.memory.copy_range(old.memory, plane.off, plane.size_bytes)
        self.arena = arena

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
            model=reply.get("model", ""),
            digest=reply.get("digest", ""),
            clean_plate_digest=reply.get("clean_plate_digest", ""),
            device=reply.get("device", ""),
            degraded=tuple(reply.get("degraded", ())),
            notes=reply.get("notes", {}),
            timings={**reply.get("timings", {}), **self.timings},
        )

    def outcome(self) -> Matte:
        """The matte; raises the error where there is one."""
        if self.error is not None:
            raise self.error
        return self.matte or Matte()


def error_in(reply: Mapping[str, Any]) -> Optional[MattebridgeError]:
    """The exception that a final reply stands for; None where it is a result."""
    if reply["op"] == "error":
        return protocol.error_of(reply)
    if reply["op"] == "cancelled":
        return cancelled()
    return None


def cancelled() -> Cancelled:
    """The outcome of a request that was cancelled."""
    return Cancelled("the frame was cancelled")


def closed_meanwhile() -> DaemonLost:
    """The outcome of a request whose client was closed."""
    return DaemonLost("the client was closed while the request was out", retry=False)


def lost_twice(cause: DaemonLost) -> DaemonLost:
    """The outcome of a request that lost its daemon, was sent to the next one, and lost that."""
    return DaemonLost(
        f"{cause.message}, for the second time with this frame: see the daemon's log", retry=False
    )
