"""The door, seen from the client: hello, welcome, resize, and the descriptors of arenas.

    client --hello, resize--------------------------> front
           <--welcome, resized + one descriptor an arena--

The door is a local socket in the runtime folder. The open connection is the lease: when it closes,
for whatever reason, the daemon takes back everything that it lent to this client.

The rule that must not be broken: nothing here waits without a bound, and no descriptor that came
with a reply is left open when the reply is refused.

Runs on Python 3.9; needs msgpack.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mattebridge.errors import ConnectionFailed, DaemonLost, MessageError, UidError
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.connection import Connection, Peer, Record
from mattebridge.wire.folder import DOOR, START_BY_HAND, check_folder, check_path_length
from mattebridge.wire.transport import endpoint

HELLO_TIMEOUT_S = 5.0
# Between two tries where the daemon's backlog is full.
RETRY_S = 0.01


class Door:
    """An open connection to the door: the lease of one session.

    Descriptors that come with a reply belong to the caller, who maps and closes them.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._layer = oslayer.current()

    @classmethod
    def connect(cls, folder: Path, *, timeout_s: float = HELLO_TIMEOUT_S) -> Door:
        """Connect to the daemon of this folder; `ConnectionFailed` when none listens."""
        layer = oslayer.current()
        check_path_length(folder)
        try:
            check_folder(folder)
        except FileNotFoundError as error:
            raise _no_daemon(folder) from error
        connection = _connect(layer, folder, time.monotonic() + timeout_s)
        try:
            peer = connection.peer()
            if peer.uid != layer.user_id():
                raise UidError(
                    f"the daemon in {folder} belongs to {layer.called(peer.uid)}, not to you: "
                    f"{layer.same_user}"
                )
        except BaseException:
            connection.close()
            raise
        return cls(connection)

    def ask(
        self, message: Mapping[str, Any], *, timeout_s: float = HELLO_TIMEOUT_S
    ) -> tuple[dict[str, Any], list[int]]:
        """Send one record; the reply and its descriptors.

        Raises what the daemon replied when that is an error, `DaemonLost` when it closed the door,
        `ConnectionFailed` when nothing came within `timeout_s`.
        """
        self._send(protocol.pack(message, protocol.MAX_HELLO_BYTES))
        record = self._next_record(timeout_s)
        try:
            reply = _reply(record)
            check_arenas(reply, record.descriptors)
        except BaseException:
            close_all(record.descriptors)
            raise
        return reply, record.descriptors

    def _send(self, data: bytes) -> None:
        # A daemon that closed the door may have replied why before; `ask` reads that next.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                self._connection.send(data)
            except BlockingIOError as error:
                raise ConnectionFailed(
                    "the daemon does not read at the door: it may hang; stop and start it"
                ) from error

    def _next_record(self, timeout_s: float) -> Record:
        until = time.monotonic() + timeout_s
        while self._layer.wait([self._connection.fileno()], until - time.monotonic()):
            with contextlib.suppress(BlockingIOError):  # a part of it has arrived
                return self._receive()
        raise ConnectionFailed(
            f"the daemon did not reply at the door within {timeout_s:g} s: see its log with "
            "`mattebridge status`, or stop and start it"
        )

    def _receive(self) -> Record:
        for _attempt in range(2):
            try:
                return self._connection.receive(protocol.MAX_HELLO_BYTES)
            except ConnectionResetError:
                pass  # it closed before it had read everything; its last record comes next
            except BlockingIOError:
                raise
            except OSError as error:
                raise _door_closed() from error
        raise _door_closed()

    def peer(self) -> Peer:
        """The daemon's process, as the system recorded it."""
        return self._connection.peer()

    def fileno(self) -> int:
        """The descriptor to wait for: readable with nothing to read when the daemon has gone."""
        return self._connection.fileno()

    def lost(self) -> bool:
        """Whether the daemon has closed the door; never waits."""
        return self._connection.lost()

    def close(self) -> None:
        """End the lease."""
        self._connection.close()


def _connect(layer: oslayer.OsLayer, folder: Path, until: float) -> Connection:
    while True:
        try:
            return layer.connect(folder / DOOR)
        except BlockingIOError:
            # The backlog is full: others are being accepted first.
            if time.monotonic() > until:
                raise ConnectionFailed(
                    f"the daemon in {folder} accepts no connection: it may hang; stop and start it"
                ) from None
            time.sleep(RETRY_S)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise _no_daemon(folder) from error
        except PermissionError as error:
            raise UidError(
                f"the daemon in {folder} does not let this program in: {layer.same_user}"
            ) from error
        except OSError as error:
            raise ConnectionFailed(
                f"cannot reach the daemon in {folder}: {error.strerror}"
            ) from error


def _reply(record: Record) -> dict[str, Any]:
    """The message in a record from the door; raises the error that it stands for."""
    if not record.data:
        raise _door_closed()
    if record.cut:
        raise ConnectionFailed("the daemon's reply at the door was cut short")
    try:
        reply = protocol.unpack(record.data, protocol.MAX_HELLO_BYTES)
        protocol.validate_reply(reply)
    except MessageError as error:
        raise _not_a_daemon() from error
    if reply.get("op") == "error":
        raise protocol.error_of(reply)
    return reply


def check_arenas(reply: Mapping[str, Any], descriptors: list[int]) -> None:
    """Raise unless each arena of a reply came, as sealed memory of its size."""
    if reply["op"] not in ("welcome", "resized"):
        raise _not_a_daemon()
    arenas = reply["slots"]
    if len(arenas) != len(descriptors):
        raise ConnectionFailed(
            f"the daemon announced {len(arenas)} arenas and sent {len(descriptors)}"
        )
    layer = oslayer.current()
    for arena, descriptor in zip(arenas, descriptors):
        layer.check_memory(descriptor, arena["bytes"])


def check_welcome(welcome: Mapping[str, Any], folder: Path) -> None:
    """Raise `ConnectionFailed` unless a session can be built on this reply to a hello."""
    if welcome.get("op") != "welcome":
        raise _not_a_daemon()
    if welcome.get("ctl") != endpoint(folder):
        raise ConnectionFailed(
            f"the daemon in {folder} names a control socket in another folder: stop and start it"
        )


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors of memory that will not be used."""
    layer = oslayer.current()
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            layer.close_memory(descriptor)


def _no_daemon(folder: Path) -> ConnectionFailed:
    return ConnectionFailed(f"no daemon is running in {folder}: {START_BY_HAND}")


def _not_a_daemon() -> ConnectionFailed:
    return ConnectionFailed(
        "the program that replied at the door is no mattebridge daemon that this client "
        "understands: install the same mattebridge on both sides"
    )


def _door_closed() -> DaemonLost:
    return DaemonLost("the daemon closed the door: start it again")
