"""A daemon for one command: started by it, ended with it, and its folder gone with it.

    matte --private --> control.serve --> daemon --parent=PID
          ends, or is killed  ----------->  its parent is gone: it ends, and removes its folder

Queues that keep nothing between tasks use it. A task that is tried again must not meet the daemon
of the one before on the same card, so the daemon does not wait for an idle limit: it asks the
system, several times a second, who its parent is. What is left where both were killed is swept by
the next private daemon.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from mattebridge.daemon import control
from mattebridge.errors import MattebridgeError
from mattebridge.wire import oslayer
from mattebridge.wire.folder import check_folder, runtime_folder

FOLDER = re.compile(r"private-(\d+)-[0-9a-f]{8}\Z")
# A daemon that is being started has a folder and not yet the lock.
STARTING_S = 60.0


@contextlib.contextmanager
def private_instance() -> Iterator[str]:
    """A new runtime folder for this command; its daemon is stopped and it is removed afterwards."""
    folder = runtime_folder(f"private-{os.getpid()}-{os.urandom(4).hex()}")
    sweep(folder.parent)
    try:
        yield str(folder)
    finally:
        with contextlib.suppress(MattebridgeError):
            control.stop(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def start(instance: str, *, devices: str = "auto") -> None:
    """Start the daemon of a private instance, unless it runs; devices: as of `serve`."""
    control.serve(instance, detach=True, auto=True, devices=devices, parent=os.getpid())


def sweep(root: Path) -> list[Path]:
    """Remove the folders of private daemons that were killed together with their commands."""
    swept = []
    for folder in _private_folders(root):
        with contextlib.suppress(OSError, MattebridgeError):
            check_folder(folder)
            if _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
    return swept


def _private_folders(root: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [path for path in root.iterdir() if FOLDER.match(path.name)]
    return []


def _is_abandoned(folder: Path) -> bool:
    if control.lock_is_held(folder) or _age_s(folder) < STARTING_S:
        return False
    match = FOLDER.match(folder.name)
    return match is not None and not oslayer.current().runs(int(match.group(1)))


def _age_s(folder: Path) -> float:
    """By the clock of the file system; no part of the daemon uses the wall clock."""
    os.utime(folder.parent)
    return folder.parent.stat().st_mtime - folder.lstat().st_mtime
