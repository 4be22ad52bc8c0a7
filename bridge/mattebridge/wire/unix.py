"""What Linux and macOS answer alike: sockets, locks, folders, descriptors; see `OsLayer`.

    linux.py --+
               +--> UnixLayer
    posix.py --+

Imported by these two alone, because the modules that it needs do not exist on Windows.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import termios
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import QuotaError, UnsafeRuntimeError
from mattebridge.wire import unix_children
from mattebridge.wire.connection import Connection
from mattebridge.wire.own_folder import folder_of, look_at, not_yours

# Room for descriptors in one record. The kernel's limit is 253; a session has at most 8 arenas.
MAX_DESCRIPTORS = 16
INT_BYTES = struct.calcsize("i")
RIGHTS_BYTES = socket.CMSG_SPACE(MAX_DESCRIPTORS * INT_BYTES)
# How often, and in which intervals, a connection is looked at to see whether its peer is sending.
LOOKS, LOOK_S = 8, 0.001
# Memory is allocated in steps of this size: the kernel clears one in about 20 ms.
STEP_BYTES = 32 << 20


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


def _accepted_at(address: bytes, own_descriptors: str) -> Iterator[socket.socket]:
    """Duplicates of this process's stream connections whose own end is at an address."""
    for name in os.listdir(own_descriptors):
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


def rights(descriptors: Sequence[int]) -> list[tuple[int, int, bytes]]:
    """What `sendmsg` takes to send descriptors."""
    if not descriptors:
        return []
    packed = struct.pack(f"{len(descriptors)}i", *descriptors)
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)]


