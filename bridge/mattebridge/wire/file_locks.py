"""Locks on files, and the one rule for file systems that have none.

    taken      this process has the lock
    held       another process has it
    missing    the file system has no locks (some network drives): work goes on without

Who cannot do without, as the daemon in its runtime folder, asks the layer itself and gets an error.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import Enum

from mattebridge.wire import oslayer


class Lock(str, Enum):
    """What came of asking for a lock."""

    TAKEN = "taken"
    HELD = "held"
    MISSING = "missing"


def take(descriptor: int, *, wait: bool = False) -> Lock:
    """Lock an open file for this process alone, until it is closed.

    wait: for another process to let it go; it is never `HELD` then.
    """
    layer = oslayer.find()
    if layer is None:
        return Lock.MISSING
    try:
        return Lock.TAKEN if layer.lock(descriptor, wait=wait) else Lock.HELD
    except OSError:
        return Lock.MISSING


@contextlib.contextmanager
def locked(descriptor: int) -> Iterator[None]:
    """One process at a time, for as long as the block runs; the file stays open."""
    taken = take(descriptor, wait=True) is Lock.TAKEN
    try:
        yield
    finally:
        if taken:
            oslayer.current().unlock(descriptor)
