"""Control messages as records on connections of the layer: tag and message in one.

    client --connection a session--> RecordCarrier --message, with the process that sent it--> front

Each connection is watched for itself, so its number is the routing id. A record that is too long,
brings descriptors or is empty ends its connection; there is nothing that could be collected beyond
one record. A reply that the peer has no room for waits in the outbox of its lease.
"""

from __future__ import annotations

import itertools
import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

from mattebridge.daemon.incoming import Incoming
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.connection import Connection
from mattebridge.wire.door import close_all
from mattebridge.wire.folder import CTL
from mattebridge.wire.transport import MAX_RECORD_BYTES, split_record

if TYPE_CHECKING:
    from mattebridge.daemon.loop import Loop

log = logging.getLogger(__name__)

BACKLOG = 128
# More than there can be sessions. Further connections are closed, and those that are open stay.
MAX_CONNECTIONS = 1024
NUMBER = struct.Struct("<Q")


class RecordCarrier:
    """The front's end of the control channel."""

    def __init__(self, layer: oslayer.OsLayer, folder: Path) -> None:
        self._listener = layer.bind(folder / CTL)
        self._listener.listen(BACKLOG)
        self._connections: dict[bytes, Connection] = {}
        self._numbers = itertools.count(1)
        self._arrived: list[Incoming] = []
        self._loop: Optional[Loop] = None
        self._receive: Callable[[], None] = lambda: None
        self._accepted: Callable[[], None] = lambda: None
        self.listening = True

    def open(self, loop: Loop, receive: Callable[[], None], accepted: Callable[[], None]) -> None:
        """See `Mailbox`."""
        self._loop, self._receive, self._accepted = loop, receive, accepted
        loop.watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        assert self._loop is not None
        try:
            connection = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log.error("a control connection could not be accepted: %s", error.strerror)
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            log.error("there are %d control connections: no more are taken", MAX_CONNECTIONS)
            connection.close()
            return
        number = NUMBER.pack(next(self._numbers))
        self._connections[number] = connection
        self._loop.watch(connection.fileno(), lambda: self._read(number))
        self._accepted()

    def _read(self, number: bytes) -> None:
        connection = self._connections[number]
        try:
            record = connection.receive(MAX_RECORD_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._end(number)
            return
        close_all(record.descriptors)
        if record.cut or record.descriptors or not record.data:
            self._end(number)
            return
        peer = connection.peer()
        self._arrived.append(Incoming(number, peer.uid, peer.pid, split_record(record.data)))
        self._receive()

    def _end(self, number: bytes) -> None:
        assert self._loop is not None
        connection = self._connections.pop(number)
        self._loop.forget(connection.fileno())
        connection.close()

    def receive(self) -> Iterator[Incoming]:
        """See `Mailbox`."""
        arrived, self._arrived = self._arrived, []
        return iter(arrived)

    def send(self, routing_id: bytes, data: bytes) -> bool:
        """Send a reply; False where the peer is gone or has no room for it."""
        connection = self._connections.get(routing_id)
        if connection is None:
            return False
        try:
            connection.send(protocol.MAGIC + data)
        except OSError:
            return False
        return True

    def clear_accepted(self) -> None:
        """See `Mailbox`: each connection is told of once."""

    def listen(self, wanted: bool) -> None:
        """See `Mailbox`."""
        assert self._loop is not None
        if wanted and not self.listening:
            self._loop.watch(self._listener.fileno(), self._accept)
        elif self.listening and not wanted:
            self._loop.forget(self._listener.fileno())
        self.listening = wanted

    def close(self) -> None:
        """See `Mailbox`."""
        self._listener.close()
        for number in list(self._connections):
            self._end(number)
