r"""Connections of Windows: named pipes that keep the borders of records.

    \\.\pipe\mattebridge-<user>-<digest of the path>     message mode, this machine alone,
                                                         open to its owner alone

A record on the pipe is `count` (4 bytes), `count` handles (8 bytes each), then the data: a handle
is a number in the *receiver's* process, which the sender put there (`DuplicateHandle`). Only a
process that was given the right to do so may send handles: the daemon takes none, or a client could
name one of the daemon's own.

One read is under way on each connection that was asked for its `fileno`, which is the event of that
read: set when there is a record, or the end. (Nobody asks the end that a child will inherit: a read
of this process would take the child's records.) Windows ends a read when the thread that began it
ends; whoever notices begins it again. One write may be under way: the system has the record, and
the next one is refused until the other end has read.

The rule that must not be broken: memory that a read or write under way uses outlives it. `close`
ends both and waits for their end before it lets go.

Runs on Python 3.9.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import struct
from collections.abc import Sequence
from ctypes import wintypes
from pathlib import Path
from typing import Any, Optional

from mattebridge.wire import win32
from mattebridge.wire.children import READ_BYTES
from mattebridge.wire.connection import Peer, Record

PIPE_ACCESS_DUPLEX = 3
PIPE_TYPE_MESSAGE, PIPE_READMODE_MESSAGE = 4, 2
PIPE_REJECT_REMOTE_CLIENTS = 8
PIPE_UNLIMITED_INSTANCES = 255
SDDL_REVISION = 1
COUNT = struct.Struct("<I")
HANDLE = struct.Struct("<Q")
# A session has at most 8 arenas; the same bound as on the other systems.
MAX_HANDLES = 16
# Longer records are cut. The longest is one of the link between front and worker.
MAX_RECORD_BYTES = (1 << 17) + 1024
BUFFER_BYTES = 1 << 16

Buffer = Any


def pipe_name(path: Path, user: str) -> str:
    """The pipe of an address: of the user, and of the path as Windows compares paths."""
    address = win32.small_letters(str(path).replace("/", "\\"))
    digest = hashlib.sha256(address.encode()).hexdigest()[:32]
    return rf"\\.\pipe\mattebridge-{user}-{digest}"


class Transfer:
    """One read, write or connection under way: its state, its event, and its memory."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self.event = win32.event()
        self._state = win32.Overlapped()
        self._state.hEvent = self.event
        self._buffer: Optional[Buffer] = None
        self.pending = False

    def start(self, call: Any, *arguments: Any, buffer: Buffer = None) -> int:
        """Begin; 0, or the code of the error that it ended with at once."""
        assert not self.pending
        win32.kernel32.ResetEvent(self.event)
        self._buffer = buffer
        begun = call(self._handle, *arguments, ctypes.byref(self._state))
        code = 0 if begun else win32.last_error()
        self.pending = code in (0, win32.ERROR_IO_PENDING, win32.ERROR_MORE_DATA)
        return 0 if self.pending else code

    def result(self, *, wait: bool = False) -> Optional[tuple[int, int]]:
        """Bytes moved and the code of the error, or None while it is under way."""
        moved = wintypes.DWORD()
        done = win32.kernel32.GetOverlappedResult(
            self._handle, ctypes.byref(self._state), ctypes.byref(moved), wait
        )
        code = 0 if done else win32.last_error()
        if code == win32.ERROR_IO_INCOMPLETE:
            return None
        self.pending = False
        return moved.value, code

    def close(self) -> None:
        """End it, and wait until nothing touches its memory any more."""
        if self.pending:
            win32.kernel32.CancelIoEx(self._handle, ctypes.byref(self._state))
            self.result(wait=True)
        win32.close(self.event)


