"""What an object file needs from others: ELF, Mach-O and COFF, without the tools of a compiler.

By it the build sees which source of the plugin may start a process: a library only says that one
of them does. Names are given as C writes them: without the underscore of macOS, and without the
`__imp_` of Windows. Standard library only.
"""

from __future__ import annotations

import struct

import universal

ELF, MACH_O = b"\x7fELF\x02\x01", struct.pack("<I", universal.MACH_O)
COFF_MACHINE = 0x8664
COFF_HEADER, COFF_SYMBOL = 20, 18
COFF_EXTERNAL = 2
IMPORTED = "__imp_"
SYMBOL_TABLE = 2  # SHT_SYMTAB


def needed(data: bytes) -> set[str]:
    """The names that an object file takes from elsewhere; `ValueError` for anything else."""
    if data[:6] == ELF:
        return _of_elf(data)
    if data[:4] == MACH_O:
        return {name[1:] for name in universal.symbols(data, universal.OBJECT)[1]}
    if data[:2] == struct.pack("<H", COFF_MACHINE):
        return {name.removeprefix(IMPORTED) for name in _of_coff(data)}
    raise ValueError("this is not an object file of a 64-bit processor")


def _of_elf(data: bytes) -> set[str]:
    start, size, count = struct.unpack_from("<Q10xHH", data, 40)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, start + size * n) for n in range(count)]
    found = set()
    for _name, kind, _flags, _at, offset, length, link, _info, _align, entry in headers:
        if kind != SYMBOL_TABLE:
            continue
        names = headers[link][4]
        for at in range(offset + entry, offset + length, entry):
            name, _info, _other, section = struct.unpack_from("<IBBH", data, at)
            if section == 0:
                start_of = names + name
                found.add(data[start_of : data.index(b"\0", start_of)].decode())
    return found


def _of_coff(data: bytes) -> set[str]:
    table, count = struct.unpack_from("<II", data, 8)
    names = table + COFF_SYMBOL * count
    found, index = set(), 0
    while index < count:
        at = table + COFF_SYMBOL * index
        zeros, offset = struct.unpack_from("<II", data, at)
        value, section, _type, storage, more = struct.unpack_from("<IhHBB", data, at + 8)
        if storage == COFF_EXTERNAL and section == 0 and value == 0:
            if zeros:
                found.add(data[at : at + 8].rstrip(b"\0").decode())
            else:
                start = names + offset
                found.add(data[start : data.index(b"\0", start)].decode())
        index += 1 + more
    return found
