"""Write down which Python starts the daemon, for clients that run in another one.

`mattebridge install` writes down its own. `mattebridge serve` writes down its own where nothing is
written, or what is written can no longer run the daemon: the environment was removed, or
mattebridge was uninstalled from it. `interpreter.py` reads the note, in hosts too.
"""

from __future__ import annotations

import contextlib
import json
import stat
import subprocess
from typing import Optional

from mattebridge.errors import FrameWriteError, UnsafeRuntimeError
from mattebridge.interpreter import (
    DAEMON_HALF,
    can_run,
    clean_environment,
    config_file,
    has_daemon_half,
    noted_interpreter,
)
from mattebridge.whole_files import replace_file

# Looks for modules without importing them; the exit status is 1 where one is missing.
FIND = "import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, sys.argv[1:])))"
FIND_LIMIT_S = 20.0


def keep_or_note_interpreter(python: str) -> None:
    """Write down this process's interpreter, unless one is written down that can run the daemon.

    Nothing is written where this environment does not have the daemon half.
    """
    noted = _noted()
    if noted == python or not has_daemon_half() or (noted and can_run_the_daemon(noted)):
        return
    # A read-only or missing home only means that no client can start a daemon later.
    with contextlib.suppress(FrameWriteError):
        note_interpreter(python)


def note_interpreter(python: str) -> Optional[str]:
    """Write down the interpreter to start daemons with; the one that was written there before.

    The file is made the user's alone. Raises `FrameWriteError`.
    """
    before, path = _noted(), config_file()
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(stat.S_IMODE(path.parent.stat().st_mode) & ~0o022)
    replace_file(path, json.dumps({"python": python}).encode() + b"\n")
    with contextlib.suppress(OSError):
        path.chmod(0o600)
    return before


def forget_interpreter(python: str, before: Optional[str]) -> None:
    """Undo `note_interpreter(python)`, unless another interpreter was written down meanwhile."""
    if _noted() != python or before == python:
        return
    if before is not None:
        note_interpreter(before)
        return
    with contextlib.suppress(OSError):
        config_file().unlink()
        config_file().parent.rmdir()


def can_run_the_daemon(python: str) -> bool:
    """Whether mattebridge and its daemon half are in an interpreter's environment."""
    if not can_run(python):
        return False
    try:
        done = subprocess.run(
            [python, "-c", FIND, "mattebridge", "zmq", "msgpack", *DAEMON_HALF],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
            cwd="/",
            timeout=FIND_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def _noted() -> Optional[str]:
    """What is written down; None where another user may have written it."""
    try:
        return noted_interpreter()
    except UnsafeRuntimeError:
        return None
