"""A bound on the memory that a message without an end can take.

ZeroMQ collects all parts of a message before the front sees the first, and has no limit for their
number: its limits are for the bytes of one part and for the number of complete messages. So the
front looks at its own memory a few times a second. When that has grown by more than
it ever needs, the connections of the control socket that are sending at this moment are closed:
ZeroMQ then drops what it has collected for them. A client that was closed by mistake connects again
by itself. Where nothing is being sent and the memory is still beyond a hard limit, all of them are.
"""

from __future__ import annotations

import logging
from pathlib import Path

from mattebridge.wire import oslayer

log = logging.getLogger(__name__)

# The front itself needs some 40 MiB. Remembered replies and outboxes of many clients are the most
# that may come to it quickly.
GROWTH_BYTES = 128 << 20
HARD_LIMIT_BYTES = 1 << 30
# ZeroMQ frees what it collected some time after the connection was closed: this many looks later
# at most, and then it goes back to the system.
LOOKS_AFTER_CLOSING = 100
KEPT_BYTES = 16 << 20
# Where memory has grown this many times while no message arrived, the front itself needs it.
LOOKS_WITHOUT_SENDER = 8


class FloodGuard:
    """Watches the memory of this process, and closes connections that fill it."""

    def __init__(self, control_socket: Path) -> None:
        self._path = control_socket
        self._layer = oslayer.current()
        self._normal_bytes = self._layer.private_bytes()
        self._looks_for_freed = 0
        self._looks_without_sender = 0

    def tick(self) -> int:
        """To be called a few times a second; how many connections were closed."""
        used = self._private_bytes()
        self._normal_bytes = min(self._normal_bytes, used)
        if used <= self._normal_bytes + GROWTH_BYTES:
            self._looks_without_sender = 0
            return 0
        ended = self._layer.end_connections(self._path, only_sending=True)
        if not ended and used > HARD_LIMIT_BYTES:
            ended = self._layer.end_connections(self._path, only_sending=False)
        if ended:
            self._looks_for_freed = LOOKS_AFTER_CLOSING
            log.warning(
                "the front's memory grew to %d MiB: %d connections that fill it were closed",
                used >> 20,
                ended,
            )
        elif (count := self._looks_without_sender + 1) < LOOKS_WITHOUT_SENDER:
            self._looks_without_sender = count  # it may be sending again at the next look
        else:
            self._normal_bytes = used
        return ended

    def _private_bytes(self) -> int:
        """What this process uses, without what was freed since connections were closed."""
        used = self._layer.private_bytes()
        if not self._looks_for_freed:
            return used
        if used <= self._normal_bytes + KEPT_BYTES:
            self._looks_for_freed = 0
            return used
        self._looks_for_freed -= 1
        self._layer.release_memory()
        return self._layer.private_bytes()
