"""Which Python runs the daemon, and in what environment.

Inside Nuke or Resolve `sys.executable` is the host itself, and its environment points at the host's
own Python, Qt and CUDA. So the daemon's interpreter is always a configured one, never this
process's, and its environment is cleaned of what the host set for itself:

    MATTEBRIDGE_DAEMON_PYTHON, else the note (daemon.json) that `install` or `serve` wrote,
    else the `mattebridge` command: on PATH, or the one that pip wrote for this very package

The note names a program that will be run. The rule that must not be broken: it is used only where
no other user can have written it.

Runs on Python 3.9; standard library only: hosts without numpy run the `mattebridge` command this
way.
"""

from __future__ import annotations

import json
import os
import shutil
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Optional

from mattebridge.errors import ConnectionFailed, UnsafeRuntimeError
from mattebridge.wire import oslayer

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
# The modules of `mattebridge[daemon]`: without them a daemon starts and can matte nothing.
DAEMON_HALF = ("torch", "cv2", "OpenImageIO", "fileseq", "safetensors")
_MAX_NOTE_BYTES = 1 << 16


def daemon_command(python: Optional[str] = None) -> list[str]:
    """The start of a command line that runs `mattebridge` in the daemon's environment.

    `python` is given by mattebridge's own command line alone. Raises `ConnectionFailed` where no
    environment is known, `UnsafeRuntimeError` where another user could have written the note.
    """
    chosen = python or os.environ.get("MATTEBRIDGE_DAEMON_PYTHON")
    noted = None if chosen else noted_interpreter()
    if noted is not None and can_run(noted):
        chosen = noted
    if chosen:
        return [chosen, "-m", "mattebridge"]
    command = shutil.which("mattebridge") or _command_of_this_package()
    if command:
        return [command]
    gone = f" ({noted}, named in {config_file()}, is not there)" if noted else ""
    raise ConnectionFailed(
        f"no daemon is running and none can be started{gone}: set MATTEBRIDGE_DAEMON_PYTHON to the "
        "Python where mattebridge[daemon] is installed, or run `mattebridge serve` once"
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without what its host set for itself."""
    return {key: value for key, value in os.environ.items() if key not in HOST_VARIABLES}


def _command_of_this_package() -> Optional[str]:
    """The `mattebridge` command that was installed together with this package and the daemon half.

    pip's list of the package's files names it, wherever PATH leads. What `mattebridge install`
    copies into a host has no such list.
    """
    from importlib import metadata

    if not has_daemon_half():
        return None
    for package in metadata.distributions(name="mattebridge"):
        for file in package.files or ():
            path = os.path.normpath(str(file.locate()))
            if file.stem == "mattebridge" and file.suffix in ("", ".exe") and can_run(path):
                return path
    return None


def has_daemon_half() -> bool:
    """Whether this environment has the packages of `mattebridge[daemon]`; imports none of them."""
    return all(PathFinder.find_spec(name) for name in DAEMON_HALF)


def can_run(path: str) -> bool:
    """Whether a path names a program."""
    return os.path.isfile(path) and os.access(path, os.X_OK)


# ---------------------------------------------------------------------------------------- the note


def config_file() -> Path:
    """Where `mattebridge serve` and `mattebridge install` write the daemon's interpreter."""
    return oslayer.current().settings_folder() / "daemon.json"


def noted_interpreter() -> Optional[str]:
    """The interpreter that is written down; None without a note.

    Raises `UnsafeRuntimeError` where another user may have written it.
    """
    path = config_file()
    try:
        _refuse_open(path.parent, os.stat(path.parent))
        descriptor = os.open(path, os.O_RDONLY | oslayer.NO_WAIT)
        with open(descriptor, "rb") as file:
            _refuse_open(path, os.fstat(descriptor))
            found = json.loads(file.read(_MAX_NOTE_BYTES)).get("python")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and found else None


def _refuse_open(path: Path, found: os.stat_result) -> None:
    other = oslayer.current().other_owner(path, found)
    if other is None:
        return
    raise UnsafeRuntimeError(
        f"the Python that starts the daemon is named in {config_file()}, and {path} belongs to"
        f" {other}, so that others may have written it: make it yours"
        f" alone ({oslayer.current().how_to_own}), or set MATTEBRIDGE_DAEMON_PYTHON"
    )
