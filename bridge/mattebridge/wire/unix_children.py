"""Child processes of Linux and macOS: started by exec, with one inherited connection and a pipe.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from typing import Optional

from mattebridge.wire.children import READ_BYTES
from mattebridge.wire.connection import Connection


class PipeOutput:
    """An `Output`: the reading end of a pipe, which it owns."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """See `Output`."""
        return self._descriptor

    def read(self) -> bytes:
        """See `Output`."""
        return os.read(self._descriptor, READ_BYTES)

    def close(self) -> None:
        """See `Output`."""
        os.close(self._descriptor)


def start(
    command: Sequence[str], link: Optional[Connection], environment: Optional[Mapping[str, str]]
) -> tuple[subprocess.Popen[bytes], PipeOutput]:
    """See `Processes.start_child`."""
    inherited = [] if link is None else [link.fileno()]
    read_end, write_end = os.pipe()
    try:
        process = subprocess.Popen(
            [*command, *(f"--link={number}" for number in inherited)],
            stdin=subprocess.DEVNULL,
            stdout=write_end,
            stderr=write_end,
            pass_fds=inherited,
            cwd="/",
            env=environment,
        )
    except OSError:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)
    return process, PipeOutput(read_end)
