"""Which Python runs the daemon, and in what environment.

Inside Nuke or Resolve `sys.executable` is the host itself, and its environment points at the host's
own Python, Qt and CUDA. So the daemon's interpreter is always a configured one, never this
process's, and its environment is cleaned of what the host set for itself.

Runs on Python 3.9; standard library only: hosts without numpy run the `mattebridge` command this
way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Optional

from mattebridge.errors import ConnectionFailed, FrameWriteError
from mattebridge.whole_files import replace_file

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


def daemon_command(python: Optional[str] = None) -> list[str]:
    """The start of a command line that runs `mattebridge` in the daemon's environment.

    `python` is given by mattebridge's own command line alone. Else: `MATTEBRIDGE_DAEMON_PYTHON`,
    the configured interpreter, the `mattebridge` command on PATH; `ConnectionFailed` without any.
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


def config_file() -> Path:
    """Where `mattebridge serve` and `mattebridge install` write the daemon's interpreter."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(home) / "mattebridge" / "daemon.json"


def remember_interpreter(python: str) -> None:
    """Write down the interpreter to start daemons with, unless a working one is there already."""
    if _configured_interpreter():
        return
    # A read-only or missing home only means that no client can start a daemon later.
    with contextlib.suppress(FrameWriteError):
        replace_file(config_file(), json.dumps({"python": python}).encode() + b"\n")


def _configured_interpreter() -> Optional[str]:
    try:
        found = json.loads(config_file().read_text(encoding="utf-8")).get("python")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) and os.access(found, os.X_OK) else None
