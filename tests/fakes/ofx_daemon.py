"""A daemon in a thread that says what a test wants: right, wrong, late, or garbage.

It speaks the door and ZMTP byte by byte, with none of mattebridge's own code, so that the plugin is
held to docs/protocol.md and not to our server. Well-behaved by default: it writes `fill` into every
output and keeps each request and a copy of its inputs. A test replaces one of the methods.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

import msgpack
import numpy as np

from fakes.limits import SOON_S

GREETING = b"\xff" + bytes(7) + b"\x01\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
READY = b"\x04\x1a\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"
READY = b"\x04" + bytes([len(READY) - 2]) + READY[2:]
SEALS = 7
F_ADD_SEALS = 1033
# The door is a stream under the layer of macOS.
STREAM = os.environ.get("MATTEBRIDGE_TEST_OSLAYER") == "posix"
DOOR_TYPE = socket.SOCK_STREAM if STREAM else socket.SOCK_SEQPACKET
DTYPES = {"u1": np.uint8, "u2": np.uint16, "f2": np.float16, "f4": np.float32}


def record(data: bytes) -> bytes:
    """One record as it stands on the door's connection."""
    return struct.pack("<I", len(data)) + data if STREAM else data


def framed(body: bytes, flags: int = 0) -> bytes:
    """One ZMTP frame."""
    if len(body) <= 255:
        return bytes([flags, len(body)]) + body
    return bytes([flags | 2]) + struct.pack(">Q", len(body)) + body


def message(reply: Any) -> bytes:
    """A reply as it stands on the wire; bytes stay as they are."""
    return reply if isinstance(reply, bytes) else framed(b"MTB1", 1) + framed(msgpack.packb(reply))


