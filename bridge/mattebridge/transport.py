"""The runtime folder, the door and the ZeroMQ sockets: how a client reaches the daemon.

    client --AF_UNIX "door"--> front     hello, welcome + descriptors of the arenas; the OPEN
                                         connection is the lease: closed means released
    client --ipc "ctl"-------> front     ZeroMQ DEALER to ROUTER, control messages only

Both sockets live in one folder that only the user can enter. The daemon binds them under a lock;
a client only ever connects. The rule that must not be broken: nothing here waits without a bound.

Runs on Python 3.9; needs pyzmq.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import select
import socket
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, Union

import zmq

from mattebridge import oslayer, protocol
from mattebridge.errors import (
    ConnectionFailed,
    DaemonLost,
    MessageError,
    UidError,
    UnsafeRuntimeError,
    from_wire,
)

# One instance a protocol major, so that two incompatible versions never fight over a folder.
DEFAULT_INSTANCE = "v1"
INSTANCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
# sockaddr_un holds 108 bytes with the final zero; libzmq and the kernel agree.
MAX_SOCKET_PATH = 107
DOOR, CTL, LOCK, STATUS, LOG = "door", "ctl", "lock", "status.json", "log"

HELLO_TIMEOUT_S = 5.0
HANDSHAKE_MS = 3000
HIGH_WATER_MARK = 64


def instance_name(name: Optional[str] = None) -> str:
    """The instance to talk to: the argument, else `MATTEBRIDGE_INSTANCE`, else the default.

    A name of another form (a farm's job id with capitals, say) becomes a digest of itself; `..`
    and anything with a slash is refused, because it would leave the folder.
    """
    wanted = name or os.environ.get("MATTEBRIDGE_INSTANCE") or DEFAULT_INSTANCE
    if "/" in wanted or ".." in wanted or "\0" in wanted:
        raise UnsafeRuntimeError(
            f"the instance name {wanted!r} would leave the runtime folder: use letters, digits, "
            "dots, dashes"
        )
    if INSTANCE.match(wanted):
        return wanted
    return "job-" + hashlib.sha256(wanted.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def runtime_folder(instance: Optional[str] = None) -> Path:
    """The folder of an instance's sockets; not created here.

    An absolute path (as the argument or in `MATTEBRIDGE_RUNTIME_DIR`) is taken as it is; else
    `$XDG_RUNTIME_DIR/mattebridge/NAME`, else `/run/user/UID/...`, else a folder of the user's own
    in the system's temporary directory. Never below the home directory: sockets and locks on a
    network file system do not hold.
    """
    explicit = instance if instance and os.path.isabs(instance) else None
    if explicit is None and not instance:
        explicit = os.environ.get("MATTEBRIDGE_RUNTIME_DIR")
    if explicit:
        if not os.path.isabs(explicit):
            raise UnsafeRuntimeError(
                f"MATTEBRIDGE_RUNTIME_DIR must be an absolute path; it is {explicit!r}"
            )
        folder = Path(explicit)
    else:
        folder = _runtime_root() / instance_name(instance)
    check_path_length(folder)
    return folder


def _runtime_root() -> Path:
    uid = os.getuid()
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    for candidate in (xdg, f"/run/user/{uid}"):
        if candidate and os.path.isabs(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate) / "mattebridge"
    return Path(tempfile.gettempdir()) / f"mattebridge-{uid}"


def check_path_length(folder: Path) -> None:
    """Raise `UnsafeRuntimeError` where a socket path in this folder would be too long."""
    longest = len(os.fsencode(folder / DOOR))
    if longest > MAX_SOCKET_PATH:
        raise UnsafeRuntimeError(
            f"the socket path {folder / DOOR} has {longest} bytes and the system's limit is "
            f"{MAX_SOCKET_PATH}: set MATTEBRIDGE_RUNTIME_DIR to a shorter folder"
        )


def check_folder(folder: Path) -> None:
    """Raise `UnsafeRuntimeError` unless the folder is ours alone: owner, directory, mode 0700."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafeRuntimeError(f"cannot look at {folder}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeRuntimeError(f"{folder} is not a folder (a link?): remove it and start again")
    if found.st_uid != os.geteuid():
        raise UnsafeRuntimeError(
            f"{folder} belongs to user {found.st_uid}: set MATTEBRIDGE_RUNTIME_DIR to a folder of "
            "your own"
        )
    if found.st_mode & 0o077:
        raise UnsafeRuntimeError(
            f"{folder} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"run chmod 700 on it"
        )


# ---------------------------------------------------------------------------------------------
# The door, seen from the client


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
            _check_slots(answer, fds, self._layer)
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


def _check_slots(answer: Mapping[str, Any], fds: list[int], layer: oslayer.OsLayer) -> None:
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


# ---------------------------------------------------------------------------------------------
# ZeroMQ sockets


def dealer(context: zmq.Context[Any], endpoint: str) -> zmq.Socket[bytes]:
    """The client's end of the control channel. Never blocks, never queues for an absent daemon."""
    connection: zmq.Socket[bytes] = context.socket(zmq.DEALER)
    _common_options(connection)
    connection.setsockopt(zmq.IMMEDIATE, 1)
    connection.setsockopt(zmq.SNDTIMEO, 2000)
    connection.connect(endpoint)
    return connection


def router(context: zmq.Context[Any], folder: Path) -> zmq.Socket[bytes]:
    """The front's end. Only the holder of the lock may call this: a bind steals an endpoint."""
    connection: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    _common_options(connection)
    connection.setsockopt(zmq.ROUTER_MANDATORY, 1)
    connection.bind(endpoint(folder))
    return connection


def endpoint(folder: Union[str, Path]) -> str:
    """The ZeroMQ address of the control channel in a runtime folder."""
    return f"ipc://{folder}/{CTL}"


def _common_options(connection: zmq.Socket[bytes]) -> None:
    connection.setsockopt(zmq.LINGER, 0)
    connection.setsockopt(zmq.SNDHWM, HIGH_WATER_MARK)
    connection.setsockopt(zmq.RCVHWM, HIGH_WATER_MARK)
    connection.setsockopt(zmq.MAXMSGSIZE, protocol.MAX_MESSAGE_BYTES)
    connection.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
