"""The door: who may come in, what memory each visitor is lent, and when a visit is over.

A *lease* is one open door connection. It owns arenas (sealed memfds, allocated here and nowhere
else) and ends the moment its connection does, whatever became of the process behind it. Quotas
are checked before anything is allocated; allocation itself runs on the helper thread, because the
pages of a UHD arena take longer than the loop may stand still.

Order of checks at a hello: user, message, protocol, draining, counts and bytes.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from mattebridge.daemon.leases import ArenaRecord, Lease
from mattebridge.daemon.limits import RESERVED_BYTES, Limits, available_memory_bytes
from mattebridge.errors import (
    BusyError,
    DrainingError,
    MattebridgeError,
    MessageError,
    QuotaError,
    UidError,
)
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.door import close_all
from mattebridge.wire.folder import DOOR
from mattebridge.wire.slots import ROUND_BYTES
from mattebridge.wire.transport import endpoint

if TYPE_CHECKING:
    from mattebridge.daemon.loop import Helper, Loop

log = logging.getLogger(__name__)

BACKLOG = 128
# Visitors that have connected and not yet said hello; more than this many wait in the backlog.
MAX_UNGREETED = 64
# Descriptors kept free for log, status, workers and the like, and for each visitor's own
# connection to the control socket.
SPARE_FDS = 32
REMEMBERED_USERS = 64
# Sessions without arenas (status, stop) are exempt from the limit, but not without number.
SESSIONS_FOR_EACH_WITH_ARENAS = 4


class Doorkeeper:
    """The listening socket and all leases."""

    def __init__(
        self,
        folder: Path,
        limits: Limits,
        loop: Loop,
        helper: Helper,
        *,
        describe: Callable[[], dict[str, Any]],
        lost: Callable[[Lease], None],
        freed: Callable[[list[int]], None],
    ) -> None:
        self._folder, self._limits = folder, limits
        self._loop, self._helper = loop, helper
        self._describe, self._lost, self._freed = describe, lost, freed
        self._layer = oslayer.current()
        self.leases: dict[bytes, Lease] = {}
        self.users: dict[str, None] = {}
        self._ungreeted: list[Lease] = []
        self._reserved_bytes = 0
        self.draining = False
        self.refusals: dict[str, int] = {}
        self.last_used = time.monotonic()
        self._paused_until = 0.0
        self._listening = False
        self._spare_fd: Optional[int] = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setblocking(False)
        self._socket.bind(str(folder / DOOR))

    def open(self) -> None:
        """Begin to accept."""
        self._socket.listen(BACKLOG)
        self._listen(True)

    def close(self) -> None:
        """Send everybody home."""
        self._listen(False)
        self._socket.close()
        for lease in [*self._ungreeted, *self.leases.values()]:
            self.end(lease)

    @property
    def used_bytes(self) -> int:
        """Memory lent out or being allocated."""
        lent = sum(lease.arena_bytes for lease in self.leases.values())
        return lent + self._reserved_bytes

    def in_use(self) -> bool:
        """Whether anybody holds arenas: what the idle exit asks, and `stop --if-unused` too."""
        return any(lease.arenas or lease.retired for lease in self.leases.values())

    def add_user(self, name: str) -> None:
        """Remember who will come back, and that there is use for us now."""
        self.users.pop(name, None)
        self.users[name] = None
        while len(self.users) > REMEMBERED_USERS:
            del self.users[next(iter(self.users))]
        self.last_used = time.monotonic()

    def tick(self, now: float) -> None:
        """Send away visitors that do not say hello; accept again after a pause."""
        for lease in list(self._ungreeted):
            if not lease.allocating and now - lease.opened > self._limits.hello_s:
                self._count("hello_timeout")
                self.end(lease)
        if not self._listening and now >= self._paused_until:
            self._listen(len(self._ungreeted) < MAX_UNGREETED)
        if self.in_use():
            self.last_used = now

    # -- visitors -----------------------------------------------------------------------------

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._listening:
            self._loop.watch(self._socket.fileno(), self._accept)
        elif not wanted and self._listening:
            self._loop.forget(self._socket.fileno())
        self._listening = wanted

    def _accept(self) -> None:
        try:
            connection, _address = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._turn_away_without_descriptors()
            return
        connection.setblocking(False)
        lease = Lease(connection, self._layer.peer(connection))
        if lease.peer.uid != os.geteuid():
            self._refuse(lease, UidError("this daemon belongs to another user: start your own"))
            return
        if free_descriptors() < reserved_descriptors() + SPARE_FDS:
            self._refuse(lease, _no_descriptors())
            return
        self._ungreeted.append(lease)
        self._loop.watch(connection.fileno(), lambda: self._hear(lease))
        if len(self._ungreeted) >= MAX_UNGREETED:
            self._listen(False)

    def _turn_away_without_descriptors(self) -> None:
        """Answer one visitor with the descriptor kept for this, then pause: never spin."""
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None
        with contextlib.suppress(OSError):
            connection, _address = self._socket.accept()
            connection.setblocking(False)
            self._send(connection, {"op": "error", **protocol.error_fields(_no_descriptors())})
            connection.close()
        with contextlib.suppress(OSError):
            self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._count("E_QUOTA")
        self._listen(False)
        self._paused_until = time.monotonic() + 0.2

    def _hear(self, lease: Lease) -> None:
        try:
            data, fds, cut = self._layer.receive(lease.connection, protocol.MAX_HELLO_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.end(lease)
            return
        close_all(fds)  # nobody's descriptors are ever accepted
        if not data:
            self.end(lease)
            return
        try:
            if cut or fds:
                raise MessageError(
                    "a record at the door is at most 4096 bytes, without files", field=""
                )
            message = protocol.unpack(data, protocol.MAX_HELLO_BYTES)
            if lease.greeted:
                self._resize(lease, protocol.validate_door(message, "resize")["want"])
            elif lease.allocating:
                raise MessageError("one hello is enough: wait for the answer", field="op")
            else:
                self._greet(lease, protocol.validate_door(message, "hello"))
        except MattebridgeError as error:
            self._refuse(lease, error)
        except Exception:
            log.exception("a visitor could not be served")
            self.end(lease)

    def _greet(self, lease: Lease, hello: dict[str, Any]) -> None:
        version = protocol.negotiate(hello["proto"])
        lease.client = hello["client"]
        want = hello["want"]
        if self.draining and (want["slots"] or hello["user"]):
            raise _draining()
        if want["slots"]:
            self._check_quota(lease, want["slots"], want["bytes"], 0)
        if len(self.leases) >= SESSIONS_FOR_EACH_WITH_ARENAS * self._limits.sessions:
            raise _too_many_sessions(len(self.leases))
        if hello["user"]:
            self.add_user(hello["user"])
        welcome = {
            "op": "welcome",
            "proto": version,
            "server": self._describe(),
            "sid": lease.sid,
            "ctl": endpoint(self._folder),
        }
        self._allocate(lease, want["slots"], want["bytes"], welcome)

    def _resize(self, lease: Lease, want: dict[str, Any]) -> None:
        if lease.allocating:
            raise BusyError("the last resize is not finished", retry_after_ms=50)
        if want["slots"]:
            if self.draining:
                raise _draining()
            free = sum(a.size_bytes for a in lease.arenas.values() if a.lent_to is None)
            self._check_quota(lease, want["slots"], want["bytes"], free)
        self._allocate(lease, want["slots"], want["bytes"], {"op": "resized"})

    # -- memory -------------------------------------------------------------------------------

    def _check_quota(self, lease: Lease, slots: int, size_bytes: int, given_back: int) -> None:
        limits = self._limits
        wanted = slots * _arena_size(size_bytes)
        holders = [other for other in self.leases.values() if other.arenas or other.allocating]
        if lease not in holders and len(holders) >= limits.sessions:
            raise _too_many_sessions(len(holders))
        if slots > limits.arenas_per_session:
            raise QuotaError(
                f"{slots} arenas asked for; a session has at most {limits.arenas_per_session}",
                limit="arenas",
                retry=False,
            )
        for name, have, used in (
            ("session_bytes", limits.session_bytes, lease.arena_bytes),
            ("slot_bytes", limits.slot_bytes, self.used_bytes),
        ):
            if used - given_back + wanted > have:
                raise QuotaError(
                    f"{slots} arenas of {_arena_size(size_bytes) >> 20} MiB asked for; "
                    f"{max(0, have - used + given_back) >> 20} MiB are left of {name} "
                    f"({have >> 20} MiB): ask for fewer outputs, half floats or fewer frames in "
                    f"flight, or raise MATTEBRIDGE_{name.upper()}",
                    limit=name,
                    retry=name == "slot_bytes",
                )
        available = available_memory_bytes() - RESERVED_BYTES - self._reserved_bytes
        if wanted > available:
            raise QuotaError(
                f"{wanted >> 20} MiB of arenas asked for and the machine has "
                f"{max(0, available) >> 20} MiB to spare: close other programs or sessions",
                limit="memory",
            )
        if free_descriptors() < reserved_descriptors() + SPARE_FDS + slots:
            raise _no_descriptors()

    def _allocate(self, lease: Lease, slots: int, size_bytes: int, answer: dict[str, Any]) -> None:
        if not slots:
            self._hand_over(lease, [], 0, answer)
            return
        size_bytes = _arena_size(size_bytes)
        self._reserved_bytes += slots * size_bytes
        lease.allocating = True

        def then(result: Any) -> None:
            self._reserved_bytes -= slots * size_bytes
            lease.allocating = False
            if isinstance(result, MattebridgeError):
                self._refuse(lease, result)
            elif isinstance(result, BaseException):
                log.error("allocating arenas failed: %r", result)
                self._refuse(lease, QuotaError("no memory for arenas", limit="memory"))
            elif lease.closed:
                close_all(result)
            else:
                self._hand_over(lease, result, size_bytes, answer)

        self._helper.do(lambda: self._create(slots, size_bytes), then)

    def _create(self, slots: int, size_bytes: int) -> list[int]:
        fds: list[int] = []
        try:
            for _ in range(slots):
                fds.append(self._layer.create_memory(size_bytes))
        except BaseException:
            close_all(fds)
            raise
        return fds

    def _hand_over(
        self, lease: Lease, fds: list[int], size_bytes: int, answer: dict[str, Any]
    ) -> None:
        if not lease.greeted:
            lease.greeted = True
            self._ungreeted.remove(lease)
            self.leases[lease.sid] = lease
            log.info("session opened: client=%s pid=%d", _shown(lease.client), lease.peer.pid)
        self._retire(lease)
        for fd in fds:
            arena = ArenaRecord(lease.next_arena, fd, size_bytes)
            lease.next_arena += 1
            lease.arenas[arena.number] = arena
        slots = [{"id": a.number, "bytes": a.size_bytes} for a in lease.arenas.values()]
        try:
            self._send(lease.connection, {**answer, "slots": slots}, tuple(fds))
        except OSError:
            self.end(lease)

    def _retire(self, lease: Lease) -> None:
        """The present arenas make room for new ones; those that are lent go when they return."""
        idle = [arena for arena in lease.arenas.values() if arena.lent_to is None]
        lease.retired += [arena for arena in lease.arenas.values() if arena.lent_to is not None]
        lease.arenas = {}
        self._free(idle)

    def returned(self, lease: Lease, arena: ArenaRecord) -> None:
        """An arena came back from a request; free it when nobody will use it again."""
        arena.lent_to = None
        if arena in lease.retired:
            lease.retired.remove(arena)
            self._free([arena])
        elif lease.closed and arena.number in lease.arenas:
            del lease.arenas[arena.number]
            self._free([arena])

    def _free(self, arenas: list[ArenaRecord]) -> None:
        for arena in arenas:
            os.close(arena.fd)
        if arenas:
            self._freed([arena.key for arena in arenas])

    # -- the end --------------------------------------------------------------------------------

    def end(self, lease: Lease) -> None:
        """Close a visit. Arenas that a worker still looks at stay until it lets go."""
        if lease.closed:
            return
        lease.closed = True
        self._loop.forget(lease.connection.fileno())
        lease.connection.close()
        if lease in self._ungreeted:
            self._ungreeted.remove(lease)
            return
        log.info("session closed: client=%s pid=%d", _shown(lease.client), lease.peer.pid)
        self.leases.pop(lease.sid, None)
        self._lost(lease)
        for arena in [a for a in lease.arenas.values() if a.lent_to is None]:
            del lease.arenas[arena.number]
            self._free([arena])

    def _refuse(self, lease: Lease, error: MattebridgeError) -> None:
        """Answer with an error. A visitor that was never let in is sent away with it."""
        self._count(error.code)
        with contextlib.suppress(OSError):
            self._send(lease.connection, {"op": "error", **protocol.error_fields(error)})
        if not lease.greeted:
            self.end(lease)

    def _send(
        self, connection: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()
    ) -> None:
        oslayer.send_record(connection, protocol.pack(message, protocol.MAX_HELLO_BYTES), fds)

    def _count(self, what: str) -> None:
        self.refusals[what] = self.refusals.get(what, 0) + 1


def _arena_size(size_bytes: int) -> int:
    return max(ROUND_BYTES, -(-size_bytes // ROUND_BYTES) * ROUND_BYTES)


def free_descriptors() -> int:
    """How many more files this process may open."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        return soft - len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0  # not even one to look


def reserved_descriptors() -> int:
    """Below this number the control socket takes no new connections.

    ZeroMQ ends the process when there is none left for a connection, and takes them in a thread
    of its own, as fast as they come: the margin must be wide.
    """
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(32, min(8192, soft // 4))


def _no_descriptors() -> QuotaError:
    return QuotaError(
        "the daemon has no file descriptors left: close sessions or raise its limit (ulimit -n)",
        limit="descriptors",
    )


def _too_many_sessions(found: int) -> QuotaError:
    return QuotaError(
        f"{found} sessions are open and the daemon serves no more: close some, or raise "
        "MATTEBRIDGE_MAX_SESSIONS",
        limit="sessions",
    )


def _draining() -> DrainingError:
    return DrainingError("the daemon is stopping: try again in a moment, a new one will answer")


def _shown(client: dict[str, Any]) -> str:
    return protocol.clean_text(f"{client.get('name', '?')}/{client.get('host', '')}", 80)