class PipeConnection:
    """A `Connection` over one end of a pipe in message mode, which it owns.

    process: of the other end, to duplicate handles into; it is closed with the connection, and
    keeps the number of the process from being given to another one. takes_handles: whether records
    may bring handles.
    """

    def __init__(
        self,
        handle: int,
        peer: Peer,
        process: Optional[int],
        *,
        takes_handles: bool,
        waits: bool = False,
    ) -> None:
        self._handle = handle
        self._peer, self._process = peer, process
        self._takes_handles, self._waits = takes_handles, waits
        self._read, self._write = Transfer(handle), Transfer(handle)
        self._buffer = ctypes.create_string_buffer(MAX_RECORD_BYTES)
        self._ended = False
        self._closed = False
        self._reads = False
        self.other_end: Optional[PipeConnection] = None  # of a `pair`

    def fileno(self) -> int:
        """See `Connection`."""
        self._read_from_now()
        return self._read.event

    def peer(self) -> Peer:
        """See `Connection`."""
        return self._peer

    def inherited_by(self, pid: int) -> None:
        """Tell the other end of this `pair` which process has this one now."""
        if self.other_end is not None:
            self.other_end._give_process(open_process(pid), pid)

    def _give_process(self, process: int, pid: int) -> None:
        if self._process is not None:
            win32.close(self._process)
        self._process, self._peer = process, Peer(pid, self._peer.uid)

    @property
    def handle(self) -> int:
        """The end of the pipe itself, for a child process to inherit."""
        return self._handle

    # -- sending ----------------------------------------------------------------------------------

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """See `Connection`. `BlockingIOError` while the other end has not read the last record."""
        if self._closed:
            raise OSError("the connection is closed")
        if self._write.pending:
            ended = self._write.result(wait=self._waits)
            if ended is None:
                raise BlockingIOError("the other end does not read")
            if ended[1]:
                raise win32.error(ended[1])
        given = self._duplicate(descriptors)
        numbers = b"".join(HANDLE.pack(number) for number in given)
        record = COUNT.pack(len(given)) + numbers + data
        try:
            self._begin_write(record)
        except OSError:
            self._take_back(given)
            raise

    def _begin_write(self, record: bytes) -> None:
        buffer = ctypes.create_string_buffer(record, len(record))
        code = self._write.start(win32.kernel32.WriteFile, buffer, len(record), None, buffer=buffer)
        if not code:
            ended = self._write.result(wait=self._waits)
            code = ended[1] if ended is not None else 0
        if code:
            raise BrokenPipeError(code, "the other end is closed") from win32.error(code)

    def _duplicate(self, descriptors: Sequence[int]) -> list[int]:
        """Numbers of the same objects in the other process."""
        given: list[int] = []
        try:
            for descriptor in descriptors:
                if self._process is None:
                    raise OSError("handles cannot be sent to this process")
                number = wintypes.HANDLE()
                win32.check(
                    win32.kernel32.DuplicateHandle(
                        win32.kernel32.GetCurrentProcess(), descriptor, self._process,
                        ctypes.byref(number), 0, False, win32.DUPLICATE_SAME_ACCESS,
                    )
                )  # fmt: skip
                given.append(number.value or 0)
        except OSError:
            self._take_back(given)
            raise
        return given

    def _take_back(self, given: Sequence[int]) -> None:
        """Close handles in the other process that were not sent after all."""
        for number in given:
            win32.kernel32.DuplicateHandle(
                self._process, number, None, None, 0, False, win32.DUPLICATE_CLOSE_SOURCE
            )

    # -- receiving --------------------------------------------------------------------------------

    def _read_from_now(self) -> None:
        if not self._reads and not self._closed:
            self._reads = True
            self._begin_read()

    def _begin_read(self) -> None:
        code = self._read.start(
            win32.kernel32.ReadFile, self._buffer, MAX_RECORD_BYTES, None, buffer=self._buffer
        )
        if code:
            self._ended = True
            win32.kernel32.SetEvent(self._read.event)

    def receive(self, limit: int) -> Record:
        """See `Connection`."""
        if self._closed:
            raise OSError("the connection is closed")
        self._read_from_now()
        if self._ended:
            return Record(b"", [], False)
        ended = self._read.result(wait=self._waits)
        if ended is None:
            raise BlockingIOError("there is no record")
        size, code = ended
        if code == win32.ERROR_OPERATION_ABORTED:
            self._begin_read()
            return self.receive(limit)
        if code not in (0, win32.ERROR_MORE_DATA):
            self._ended = True
            win32.kernel32.SetEvent(self._read.event)
            return Record(b"", [], False)
        raw = self._buffer.raw[:size]
        cut = self._drop_rest() if code == win32.ERROR_MORE_DATA else False
        self._begin_read()
        data, handles, wrong = self._split(raw)
        return Record(data[: limit + 1], handles, cut or wrong or len(data) > limit)

    def _drop_rest(self) -> bool:
        """Read what is left of a record that is too long."""
        code = win32.ERROR_MORE_DATA
        while code == win32.ERROR_MORE_DATA:
            if self._read.start(
                win32.kernel32.ReadFile, self._buffer, MAX_RECORD_BYTES, None, buffer=self._buffer
            ):
                break
            ended = self._read.result(wait=True)
            code = ended[1] if ended is not None else 0
        return True

    def _split(self, raw: bytes) -> tuple[bytes, list[int], bool]:
        """The data of a record, its handles, and whether it is not one that may come here."""
        if len(raw) < COUNT.size:
            return raw, [], True
        (count,) = COUNT.unpack_from(raw)
        start = COUNT.size + count * HANDLE.size
        if count > MAX_HANDLES or start > len(raw) or (count and not self._takes_handles):
            return raw[COUNT.size :], [], True
        places = range(COUNT.size, start, HANDLE.size)
        return raw[start:], [HANDLE.unpack_from(raw, place)[0] for place in places], False

    def lost(self) -> bool:
        """See `Connection`."""
        self._read_from_now()
        if self._closed or self._ended:
            return True
        # The event is set and the result is the end: a record leaves the read without an error.
        moved = wintypes.DWORD()
        if win32.kernel32.WaitForSingleObject(self._read.event, 0) != win32.WAIT_OBJECT_0:
            return False
        done = win32.kernel32.GetOverlappedResult(
            self._handle, ctypes.byref(self._read._state), ctypes.byref(moved), False
        )
        return not done and win32.last_error() not in (
            win32.ERROR_MORE_DATA, win32.ERROR_IO_INCOMPLETE, win32.ERROR_OPERATION_ABORTED,
        )  # fmt: skip

    def close(self) -> None:
        """See `Connection`."""
        if self._closed:
            return
        self._closed = True
        for transfer in (self._read, self._write):
            transfer.close()
        win32.close(self._handle)
        if self._process is not None:
            win32.close(self._process)


