"""Clean plates that clients left with the daemon, under a name.

A held plate is a sealed memfd of the daemon's own, copied from the client's arena by the kernel
(`sendfile`, without the interpreter's lock), so it outlives the session that brought it. The
budget is in bytes; the least recently used goes first. A request that names a plate pins it: a
plate that is dropped meanwhile is closed when the last such request has ended.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any, Optional

from mattebridge.errors import PlateError, QuotaError
from mattebridge.wire import oslayer
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import HEADER_BYTES, check_header


class HeldPlate:
    """One plate: its memory, its plane, and how many requests look at it."""

    def __init__(self, key: int, name: str, fd: int, plane: Plane) -> None:
        self.key = key
        self.name = name
        self.fd = fd
        self.plane = plane
        self.size_bytes = HEADER_BYTES + plane.size_bytes
        self.pins = 0
        self.dropped = False

    def pin(self) -> None:
        """A request needs it."""
        self.pins += 1

    def unpin(self) -> None:
        """That request has ended."""
        self.pins -= 1
        self._close_if_done()

    def drop(self) -> None:
        """Nobody can name it any more."""
        self.dropped = True
        self._close_if_done()

    @property
    def closed(self) -> bool:
        """Whether its memory has been given up here; workers may still have it mapped."""
        return self.fd < 0

    def _close_if_done(self) -> None:
        if self.dropped and self.pins == 0 and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def copy_plate(arena_fd: int, generation: int, plane: Plane) -> tuple[int, Plane]:
    """A memfd with the plate that lies in an arena; raises `TornError`, `QuotaError`.

    Runs on the helper thread. The plane in the new memory starts right behind the header.
    """
    check_header(os.pread(arena_fd, HEADER_BYTES, 0), generation)
    layer = oslayer.current()
    fd = layer.create_memory(HEADER_BYTES + plane.size_bytes)
    try:
        os.lseek(fd, HEADER_BYTES, os.SEEK_SET)
        position, left = plane.off, plane.size_bytes
        while left:
            sent = os.sendfile(fd, arena_fd, position, left)
            if sent == 0:
                raise OSError("the arena ended early")
            position, left = position + sent, left - sent
        check_header(os.pread(arena_fd, HEADER_BYTES, 0), generation)
    except BaseException:
        os.close(fd)
        raise
    held = Plane("clean_plate", HEADER_BYTES, plane.w, plane.h, plane.c, plane.dtype, plane.stride)
    return fd, held


class HeldPlates:
    """All held plates of this daemon, least recently used first."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._plates: OrderedDict[str, HeldPlate] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        """Bytes of all plates that can be named."""
        return sum(plate.size_bytes for plate in self._plates.values())

    def check_fits(self, plane: Plane) -> None:
        """Raise `QuotaError` when the budget could never hold this plate."""
        needed = HEADER_BYTES + plane.size_bytes
        if needed > self._budget:
            raise QuotaError(
                f"the clean plate needs {needed >> 20} MiB and held plates may use "
                f"{self._budget >> 20} MiB in all: send it with each frame instead, or raise "
                "MATTEBRIDGE_PLATE_BYTES",
                limit="plate_bytes",
                retry=False,
            )

    def add(self, plate: HeldPlate) -> list[HeldPlate]:
        """Hold a plate, in place of one of the same name; returns those that had to go."""
        gone = [old] if (old := self._plates.pop(plate.name, None)) is not None else []
        self._plates[plate.name] = plate
        while self.used_bytes > self._budget or len(self._plates) > 64:
            gone.append(self._plates.popitem(last=False)[1])
        for old in gone:
            old.drop()
        return gone

    def get(self, name: str) -> HeldPlate:
        """The plate of this name, now the most recently used; `PlateError`."""
        plate = self._plates.get(name)
        if plate is None:
            raise PlateError(
                f"the daemon holds no clean plate called {name!r}: send it again", name=name
            )
        self._plates.move_to_end(name)
        return plate

    def drop(self, name: str) -> HeldPlate:
        """Forget a plate; `PlateError` when there is none of this name."""
        plate = self.get(name)
        del self._plates[name]
        plate.drop()
        return plate

    def clear(self) -> None:
        """Forget all of them."""
        while self._plates:
            self._plates.popitem()[1].drop()

    def describe(self) -> list[dict[str, Any]]:
        """For `plate_list` and the status."""
        return [
            {
                "name": plate.name,
                "w": plate.plane.w,
                "h": plate.plane.h,
                "c": plate.plane.c,
                "dtype": plate.plane.dtype,
                "bytes": plate.size_bytes,
            }
            for plate in self._plates.values()
        ]

    def find(self, name: str) -> Optional[HeldPlate]:
        """Like `get`, without counting as use; None when absent."""
        return self._plates.get(name)
