"""The calls of Windows that the layer makes: their types, and their errors as Python's.

Imported on Windows alone. Every handle here is a plain integer. A call that fails raises the
`OSError` of its error code (`FileNotFoundError`, `BrokenPipeError`, ...), so that nothing else has
to look at return values.

Runs on Python 3.9; ctypes alone.
"""

from __future__ import annotations

import ctypes
from ctypes import wintypes
from typing import Any, Optional

INVALID_HANDLE = ctypes.c_void_p(-1).value
INFINITE = 0xFFFFFFFF
WAIT_OBJECT_0, WAIT_TIMEOUT = 0, 0x102
MAX_WAIT_OBJECTS = 64

ERROR_ACCESS_DENIED = 5
ERROR_INVALID_HANDLE = 6
ERROR_LOCK_VIOLATION = 33
ERROR_BROKEN_PIPE = 109
ERROR_PIPE_BUSY = 231
ERROR_NO_DATA = 232
ERROR_PIPE_NOT_CONNECTED = 233
ERROR_MORE_DATA = 234
ERROR_OPERATION_ABORTED = 995
ERROR_IO_INCOMPLETE = 996
ERROR_IO_PENDING = 997
ERROR_PIPE_CONNECTED = 535

PROCESS_DUP_HANDLE, PROCESS_QUERY_LIMITED_INFORMATION, SYNCHRONIZE = 0x40, 0x1000, 0x100000
DUPLICATE_CLOSE_SOURCE, DUPLICATE_SAME_ACCESS = 1, 2
TOKEN_QUERY, TOKEN_USER_CLASS = 8, 1
SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION = 1, 1
GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
CREATE_NEW, OPEN_EXISTING = 1, 3
FILE_FLAG_OVERLAPPED, FILE_FLAG_FIRST_PIPE_INSTANCE = 0x40000000, 0x80000
SECURITY_SQOS_PRESENT = 0x100000  # with no level beside it: the other end may not act as this user
FILE_WRITE_ATTRIBUTES = 0x100
LOCALE_INVARIANT, LCMAP_LOWERCASE = 0x7F, 0x100


class Overlapped(ctypes.Structure):
    """The state of one read, write or connection that has not ended."""

    _fields_ = [
        ("Internal", ctypes.c_void_p),
        ("InternalHigh", ctypes.c_void_p),
        ("Offset", wintypes.DWORD),
        ("OffsetHigh", wintypes.DWORD),
        ("hEvent", wintypes.HANDLE),
    ]


class SecurityAttributes(ctypes.Structure):
    """Who may open what is made with them."""

    _fields_ = [
        ("nLength", wintypes.DWORD),
        ("lpSecurityDescriptor", ctypes.c_void_p),
        ("bInheritHandle", wintypes.BOOL),
    ]


class MemoryRegion(ctypes.Structure):
    """MEMORY_BASIC_INFORMATION."""

    _fields_ = [
        ("BaseAddress", ctypes.c_void_p),
        ("AllocationBase", ctypes.c_void_p),
        ("AllocationProtect", wintypes.DWORD),
        ("PartitionId", wintypes.WORD),
        ("RegionSize", ctypes.c_size_t),
        ("State", wintypes.DWORD),
        ("Protect", wintypes.DWORD),
        ("Type", wintypes.DWORD),
    ]


class MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX."""

    _fields_ = [
        ("dwLength", wintypes.DWORD),
        ("dwMemoryLoad", wintypes.DWORD),
        ("ullTotalPhys", ctypes.c_uint64),
        ("ullAvailPhys", ctypes.c_uint64),
        ("ullTotalPageFile", ctypes.c_uint64),
        ("ullAvailPageFile", ctypes.c_uint64),
        ("ullTotalVirtual", ctypes.c_uint64),
        ("ullAvailVirtual", ctypes.c_uint64),
        ("ullAvailExtendedVirtual", ctypes.c_uint64),
    ]


class ProcessMemory(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS_EX."""

    _fields_ = [
        ("cb", wintypes.DWORD),
        ("PageFaultCount", wintypes.DWORD),
        ("PeakWorkingSetSize", ctypes.c_size_t),
        ("WorkingSetSize", ctypes.c_size_t),
        ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
        ("QuotaPagedPoolUsage", ctypes.c_size_t),
        ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
        ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
        ("PagefileUsage", ctypes.c_size_t),
        ("PeakPagefileUsage", ctypes.c_size_t),
        ("PrivateUsage", ctypes.c_size_t),
    ]


