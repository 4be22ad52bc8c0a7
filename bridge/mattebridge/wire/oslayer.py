"""What differs between operating systems, behind one interface.

    door, client, daemon --> current() --> LinuxLayer (linux.py)
                                           MacLayer (macos.py, posix.py)
                                           WindowsLayer (windows.py)

The rest of the package asks the system for shared memory that two processes can trust, for
connections that name the process at the other end, for the user's own folder, for file locks, and
for a few figures about this process and this machine. docs/protocol.md, "Other systems", says how
each of them answers. Where no layer is written, `current()` refuses with a sentence.

The rule that must not be broken: a module that exists on some systems only (fcntl, resource) is
imported in their layers and nowhere else, so that `import mattebridge.client` works
everywhere and the sentence is reached.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Protocol

from mattebridge.errors import UnsafeRuntimeError
from mattebridge.wire.children import Output
from mattebridge.wire.connection import Connection, Listener, Peer, WakeUp

# Chooses the layer of another system where it runs here too; for tests.
TEST_VARIABLE = "MATTEBRIDGE_TEST_OSLAYER"
# Flags to open files with, where the system has them: never through a link, never for a child
# process (both for the user's own files); and without waiting for a writer where somebody put a
# pipe in their place.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
KEPT = getattr(os, "O_CLOEXEC", 0)
OWN_FILE = NO_LINK | KEPT
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
# To write bytes as they are: Windows takes files for text otherwise.
BINARY = getattr(os, "O_BINARY", 0)


class Memory(Protocol):
    """Shared memory, named by a descriptor."""

    def create_memory(self, size_bytes: int) -> int:
        """Zeroed memory, its pages allocated; `QuotaError`.

        It can neither shrink nor grow, as far as the system can see to that (protocol.md, 8).
        """

    def allocate_memory(self, size_bytes: int) -> Generator[None, None, int]:
        """The same in steps of a few hundredths of a second: it yields after each.

        A caller that stops in the middle closes the generator, and no memory remains.
        """

    def check_memory(self, descriptor: int, size_bytes: int) -> None:
        """Raise `GeometryError` unless this is such memory, of at least `size_bytes`."""

    def map_memory(self, descriptor: int, size_bytes: int) -> mmap.mmap:
        """The memory in this process's address space, to read and write; keeps it alive."""

    def read_memory(self, descriptor: int, size_bytes: int) -> bytes:
        """Its first bytes; never a signal. `GeometryError` where a peer has made it smaller."""

    def copy_memory(
        self, source: int, source_offset: int, target: int, target_offset: int, size_bytes: int
    ) -> None:
        """Copy bytes from one to the other without holding the interpreter's lock.

        `GeometryError` where one of them is too small, by now or from the start; never a signal.
        """

    def close_memory(self, descriptor: int) -> None:
        """Give the descriptor back; maps of the memory stay."""


class Connections(Protocol):
    """Connections between processes of one user.

    control_is_records: whether control messages travel as records on a connection of this layer;
    by ZeroMQ otherwise. Everything that the daemon waits for is then a descriptor of `wait`.
    """

    control_is_records: bool

    def control_address(self, path: Path) -> str:
        """What the daemon tells its clients as the address of the control channel at a path."""

    def bind(self, path: Path) -> Listener:
        """An address that takes connections once it listens. Only the daemon binds."""

    def connect(self, path: Path) -> Connection:
        """A connection to the process that listens there. Sending and receiving never wait.

        `FileNotFoundError` or `ConnectionRefusedError` where none does, `BlockingIOError` while
        too many connections wait to be accepted.
        """

    def pair(self, buffer_bytes: int) -> tuple[Connection, Connection]:
        """Two connected ends, for a child process to inherit the second. The first never waits."""

    def inherited(self, descriptor: int) -> Connection:
        """The end of a `pair` that this process inherited. Sending and receiving wait."""

    def control_peer(self, address: str) -> Peer:
        """The process behind a message, from the peer address that ZeroMQ gives with it."""

    def end_connections(self, address: Path, *, only_sending: bool) -> int:
        """End the control connections that this process accepted at an address; how many.

        only_sending: those alone whose other end is sending while this looks.
        """

    def wait(self, sources: Iterable[int], timeout_s: float) -> set[int]:
        """Those of the descriptors that can be read, as soon as there is one; empty at the end.

        For any descriptor number: a host may have more open than `select` can name.
        """

    def wake_up(self) -> WakeUp:
        """A way to end a wait from another thread."""


class Users(Protocol):
    """The user and their folders.

    how_to_own: by what a person makes a file theirs alone, in a word or two.
    same_user: what a person does so that the system lets this program reach a daemon.
    """

    how_to_own: str
    same_user: str

    def called(self, user: int) -> str:
        """A user, by the number that a `Peer` has, as the end of "it belongs to"."""

    def user_id(self) -> int:
        """The user whom this process acts for."""

    def runtime_root(self) -> Path:
        """The folder in which an instance's runtime folder is made."""

    def longest_address(self) -> int:
        """How many bytes the path of a socket may have."""

    def settings_folder(self) -> Path:
        """The user's folder for settings of mattebridge; it need not exist."""

    def data_folder(self) -> Path:
        """The user's folder for what mattebridge keeps, such as models; it need not exist."""

    def check_private(self, folder: Path) -> None:
        """Raise `UnsafeRuntimeError` unless it is a folder that only this user can enter.

        `FileNotFoundError` where there is none.
        """

    def check_parent(self, folder: Path) -> None:
        """Raise `UnsafeRuntimeError` where another user could put a folder of theirs into it.

        To be asked before anything is made in it.
        """

    def other_owner(self, path: Path, found: os.stat_result) -> Optional[str]:
        """Who else could have written a file, or put one into a folder; None for no other user.

        found: what `os.stat` says of it. Words that go behind "it belongs to".
        """