class FakeDaemon:
    """`with FakeDaemon() as daemon: ... daemon.requests[0]`."""

    def __init__(self, **replaced: Callable[..., Any]) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="mb-"))
        self.folder = self.home / "run"
        self.folder.mkdir(mode=0o700)
        self.requests: list[dict[str, Any]] = []
        self.inputs: list[dict[str, np.ndarray]] = []
        self.hellos: list[dict[str, Any]] = []
        self.cancels: list[bytes] = []
        self.fill = 0.25
        self.epoch = 77
        self.greeting, self.ready = GREETING, READY
        self.seals, self.short_by, self.descriptors = SEALS, 0, 1
        self.memory: dict[int, Any] = {}
        self.doors: list[socket.socket] = []
        self._arenas = 0
        self._connections: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._open = True
        for name, function in replaced.items():
            setattr(self, name, function)

    def __enter__(self) -> FakeDaemon:
        self._door = self._listen("door", DOOR_TYPE)
        self._ctl = self._listen("ctl", socket.SOCK_STREAM)
        self._run(self._accept, self._door, self._greet)
        self._run(self._accept, self._ctl, self._talk)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._open = False
        for connection in [self._door, self._ctl, *self._connections]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SOON_S)
            assert not thread.is_alive()
        self._door.close()
        self._ctl.close()
        self.memory.clear()
        shutil.rmtree(self.home, ignore_errors=True)

    # -- what a test may replace --------------------------------------------------------------

    def welcome(self, hello: dict[str, Any]) -> dict[str, Any]:
        """The answer at the door, without the arenas."""
        return {
            "op": "welcome",
            "proto": 1,
            "server": {"ver": "0", "pid": os.getpid(), "boot_id": "x", "epoch": self.epoch},
            "sid": bytes(range(16)),
            "ctl": f"ipc://{self.folder}/ctl",
        }

    def answer(self, request: dict[str, Any]) -> list[Any]:
        """Replies to a render: maps, or bytes to be sent as they are."""
        for plane in request["out"]:
            self.array(request["slot"], plane)[...] = self.fill
        return [self.reply(request, "done", degraded=[])]

    def reply(self, request: dict[str, Any], op: str, **more: Any) -> dict[str, Any]:
        """A final reply to a request."""
        return {
            "op": op, "id": request["id"], "epoch": self.epoch, "held": False,
            "slot": request["slot"], "gen": request["gen"], **more,
        }  # fmt: skip

    # -- the machinery ----------------------------------------------------------------------------

    def array(self, slot: int, plane: dict[str, Any]) -> np.ndarray:
        """A plane in its arena."""
        dtype = np.dtype(DTYPES[plane["dtype"]])
        return np.ndarray(
            (plane["h"], plane["w"], plane["c"]), dtype, self.memory[slot], plane["off"],
            (plane["stride"], plane["c"] * dtype.itemsize, dtype.itemsize),
        )  # fmt: skip

    def _listen(self, name: str, kind: int) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, kind)
        listener.bind(str(self.folder / name))
        listener.listen(16)
        return listener

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=self._quietly, args=(function, *arguments), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _quietly(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(OSError, ConnectionError, EOFError):
            function(*arguments)

    def _accept(self, listener: socket.socket, serve: Callable[[socket.socket], None]) -> None:
        while self._open:
            connection, _ = listener.accept()
            self._connections.append(connection)
            self._run(self._serve, serve, connection)

    def _serve(self, serve: Callable[[socket.socket], None], connection: socket.socket) -> None:
        try:
            serve(connection)
        finally:
            connection.close()
            self._connections.remove(connection)

    def _greet(self, door: socket.socket) -> None:
        self.doors.append(door)
        while data := door.recv(8192):
            # Under the layer of macOS a length stands before each record; the plugin's are short.
            hello = msgpack.unpackb(data[4:] if STREAM else data)
            self.hellos.append(hello)
            answer = self.welcome(hello)
            if not isinstance(answer, dict) or answer["op"] == "error":
                door.send(record(answer if isinstance(answer, bytes) else msgpack.packb(answer)))
                continue
            want = hello["want"]["bytes"]
            fds, slots = [], []
            for _ in range(self.descriptors):
                fds.append(self._memory(want - self.short_by))
                slots.append({"id": self._arenas - 1, "bytes": want})
            self._send_fds(door, record(msgpack.packb({**answer, "slots": slots[:1]})), fds)

    def _memory(self, size: int) -> int:
        import mmap

        fd = os.memfd_create("fake", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, F_ADD_SEALS, self.seals)
        self.memory[self._arenas] = mmap.mmap(fd, size)
        self._arenas += 1
        return fd

    def _send_fds(self, door: socket.socket, data: bytes, fds: list[int]) -> None:
        rights = struct.pack(f"{len(fds)}i", *fds)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if fds else []
        door.sendmsg([data], ancillary)
        for fd in fds:
            os.close(fd)

    def _talk(self, ctl: socket.socket) -> None:
        ctl.sendall(self.greeting)
        stream = ctl.makefile("rb")
        assert _exactly(stream, 64)[:1] == b"\xff"
        ctl.sendall(self.ready)
        parts: list[bytes] = []
        while True:
            flags, body = _frame(stream)
            if flags & 4:
                continue
            parts.append(body)
            if flags & 1:
                continue
            assert parts[0] == b"MTB1"
            self._hear(ctl, msgpack.unpackb(parts[1]))
            parts = []

    def _hear(self, ctl: socket.socket, request: dict[str, Any]) -> None:
        if request["op"] == "cancel":
            self.cancels.append(request["target"])
            return
        self.requests.append(request)
        self.inputs.append(
            {plane["role"]: self.array(request["slot"], plane).copy() for plane in request["in"]}
        )
        for reply in self.answer(request):
            if isinstance(reply, float):
                time.sleep(reply)
            elif reply is None:
                ctl.shutdown(socket.SHUT_RDWR)
            else:
                ctl.sendall(message(reply))

    def drip(self, data: bytes, pause_s: float) -> list[Any]:
        """Bytes one by one, with pauses, for `answer`."""
        parts: list[Any] = []
        for byte in data:
            parts += [bytes([byte]), pause_s]
        return parts


def _exactly(stream: Any, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return bytes(data)


def _frame(stream: Any) -> tuple[int, bytes]:
    flags = _exactly(stream, 1)[0]
    size: Optional[int] = struct.unpack(">Q", _exactly(stream, 8))[0] if flags & 2 else None
    return flags, _exactly(stream, _exactly(stream, 1)[0] if size is None else size)
