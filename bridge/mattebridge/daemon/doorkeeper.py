"""The door: who may connect, which memory each connection is lent, and when a lease ends.

    accept --> hello --> quotas --> allocate (helper thread) --> welcome, arenas --> resize ...
                                                             connection closed --> lease ended

A *lease* is one open door connection. It owns arenas (sealed memfds, allocated here and nowhere
else) and ends when its connection is closed, whatever happened to the process at the other end.
Quotas are checked before anything is allocated. The allocation runs on the helper thread, because
the pages of a UHD arena take longer than the loop may be blocked.

Order of checks at a hello: user, message, protocol, draining, counts and bytes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from mattebridge.daemon.admission import WithoutHello, check_sessions, too_many_sessions
from mattebridge.daemon.leases import ArenaRecord, Lease
from mattebridge.daemon.limits import RESERVED_BYTES, Limits
from mattebridge.errors import (
    BusyError,
    DrainingError,
    MattebridgeError,
    MessageError,
    QuotaError,
    UidError,
    one_line,
)
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.connection import Connection
from mattebridge.wire.door import close_all
from mattebridge.wire.folder import DOOR
from mattebridge.wire.slots import ROUND_BYTES
from mattebridge.wire.transport import endpoint

if TYPE_CHECKING:
    from mattebridge.daemon.loop import Helper, Loop

log = logging.getLogger(__name__)

BACKLOG = 128
# Descriptors kept free for the log, the status, the workers and the like, and for the connection
# of each client to the control socket.
SPARE_FDS = 32
REMEMBERED_USERS = 64


class Doorkeeper:
    """The listening socket and all leases."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        loop: Loop,
        helper: Helper,
        *,
        identity: dict[str, Any],
        lost: Callable[[Lease], None],
        freed: Callable[[list[int]], None],
    ) -> None:
        self._folder, self._limits = folder, limits
        self._loop, self._helper = loop, helper
        self._identity, self._lost, self._freed = identity, lost, freed
        self._layer = oslayer.current()
        self.leases: dict[bytes, Lease] = {}
        self.users: dict[str, None] = {}
        self._without_hello = WithoutHello()
        self._reserved_bytes = 0
        self.draining = False
        self.refusals: Counter[str] = Counter()
        self.last_used = time.monotonic()
        self._paused_until = 0.0
        self._listening = False
        self._spare_fd: Optional[int] = os.open(os.devnull, os.O_RDONLY)
        self._listener = self._layer.bind(folder / DOOR)

    def open(self) -> None:
        """Begin to accept."""
        self._listener.listen(BACKLOG)
        self._listen(True)

    def close(self) -> None:
        """Stop accepting and close every lease."""
        self._listen(False)
        self._listener.close()
        for lease in [*self._without_hello, *self.leases.values()]:
            self.end(lease)

    @property
    def used_bytes(self) -> int:
        """Memory that is lent or being allocated."""
        lent = sum(lease.arena_bytes for lease in self.leases.values())
        return lent + self._reserved_bytes

    def in_use(self) -> bool:
        """Whether a session has arenas, which delays the idle exit and `stop --if-unused`."""
        return any(lease.arenas or lease.retired for lease in self.leases.values())

    def add_user(self, name: str) -> None:
        """Remember a user that counts until it runs `stop`; this also restarts the idle time."""
        self.users.pop(name, None)
        self.users[name] = None
        while len(self.users) > REMEMBERED_USERS:
            del self.users[next(iter(self.users))]
        self.last_used = time.monotonic()

    def tick(self, now: float) -> None:
        """Close connections that send no hello in time; accept again after a pause."""
        for lease in self._without_hello.silent_since(now - self._limits.hello_s):
            self.refusals["hello_timeout"] += 1
            self.end(lease)
        if not self._listening and now >= self._paused_until:
            self._listen(True)
        if self.in_use():
            self.last_used = now

    # -- connections --------------------------------------------------------------------------

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._listening:
            self._loop.watch(self._listener.fileno(), self._accept)
        elif not wanted and self._listening:
            self._loop.forget(self._listener.fileno())
        self._listening = wanted

    def _accept(self) -> None:
        try:
            connection = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse_without_descriptors()
            return
        lease = Lease(connection)
        if lease.peer.uid != self._layer.user_id():
            self._refuse(
                lease, UidError(f"this daemon belongs to another user: {self._layer.same_user}")
            )
            return
        if self._layer.free_descriptors() < reserved_descriptors() + SPARE_FDS:
            self._refuse(lease, _no_descriptors())
            return
        self._loop.watch(connection.fileno(), lambda: self._receive(lease))
        silent = self._without_hello.add(lease)
        if silent is not None:
            self.refusals["too_many_without_hello"] += 1
            self.end(silent)

    def _refuse_without_descriptors(self) -> None:
        """Refuse one connection with the descriptor kept for this, then pause: never spin."""
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
        with contextlib.suppress(OSError):
            connection = self._listener.accept()
            self._send(connection, {"op": "error", **protocol.error_fields(_no_descriptors())})
            connection.close()
        with contextlib.suppress(OSError):
            self._spare_fd = os.open(os.devnull, os.O_RDONLY)
        self.refusals["E_QUOTA"] += 1
        self._listen(False)
        self._paused_until = time.monotonic() + 0.2

    def _receive(self, lease: Lease) -> None:
        try:
            data, fds, cut = lease.connection.receive(protocol.MAX_HELLO_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.end(lease)
            return
        close_all(fds)  # the daemon accepts no descriptors
        if not data:
            self.end(lease)
            return
        try:
            if cut or fds:
                raise MessageError(
                    "a record at the door has at most 4096 bytes and no descriptors", field=""
                )
            message = protocol.unpack(data, protocol.MAX_HELLO_BYTES)
            if lease.accepted:
                self._resize(lease, protocol.validate_door(message, "resize")["want"])
            elif lease.allocating:
                raise MessageError(
                    "a second hello before the reply to the first: wait for it", field="op"
                )
            else:
                self._hello(lease, protocol.validate_door(message, "hello"))
        except MattebridgeError as error:
            self._refuse(lease, error)
        except Exception:
            log.exception("a door message could not be handled")
            self.end(lease)

    def _hello(self, lease: Lease, hello: dict[str, Any]) -> None:
        version = protocol.negotiate(hello["proto"])
        lease.client = hello["client"]
        want = hello["want"]
        if self.draining and (want["slots"] or hello["user"]):
            raise _draining()
        if want["slots"]:
            self._check_quota(lease, want["slots"], want["bytes"], 0)
        check_sessions(self.leases.values(), lease.peer.pid, self._limits.sessions)
        if hello["user"]:
            self.add_user(hello["user"])
        welcome = {
            "op": "welcome",
            "proto": version,
            "server": self._identity,
            "sid": lease.sid,
            "ctl": endpoint(self._folder),
        }
        self._allocate(lease, want["slots"], want["bytes"], welcome)

    def _resize(self, lease: Lease, want: dict[str, Any]) -> None:
        if lease.allocating:
            raise BusyError(
                "the last resize is not finished: wait for its reply", retry_after_ms=50
            )
        if want["slots"]:
            if self.draining:
                raise _draining()
            free = sum(a.size_bytes for a in lease.arenas.values() if a.lent_to is None)
            self._check_quota(lease, want["slots"], want["bytes"], free)
        self._allocate(lease, want["slots"], want["bytes"], {"op": "resized"})

    # -- memory -------------------------------------------------------------------------------

    def _check_quota(self, lease: Lease, arenas: int, size_bytes: int, freed_bytes: int) -> None:
        limits = self._limits
        wanted = arenas * _arena_size(size_bytes)
        everyone = [*self._without_hello, *self.leases.values()]
        holders = [other for other in everyone if other.arenas or other.allocating]
        if lease not in holders and len(holders) >= limits.sessions:
            raise too_many_sessions(len(holders))
        if arenas > limits.arenas_per_session:
            raise QuotaError(
                f"{arenas} arenas asked for; a session has at most {limits.arenas_per_session}",
                limit="arenas",
                retry=False,
            )
        for name, have, used in (
            ("session_bytes", limits.session_bytes, lease.arena_bytes),
            ("slot_bytes", limits.slot_bytes, self.used_bytes),
        ):
            left = have - used + freed_bytes
            if wanted > left:
                raise QuotaError(
                    f"{arenas} arenas of {_arena_size(size_bytes) >> 20} MiB asked for; "
                    f"{max(0, left) >> 20} MiB are left of {name} ({have >> 20} MiB): ask for "
                    "fewer outputs, half floats or fewer frames in flight, or raise "
                    f"MATTEBRIDGE_{name.upper()}",
                    limit=name,
                    retry=name == "slot_bytes",
                )
        available = self._layer.available_memory_bytes() - RESERVED_BYTES - self._reserved_bytes
        if wanted > available:
            raise QuotaError(
                f"{wanted >> 20} MiB of arenas asked for; the machine has "
                f"{max(0, available) >> 20} MiB available: close other programs or sessions",
                limit="memory",
            )
        if self._layer.free_descriptors() < reserved_descriptors() + SPARE_FDS + arenas:
            raise _no_descriptors()

    def _allocate(self, lease: Lease, arenas: int, size_bytes: int, reply: dict[str, Any]) -> None:
        if not arenas:
            self._grant(lease, [], 0, reply)
            return
        size_bytes = _arena_size(size_bytes)
        self._reserved_bytes += arenas * size_bytes
        lease.allocating = True

        def then(result: Any) -> None:
            self._reserved_bytes -= arenas * size_bytes
            lease.allocating = False
            if isinstance(result, MattebridgeError):
                self._refuse(lease, result)
            elif isinstance(result, BaseException):
                log.error("allocating arenas failed: %r", result)
                self._refuse(
                    lease, QuotaError("the daemon has no memory for the arenas", limit="memory")
                )
            elif lease.closed:
                close_all(result)
            else:
                self._grant(lease, result, size_bytes, reply)

        self._helper.do(self._create(lease, arenas, size_bytes), then, owner=lease.sid)

    def _create(
        self, lease: Lease, arenas: int, size_bytes: int
    ) -> Generator[None, None, list[int]]:
        """The arenas, in steps; none where the lease ends meanwhile."""
        fds: list[int] = []
        try:
            while len(fds) < arenas:
                fds.append((yield from _while_open(lease, self._layer.allocate_memory(size_bytes))))
        except _LeaseEndedError:
            close_all(fds)
            return []
        except BaseException:
            close_all(fds)
            raise
        return fds

    def _grant(self, lease: Lease, fds: list[int], size_bytes: int, reply: dict[str, Any]) -> None:
        if not lease.accepted:
            lease.accepted = True
            self._without_hello.remove(lease)
            self.leases[lease.sid] = lease
            log.info("session opened: client=%s pid=%d", _shown(lease.client), lease.peer.pid)
        self._retire(lease)
        for fd in fds:
            arena = ArenaRecord(lease.next_arena, fd, size_bytes)
            lease.next_arena += 1
            lease.arenas[arena.number] = arena
        slots = [{"id": a.number, "bytes": a.size_bytes} for a in lease.arenas.values()]
        try:
            self._send(lease.connection, {**reply, "slots": slots}, tuple(fds))
        except OSError:
            self.end(lease)

    def _retire(self, lease: Lease) -> None:
        """Free the arenas that new ones replace; lent ones are freed when they come back."""
        idle = [arena for arena in lease.arenas.values() if arena.lent_to is None]
        lease.retired += [arena for arena in lease.arenas.values() if arena.lent_to is not None]
        lease.arenas = {}
        self._free(idle)

    def take_back(self, lease: Lease, arena: ArenaRecord) -> None:
        """A request no longer uses this arena; free it unless its session may use it again."""
        arena.lent_to = None
        if arena in lease.retired:
            lease.retired.remove(arena)
            self._free([arena])
        elif lease.closed and arena.number in lease.arenas:
            del lease.arenas[arena.number]
            self._free([arena])

    def _free(self, arenas: list[ArenaRecord]) -> None:
        for arena in arenas:
            self._layer.close_memory(arena.fd)
        if arenas:
            self._freed([arena.key for arena in arenas])

    # -- the end of a lease -------------------------------------------------------------------

    def end(self, lease: Lease) -> None:
        """Close a lease. Arenas that a worker still uses are freed when they come back."""
        if lease.closed:
            return
        lease.closed = True
        self._loop.forget(lease.connection.fileno())
        lease.connection.close()
        if self._without_hello.remove(lease):
            return
        log.info("session closed: client=%s pid=%d", _shown(lease.client), lease.peer.pid)
        self.leases.pop(lease.sid, None)
        self._lost(lease)
        for arena in [a for a in lease.arenas.values() if a.lent_to is None]:
            del lease.arenas[arena.number]
            self._free([arena])

    def _refuse(self, lease: Lease, error: MattebridgeError) -> None:
        """Reply with an error; close the connection if it has no lease yet."""
        self.refusals[error.code] += 1
        with contextlib.suppress(OSError):
            self._send(lease.connection, {"op": "error", **protocol.error_fields(error)})
        if not lease.accepted:
            self.end(lease)

    def _send(
        self, connection: Connection, message: dict[str, Any], fds: tuple[int, ...] = ()
    ) -> None:
        connection.send(protocol.pack(message, protocol.MAX_HELLO_BYTES), fds)


class _LeaseEndedError(Exception):
    """The lease that memory is being allocated for has ended."""


def _while_open(lease: Lease, steps: Generator[None, None, int]) -> Generator[None, None, int]:
    """The same steps, stopped when the lease has ended."""
    while True:
        if lease.closed:
            steps.close()
            raise _LeaseEndedError
        try:
            next(steps)
        except StopIteration as done:
            return int(done.value)
        yield


def _arena_size(size_bytes: int) -> int:
    return max(ROUND_BYTES, -(-size_bytes // ROUND_BYTES) * ROUND_BYTES)


def reserved_descriptors() -> int:
    """With fewer free descriptors than this, the control socket accepts no connections.

    ZeroMQ ends the process when there is no descriptor for a new connection, and it accepts
    connections in its own thread, as fast as they come: the margin must be wide.
    """
    return max(32, min(8192, oslayer.current().descriptor_limit() // 4))


def _no_descriptors() -> QuotaError:
    return QuotaError(
        "the daemon has no file descriptors left: close sessions, or start it with a higher limit"
        " of open files",
        limit="descriptors",
    )


def _draining() -> DrainingError:
    return DrainingError("the daemon is stopping: connect again in a moment, to the next daemon")


def _shown(client: dict[str, Any]) -> str:
    return one_line(f"{client.get('name', '?')}/{client.get('host', '')}", 80)
