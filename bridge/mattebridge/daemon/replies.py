"""Replies: every accepted request gets exactly one final reply, or its lease is closed.

    accepted --> waits --> runs --> finish    the arena is back: the final reply
                   |         |
                   |         +----> answer_early, later finish    a deadline has passed: the final
                   |                reply now, `released` when the worker has stopped
                   +--------------> finish    cancelled, expired, or the daemon stops

`finish` ends a request and is the only place that takes its arena back. A final reply is
remembered, so that a client that lost it gets the same one when it repeats the request. A reply
that cannot be sent yet waits in the outbox of its lease; a client that does not read loses the
lease.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Callable, Optional

from mattebridge.daemon.doorkeeper import Doorkeeper
from mattebridge.daemon.leases import Lease, Request, fingerprint
from mattebridge.daemon.mailbox import Mailbox
from mattebridge.daemon.status import Tally
from mattebridge.errors import IdReuseError, LeaseError, MattebridgeError
from mattebridge.wire import protocol

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.1


class Replies:
    """All replies of one daemon run."""

    def __init__(
        self,
        mail: Mailbox,
        door: Doorkeeper,
        tally: Tally,
        *,
        freed: Callable[[list[int]], None],
    ) -> None:
        self._mail, self._door, self._tally = mail, door, tally
        self._freed = freed

    # -- to what was not accepted ------------------------------------------------------------

    def send(self, lease: Lease, op: str, request_id: bytes, fields: dict[str, Any]) -> None:
        """Reply at once to a request that needs no work."""
        self._send(lease, self._mail.reply(op, request_id, fields))

    def refuse(self, lease: Lease, message: dict[str, Any], error: MattebridgeError) -> None:
        """Reply with an error to a request that was not accepted; nothing else changes."""
        self._tally.refused[error.code] += 1
        fields = protocol.error_fields(error)
        number, generation = message.get("slot"), message.get("gen")
        if isinstance(number, int) and isinstance(generation, int):
            arena = lease.arenas.get(number)
            lent = arena is not None and arena.lent_to is not None
            fields.update(held=lent, slot=number, gen=generation)
        self.send(lease, "error", message["id"], fields)

    def refuse_unknown(self, routing_id: bytes, request_id: bytes) -> None:
        """Reply to a message whose session does not exist (any more)."""
        error = LeaseError("this session is over: connect again")
        self._tally.refused[error.code] += 1
        reply = self._mail.reply("error", request_id, protocol.error_fields(error))
        self._mail.send_once(routing_id, reply)

    # -- to what was accepted ----------------------------------------------------------------

    def repeat(self, lease: Lease, message: dict[str, Any]) -> bool:
        """Handle a request that was sent before: send its reply again, or leave it running.

        False when the request is new. Raises `IdReuseError` when the id belongs to another one.
        """
        known = lease.active.get(message["id"])
        if known is not None:
            _check_same(message, known.fingerprint)
            # One that was answered and still runs gets no further final reply. The repetition is
            # treated as new, and refused because its arena is lent.
            return not known.answered
        if message["id"] not in lease.finished:
            return False
        finished, reply = lease.finished[message["id"]]
        _check_same(message, finished)
        self._send(lease, reply)
        return True

    def progress(self, request: Request, report: dict[str, Any], now: float) -> None:
        """Send how far a running request is, at most every `PROGRESS_INTERVAL_S`."""
        if request.answered or now - request.last_progress_sent < PROGRESS_INTERVAL_S:
            return
        request.last_progress_sent = now
        fields = {key: report[key] for key in ("stage", "done", "total")}
        reply = self._mail.reply("progress", request.id, fields)
        self._mail.send_once(request.lease.routing_id, reply)

    def fail(self, request: Request, error: MattebridgeError) -> None:
        """Finish a request with an error."""
        self.finish(request, "error", protocol.error_fields(error))

    def finish(self, request: Request, op: str, fields: dict[str, Any]) -> None:
        """End a request: take its arena back and give the final reply.

        If the final reply was given before, `released` says that the arena is back.
        """
        arena, lease = request.arena, request.lease
        if arena is not None:
            self._door.take_back(lease, arena)
        self._unpin(request)
        if not request.answered:
            self._answer(request, op, {**fields, "held": False})
        elif arena is not None:
            fields = {"slot": arena.number, "gen": request.generation}
            self.send(lease, "released", request.id, fields)
        lease.active.pop(request.id, None)

    def finish_part(
        self,
        request: Request,
        *,
        report: Optional[dict[str, Any]] = None,
        failure: Optional[dict[str, Any]] = None,
    ) -> None:
        """End one worker's part of a request to several; the last part gives the final reply.

        Without report and failure the part was cancelled, and so is the request.
        Until then the request stays active: its id cannot be used again, and a daemon that stops
        answers it.
        """
        group = request.group
        assert group is not None
        group.left -= 1
        if failure is not None:
            group.failure = failure
        elif report is not None:
            group.result = report
        else:
            group.cancelled = True
        if group.left:
            return
        if group.cancelled:
            self.finish(request, "cancelled", {})
        elif group.failure is not None:
            self.finish(request, "error", group.failure)
        else:
            self.finish(request, protocol.RESULTS[request.op], group.result)

    def answer_early(self, request: Request, error: MattebridgeError) -> None:
        """Give the final reply of a request that still runs; its arena stays lent."""
        self._answer(request, "error", {**protocol.error_fields(error), "held": True})

    def _unpin(self, request: Request) -> None:
        clean_plate, request.clean_plate = request.clean_plate, None
        if clean_plate is not None:
            clean_plate.unpin()
            if clean_plate.closed:
                self._freed([clean_plate.key])

    def _answer(self, request: Request, op: str, fields: dict[str, Any]) -> None:
        request.answered = True
        if request.group is not None:
            if request.group.answered:
                return
            request.group.answered = True
        if request.arena is not None:
            fields.update(slot=request.arena.number, gen=request.generation)
        reply = self._mail.reply(op, request.id, fields)
        # First, because a client waits for it; the rest takes as long as its way there. A later
        # request of the same client comes after all of this.
        self._send(request.lease, reply)
        if not fields.get("retry"):
            request.lease.remember(request.id, request.fingerprint, reply)
        if op == "error":
            self._tally.refused[fields["code"]] += 1
        if request.op == "render" and op in self._tally.frames:
            self._tally.frames[op] += 1
            _log_frame(request, op, fields)

    # -- the outbox ---------------------------------------------------------------------------

    def flush(self, lease: Lease, now: float) -> None:
        """Send the replies that wait in a lease's outbox."""
        if lease.outbox and not self._mail.flush(lease, now):
            self._close_unread(lease)

    def _send(self, lease: Lease, reply: dict[str, Any]) -> None:
        if not self._mail.send(lease, reply):
            self._close_unread(lease)

    def _close_unread(self, lease: Lease) -> None:
        """A reply must not be lost silently: a client that does not read loses its lease."""
        log.warning("a client does not read its replies: pid=%d", lease.peer.pid)
        lease.outbox.clear()
        self._door.end(lease)


def _check_same(message: dict[str, Any], expected: bytes) -> None:
    if fingerprint(message) != expected:
        raise IdReuseError("this request id was used for another request: make a new one")


def _log_frame(request: Request, op: str, fields: dict[str, Any]) -> None:
    """The line of one frame: infer_ms is the time of the model alone, render_ms the worker's.

    A frame that needed no model has a word for what was used again at its end.
    """
    timings, reused = fields.get("timings", {}), fields.get("notes", {}).get("reused")
    width, height = request.size
    log.info(
        "frame=%s model=%s size=%dx%d status=%s "
        "queue_ms=%.1f infer_ms=%.1f render_ms=%.1f total_ms=%.1f%s",
        request.frame,
        request.message.get("model"),
        width,
        height,
        fields.get("code", op),
        timings.get("queue_ms", 0.0),
        timings.get("model_ms", 0.0),
        timings.get("render_ms", 0.0),
        timings.get("total_ms", (time.monotonic() - request.arrived) * 1000),
        f" reused={reused}" if reused else "",
    )
