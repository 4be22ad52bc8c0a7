"""A worker's end of the socket pair to the front: small messages and descriptors of arenas."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgpack

from mattebridge.wire import oslayer

LINK_BYTES = 1 << 17


def plain(value: Any) -> Any:
    """numpy's scalars and other plain things, for msgpack."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


class Link:
    """The worker's end of the socket to the front; only the main thread touches it.

    While a frame is computed nobody listens, except at each checkpoint, which is the only place
    where a cancel could take effect. The end of the front needs no listener: the kernel kills us.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._layer = oslayer.current()
        self._waiting: deque[tuple[dict[str, Any], list[int]]] = deque()
        self._cancelled: set[int] = set()

    def next(self) -> tuple[dict[str, Any], list[int]]:
        """The next message with its descriptors; waits for it."""
        while not self._waiting:
            self._receive()
        return self._waiting.popleft()

    def is_cancelled(self, job: int) -> bool:
        """Whether the front has asked for this job to stop; never waits."""
        while select.select([self._connection], [], [], 0)[0]:
            self._receive()
        return job in self._cancelled

    def finished(self, job: int) -> None:
        """A cancel of this job has no meaning any more."""
        self._cancelled.discard(job)

    def say(self, **message: Any) -> None:
        """One message to the front; its end is our end."""
        self.send(msgpack.packb(message, default=plain, use_bin_type=True))

    def send(self, data: bytes) -> None:
        """One record to the front."""
        with contextlib.suppress(OSError):
            self._connection.sendall(data)

    def _receive(self) -> None:
        try:
            data, fds, _cut = self._layer.receive(self._connection, LINK_BYTES)
        except OSError:
            data, fds = b"", []
        if not data:
            os._exit(0)  # the front is gone, and with it the reason to be
        message = msgpack.unpackb(data, raw=False, strict_map_key=False)
        if message["op"] == "cancel":
            self._cancelled.add(message["job"])
        elif message["op"] == "exit":
            os._exit(0)
        else:
            self._waiting.append((message, fds))