class Files(Protocol):
    """Names of files, their replacement, and the locks on them."""

    def memory_file(self) -> Optional[tuple[int, Path]]:
        """An open file in memory that has no name, and a path by which this process can open it.

        None where the system has none. It is gone when its descriptors are closed.
        """

    def fault_of_path(self, path: str) -> Optional[str]:
        """Why the file of this path would be another one than it names; None where it would not.

        A sentence with what to do, for the artist.
        """

    def reachable(self, path: Path) -> Path:
        """The same file or folder, written so that the system takes paths of any length in it."""

    def real_path(self, path: Path) -> Path:
        """Where a path leads, links followed; to compare it with others. It need not exist."""

    def replace(self, source: Path, target: Path) -> None:
        """Give a file the name of another one, which is gone then; `OSError`.

        `HeldOpenError` where the system keeps the other one because a program has it open.
        """

    def create_locked(self, path: Path) -> int:
        """Make a new file that this process has locked from its first moment on; its descriptor.

        Locked as by `lock`; who opens it may also get `PermissionError`. `OSError`.
        """

    def lock(self, descriptor: int, *, wait: bool = False) -> bool:
        """Lock an open file for this process alone; False when another process holds the lock.

        With `wait` it waits instead. The lock ends with the descriptor or the process. `OSError`
        where the file system has no locks.
        """

    def unlock(self, descriptor: int) -> None:
        """End the lock and keep the file open."""


class Processes(Protocol):
    """Processes that this one starts, and the one that started it.

    kill_command: what a person types before the number of a process, to end it at once.
    """

    kill_command: str

    def start_child(
        self,
        command: Sequence[str],
        *,
        link: Optional[Connection] = None,
        environment: Optional[Mapping[str, str]] = None,
    ) -> tuple[subprocess.Popen[bytes], Output]:
        """Start a program that ends with this process; the process, and what it prints.

        link: the second end of a `pair`, which it inherits and nothing else; its number is added
        to the command as `--link=NUMBER`. environment: this process's by default. `OSError`.
        """

    def end_children_with_me(self) -> None:
        """Have the system end what this process starts, when this process ends, however it does.

        For systems where the children cannot see to that themselves (`die_with_parent`).
        """

    def die_with_parent(self) -> None:
        """Have the system kill this process when the one that started it ends.

        The caller checks its parent afterwards: it may have ended before.
        """

    def has_ended(self, parent: int) -> bool:
        """Whether the process that started this one, by its number, has ended."""

    def runs(self, pid: int) -> bool:
        """Whether there is a process of this number."""

    def start_detached(self, command: Sequence[str], **arguments: Any) -> subprocess.Popen[bytes]:
        """Start a program that outlives this one and its terminal; `OSError`.

        arguments: of `subprocess.Popen`.
        """

    def stop_signals(self) -> tuple[int, ...]:
        """The signals that ask a program to end."""


class Machine(Protocol):
    """This process and this machine."""

    def descriptor_limit(self) -> int:
        """How many descriptors this process may have open."""

    def free_descriptors(self) -> int:
        """How many more it may open."""

    def raise_descriptor_limit(self, wanted: int) -> None:
        """Raise the limit to `wanted`, or as far as it goes."""

    def resident_bytes(self) -> int:
        """Memory that this process holds; 0 where the system does not say."""

    def private_bytes(self) -> int:
        """The part of it that is not shared memory or a file; 0 where the system does not say."""

    def release_memory(self) -> None:
        """Give memory that was freed back to the system, where it can be done."""

    def total_memory_bytes(self) -> int:
        """The machine's memory, or the limit set for this process's group where that is less."""

    def available_memory_bytes(self) -> int:
        """What can still be had without swapping, and within the limit of this process's group."""

    def may_have_gpu(self) -> bool:
        """Whether there is a driver that torch could use; without one torch is not asked."""

    def cores(self) -> int:
        """Processors that this process may use, or its group's share of them where less."""


class OsLayer(Memory, Connections, Users, Files, Processes, Machine, Protocol):
    """Everything that is asked of the operating system."""


def call_after_fork(action: Callable[[], object]) -> None:
    """Have this called in every process that is forked from this one; some systems never fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=action)


def current() -> OsLayer:
    """The layer of this system; `UnsafeRuntimeError` where there is none."""
    layer = find()
    if layer is None:
        raise UnsafeRuntimeError(
            f"mattebridge does not run on {sys.platform} yet: its shared memory is written for "
            "Linux, macOS and Windows only. Run the daemon and its hosts there"
        )
    return layer


def find() -> Optional[OsLayer]:
    """The layer of this system, or None: for callers that can do without."""
    if sys.platform.startswith("linux"):
        if os.environ.get(TEST_VARIABLE) == "posix":
            from mattebridge.wire.posix_on_linux import PosixOnLinux

            return PosixOnLinux()
        from mattebridge.wire.linux import LinuxLayer

        return LinuxLayer()
    if sys.platform == "darwin":
        from mattebridge.wire.macos import MacLayer

        return MacLayer()
    if sys.platform == "win32":
        from mattebridge.wire.windows import WindowsLayer

        return WindowsLayer()
    return None
