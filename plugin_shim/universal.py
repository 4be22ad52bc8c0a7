"""One Mach-O file out of those of several processors, and what is in one: without Apple's tools.

    | header, one entry a processor | padding | file of the first | padding | file of the second |

The form is that of `mach-o/fat.h`: the header is big-endian, each file starts on a page of 16 KiB,
and stays as it was linked, its signature included. Standard library only.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

UNIVERSAL = 0xCAFEBABE
MACH_O = 0xFEEDFACF  # 64 bits, little-endian
OBJECT, DYLIB = 1, 6  # kinds of files
SYMBOL_TABLE = 0x2  # LC_SYMTAB
PAGE_BITS = 14  # of Apple silicon; Intel's pages are smaller
EXTERNAL, KIND, UNDEFINED, PRIVATE = 0x01, 0x0E, 0x00, 0x10


def join(binaries: Sequence[Path], to: Path) -> None:
    """Write the universal file."""
    contents = [binary.read_bytes() for binary in binaries]
    offset, entries, body = _page_up(8 + 20 * len(contents)), b"", b""
    start = offset
    for data in contents:
        processor, kind = processor_of(data)
        entries += struct.pack(">5I", processor, kind, offset, len(data), PAGE_BITS)
        body += data + bytes(_page_up(len(data)) - len(data))
        offset += _page_up(len(data))
    header = struct.pack(">2I", UNIVERSAL, len(contents)) + entries
    to.write_bytes(header + bytes(start - len(header)) + body)
    to.chmod(0o755)


def split(data: bytes) -> list[bytes]:
    """The files in a universal file; a file of one processor is the only one."""
    magic, count = struct.unpack_from(">2I", data)
    if magic != UNIVERSAL:
        return [data]
    entries = [struct.unpack_from(">5I", data, 8 + 20 * index) for index in range(count)]
    return [data[offset : offset + size] for _cpu, _kind, offset, size, _align in entries]


def processor_of(data: bytes, wanted: int = DYLIB) -> tuple[int, int]:
    """Type and subtype of the processor of a library, or an object; `ValueError` for all else."""
    magic, processor, kind, file_type = struct.unpack_from("<4I", data)
    if (magic, file_type) != (MACH_O, wanted):
        raise ValueError("this is not a 64-bit Mach-O file of the wanted kind")
    return processor, kind


def symbols(data: bytes, kind_of_file: int = DYLIB) -> tuple[set[str], set[str]]:
    """The names that a library or object of one processor exports, and those that it needs."""
    processor_of(data, kind_of_file)
    exported, undefined = set(), set()
    (commands,) = struct.unpack_from("<I", data, 16)
    at = 32
    for _command in range(commands):
        command, size = struct.unpack_from("<2I", data, at)
        if command == SYMBOL_TABLE:
            table, count, names, _bytes = struct.unpack_from("<4I", data, at + 8)
            for index in range(count):
                name, kind = struct.unpack_from("<IB", data, table + 16 * index)
                if kind & EXTERNAL and not kind & PRIVATE:
                    text = data[names + name : data.index(b"\0", names + name)].decode()
                    (undefined if kind & KIND == UNDEFINED else exported).add(text)
        at += size
    return exported, undefined


def _page_up(size: int) -> int:
    page = 1 << PAGE_BITS
    return -(-size // page) * page
