"""The control channel: the ends of it, and the address between them.

    client --"door"--> front     hello, welcome + descriptors of the arenas; the OPEN connection is
                                 the lease: closed means released (door.py)
    client --"ctl"---> front     control messages only (here): ZeroMQ DEALER to ROUTER over ipc, or
                                 on Windows, where ZeroMQ has no ipc, records on a pipe

Both addresses belong to one folder that only the user can enter (folder.py). The daemon binds them
under a lock; a client only ever connects. The rule that must not be broken: nothing here waits
without a bound.

Runs on Python 3.9; needs pyzmq.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Callable, Protocol, Union, cast

import zmq

from mattebridge.errors import ConnectionFailed, UidError
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.connection import Connection
from mattebridge.wire.folder import CTL

# How long ZeroMQ waits for a peer that connects and sends nothing.
HANDSHAKE_MS = 3000
SEND_LIMIT_MS = 2000
HIGH_WATER_MARK = 64
# Between two tries where the other end of a pipe has not read the last record.
RETRY_S = 0.001
# The longest record: the tag and the longest message.
MAX_RECORD_BYTES = len(protocol.MAGIC) + protocol.MAX_MESSAGE_BYTES

# Plain integers: pyzmq's enums cost microseconds each, several times a message.
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
NOBLOCK, SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)

_contexts: dict[int, Any] = {}


class Channel(Protocol):
    """The client's end. One thread at a time uses it; any may wait for `fileno`."""

    def fileno(self) -> int:
        """The descriptor to wait for; `readable` says whether a message is there."""

    def readable(self) -> bool:
        """Whether `receive` gives something; never waits."""

    def send(self, body: bytes, daemon_lost: Callable[[], bool]) -> None:
        """Send one message. `BlockingIOError` where the daemon takes none for `SEND_LIMIT_MS`.

        `ConnectionError` where the connection is broken, or `daemon_lost` says so meanwhile.
        """

    def receive(self) -> list[bytes]:
        """The parts of one message; to be called when it is readable.

        `ConnectionResetError` at the end, which only some carriers can tell.
        """

    def close(self) -> None:
        """Close it; nothing is sent any more."""


def open_channel(folder: Path) -> Channel:
    """The client's end of the control channel in a runtime folder."""
    layer = oslayer.current()
    if layer.control_is_records:
        return RecordChannel(layer, folder / CTL)
    return ZeroMQChannel(dealer(_context(), endpoint(folder)))


class ZeroMQChannel:
    """A `Channel` over a DEALER, which it owns."""

    def __init__(self, dealer: zmq.Socket[bytes]) -> None:
        self._socket = dealer

    def fileno(self) -> int:
        """See `Channel`. It is no sign of a message by itself."""
        return cast(int, self._socket.getsockopt(zmq.FD))

    def readable(self) -> bool:
        """See `Channel`."""
        return bool(cast(int, self._socket.getsockopt(EVENTS)) & POLLIN)

    def send(self, body: bytes, daemon_lost: Callable[[], bool]) -> None:
        """See `Channel`."""
        try:
            self._send_tag(daemon_lost)
            self._socket.send(body)
        except zmq.Again as error:
            raise BlockingIOError("no message was taken in time") from error
        except zmq.ZMQError as error:
            raise ConnectionResetError("the control connection broke") from error

    def _send_tag(self, daemon_lost: Callable[[], bool]) -> None:
        try:
            self._socket.send(protocol.MAGIC, NOBLOCK | SNDMORE)
        except zmq.Again:
            # Not connected, or full. Waiting helps only while the daemon runs.
            if daemon_lost():
                raise ConnectionAbortedError("the daemon has ended") from None
            self._socket.send(protocol.MAGIC, SNDMORE)

    def receive(self) -> list[bytes]:
        """See `Channel`."""
        return self._socket.recv_multipart(NOBLOCK)

    def close(self) -> None:
        """See `Channel`."""
        self._socket.close(0)


