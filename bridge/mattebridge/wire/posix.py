"""What the layer of macOS answers by POSIX alone; the rest is in macos.py.

    memory        shm_open of a random name, unlinked at once, passed by SCM_RIGHTS
    connections   AF_UNIX streams; before each record its length, 4 bytes, little-endian
    death         a thread of the child looks whether its parent is still there

It uses nothing that macOS lacks, and so it runs on Linux as well: posix_on_linux.py gives it what
macos.py gives it on macOS, and `MATTEBRIDGE_TEST_OSLAYER=posix` chooses it, for tests.

The rule that must not be broken: without seals the memory may become smaller at any time, and a
process that touches what is gone is killed (SIGBUS). macOS refuses to change the size of such
memory, Linux does not. So the front never touches memory that a client has: it has the kernel read
it (`_carry`), which then reports an error. A worker computes in it and may be killed.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import signal
import socket
import struct
import threading
import time
from abc import abstractmethod
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import GeometryError
from mattebridge.wire.connection import Peer, Record
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

LENGTH = struct.Struct("<I")
# What macOS lacks as a flag of `send` is an option of its sockets (macos.py).
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
# The rest of a record that was too long is read in pieces of this size, one a call.
DROP_BYTES = 1 << 16
# macOS refuses a connection also where too many wait to be accepted; those are soon fewer.
CONNECT_TRIES, CONNECT_PAUSE_S = 5, 0.01
# How often a child looks for its parent.
PARENT_S = 0.1


class StreamSocket:
    """A `Connection` over an AF_UNIX stream, which it owns.

    peer: read when the connection was made, since macOS forgets it when the other end has closed.
    """

    def __init__(self, connection: socket.socket, peer: Peer) -> None:
        self._socket, self._peer = connection, peer
        self._read = bytearray()  # of the record that is arriving
        self._descriptors: list[int] = []
        self._lost_descriptors = False
        self._to_drop = 0

    def fileno(self) -> int:
        """See `Connection`."""
        return self._socket.fileno()

    def peer(self) -> Peer:
        """See `Connection`."""
        return self._peer

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """See `Connection`. Where a part of a record does not fit, the connection is ended."""
        record = LENGTH.pack(len(data)) + data
        sent = self._socket.sendmsg([record], rights(descriptors), NO_SIGNAL)
        if sent == len(record):
            return
        if self._socket.gettimeout() is None:
            self._socket.sendall(record[sent:], NO_SIGNAL)
            return
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        raise BlockingIOError(errno.EAGAIN, "the other end does not read")

    def receive(self, limit: int) -> Record:
        """See `Connection`. Never more than one record is read, so that a wait shows the next."""
        while self._to_drop:
            self._drop()
        if not self._has(LENGTH.size):
            return self._record(b"")
        (length,) = LENGTH.unpack_from(self._read)
        if length > limit:
            self._to_drop = length
            return self._record(bytes(self._read), cut=True)
        if not self._has(LENGTH.size + length):
            return self._record(b"")
        return self._record(bytes(self._read[LENGTH.size :]))

    def _has(self, wanted: int) -> bool:
        """Read until so many bytes of the record are there; False at the end."""
        while len(self._read) < wanted:
            data, ancillary, flags, _address = self._socket.recvmsg(
                wanted - len(self._read), RIGHTS_BYTES
            )
            for descriptor in descriptors_in(ancillary):
                os.set_inheritable(descriptor, False)
                self._descriptors.append(descriptor)
            self._lost_descriptors |= bool(flags & socket.MSG_CTRUNC)
            if not data:
                return False
            self._read += data
        return True

    def _record(self, data: bytes, *, cut: bool = False) -> Record:
        record = Record(data, self._descriptors, cut or self._lost_descriptors)
        self._read, self._descriptors, self._lost_descriptors = bytearray(), [], False
        return record

    def _drop(self) -> None:
        """Read a piece of what is left of a record that was too long."""
        dropped = len(self._socket.recv(min(self._to_drop, DROP_BYTES)))
        self._to_drop -= dropped or self._to_drop
        if self._to_drop and self._socket.gettimeout() is not None:
            raise BlockingIOError(errno.EAGAIN, "the rest of a long record comes next")

    def lost(self) -> bool:
        """See `Connection`."""
        return is_lost(self._socket)

    def close(self) -> None:
        """See `Connection`."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []
        self._socket.close()


class StreamListener(UnixListener):
    """See `UnixListener`."""

    def __init__(self, layer: PosixLayer, path: Path) -> None:
        self._layer = layer
        self._socket = layer.stream()
        self._socket.bind(str(path))

    def accept(self) -> StreamSocket:
        """See `Listener`."""
        connection, _address = self._socket.accept()
        connection.setblocking(False)
        self._layer.prepare(connection)
        return StreamSocket(connection, self._layer.peer_of(connection))


