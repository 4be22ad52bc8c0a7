"""What is in a library of Windows: the names that it exports, and those that it imports.

    | MS-DOS header | PE header | sections: code, ..., tables of exports and imports |

The form is that of Microsoft's PE/COFF specification, for 64 bits (PE32+). Addresses in the tables
are relative to the loaded image and are looked up in the list of sections. Standard library only.
"""

from __future__ import annotations

import struct

PE32_PLUS = 0x20B
BY_NUMBER = 1 << 63  # an import without a name
SECTION_BYTES = 40
IMPORT_BYTES = 20


def symbols(data: bytes) -> tuple[set[str], set[str]]:
    """The names that a library exports, and those that it imports; `ValueError` for others."""
    if data[:2] != b"MZ":
        raise ValueError("this is not a file of Windows")
    (header,) = struct.unpack_from("<I", data, 0x3C)
    count, size = struct.unpack_from("<H12xH", data, header + 6)
    optional = header + 24
    if data[header : header + 4] != b"PE\0\0" or data[optional : optional + 2] != struct.pack(
        "<H", PE32_PLUS
    ):
        raise ValueError("this is not a 64-bit library of Windows")
    tables = struct.unpack_from("<4I", data, optional + 112)
    places = [
        struct.unpack_from("<8x4I", data, optional + size + SECTION_BYTES * index)
        for index in range(count)
    ]
    image = _Image(data, places)
    exported = _exported(image, image.offset(tables[0])) if tables[1] else set()
    return exported, _imported(image, image.offset(tables[2])) if tables[3] else set()


class _Image:
    def __init__(self, data: bytes, places: list[tuple[int, ...]]) -> None:
        self.data, self._places = data, places

    def offset(self, address: int) -> int:
        """Where in the file the byte of an address is."""
        for size, start, stored, offset in self._places:
            if start <= address < start + max(size, stored):
                return address - start + offset
        raise ValueError("an address is in no section")

    def name(self, address: int) -> str:
        """The text at an address."""
        start = self.offset(address)
        return self.data[start : self.data.index(b"\0", start)].decode()


def _exported(image: _Image, at: int) -> set[str]:
    count, _functions, names = struct.unpack_from("<3I", image.data, at + 24)
    if not count:
        return set()
    start = image.offset(names)
    found = struct.unpack_from(f"<{count}I", image.data, start)
    return {image.name(address) for address in found}


def _imported(image: _Image, at: int) -> set[str]:
    found = set()
    while True:
        names, _time, _chain, library, addresses = struct.unpack_from("<5I", image.data, at)
        if not library:
            return found
        place = image.offset(names or addresses)
        while (entry := struct.unpack_from("<Q", image.data, place)[0]) != 0:
            if not entry & BY_NUMBER:
                found.add(image.name(entry + 2))  # behind a hint of two bytes
            place += 8
        at += IMPORT_BYTES
