"""The folder for pixels on their way from a host to the daemon: private, and removed after use.

    <root>/mattebridge-<uid>-x7f3/lock        locked with flock while the folder is in use
                                 /...         scratch EXRs of the frames in flight

The root is the configured folder, else memory (/dev/shm) where the frame fits, else the system's
temporary folder. A folder whose lock is free was left by a process that was killed; the next one
removes it. Process ids are not compared: the system uses them again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Optional

from mattebridge.errors import FrameWriteError
from mattebridge.wire import file_locks, oslayer
from mattebridge.wire.file_locks import Lock

MEMORY_FOLDER = Path("/dev/shm")
LOCK_NAME = "lock"
# A new folder has no lock file for a moment; one of this age without it was left behind.
UNLOCKED_AGE_S = 3600.0


class ScratchFolder:
    """`with ScratchFolder(need_bytes=...) as folder: folder.path`; gone afterwards."""

    def __init__(self, root: Optional[str] = None, *, need_bytes: int = 0) -> None:
        self.root = choose_root(root, need_bytes)
        sweep(self.root)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_prefix(), dir=self.root))
            self._lock = oslayer.current().create_locked(self.path / LOCK_NAME)
        except OSError as error:
            raise FrameWriteError(
                f"cannot make a scratch folder in {self.root}: {error.strerror}; choose another "
                "with MATTEBRIDGE_SCRATCH"
            ) from error

    def check_room(self, need_bytes: int) -> None:
        """Raise `FrameWriteError` where a frame does not fit: a full disk leaves half a frame."""
        free = _free_bytes(self.path)
        if free < need_bytes:
            raise FrameWriteError(
                f"the scratch folder {self.path} has {free / 1e6:.0f} MB left and one frame needs "
                f"{need_bytes / 1e6:.0f} MB; choose another with MATTEBRIDGE_SCRATCH"
            )

    def close(self) -> None:
        """Remove the folder and its files."""
        if self._lock >= 0:
            os.close(self._lock)  # first: Windows removes no file that is open
            self._lock = -1
        shutil.rmtree(self.path, ignore_errors=True)

    def __enter__(self) -> ScratchFolder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def choose_root(configured: Optional[str], need_bytes: int) -> Path:
    """The folder for scratch folders. Raises `FrameWriteError` if the configured one is missing."""
    configured = configured or os.environ.get("MATTEBRIDGE_SCRATCH") or None
    if configured is not None:
        if not os.path.isdir(configured):
            raise FrameWriteError(f"the scratch folder {configured} does not exist")
        return Path(configured)
    with contextlib.suppress(OSError):
        if _free_bytes(MEMORY_FOLDER) > need_bytes and os.access(MEMORY_FOLDER, os.W_OK):
            return MEMORY_FOLDER
    return Path(tempfile.gettempdir())


def sweep(root: Path) -> list[Path]:
    """Remove the folders that this user's killed processes left; returns what was removed."""
    swept, layer = [], oslayer.find()
    for folder in root.glob(_prefix() + "*"):
        with contextlib.suppress(OSError):
            mine = layer is not None and layer.other_owner(folder, folder.lstat()) is None
            if mine and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
    return swept


def _is_abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return time.time() - folder.lstat().st_mtime > UNLOCKED_AGE_S
    try:
        # On a file system without locks this is not known, and nothing is removed.
        return file_locks.take(descriptor) is Lock.TAKEN
    finally:
        os.close(descriptor)


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _prefix() -> str:
    """The same for all folders of this user."""
    return f"mattebridge-{user_word()}-"


def user_word() -> str:
    """This user in the name of a folder that all users share; at most twelve letters and digits."""
    layer = oslayer.find()
    user = str(layer.user_id()) if layer is not None else "0"
    # The number of a user of Windows has 90 digits.
    return user if len(user) <= 12 else hashlib.sha256(user.encode()).hexdigest()[:12]