class PipeOutput:
    """An `Output`: the reading end of a pipe of plain bytes, which it owns."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._read = Transfer(handle)
        self._buffer = ctypes.create_string_buffer(READ_BYTES)
        self._ended = False
        self._begin()

    def fileno(self) -> int:
        """See `Output`."""
        return self._read.event

    def _begin(self) -> None:
        code = self._read.start(
            win32.kernel32.ReadFile, self._buffer, READ_BYTES, None, buffer=self._buffer
        )
        if code:
            self._end()

    def _end(self) -> None:
        self._ended = True
        win32.kernel32.SetEvent(self._read.event)

    def read(self) -> bytes:
        """See `Output`."""
        if self._ended:
            return b""
        ended = self._read.result()
        if ended is None:
            raise BlockingIOError("nothing was printed")
        size, code = ended
        if code not in (0, win32.ERROR_MORE_DATA, win32.ERROR_OPERATION_ABORTED):
            self._end()
            return b""
        data = self._buffer.raw[:size]
        self._begin()
        if not data:  # a write of nothing is no end
            return self.read()
        return data

    def close(self) -> None:
        """See `Output`."""
        self._read.close()
        win32.close(self._handle)


class PipeListener:
    """A `Listener`: one instance of the pipe waits for the next connection."""

    def __init__(self, name: str, security: Buffer) -> None:
        self._name, self._security = name, security
        self._event = win32.event()
        self._waiting: Optional[tuple[int, Transfer]] = None

    def fileno(self) -> int:
        """See `Listener`."""
        return self._event

    def listen(self, backlog: int) -> None:
        """See `Listener`. A process that finds no waiting instance tries again by itself."""
        self._wait_for_next(first=True)

    def _wait_for_next(self, *, first: bool = False) -> None:
        handle = create_pipe(self._name, self._security, first=first)
        transfer = Transfer(handle)
        win32.close(transfer.event)
        transfer.event = transfer._state.hEvent = self._event  # one number, whatever the instance
        code = transfer.start(win32.kernel32.ConnectNamedPipe)
        if code in (win32.ERROR_PIPE_CONNECTED, win32.ERROR_NO_DATA):
            # A process was quicker, and may have gone again: `accept` gives a connection all the
            # same, which says so.
            win32.kernel32.SetEvent(self._event)
        elif code:
            win32.close(handle)
            raise win32.error(code)
        self._waiting = (handle, transfer)

    def accept(self) -> PipeConnection:
        """See `Listener`."""
        if self._waiting is None:
            raise OSError("it does not listen")
        handle, transfer = self._waiting
        if transfer.pending and transfer.result() is None:
            raise BlockingIOError("nobody connects")
        self._waiting = None
        win32.kernel32.ResetEvent(self._event)
        try:
            self._wait_for_next()
        except OSError:
            win32.close(handle)
            raise
        return connected(handle, win32.kernel32.GetNamedPipeClientProcessId, takes_handles=False)

    def close(self) -> None:
        """See `Listener`."""
        if self._waiting is not None:
            handle, transfer = self._waiting
            self._waiting = None
            if transfer.pending:
                win32.kernel32.CancelIoEx(handle, None)
                transfer.result(wait=True)
            win32.close(handle)
        win32.close(self._event)


def owner_only(user: str) -> Buffer:
    """Security attributes that let one user in, by their security identifier, and nobody else."""
    descriptor = ctypes.c_void_p()
    win32.check(
        win32.advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
            f"D:P(A;;GA;;;{user})", SDDL_REVISION, ctypes.byref(descriptor), None
        )
    )
    # Some hundred bytes, which live as long as the process.
    size = ctypes.sizeof(win32.SecurityAttributes)
    return ctypes.pointer(win32.SecurityAttributes(size, descriptor.value, False))


def create_pipe(
    name: str,
    security: Buffer,
    *,
    first: bool,
    buffer_bytes: int = BUFFER_BYTES,
    mode: int = PIPE_TYPE_MESSAGE | PIPE_READMODE_MESSAGE,
) -> int:
    """A new instance of a pipe; `OSError` where `first` is asked for and there is one already."""
    flags = PIPE_ACCESS_DUPLEX | win32.FILE_FLAG_OVERLAPPED
    if first:
        flags |= win32.FILE_FLAG_FIRST_PIPE_INSTANCE
    mode |= PIPE_REJECT_REMOTE_CLIENTS
    return win32.check(
        win32.kernel32.CreateNamedPipeW(
            name, flags, mode, PIPE_UNLIMITED_INSTANCES, buffer_bytes, buffer_bytes, 0, security
        )
    )


def open_pipe(name: str, *, inheritable: Buffer = None) -> int:
    """The other end of a pipe; `FileNotFoundError`, or `BlockingIOError` while all are taken."""
    handle = win32.kernel32.CreateFileW(
        name,
        win32.GENERIC_READ | win32.GENERIC_WRITE,
        0,
        inheritable,
        win32.OPEN_EXISTING,
        win32.FILE_FLAG_OVERLAPPED | win32.SECURITY_SQOS_PRESENT,
        None,
    )
    if handle == win32.INVALID_HANDLE:
        if win32.last_error() == win32.ERROR_PIPE_BUSY:
            raise BlockingIOError("others are being connected first")
        raise win32.error()
    mode = wintypes.DWORD(PIPE_READMODE_MESSAGE)
    try:
        win32.check(win32.kernel32.SetNamedPipeHandleState(handle, ctypes.byref(mode), None, None))
    except OSError:
        win32.close(handle)
        raise
    return int(handle)


def connected(handle: int, ask: Any, *, takes_handles: bool, waits: bool = False) -> PipeConnection:
    """The connection of a pipe's end, with the process at the other end as the system names it.

    The process is opened and kept open, so that its number stays its own; what cannot be opened
    has the user -1, which is no account.
    """
    pid = wintypes.ULONG()
    process, user = None, -1
    if ask(handle, ctypes.byref(pid)):
        with contextlib.suppress(OSError):
            process = open_process(pid.value)
            user = int.from_bytes(win32.user_of(process), "big")
    peer = Peer(pid.value or -1, user)
    return PipeConnection(handle, peer, process, takes_handles=takes_handles, waits=waits)


def open_process(pid: int) -> int:
    """A handle of a process, to give it handles and to ask for its user; `OSError`."""
    rights = win32.PROCESS_DUP_HANDLE | win32.PROCESS_QUERY_LIMITED_INFORMATION | win32.SYNCHRONIZE
    return win32.check(win32.kernel32.OpenProcess(rights, False, pid))