class RecordChannel:
    """A `Channel` over a connection of the layer, which it owns: tag and message in one record."""

    def __init__(self, layer: oslayer.OsLayer, path: Path) -> None:
        self._layer = layer
        self._connection = _connect_patiently(layer, path)
        self._ended = False

    def fileno(self) -> int:
        """See `Channel`."""
        return self._connection.fileno()

    def readable(self) -> bool:
        """See `Channel`. The end is readable too, once."""
        return not self._ended and bool(self._layer.wait([self._connection.fileno()], 0.0))

    def send(self, body: bytes, daemon_lost: Callable[[], bool]) -> None:
        """See `Channel`."""
        until = time.monotonic() + SEND_LIMIT_MS / 1000
        while True:
            try:
                self._connection.send(protocol.MAGIC + body)
                return
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                if daemon_lost():
                    raise ConnectionAbortedError("the daemon has ended") from None
                time.sleep(RETRY_S)
            except OSError as error:
                raise ConnectionResetError("the control connection broke") from error

    def receive(self) -> list[bytes]:
        """See `Channel`."""
        try:
            record = self._connection.receive(MAX_RECORD_BYTES)
        except BlockingIOError:
            return []
        except OSError as error:
            self._ended = True
            raise ConnectionResetError("the control connection broke") from error
        if not record.data:
            self._ended = True
            raise ConnectionResetError("the daemon has closed the control connection")
        return [] if record.cut else split_record(record.data)

    def close(self) -> None:
        """See `Channel`."""
        self._connection.close()


def dealer(context: zmq.Context[Any], endpoint: str) -> zmq.Socket[bytes]:
    """The client's end. It queues nothing for a daemon that is not connected."""
    connection: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    _common_options(connection)
    connection.setsockopt(zmq.IMMEDIATE, 1)
    connection.setsockopt(zmq.SNDTIMEO, SEND_LIMIT_MS)
    connection.connect(endpoint)
    return connection


def router(context: zmq.Context[Any], folder: Path) -> zmq.Socket[bytes]:
    """The front's end. Only the holder of the lock may call this: a bind takes over an address."""
    connection: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    _common_options(connection)
    connection.setsockopt(zmq.ROUTER_MANDATORY, 1)
    connection.bind(endpoint(folder))
    return connection


def endpoint(folder: Union[str, Path]) -> str:
    """The address of the control channel in a runtime folder, as the daemon names it."""
    return oslayer.current().control_address(Path(folder) / CTL)


def split_record(data: bytes) -> list[bytes]:
    """The parts of a message that came as one record."""
    size = len(protocol.MAGIC)
    return [data[:size], data[size:]]


def _connect_patiently(layer: oslayer.OsLayer, path: Path) -> Connection:
    """A connection to this user's daemon, once those are accepted that came before."""
    until = time.monotonic() + SEND_LIMIT_MS / 1000
    while True:
        try:
            connection = layer.connect(path)
            break
        except OSError as error:
            if not isinstance(error, BlockingIOError) or time.monotonic() > until:
                raise ConnectionFailed(
                    f"cannot reach the control channel of the daemon in {path.parent}: "
                    f"{error.strerror or error}; stop and start it"
                ) from error
            time.sleep(RETRY_S)
    if connection.peer().uid != layer.user_id():
        connection.close()
        raise UidError(f"the control channel in {path.parent} belongs to another user: stop it")
    return connection


def _context() -> zmq.Context[Any]:
    """One ZeroMQ context a process; a forked child gets its own."""
    pid = os.getpid()
    if pid not in _contexts:
        _contexts[pid] = zmq.Context(io_threads=1)
    context: zmq.Context[Any] = _contexts[pid]
    return context


def _common_options(connection: zmq.Socket[bytes]) -> None:
    connection.setsockopt(zmq.LINGER, 0)
    connection.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    connection.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    connection.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE_BYTES)
    connection.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
