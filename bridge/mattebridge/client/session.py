"""One lease of the daemon, seen from the client: a door, a few arenas, a control socket.

A session begins with a hello at the door and ends with its door connection. It owns the maps of its
arenas and knows which of them are in use (`Arena.busy`), sends requests and receives replies. It
knows nothing of mattes; connection.py and exchange.py do.

Threads: any number may send; one at a time receives (exchange.py chooses which). The rule that must
not be broken: the control channel is touched only under `_lock`, because two threads must not use
it at once. Waiting happens on plain descriptors, outside the lock.

Runs on Python 3.9.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import (
    ConnectionFailed,
    DaemonLost,
    LeaseError,
    MessageError,
    VersionError,
)
from mattebridge.version import __version__
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.door import Door, check_welcome, close_all
from mattebridge.wire.slots import SlotMap
from mattebridge.wire.transport import open_channel

# How much later than the end of the door the last replies may arrive: they are in the system's
# buffer by then, and the thread of ZeroMQ has to get its turn on a busy machine. That a daemon was
# killed is reported this much later.
LAST_REPLIES_S = 1.0
# For this long after a request was sent its reply is looked for without sleeping: waking up would
# take as long as a short reply does.
EAGER_S = 0.0002

_open_sessions: weakref.WeakSet[Session] = weakref.WeakSet()


class Arena:
    """One arena of this session: its map, the generation last written, whether it is in use."""

    def __init__(self, number: int, memory: SlotMap) -> None:
        self.number = number
        self.memory = memory
        self.generation = 0
        self.busy = False  # being filled, lent to the daemon, or read out
        self.lost = False  # its session is over: unmapped when it is given back

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Around writing pixels: they get a new generation, complete at the end."""
        self.generation += 1
        self.memory.write_begin(self.generation)
        yield
        self.memory.write_end(self.generation)

    def give_back(self) -> None:
        """The arena is free for another request."""
        self.busy = False
        if self.lost:
            self.memory.close()


