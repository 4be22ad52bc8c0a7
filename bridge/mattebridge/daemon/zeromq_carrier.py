"""Control messages by ZeroMQ: a ROUTER, and a monitor that tells of new connections.

Two properties of ZeroMQ shape this file:

- A message to a peer that is gone or does not read fails at once (`ROUTER_MANDATORY` with
  `NOBLOCK`).
- A routing id is valid only as long as its connection.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import zmq

from mattebridge.daemon.incoming import Incoming
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.folder import CTL
from mattebridge.wire.transport import NOBLOCK, SNDMORE, router

if TYPE_CHECKING:
    from mattebridge.daemon.loop import Loop

log = logging.getLogger(__name__)

MESSAGES_A_TURN = 64
# How long the last replies may take to be sent when the daemon stops.
LINGER_MS = 1000


class ZeroMQCarrier:
    """The front's end of the control channel."""

    def __init__(self, folder: Path) -> None:
        self._context: zmq.Context[Any] = zmq.Context(io_threads=1)
        self._socket = router(self._context, folder)
        self._accepted = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED)
        self._path = folder / CTL
        self._layer = oslayer.current()
        self.listening = True

    def open(self, loop: Loop, receive: Callable[[], None], accepted: Callable[[], None]) -> None:
        """See `Mailbox`."""
        loop.watch(self._socket, receive)
        loop.watch(int(self._accepted.getsockopt(zmq.FD)), accepted)

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
            frame = self._socket.recv(NOBLOCK, copy=False)
            if len(parts) < protocol.MAX_PARTS:
                parts.append(frame.bytes)
            if not frame.more:
                break
        try:
            address = str(frame.get("Peer-Address"))
        except zmq.ZMQError:
            address = ""
        return parts, address

    def send(self, routing_id: bytes, data: bytes) -> bool:
        """Send a reply; False where the peer is gone or its queue is full."""
        try:
            self._socket.send(routing_id, NOBLOCK | SNDMORE)
            self._socket.send(protocol.MAGIC, NOBLOCK | SNDMORE)
            self._socket.send(data, NOBLOCK)
        except zmq.ZMQError:
            return False  # the peer is gone (EHOSTUNREACH) or its queue is full (EAGAIN)
        return True

    def clear_accepted(self) -> None:
        """See `Mailbox.clear_accepted`."""
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
        self._socket.disable_monitor()
        self._accepted.close(linger=0)
        self._socket.close(linger=LINGER_MS)
        self._context.term()
