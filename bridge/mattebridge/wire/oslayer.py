"""The few things that differ between operating systems, behind one small interface.

The transport needs five answers from the machine: memory that two processes can share and that
nobody can shrink under the other, a proof that memory received is of that kind, the user behind a
connection, received descriptors that no child inherits, and a child that dies with its parent.
Linux answers all five (sealed memfds, SO_PEERCRED, MSG_CMSG_CLOEXEC, PR_SET_PDEATHSIG). macOS and
Windows answer them in other ways (docs/protocol.md, "Other systems"); until those are written,
`current()` refuses with a sentence instead of half working.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct
import sys
from typing import NamedTuple, Protocol

from mattebridge.errors import GeometryError, QuotaError, UnsafeRuntimeError

# fcntl's names for these came with Python 3.x builds against newer headers; the numbers are fixed.
F_ADD_SEALS = 1033
F_GET_SEALS = 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW = 0x1, 0x2, 0x4
SLOT_SEALS = SEAL_SEAL | SEAL_SHRINK | SEAL_GROW
PR_SET_PDEATHSIG = 1
# Kernel limit of descriptors in one message is 253; nothing of ours comes near.
MAX_FDS = 16


class Peer(NamedTuple):
    """The process behind a connection, as the kernel saw it connect."""

    pid: int
    uid: int


class OsLayer(Protocol):
    """What the transport asks of the operating system."""

    def create_memory(self, size_bytes: int) -> int:
        """A descriptor of zeroed shared memory that can neither shrink nor grow."""

    def check_memory(self, fd: int, size_bytes: int) -> None:
        """Raise unless `fd` is such memory of at least `size_bytes`."""

    def peer(self, connection: socket.socket) -> Peer:
        """The kernel's word on who is at the other end."""

    def receive(self, connection: socket.socket, limit: int) -> tuple[bytes, list[int], bool]:
        """One record, the descriptors with it (close-on-exec), and whether anything was cut."""

    def die_with_parent(self) -> None:
        """Ask the kernel to kill this process when the thread that started it ends."""


class LinuxLayer:
    """Linux: sealed memfds over AF_UNIX."""

    def create_memory(self, size_bytes: int) -> int:
        """See `OsLayer`. The pages are allocated now: a full machine answers here, not by SIGBUS.

        Raises `QuotaError` when the memory is not to be had.
        """
        fd = os.memfd_create("mattebridge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
            fcntl.fcntl(fd, F_ADD_SEALS, SLOT_SEALS)
        except OSError as error:
            os.close(fd)
            if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EFBIG):
                raise QuotaError(
                    f"the machine has no {size_bytes >> 20} MiB of shared memory left: close "
                    "other sessions or ask for fewer outputs",
                    limit="memory",
                ) from error
            raise
        return fd

    def check_memory(self, fd: int, size_bytes: int) -> None:
        """See `OsLayer`. Raises `GeometryError` naming what is wrong."""
        try:
            seals = fcntl.fcntl(fd, F_GET_SEALS)
        except OSError as error:
            raise GeometryError("the slot is not sealed memory", field="fd") from error
        if seals & SLOT_SEALS != SLOT_SEALS:
            raise GeometryError("the slot could be truncated: its seals are missing", field="fd")
        found = os.fstat(fd).st_size
        if found < size_bytes:
            raise GeometryError(
                f"the slot should hold {size_bytes} bytes and holds {found}", field="fd"
            )

    def peer(self, connection: socket.socket) -> Peer:
        """See `OsLayer`."""
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, _gid = struct.unpack("3i", raw)
        return Peer(pid, uid)

    def receive(self, connection: socket.socket, limit: int) -> tuple[bytes, list[int], bool]:
        """See `OsLayer`. Plain recvmsg: the standard helper for descriptors ignores its flags."""
        space = socket.CMSG_SPACE(MAX_FDS * struct.calcsize("i"))
        data, ancillary, flags, _address = connection.recvmsg(
            limit + 1, space, socket.MSG_CMSG_CLOEXEC
        )
        fds: list[int] = []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(payload) // struct.calcsize("i")
                fds += struct.unpack(f"{count}i", payload[: count * struct.calcsize("i")])
        cut = bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)) or len(data) > limit
        return data, fds, cut

    def die_with_parent(self) -> None:
        """See `OsLayer`. The caller checks its parent afterwards: it may be gone already."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def current() -> OsLayer:
    """The layer of this machine; `UnsafeRuntimeError` where there is none yet."""
    if sys.platform.startswith("linux"):
        return LinuxLayer()
    raise UnsafeRuntimeError(
        f"mattebridge has no shared-memory transport for {sys.platform} yet: run the daemon and "
        "its hosts on Linux"
    )


def send_record(connection: socket.socket, data: bytes, fds: tuple[int, ...] = ()) -> None:
    """Send one record, with descriptors when there are some; never raises SIGPIPE."""
    ancillary = []
    if fds:
        rights = struct.pack(f"{len(fds)}i", *fds)
        ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights))
    connection.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