class BasicLimits(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

    _fields_ = [
        ("PerProcessUserTimeLimit", ctypes.c_int64),
        ("PerJobUserTimeLimit", ctypes.c_int64),
        ("LimitFlags", wintypes.DWORD),
        ("MinimumWorkingSetSize", ctypes.c_size_t),
        ("MaximumWorkingSetSize", ctypes.c_size_t),
        ("ActiveProcessLimit", wintypes.DWORD),
        ("Affinity", ctypes.c_size_t),
        ("PriorityClass", wintypes.DWORD),
        ("SchedulingClass", wintypes.DWORD),
    ]


class ExtendedLimits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = [
        ("BasicLimitInformation", BasicLimits),
        ("IoInfo", ctypes.c_uint64 * 6),
        ("ProcessMemoryLimit", ctypes.c_size_t),
        ("JobMemoryLimit", ctypes.c_size_t),
        ("PeakProcessMemoryUsed", ctypes.c_size_t),
        ("PeakJobMemoryUsed", ctypes.c_size_t),
    ]


_H, _D, _P, _S, _W = (
    wintypes.HANDLE, wintypes.DWORD, ctypes.c_void_p, ctypes.c_size_t, wintypes.LPCWSTR,
)  # fmt: skip
_B = wintypes.BOOL
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "AssignProcessToJobObject": (_B, (_H, _H)),
    "CancelIoEx": (_B, (_H, _P)),
    "CloseHandle": (_B, (_H,)),
    "ConnectNamedPipe": (_B, (_H, _P)),
    "CreateEventW": (_H, (_P, _B, _B, _W)),
    "CreateFileMappingW": (_H, (_H, _P, _D, _D, _D, _W)),
    "CreateFileW": (_H, (_W, _D, _D, _P, _D, _D, _H)),
    "CreateJobObjectW": (_H, (_P, _W)),
    "CreateNamedPipeW": (_H, (_W, _D, _D, _D, _D, _D, _D, _P)),
    "DuplicateHandle": (_B, (_H, _H, _H, _P, _D, _B, _D)),
    "GetCurrentProcess": (_H, ()),
    "GetNamedPipeClientProcessId": (_B, (_H, _P)),
    "GetNamedPipeServerProcessId": (_B, (_H, _P)),
    "GetOverlappedResult": (_B, (_H, _P, _P, _B)),
    "GetProcessHandleCount": (_B, (_H, _P)),
    "GlobalMemoryStatusEx": (_B, (_P,)),
    "K32GetProcessMemoryInfo": (_B, (_H, _P, _D)),
    "LCMapStringW": (ctypes.c_int, (_D, _D, _W, ctypes.c_int, _P, ctypes.c_int)),
    "LocalFree": (_P, (_P,)),
    "LockFileEx": (_B, (_H, _D, _D, _D, _D, _P)),
    "MapViewOfFile": (_P, (_H, _D, _D, _D, _S)),
    "OpenProcess": (_H, (_D, _B, _D)),
    "ReadFile": (_B, (_H, _P, _D, _P, _P)),
    "ResetEvent": (_B, (_H,)),
    "RtlMoveMemory": (None, (_P, _P, _S)),
    "SetEvent": (_B, (_H,)),
    "SetInformationJobObject": (_B, (_H, ctypes.c_int, _P, _D)),
    "SetNamedPipeHandleState": (_B, (_H, _P, _P, _P)),
    "UnlockFileEx": (_B, (_H, _D, _D, _D, _P)),
    "UnmapViewOfFile": (_B, (_P,)),
    "VirtualQuery": (_S, (_P, _P, _S)),
    "WaitForMultipleObjects": (_D, (_D, _P, _B, _D)),
    "WaitForSingleObject": (_D, (_H, _D)),
    "WriteFile": (_B, (_H, _P, _D, _P, _P)),
}
_SECURITY_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "ConvertSidToStringSidW": (_B, (_P, _P)),
    "ConvertStringSecurityDescriptorToSecurityDescriptorW": (_B, (_W, _D, _P, _P)),
    "GetLengthSid": (_D, (_P,)),
    "GetNamedSecurityInfoW": (_D, (_W, ctypes.c_int, _D, _P, _P, _P, _P, _P)),
    "GetTokenInformation": (_B, (_H, ctypes.c_int, _P, _D, _P)),
    "OpenProcessToken": (_B, (_H, _D, _P)),
}


