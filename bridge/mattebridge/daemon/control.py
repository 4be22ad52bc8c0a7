"""Start and stop a daemon from the command line.

`serve` without `--detach` is the daemon itself, in the terminal. With `--detach`, the daemon is
started in a new session, without the caller's descriptors, and the command returns when the door
accepts: success means that a client can connect. If a daemon already runs, the command joins it:
the daemon counts one more user, and `stop --if-unused` leaves it running until every user has
stopped it. If that daemon is just stopping, the command waits and starts the next one.
"""

from __future__ import annotations

import enum
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Optional

from mattebridge.client import MatteClient, autostart
from mattebridge.client.session import Session
from mattebridge.daemon import other_version
from mattebridge.daemon.devices import check_named
from mattebridge.daemon.interpreter_note import keep_or_note_interpreter
from mattebridge.daemon.runtime import Runtime
from mattebridge.errors import (
    ColorError,
    ConnectionFailed,
    DaemonLost,
    DrainingError,
    MattebridgeError,
    MessageError,
    UidError,
    VersionError,
)
from mattebridge.interpreter import clean_environment
from mattebridge.ocio import where
from mattebridge.wire import file_locks, oslayer, protocol
from mattebridge.wire.door import Door
from mattebridge.wire.file_locks import Lock
from mattebridge.wire.folder import LOCK, LOG, runtime_folder

LAUNCH_LIMIT_S = autostart.LAUNCH_LIMIT_S
POLL_S = 0.005
CONFIG_POLL_S = 0.05
# A worker has begun to run by then, however slow the machine; what it finds later is in the log.
CONFIG_LIMIT_S = 120.0
# A daemon that a client started exits when it was not used for an hour.
AUTO_IDLE_EXIT_S = 3600.0
STOP_LIMIT_S = 40.0
# The last action of a farm's session has 30 s; a daemon that takes longer stops by itself.
LEAVE_LIMIT_S = 10.0


def serve(
    instance: Optional[str] = None,
    *,
    detach: bool = False,
    devices: str = "auto",
    idle_exit_s: Optional[float] = None,
    auto: bool = False,
    parent: Optional[int] = None,
) -> int:
    """Run, or with `detach` start, the daemon of an instance.

    Returns 0, or 17 when another daemon holds the lock and `detach` is not given; a detached
    start joins it instead. `auto` marks a start by a client: with an idle limit, and without
    remembering the interpreter. With `parent`, the pid of this process, the daemon ends when that
    has ended, and removes its folder. Raises `UsageError` for a named device that cannot be used,
    and `ConnectionFailed` with the last line of the daemon's log when it ends before it accepts.
    """
    folder = runtime_folder(instance)
    if auto and idle_exit_s is None:
        idle_exit_s = AUTO_IDLE_EXIT_S
    if not auto:
        keep_or_note_interpreter(sys.executable)
    arguments = [f"--folder={folder}", f"--devices={devices}"]
    if idle_exit_s is not None:
        arguments.append(f"--idle-exit={idle_exit_s}")
    if parent is not None:
        arguments.append(f"--parent={parent}")
    if not detach:
        from mattebridge.daemon.__main__ import main

        check_named(devices)
        return main([*arguments, "--foreground"])
    user = user_name()
    # A client is counted by its own connection, not as a user.
    joined = partial(_accepts, folder) if auto else partial(_join, folder, user)
    if joined():
        return 0
    check_named(devices)
    return _start_detached(folder, [*arguments, f"--user={user}"], joined)


def user_name() -> str:
    """The name of the user that the daemon counts: this session of a farm, else `BY_HAND`.

    An Open Job Description session has its own working folder, which all its actions are given.
    """
    session = os.environ.get("OPENJD_SESSION_WORKING_DIR")
    if not session:
        return protocol.BY_HAND
    return f"openjd-{hashlib.sha256(os.fsencode(session)).hexdigest()[:24]}"


def _start_detached(folder: Path, arguments: list[str], joined: Callable[[], bool]) -> int:
    process = _launch(folder, arguments)
    until = time.monotonic() + LAUNCH_LIMIT_S
    while time.monotonic() < until:
        if joined():
            _reap_once_ended(process)
            return _when_configured(process, folder)
        status = process.poll()
        if status not in (None, autostart.ANOTHER_INSTANCE):
            raise ConnectionFailed(
                f"the daemon ended with status {status} before it accepted: {_last_line(folder)}"
            )
        if status is not None and not lock_is_held(folder):
            process = _launch(folder, arguments)  # the other daemon was stopping
        time.sleep(POLL_S)
    if process.poll() is None:
        process.kill()
        process.wait()
    raise ConnectionFailed(
        f"the daemon did not accept within {LAUNCH_LIMIT_S:g} s; run `mattebridge serve` in a "
        "terminal to see why"
    )


