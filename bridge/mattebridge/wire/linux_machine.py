"""What Linux says about a process, the machine and the other end of a connection.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from mattebridge.wire.connection import Peer
from mattebridge.wire.control_groups import ControlGroups

# Only where one of these exists can torch have a GPU: NVIDIA, WSL, AMD (ROCm).
DRIVERS = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def peer_of(connection: socket.socket) -> Peer:
    """The process that opened the other end, as SO_PEERCRED says."""
    size = struct.calcsize("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _gid = struct.unpack("3i", raw)
    return Peer(pid, uid)


class LinuxMachine:
    """The figures of Linux; see `OsLayer` for what each method gives."""

    own_descriptors = "/proc/self/fd"

    def longest_address(self) -> int:
        """See `Users`. sockaddr_un holds 108 bytes with the final zero; libzmq agrees."""
        return 107

    def resident_bytes(self) -> int:
        """See `Machine`."""
        return _memory_pages()[1] * os.sysconf("SC_PAGE_SIZE")

    def private_bytes(self) -> int:
        """See `Machine`."""
        _size, resident, shared = _memory_pages()
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")

    def release_memory(self) -> None:
        """See `Machine`. glibc keeps what was freed; other C libraries lack the call."""
        import ctypes

        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).malloc_trim(0)

    def total_memory_bytes(self) -> int:
        """See `Machine`."""
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        limit = ControlGroups().memory_limit()
        return total if limit is None else min(total, limit)

    def available_memory_bytes(self) -> int:
        """See `Machine`."""
        left = ControlGroups().memory_left()
        free = self._free_memory_bytes()
        return free if left is None else min(free, left)

    def may_have_gpu(self) -> bool:
        """See `Machine`."""
        return any(os.path.exists(path) for path in DRIVERS)

    def cores(self) -> int:
        """See `Machine`."""
        usable, share = len(os.sched_getaffinity(0)), ControlGroups().cores()
        return usable if share is None else max(1, min(usable, round(share)))

    def _free_memory_bytes(self) -> int:
        try:
            with open("/proc/meminfo", encoding="ascii") as file:
                for line in file:
                    if line.startswith("MemAvailable:"):
                        return int(line.split()[1]) * 1024
        except (OSError, ValueError):
            pass
        return self.total_memory_bytes()


def _memory_pages() -> tuple[int, int, int]:
    """Pages of this process: in its address space, in memory, and of those the shared ones."""
    try:
        # Without a buffer and a codec: a worker reads it after each frame, while its client waits.
        with open("/proc/self/statm", "rb", buffering=0) as file:
            size, resident, shared = map(int, file.read(256).split()[:3])
    except OSError:
        return 0, 0, 0
    return size, resident, shared
