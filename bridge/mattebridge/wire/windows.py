"""The layer of Windows: unnamed sections, named pipes of whole records, file locks, a job.

    windows_memory.py   sections             win32.py   the calls, and their errors
    windows_pipes.py    connections          windows_children.py   processes
    windows_names.py    names of files       windows_files.py      their replacement, long paths

A *descriptor* is a handle here, an integer as elsewhere: of a section, or of the event that a
connection sets. A user is the number that the bytes of their security identifier spell.

Written with ctypes alone. Runs on Python 3.9.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from ctypes import wintypes
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import GeometryError
from mattebridge.wire import (
    win32,
    windows_children,
    windows_files,
    windows_memory,
    windows_names,
)
from mattebridge.wire.connection import Peer
from mattebridge.wire.own_folder import look_at, not_yours
from mattebridge.wire.windows_pipes import (
    PipeConnection,
    PipeListener,
    PipeOutput,
    connected,
    create_pipe,
    open_pipe,
    owner_only,
    pipe_name,
)

# Windows has no limit for a process's handles below the machine's memory; this is what the daemon
# takes care not to exceed.
HANDLE_LIMIT = 1 << 16
LOCKFILE_FAIL_IMMEDIATELY, LOCKFILE_EXCLUSIVE_LOCK = 1, 2
# The lock is on one byte far behind the end: the file itself stays readable.
LOCKED_BYTE = 0x7FFF0000
# The group that owns what an administrator makes with all rights. Its members could take anything.
ADMINISTRATORS = "S-1-5-32-544"
SYSTEM = "S-1-5-18"
# What Windows takes as a path at all.
LONGEST_PATH = 32_000
# The pause between two looks where there are more events than one call can wait for.
SLICE_S = 0.001


class Event:
    """A `WakeUp`: one event."""

    def __init__(self) -> None:
        self._event = win32.event()

    def fileno(self) -> int:
        """See `WakeUp`."""
        return self._event

    def wake(self) -> None:
        """See `WakeUp`."""
        win32.kernel32.SetEvent(self._event)

    def clear(self) -> None:
        """See `WakeUp`."""
        win32.kernel32.ResetEvent(self._event)

    def close(self) -> None:
        """See `WakeUp`."""
        win32.close(self._event)


class WindowsLayer:
    """Windows's answers; see `OsLayer` for what each method gives."""

    control_is_records = True
    how_to_own = "its Properties, Security, Advanced, Owner"
    same_user = (
        "start your own, or where both programs are yours, start either both as administrator or"
        " neither"
    )
    kill_command = "taskkill /F /PID"

    # -- memory ---------------------------------------------------------------------------------

    def create_memory(self, size_bytes: int) -> int:
        """See `Memory`."""
        return windows_memory.create(size_bytes)

    def allocate_memory(self, size_bytes: int) -> Generator[None, None, int]:
        """See `Memory`. One step: its pages are promised now and cleared when they are touched."""
        handle = windows_memory.create(size_bytes)
        try:
            yield
        except GeneratorExit:
            win32.close(handle)
            raise
        return handle

    def check_memory(self, descriptor: int, size_bytes: int) -> None:
        """See `Memory`."""
        windows_memory.check(descriptor, size_bytes)

    def map_memory(self, descriptor: int, size_bytes: int) -> Any:
        """See `Memory`. It is unmapped when nothing refers to it any more."""
        return windows_memory.map_whole(descriptor, size_bytes)

    def read_memory(self, descriptor: int, size_bytes: int) -> bytes:
        """See `Memory`."""
        return bytes(windows_memory.map_whole(descriptor, size_bytes))

    def copy_memory(
        self, source: int, source_offset: int, target: int, target_offset: int, size_bytes: int
    ) -> None:
        """See `Memory`. ctypes gives the interpreter's lock away meanwhile."""
        read = windows_memory.map_whole(source)
        written = windows_memory.map_whole(target)
        if source_offset + size_bytes > len(read) or target_offset + size_bytes > len(written):
            raise GeometryError("the memory to copy ended early", field="fd")
        win32.kernel32.RtlMoveMemory(
            ctypes.addressof(written) + target_offset,
            ctypes.addressof(read) + source_offset,
            size_bytes,
        )

    def close_memory(self, descriptor: int) -> None:
        """See `Memory`."""
        win32.close(descriptor)

    # -- connections ----------------------------------------------------------------------------

    def bind(self, path: Path) -> PipeListener:
        """See `Connections`. The name is taken when it listens."""
        return PipeListener(self._pipe_name(path), self._owner_only())

    def connect(self, path: Path) -> PipeConnection:
        """See `Connections`. Only this end may be handed memory."""
        handle = open_pipe(self._pipe_name(path))
        return connected(handle, win32.kernel32.GetNamedPipeServerProcessId, takes_handles=True)

    def pair(self, buffer_bytes: int) -> tuple[PipeConnection, PipeConnection]:
        """See `Connections`."""
        name = rf"\\.\pipe\mattebridge-link-{os.urandom(16).hex()}"
        handle = create_pipe(name, self._owner_only(), first=True, buffer_bytes=buffer_bytes)
        try:
            theirs = open_pipe(name)
        except OSError:
            win32.close(handle)
            raise
        ask = win32.kernel32.GetNamedPipeClientProcessId
        ours = connected(handle, ask, takes_handles=False)
        other = connected(
            theirs, win32.kernel32.GetNamedPipeServerProcessId, takes_handles=True, waits=True
        )
        other.other_end = ours
        return ours, other

    def inherited(self, descriptor: int) -> PipeConnection:
        """See `Connections`."""
        os.set_handle_inheritable(descriptor, False)  # type: ignore[attr-defined]
        ask = win32.kernel32.GetNamedPipeServerProcessId
        return connected(descriptor, ask, takes_handles=True, waits=True)

    def control_address(self, path: Path) -> str:
        """See `Connections`: the name of the pipe."""
        return self._pipe_name(path)

    def end_connections(self, address: Path, *, only_sending: bool) -> int:
        """See `Connections`. None: a message is one record here, so no memory can be filled."""
        return 0

    def control_peer(self, address: str) -> Peer:
        """See `Connections`. ZeroMQ does not name the process at the other end here."""
        return Peer(-1, -1)

    def wait(self, sources: Iterable[int], timeout_s: float) -> set[int]:
        """See `Connections`."""
        handles = list(sources)
        until = time.monotonic() + max(0.0, timeout_s)
        if not handles:
            time.sleep(max(0.0, timeout_s))
            return set()
        if len(handles) <= win32.MAX_WAIT_OBJECTS:
            _wait_for_any(handles, timeout_s)
            return _set_among(handles)
        while not (found := _set_among(handles)) and time.monotonic() < until:
            time.sleep(SLICE_S)
        return found

    def wake_up(self) -> Event:
        """See `Connections`."""
        return Event()

    # -- the user -------------------------------------------------------------------------------

    def user_id(self) -> int:
        """See `Users`. The bytes of the security identifier, as one number."""
        return int.from_bytes(self._user(), "big")

    def called(self, user: int) -> str:
        """See `Users`. Of a process with the rights of an administrator others learn no user."""
        if user < 0:
            return "a user whom the system does not name here"
        return f"user {win32.sid_text(user.to_bytes((user.bit_length() + 7) // 8, 'big'))}"

    def runtime_root(self) -> Path:
        r"""See `Users`. `%LOCALAPPDATA%\mattebridge\run`, which is the user's own."""
        return self.data_folder() / "run"

    def longest_address(self) -> int:
        """See `Users`. The pipe's name has a digest of it, so that the path is the limit."""
        return LONGEST_PATH

    def settings_folder(self) -> Path:
        r"""See `Users`: `%APPDATA%\mattebridge`."""
        return _known_folder("APPDATA", "Roaming") / "mattebridge"

    def data_folder(self) -> Path:
        r"""See `Users`: `%LOCALAPPDATA%\mattebridge`."""
        return _known_folder("LOCALAPPDATA", "Local") / "mattebridge"

    def check_private(self, folder: Path) -> None:
        """See `Users`: a folder, no link, of this user. Whom it is open to, the pipe decides.

        Or of the administrators, to whom a user's folder belongs that was made with all rights.
        """
        look_at(folder)
        owner = win32.owner_of(str(folder))
        if owner != self._user() and win32.sid_text(owner) != ADMINISTRATORS:
            raise not_yours(folder, win32.sid_text(owner))

    def check_parent(self, folder: Path) -> None:
        """See `Users`: the access list of the pipe decides who comes in, not that of the folder."""

    def other_owner(self, path: Path, found: os.stat_result) -> Optional[str]:
        """See `Users`. Its owner decides who may write it."""
        owner = win32.owner_of(str(path))
        if owner == self._user() or win32.sid_text(owner) in (ADMINISTRATORS, SYSTEM):
            return None
        return f"user {win32.sid_text(owner)}"

    # -- files ----------------------------------------------------------------------------------

    def memory_file(self) -> Optional[tuple[int, Path]]:
        """See `Files`."""
        return None

    def fault_of_path(self, path: str) -> Optional[str]:
        """See `Files`."""
        return windows_names.fault_of(path)

    def reachable(self, path: Path) -> Path:
        """See `Files`."""
        return windows_files.reachable(path)

    def real_path(self, path: Path) -> Path:
        """See `Files`."""
        return windows_files.real_path(path)

    def replace(self, source: Path, target: Path) -> None:
        """See `Files`."""
        windows_files.replace(source, target)

    def create_locked(self, path: Path) -> int:
        """See `Files`. Nobody else may open it; a file that is open cannot be renamed here."""
        handle = win32.check(
            win32.kernel32.CreateFileW(
                str(path), win32.GENERIC_READ | win32.GENERIC_WRITE, 0, None, win32.CREATE_NEW, 0,
                None,
            )
        )  # fmt: skip
        return win32.descriptor_of(handle)

    def lock(self, descriptor: int, *, wait: bool = False) -> bool:
        """See `Files`."""
        flags = LOCKFILE_EXCLUSIVE_LOCK | (0 if wait else LOCKFILE_FAIL_IMMEDIATELY)
        place = _place_of_lock()
        if win32.kernel32.LockFileEx(_file(descriptor), flags, 0, 1, 0, ctypes.byref(place)):
            return True
        if win32.last_error() in (win32.ERROR_LOCK_VIOLATION, win32.ERROR_IO_PENDING):
            return False
        raise win32.error()

    def unlock(self, descriptor: int) -> None:
        """See `Files`."""
        place = _place_of_lock()
        win32.check(win32.kernel32.UnlockFileEx(_file(descriptor), 0, 1, 0, ctypes.byref(place)))

    def _user(self) -> bytes:
        return win32.user_of(win32.kernel32.GetCurrentProcess())

    def _pipe_name(self, path: Path) -> str:
        return pipe_name(path, win32.sid_text(self._user()))

    def _owner_only(self) -> Any:
        return owner_only(win32.sid_text(self._user()))

    # -- processes ------------------------------------------------------------------------------

    def start_child(
        self,
        command: Sequence[str],
        *,
        link: Optional[PipeConnection] = None,
        environment: Optional[Mapping[str, str]] = None,
    ) -> tuple[subprocess.Popen[bytes], PipeOutput]:
        """See `Processes`."""
        return windows_children.start(command, link, environment, self._owner_only())

    def end_children_with_me(self) -> None:
        """See `Processes`: a job that this process is in, and every process that it starts."""
        windows_children.end_children_with_me()

    def die_with_parent(self) -> None:
        """See `Processes`: the job of the parent sees to it."""

    def has_ended(self, parent: int) -> bool:
        """See `Processes`."""
        return windows_children.has_ended(parent)

    def runs(self, pid: int) -> bool:
        """See `Processes`."""
        return windows_children.runs(pid)

    def start_detached(self, command: Sequence[str], **arguments: Any) -> subprocess.Popen[bytes]:
        """See `Processes`. Without a window, and out of reach of the console's Ctrl-C."""
        return windows_children.start_detached(command, **arguments)

    def stop_signals(self) -> tuple[int, ...]:
        """See `Processes`. Ctrl-Break is also what a closed console sends."""
        return signal.SIGINT, signal.SIGTERM, signal.SIGBREAK  # type: ignore[attr-defined]

    # -- the machine ----------------------------------------------------------------------------

    def descriptor_limit(self) -> int:
        """See `Machine`."""
        return HANDLE_LIMIT

    def free_descriptors(self) -> int:
        """See `Machine`."""
        count = wintypes.DWORD()
        process = win32.kernel32.GetCurrentProcess()
        win32.check(win32.kernel32.GetProcessHandleCount(process, ctypes.byref(count)))
        return HANDLE_LIMIT - count.value

    def raise_descriptor_limit(self, wanted: int) -> None:
        """See `Machine`: there is none to raise."""

    def resident_bytes(self) -> int:
        """See `Machine`."""
        return int(_own_memory().WorkingSetSize)

    def private_bytes(self) -> int:
        """See `Machine`."""
        return int(_own_memory().PrivateUsage)

    def release_memory(self) -> None:
        """See `Machine`: the allocator gives back what it frees."""

    def total_memory_bytes(self) -> int:
        """See `Machine`."""
        return int(_machine_memory().ullTotalPhys)

    def available_memory_bytes(self) -> int:
        """See `Machine`."""
        return int(_machine_memory().ullAvailPhys)

    def may_have_gpu(self) -> bool:
        """See `Machine`: the driver of NVIDIA is installed."""
        system = os.environ.get("SYSTEMROOT", "C:\\Windows")
        return os.path.exists(os.path.join(system, "System32", "nvcuda.dll"))

    def cores(self) -> int:
        """See `Machine`."""
        return os.cpu_count() or 1


