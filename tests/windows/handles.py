"""The handles of a process, by kind; Wine answers 0 where only their number is asked for.

`SYSTEM_HANDLE_INFORMATION_EX` of `NtQuerySystemInformation`: a count, then 40 bytes for each
handle: its process, and the number of its kind. What number a kind has is seen from a handle of
that kind.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections import Counter
from collections.abc import Iterator
from functools import cache

from mattebridge.wire import win32, windows_memory
from mattebridge.wire.windows_pipes import create_pipe
from windows.running import wait_for

SYSTEM_EXTENDED_HANDLE_INFORMATION = 64
TOO_SMALL = 0xC0000004
HEADER, ENTRY = 16, struct.Struct("<8xQQ6xH8x")


def of(pid: int = 0) -> int:
    """The number of open handles of a process, by default of this one."""
    return sum(owner == (pid or os.getpid()) for owner, _handle, _kind in _all())


def kinds_of(pid: int = 0) -> Counter[str]:
    """The same by kind: `section`, `pipe` (files too), `process`, `event`, and `other`."""
    names = _names()
    found = (kind for owner, _handle, kind in _all() if owner == (pid or os.getpid()))
    return Counter(names.get(kind, "other") for kind in found)


def wait_until_closed(before: Counter[str], pid: int = 0) -> None:
    """Until a process, by default this one, has no more of any kind than before: the last ones are
    closed a moment after the sessions and the memory that they were of are gone."""
    wait_for(lambda: not kinds_of(pid) - before, f"handles are left beside {before}")


def processes() -> int:
    """How many processes this system runs."""
    found, size = (ctypes.c_uint32 * 4096)(), ctypes.c_uint32()
    enumerate_all = ctypes.WinDLL("kernel32").K32EnumProcesses  # type: ignore[attr-defined]
    assert enumerate_all(found, ctypes.sizeof(found), ctypes.byref(size))
    return size.value // 4


@cache
def _names() -> dict[int, str]:
    process = win32.check(
        win32.kernel32.OpenProcess(win32.PROCESS_QUERY_LIMITED_INFORMATION, False, os.getpid())
    )
    name = rf"\\.\pipe\mattebridge-test-{os.urandom(8).hex()}"
    samples = {
        windows_memory.create(4096): "section",
        create_pipe(name, None, first=True): "pipe",
        process: "process",
        win32.event(): "event",
    }
    mine = {handle: kind for owner, handle, kind in _all() if owner == os.getpid()}
    names = {mine[handle]: name for handle, name in samples.items()}
    for handle in samples:
        win32.close(handle)
    assert len(names) == len(samples), names
    return names


def _all() -> Iterator[tuple[int, int, int]]:
    """Process, number and kind of every handle of the system."""
    query = ctypes.WinDLL("ntdll").NtQuerySystemInformation  # type: ignore[attr-defined]
    query.restype = ctypes.c_uint32
    size = 1 << 20
    while True:
        found = ctypes.create_string_buffer(size)
        status = query(SYSTEM_EXTENDED_HANDLE_INFORMATION, found, size, None)
        if status != TOO_SMALL:
            break
        size *= 2
    assert status == 0, hex(status)
    (count,) = struct.unpack_from("<Q", found)
    return ENTRY.iter_unpack(found.raw[HEADER : HEADER + count * ENTRY.size])
