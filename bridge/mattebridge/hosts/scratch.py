"""The folder in which a host's pixels pass through: private, locked while in use, swept when not.

    <root>/mattebridge-<uid>-x7f3/lock        held with flock for as long as the session lives
                                 /...         scratch EXRs of the frames in flight

The root is the configured folder, else memory (/dev/shm) where the frame fits, else the system's
temporary folder. A folder whose lock is free belongs to a session that was killed; the next session
removes it. Process numbers are not asked: they are used again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Optional

from mattebridge.errors import FrameWriteError

MEMORY_FOLDER = Path("/dev/shm")
LOCK_NAME = "lock"
# Between its making and its lock a folder has no lock file; nobody takes this long for that.
UNLOCKED_AGE_S = 3600.0


class ScratchFolder:
    """`with ScratchFolder(need_bytes=...) as folder: folder.path`; gone afterwards."""

    def __init__(self, root: Optional[str] = None, *, need_bytes: int = 0) -> None:
        self.root = choose_root(root, need_bytes)
        sweep(self.root)
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_prefix(), dir=self.root))
            self._lock = _make_lock(self.path)
        except OSError as error:
            raise FrameWriteError(
                f"cannot make a scratch folder in {self.root}: {error.strerror}; choose another "
                "with MATTEBRIDGE_SCRATCH"
            ) from error

    def check_room(self, need_bytes: int) -> None:
        """Raise `FrameWriteError` where a frame would not fit: a full disk leaves half a frame."""
        free = _free_bytes(self.path)
        if free < need_bytes:
            raise FrameWriteError(
                f"the scratch folder {self.path} has {free / 1e6:.0f} MB left and one frame needs "
                f"{need_bytes / 1e6:.0f} MB; choose another with MATTEBRIDGE_SCRATCH"
            )

    def close(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> ScratchFolder:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()


def choose_root(configured: Optional[str], need_bytes: int) -> Path:
    """The folder for scratch folders. Raises `FrameWriteError` when the configured one is none."""
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
    """Remove the folders of this user's dead sessions; gives what was removed."""
    swept = []
    for folder in root.glob(_prefix() + "*"):
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == _uid() and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
    return swept


def _is_abandoned(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK_NAME, os.O_RDWR)
    except FileNotFoundError:
        return time.time() - folder.lstat().st_mtime > UNLOCKED_AGE_S
    try:
        return _try_lock(descriptor)
    finally:
        os.close(descriptor)


def _make_lock(folder: Path) -> int:
    """A locked file, given its name only when it is locked; its descriptor."""
    temporary = folder / f"{LOCK_NAME}.new"
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    _try_lock(descriptor)
    os.rename(temporary, folder / LOCK_NAME)
    return descriptor


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:
        return False  # no locks on this system: nothing is ever swept
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _uid() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _prefix() -> str:
    return f"mattebridge-{_uid()}-"
