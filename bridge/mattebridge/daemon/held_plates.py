"""Clean plates that clients left with the daemon, under a name.

A held clean plate is a sealed memfd that the daemon allocated. The kernel copies the pixels into
it from the client's arena (without the interpreter's lock), so it outlives the session
that brought it. A request that names a clean plate pins it: one that is dropped meanwhile is closed
when the last such request has ended.

All clients of a user share the names, so a name never changes its content unless a client asks for
that (`replace`). They share the budget too: when it is full, the session that holds most gives up
its least recently used clean plate. Many clean plates of one session therefore never push out the
few of another.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter, OrderedDict
from collections.abc import Generator, Hashable
from typing import Any

from mattebridge.errors import PlateError, QuotaError
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.planes import ITEM_BYTES, Plane
from mattebridge.wire.slots import HEADER_BYTES, check_header

# A list of all of them must fit into one reply.
MAX_HELD = protocol.MAX_ITEMS
# How much of one is copied or read before other sessions have their turn.
STEP_BYTES = 32 << 20


class HeldCleanPlate:
    """One clean plate: its memory, its plane, and how many requests use it.

    digest: of its samples. owner: the session that sent it, which may have ended.
    """

    def __init__(
        self, key: int, name: str, fd: int, plane: Plane, *, digest: str, owner: Hashable
    ) -> None:
        self.key = key
        self.name = name
        self.fd = fd
        self.plane = plane
        self.digest = digest
        self.owner = owner
        self.size_bytes = HEADER_BYTES + plane.size_bytes
        self.pins = 0
        self.dropped = False

    def holds_the_same(self, other: HeldCleanPlate) -> bool:
        """Whether both have the same samples in the same layout."""
        mine, theirs = self.plane, other.plane
        same_layout = (mine.w, mine.h, mine.c, mine.dtype) == (
            theirs.w,
            theirs.h,
            theirs.c,
            theirs.dtype,
        )
        return same_layout and self.digest == other.digest

    def pin(self) -> None:
        """A request uses it: keep its memory."""
        self.pins += 1

    def unpin(self) -> None:
        """That request has ended."""
        self.pins -= 1
        self._close_if_done()

    def drop(self) -> None:
        """Requests can no longer name it; close its memory when the last user has ended."""
        self.dropped = True
        self._close_if_done()

    @property
    def closed(self) -> bool:
        """Whether its memory is closed here; workers may still have it mapped."""
        return self.fd < 0

    def _close_if_done(self) -> None:
        if self.dropped and self.pins == 0 and self.fd >= 0:
            oslayer.current().close_memory(self.fd)
            self.fd = -1


Copied = tuple[int, Plane, str]


def copy_clean_plate(arena_fd: int, generation: int, plane: Plane) -> Generator[None, None, Copied]:
    """A memfd with the clean plate that lies in an arena, its plane there, and its digest.

    In steps, as `Helper` wants it. Raises `TornError`, `QuotaError`.

    Runs on the helper thread. The plane in the new memory starts right behind the header.
    """
    layer = oslayer.current()
    check_header(layer.read_memory(arena_fd, HEADER_BYTES), generation)
    fd = yield from layer.allocate_memory(HEADER_BYTES + plane.size_bytes)
    held = Plane("clean_plate", HEADER_BYTES, plane.w, plane.h, plane.c, plane.dtype, plane.stride)
    try:
        for start in range(0, plane.size_bytes, STEP_BYTES):
            step = min(STEP_BYTES, plane.size_bytes - start)
            layer.copy_memory(arena_fd, plane.off + start, fd, HEADER_BYTES + start, step)
            yield
        check_header(layer.read_memory(arena_fd, HEADER_BYTES), generation)
        return fd, held, (yield from _digest(fd, held))
    except BaseException:
        layer.close_memory(fd)
        raise


def _digest(fd: int, plane: Plane) -> Generator[None, None, str]:
    """SHA-256 of the samples, row by row without what lies between the rows."""
    digest = hashlib.sha256()
    row_bytes = plane.w * plane.c * ITEM_BYTES[plane.dtype]
    rows_a_step = max(1, STEP_BYTES // row_bytes)
    with (
        contextlib.closing(oslayer.current().map_memory(fd, HEADER_BYTES + plane.size_bytes)) as it,
        memoryview(it) as memory,
    ):
        for row in range(plane.h):
            start = plane.off + row * plane.stride
            digest.update(memory[start : start + row_bytes])
            if row % rows_a_step == 0:
                yield
    return digest.hexdigest()


class HeldCleanPlates:
    """All clean plates that this daemon holds, least recently used first."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._by_name: OrderedDict[str, HeldCleanPlate] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        """Bytes of all clean plates that can be named."""
        return sum(clean_plate.size_bytes for clean_plate in self._by_name.values())

    def check_fits(self, plane: Plane) -> None:
        """Raise `QuotaError` when the clean plate is larger than the whole budget."""
        needed = HEADER_BYTES + plane.size_bytes
        if needed > self._budget:
            raise QuotaError(
                f"the clean plate needs {needed >> 20} MiB and held clean plates may use "
                f"{self._budget >> 20} MiB in all: send it with each frame instead, or raise "
                "MATTEBRIDGE_PLATE_BYTES",
                limit="plate_bytes",
                retry=False,
            )

    def add(self, clean_plate: HeldCleanPlate, *, replace: bool = False) -> list[HeldCleanPlate]:
        """Hold a clean plate; returns those dropped for it.

        Where the name is held with the same content, that one stays and the new one is dropped.
        Raises `PlateError`, and drops the new one, where it is held with other content and
        `replace` was not asked for.
        """
        known = self._by_name.get(clean_plate.name)
        dropped: list[HeldCleanPlate] = []
        if known is not None and known.holds_the_same(clean_plate):
            self._by_name.move_to_end(known.name)
            dropped.append(clean_plate)
        elif known is not None and not replace:
            clean_plate.drop()
            raise _name_is_taken(known)
        else:
            if known is not None:
                dropped.append(self._by_name.pop(known.name))
            self._by_name[clean_plate.name] = clean_plate
            dropped += self._make_room(clean_plate)
        for old in dropped:
            old.drop()
        return dropped

    def _make_room(self, added: HeldCleanPlate) -> list[HeldCleanPlate]:
        """Take clean plates out until the others and the added one are within the budget."""
        dropped = []
        while (too_many := len(self._by_name) > MAX_HELD) or self.used_bytes > self._budget:
            share: Counter[Hashable] = Counter()
            for held in self._by_name.values():
                share[held.owner] += 1 if too_many else held.size_bytes
            others = [held for held in self._by_name.values() if held is not added]
            # Of equal shares the first is taken, which is the least recently used.
            leaving = max(others, key=lambda held: share[held.owner])
            dropped.append(self._by_name.pop(leaving.name))
        return dropped

    def get(self, name: str) -> HeldCleanPlate:
        """The clean plate of this name, now the most recently used; `PlateError`."""
        clean_plate = self._by_name.get(name)
        if clean_plate is None:
            raise PlateError(
                f"the daemon holds no clean plate called {name!r}: send it again", name=name
            )
        self._by_name.move_to_end(name)
        return clean_plate

    def drop(self, name: str) -> HeldCleanPlate:
        """Drop a clean plate; `PlateError` when there is none of this name."""
        clean_plate = self.get(name)
        del self._by_name[name]
        clean_plate.drop()
        return clean_plate

    def clear(self) -> None:
        """Drop all of them."""
        while self._by_name:
            self._by_name.popitem()[1].drop()

    def describe(self) -> list[dict[str, Any]]:
        """For `plate_list` and the status."""
        return [
            {
                "name": clean_plate.name,
                "w": clean_plate.plane.w,
                "h": clean_plate.plane.h,
                "c": clean_plate.plane.c,
                "dtype": clean_plate.plane.dtype,
                "bytes": clean_plate.size_bytes,
                "digest": clean_plate.digest,
            }
            for clean_plate in self._by_name.values()
        ]


def _name_is_taken(known: HeldCleanPlate) -> PlateError:
    plane = known.plane
    return PlateError(
        f"the daemon holds another clean plate called {known.name!r} ({plane.w}x{plane.h}, digest "
        f"{known.digest[:12]}): choose another name, or ask for it to be replaced",
        name=known.name,
        digest=known.digest,
    )
