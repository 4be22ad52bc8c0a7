"""The control channel: requests come in with the user and process of their sender, replies go out.

    front <--> Mailbox <--> carrier: ZeroMQ (zeromq_carrier.py), or records (record_carrier.py)

The system names the sender, not the message. A reply to a peer that is gone or does not read fails
at once, or one such peer would block the whole front. What must arrive therefore waits in the
outbox of its lease. Replies go to the connection that the last valid message of the lease came
from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

from mattebridge.daemon.incoming import Incoming
from mattebridge.daemon.record_carrier import RecordCarrier
from mattebridge.daemon.zeromq_carrier import ZeroMQCarrier
from mattebridge.errors import InternalError, MattebridgeError
from mattebridge.wire import oslayer, protocol

if TYPE_CHECKING:
    from mattebridge.daemon.leases import Lease
    from mattebridge.daemon.loop import Loop

log = logging.getLogger(__name__)

OUTBOX_MESSAGES = 256


class Mailbox:
    """The front's end of the control channel."""

    def __init__(self, folder: Path, *, epoch: int, outbox_s: float) -> None:
        layer = oslayer.current()
        self._carrier: Union[ZeroMQCarrier, RecordCarrier] = (
            RecordCarrier(layer, folder) if layer.control_is_records else ZeroMQCarrier(folder)
        )
        self._epoch = epoch
        self._outbox_s = outbox_s

    def open(self, loop: Loop, receive: Callable[[], None], accepted: Callable[[], None]) -> None:
        """Call `receive` when messages have arrived, `accepted` when a connection was made."""
        self._carrier.open(loop, receive, accepted)

    def receive(self) -> Iterator[Incoming]:
        """Messages that have arrived, a bounded number, without waiting."""
        return self._carrier.receive()

    def reply(self, op: str, request_id: bytes, fields: dict[str, Any]) -> dict[str, Any]:
        """A reply message, with the epoch of this daemon run."""
        return {"op": op, "id": request_id, "epoch": self._epoch, **fields}

    def send(self, lease: Lease, reply: dict[str, Any]) -> bool:
        """Send a reply that must arrive, now or later; False when too many are waiting."""
        if lease.closed:
            return True
        data = _pack(reply)
        if lease.outbox or not self._try_send(lease.routing_id, data):
            lease.outbox.append((time.monotonic(), data))
        return len(lease.outbox) <= OUTBOX_MESSAGES

    def flush(self, lease: Lease, now: float) -> bool:
        """Send the replies that wait; False when the oldest has waited too long."""
        while lease.outbox:
            if not self._try_send(lease.routing_id, lease.outbox[0][1]):
                return now - lease.outbox[0][0] <= self._outbox_s
            lease.outbox.popleft()
        return True

    def send_once(self, routing_id: Optional[bytes], reply: dict[str, Any]) -> None:
        """Send a reply that may be lost: progress, and refusals of an unknown session."""
        self._try_send(routing_id, _pack(reply))

    def _try_send(self, routing_id: Optional[bytes], data: bytes) -> bool:
        return routing_id is not None and self._carrier.send(routing_id, data)

    def clear_accepted(self) -> None:
        """To be called by `accepted`: until the next connection is made."""
        self._carrier.clear_accepted()

    @property
    def listening(self) -> bool:
        """Whether new connections are accepted."""
        return self._carrier.listening

    def listen(self, wanted: bool) -> None:
        """Accept new connections, or none for a while; the existing ones stay."""
        self._carrier.listen(wanted)

    def close(self) -> None:
        """Send the last replies, for a bounded time, then close."""
        self._carrier.close()


def _pack(reply: dict[str, Any]) -> bytes:
    try:
        # These carry text and numbers from a model or from the request.
        return protocol.pack(reply, check=reply["op"] in ("done", "error", "models"))
    except MattebridgeError:
        log.error("a reply was too long to send: op=%s", reply["op"])
        error = InternalError("the daemon's reply was too long to send; its log says more")
        short = {"op": "error", **protocol.error_fields(error)}
        short.update({k: reply[k] for k in ("id", "epoch", "held", "slot", "gen") if k in reply})
        return protocol.pack(short)
