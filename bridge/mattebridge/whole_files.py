"""Write files so that they are whole or absent: every frame, every sidecar, every settings file.

    bytes in memory --write, fsync--> OUT/.plate.1001.exr.<host>-<pid>.<n>.tmp --replace--> final

The temporary file is in the same folder, so that the rename stays on one file system; its leading
dot keeps it out of sequence scans. A process that is killed half-way leaves only such a file, and
the next run on the same host removes it. The rule that must not be broken: nothing ever writes to a
final name.

Runs on Python 3.9; standard library only: the host half uses it too.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Union

from mattebridge.errors import FrameWriteError, UsageError
from mattebridge.wire import oslayer
from mattebridge.wire.files import HeldOpenError

# Linux refuses longer names (NAME_MAX).
MAX_NAME_BYTES = 255
# One os.write moves at most this much, so that an interrupt is answered soon.
CHUNK_BYTES = 32 << 20

# What an artist can do about the usual errors of a file system.
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space, then run again with --resume",
    errno.EDQUOT: "the disk quota is used up; free some space, then run again with --resume",
    errno.EFBIG: "the file is over the size limit set for it; raise it or choose another --format",
    errno.EACCES: "the folder may not be written; change its permissions or choose another -o",
    errno.EPERM: "the folder may not be written; change its permissions or choose another -o",
    errno.EROFS: "the file system is read-only; choose another -o",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter -o or rename the frames",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another -o",
    errno.EISDIR: "a folder stands in its place; remove it or choose another -o",
}

_serial = itertools.count()
_open_temporaries: set[str] = set()


def replace_file(path: Union[str, Path], data: Union[bytes, memoryview]) -> int:
    """Write `data` to `path`, whole or not at all; returns the number of bytes.

    Missing folders are made. Raises `FrameWriteError` naming the file; then nothing is left behind.
    """
    path = Path(path)
    try:
        target = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_and_rename(target.parent / temporary_name(target.name), target, memoryview(data))
    except OSError as failure:
        raise write_error(path, failure) from failure
    return len(data)


def write_whole(path: Path, data: Union[bytes, bytearray, memoryview]) -> None:
    """`replace_file` into a folder that exists, for callers with advice of their own.

    Raises `OSError`.
    """
    path = _target(path)
    _write_and_rename(path.parent / temporary_name(path.name), path, memoryview(data))


def link_whole(source: Path, path: Path) -> None:
    """Put a whole file under a second name: as a hard link where the file system has them.

    Raises `OSError`.
    """
    path = _target(path)
    temporary = path.parent / temporary_name(path.name)
    _open_temporaries.add(str(temporary))
    try:
        link_or_copy(source, temporary)
        _replace(temporary, path)
    finally:
        # Also after the replace: where both names are links to one file, it leaves the temporary.
        with contextlib.suppress(OSError):
            temporary.unlink()
        _open_temporaries.discard(str(temporary))


def link_or_copy(source: Path, target: Path) -> None:
    """A new name for a file; a copy where the file system has no hard links. Raises `OSError`."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(source, target)


