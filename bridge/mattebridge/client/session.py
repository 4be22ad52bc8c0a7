"""One lease of the daemon, seen from the client: a door, a few arenas, a control socket.

A session is born with a hello at the door and dies with its door connection. It owns the maps of
its arenas and knows whose turn each is (`Arena.lent`), sends requests and receives replies. It
knows nothing of mattes; `client.py` does.

Threads: any number may send; one at a time receives (`client.py` elects it). The ZeroMQ socket is
touched only under `_lock`, because it must not be used by two threads at once; waiting happens on
plain descriptors, outside the lock.

Runs on Python 3.9.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional, cast

import zmq

from mattebridge.errors import (
    ConnectionFailed,
    DaemonLost,
    LeaseError,
    MattebridgeError,
    MessageError,
    from_wire,
)
from mattebridge.version import __version__
from mattebridge.wire import protocol
from mattebridge.wire.door import Door, check_welcome, close_all
from mattebridge.wire.slots import SlotMap
from mattebridge.wire.transport import dealer, endpoint

# Plain integers: pyzmq's enums cost microseconds each, several times a message.
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
NOBLOCK, SNDMORE = int(zmq.NOBLOCK), int(zmq.SNDMORE)

# How long a reply may be behind the news that the daemon closed the door.
LAST_WORDS_S = 0.02
# So long after a request is sent its reply is looked for without sleeping: waking up would cost as
# much as a short answer takes.
EAGER_S = 0.0002

_contexts: dict[int, Any] = {}
_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


def _context() -> zmq.Context[Any]:
    """One ZeroMQ context a process; a forked child gets its own."""
    pid = os.getpid()
    if pid not in _contexts:
        _contexts[pid] = zmq.Context(io_threads=1)
    context: zmq.Context[Any] = _contexts[pid]
    return context


def _after_fork_in_child() -> None:
    # A child that keeps the door open would keep its parent's lease alive after a kill -9.
    # Its maps would keep the memory after the daemon has given it up.
    for session in list(_open_sessions):
        session.door.close()
        for arena in session.arenas.values():
            arena.memory.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Arena:
    """One arena of this session: its map, the generation last written, whose turn it is."""

    def __init__(self, number: int, memory: SlotMap) -> None:
        self.number = number
        self.memory = memory
        self.generation = 0
        self.busy = False  # being filled, lent to the daemon, or read out
        self.lost = False  # its session is over; unmapped when it comes back

    def give_back(self) -> None:
        """The arena is the client's again."""
        self.busy = False
        if self.lost:
            self.memory.close()


