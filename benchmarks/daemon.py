"""A daemon for a benchmark: its folder is in the temporary directory; it is ended by its pid."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mattebridge.client import MatteClient
from mattebridge.errors import ConnectionFailed

LIMIT_S = 60.0


def start(folder: Path, devices: str = "cpu", **environment: str) -> subprocess.Popen[bytes]:
    """A front in this folder with workers on these devices; it may not accept yet."""
    return subprocess.Popen(
        [sys.executable, "-m", "mattebridge.daemon", f"--folder={folder}", f"--devices={devices}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def connect(folder: Path, process: subprocess.Popen[bytes], in_flight: int = 2) -> MatteClient:
    """The first client that is accepted."""
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            return MatteClient.connect(str(folder), in_flight=in_flight)
        except ConnectionFailed:
            if time.monotonic() > until or process.poll() is not None:
                raise
            time.sleep(0.001)


@contextmanager
def running(
    devices: str = "cpu", in_flight: int = 2, *, keeps_frames: bool = False, **environment: str
) -> Iterator[tuple[MatteClient, subprocess.Popen[bytes]]]:
    """A client of a daemon whose worker has warmed up; both are ended afterwards.

    Unless it `keeps_frames`, as a user's daemon does, each frame is computed: a benchmark that
    sends the same pictures again would otherwise time the copy of a result.
    """
    if not keeps_frames:
        environment = {"MATTEBRIDGE_FRAME_BYTES": "0", **environment}
    home = Path(tempfile.mkdtemp(prefix="mb-bench-"))
    process = start(home / "run", devices, **environment)
    try:
        with connect(home / "run", process, in_flight) as client:
            until = time.monotonic() + LIMIT_S
            while client.ping()["state"] == "starting" and time.monotonic() < until:
                time.sleep(0.02)
            yield client, process
            client.shutdown()
            process.wait(LIMIT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)
