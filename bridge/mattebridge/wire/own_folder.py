"""The user's folders, as the layers of all systems look at them.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mattebridge.errors import UnsafeRuntimeError

# Of Windows: a link, or what else is another place than it seems to be.
REPARSE_POINT = 0x400


def folder_of(variable: str, usual: str) -> Path:
    """The folder of mattebridge in that of a variable, else in the usual one.

    A relative one is ignored, as the XDG specification says: it would be another in every folder
    that a program is started in.
    """
    given = os.environ.get(variable, "")
    return Path(given if os.path.isabs(given) else os.path.expanduser(usual)) / "mattebridge"


def look_at(folder: Path) -> os.stat_result:
    """What the system says of a folder; `UnsafeRuntimeError` where it is none, or a link.

    `FileNotFoundError` where there is nothing.
    """
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafeRuntimeError(f"cannot look at {folder}: {error.strerror}") from error
    attributes = getattr(found, "st_file_attributes", 0)
    if not stat.S_ISDIR(found.st_mode) or attributes & REPARSE_POINT:
        raise UnsafeRuntimeError(f"{folder} is not a folder (a link?): remove it and start again")
    return found


def not_yours(folder: Path, owner: str) -> UnsafeRuntimeError:
    """The error for a folder of another user."""
    return UnsafeRuntimeError(
        f"{folder} belongs to user {owner}: set MATTEBRIDGE_RUNTIME_DIR to a folder of your own"
    )