def _when_configured(process: subprocess.Popen[bytes], folder: Path) -> int:
    """0 once a worker has loaded the colour config that the environment names, if it names one.

    Raises `ColorError` where that cannot be loaded: the daemon has ended by then.
    """
    until = time.monotonic() + CONFIG_LIMIT_S
    while where.is_named() and time.monotonic() < until:
        status = process.poll()
        if status is not None:
            raise ColorError(_last_line(folder).removeprefix("mattebridge: "))
        if _has_its_colors(folder):
            break
        time.sleep(CONFIG_POLL_S)
    return 0


def _reap_once_ended(process: subprocess.Popen[bytes]) -> None:
    """Leave no zombie in a process that goes on, such as a notebook, after its daemon has ended."""
    threading.Thread(target=process.wait, name="mattebridge-reaper", daemon=True).start()


def _has_its_colors(folder: Path) -> bool:
    try:
        with MatteClient.connect(str(folder), name="serve") as client:
            return bool(client.status().get("color"))
    except (ConnectionFailed, DaemonLost, DrainingError):
        return False


def _launch(folder: Path, arguments: list[str]) -> subprocess.Popen[bytes]:
    return oslayer.current().start_detached(
        [sys.executable, "-m", "mattebridge.daemon", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=_open_early_log(folder),
        cwd="/",
        close_fds=True,
        env=clean_environment(),
    )


def _join(folder: Path, user: str) -> bool:
    """Whether a daemon runs here and is not stopping; it now counts `user` among its users."""
    try:
        Session.open(folder, name="serve", host="mattebridge", user=user).close()
    except (ConnectionFailed, DaemonLost, DrainingError, UidError):
        return False
    return True


def _accepts(folder: Path) -> bool:
    try:
        Door.connect(folder, timeout_s=1.0).close()
    except (ConnectionFailed, UidError):
        return False
    return True


def _open_early_log(folder: Path) -> int:
    """A descriptor for errors before the daemon has opened its log: that same log file."""
    mask = os.umask(0o077)
    try:
        Runtime(folder).prepare()
    finally:
        os.umask(mask)  # the daemon's mask is not the caller's
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | oslayer.OWN_FILE | oslayer.NO_WAIT
    try:
        descriptor = os.open(folder / LOG, flags, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)
    os.lseek(descriptor, 0, os.SEEK_END)  # Windows appends for this process alone, not for a child
    return descriptor


def _last_line(folder: Path) -> str:
    try:
        lines = (folder / LOG).read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return "it left no log"
    return lines[-1] if lines else "its log is empty"


class Outcome(enum.Enum):
    """The result of asking a daemon to stop; the value is the sentence for the user."""

    STOPPED = "the daemon has stopped"
    NONE = "no daemon runs"
    IN_USE = "the daemon is in use and keeps running"


def stop(instance: Optional[str] = None, *, if_unused: bool = False) -> Outcome:
    """Ask the daemon to drain, and wait until it has ended; also when it was stopping already.

    `IN_USE` only when `if_unused` is given and others use it: a session has arenas, or a user
    joined and has not stopped it. A daemon of another protocol is asked to end by a signal; with
    `if_unused` it raises the `VersionError`. Raises `ConnectionFailed` when it does not end in
    time, or hangs.
    """
    folder, why = runtime_folder(instance), "it was asked to stop and has not ended"
    try:
        with MatteClient.connect(instance, name="stop") as client:
            if not client.shutdown(if_unused=if_unused, user=user_name()):
                return Outcome.IN_USE
    except (VersionError, MessageError) as error:
        if if_unused:
            raise  # who else uses it cannot be asked
        other_version.ask_to_end(folder)
        why = error.message
    except (ConnectionFailed, DaemonLost, DrainingError) as error:
        if not lock_is_held(folder):
            return Outcome.NONE
        why = error.message  # it is stopping, or it hangs
    until = time.monotonic() + (LEAVE_LIMIT_S if if_unused else STOP_LIMIT_S)
    while time.monotonic() < until:
        if not lock_is_held(folder):
            return Outcome.STOPPED
        time.sleep(POLL_S)
    raise ConnectionFailed(
        f"the daemon in {folder} still runs: {why}. See {folder / LOG}; "
        f"`{oslayer.current().kill_command} {_known_pid(folder)}` ends it"
    )


def leave(instance: Optional[str] = None) -> str:
    """`stop --if-unused` for the end of a farm's session: the result as a sentence, never an error.

    All frames are done by then: a daemon that does not reply must not fail the session.
    """
    try:
        return stop(instance, if_unused=True).value
    except MattebridgeError as error:
        return f"the daemon is left running until its idle limit: {error.message}"


def _known_pid(folder: Path) -> str:
    """The daemon's process id as its status.json names it; the words for it where there is none."""
    pid = other_version.written_status(folder).get("pid")
    return str(pid) if isinstance(pid, int) else "PROCESS"


def lock_is_held(folder: Path) -> bool:
    """Whether a daemon runs in this folder, starting and stopping included."""
    try:
        fd = os.open(folder / LOCK, os.O_RDWR)
    except OSError:
        return False
    try:
        return file_locks.take(fd) is Lock.HELD
    finally:
        os.close(fd)