class Session:
    """An open lease. Made by `open`; `close` ends it."""

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
        self._channel = open_channel(folder)
        self._layer = oslayer.current()
        self._wake_up = self._layer.wake_up()
        # Their numbers, not the objects: another thread may close those during a wait.
        self._door_fd, self._wake_fd = door.fileno(), self._wake_up.fileno()
        self._sources = {self._channel.fileno(), self._door_fd, self._wake_fd}
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

        `user` uses the daemon beyond this lease (docs/protocol.md, 2.1).
        """
        door = Door.connect(folder)
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
        except (VersionError, MessageError) as error:
            pid = door.peer().pid
            door.close()
            if isinstance(error, MessageError) and not error.details.get("field"):
                raise  # the hello could not be packed, and was not sent
            raise type(error)(
                f"{error.message}. The daemon in {folder} is process {pid}: `mattebridge stop` "
                "ends it",
                **{**error.details, "pid": pid},
            ) from error
        except BaseException:
            door.close()
            raise

    # -- arenas ---------------------------------------------------------------------------

    def resize(self, count: int, size_bytes: int) -> None:
        """Ask for `count` arenas of `size_bytes` in place of those there are.

        None of them may be busy. Raises `QuotaError` with the limit.
        """
        # Allocating is the slow part: a UHD arena of every plane takes about half a second.
        timeout_s = 5.0 + 5.0 * count * size_bytes / (1 << 30)
        if self._closed:
            raise _over()
        try:
            reply, fds = self.door.ask(
                {"op": "resize", "want": {"slots": count, "bytes": size_bytes}},
                timeout_s=timeout_s,
            )
        except (ConnectionFailed, DaemonLost):
            # A reply that comes late would be taken for the reply to the next record.
            self.close()
            raise
        for arena in self.arenas.values():
            arena.memory.close()
        self.arenas = {}
        for entry, fd in zip(reply["slots"], fds):
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
        """Send one request; raises `MessageTooLarge`, or `DaemonLost` when it cannot be sent."""
        if self.pid != os.getpid():
            raise LeaseError(
                "this client was made before a fork: connect again in the child process"
            )
        body = protocol.pack({"v": self.version, "sid": self.sid, **message})
        with self._lock:
            if self._closed:
                raise _over()
            try:
                self._channel.send(body, self.door.lost)
            except BlockingIOError as error:
                raise DaemonLost("the daemon takes no messages: it was stopped or hangs") from error
            except ConnectionAbortedError as error:
                raise DaemonLost("the daemon has ended") from error
            except ConnectionError as error:
                raise DaemonLost("the control connection broke: connect again") from error
            self._eager = True
            # Sending may have taken the signal that a reply is there from the thread that waits.
            if self._channel.readable():
                self._wake_up.wake()

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
            return self._last_replies()
        if self._door_fd in self._wait(timeout_s) and self.door.lost():
            self._sources.discard(self._door_fd)
            self._door_lost = True
            return self._last_replies()
        return self._drain()

    def _last_replies(self) -> list[dict[str, Any]]:
        """The replies that come after the end of the door; raises `DaemonLost` where none does.

        The two come by two ways, and what wakes this thread in between need not be a reply.
        """
        until = time.monotonic() + LAST_REPLIES_S
        while not (replies := self._drain()):
            if self._closed:
                raise _over()
            if time.monotonic() >= until:
                raise DaemonLost("the daemon ended while a request was out")
            self._wait(until - time.monotonic())
        return replies

    def _wait(self, timeout_s: float) -> set[int]:
        """Which of the sources are readable, within `timeout_s`."""
        ready = self._layer.wait(self._sources, timeout_s)
        if self._wake_fd in ready:
            self._clear_wake_up()
        return ready

    def _clear_wake_up(self) -> None:
        with self._lock:
            # Once closed, the number may be that of a file of the host's.
            if not self._closed:
                self._wake_up.clear()

    def _drain_eagerly(self, timeout_s: float) -> list[dict[str, Any]]:
        """The replies that come at once after a request was sent."""
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
            while not replies and not self._closed and self._channel.readable():
                try:
                    parts = self._channel.receive()
                except ConnectionResetError:
                    self._door_lost = True  # nothing else will come
                    break
                reply = decode(parts, self.epoch)
                if reply is not None:
                    replies.append(reply)
        return replies

    def close(self, *, keep_maps: bool = False) -> None:
        """End the lease. With `keep_maps` busy arenas stay readable (for a re-attach)."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.door.close()
            if self.pid == os.getpid():
                self._channel.close()
            self._wake_up.close()
        _open_sessions.discard(self)
        for arena in self.arenas.values():
            arena.lost = True
            if not (keep_maps and arena.busy):
                arena.memory.close()


def decode(parts: list[bytes], epoch: Any) -> Optional[dict[str, Any]]:
    """A reply of this daemon run, or None for anything that is not one.

    Raises `DaemonLost` for a final reply that cannot be understood: nothing else will come for its
    request, and which arena is back is not known.
    """
    if len(parts) != 2 or parts[0] != protocol.MAGIC:
        return None
    try:
        reply = protocol.unpack(parts[1])
    except MessageError:
        return None
    if reply.get("epoch") != epoch or not isinstance(reply.get("op"), str):
        return None
    if not isinstance(reply.get("id"), bytes) or reply["op"] not in protocol.REPLIES:
        return None
    try:
        return protocol.validate_reply(reply)
    except MessageError as error:
        if reply["op"] == "progress":
            return None
        raise DaemonLost(
            f"the daemon's reply was not understood ({error.message}): install the same "
            "mattebridge on both sides"
        ) from error


def _over() -> DaemonLost:
    return DaemonLost("the session is closed: connect again")


def _after_fork_in_child() -> None:
    # A child that keeps the door open would keep its parent's lease alive after a kill -9, and
    # its maps would keep memory that the daemon has freed.
    for session in list(_open_sessions):
        session.door.close()
        for arena in session.arenas.values():
            arena.memory.close()


oslayer.call_after_fork(_after_fork_in_child)
