"""The runtime folder of an instance: its name, its path, whether it is the user's own."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Optional

from mattebridge.errors import UnsafeRuntimeError

# One instance a protocol major, so that two incompatible versions never fight over a folder.
DEFAULT_INSTANCE = "v1"
INSTANCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
# sockaddr_un holds 108 bytes with the final zero; libzmq and the kernel agree.
MAX_SOCKET_PATH = 107
DOOR, CTL, LOCK, STATUS, LOG = "door", "ctl", "lock", "status.json", "log"


def instance_name(name: Optional[str] = None) -> str:
    """The instance to talk to: the argument, else `MATTEBRIDGE_INSTANCE`, else the default.

    A name of another form (a farm's job id with capitals, say) becomes a digest of itself; `..`
    and anything with a slash is refused, because it would leave the folder.
    """
    wanted = name or os.environ.get("MATTEBRIDGE_INSTANCE") or DEFAULT_INSTANCE
    if "/" in wanted or ".." in wanted or "\0" in wanted:
        raise UnsafeRuntimeError(
            f"the instance name {wanted!r} would leave the runtime folder: use letters, digits, "
            "dots, dashes"
        )
    if INSTANCE.match(wanted):
        return wanted
    return "job-" + hashlib.sha256(wanted.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def runtime_folder(instance: Optional[str] = None) -> Path:
    """The folder of an instance's sockets; not created here.

    An absolute path (as the argument or in `MATTEBRIDGE_RUNTIME_DIR`) is taken as it is; else
    `$XDG_RUNTIME_DIR/mattebridge/NAME`, else `/run/user/UID/...`, else a folder of the user's own
    in the system's temporary directory. Never below the home directory: sockets and locks on a
    network file system do not hold.
    """
    explicit = instance if instance and os.path.isabs(instance) else None
    if explicit is None and not instance:
        explicit = os.environ.get("MATTEBRIDGE_RUNTIME_DIR")
    if explicit:
        if not os.path.isabs(explicit):
            raise UnsafeRuntimeError(
                f"MATTEBRIDGE_RUNTIME_DIR must be an absolute path; it is {explicit!r}"
            )
        folder = Path(explicit)
    else:
        folder = _runtime_root() / instance_name(instance)
    check_path_length(folder)
    return folder


def _runtime_root() -> Path:
    uid = os.getuid()
    xdg = os.environ.get("XDG_RUNTIME_DIR")
    for candidate in (xdg, f"/run/user/{uid}"):
        if candidate and os.path.isabs(candidate) and os.access(candidate, os.W_OK | os.X_OK):
            return Path(candidate) / "mattebridge"
    return Path(tempfile.gettempdir()) / f"mattebridge-{uid}"


def check_path_length(folder: Path) -> None:
    """Raise `UnsafeRuntimeError` where a socket path in this folder would be too long."""
    longest = len(os.fsencode(folder / DOOR))
    if longest > MAX_SOCKET_PATH:
        raise UnsafeRuntimeError(
            f"the socket path {folder / DOOR} has {longest} bytes and the system's limit is "
            f"{MAX_SOCKET_PATH}: set MATTEBRIDGE_RUNTIME_DIR to a shorter folder"
        )


def check_folder(folder: Path) -> None:
    """Raise `UnsafeRuntimeError` unless the folder is ours alone: owner, directory, mode 0700."""
    try:
        found = os.lstat(folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnsafeRuntimeError(f"cannot look at {folder}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise UnsafeRuntimeError(f"{folder} is not a folder (a link?): remove it and start again")
    if found.st_uid != os.geteuid():
        raise UnsafeRuntimeError(
            f"{folder} belongs to user {found.st_uid}: set MATTEBRIDGE_RUNTIME_DIR to a folder of "
            "your own"
        )
    if found.st_mode & 0o077:
        raise UnsafeRuntimeError(
            f"{folder} is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): "
            f"run chmod 700 on it"
        )
