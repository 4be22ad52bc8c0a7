"""The door seen from the client: hello, welcome, and the descriptors of arenas."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mattebridge.errors import ConnectionFailed, DaemonLost, MessageError, UidError, from_wire
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.folder import DOOR, check_folder, check_path_length
from mattebridge.wire.transport import endpoint

HELLO_TIMEOUT_S = 5.0


class Door:
    """An open door connection: the lease of one session.

    `descriptors` that come with an answer belong to the caller, who maps and closes them.
    """

    def __init__(self, connection: socket.socket, layer: oslayer.OsLayer) -> None:
        self._connection = connection
        self._layer = layer

    @classmethod
    def knock(cls, folder: Path, *, timeout_s: float = HELLO_TIMEOUT_S) -> Door:
        """Connect to the daemon of this folder; `ConnectionFailed` when none listens."""
        layer = oslayer.current()
        check_path_length(folder)
        try:
            check_folder(folder)
        except FileNotFoundError as error:
            raise _nobody(folder) from error
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.setblocking(False)
            _connect(connection, folder, time.monotonic() + timeout_s)
            peer = layer.peer(connection)
            if peer.uid != os.geteuid():
                raise UidError(
                    f"the daemon in {folder} belongs to user {peer.uid}, not to you: start your own"
                )
        except BaseException:
            connection.close()
            raise
        return cls(connection, layer)

    def ask(
        self, message: Mapping[str, Any], *, timeout_s: float = HELLO_TIMEOUT_S
    ) -> tuple[dict[str, Any], list[int]]:
        """Send one record and wait for the answer and its descriptors.

        Raises what the daemon answered when that is an error, `DaemonLost` when it hung up,
        `ConnectionFailed` when nothing came within `timeout_s`.
        """
        record = protocol.pack(message, protocol.MAX_HELLO_BYTES)
        # A daemon that hung up has perhaps said why; its words are read below.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            try:
                oslayer.send_record(self._connection, record)
            except BlockingIOError as error:
                raise ConnectionFailed("the daemon does not read at the door") from error
        if not self._readable(timeout_s):
            raise ConnectionFailed(
                f"the daemon did not answer at the door within {timeout_s:g} s: see its log with "
                "`mattebridge status`, or stop and start it"
            )
        data, fds, cut = self._receive()
        try:
            if not data:
                raise _door_closed()
            if cut:
                raise ConnectionFailed("the daemon's answer at the door was cut short")
            answer = _answer(data)
            if answer.get("op") == "error":
                raise from_wire(
                    str(answer.get("code")),
                    str(answer.get("message")),
                    bool(answer.get("retry")),
                    protocol.error_details(answer),
                )
            check_slots(answer, fds, self._layer)
        except BaseException:
            close_all(fds)
            raise
        return answer, fds

    def _readable(self, timeout_s: float) -> bool:
        # Not select(): a host may have more descriptors open than it can name.
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))

    def _receive(self) -> tuple[bytes, list[int], bool]:
        try:
            return self._layer.receive(self._connection, protocol.MAX_HELLO_BYTES)
        except ConnectionResetError:
            pass  # the daemon hung up before it read all; what it said comes next
        except OSError as error:
            raise _door_closed() from error
        try:
            return self._layer.receive(self._connection, protocol.MAX_HELLO_BYTES)
        except OSError as error:
            raise _door_closed() from error

    def fileno(self) -> int:
        """For polling: readable with nothing to read means that the daemon is gone."""
        return self._connection.fileno()

    def lost(self) -> bool:
        """Whether the daemon has hung up; never waits."""
        try:
            return not self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Give the lease back."""
        self._connection.close()


def _connect(connection: socket.socket, folder: Path, until: float) -> None:
    while True:
        try:
            connection.connect(str(folder / DOOR))
            return
        except BlockingIOError:
            # The backlog is full: somebody else is being served.
            if time.monotonic() > until:
                raise ConnectionFailed(
                    f"the daemon in {folder} accepts nobody: it may hang; stop and start it"
                ) from None
            time.sleep(0.01)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise _nobody(folder) from error
        except OSError as error:
            raise ConnectionFailed(
                f"cannot reach the daemon in {folder}: {error.strerror}"
            ) from error


def _door_closed() -> DaemonLost:
    return DaemonLost("the daemon closed the door: start it again")


def _answer(data: bytes) -> dict[str, Any]:
    try:
        return protocol.unpack(data, protocol.MAX_HELLO_BYTES)
    except MessageError as error:
        raise _not_ours() from error


def _not_ours() -> ConnectionFailed:
    return ConnectionFailed(
        "what answers at the door is no mattebridge daemon that this client understands: install "
        "the same mattebridge on both sides"
    )


def _nobody(folder: Path) -> ConnectionFailed:
    return ConnectionFailed(
        f"no daemon is running in {folder}: start one with `mattebridge serve --detach`"
    )


def check_slots(answer: Mapping[str, Any], fds: list[int], layer: oslayer.OsLayer) -> None:
    try:
        slots = [(int(entry["id"]), int(entry["bytes"])) for entry in answer["slots"]]
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours() from error
    if len(slots) != len(fds):
        raise ConnectionFailed(f"the daemon announced {len(slots)} arenas and sent {len(fds)}")
    for (_number, size_bytes), fd in zip(slots, fds):
        layer.check_memory(fd, size_bytes)


def check_welcome(welcome: Mapping[str, Any], folder: Path) -> None:
    """Raise `ConnectionFailed` unless a session can be built on this answer to a hello."""
    server, sid = welcome.get("server"), welcome.get("sid")
    if (
        welcome.get("proto") not in range(protocol.PROTOCOL_MIN, protocol.PROTOCOL_MAX + 1)
        or not isinstance(server, dict)
        or not isinstance(server.get("epoch"), int)
        or not isinstance(sid, bytes)
        or len(sid) != protocol.ID_BYTES
    ):
        raise _not_ours()
    if welcome.get("ctl") != endpoint(folder):
        raise ConnectionFailed(
            f"the daemon in {folder} names a control socket elsewhere: stop and start it"
        )


def close_all(fds: list[int]) -> None:
    """Close descriptors that nobody will use."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
