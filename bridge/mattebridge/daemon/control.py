"""Start and stop a daemon from the command line.

`serve` without `--detach` is the daemon, in the terminal. With it, a daemon is started in a
session of its own, holding none of the caller's descriptors, and the command returns when the door
accepts: success means that a client can connect.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional

from mattebridge import autostart, transport
from mattebridge.client import MatteClient
from mattebridge.daemon.runtime import Runtime
from mattebridge.errors import ConnectionFailed, UidError

LAUNCH_LIMIT_S = autostart.LAUNCH_LIMIT_S
POLL_S = 0.005
# An auto-started front leaves when nobody has used it for an hour.
AUTO_IDLE_EXIT_S = 3600.0
STOP_LIMIT_S = 40.0


def serve(
    instance: Optional[str] = None,
    *,
    detach: bool = False,
    devices: str = "auto",
    idle_exit_s: Optional[float] = None,
    auto: bool = False,
) -> int:
    """Run, or with `detach` start, the daemon of an instance.

    Returns 0, or 17 when another daemon holds the lock and `detach` is not given; a detached
    start joins it instead. `auto` marks a start by a client: an idle limit, nothing remembered.
    Raises `ConnectionFailed` with the daemon's last words when it ends before it accepts.
    """
    folder = transport.runtime_folder(instance)
    if auto and idle_exit_s is None:
        idle_exit_s = AUTO_IDLE_EXIT_S
    if not auto:
        autostart.remember_interpreter(sys.executable)
    arguments = [f"--folder={folder}", f"--devices={devices}"]
    if idle_exit_s is not None:
        arguments.append(f"--idle-exit={idle_exit_s}")
    if not detach:
        from mattebridge.daemon.__main__ import main

        return main([*arguments, "--foreground"])
    return _start_detached(folder, arguments)


def _start_detached(folder: Path, arguments: list[str]) -> int:
    if _accepts(folder):
        return 0
    process = subprocess.Popen(
        [sys.executable, "-m", "mattebridge.daemon", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=_early_words(folder),
        cwd="/",
        close_fds=True,
        start_new_session=True,
        env=autostart.clean_environment(),
    )
    until = time.monotonic() + LAUNCH_LIMIT_S
    while time.monotonic() < until:
        if _accepts(folder):
            return 0
        status = process.poll()
        if status not in (None, autostart.ANOTHER_INSTANCE):
            raise ConnectionFailed(
                f"the daemon ended with status {status} before it accepted: {_last_words(folder)}"
            )
        time.sleep(POLL_S)
    if process.poll() is None:
        process.kill()
        process.wait()
    raise ConnectionFailed(
        f"the daemon did not accept within {LAUNCH_LIMIT_S:g} s; run `mattebridge serve` in a "
        "terminal to see why"
    )


def _accepts(folder: Path) -> bool:
    try:
        transport.Door.knock(folder, timeout_s=1.0).close()
    except (ConnectionFailed, UidError):
        return False
    return True


def _early_words(folder: Path) -> int:
    """Where a daemon complains before it has its log: that log, in a folder made for it."""
    mask = os.umask(0o077)
    try:
        Runtime(folder).prepare()
    finally:
        os.umask(mask)  # the daemon's mask is not the caller's
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(folder / transport.LOG, flags, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _last_words(folder: Path) -> str:
    try:
        lines = (folder / transport.LOG).read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return "it left no log"
    return lines[-1] if lines else "its log is empty"


def stop(instance: Optional[str] = None, *, if_unused: bool = False) -> bool:
    """Ask the daemon to drain and wait until it is gone; True when none runs afterwards.

    False only when `if_unused` is given and somebody still holds arenas. A daemon that is not
    running is success. Raises `ConnectionFailed` when it does not go in time.
    """
    try:
        client = MatteClient.connect(instance, name="stop")
    except ConnectionFailed:
        return True
    with client:
        folder = client.folder
        if not client.shutdown(if_unused=if_unused):
            return False
    until = time.monotonic() + STOP_LIMIT_S
    while time.monotonic() < until:
        if not _lock_is_held(folder):
            return True
        time.sleep(POLL_S)
    raise ConnectionFailed(f"the daemon in {folder} did not stop within {STOP_LIMIT_S:g} s")


def _lock_is_held(folder: Path) -> bool:
    import fcntl

    try:
        fd = os.open(folder / transport.LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
