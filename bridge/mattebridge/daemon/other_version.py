"""A daemon that runs here with another protocol: what is known about it, and how it is stopped.

After an update the daemon of the version before may still run. It refuses every hello, so it
answers no request. But the system knows which process is at the other end of the door, and the
daemon writes the rest into status.json itself. SIGTERM means the same in every version: finish the
frames that are being computed, then end.

No pid is taken from a file: the process that gets the signal holds the door's connection at that
moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mattebridge.errors import ConnectionFailed, MattebridgeError, one_line
from mattebridge.wire.door import Door
from mattebridge.wire.folder import LOG, STATUS

SHOWN = ("state", "version", "pid", "folder", "log")


def last_known(folder: Path) -> dict[str, Any]:
    """What the daemon of this folder wrote last about itself, with its pid as the system knows it.

    Raises `ConnectionFailed` when none listens.
    """
    with _pid_at_the_door(folder) as pid:
        known = written_status(folder)
        return {**known, "pid": pid or known.get("pid"), "folder": str(folder),
                "log": str(folder / LOG)}  # fmt: skip


def written_status(folder: Path) -> dict[str, Any]:
    """The content of status.json; empty where there is none."""
    try:
        found = json.loads((folder / STATUS).read_text("utf-8", "replace"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def text(known: dict[str, Any], refusal: MattebridgeError) -> str:
    """Lines for people about such a daemon: the refusal, what is known, what to do."""
    lines = [f"mattebridge: the daemon refuses this version: {one_line(refusal.message)}"]
    for name in SHOWN:
        lines.append(f"  {name:<9} {one_line(str(known.get(name, 'unknown')), 200)}")
    return "\n".join([*lines, "`mattebridge stop` ends it; the next command starts a new one"])


def ask_to_end(folder: Path) -> None:
    """Let the daemon of this folder finish its frames and end, whatever protocol it speaks.

    Raises `ConnectionFailed` when none listens, or when it is a process that cannot be signalled
    from here.
    """
    with _pid_at_the_door(folder) as pid:
        try:
            if pid <= 0:  # the process of another container
                raise ProcessLookupError(0, "it is not among the processes of this container")
            os.kill(pid, signal.SIGTERM)
        except OSError as error:
            raise ConnectionFailed(
                f"the daemon in {folder} (pid {pid}) cannot be stopped from here:"
                f" {error.strerror}; stop it where it was started"
            ) from error


@contextlib.contextmanager
def _pid_at_the_door(folder: Path) -> Iterator[int]:
    """The pid of the process that listens at the door, while a connection to it is open."""
    door = Door.connect(folder)
    try:
        yield door.peer().pid
    finally:
        door.close()