def _library(name: str, signatures: dict[str, tuple[Any, tuple[Any, ...]]]) -> Any:
    library = ctypes.WinDLL(name, use_last_error=True)  # type: ignore[attr-defined]
    for function, (result, arguments) in signatures.items():
        call = getattr(library, function)
        call.restype, call.argtypes = result, arguments
    return library


kernel32 = _library("kernel32", _SIGNATURES)
advapi32 = _library("advapi32", _SECURITY_SIGNATURES)


def last_error() -> int:
    """The code of the error of this thread's last call."""
    return int(ctypes.get_last_error())  # type: ignore[attr-defined]


def error(code: Optional[int] = None) -> OSError:
    """The `OSError` of a code, or of the last call."""
    made: OSError = ctypes.WinError(last_error() if code is None else code)  # type: ignore[attr-defined]
    return made


def check(result: Any) -> int:
    """The result of a call that gives zero, or an invalid handle, where it fails."""
    if not result or result == INVALID_HANDLE:
        raise error()
    return int(result)


def close(handle: int) -> None:
    """Give a handle back."""
    check(kernel32.CloseHandle(handle))


def descriptor_of(handle: int) -> int:
    """The handle of a file as one of Python's own descriptors, which owns it then."""
    import msvcrt

    descriptor: int = msvcrt.open_osfhandle(handle, 0)  # type: ignore[attr-defined]
    return descriptor


def event() -> int:
    """A new event that stays set until it is reset."""
    return check(kernel32.CreateEventW(None, True, False, None))


def small_letters(text: str) -> str:
    """A path in small letters as file systems compare them: letter by letter, in no language.

    `str.lower` makes two letters of some, and another one of a sigma at the end of a word.
    """
    size = len(text.encode("utf-16-le")) // 2
    made = ctypes.create_unicode_buffer(size + 1)
    check(kernel32.LCMapStringW(LOCALE_INVARIANT, LCMAP_LOWERCASE, text, size, made, size))
    return made.value


def user_of(process: int) -> bytes:
    """The security identifier of the user whom a process acts for."""
    token = wintypes.HANDLE()
    check(advapi32.OpenProcessToken(process, TOKEN_QUERY, ctypes.byref(token)))
    try:
        size = wintypes.DWORD()
        advapi32.GetTokenInformation(token, TOKEN_USER_CLASS, None, 0, ctypes.byref(size))
        found = ctypes.create_string_buffer(size.value)
        check(
            advapi32.GetTokenInformation(token, TOKEN_USER_CLASS, found, size, ctypes.byref(size))
        )
        return sid_bytes(ctypes.c_void_p.from_buffer(found).value)
    finally:
        kernel32.CloseHandle(token)


def sid_bytes(sid: Optional[int]) -> bytes:
    """A security identifier as its bytes."""
    return ctypes.string_at(sid, advapi32.GetLengthSid(sid)) if sid else b""


def sid_text(sid: bytes) -> str:
    """A security identifier as it is written: `S-1-5-21-...`."""
    text = ctypes.c_void_p()
    check(advapi32.ConvertSidToStringSidW(ctypes.create_string_buffer(sid), ctypes.byref(text)))
    try:
        return ctypes.wstring_at(text.value or 0)
    finally:
        kernel32.LocalFree(text)


def owner_of(path: str) -> bytes:
    """The security identifier of a file's owner."""
    owner, descriptor = ctypes.c_void_p(), ctypes.c_void_p()
    code = advapi32.GetNamedSecurityInfoW(
        path, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION,
        ctypes.byref(owner), None, None, None, ctypes.byref(descriptor),
    )  # fmt: skip
    if code:
        raise error(code)
    try:
        return sid_bytes(owner.value)
    finally:
        kernel32.LocalFree(descriptor)
