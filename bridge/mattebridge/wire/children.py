"""What a child process prints, as something to wait for.

Standard output and standard error of a child come here in pieces, as it wrote them. How they are
carried is the layer's affair (oslayer.py).

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

from typing import Protocol

# The most that one `read` gives.
READ_BYTES = 1 << 16


class Output(Protocol):
    """The reading end."""

    def fileno(self) -> int:
        """The descriptor to wait for: readable when there is something, or the end."""

    def read(self) -> bytes:
        """What was printed since; empty at the end. `BlockingIOError` when nothing is there."""

    def close(self) -> None:
        """Read no more."""
