"""The layer of Linux: sealed memfds, AF_UNIX sockets of whole records, flock, /proc.

Imported by `oslayer.find` alone, because the modules that it needs exist on no other system.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import stat
import struct
import tempfile
import termios
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

from mattebridge.errors import GeometryError, QuotaError, UnsafeRuntimeError
from mattebridge.wire.connection import Peer, Record
from mattebridge.wire.control_groups import ControlGroups

# fcntl has these names only where Python was built with newer headers; the numbers are fixed.
F_ADD_SEALS = 1033
F_GET_SEALS = 1034
SEAL_SEAL, SEAL_SHRINK, SEAL_GROW = 0x1, 0x2, 0x4
ARENA_SEALS = SEAL_SEAL | SEAL_SHRINK | SEAL_GROW
# Memory is allocated in steps of this size: the kernel clears one in about 20 ms.
STEP_BYTES = 32 << 20
PR_SET_PDEATHSIG = 1
# Room for descriptors in one record. The kernel's limit is 253; a session has at most 8 arenas.
MAX_DESCRIPTORS = 16
# How often, and in which intervals, a connection is looked at to see whether its peer is sending.
LOOKS, LOOK_S = 8, 0.001
INT_BYTES = struct.calcsize("i")


class RecordSocket:
    """A `Connection` over an AF_UNIX SOCK_SEQPACKET socket, which it owns."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def fileno(self) -> int:
        """See `Connection`."""
        return self._socket.fileno()

    def peer(self) -> Peer:
        """See `Connection`."""
        raw = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 3 * INT_BYTES)
        pid, uid, _gid = struct.unpack("3i", raw)
        return Peer(pid, uid)

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """See `Connection`."""
        ancillary = []
        if descriptors:
            rights = struct.pack(f"{len(descriptors)}i", *descriptors)
            ancillary.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, rights))
        self._socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)

    def receive(self, limit: int) -> Record:
        """See `Connection`. Plain recvmsg: `socket.recv_fds` gives descriptors to children."""
        space = socket.CMSG_SPACE(MAX_DESCRIPTORS * INT_BYTES)
        data, ancillary, flags, _address = self._socket.recvmsg(
            limit + 1, space, socket.MSG_CMSG_CLOEXEC
        )
        descriptors: list[int] = []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                count = len(payload) // INT_BYTES
                descriptors += struct.unpack(f"{count}i", payload[: count * INT_BYTES])
        cut = bool(flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)) or len(data) > limit
        return Record(data, descriptors, cut)

    def lost(self) -> bool:
        """See `Connection`."""
        try:
            return not self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """See `Connection`."""
        self._socket.close()


class RecordListener:
    """A `Listener` at a path."""

    def __init__(self, path: Path) -> None:
        self._socket = _record_socket()
        self._socket.bind(str(path))

    def fileno(self) -> int:
        """See `Listener`."""
        return self._socket.fileno()

    def listen(self, backlog: int) -> None:
        """See `Listener`."""
        self._socket.listen(backlog)

    def accept(self) -> RecordSocket:
        """See `Listener`."""
        connection, _address = self._socket.accept()
        connection.setblocking(False)
        return RecordSocket(connection)

    def close(self) -> None:
        """See `Listener`."""
        self._socket.close()


class Pipe:
    """A `WakeUp`: one byte in a pipe."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        """See `WakeUp`."""
        return self._read

    def wake(self) -> None:
        """See `WakeUp`."""
        with contextlib.suppress(BlockingIOError):  # full: the other thread is being woken anyway
            os.write(self._write, b"!")

    def clear(self) -> None:
        """See `WakeUp`."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        """See `WakeUp`."""
        os.close(self._read)
        os.close(self._write)


def _memory_pages() -> tuple[int, int, int]:
    """Pages of this process: in its address space, in memory, and of those the shared ones."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            size, resident, shared = (int(word) for word in file.read().split()[:3])
    except OSError:
        return 0, 0, 0
    return size, resident, shared