class Session:
    """An open lease. Made by `open`; `close` gives everything back."""

    def __init__(self, folder: Path, door: Door, welcome: Mapping[str, Any]) -> None:
        self.folder = folder
        self.door = door
        self.pid = os.getpid()
        self.version = int(welcome["proto"])
        self.server: dict[str, Any] = dict(welcome["server"])
        self.epoch = self.server["epoch"]
        self.sid: bytes = welcome["sid"]
        self.arenas: dict[int, Arena] = {}
        self._lock = threading.RLock()
        self._socket = dealer(_context(), endpoint(folder))
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        self._poller = select.poll()
        for fd in (self._socket.getsockopt(zmq.FD), self.door.fileno(), self._wake_read):
            self._poller.register(cast(int, fd), select.POLLIN)
        self._closed = False
        self._door_lost = False
        self._eager = False
        _open_sessions.add(self)

    @property
    def closed(self) -> bool:
        """Whether this lease is over."""
        return self._closed

    @classmethod
    def open(cls, folder: Path, *, name: str, host: str, user: Optional[str] = None) -> Session:
        """A lease without arenas; `ConnectionFailed` when no daemon listens in this folder.

        `user` is for who uses the daemon beyond this lease (docs/protocol.md, 2.1).
        """
        door = Door.knock(folder)
        try:
            hello = {
                "op": "hello",
                "proto": [protocol.PROTOCOL_MIN, protocol.PROTOCOL_MAX],
                "client": {
                    "name": name[:128],
                    "ver": __version__,
                    "host": host[:128],
                    "pid": os.getpid(),
                },
                "want": {"slots": 0, "bytes": 0},
                **({"user": user} if user else {}),
            }
            welcome, fds = door.ask(hello)
            close_all(fds)
            check_welcome(welcome, folder)
            return cls(folder, door, welcome)
        except DaemonLost as error:
            door.close()
            raise ConnectionFailed("the daemon closed the door during the hello") from error
        except BaseException:
            door.close()
            raise

    # -- arenas ---------------------------------------------------------------------------

    def resize(self, slots: int, size_bytes: int) -> None:
        """Ask for `slots` arenas of `size_bytes` in place of those there are.

        None of them may be busy. Raises `QuotaError` with the limit.
        """
        # Allocating is the slow part: a UHD arena of every plane takes about half a second.
        timeout_s = 5.0 + 5.0 * slots * size_bytes / (1 << 30)
        if self._closed:
            raise _over()
        try:
            answer, fds = self.door.ask(
                {"op": "resize", "want": {"slots": slots, "bytes": size_bytes}},
                timeout_s=timeout_s,
            )
        except (ConnectionFailed, DaemonLost):
            # An answer that comes late would be taken for the answer to the next question.
            self.close()
            raise
        for arena in self.arenas.values():
            arena.memory.close()
        self.arenas = {}
        for entry, fd in zip(answer["slots"], fds):
            self.arenas[entry["id"]] = Arena(entry["id"], SlotMap(fd, entry["bytes"]))

    def free_arena(self, size_bytes: int) -> Optional[Arena]:
        """An idle arena of at least this size, marked busy; None when there is none."""
        with self._lock:
            for arena in self.arenas.values():
                if not arena.busy and arena.memory.size_bytes >= size_bytes:
                    arena.busy = True
                    return arena
        return None

    # -- messages -------------------------------------------------------------------------

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one request; `MessageTooLarge` before, `DaemonLost` when nobody takes it."""
        if self.pid != os.getpid():
            raise LeaseError(
                "this client was made before a fork: connect again in the child process"
            )
        body = protocol.pack({"v": self.version, "sid": self.sid, **message})
        with self._lock:
            if self._closed:
                raise _over()
            try:
                self._send_tag()
                self._socket.send(body)
            except zmq.Again as error:
                raise DaemonLost("the daemon takes no messages: it was stopped or hangs") from error
            except zmq.ZMQError as error:
                raise DaemonLost("the control connection broke: connect again") from error
            self._eager = True
            # Sending may have swallowed the signal that a reply is there; pass it on.
            if self._readable():
                self._wake()

    def _send_tag(self) -> None:
        try:
            self._socket.send(protocol.MAGIC, NOBLOCK | SNDMORE)
        except zmq.Again:
            # Not connected, or full. Waiting helps only where somebody is there.
            if self.door.lost():
                raise DaemonLost("the daemon went away") from None
            self._socket.send(protocol.MAGIC, SNDMORE)

    def receive(self, timeout_s: float) -> list[dict[str, Any]]:
        """The replies that are there, or that come within `timeout_s`; may be empty.

        Raises `DaemonLost` when the door was closed by the daemon and no reply is left.
        """
        replies = self._drain() or self._drain_eagerly(timeout_s)
        if replies:
            return replies
        if self._closed:
            raise _over()
        if self._door_lost:
            timeout_s = LAST_WORDS_S
        ready = dict(self._poller.poll(max(0.0, timeout_s) * 1000))
        if self._wake_read in ready:
            self._awake()
        if self.door.fileno() in ready and self.door.lost():
            # The last replies and the end of the door come by two ways; the replies may be slower.
            self._poller.unregister(self.door.fileno())
            self._door_lost = True
            return self.receive(LAST_WORDS_S)
        replies = self._drain()
        if self._door_lost and not replies:
            raise DaemonLost("the daemon went away while a request was out")
        return replies

    def _awake(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):
            # Once closed, the number may be that of a file of the host's.
            if not self._closed:
                os.read(self._wake_read, 512)

    def _drain_eagerly(self, timeout_s: float) -> list[dict[str, Any]]:
        """What comes at once after a request was sent."""
        if not self._eager:
            return []
        self._eager = False
        replies: list[dict[str, Any]] = []
        until = time.perf_counter() + min(timeout_s, EAGER_S)
        while not replies and time.perf_counter() < until:
            replies = self._drain()
        return replies

    def _drain(self) -> list[dict[str, Any]]:
        replies: list[dict[str, Any]] = []
        with self._lock:
            # One at a time: the caller comes back, and looks here before it waits.
            while not replies and not self._closed and self._readable():
                reply = _decode(self._socket.recv_multipart(NOBLOCK), self.epoch)
                if reply is not None:
                    replies.append(reply)
        return replies

    def _readable(self) -> bool:
        return bool(cast(int, self._socket.getsockopt(EVENTS)) & POLLIN)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def close(self, *, keep_maps: bool = False) -> None:
        """Give the lease back. With `keep_maps` busy arenas stay readable (for a re-attach)."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.door.close()
            if self.pid == os.getpid():
                self._socket.close(0)
            os.close(self._wake_read)
            os.close(self._wake_write)
        _open_sessions.discard(self)
        for arena in self.arenas.values():
            arena.lost = True
            if not (keep_maps and arena.busy):
                arena.memory.close()


def _over() -> DaemonLost:
    return DaemonLost("the session is closed: connect again")


def _decode(parts: list[bytes], epoch: Any) -> Optional[dict[str, Any]]:
    """A reply of this daemon run, or None for anything that is not one."""
    if len(parts) != 2 or parts[0] != protocol.MAGIC:
        return None
    try:
        reply = protocol.unpack(parts[1])
    except MessageError:
        return None
    if reply.get("epoch") != epoch or not isinstance(reply.get("op"), str):
        return None
    return reply if isinstance(reply.get("id"), bytes) else None


def error_of(reply: Mapping[str, Any]) -> MattebridgeError:
    """The exception that an error reply stands for."""
    return from_wire(
        str(reply.get("code")),
        str(reply.get("message")),
        bool(reply.get("retry")),
        protocol.error_details(reply),
    )