def descriptors_in(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors that `recvmsg` gave."""
    descriptors: list[int] = []
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            count = len(payload) // INT_BYTES
            descriptors += struct.unpack(f"{count}i", payload[: count * INT_BYTES])
    return descriptors


class UnixListener:
    """A `Listener` at a path, without `accept`."""

    _socket: socket.socket

    def fileno(self) -> int:
        """See `Listener`."""
        return self._socket.fileno()

    def listen(self, backlog: int) -> None:
        """See `Listener`."""
        self._socket.listen(backlog)

    def close(self) -> None:
        """See `Listener`."""
        self._socket.close()


def is_lost(connection: socket.socket) -> bool:
    """See `Connection.lost`."""
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class UnixLayer(ABC):
    """The answers that both have in common; see `OsLayer` for what each method gives."""

    # The folder that lists this process's descriptors.
    own_descriptors = "/dev/fd"
    control_is_records = False
    how_to_own = "chown, chmod go-w"
    same_user = "start your own"
    kill_command = "kill -9"

    # -- memory ---------------------------------------------------------------------------------

    @abstractmethod
    def allocate_memory(self, size_bytes: int) -> Generator[None, None, int]:
        """See `Memory`."""

    def create_memory(self, size_bytes: int) -> int:
        """See `Memory`."""
        steps = self.allocate_memory(size_bytes)
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return int(done.value)

    def close_memory(self, descriptor: int) -> None:
        """See `Memory`."""
        os.close(descriptor)

    # -- connections ----------------------------------------------------------------------------

    def control_address(self, path: Path) -> str:
        """See `Connections`: an address of ZeroMQ."""
        return f"ipc://{path}"

    def end_connections(self, address: Path, *, only_sending: bool) -> int:
        """See `Connections`. Works on duplicates: numbers may change hands while this looks."""
        with contextlib.ExitStack() as stack:
            found = [
                stack.enter_context(ours)
                for ours in _accepted_at(os.fsencode(address), self.own_descriptors)
            ]
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

    def called(self, user: int) -> str:
        """See `Users`."""
        return f"user {user}"

    def runtime_root(self) -> Path:
        """See `Users`. `$XDG_RUNTIME_DIR`, else `/run/user/UID`, else the temporary folder."""
        uid = os.getuid()
        xdg = os.environ.get("XDG_RUNTIME_DIR")
        for candidate in (xdg, f"/run/user/{uid}"):
            if candidate and os.path.isabs(candidate) and os.access(candidate, os.W_OK | os.X_OK):
                return Path(candidate) / "mattebridge"
        return Path(tempfile.gettempdir()) / f"mattebridge-{uid}"

    def settings_folder(self) -> Path:
        """See `Users`. `$XDG_CONFIG_HOME/mattebridge`, else in `~/.config`."""
        return folder_of("XDG_CONFIG_HOME", "~/.config")

    def data_folder(self) -> Path:
        """See `Users`. `$XDG_DATA_HOME/mattebridge`, else in `~/.local/share`."""
        return folder_of("XDG_DATA_HOME", "~/.local/share")

    def check_private(self, folder: Path) -> None:
        """See `Users`: a directory, no link, of this user, mode 0700."""
        found = look_at(folder)
        if found.st_uid != self.user_id():
            raise not_yours(folder, str(found.st_uid))
        if found.st_mode & 0o077:
            raise UnsafeRuntimeError(
                f"{folder} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): "
                "run chmod 700 on it"
            )

    def check_parent(self, folder: Path) -> None:
        """See `Users`. Behind another user's link it would be a folder anywhere."""
        mine = (self.user_id(), 0)
        link = os.lstat(folder)
        if link.st_uid not in mine:
            raise _foreign(folder, link)
        try:
            found = os.stat(folder)
        except OSError as error:
            raise UnsafeRuntimeError(
                f"{folder} is a link that leads nowhere: remove it, or set "
                "MATTEBRIDGE_RUNTIME_DIR to a folder that you own"
            ) from error
        if found.st_uid not in mine:
            raise _foreign(folder, found)
        if found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX:
            raise UnsafeRuntimeError(
                f"{folder} can be written by others (mode {stat.S_IMODE(found.st_mode):04o}), who "
                f"could put another folder into it: `chmod go-w {folder}`, or set "
                "MATTEBRIDGE_RUNTIME_DIR to a folder of your own"
            )

    def other_owner(self, path: Path, found: os.stat_result) -> Optional[str]:
        """See `Users`. The superuser could write anything."""
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid in (self.user_id(), 0) and not mode & 0o022:
            return None
        return f"user {found.st_uid} with mode {mode:04o}"

    # -- files ----------------------------------------------------------------------------------

    def memory_file(self) -> Optional[tuple[int, Path]]:
        """See `Files`."""
        return None

    def fault_of_path(self, path: str) -> Optional[str]:
        """See `Files`: every name is the name of one file."""
        return None

    def reachable(self, path: Path) -> Path:
        """See `Files`."""
        return path

    def real_path(self, path: Path) -> Path:
        """See `Files`."""
        return path.resolve()

    def replace(self, source: Path, target: Path) -> None:
        """See `Files`. Who has the old file open keeps reading it."""
        os.replace(source, target)

    def create_locked(self, path: Path) -> int:
        """See `Files`. It gets its name when it is locked."""
        temporary = path.with_name(f"{path.name}.new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with contextlib.suppress(OSError):  # a file system without locks
                self.lock(descriptor)
            os.rename(temporary, path)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def lock(self, descriptor: int, *, wait: bool = False) -> bool:
        """See `Files`."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def unlock(self, descriptor: int) -> None:
        """See `Files`."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)

    # -- processes ------------------------------------------------------------------------------

    def start_child(
        self,
        command: Sequence[str],
        *,
        link: Optional[Connection] = None,
        environment: Optional[Mapping[str, str]] = None,
    ) -> tuple[subprocess.Popen[bytes], unix_children.PipeOutput]:
        """See `Processes`."""
        return unix_children.start(command, link, environment)

    def end_children_with_me(self) -> None:
        """See `Processes`: children do that themselves."""
        return

    def has_ended(self, parent: int) -> bool:
        """See `Processes`."""
        return os.getppid() != parent

    def runs(self, pid: int) -> bool:
        """See `Processes`."""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except OSError:
            return True
        return True

    def start_detached(self, command: Sequence[str], **arguments: Any) -> subprocess.Popen[bytes]:
        """See `Processes`: in a session of its own."""
        return subprocess.Popen(command, start_new_session=True, **arguments)

    def stop_signals(self) -> tuple[int, ...]:
        """See `Processes`."""
        return signal.SIGTERM, signal.SIGINT, signal.SIGHUP

    # -- the machine ----------------------------------------------------------------------------

    def descriptor_limit(self) -> int:
        """See `Machine`."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def free_descriptors(self) -> int:
        """See `Machine`."""
        try:
            return self.descriptor_limit() - len(os.listdir(self.own_descriptors))
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


def _foreign(path: Path, found: os.stat_result) -> UnsafeRuntimeError:
    return UnsafeRuntimeError(
        f"{path} belongs to user {found.st_uid}: set MATTEBRIDGE_RUNTIME_DIR to a folder that you "
        "own"
    )


def no_memory(size_bytes: int) -> QuotaError:
    """The machine's memory is used up."""
    return QuotaError(
        f"the machine has no {size_bytes >> 20} MiB of shared memory left: close "
        "other sessions or ask for fewer outputs",
        limit="memory",
    )


def file_limit(size_bytes: int) -> QuotaError:
    """Shared memory counts as a file here, and the limit of those is lower."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    return QuotaError(
        f"{size_bytes >> 20} MiB of shared memory are over the size limit of files that the daemon "
        f"was started with ({soft >> 10} KiB): start it with `ulimit -f unlimited`",
        limit="file_size",
        retry=False,
    )
