"""The header of an OpenEXR file: attributes by name, and where the pixels begin.

Every number is checked against the size of the file before it is used. Standard library only.
"""

from __future__ import annotations

import struct
from typing import Union

MAGIC = b"\x76\x2f\x31\x01"
LONG_NAMES = 0x400
# Version flags of files that are tiled, deep, or of several parts.
OTHER_LAYOUTS = {0x200: "tiled", 0x800: "deep", 0x1000: "multi-part"}
# More than any picture has: a hostile header must not cause a large allocation.
MAX_HEADER_BYTES = 1 << 20

Bytes = Union[bytes, bytearray]


class WrongHeader(Exception):
    """The header is damaged, or the file is of a kind that is not read; the message says which."""


def read_attributes(data: Bytes) -> tuple[dict[str, tuple[str, bytes]], int]:
    """name -> (type, value) of a single-part scanline file, and the offset behind the header.

    Raises `WrongHeader`, and `struct.error` where the bytes end too early.
    """
    if data[:4] != MAGIC:
        raise WrongHeader("not an EXR file")
    (version,) = struct.unpack_from("<I", data, 4)
    for flag, name in OTHER_LAYOUTS.items():
        if version & flag:
            raise WrongHeader(f"{name} files are not read")
    if version & 0xFF != 2 or version & ~(0xFF | LONG_NAMES):
        raise WrongHeader(f"version {version:#x}")
    found: dict[str, tuple[str, bytes]] = {}
    at = 8
    while True:
        name, at = read_name(data, at)
        if not name:
            return found, at
        kind, at = read_name(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        at += 4
        if size < 0 or at + size > len(data) or at + size > MAX_HEADER_BYTES:
            raise WrongHeader(f"attribute {name!r} is larger than the file")
        found[name] = (kind, bytes(data[at : at + size]))
        at += size


def read_name(data: Bytes, at: int) -> tuple[str, int]:
    """A text that ends with a zero byte, and the offset behind it."""
    end = data.find(b"\0", at, at + 256)
    if end < 0:
        raise WrongHeader("a name in the header does not end")
    return data[at:end].decode("utf-8", "replace"), end + 1
