"""The layer of Linux: sealed memfds, AF_UNIX sockets of whole records, flock, /proc.

Imported by `oslayer.find` alone, because the modules that it needs exist on no other system.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import signal
import socket
from collections.abc import Generator, Sequence
from pathlib import Path

from mattebridge.errors import GeometryError
from mattebridge.wire.connection import Peer, Record
from mattebridge.wire.linux_machine import LinuxMachine, peer_of
from mattebridge.wire.unix import (
    RIGHTS_BYTES,
    STEP_BYTES,
    UnixLayer,
    UnixListener,
    descriptors_in,
    file_limit,
    is_lost,
    no_memory,
    rights,
)

# fcntl has these names only where Python was built with newer headers; the numbers are fixed.
F_ADD_SEALS = 1033
F_GET_SEALS = 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW = 0x1, 0x2, 0x4
ARENA_SEALS = SEAL_SEAL | SEAL_SHRINK | SEAL_GROW
PR_SET_PDEATHSIG = 1


class RecordSocket:
    """A `Connection` over an AF_UNIX SOCK_SEQPACKET socket, which it owns."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        """See `Connection`."""
        return self._socket.fileno()

    def peer(self) -> Peer:
        """See `Connection`."""
        return peer_of(self._socket)

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """See `Connection`."""
        self._socket.sendmsg([data], rights(descriptors), socket.MSG_NOSIGNAL)

    def receive(self, limit: int) -> Record:
        """See `Connection`. Plain recvmsg: `socket.recv_fds` gives descriptors to children."""
        data, ancillary, flags, _address = self._socket.recvmsg(
            limit + 1, RIGHTS_BYTES, socket.MSG_CMSG_CLOEXEC
        )
        cut = bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)) or len(data) > limit
        return Record(data, descriptors_in(ancillary), cut)

    def lost(self) -> bool:
        """See `Connection`."""
        return is_lost(self._socket)

    def close(self) -> None:
        """See `Connection`."""
        self._socket.close()


class RecordListener(UnixListener):
    """See `UnixListener`."""

    def __init__(self, path: Path) -> None:
        self._socket = _record_socket()
        self._socket.bind(str(path))

    def accept(self) -> RecordSocket:
        """See `Listener`."""
        connection, _address = self._socket.accept()
        connection.setblocking(False)
        return RecordSocket(connection)


class LinuxLayer(LinuxMachine, UnixLayer):
    """Linux's answers; see `OsLayer` for what each method gives."""

    # -- memory ---------------------------------------------------------------------------------

    def allocate_memory(self, size_bytes: int) -> Generator[None, None, int]:
        """See `Memory`. Allocated now: a machine without memory answers here, not by SIGBUS."""
        descriptor = os.memfd_create("mattebridge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            for start in range(0, size_bytes, STEP_BYTES):
                os.posix_fallocate(descriptor, start, min(STEP_BYTES, size_bytes - start))
                yield
            fcntl.fcntl(descriptor, F_ADD_SEALS, ARENA_SEALS)
        except GeneratorExit:
            os.close(descriptor)
            raise
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EFBIG:
                raise file_limit(size_bytes) from error
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise no_memory(size_bytes) from error
            raise
        return descriptor

    def check_memory(self, descriptor: int, size_bytes: int) -> None:
        """See `Memory`."""
        try:
            seals = fcntl.fcntl(descriptor, F_GET_SEALS)
        except OSError as error:
            raise GeometryError("the arena is not sealed memory", field="fd") from error
        if seals & ARENA_SEALS != ARENA_SEALS:
            raise GeometryError("the arena could be truncated: its seals are missing", field="fd")
        found = os.fstat(descriptor).st_size
        if found < size_bytes:
            raise GeometryError(
                f"the arena should hold {size_bytes} bytes and holds {found}", field="fd"
            )

    def map_memory(self, descriptor: int, size_bytes: int) -> mmap.mmap:
        """See `Memory`."""
        return mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED)

    def read_memory(self, descriptor: int, size_bytes: int) -> bytes:
        """See `Memory`."""
        return os.pread(descriptor, size_bytes, 0)

    def copy_memory(
        self, source: int, source_offset: int, target: int, target_offset: int, size_bytes: int
    ) -> None:
        """See `Memory`. The kernel copies (`sendfile`)."""
        os.lseek(target, target_offset, os.SEEK_SET)
        position, end = source_offset, source_offset + size_bytes
        while position < end:
            copied = os.sendfile(target, source, position, end - position)
            if copied == 0:
                raise GeometryError("the memory to copy ended early", field="slot")
            position += copied

    # -- files ----------------------------------------------------------------------------------

    def memory_file(self) -> tuple[int, Path]:
        """See `Files`."""
        descriptor = os.memfd_create("mattebridge-file", os.MFD_CLOEXEC)
        return descriptor, Path(f"/proc/self/fd/{descriptor}")

    # -- connections ----------------------------------------------------------------------------

    def bind(self, path: Path) -> RecordListener:
        """See `Connections`."""
        return RecordListener(path)

    def connect(self, path: Path) -> RecordSocket:
        """See `Connections`."""
        connection = _record_socket()
        try:
            connection.connect(str(path))
        except BaseException:
            connection.close()
            raise
        return RecordSocket(connection)

    def pair(self, buffer_bytes: int) -> tuple[RecordSocket, RecordSocket]:
        """See `Connections`."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
        ours.setblocking(False)
        return RecordSocket(ours), RecordSocket(theirs)

    def inherited(self, descriptor: int) -> RecordSocket:
        """See `Connections`."""
        connection = socket.socket(fileno=descriptor)
        connection.set_inheritable(False)
        return RecordSocket(connection)

    def control_peer(self, address: str) -> Peer:
        """See `Connections`. The address is `localhost:uid:gid:pid`, from SO_PEERCRED."""
        parts = address.split(":")
        with contextlib.suppress(ValueError, IndexError):
            return Peer(pid=int(parts[-1]), uid=int(parts[-3]))
        return Peer(-1, -1)

    # -- the machine ----------------------------------------------------------------------------

    def die_with_parent(self) -> None:
        """See `Machine`. The kernel watches the thread that started this process."""
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


def _record_socket() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    return connection
