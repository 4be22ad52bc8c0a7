"""The control socket: requests come in with the user and process of their sender, replies go out.

The kernel names the sender, not the message. Two properties of ZeroMQ shape this file:

- A message to a peer that is gone or does not read fails at once (`ROUTER_MANDATORY` with
  `NOBLOCK`; without them one such peer would block the whole front). What must arrive therefore
  waits in the outbox of its lease.
- A routing id is valid only as long as its connection. Replies go to the connection that the last
  valid message of the lease came from.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import zmq

from mattebridge.errors import InternalError, MattebridgeError
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.folder import CTL
from mattebridge.wire.transport import router

if TYPE_CHECKING:
    from mattebridge.daemon.leases import Lease

log = logging.getLogger(__name__)

# Plain integers: pyzmq's enums cost microseconds each, several times a message.
NOBLOCK, SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
MESSAGES_A_TURN = 64
OUTBOX_MESSAGES = 256
# How long the last replies may take to be sent when the daemon stops.
LINGER_MS = 200


class Incoming(NamedTuple):
    """One message that arrived: its connection, the sender's user and process, its parts."""

    routing_id: bytes
    uid: int
    pid: int
    parts: list[bytes]


class Mailbox:
    """The front's end of the control channel."""

    def __init__(self, folder: Path, *, epoch: int, outbox_s: float) -> None:
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self.socket = router(self._context, folder)
        self._accepted = self.socket.get_monitor_socket(zmq.EVENT_ACCEPTED)
        self._path = folder / CTL
        self._layer = oslayer.current()
        self.listening = True
        self._epoch = epoch
        self._outbox_s = outbox_s

    def receive(self) -> Iterator[Incoming]:
        """The messages that have arrived, at most `MESSAGES_A_TURN`, without waiting."""
        for _ in range(MESSAGES_A_TURN):
            try:
                parts, address = self._receive_parts()
            except zmq.Again:
                return
            peer = self._layer.control_peer(address)
            yield Incoming(parts[0], peer.uid, peer.pid, parts[1:])

    def _receive_parts(self) -> tuple[list[bytes], str]:
        """The first parts of one message and the peer's address; the rest is dropped."""
        parts: list[bytes] = []
        while True:
            frame = self.socket.recv(NOBLOCK, copy=False)
            if len(parts) < protocol.MAX_PARTS:
                parts.append(frame.bytes)
            if not frame.more:
                break
        try:
            address = str(frame.get("Peer-Address"))
        except zmq.ZMQError:
            address = ""
        return parts, address

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
        if routing_id is None:
            return False
        try:
            self.socket.send(routing_id, NOBLOCK | SNDMORE)
            self.socket.send(protocol.MAGIC, NOBLOCK | SNDMORE)
            self.socket.send(data, NOBLOCK)
        except zmq.ZMQError:
            return False  # the peer is gone (EHOSTUNREACH) or its queue is full (EAGAIN)
        return True

    @property
    def accepted_fd(self) -> int:
        """A descriptor that is readable when a new connection was accepted."""
        return int(self._accepted.getsockopt(zmq.FD))

    def clear_accepted(self) -> None:
        """Make `accepted_fd` unreadable until the next connection is accepted."""
        with contextlib.suppress(zmq.Again):
            while True:
                self._accepted.recv_multipart(NOBLOCK)

    def listen(self, wanted: bool) -> None:
        """Accept new connections, or none for a while; the existing ones stay.

        The socket's file is renamed, because unbinding the socket would close its connections.
        """
        if wanted == self.listening:
            return
        here, aside = self._path, self._path.with_name(f"{self._path.name}.tmp")
        try:
            os.rename(*((aside, here) if wanted else (here, aside)))
        except OSError as error:
            log.error("the control socket could not be renamed: %s", error.strerror)
        self.listening = wanted

    def close(self) -> None:
        """Send the last replies, for at most `LINGER_MS`, then close."""
        self.socket.disable_monitor()
        self._accepted.close(linger=0)
        self.socket.close(linger=LINGER_MS)
        self._context.term()


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
