"""The control socket: requests in with their sender's kernel-checked identity, replies out.

ZeroMQ gives two things that a broker must not rely on. A message to a peer that has gone, or that
does not read, is refused at once (`ROUTER_MANDATORY` with `NOBLOCK`: without it a full peer would
stop the whole front), so what must arrive waits in the lease's outbox. And a routing id is only as
good as the connection: replies go to the one that the lease's last valid message came from.
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
from mattebridge.wire import protocol
from mattebridge.wire.folder import CTL
from mattebridge.wire.transport import router

if TYPE_CHECKING:
    from mattebridge.daemon.leases import Lease

log = logging.getLogger(__name__)

# Plain integers: pyzmq's enums cost microseconds each, several times a message.
NOBLOCK, SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)
MESSAGES_A_TURN = 64
OUTBOX_MESSAGES = 256
# How long the last replies may take to leave when the daemon stops.
FAREWELL_MS = 200


class Letter(NamedTuple):
    """What arrived: from which connection, whose process, which parts."""

    routing_id: bytes
    uid: int
    pid: int
    parts: list[bytes]


class Mailbox:
    """The front's end of the control channel."""

    def __init__(self, folder: Path, *, epoch: int, patience_s: float) -> None:
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self.socket = router(self._context, folder)
        self._arrivals = self.socket.get_monitor_socket(zmq.EVENT_ACCEPTED)
        self._path = folder / CTL
        self.listening = True
        self._epoch = epoch
        self._patience_s = patience_s

    # -- in -----------------------------------------------------------------------------

    def letters(self) -> Iterator[Letter]:
        """What has arrived, a bounded number of letters, without waiting."""
        for _ in range(MESSAGES_A_TURN):
            try:
                parts, address = self._receive_parts()
            except zmq.Again:
                return
            uid, pid = _parse_address(address)
            yield Letter(parts[0], uid, pid, parts[1:])

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

    # -- out ----------------------------------------------------------------------------

    def reply(self, op: str, request_id: bytes, fields: dict[str, Any]) -> dict[str, Any]:
        """A reply of this daemon run."""
        return {"op": op, "id": request_id, "epoch": self._epoch, **fields}

    def post(self, lease: Lease, reply: dict[str, Any]) -> bool:
        """Send what must arrive, or keep it for later; False when too much is waiting."""
        if lease.closed:
            return True
        data = _pack(reply)
        if lease.outbox or not self._try_send(lease.routing_id, data):
            lease.outbox.append((time.monotonic(), data))
        return len(lease.outbox) <= OUTBOX_MESSAGES

    def flush(self, lease: Lease, now: float) -> bool:
        """Send what waits; False when the oldest of it has waited too long."""
        while lease.outbox:
            if not self._try_send(lease.routing_id, lease.outbox[0][1]):
                return now - lease.outbox[0][0] <= self._patience_s
            lease.outbox.popleft()
        return True

    def send_once(self, routing_id: Optional[bytes], reply: dict[str, Any]) -> None:
        """Send what may be lost: progress, and answers to strangers."""
        self._try_send(routing_id, _pack(reply))

    def _try_send(self, routing_id: Optional[bytes], data: bytes) -> bool:
        if routing_id is None:
            return False
        try:
            self.socket.send(routing_id, NOBLOCK | SNDMORE)
            self.socket.send(protocol.MAGIC, NOBLOCK | SNDMORE)
            self.socket.send(data, NOBLOCK)
        except zmq.ZMQError:
            return False  # gone (EHOSTUNREACH) or full (EAGAIN)
        return True

    @property
    def arrivals(self) -> int:
        """A descriptor that can be read when a new connection was taken."""
        return int(self._arrivals.getsockopt(zmq.FD))

    def forget_arrivals(self) -> None:
        """Make `arrivals` silent until the next connection is taken."""
        with contextlib.suppress(zmq.Again):
            while True:
                self._arrivals.recv_multipart(NOBLOCK)

    def listen(self, wanted: bool) -> None:
        """Take new connections, or none for a while; those that there are stay.

        The socket loses its name, not its life: unbinding it would end all its connections.
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
        """Let the last replies leave, then close."""
        self.socket.disable_monitor()
        self._arrivals.close(linger=0)
        self.socket.close(linger=FAREWELL_MS)
        self._context.term()


def _pack(reply: dict[str, Any]) -> bytes:
    try:
        # What is not ours in a reply came from a model, or from the request.
        return protocol.pack(reply, check=reply["op"] in ("done", "error", "models"))
    except MattebridgeError:
        log.error("a reply was too large to send: op=%s", reply["op"])
        error = InternalError("the daemon's answer was too long to send; its log says more")
        short = {"op": "error", **protocol.error_fields(error)}
        short.update({k: reply[k] for k in ("id", "epoch", "held", "slot", "gen") if k in reply})
        return protocol.pack(short)


def _parse_address(address: str) -> tuple[int, int]:
    """(uid, pid) from ZeroMQ's `localhost:uid:gid:pid`; (-1, -1) for anything else."""
    parts = address.split(":")
    with contextlib.suppress(ValueError, IndexError):
        return int(parts[-3]), int(parts[-1])
    return -1, -1
