"""What the door and the links between processes carry: whole records, with descriptors beside them.

A connection keeps the borders of records: what one end sends in one call, the other end receives
in one call, or not at all. How a system does that is its layer's affair (oslayer.py).

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

# Of a process or user that the system does not name.
UNKNOWN_PID = -1


class Peer(NamedTuple):
    """The process at the other end, as the system itself recorded it; -1 where it did not."""

    pid: int
    uid: int


class Record(NamedTuple):
    """What one `receive` gave.

    data: empty when the other end has closed. descriptors: the receiver's to close; no child
    process inherits them. cut: whether data or descriptors were lost because they did not fit.
    """

    data: bytes
    descriptors: list[int]
    cut: bool


class Connection(Protocol):
    """One end of an open connection."""

    def fileno(self) -> int:
        """The descriptor to wait for: readable when there is a record, or the end."""

    def peer(self) -> Peer:
        """The process that opened the other end."""

    def send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send one record; `OSError` when the other end is closed, never a signal.

        `BlockingIOError` where the other end has not read for so long that nothing fits.
        """

    def receive(self, limit: int) -> Record:
        """The next record, of at most `limit` bytes.

        `BlockingIOError` where none is there, or only a part of it so far.
        """

    def lost(self) -> bool:
        """Whether the other end has closed and everything it sent was read; never waits."""

    def close(self) -> None:
        """Close this end; the other end notices at once."""


class Listener(Protocol):
    """A bound address that other processes connect to."""

    def fileno(self) -> int:
        """The descriptor to wait for: readable when a process connects."""

    def listen(self, backlog: int) -> None:
        """Let processes connect; `backlog` of them wait until they are accepted."""

    def accept(self) -> Connection:
        """The next connection; `BlockingIOError` when none is waiting."""

    def close(self) -> None:
        """Take no more connections. Those that were accepted stay open."""


class WakeUp(Protocol):
    """Ends another thread's wait: it waits for `fileno`, and `wake` makes that readable."""

    def fileno(self) -> int:
        """The descriptor to wait for."""

    def wake(self) -> None:
        """Make it readable; from any thread or signal handler, never waits."""

    def clear(self) -> None:
        """Make it silent again."""

    def close(self) -> None:
        """Give both ends back."""
