"""Shared-memory arenas: where a frame lies while host and daemon both look at it.

An *arena* (on the wire: *slot*) is one piece of sealed shared memory that the daemon allocated and
the door handed to one client. It holds every plane of one request, inputs and outputs:

    0        64                                                          arena bytes
    | header | plate | clean_plate | alpha_hint | alpha | premultiplied | ... |
             ^ each plane starts on a multiple of 64; rows are `stride` bytes, a multiple of 64

The client writes pixels and sends a message that says where they are; the worker maps the same
pages and sees them as arrays. Nothing is copied on the way, and nothing is allocated again: the
same arena serves frame after frame.

The rule that must not be broken: **geometry travels only in the control message**, is checked as
plain integers against the size that the daemon itself allocated, and is never read from shared
memory. The header is a consistency check alone. A client writes `gen_begin`, then pixels, then
`gen_end`, then sends that generation; the reader compares all three before and after it copied, so
that a torn frame is an error and never a picture.

Runs on Python 3.9. numpy is imported only where arrays are made: the front does without it.
"""

from __future__ import annotations

import contextlib
import ctypes
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from mattebridge.errors import TornError
from mattebridge.wire import oslayer
from mattebridge.wire.planes import ITEM_BYTES, Plane

if TYPE_CHECKING:
    import numpy as np

ALIGNMENT = 64  # a cache line; every row and plane starts on one
ROUND_BYTES = 2 << 20  # a huge page; arenas come in whole ones
HEADER_BYTES = 64
HEADER = struct.Struct("<IIQQ")  # magic, version, gen_begin, gen_end; the rest is zero
HEADER_MAGIC = 0x3142544D  # "MTB1", little-endian
HEADER_VERSION = 1
GEN_BEGIN_AT, GEN_END_AT = 8, 16
NO_BYTES = memoryview(b"")  # in the place of a closed map: Windows unmaps what nothing refers to

# Pixels of the size classes that an arena is rounded up to, so that another format of about the
# same size does not mean another allocation. Names are for the documentation only.
SIZE_CLASSES = (
    ("tiny", 256 * 256),
    ("SD", 960 * 540),
    ("HD", 1920 * 1080),
    ("2K", 2048 * 1556),
    ("UHD", 3840 * 2160),
    ("4K", 4096 * 3112),
    ("6K", 6144 * 4096),
    ("8K", 8192 * 6144),
)


class PlaneSpec(NamedTuple):
    """One plane as a client wants it, before it has a place."""

    role: str
    channels: int
    dtype: str


def tight_stride(width: int, channels: int, dtype: str) -> int:
    """Bytes from one row to the next: the row's own bytes, rounded up to 64."""
    return _round_up(width * channels * ITEM_BYTES[dtype], ALIGNMENT)


def place(width: int, height: int, specs: Sequence[PlaneSpec]) -> list[Plane]:
    """The planes of one request, one behind the other from the end of the header."""
    offset, placed = HEADER_BYTES, []
    for spec in specs:
        stride = tight_stride(width, spec.channels, spec.dtype)
        placed.append(Plane(spec.role, offset, width, height, spec.channels, spec.dtype, stride))
        offset = _round_up(offset + stride * height, ALIGNMENT)
    return placed


def arena_bytes(width: int, height: int, specs: Sequence[PlaneSpec]) -> int:
    """Bytes to ask for, so that every frame of this size class fits with these planes."""
    planes = place(width, height, specs)
    exact = planes[-1].off + planes[-1].size_bytes if planes else HEADER_BYTES
    pixels = width * height
    rounded = next((size for _name, size in SIZE_CLASSES if size >= pixels), pixels)
    per_pixel = sum(spec.channels * ITEM_BYTES[spec.dtype] for spec in specs)
    in_class = HEADER_BYTES + rounded * per_pixel + ALIGNMENT * len(specs)
    return _round_up(max(exact, in_class), ROUND_BYTES)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step


class SlotMap:
    """One arena, mapped into this process.

    Takes a descriptor and its size, maps it and closes the descriptor: the map keeps the memory.
    `close` unmaps; arrays that still use the pages keep them alive until they are gone.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        layer = oslayer.current()
        try:
            self._map: Any = layer.map_memory(fd, size_bytes)
        finally:
            layer.close_memory(fd)
        self.size_bytes = size_bytes

    @property
    def address(self) -> int:
        """Where the arena begins in this process's memory."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._map))

    def write_begin(self, generation: int) -> None:
        """Announce that pixels of `generation` are being written."""
        HEADER.pack_into(
            self._map, 0, HEADER_MAGIC, HEADER_VERSION, generation, self._word(GEN_END_AT)
        )

    def write_end(self, generation: int) -> None:
        """Announce that the pixels of `generation` are all written."""
        struct.pack_into("<Q", self._map, GEN_END_AT, generation)

    def check_generation(self, generation: int) -> None:
        """Raise `TornError` unless the arena holds exactly this generation, complete."""
        check_header(self._map[: HEADER.size], generation)

    def array(self, plane: Plane) -> np.ndarray[Any, Any]:
        """The plane's pixels, (h, w, c), as a view of the shared pages: no copy, strided rows.

        The plane must have passed `planes.check_planes` for this arena.
        """
        import numpy as np

        dtype = np.dtype(plane.dtype)
        return np.ndarray(
            (plane.h, plane.w, plane.c),
            dtype=dtype,
            # Not the map itself: only through `frombuffer` does numpy keep the pages from being
            # unmapped while the array uses them, which would crash the process.
            buffer=np.frombuffer(self._map, np.uint8),
            offset=plane.off,
            strides=(plane.stride, plane.c * dtype.itemsize, dtype.itemsize),
        )

    def close(self) -> None:
        """Unmap now, or when the last array that uses the pages is gone."""
        # BufferError: an array still uses the map, which goes when the array does.
        with contextlib.suppress(BufferError):
            if self._map is not NO_BYTES:
                self._map.close()
        self._map = NO_BYTES

    def copy_range(self, source: SlotMap, start: int, length: int) -> None:
        """Copy bytes of another arena to the same place here (after a daemon was replaced)."""
        import numpy as np

        # Not by `memoryview`, which does not know the type of a map of Windows.
        mine, theirs = (np.frombuffer(arena._map, np.uint8) for arena in (self, source))
        mine[start : start + length] = theirs[start : start + length]

    def _word(self, offset: int) -> int:
        value: int = struct.unpack_from("<Q", self._map, offset)[0]
        return value


def check_header(raw: bytes, generation: int) -> None:
    """Raise `TornError` unless this is the header of an arena with all of `generation`."""
    magic, version, begin, end = HEADER.unpack_from(raw)
    found: Optional[str] = None
    if magic != HEADER_MAGIC or version != HEADER_VERSION:
        found = "its header is not a mattebridge header"
    elif begin != generation or end != generation:
        found = f"it has {begin} begun and {end} ended"
    if found:
        raise TornError(
            f"the arena should hold generation {generation}, but {found}: the frame was being "
            "written while it was read; send it again",
            gen=generation,
        )
