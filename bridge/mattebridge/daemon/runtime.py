"""The runtime folder: created privately, locked, cleaned at the start, with status.json and log.

Everything else relies on the lock. Only the process that holds it removes stale sockets and binds
new ones, because binding an `ipc://` address silently takes it from a running daemon. There is no
pid file, so no stale pid is ever trusted or killed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import logging.handlers
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any, Optional

import msgpack

from mattebridge.errors import UnsafeRuntimeError
from mattebridge.wire import oslayer
from mattebridge.wire.folder import CTL, DOOR, LOCK, LOG, STATUS, check_folder, check_path_length

LOG_BYTES = 4 << 20
LOG_FILES = 3
# Enough for any number of sessions; the usual limit of a process is lower.
WANTED_DESCRIPTORS = 65536


def check_reader() -> None:
    """Raise `UnsafeRuntimeError` unless messages are read by msgpack's C extension.

    Its Python fallback takes a fifth of a second for a message made to be slow.
    """
    if "_cmsgpack" not in msgpack.Unpacker.__module__:
        raise UnsafeRuntimeError(
            "msgpack runs here without its C extension (MSGPACK_PUREPYTHON is set, or it was "
            "built without): the daemon needs it; reinstall msgpack from a wheel"
        )


def raise_descriptor_limit() -> None:
    """Raise the limit of open files as far as allowed: each session uses several."""
    oslayer.current().raise_descriptor_limit(WANTED_DESCRIPTORS)


class Runtime:
    """The folder of one instance, and its lock, held until this process ends."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._layer = oslayer.current()
        self._lock_fd: Optional[int] = None
        self._mark = DOOR
        self._inode: Optional[int] = None

    def prepare(self) -> None:
        """Create the folder as 0700; `UnsafeRuntimeError` unless it is private to this user."""
        # For the whole process: sockets and log are private, whatever the caller's mask was.
        os.umask(0o177)
        check_path_length(self.folder)
        missing = [self.folder, *self.folder.parents]
        missing = [path for path in missing if not os.path.lexists(path)]
        parent = self.folder.parent
        if missing:
            self._layer.check_parent(missing[-1].parent)
        elif parent.name.startswith("mattebridge"):
            self._layer.check_parent(parent)
        try:
            for path in reversed(missing):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, 0o700)
                    os.chmod(path, 0o700)
            check_folder(self.folder)
        except OSError as error:
            raise UnsafeRuntimeError(
                f"cannot make the runtime folder {self.folder}: {error.strerror}; set "
                "MATTEBRIDGE_RUNTIME_DIR to a folder that you can write"
            ) from error

    def acquire(self) -> bool:
        """Take the lock until this process ends; False when another daemon holds it."""
        flags = os.O_RDWR | os.O_CREAT | oslayer.OWN_FILE
        path = self.folder / LOCK
        try:
            fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise UnsafeRuntimeError(
                f"cannot open {path}: {error.strerror}; remove it if it is not a plain file"
            ) from error
        try:
            if not self._layer.lock(fd):
                os.close(fd)
                return False
        except OSError as error:
            os.close(fd)
            raise UnsafeRuntimeError(
                f"{self.folder} cannot be locked ({error.strerror}): set MATTEBRIDGE_RUNTIME_DIR "
                "to a folder on a local disk"
            ) from error
        self._lock_fd = fd
        self._sweep()
        return True

    def _sweep(self) -> None:
        """Remove what a killed daemon left: sockets and half-written files.

        Also whatever has the name of the log and is not a plain file.
        """
        for name in os.listdir(self.folder):
            stale = name in (DOOR, CTL) or name.endswith(".tmp")
            planted = name == LOG and not self._is_plain_file(name)
            if stale or planted:
                with contextlib.suppress(OSError):
                    os.unlink(self.folder / name)

    def _is_plain_file(self, name: str) -> bool:
        return stat.S_ISREG(os.lstat(self.folder / name).st_mode)

    def bound(self) -> None:
        """Remember the door that was bound, to notice when the folder is removed.

        The lock, where a door is no file.
        """
        if not os.path.lexists(self.folder / DOOR):
            self._mark = LOCK
        self._inode = os.lstat(self.folder / self._mark).st_ino

    def still_there(self) -> bool:
        """Whether the folder still has what was bound there (a logout may remove the folder)."""
        try:
            return os.lstat(self.folder / self._mark).st_ino == self._inode
        except OSError:
            return False

    def write_status(self, status: dict[str, Any]) -> None:
        """Replace status.json in one step; an error, as of a full disk, is ignored.

        Not by `whole_files`, which waits until the disk has the file: the front must not wait.
        """
        target = self.folder / STATUS
        temporary = self.folder / f".{STATUS}.{os.getpid()}.tmp"
        try:
            temporary.write_text(json.dumps(status, indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, target)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def remove_sockets(self) -> None:
        """Remove the sockets of the lock's holder, which keeps the lock.

        It ends with the process: who waits for the lock, as `stop` does, waits until no process
        of the daemon and nothing of its memory is left.
        """
        if self._lock_fd is not None and self.still_there():
            for name in (DOOR, CTL):
                with contextlib.suppress(OSError):
                    os.unlink(self.folder / name)

    def open_log(self, *, to_terminal: bool) -> None:
        """Write this process's log to the folder, rotated, and with `to_terminal` to stderr too.

        A log that cannot be written stops nothing.
        """
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
        handlers: list[logging.Handler] = []
        with contextlib.suppress(OSError):
            rotating = _RotatedLog(
                self.folder / LOG,
                maxBytes=LOG_BYTES,
                backupCount=LOG_FILES,
                encoding="utf-8",
                errors="backslashreplace",
            )
            rotating.rotator = move_log
            handlers.append(rotating)
        if to_terminal:
            handlers.append(logging.StreamHandler(sys.stderr))
        for handler in handlers:
            handler.setFormatter(form)
            root.addHandler(handler)
        logging.raiseExceptions = False


class _RotatedLog(logging.handlers.RotatingFileHandler):
    """A log that is rotated after the record that made it large enough.

    The library's own way formats every record twice and asks the system about the file, while a
    client waits for the reply to its frame.
    """

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802
        """See `RotatingFileHandler`."""
        return self.stream is not None and self.stream.tell() >= self.maxBytes


def move_log(source: str, target: str) -> None:
    """Give the log its old name; where another process has it open and Windows refuses, a copy.

    The launcher's own errors went to the same file, and it may still be open for them.
    """
    try:
        os.rename(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)
        os.truncate(source, 0)
