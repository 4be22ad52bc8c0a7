"""Whether a video file ends where its container says: found from sizes alone, without decoding.

    Matroska   EBML elements of the segment and of its clusters
    MP4, MOV   boxes of the file: a cut one ends inside `mdat`, `moof` or `moov`
    AVI        RIFF chunks of the file, and those inside them
    MXF        key, length, value triplets of the file

A copy that was interrupted and a recording that was killed end inside one of these, or are zeros
from there on. A container that does not record its end, cut exactly between two of its parts, looks
like a whole one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Callable, Optional

_SEGMENT, _CLUSTER, _EBML = 0x18538067, 0x1F43B675, 0x1A45DFA3
_UNFINISHED = "it was not finished"
_LIST_HEADER = 12


def why_not_whole(path: Path, container: str) -> str:
    """Why a file is not whole, as the middle of a message; "" where nothing shows it.

    container: FFmpeg's names of it, such as `matroska,webm`. Raises OSError.
    """
    names = container.split(",")
    walk = next((_WALKS[name] for name in names if name in _WALKS), None)
    if walk is None:
        return ""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return walk(file, size) or ""


def _beyond(what: str, end: int, size: int) -> str:
    return f"its {what} reaches to byte {end} and the file ends at {size}"


# --- Matroska, WebM -------------------------------------------------------------------------------


def _matroska(file: BinaryIO, size: int) -> Optional[str]:
    at = 0
    while at < size:
        element, start, length = _element(file, at)
        if element is None:
            return None if at and _is_padding(file, at) else f"it is damaged at byte {at}"
        # Without a size, an element ends where the next one of its own level begins.
        inside = length is None or element in (_SEGMENT, _CLUSTER)
        if length is not None and start + length > size:
            return _beyond("segment" if element == _SEGMENT else "cluster", start + length, size)
        at = start if inside else start + (length or 0)
    return None


def _element(file: BinaryIO, at: int) -> tuple[Optional[int], int, Optional[int]]:
    """An element's number, where its content begins, and its length; no number: damaged."""
    file.seek(at)
    data = file.read(12)
    number, width = _number(data, most=4)
    if not width:
        return None, at, None
    length, digits = _number(data[width:], most=8)
    if not digits:
        # Cut inside the header of an element: its content would begin behind the end.
        return number, at + len(data), 1
    value = length & ~(1 << 7 * digits)
    unknown = value == (1 << 7 * digits) - 1
    return number, at + width + digits, None if unknown else value


def _number(data: bytes, most: int) -> tuple[int, int]:
    """A number of variable length with its marker, and its bytes; 0 bytes where there is none."""
    width = 9 - data[0].bit_length() if data else 0
    if not 0 < width <= most or len(data) < width:
        return 0, 0
    return int.from_bytes(data[:width], "big"), width


def _is_padding(file: BinaryIO, at: int) -> bool:
    """Whether an empty file part is behind the segment, and not within it."""
    file.seek(0)
    element, start, length = _element(file, 0)
    while element is not None and length is not None:
        if element == _SEGMENT:
            return start + length <= at
        element, start, length = _element(file, start + length)
    return False


# --- MP4, MOV -------------------------------------------------------------------------------------


def _boxes(file: BinaryIO, size: int) -> Optional[str]:
    in_fragments, at = False, 0
    for name, end in _each_box(file, size):
        if end > size:
            return _beyond(f"'{name}'", end, size)
        in_fragments, at = in_fragments or name == "moof", end
    # Fragments are found one behind the other: what is none hides all that follow.
    return f"it is damaged at byte {at}" if in_fragments and at < size else None


def _each_box(file: BinaryIO, size: int) -> Iterator[tuple[str, int]]:
    """Name and end of every box of the file itself, until something that is none."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0 and name.isalnum():
            length = size - at  # it reaches to the end
        if not name.isascii() or not name.decode().isprintable() or length < 8:
            return  # padding
        yield name.decode(), at + length
        at += length


# --- AVI ------------------------------------------------------------------------------------------


def _riffs(file: BinaryIO, size: int) -> Optional[str]:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:8], "little")
        if header[:4] != b"RIFF":
            return None  # padding
        if length in (0, 0xFFFFFFFF):
            return _UNFINISHED
        if at + 8 + length > size:
            return _beyond("RIFF chunk", at + 8 + length, size)
        zeros = _zeros_in_riff(file, at + _LIST_HEADER, at + 8 + length)
        if zeros is not None:
            return f"it is empty from byte {zeros} on"
        at += 8 + length + length % 2
    return None


def _zeros_in_riff(file: BinaryIO, at: int, end: int) -> Optional[int]:
    """Where the zeros begin that a RIFF chunk ends in instead of chunks; None where it does not.

    Other bytes that are no chunk are left to FFmpeg, which looks for the next one.
    """
    while at + 8 <= end:
        file.seek(at)
        header = file.read(_LIST_HEADER)
        if not header[:4].isascii() or not header[:4].decode().isprintable():
            return at if _all_zeros(file, at + 8, end) else None
        length = int.from_bytes(header[4:8], "little")
        inside = header[:4] == b"LIST" and header[8:] in (b"movi", b"rec ")
        at += _LIST_HEADER if inside else 8 + length + length % 2
    return None


def _all_zeros(file: BinaryIO, start: int, end: int) -> bool:
    file.seek(start)
    while start < end:
        data = file.read(min(end - start, 1 << 20))
        if not data or any(data):
            return False
        start += len(data)
    return True


# --- MXF ------------------------------------------------------------------------------------------


def _triplets(file: BinaryIO, size: int) -> Optional[str]:
    at = 0
    while at + 17 <= size:
        file.seek(at)
        header = file.read(25)
        if header[:4] != b"\x06\x0e\x2b\x34":
            return None  # padding, or bytes in front of the first
        first = header[16]
        digits = first & 0x7F if first & 0x80 else 0
        length = int.from_bytes(header[17 : 17 + digits], "big") if digits else first
        end = at + 17 + digits + length
        if end > size:
            return _beyond("last part", end, size)
        at = end
    return None


_WALKS: dict[str, Callable[[BinaryIO, int], Optional[str]]] = {
    "matroska": _matroska,
    "mov": _boxes,
    "avi": _riffs,
    "mxf": _triplets,
}
