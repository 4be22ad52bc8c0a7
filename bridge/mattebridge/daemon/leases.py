"""Leases, the arenas lent under them, and the requests that use the arenas.

    Lease --arenas--> ArenaRecord --lent_to--> Request --lease--> Lease

A lease is one open door connection; closing it ends all that belongs to it. A request exists from
the message that brought it until its one final reply is given and its arena is back.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

import msgpack

from mattebridge.wire import protocol
from mattebridge.wire.connection import Connection
from mattebridge.wire.planes import Plane

if TYPE_CHECKING:
    from mattebridge.daemon.held_plates import HeldCleanPlate

REMEMBERED_REPLIES = 64

_memory_keys = itertools.count(1)
_jobs = itertools.count(1)

# What makes two messages with one id the same request: every field except these.
_IGNORED = ("deadline_ms", "v", "sid")


def next_memory_key() -> int:
    """A number for one piece of memory, unique in this daemon run (arenas and clean plates)."""
    return next(_memory_keys)


class ArenaRecord:
    """One arena as the front sees it: memory, owner, and the request it is lent to."""

    def __init__(self, number: int, fd: int, size_bytes: int) -> None:
        self.key = next_memory_key()
        self.number = number
        self.fd = fd
        self.size_bytes = size_bytes
        self.generation = 0
        self.lent_to: Optional[Request] = None


class Lease:
    """One session: a door connection and everything that ends with it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.peer = connection.peer()
        self.opened = time.monotonic()
        self.accepted = False
        self.closed = False
        self.allocating = False
        self.sid = os.urandom(protocol.ID_BYTES)
        self.client: dict[str, Any] = {}
        self.arenas: dict[int, ArenaRecord] = {}
        self.retired: list[ArenaRecord] = []
        self.next_arena = 0
        self.routing_id: Optional[bytes] = None
        self.active: dict[bytes, Request] = {}
        self.finished: OrderedDict[bytes, tuple[bytes, dict[str, Any]]] = OrderedDict()
        self.outbox: deque[tuple[float, bytes]] = deque()
        self.frames = 0

    @property
    def arena_bytes(self) -> int:
        """Memory lent to this session, retired arenas included."""
        return sum(arena.size_bytes for arena in [*self.arenas.values(), *self.retired])

    def lend(self, arena: ArenaRecord, request: Request) -> None:
        """Lend an arena to a request, which is active from now on."""
        arena.lent_to, arena.generation = request, request.generation
        self.active[request.id] = request
        # Older replies about this arena describe pixels that are no longer there.
        for known_id, (_fingerprint, reply) in list(self.finished.items()):
            if reply.get("slot") == arena.number:
                del self.finished[known_id]

    def remember(self, request_id: bytes, fingerprint: bytes, reply: dict[str, Any]) -> None:
        """Keep a final reply, so that a repeated request gets the same one."""
        self.finished[request_id] = (fingerprint, reply)
        while len(self.finished) > REMEMBERED_REPLIES:
            self.finished.popitem(last=False)


class Request:
    """One request that takes time: its owner and its state.

    That it is `answered` does not mean that its arena is back: a deadline answers a running
    request, and the arena stays lent until the worker has stopped using it.
    """

    def __init__(
        self,
        lease: Lease,
        message: Mapping[str, Any],
        now: float,
        *,
        arena: Optional[ArenaRecord] = None,
        device: Optional[str] = None,
    ) -> None:
        self.job = next(_jobs)
        self.lease = lease
        self.message = message
        self.id: bytes = message["id"]
        self.op: str = message["op"]
        self.arena = arena
        self.generation: int = message.get("gen") or 0
        self.device = device
        self.priority: str = message.get("priority") or "interactive"
        self.frame: Optional[int] = message.get("frame")
        self.arrived = now
        self.started: Optional[float] = None
        self.deadline: Optional[float] = None
        if message.get("deadline_ms"):
            self.deadline = now + message["deadline_ms"] / 1000
        self.clean_plate: Optional[HeldCleanPlate] = None
        self.group: Optional[Group] = None
        self.answered = False
        self.cancel_sent = False
        self.last_progress_sent = 0.0

    @cached_property
    def fingerprint(self) -> bytes:
        """See `fingerprint`. Made when it is needed, which is after the worker has its frame."""
        return fingerprint(self.message)

    @property
    def owner(self) -> Hashable:
        """The session in whose line it waits."""
        return self.lease.sid

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frame; (0, 0) for a request without one."""
        planes: list[Plane] = self.message.get("in") or []
        return (planes[0].w, planes[0].h) if planes else (0, 0)

    def for_device(self, device: Optional[str]) -> Request:
        """The part of it that one worker carries out, of the same group."""
        part = Request(self.lease, self.message, self.arrived, device=device)
        part.group = self.group
        return part

    def expired(self, now: float) -> bool:
        """Whether its deadline has passed."""
        return self.deadline is not None and now >= self.deadline


class Group:
    """One request of a client that every worker must carry out (to load a model, for example)."""

    def __init__(self, devices: int) -> None:
        self.left = devices
        self.answered = False
        self.cancelled = False  # for one worker at least
        self.failure: Optional[dict[str, Any]] = None
        self.result: dict[str, Any] = {}


def fingerprint(message: Mapping[str, Any]) -> bytes:
    """A digest of what is requested, to tell a repeated request from a reused id."""
    kept = {key: value for key, value in sorted(message.items()) if key not in _IGNORED}
    packed = msgpack.packb(kept, default=_plain, use_bin_type=True)
    return hashlib.blake2b(packed, digest_size=16).digest()


def _plain(value: Any) -> Any:
    return value.to_wire() if isinstance(value, Plane) else repr(value)
