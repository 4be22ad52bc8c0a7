"""Shared memory of Windows: unnamed sections on the page file.

A *section* has no name, so nobody can open it who was not handed it, and its size is set when it
is made: there is no call that shrinks one. Its pages are committed with it: where the machine has
none left, making it fails, and no later access does.

Runs on Python 3.9.
"""

from __future__ import annotations

import ctypes
import weakref
from typing import Any

from mattebridge.errors import GeometryError, QuotaError
from mattebridge.wire import win32

PAGE_READWRITE, SEC_COMMIT = 0x04, 0x8000000
FILE_MAP_WRITE, FILE_MAP_READ = 0x2, 0x4
MEM_COMMIT, MEM_MAPPED = 0x1000, 0x40000
# What Windows says where neither memory nor page file is left.
NO_MEMORY = (8, 14, 112, 1450, 1455)


def create(size_bytes: int) -> int:
    """The handle of a new section, zeroed; `QuotaError`."""
    high, low = size_bytes >> 32, size_bytes & 0xFFFFFFFF
    handle = win32.kernel32.CreateFileMappingW(
        win32.INVALID_HANDLE, None, PAGE_READWRITE | SEC_COMMIT, high, low, None
    )
    if handle:
        return int(handle)
    failure = win32.error()
    if win32.last_error() in NO_MEMORY:
        raise QuotaError(
            f"the machine has no {size_bytes >> 20} MiB of memory and page file left: close other "
            "sessions or ask for fewer outputs",
            limit="memory",
        ) from failure
    raise failure


def map_whole(handle: int, size_bytes: int = 0) -> Any:
    """The section as a writable buffer of bytes; unmapped when nothing refers to it any more.

    size_bytes: how much of it, all by default.
    """
    address = win32.check(
        win32.kernel32.MapViewOfFile(handle, FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, size_bytes)
    )
    view = _view_type(size_bytes or _mapped_bytes(address)).from_address(address)
    weakref.finalize(view, win32.kernel32.UnmapViewOfFile, address).atexit = False
    return view


def _view_type(size_bytes: int) -> Any:
    """Bytes at an address. `close`, which the maps of other systems have, leaves them mapped."""
    return type("Section", (ctypes.c_char * size_bytes,), {"close": lambda self: None})


def check(handle: int, size_bytes: int) -> None:
    """Raise `GeometryError` unless this is a section of memory of at least so many bytes."""
    try:
        address = win32.check(
            win32.kernel32.MapViewOfFile(handle, FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, 0)
        )
    except OSError as error:
        raise GeometryError("the arena is not shared memory", field="fd") from error
    try:
        found = _mapped_bytes(address)
    finally:
        win32.kernel32.UnmapViewOfFile(address)
    if found < size_bytes:
        raise GeometryError(
            f"the arena should hold {size_bytes} bytes and holds {found}", field="fd"
        )


def _mapped_bytes(address: int) -> int:
    """How many bytes lie from the start of a map to its end, all of them committed."""
    region = win32.MemoryRegion()
    size = ctypes.sizeof(region)
    win32.check(win32.kernel32.VirtualQuery(address, ctypes.byref(region), size))
    if region.State != MEM_COMMIT or region.Type != MEM_MAPPED:
        return 0
    return int(region.RegionSize)
