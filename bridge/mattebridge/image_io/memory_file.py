"""Bytes under a path, for a library that reads or writes files only."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def memory_file(data: bytes = b"") -> Iterator[Path]:
    """A path by which the bytes can be read, and others written: anonymous memory if there is any.

    Without anonymous memory (systems other than Linux) it is a temporary file. Gone afterwards.
    """
    in_memory = hasattr(os, "memfd_create")
    if in_memory:
        descriptor = os.memfd_create("mattebridge-file", os.MFD_CLOEXEC)
        path = Path(f"/proc/self/fd/{descriptor}")
    else:
        descriptor, name = tempfile.mkstemp(prefix="mattebridge-")
        path = Path(name)
    try:
        with open(descriptor, "wb", closefd=False) as memory:
            memory.write(data)
        yield path
    finally:
        os.close(descriptor)
        if not in_memory:
            path.unlink()
