"""Clean plates that clients left with the daemon, under a name.

A held clean plate is a sealed memfd that the daemon allocated. The kernel copies the pixels into
it from the client's arena (without the interpreter's lock), so it outlives the session
that brought it. The budget is in bytes; the least recently used one is dropped first. A request
that names a clean plate pins it: one that is dropped meanwhile is closed when the last such
request has ended.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from mattebridge.errors import PlateError, QuotaError
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import HEADER_BYTES, check_header

# A list of all of them must fit into one reply.
MAX_HELD = protocol.MAX_ITEMS


class HeldCleanPlate:
    """One clean plate: its memory, its plane, and how many requests use it."""

    def __init__(self, key: int, name: str, fd: int, plane: Plane) -> None:
        self.key = key
        self.name = name
        self.fd = fd
        self.plane = plane
        self.size_bytes = HEADER_BYTES + plane.size_bytes
        self.pins = 0
        self.dropped = False

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


def copy_clean_plate(arena_fd: int, generation: int, plane: Plane) -> tuple[int, Plane]:
    """A memfd with the clean plate that lies in an arena; raises `TornError`, `QuotaError`.

    Runs on the helper thread. The plane in the new memory starts right behind the header.
    """
    layer = oslayer.current()
    check_header(layer.read_memory(arena_fd, HEADER_BYTES), generation)
    fd = layer.create_memory(HEADER_BYTES + plane.size_bytes)
    try:
        layer.copy_memory(arena_fd, plane.off, fd, HEADER_BYTES, plane.size_bytes)
        check_header(layer.read_memory(arena_fd, HEADER_BYTES), generation)
    except BaseException:
        layer.close_memory(fd)
        raise
    held = Plane("clean_plate", HEADER_BYTES, plane.w, plane.h, plane.c, plane.dtype, plane.stride)
    return fd, held


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

    def add(self, clean_plate: HeldCleanPlate) -> list[HeldCleanPlate]:
        """Hold a clean plate, in place of one of the same name; returns those dropped for it."""
        replaced = self._by_name.pop(clean_plate.name, None)
        dropped = [replaced] if replaced is not None else []
        self._by_name[clean_plate.name] = clean_plate
        while self.used_bytes > self._budget or len(self._by_name) > MAX_HELD:
            dropped.append(self._by_name.popitem(last=False)[1])
        for old in dropped:
            old.drop()
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
            }
            for clean_plate in self._by_name.values()
        ]