class PosixLayer(UnixLayer):
    """POSIX's answers; see `OsLayer` for what each method gives."""

    @abstractmethod
    def peer_of(self, connection: socket.socket) -> Peer:
        """The process that opened the other end; (-1, -1) where it has closed already."""

    @abstractmethod
    def prepare(self, connection: socket.socket) -> None:
        """Set what a new socket needs, so that sending to a closed end is no signal."""

    # -- memory ---------------------------------------------------------------------------------

    def allocate_memory(self, size_bytes: int) -> Generator[None, None, int]:
        """See `Memory`. Filled with zeros now, by the kernel: without memory it is an error."""
        descriptor = _unnamed_memory()
        try:
            os.ftruncate(descriptor, size_bytes)
            yield from _fill_with_zeros(descriptor, size_bytes)
        except GeneratorExit:
            os.close(descriptor)
            raise
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EFBIG:
                raise file_limit(size_bytes) from error
            if error.errno in (errno.EFAULT, errno.ENOSPC, errno.ENOMEM):
                raise no_memory(size_bytes) from error
            raise
        return descriptor

    def check_memory(self, descriptor: int, size_bytes: int) -> None:
        """See `Memory`. Only its size can be checked."""
        found = os.fstat(descriptor).st_size
        if found < size_bytes:
            raise GeometryError(
                f"the arena should hold {size_bytes} bytes and holds {found}", field="fd"
            )

    def map_memory(self, descriptor: int, size_bytes: int) -> mmap.mmap:
        """See `Memory`."""
        return mmap.mmap(descriptor, size_bytes, mmap.MAP_SHARED)

    def read_memory(self, descriptor: int, size_bytes: int) -> bytes:
        """See `Memory`. Shared memory has no `pread` on macOS."""
        found = bytearray(size_bytes)
        with _mapped(descriptor, size_bytes) as memory, memoryview(found) as target:
            _carry(memory, target)
        return bytes(found)

    def copy_memory(
        self, source: int, source_offset: int, target: int, target_offset: int, size_bytes: int
    ) -> None:
        """See `Memory`."""
        theirs = _mapped(source, size_bytes, source_offset)
        with theirs as pixels, _mapped(target, size_bytes, target_offset) as place:
            _carry(pixels, place)

    # -- connections ----------------------------------------------------------------------------

    def stream(self) -> socket.socket:
        """A new socket that never waits."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        self.prepare(connection)
        return connection

    def bind(self, path: Path) -> StreamListener:
        """See `Connections`."""
        return StreamListener(self, path)

    def connect(self, path: Path) -> StreamSocket:
        """See `Connections`. What is refused is tried again for a few hundredths of a second."""
        for _try in range(CONNECT_TRIES - 1):
            with contextlib.suppress(ConnectionRefusedError):
                return self._connect_once(path)
            time.sleep(CONNECT_PAUSE_S)
        return self._connect_once(path)

    def _connect_once(self, path: Path) -> StreamSocket:
        connection = self.stream()
        try:
            connection.connect(str(path))
            return StreamSocket(connection, self.peer_of(connection))
        except BaseException:
            connection.close()
            raise

    def pair(self, buffer_bytes: int) -> tuple[StreamSocket, StreamSocket]:
        """See `Connections`."""
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for end in ends:
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, buffer_bytes)
            self.prepare(end)
        ends[0].setblocking(False)
        ours = Peer(os.getpid(), self.user_id())
        return StreamSocket(ends[0], ours), StreamSocket(ends[1], ours)

    def inherited(self, descriptor: int) -> StreamSocket:
        """See `Connections`."""
        connection = socket.socket(fileno=descriptor)
        connection.set_inheritable(False)
        return StreamSocket(connection, Peer(os.getppid(), self.user_id()))

    def control_peer(self, address: str) -> Peer:
        """See `Connections`. Only the folder of the socket says that it is this user."""
        return Peer(-1, self.user_id())

    # -- the machine ----------------------------------------------------------------------------

    def die_with_parent(self) -> None:
        """See `Machine`. A thread looks ten times a second: the system has no such order."""
        threading.Thread(target=_end_with, args=(os.getppid(),), name="parent", daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _unnamed_memory() -> int:
    """New shared memory that no process can open by name; macOS allows names of 31 bytes."""
    # In CPython since 3.8. A host need not have it: only daemons allocate.
    import _posixshmem  # type: ignore[import-not-found]

    name = f"/mb-{secrets.token_hex(12)}"
    descriptor: int = _posixshmem.shm_open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode=0o600)
    _posixshmem.shm_unlink(name)
    return descriptor


@contextlib.contextmanager
def _mapped(descriptor: int, size_bytes: int, start: int = 0) -> Generator[memoryview, None, None]:
    """Bytes of memory in this process's address space, only for the kernel to read or write."""
    try:
        found = mmap.mmap(descriptor, start + size_bytes, mmap.MAP_SHARED)
    except ValueError as error:
        raise _ended_early() from error
    with found, memoryview(found) as memory, memory[start:] as wanted:
        yield wanted


def _fill_with_zeros(descriptor: int, size_bytes: int) -> Generator[None, None, None]:
    with _mapped(descriptor, size_bytes) as memory, open("/dev/zero", "rb", buffering=0) as zeros:
        for start in range(0, size_bytes, STEP_BYTES):
            _read_into(zeros, memory[start : start + STEP_BYTES])
            yield


def _carry(source: memoryview, target: memoryview) -> None:
    """Copy through a pipe: the kernel reports what is gone from the source as an error."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    position = 0
    with open(reading, "rb", buffering=0) as out, open(writing, "wb", buffering=0) as into:
        while position < len(target):
            put = _write_some(into, source[position : position + DROP_BYTES])
            _read_into(out, target[position : position + put])
            position += put


def _write_some(into: Any, piece: memoryview) -> int:
    try:
        with piece:
            put: Optional[int] = into.write(piece)
    except OSError as error:
        if error.errno == errno.EFAULT:
            raise _ended_early() from error
        raise
    return put or 0


def _read_into(source: Any, place: memoryview) -> None:
    with place:
        position = 0
        while position < len(place):
            with place[position:] as rest:
                position += source.readinto(rest)


def _ended_early() -> GeometryError:
    return GeometryError("the memory to read ended early: it was made smaller", field="slot")