class GrowingFile:
    """A file that another library writes piece by piece, such as a video: whole or absent.

    `temporary` is where to write; `commit` gives it its name, `discard` removes it. Raises
    `FrameWriteError` where no file can be made in the folder.
    """

    def __init__(self, path: Union[str, Path]) -> None:
        self.path = Path(path)
        self._others: list[Path] = []
        try:
            self._target = _target(self.path)
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self.temporary = self._target.parent / temporary_name(self.path.name)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            os.close(os.open(self.temporary, flags, 0o666))
        except OSError as failure:
            raise write_error(self.path, failure) from failure
        _open_temporaries.add(str(self.temporary))

    def also(self, path: Path) -> None:
        """Another file in the same folder, to be removed with the temporary one."""
        self._others.append(path)
        _open_temporaries.add(str(path))

    def commit(self) -> int:
        """Give what was written its final name; its size in bytes. Raises `OSError`."""
        # To write as well: Windows syncs no file that was opened to be read only.
        descriptor = os.open(self.temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        _replace(self.temporary, self._target)
        self.discard()
        return size

    def discard(self) -> None:
        """Remove everything that was written; after a commit, everything but the file."""
        for path in (self.temporary, *self._others):
            with contextlib.suppress(OSError):
                path.unlink()
            _open_temporaries.discard(str(path))


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself in its nearest parent."""
    place = oslayer.current().reachable(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    probe = place / temporary_name("probe")
    try:
        # By trying: the permission bits do not show a read-only mount.
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        probe.unlink()
    except OSError:
        return False
    return True


def write_error(path: Path, failure: OSError) -> FrameWriteError:
    """The error of the file system as a sentence for the artist."""
    why = _ADVICE.get(failure.errno or 0, failure.strerror or str(failure))
    if isinstance(failure, HeldOpenError):
        why = str(failure.strerror)
    return FrameWriteError(f"cannot write {path}: {why}", path=str(path), errno=failure.errno)


def temporary_name(name: str) -> str:
    """A name for the unfinished `name` that no other process or thread uses."""
    ending = f".{_host()}-{os.getpid()}.{next(_serial)}.tmp"
    if len(f".{name}{ending}".encode()) > MAX_NAME_BYTES:
        name = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f".{name}{ending}"


def sweep_temporaries(folders: Iterable[Union[str, Path]]) -> list[Path]:
    """Remove what killed processes of this host left unfinished in `folders`; returns the names.

    Other hosts may be writing into the same folder: their files stay. Final names never match.
    """
    owner = re.compile(rf"^\..+\.{re.escape(_host())}-(\d+)(?:\.\d+)?\.tmp(?:\.mp4)?$")
    swept = []
    for folder in folders:
        for path in _entries(Path(folder)):
            match = owner.match(path.name)
            if match and _is_abandoned(path, int(match.group(1))):
                with contextlib.suppress(OSError):
                    path.unlink()
                    swept.append(path)
    return swept


def remove_open_temporaries() -> None:
    """Remove what this process is writing now; for a process that must end at once."""
    for name in list(_open_temporaries):
        with contextlib.suppress(OSError):
            os.unlink(name)


def check_names(paths: Iterable[Path]) -> None:
    """Raise `UsageError` for a path that this system takes for another file than it names.

    What writes files does so too, at the end; commands ask before they begin.
    """
    layer = oslayer.find()
    for path in paths:
        fault = layer.fault_of_path(str(path)) if layer is not None else None
        if fault is not None:
            raise UsageError(f"{path} cannot be used: {fault}")


def _target(path: Path) -> Path:
    """The path to write to, as this system takes it. `OSError` for what is no place for a file."""
    layer = oslayer.current()
    fault = layer.fault_of_path(str(path))
    if fault is not None:
        raise OSError(errno.EINVAL, fault)
    target = layer.reachable(path)
    # os.replace would put a plain file in the place of a device such as /dev/full.
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a device or pipe, not a file; choose another -o")
    return target


def _write_and_rename(temporary: Path, path: Path, data: memoryview) -> None:
    _open_temporaries.add(str(temporary))
    try:
        _write_through(temporary, data)
        _replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        _open_temporaries.discard(str(temporary))


def _replace(temporary: Path, path: Path) -> None:
    """Give a file its final name."""
    oslayer.current().replace(temporary, path)


def _write_through(temporary: Path, data: memoryview) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | oslayer.BINARY
    descriptor = os.open(temporary, flags, 0o666)
    try:
        done = 0
        while done < len(data):
            done += os.write(descriptor, data[done : done + CHUNK_BYTES])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", socket.gethostname())[:64] or "host"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_abandoned(path: Path, pid: int) -> bool:
    if pid == os.getpid():
        # In a container another process had this number before: ours are those that are open now.
        return str(path) not in _open_temporaries
    return not oslayer.current().runs(pid)