def _accepted_at(address: bytes) -> Iterator[socket.socket]:
    """Duplicates of this process's stream connections whose own end is at an address."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            ours = socket.socket(fileno=os.dup(int(name)))
            ends_here = ours.family == socket.AF_UNIX and ours.type == socket.SOCK_STREAM
            if (
                ends_here
                and os.fsencode(ours.getsockname()) == address
                and not ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            ):
                yield ours
            else:
                ours.close()


def _unread_bytes(connection: socket.socket) -> int:
    (count,) = struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.FIONREAD, bytes(4)))
    return int(count)


class LinuxLayer:
    """Linux's answers; see `OsLayer` for what each method gives."""

    # -- memory ---------------------------------------------------------------------------------

    def create_memory(self, size_bytes: int) -> int:
        """See `Memory`."""
        steps = self.allocate_memory(size_bytes)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return int(done.value)

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
                raise _file_limit(size_bytes) from error
            if error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise QuotaError(
                    f"the machine has no {size_bytes >> 20} MiB of shared memory left: close "
                    "other sessions or ask for fewer outputs",
                    limit="memory",
                ) from error
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
                raise OSError("the memory to copy ended early")
            position += copied

    def close_memory(self, descriptor: int) -> None:
        """See `Memory`."""
        os.close(descriptor)

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

    def end_connections(self, address: Path, *, only_sending: bool) -> int:
        """See `Connections`. Works on duplicates: numbers may change hands while this looks."""
        with contextlib.ExitStack() as stack:
            found = [stack.enter_context(ours) for ours in _accepted_at(os.fsencode(address))]
            sending: Counter[socket.socket] = Counter()
            for _look in range(LOOKS if only_sending else 0):
                sending.update(ours for ours in found if _unread_bytes(ours))
                time.sleep(LOOK_S)
            # A flood has something unread at nearly every look, a request at one by chance.
            least = max([2, *sending.values()]) / 2
            ending = [ours for ours in found if sending[ours] >= least or not only_sending]
            for ours in ending:
                with contextlib.suppress(OSError):
                    ours.shutdown(socket.SHUT_RDWR)
        return len(ending)

    def wait(self, sources: Iterable[int], timeout_s: float) -> set[int]:
        """See `Connections`."""
        poller = select.poll()
        for source in sources:
            poller.register(source, select.POLLIN)
        return {source for source, _event in poller.poll(max(0.0, timeout_s) * 1000)}

    def wake_up(self) -> Pipe:
        """See `Connections`."""
        return Pipe()

    # -- the user -------------------------------------------------------------------------------

    def user_id(self) -> int:
        """See `Users`. The effective user: whom files and sockets are made for."""
        return os.geteuid()

    def runtime_root(self) -> Path:
        """See `Users`. `$XDG_RUNTIME_DIR`, else `/run/user/UID`, else the temporary folder."""
        uid = os.getuid()
        xdg = os.environ.get("XDG_RUNTIME_DIR")
        for candidate in (xdg, f"/run/user/{uid}"):
            if candidate and os.path.isabs(candidate) and os.access(candidate, os.W_OK | os.X_OK):
                return Path(candidate) / "mattebridge"
        return Path(tempfile.gettempdir()) / f"mattebridge-{uid}"

    def check_private(self, folder: Path) -> None:
        """See `Users`: a directory, no link, of this user, mode 0700."""
        try:
            found = os.lstat(folder)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise UnsafeRuntimeError(f"cannot look at {folder}: {error.strerror}") from error
        if not stat.S_ISDIR(found.st_mode):
            raise UnsafeRuntimeError(
                f"{folder} is not a folder (a link?): remove it and start again"
            )
        if found.st_uid != self.user_id():
            raise UnsafeRuntimeError(
                f"{folder} belongs to user {found.st_uid}: set MATTEBRIDGE_RUNTIME_DIR to a folder "
                "of your own"
            )
        if found.st_mode & 0o077:
            raise UnsafeRuntimeError(
                f"{folder} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): "
                "run chmod 700 on it"
            )

    def lock(self, descriptor: int, *, wait: bool = False) -> bool:
        """See `Users`."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def unlock(self, descriptor: int) -> None:
        """See `Users`."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    # -- the machine ----------------------------------------------------------------------------

    def die_with_parent(self) -> None:
        """See `Machine`. The kernel watches the thread that started this process."""
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")

    def descriptor_limit(self) -> int:
        """See `Machine`."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def free_descriptors(self) -> int:
        """See `Machine`."""
        try:
            return self.descriptor_limit() - len(os.listdir("/proc/self/fd"))
        except OSError:
            return 0  # there is none left to list the folder with

    def raise_descriptor_limit(self, wanted: int) -> None:
        """See `Machine`."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY:
            wanted = min(hard, wanted)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

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


def _record_socket() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.setblocking(False)
    return connection


def _file_limit(size_bytes: int) -> QuotaError:
    soft, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return QuotaError(
        f"{size_bytes >> 20} MiB of shared memory are over the size limit of files that the daemon "
        f"was started with ({soft >> 10} KiB): start it with `ulimit -f unlimited`",
        limit="file_size",
        retry=False,
    )
