r"""Files of Windows: held open by readers, and in folders with long paths.

    replace      a file that a program has open keeps its name until that program closes it
    reachable    C:\shots\...   -->  \\?\C:\shots\...     where the path is long
                 \\server\...   -->  \\?\UNC\server\...
    real_path    where a path leads; both spellings of a long path are the same

Windows takes paths of 260 characters (folders: 248) unless it is told otherwise on the machine;
behind the prefix `\\?\` it takes 32,000 on every one. Text behind the prefix is passed on as it is,
so that it has to be whole: no `..`, no forward slash.

Documentation: Maximum Path Length Limitation, of Windows. Standard library only, and nothing that
exists on Windows alone, so that its rules are tested on every system. Runs on Python 3.9.
"""

from __future__ import annotations

import ntpath
import os
import time
from pathlib import Path

from mattebridge.wire.files import HeldOpenError

# How long a file may be held open by a reader before it counts as an error.
HELD_OPEN_S = 2.0
RETRY_S = 0.02
# Windows has one error for both.
HELD_OPEN = (
    "another program has the old file open (a viewer, a virus scanner, a synchronised folder), or "
    "it is read-only; close it there or make it writable, then run again (a shot with --resume)"
)
PREFIX, SERVER_PREFIX = "\\\\?\\", "\\\\?\\UNC\\"
# Longer paths get the prefix. The names of results and of unfinished files come behind the folder
# that is asked for, and have at most about a hundred characters.
LONGEST_BARE = 130


def replace(source: Path, target: Path) -> None:
    """See `Files`. Tried again for two seconds: most readers have closed it by then."""
    until = time.monotonic() + HELD_OPEN_S
    while True:
        try:
            os.replace(source, target)
            return
        except PermissionError as failure:
            if time.monotonic() > until:
                raise HeldOpenError(failure.errno, HELD_OPEN) from failure
            time.sleep(RETRY_S)


def with_prefix(path: str) -> str:
    """An absolute path with the prefix of long paths, where it is long and has none."""
    if len(path) <= LONGEST_BARE or path.startswith((PREFIX, "\\\\.\\")):
        return path
    if path.startswith("\\\\"):
        return SERVER_PREFIX + path[2:]
    return PREFIX + path if ntpath.splitdrive(path)[0] else path


def without_prefix(path: str) -> str:
    """A path without the prefix of long paths."""
    if path.startswith(SERVER_PREFIX):
        return "\\\\" + path[len(SERVER_PREFIX) :]
    return path[len(PREFIX) :] if path.startswith(PREFIX) else path


def reachable(path: Path) -> Path:
    """See `Files`."""
    if str(path).startswith(PREFIX):
        return path
    whole = os.path.abspath(path)
    return Path(with_prefix(whole)) if len(whole) > LONGEST_BARE else path


def real_path(path: Path) -> Path:
    """See `Files`. Where Windows cannot say it, as on some drives, the path itself."""
    try:
        found = str(path.resolve())
    except OSError:
        found = os.path.abspath(path)
    return Path(without_prefix(found))
