r"""Child processes of Windows: what they inherit, what they print, and that they end with this one.

    front --Popen, handle of the link--> worker --prints--> pipe of plain bytes --> front

A child inherits the handles that are listed for it and no others. It is started without a window,
and in no console that Ctrl-C could reach. Children end with this process because it is in a *job*:
its only handle is this process's, and the system ends every process of a job with its last handle.

The `python.exe` of a virtual environment only starts the real one. As the front must know the
process of a worker, to give it handles, the real one is started at once, as `multiprocessing` does.

Runs on Python 3.9.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from mattebridge.wire import win32
from mattebridge.wire.windows_pipes import PipeConnection, PipeOutput, create_pipe

CREATE_NO_WINDOW, CREATE_NEW_PROCESS_GROUP = 0x08000000, 0x200
CREATE_BREAKAWAY_FROM_JOB = 0x01000000
JOB_EXTENDED_LIMITS, JOB_KILL_ON_CLOSE = 9, 0x2000
HANDLE_FLAG_INHERIT = 1
BYTE_PIPE = 0
# The environment variable that tells a real Python of which virtual environment it is.
LAUNCHER = "__PYVENV_LAUNCHER__"

# Processes that started this one, kept open so that their numbers stay theirs.
_parents: dict[int, int] = {}


def start(
    command: Sequence[str],
    link: Optional[PipeConnection],
    environment: Optional[Mapping[str, str]],
    security: Any,
) -> tuple[subprocess.Popen[bytes], PipeOutput]:
    """See `Processes.start_child`. security: who may open the pipe of what it prints."""
    handles = [] if link is None else [link.handle]
    program = real_python(command[0])
    given = dict(os.environ if environment is None else environment)
    if program != command[0]:
        given[LAUNCHER] = command[0]
    reading, writing = _output_pipe(security)
    try:
        with _inheritable(handles):
            process = subprocess.Popen(
                [program, *command[1:], *(f"--link={handle}" for handle in handles)],
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                startupinfo=_listed(handles),
                creationflags=CREATE_NO_WINDOW,
                env=given,
            )
        if link is not None:
            link.inherited_by(process.pid)
    except OSError:
        reading.close()
        raise
    finally:
        os.close(writing)
    return process, reading


def start_detached(command: Sequence[str], **arguments: Any) -> subprocess.Popen[bytes]:
    """See `Processes`: outside of this process's job too, where that job lets its processes leave.

    A launcher or a queue may have put this process into a job, to end all of it at once.
    """
    flags = CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP
    try:
        return subprocess.Popen(
            command, creationflags=flags | CREATE_BREAKAWAY_FROM_JOB, **arguments
        )
    except PermissionError:  # the job keeps them, or the program may not be run at all
        return subprocess.Popen(command, creationflags=flags, **arguments)


def real_python(program: str) -> str:
    """The program itself; for the `python.exe` of a virtual environment, the one that it starts."""
    path = Path(program)
    try:
        lines = (path.parent.parent / "pyvenv.cfg").read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return program
    values = dict(line.replace(" = ", "=", 1).partition("=")[::2] for line in lines)
    real = Path(values.get("home", "")) / path.name
    return str(real) if "home" in values and real.is_file() else program


def _output_pipe(security: Any) -> tuple[PipeOutput, int]:
    """The reading end, and the writing end as one of Python's descriptors."""
    name = rf"\\.\pipe\mattebridge-output-{os.urandom(16).hex()}"
    handle = create_pipe(name, security, first=True, mode=BYTE_PIPE)
    writing = win32.kernel32.CreateFileW(
        name, win32.GENERIC_WRITE, 0, None, win32.OPEN_EXISTING, win32.SECURITY_SQOS_PRESENT, None
    )
    if writing == win32.INVALID_HANDLE:
        failure = win32.error()
        win32.close(handle)
        raise failure
    return PipeOutput(handle), win32.descriptor_of(writing)


@contextlib.contextmanager
def _inheritable(handles: Sequence[int]) -> Iterator[None]:
    for handle in handles:
        os.set_handle_inheritable(handle, True)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for handle in handles:
            os.set_handle_inheritable(handle, False)  # type: ignore[attr-defined]


def _listed(handles: Sequence[int]) -> Any:
    """What tells `Popen` to let these handles be inherited, and its own three, and no others."""
    info = subprocess.STARTUPINFO()  # type: ignore[attr-defined]
    info.lpAttributeList = {"handle_list": list(handles)}
    return info


def end_children_with_me() -> None:
    """See `Processes`."""
    limits = win32.ExtendedLimits()
    limits.BasicLimitInformation.LimitFlags = JOB_KILL_ON_CLOSE
    job = win32.check(win32.kernel32.CreateJobObjectW(None, None))
    win32.check(
        win32.kernel32.SetInformationJobObject(
            job, JOB_EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
        )
    )
    win32.check(win32.kernel32.AssignProcessToJobObject(job, win32.kernel32.GetCurrentProcess()))


def has_ended(pid: int) -> bool:
    """See `Processes`."""
    if pid not in _parents:
        process = _open(pid)
        if process is None:
            return True
        _parents[pid] = process
    return _is_over(_parents[pid])


def runs(pid: int) -> bool:
    """See `Processes`. What cannot be opened runs as another user."""
    process = _open(pid)
    if process is None:
        return win32.last_error() == win32.ERROR_ACCESS_DENIED
    try:
        return not _is_over(process)
    finally:
        win32.close(process)


def _open(pid: int) -> Optional[int]:
    return win32.kernel32.OpenProcess(win32.SYNCHRONIZE, False, pid) or None


def _is_over(process: int) -> bool:
    return bool(win32.kernel32.WaitForSingleObject(process, 0) == win32.WAIT_OBJECT_0)
