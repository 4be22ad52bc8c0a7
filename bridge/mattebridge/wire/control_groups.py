"""What the control groups of this process allow of the machine: memory and processor time.

    /proc/self/cgroup --> the group of this process --> its files, and those of each group above it

A container, a service or a job of a farm is often allowed less than the machine has, and neither
the size of the memory nor the number of processors shows it. A limit holds for all groups below
the one that it is set for, so the smallest on the way up counts. Both versions of the kernel's
interface are read. Inside a container the path of the group may be that of the host and not exist
here; then the mounted root is the group itself.

Runs on Python 3.9; Linux only, imported by `linux.py` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional


class _Names(NamedTuple):
    """The files of one version of the interface."""

    limit: str
    used: str
    # What the kernel gives up before it refuses memory: files that are cached.
    reclaimable: str


_FIRST = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_SECOND = _Names("memory.max", "memory.current", "inactive_file")


class ControlGroups:
    """The groups of this process, from its own up."""

    def __init__(
        self, mounted: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")
    ) -> None:
        self._mounted, self._own = mounted, own

    def memory_limit(self) -> Optional[int]:
        """Bytes that this process and those of its groups may have together; None: no limit."""
        limits = [_number(folder / names.limit) for folder, names in self._memory_folders()]
        return min((limit for limit in limits if limit is not None), default=None)

    def memory_left(self) -> Optional[int]:
        """Bytes that can still be had within the limits; None where there is no limit."""
        left = [_left(folder, names) for folder, names in self._memory_folders()]
        return min((free for free in left if free is not None), default=None)

    def cores(self) -> Optional[float]:
        """Processors' worth of time that the groups may take together; None: no limit."""
        shares = [_cores(folder) for folder in self._folders("cpu")]
        return min((share for share in shares if share is not None), default=None)

    def _memory_folders(self) -> Iterator[tuple[Path, _Names]]:
        for folder in self._folders("memory"):
            yield folder, _SECOND if (folder / _SECOND.limit).exists() else _FIRST

    def _folders(self, controller: str) -> Iterator[Path]:
        """The folders with a controller's files, of the process's own group and those above."""
        for controllers, path in self._groups():
            first = controller in controllers.split(",")
            if not first and controllers:
                continue
            mounted = self._mounted / controller if first else self._mounted
            inner = PurePosixPath("/", path)
            for group in (inner, *inner.parents):
                yield mounted / group.relative_to("/")

    def _groups(self) -> Iterator[tuple[str, str]]:
        """Controllers ("" for those of version 2) and path of each hierarchy."""
        try:
            lines = self._own.read_text("utf-8", "replace").splitlines()
        except OSError:
            return
        for line in lines:
            _number_of, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            yield controllers, path


def _left(folder: Path, names: _Names) -> Optional[int]:
    limit, used = _number(folder / names.limit), _number(folder / names.used)
    if limit is None or used is None:
        return None
    return max(0, limit - max(0, used - _reclaimable(folder, names)))


def _reclaimable(folder: Path, names: _Names) -> int:
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == names.reclaimable and value.isdigit():
            return int(value)
    return 0


def _cores(folder: Path) -> Optional[float]:
    words = _text(folder / "cpu.max").split()
    if len(words) == 2:
        quota, period = (int(word) if word.isdigit() else 0 for word in words)
    else:
        quota = _number(folder / "cpu.cfs_quota_us") or 0
        period = _number(folder / "cpu.cfs_period_us") or 0
    return quota / period if quota > 0 and period > 0 else None


def _number(path: Path) -> Optional[int]:
    """The number in a file; None where there is none: `max`, `-1`, or no such file."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