def _known_folder(variable: str, name: str) -> Path:
    given = os.environ.get(variable)
    return Path(given) if given and os.path.isabs(given) else Path.home() / "AppData" / name


def _wait_for_any(handles: list[int], timeout_s: float) -> None:
    array = (wintypes.HANDLE * len(handles))(*handles)
    # Rounded up: a wait that ends a moment early would be begun again and again.
    timeout_ms = min(win32.INFINITE - 1, int(max(0.0, timeout_s) * 1000 + 0.999))
    result = win32.kernel32.WaitForMultipleObjects(len(handles), array, False, timeout_ms)
    if result == win32.INFINITE:  # WAIT_FAILED
        raise win32.error()


def _set_among(handles: list[int]) -> set[int]:
    wait = win32.kernel32.WaitForSingleObject
    return {handle for handle in handles if wait(handle, 0) == win32.WAIT_OBJECT_0}


def _file(descriptor: int) -> int:
    """The handle of one of Python's own file descriptors."""
    import msvcrt

    handle: int = msvcrt.get_osfhandle(descriptor)  # type: ignore[attr-defined]
    return handle


def _place_of_lock() -> win32.Overlapped:
    place = win32.Overlapped()
    place.Offset = LOCKED_BYTE
    return place


def _own_memory() -> win32.ProcessMemory:
    found = win32.ProcessMemory()
    found.cb = ctypes.sizeof(found)
    with contextlib.suppress(OSError):
        win32.check(
            win32.kernel32.K32GetProcessMemoryInfo(
                win32.kernel32.GetCurrentProcess(), ctypes.byref(found), found.cb
            )
        )
    return found


def _machine_memory() -> win32.MemoryStatus:
    found = win32.MemoryStatus()
    found.dwLength = ctypes.sizeof(found)
    win32.check(win32.kernel32.GlobalMemoryStatusEx(ctypes.byref(found)))
    return found
