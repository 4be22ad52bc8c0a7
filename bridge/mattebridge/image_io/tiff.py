"""Whether the deflated strips of a TIFF are whole, which libtiff and OpenImageIO do not report.

Both decode such a strip row by row and stop without looking at what follows, its checksum among it:
a strip with a hole comes back as noise. Here every strip is inflated once more, to its checksum.
Only the first directory (page) of a file is looked at, the one that is read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import BinaryIO

_DEFLATE = (8, 32946)
_COMPRESSION = 259
# Where the strips, or else the tiles, begin, and their sizes in bytes.
_PLACES = ((273, 279), (324, 325))
# Types of whole numbers: SHORT, LONG, LONG8.
_NUMBERS = {3: "H", 4: "I", 16: "Q"}


def strips_are_whole(stored: BinaryIO) -> bool:
    """Whether every deflated strip or tile inflates to its checksum; True for other compressions.

    stored: the file, open. False, too, where its directory leads out of the file.
    """
    try:
        tags = _directory(stored)
        if tags.get(_COMPRESSION, (1,))[0] not in _DEFLATE:
            return True
        for begins, sizes in _PLACES:
            for offset, size in zip(tags.get(begins, ()), tags.get(sizes, ())):
                stored.seek(offset)
                if size and not _is_whole(stored.read(size)):
                    return False
    except (struct.error, OverflowError, MemoryError):
        return False
    return True


def end_of_strips(stored: BinaryIO) -> int:
    """Where the last strip or tile ends. Raises `struct.error` where the directory is cut,
    `ValueError` where it names none."""
    tags = _directory(stored)
    return max(
        offset + size
        for begins, sizes in _PLACES
        for offset, size in zip(tags.get(begins, ()), tags.get(sizes, ()))
    )


def _is_whole(packed: bytes) -> bool:
    inflater = zlib.decompressobj()
    try:
        inflater.decompress(packed)
    except zlib.error:
        return False
    return inflater.eof


def _directory(stored: BinaryIO) -> dict[int, Sequence[int]]:
    """The whole numbers of the first directory by tag."""
    stored.seek(0)
    head = stored.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = struct.unpack_from(order + "H", head, 2)[0] == 43
    # Of classic TIFF, and of BigTIFF: the directory's place, its count, and an entry's sizes.
    place, at, count, entry = ("Q", 8, "Q", "HHQ8s") if is_big else ("I", 4, "H", "HHI4s")
    stored.seek(struct.unpack_from(order + place, head, at)[0])
    number = struct.unpack(order + count, stored.read(struct.calcsize(order + count)))[0]
    size = struct.calcsize(order + entry)
    entries = stored.read(size * min(number, 4096))
    found: dict[int, Sequence[int]] = {}
    for start in range(0, len(entries) - size + 1, size):
        tag, kind, values, inline = struct.unpack_from(order + entry, entries, start)
        letter = _NUMBERS.get(kind)
        if letter is not None:
            found[tag] = _values(stored, order, values, letter, inline, place)
    return found


def _values(
    stored: BinaryIO, order: str, count: int, letter: str, inline: bytes, place: str
) -> Sequence[int]:
    length = struct.calcsize(order + letter) * count
    if length > len(inline):
        stored.seek(struct.unpack(order + place, inline)[0])
        inline = stored.read(length)
    return struct.unpack_from(f"{order}{count}{letter}", inline)
