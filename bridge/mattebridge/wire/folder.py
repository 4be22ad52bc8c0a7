"""The runtime folder of an instance: its name, its path, and the files in it.

An instance is one daemon of one user. Its folder holds the sockets that clients connect to, the
lock that makes it the only daemon there, its last status and its log. Nobody but the user may
enter the folder: a process that could put a socket there could pose as the daemon.

Runs on Python 3.9; standard library only.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Optional

from mattebridge.errors import UnsafeRuntimeError
from mattebridge.wire import oslayer

# One instance for each major version of the protocol: two versions never use the same folder.
DEFAULT_INSTANCE = "v1"
INSTANCE = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
DOOR, CTL, LOCK, STATUS, LOG = "door", "ctl", "lock", "status.json", "log"
# What to do where no daemon runs. Panels, which have a button for it, say that instead.
START_BY_HAND = "start one with `mattebridge serve --detach`"


def runtime_folder(instance: Optional[str] = None) -> Path:
    """The folder of an instance's sockets; not created here.

    An absolute path (as the argument, in `MATTEBRIDGE_RUNTIME_DIR`, or in `MATTEBRIDGE_INSTANCE`
    where that is the instance) is taken as it is; else
    `$XDG_RUNTIME_DIR/mattebridge/NAME`, else `/run/user/UID/...`, else a folder of the user's own
    in the system's temporary directory. Never below the home directory: sockets and locks do not
    work on a network file system.
    """
    explicit = None if instance else os.environ.get("MATTEBRIDGE_RUNTIME_DIR")
    named = instance or os.environ.get("MATTEBRIDGE_INSTANCE") or ""
    if not explicit and os.path.isabs(named):
        explicit = named
    if explicit:
        if not os.path.isabs(explicit):
            raise UnsafeRuntimeError(
                f"MATTEBRIDGE_RUNTIME_DIR must be an absolute path; it is {explicit!r}"
            )
        folder = Path(explicit)
    else:
        folder = oslayer.current().runtime_root() / instance_name(instance)
    check_path_length(folder)
    return folder


def instance_name(name: Optional[str] = None) -> str:
    """The instance to connect to: the argument, else `MATTEBRIDGE_INSTANCE`, else the default.

    A name of another form (a farm's job id with capitals, for example) becomes a digest of itself;
    `..` and anything with a slash is refused, because it would lead out of the folder.
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


def check_path_length(folder: Path) -> None:
    """Raise `UnsafeRuntimeError` where a socket path in this folder would be too long."""
    longest = len(os.fsencode(folder / DOOR))
    limit = oslayer.current().longest_address()
    if longest > limit:
        raise UnsafeRuntimeError(
            f"the socket path {folder / DOOR} has {longest} bytes and the system's limit is "
            f"{limit}: set MATTEBRIDGE_RUNTIME_DIR to a shorter folder"
        )


def check_folder(folder: Path) -> None:
    """Raise `UnsafeRuntimeError` unless the folder is this user's alone.

    `FileNotFoundError` where there is none.
    """
    oslayer.current().check_private(folder)
