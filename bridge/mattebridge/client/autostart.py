"""Start the daemon from a client, once, however many clients need one.

    client --Popen--> mattebridge serve --detach --auto --> daemon
           <-- exits when the door accepts --+

The launcher (`mattebridge serve --detach`) ends as soon as the daemon accepts connections, so that
the host has one child to wait for and no zombie is left. Which Python it runs in is decided by
`mattebridge.interpreter`: never the host itself.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Optional, TypeVar

from mattebridge.errors import ConnectionFailed, DrainingError
from mattebridge.interpreter import clean_environment, daemon_command
from mattebridge.wire import oslayer

# Exit status of a daemon that found the lock taken: another one is starting.
ANOTHER_INSTANCE = 17
# A daemon accepts in a fifth of a second, before it loads torch; in tens of seconds where Python
# lies on a network drive that many machines read, or a virus scanner reads each of its files first.
LAUNCH_LIMIT_S = 60.0
# The launcher stops at the limit by itself and ends what it started; killed, it could not.
LAUNCHER_GRACE_S = 5.0
POLL_S = 0.01

_Connected = TypeVar("_Connected")


def start_daemon(
    folder: Path, connect: Callable[[], _Connected], python: Optional[str] = None
) -> _Connected:
    """Start a daemon for this folder and return what `connect` gives when the daemon accepts.

    Several clients may do this at once: one daemon gets the lock, all clients connect to it.
    Raises `ConnectionFailed` with the last line of the daemon's log when it ends before it
    accepts, or when `LAUNCH_LIMIT_S` passes.
    """
    command = [*daemon_command(python), "serve", "--detach", "--auto", "--instance", str(folder)]
    until = time.monotonic() + LAUNCH_LIMIT_S
    # A file, not a pipe: another child that inherited the pipe would keep it open for ever.
    with tempfile.TemporaryFile() as output:
        status = _run_launcher(command, output, until + LAUNCHER_GRACE_S)
        if status not in (0, ANOTHER_INSTANCE):
            output.seek(0)
            lines = output.read().decode("utf-8", "replace").strip().splitlines()
            why = lines[-1] if lines else f"exit status {status}"
            raise ConnectionFailed(f"the daemon did not start: {why}")
    while True:
        try:
            return connect()
        except (ConnectionFailed, DrainingError):
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)


def _run_launcher(command: list[str], output: IO[bytes], until: float) -> int:
    """The launcher's exit status; it is killed when it has not ended by `until`."""
    try:
        launcher = oslayer.current().start_detached(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=output,
            env=clean_environment(),
            cwd="/",
            close_fds=True,
        )
    except OSError as error:
        raise ConnectionFailed(
            f"cannot start the daemon with {command[0]}: {error.strerror}; check "
            "MATTEBRIDGE_DAEMON_PYTHON"
        ) from error
    try:
        return launcher.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()
        raise ConnectionFailed(
            f"the daemon did not accept within {LAUNCH_LIMIT_S:g} s; start it by hand with "
            "`mattebridge serve` to see why"
        ) from None
