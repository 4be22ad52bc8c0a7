"""Bytes under a path, for a library that reads or writes files only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mattebridge.wire import oslayer


@contextlib.contextmanager
def memory_file(data: bytes = b"") -> Iterator[Path]:
    """A path by which the bytes can be read, and others written: of memory where the system can.

    Else of a temporary file. Gone afterwards.
    """
    in_memory = oslayer.current().memory_file()
    descriptor, path = in_memory or _temporary_file()
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            memory.write(data)
        yield path
    finally:
        os.close(descriptor)
        if in_memory is None:
            path.unlink()


def _temporary_file() -> tuple[int, Path]:
    descriptor, name = tempfile.mkstemp(prefix="mattebridge-")
    return descriptor, Path(name)
