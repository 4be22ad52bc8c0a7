"""The operations that a client can request, one method each.

Each method checks its request, then either replies at once or hands it on (`Dispatcher`, `Helper`)
and returns; none of them waits. A request that fails a check raises a `MattebridgeError` before
anything has changed, and the front sends that error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Callable, ClassVar, Optional

from mattebridge.daemon.dispatch import RETRY_AFTER_MS, Dispatcher
from mattebridge.daemon.doorkeeper import Doorkeeper
from mattebridge.daemon.held_plates import HeldCleanPlate, HeldCleanPlates, copy_clean_plate
from mattebridge.daemon.leases import ArenaRecord, Group, Lease, Request, next_memory_key
from mattebridge.daemon.loop import Helper
from mattebridge.daemon.replies import Replies
from mattebridge.daemon.status import Status
from mattebridge.errors import (
    BusyError,
    DrainingError,
    MattebridgeError,
    MessageError,
    QuotaError,
    SlotBusyError,
)
from mattebridge.wire.planes import Plane, check_planes
from mattebridge.wire.slots import HEADER_BYTES

log = logging.getLogger(__name__)

# Frames are bounded by the session's arenas; model requests have none and share the same queue.
MODEL_REQUESTS_A_SESSION = 8


class Operations:
    """The operations by the name of their request."""

    def __init__(
        self,
        *,
        door: Doorkeeper,
        replies: Replies,
        dispatcher: Dispatcher,
        clean_plates: HeldCleanPlates,
        status: Status,
        helper: Helper,
        drain: Callable[[str], None],
    ) -> None:
        self._door, self._replies, self._dispatcher = door, replies, dispatcher
        self._clean_plates, self._status = clean_plates, status
        self._helper, self._drain = helper, drain

    def carry_out(self, lease: Lease, message: dict[str, Any]) -> None:
        """Carry out one validated request; raises the error to send if it is not accepted."""
        self.BY_NAME[message["op"]](self, lease, message)

    # -- frames -------------------------------------------------------------------------------

    def render(self, lease: Lease, message: dict[str, Any]) -> None:
        """Queue a frame for the next idle worker."""
        if self._replies.repeat(lease, message):
            return
        arena = _free_arena(lease, message)
        check_planes(message["in"], message["out"], arena.size_bytes, HEADER_BYTES)
        self._check_accepts()
        now = time.monotonic()
        request = Request(lease, message, now, arena=arena)
        if message.get("clean_plate_key") and "clean_plate" not in _roles(message):
            raise MessageError(
                "a content key goes with a clean plate that is sent", field="clean_plate_key"
            )
        if message.get("clean_plate") is not None:
            request.clean_plate = self._clean_plates.get(message["clean_plate"])
            request.clean_plate.pin()
        lease.lend(arena, request)
        self._dispatcher.submit([request], now)

    def cancel(self, lease: Lease, message: dict[str, Any]) -> None:
        """Stop another request of this session, if it still waits or runs."""
        target = lease.active.get(message["target"])
        found = "unknown"
        if target is not None and not target.answered:
            found = self._dispatcher.cancel(target)
        elif message["target"] in lease.finished:
            found = "finished"
        fields = {"target": message["target"], "found": found}
        self._replies.send(lease, "ack", message["id"], fields)

    # -- the daemon ---------------------------------------------------------------------------

    def ping(self, lease: Lease, message: dict[str, Any]) -> None:
        """Reply that the front runs, and how the workers are."""
        self._replies.send(lease, "pong", message["id"], self._status.brief(time.monotonic()))

    def status(self, lease: Lease, message: dict[str, Any]) -> None:
        """Reply with all that `Status` knows."""
        self._replies.send(lease, "status", message["id"], self._status.full(time.monotonic()))

    def shutdown(self, lease: Lease, message: dict[str, Any]) -> None:
        """Stop the daemon; with `if_unused` only when nothing else uses it."""
        self._door.users.pop(message["user"], None)
        others = self._door.in_use() or self._door.users
        stopping = not (message["if_unused"] and others)
        self._replies.send(lease, "stopping", message["id"], {"stopping": stopping})
        if stopping:
            self._drain("a client asked it to stop")

    # -- models -------------------------------------------------------------------------------

    def models_list(self, lease: Lease, message: dict[str, Any]) -> None:
        """Ask any one worker for its models: only workers know them."""
        self._ask_workers(lease, message, [None])

    def colors(self, lease: Lease, message: dict[str, Any]) -> None:
        """Ask any one worker for the colour spaces of its config."""
        self._ask_workers(lease, message, [None])

    def models_load(self, lease: Lease, message: dict[str, Any]) -> None:
        """Load a model on every device, or unload it wherever it may be loaded."""
        workers = self._dispatcher.workers
        loading = message["op"] == "models_load"
        devices = [w.name for w in workers if w.state != "failed" and (loading or w.pid)]
        # None: as long as the devices are not known, and where no process has loaded anything.
        self._ask_workers(lease, message, devices or [None])

    def release(self, lease: Lease, message: dict[str, Any]) -> None:
        """Give back the memory of all devices; frames that are computed are finished first."""
        if self._replies.repeat(lease, message):
            return
        if self._door.draining:
            raise stopping()
        _check_not_many(lease)
        request = Request(lease, message, time.monotonic())
        lease.active[request.id] = request
        self._dispatcher.release(request)

    def _ask_workers(
        self, lease: Lease, message: dict[str, Any], devices: Sequence[Optional[str]]
    ) -> None:
        """Queue one part of the request for each device; the last part gives the reply."""
        if self._replies.repeat(lease, message):
            return
        self._check_accepts()
        _check_not_many(lease)
        now = time.monotonic()
        request = Request(lease, message, now)
        request.group = Group(len(devices))
        lease.active[request.id] = request
        self._dispatcher.submit([request.for_device(device) for device in devices], now)

    # -- held clean plates --------------------------------------------------------------------

    def plate_put(self, lease: Lease, message: dict[str, Any]) -> None:
        """Copy a clean plate out of an arena, on the helper thread, and hold it."""
        if self._replies.repeat(lease, message):
            return
        arena = _free_arena(lease, message)
        plane: Plane = message["plane"]
        if plane.role != "clean_plate":
            raise MessageError(
                f"the plane to hold must have the role clean_plate; got {plane.role}",
                field="plane.role",
            )
        check_planes([plane], [], arena.size_bytes, HEADER_BYTES)
        self._clean_plates.check_fits(plane)
        if self._door.draining:
            raise stopping()
        request = Request(lease, message, time.monotonic(), arena=arena)
        lease.lend(arena, request)
        self._helper.do(
            copy_clean_plate(arena.fd, request.generation, plane),
            lambda result: self._copied(request, result),
            owner=lease.sid,
        )

    def _copied(self, request: Request, result: Any) -> None:
        if isinstance(result, MattebridgeError):
            self._replies.fail(request, result)
        elif isinstance(result, BaseException):
            log.error("copying a clean plate failed: %r", result)
            error = QuotaError("the daemon has no memory for the clean plate", limit="memory")
            self._replies.fail(request, error)
        else:
            self._hold(request, *result)

    def _hold(self, request: Request, fd: int, plane: Plane, digest: str) -> None:
        """Hold a copied clean plate under the name that its request gives, and reply."""
        message = request.message
        held = HeldCleanPlate(
            next_memory_key(), message["name"], fd, plane, digest=digest, owner=request.owner
        )
        try:
            dropped = self._clean_plates.add(held, replace=message["replace"])
        except MattebridgeError as error:
            self._replies.fail(request, error)
            return
        self._dispatcher.forget([old.key for old in dropped])
        self._replies.finish(request, "plates", {"plates": self._clean_plates.describe()})

    def plate_list(self, lease: Lease, message: dict[str, Any]) -> None:
        """Reply with all held clean plates."""
        fields = {"plates": self._clean_plates.describe()}
        self._replies.send(lease, "plates", message["id"], fields)

    def plate_drop(self, lease: Lease, message: dict[str, Any]) -> None:
        """Drop one held clean plate."""
        self._dispatcher.forget([self._clean_plates.drop(message["name"]).key])
        self.plate_list(lease, message)

    # -- checks -------------------------------------------------------------------------------

    def _check_accepts(self) -> None:
        if self._door.draining:
            raise stopping()
        self._dispatcher.check_accepts()

    BY_NAME: ClassVar[dict[str, Callable[[Operations, Lease, dict[str, Any]], None]]] = {
        "render": render,
        "cancel": cancel,
        "ping": ping,
        "status": status,
        "models_list": models_list,
        "models_load": models_load,
        "models_unload": models_load,
        "release": release,
        "colors": colors,
        "plate_put": plate_put,
        "plate_list": plate_list,
        "plate_drop": plate_drop,
        "shutdown": shutdown,
    }


def _check_not_many(lease: Lease) -> None:
    out = sum(request.arena is None for request in lease.active.values())
    if out >= MODEL_REQUESTS_A_SESSION:
        raise BusyError(
            f"{out} model requests of this session are not answered yet: wait for them",
            retry_after_ms=RETRY_AFTER_MS,
        )


def _free_arena(lease: Lease, message: dict[str, Any]) -> ArenaRecord:
    """The arena that a request names, if it may be lent now."""
    arena = lease.arenas.get(message["slot"])
    if arena is None:
        raise MessageError(
            f"this session has no arena {message['slot']}; it has {sorted(lease.arenas)}",
            field="slot",
        )
    if arena.lent_to is not None:
        raise SlotBusyError(
            f"arena {arena.number} is still lent to an earlier request: use another one or "
            "wait for it to be released",
        )
    if message["gen"] <= arena.generation:
        raise MessageError(
            f"generation {message['gen']} of arena {arena.number} is not newer than "
            f"{arena.generation}",
            field="gen",
        )
    return arena


def _roles(message: dict[str, Any]) -> list[str]:
    return [plane.role for plane in message["in"]]


def stopping() -> DrainingError:
    """The error for a request that a stopping daemon does not carry out."""
    return DrainingError(
        "the daemon is stopping and did not start this request: send it to the next daemon"
    )
