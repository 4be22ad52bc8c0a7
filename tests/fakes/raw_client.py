"""A client without manners: the door and the control socket, byte by byte, for abuse.

`RawClient` says a correct hello (unless told otherwise) and then sends whatever a test wants. It
uses plain sockets and pyzmq, none of our client's checks.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

import msgpack
import numpy as np
import zmq

from fakes.limits import SOON_S
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.connection import Connection, Peer
from mattebridge.wire.linux import RecordSocket
from mattebridge.wire.posix import PosixLayer, StreamSocket
from mattebridge.wire.slots import PlaneSpec, SlotMap, place


def is_stream() -> bool:
    """Whether the door is a stream, with a length before each record: the layer of macOS."""
    return isinstance(oslayer.current(), PosixLayer)


def records(connection: socket.socket) -> Connection:
    """The records of a bare connection."""
    if is_stream():
        return StreamSocket(connection, Peer(-1, -1))
    return RecordSocket(connection)


def connect_to_door(folder: Path) -> socket.socket:
    """A bare connection to the door."""
    kind = socket.SOCK_STREAM if is_stream() else socket.SOCK_SEQPACKET
    connection = socket.socket(socket.AF_UNIX, kind)
    connection.settimeout(SOON_S)
    until = time.monotonic() + SOON_S
    while True:
        try:
            connection.connect(str(folder / "door"))
        except BlockingIOError:
            # The backlog is full: others were faster.
            if time.monotonic() > until:
                connection.close()
                raise
            time.sleep(0.005)
        except OSError:
            connection.close()
            raise
        else:
            return connection


def hello(slots: int = 0, size_bytes: int = 0, **changes: Any) -> dict[str, Any]:
    """A correct hello, with keys changed, or removed by None."""
    message = {
        "op": "hello",
        "proto": [1, 1],
        "client": {"name": "raw", "ver": "0", "host": "test", "pid": os.getpid()},
        "want": {"slots": slots, "bytes": size_bytes},
        **changes,
    }
    return {key: value for key, value in message.items() if value is not None}


def ask_door(connection: socket.socket, message: Any) -> tuple[dict[str, Any], list[int]]:
    """Send one record (bytes as they are, else packed) and read the answer; {} at the end."""
    data = message if isinstance(message, bytes) else msgpack.packb(message)
    door = records(connection)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        door.send(data)
    try:
        answer, fds, _cut = door.receive(8192)
    except ConnectionResetError:
        # It hung up before it read all; what it said comes next.
        answer, fds, _cut = door.receive(8192)
    return (msgpack.unpackb(answer) if answer else {}), fds


class RawClient:
    """A session with arenas, and a DEALER that sends anything."""

    def __init__(self, folder: Path, *, slots: int = 0, size_bytes: int = 4 << 20) -> None:
        self.folder = folder
        self.door = connect_to_door(folder)
        self.welcome, fds = ask_door(self.door, hello(slots, size_bytes if slots else 0))
        self.sid = self.welcome.get("sid", b"")
        self.epoch = self.welcome.get("server", {}).get("epoch")
        self.arenas = {
            entry["id"]: SlotMap(fd, entry["bytes"])
            for entry, fd in zip(self.welcome.get("slots", []), fds)
        }
        self.context = zmq.Context()
        self._kept: deque[dict[str, Any]] = deque()
        self.ctl = self.dealer()

    def dealer(self) -> zmq.Socket[bytes]:
        """Another connection to the control socket."""
        connection = self.context.socket(zmq.DEALER)
        connection.setsockopt(zmq.LINGER, 0)
        connection.connect(f"ipc://{self.folder}/ctl")
        return connection

    def send(self, message: Mapping[str, Any], **changes: Any) -> bytes:
        """Send a message with the envelope filled in; returns its id."""
        full = {
            "v": 1,
            "id": os.urandom(16),
            "sid": self.sid,
            **message,
            **changes,
        }
        full = {key: value for key, value in full.items() if value is not None}
        self.send_bytes(msgpack.packb(full))
        return full.get("id", b"")

    def send_bytes(self, *parts: bytes, magic: bytes = protocol.MAGIC) -> None:
        """Send raw parts behind the product tag."""
        self.ctl.send_multipart([magic, *parts])

    def receive(self, timeout_s: float = 10.0) -> Optional[dict[str, Any]]:
        """The next reply, or None."""
        return self._kept.popleft() if self._kept else self._read(timeout_s)

    def _read(self, timeout_s: float) -> Optional[dict[str, Any]]:
        if not self.ctl.poll(max(0, round(timeout_s * 1000))):
            return None
        parts = self.ctl.recv_multipart()
        assert parts[0] == protocol.MAGIC
        return msgpack.unpackb(parts[1])

    def next_reply(self, timeout_s: float = SOON_S) -> dict[str, Any]:
        """The next reply that is no progress."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            reply = self.receive(until - time.monotonic())
            if reply and reply["op"] != "progress":
                return reply
        raise AssertionError("no reply came")

    def terminal(self, request_id: bytes, timeout_s: float = SOON_S) -> dict[str, Any]:
        """The final reply to a request; others are kept for later."""
        until = time.monotonic() + timeout_s
        passed: list[dict[str, Any]] = []
        try:
            while True:
                reply = self.next_reply(until - time.monotonic())
                if reply.get("id") == request_id and reply["op"] != "released":
                    return reply
                passed.append(reply)
        finally:
            self._kept.extendleft(reversed(passed))

    def render(
        self,
        *,
        width: int = 32,
        height: int = 24,
        slot: int = 0,
        gen: int = 1,
        write: bool = True,
        **changes: Any,
    ) -> dict[str, Any]:
        """A correct render message for an arena, its pixels written."""
        specs = [
            PlaneSpec("plate", 3, "f4"),
            PlaneSpec("clean_plate", 3, "f4"),
            PlaneSpec("alpha", 1, "f4"),
        ]
        plate, clean_plate, alpha = place(width, height, specs)
        if write:
            arena = self.arenas[slot]
            arena.write_begin(gen)
            pixels = np.linspace(0.1, 0.9, width * height * 3, dtype=np.float32)
            arena.array(clean_plate)[...] = pixels.reshape(height, width, 3)
            arena.array(plate)[...] = arena.array(clean_plate)
            arena.array(plate)[height // 4 : height // 2, width // 4 : width // 2] = 0.5
            arena.write_end(gen)
        message = {
            "op": "render",
            "slot": slot,
            "gen": gen,
            "in": [plate.to_wire(), clean_plate.to_wire()],
            "out": [alpha.to_wire()],
            "model": "difference",
            "params": {"colorspace": "srgb"},
            **changes,
        }
        return {key: value for key, value in message.items() if value is not None}

    def lease_is_over(self, timeout_s: float = SOON_S) -> bool:
        """Whether the daemon hangs up the door within the time."""
        ready, _, _ = select.select([self.door], [], [], timeout_s)
        return bool(ready) and self.door.recv(1) == b""

    def close(self) -> None:
        """Hang up."""
        self.door.close()
        self.ctl.close()
        self.context.term()
        for arena in self.arenas.values():
            arena.close()


# What the fixture `raw` gives: a function that connects to a daemon.
Raw = Callable[..., RawClient]
