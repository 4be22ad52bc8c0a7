"""Start the daemon from a client, without ever starting a second host by mistake.

Inside Nuke or Resolve `sys.executable` is the host itself, and its environment points at the
host's own Python, Qt and CUDA. So the daemon's interpreter is always a *configured* one, its
environment is cleaned, and a small launcher (`mattebridge serve --detach`) waits until the door
accepts, so that the host has one child to reap and never a zombie.

Runs on Python 3.9; standard library only besides our own modules.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional, TypeVar

from mattebridge.errors import ConnectionFailed, DrainingError

# Exit status of a daemon that found the lock taken: another one is coming up.
ANOTHER_INSTANCE = 17
LAUNCH_LIMIT_S = 20.0
# The launcher gives up at the limit by itself and ends what it started; killed, it could not.
LAUNCHER_GRACE_S = 5.0
POLL_S = 0.01
# What a host sets for itself and a daemon must not see.
HOST_VARIABLES = (
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "PYTHONEXECUTABLE",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "DYLD_LIBRARY_PATH",
    "QT_PLUGIN_PATH",
    "QT_QPA_PLATFORM_PLUGIN_PATH",
)

_Found = TypeVar("_Found")


def config_file() -> Path:
    """Where `mattebridge serve` and `mattebridge install` note the daemon's interpreter."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(home) / "mattebridge" / "daemon.json"


def remember_interpreter(python: str) -> None:
    """Note the interpreter to start daemons with, unless a working one is noted already."""
    if _configured_interpreter():
        return
    target = config_file()
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    # A read-only or missing home only means that nobody can start a daemon by itself later.
    with contextlib.suppress(OSError):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps({"python": python}) + "\n", encoding="utf-8")
        os.replace(temporary, target)


def _configured_interpreter() -> Optional[str]:
    try:
        found = json.loads(config_file().read_text(encoding="utf-8")).get("python")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and os.access(found, os.X_OK) else None


def daemon_command(python: Optional[str] = None) -> list[str]:
    """The start of a command line that runs `mattebridge` in the daemon's environment.

    `python` is given by our own command line alone. Else: `MATTEBRIDGE_DAEMON_PYTHON`, the
    configured interpreter, the `mattebridge` command on PATH; `ConnectionFailed` without any.
    """
    chosen = python or os.environ.get("MATTEBRIDGE_DAEMON_PYTHON") or _configured_interpreter()
    if chosen:
        return [chosen, "-m", "mattebridge"]
    command = shutil.which("mattebridge")
    if command:
        return [command]
    raise ConnectionFailed(
        "no daemon is running and none can be started: set MATTEBRIDGE_DAEMON_PYTHON to the "
        "Python where mattebridge[daemon] is installed, or run `mattebridge serve` once"
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without what its host set for itself."""
    return {key: value for key, value in os.environ.items() if key not in HOST_VARIABLES}


def start_daemon(
    folder: Path, connect: Callable[[], _Found], python: Optional[str] = None
) -> _Found:
    """Start a daemon for this folder once and return what `connect` gives when it accepts.

    Several clients may do this at once: one daemon wins the lock, all clients reach it. Raises
    `ConnectionFailed` with the last line of the daemon's log when it ends before it accepts, or
    when `LAUNCH_LIMIT_S` passes.
    """
    command = [*daemon_command(python), "serve", "--detach", "--auto", "--instance", str(folder)]
    until = time.monotonic() + LAUNCH_LIMIT_S
    # A file, not a pipe: whoever inherits a pipe by mistake would keep us reading for ever.
    with tempfile.TemporaryFile() as words:
        try:
            launcher = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=words,
                env=clean_environment(),
                cwd="/",
                close_fds=True,
                start_new_session=True,
            )
        except OSError as error:
            raise ConnectionFailed(
                f"cannot start the daemon with {command[0]}: {error.strerror}; check "
                "MATTEBRIDGE_DAEMON_PYTHON"
            ) from error
        status = _wait_for_launcher(launcher, until + LAUNCHER_GRACE_S)
        if status not in (0, ANOTHER_INSTANCE):
            words.seek(0)
            lines = words.read().decode("utf-8", "replace").strip().splitlines()
            said = lines[-1] if lines else f"exit status {status}"
            raise ConnectionFailed(f"the daemon did not start: {said}")
    while True:
        try:
            return connect()
        except (ConnectionFailed, DrainingError):
            if time.monotonic() > until:
                raise
            time.sleep(POLL_S)


def _wait_for_launcher(launcher: subprocess.Popen[bytes], until: float) -> int:
    try:
        return launcher.wait(max(0.1, until - time.monotonic()))
    except subprocess.TimeoutExpired:
        launcher.kill()
        launcher.wait()
        raise ConnectionFailed(
            f"the daemon did not accept within {LAUNCH_LIMIT_S:g} s; start it by hand with "
            "`mattebridge serve` to see why"
        ) from None
