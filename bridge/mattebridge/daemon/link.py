"""A worker's end of the socket pair to the front.

    front --jobs, descriptors of arenas----------------> Link --> worker
          <--ready, stage, done, failed, cancelled---------------+

The link is trusted. Only the front writes to it, and the front has checked every request: its keys,
its render parameters, with the defaults filled in, and the place of its planes in the arena. The
worker repeats none of these checks. It does check the pixels and the headers in the arenas, which
a client can change at any time.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Mapping
from typing import Any

import msgpack

from mattebridge.wire import oslayer
from mattebridge.wire.connection import Connection

# The longest message on the link. A list of models may be longer than a client's message.
LINK_BYTES = 1 << 17


def plain(value: Any) -> Any:
    """A numpy scalar, mapping, set or other object as something that msgpack can pack."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return str(value)


class Link:
    """The worker's end of the socket to the front; used by the main thread only.

    While a frame is computed, messages are read at its checkpoints only, which are the only places
    where a cancel can take effect and later jobs are looked at. The end of the front need not be
    noticed: the kernel then kills the worker.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._layer = oslayer.current()
        self._waiting: deque[tuple[dict[str, Any], list[int]]] = deque()
        self._cancelled: set[int] = set()

    def next(self) -> tuple[dict[str, Any], list[int]]:
        """Wait for the next message; return it with its descriptors."""
        while not self._waiting:
            self._receive()
        return self._waiting.popleft()

    def arrived(self) -> list[tuple[dict[str, Any], list[int]]]:
        """The messages that have come, with their descriptors; never waits."""
        self._receive_all()
        arrived, self._waiting = list(self._waiting), deque()
        return arrived

    def is_cancelled(self, job: int) -> bool:
        """Whether the front has cancelled this job; never waits."""
        self._receive_all()
        return job in self._cancelled

    def finished(self, job: int) -> None:
        """The job has ended: forget that it was cancelled."""
        self._cancelled.discard(job)

    def send(self, **message: Any) -> None:
        """Send one message to the front; if the front is gone, the kernel ends this process."""
        self.send_record(msgpack.packb(message, default=plain, use_bin_type=True))

    def send_record(self, data: bytes) -> None:
        """Send one record to the front as it is."""
        with contextlib.suppress(OSError):
            self._connection.send(data)

    def _receive_all(self) -> None:
        while self._layer.wait([self._connection.fileno()], 0.0):
            self._receive()

    def _receive(self) -> None:
        try:
            data, fds, _cut = self._connection.receive(LINK_BYTES)
        except OSError:
            data, fds = b"", []
        if not data:
            os._exit(0)  # the front has closed the link
        message = msgpack.unpackb(data, raw=False, strict_map_key=False)
        if message["op"] == "cancel":
            self._cancelled.add(message["job"])
        elif message["op"] == "exit":
            os._exit(0)
        else:
            self._waiting.append((message, fds))
