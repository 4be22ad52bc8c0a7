"""The layer of macOS: POSIX (posix.py), and what only macOS's own calls say.

Called by ctypes, by number and by layout as in the system's headers, which have not changed since
macOS 10.9: `xucred` (sys/ucred.h), `rusage_info_v0` (sys/resource.h), `confstr` (unistd.h).

Imported by `oslayer.find` alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import tempfile
from pathlib import Path
from typing import Any, Optional

from mattebridge.wire.connection import Peer
from mattebridge.wire.own_folder import folder_of
from mattebridge.wire.posix import PosixLayer

# Options of sockets (sys/un.h, sys/socket.h).
SOL_LOCAL, LOCAL_PEERCRED, LOCAL_PEERPID = 0, 0x001, 0x002
SO_NOSIGPIPE = 0x1022
# cr_version, cr_uid, cr_ngroups, 16 groups; the rest of the structure is not read.
XUCRED = struct.Struct("=IIhxx16I")
XUCRED_VERSION = 0
CS_DARWIN_USER_TEMP_DIR = 65537
# 16 bytes of identity, then 64-bit counters.
RUSAGE_V0, RUSAGE_WORDS = 0, struct.Struct("=16x10Q")
RESIDENT, FOOTPRINT = 6, 7  # ri_resident_size, ri_phys_footprint
APPLICATION_SUPPORT = "~/Library/Application Support"


class MacMachine:
    """The answers of macOS itself; see `OsLayer` and `PosixLayer` for what each method gives."""

    def peer_of(self, connection: socket.socket) -> Peer:
        """See `PosixLayer`: LOCAL_PEERCRED and LOCAL_PEERPID."""
        try:
            raw = connection.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, XUCRED.size)
            (pid,) = struct.unpack("=i", connection.getsockopt(SOL_LOCAL, LOCAL_PEERPID, 4))
            version, uid, *_groups = XUCRED.unpack(raw)
        except (OSError, struct.error):
            return Peer(-1, -1)
        return Peer(pid, uid) if version == XUCRED_VERSION else Peer(-1, -1)

    def prepare(self, connection: socket.socket) -> None:
        """See `PosixLayer`."""
        connection.setsockopt(socket.SOL_SOCKET, SO_NOSIGPIPE, 1)

    # -- the user -------------------------------------------------------------------------------

    def longest_address(self) -> int:
        """See `Users`. sockaddr_un holds 104 bytes with the final zero."""
        return 103

    def runtime_root(self) -> Path:
        """See `Users`. The user's own temporary folder: what `$TMPDIR` is after a login."""
        try:
            folder: Optional[str] = os.confstr(CS_DARWIN_USER_TEMP_DIR)
        except (OSError, ValueError):
            folder = None
        return Path(folder or tempfile.gettempdir()) / f"mattebridge-{os.getuid()}"

    def settings_folder(self) -> Path:
        """See `Users`. `$XDG_CONFIG_HOME/mattebridge` where that is set."""
        return folder_of("XDG_CONFIG_HOME", APPLICATION_SUPPORT)

    def data_folder(self) -> Path:
        """See `Users`. `$XDG_DATA_HOME/mattebridge` where that is set."""
        return folder_of("XDG_DATA_HOME", APPLICATION_SUPPORT)

    # -- figures --------------------------------------------------------------------------------

    def resident_bytes(self) -> int:
        """See `Machine`."""
        return _own_usage()[RESIDENT]

    def private_bytes(self) -> int:
        """See `Machine`. The footprint: what this process alone keeps, compressed or not."""
        return _own_usage()[FOOTPRINT]

    def release_memory(self) -> None:
        """See `Machine`."""
        with contextlib.suppress(AttributeError):
            _library().malloc_zone_pressure_relief(None, ctypes.c_size_t(0))

    def total_memory_bytes(self) -> int:
        """See `Machine`."""
        return _system_value("hw.memsize", 8)

    def available_memory_bytes(self) -> int:
        """See `Machine`. The system says it in percent, as the command `memory_pressure` does."""
        return self.total_memory_bytes() * _system_value("kern.memorystatus_level", 4) // 100

    def may_have_gpu(self) -> bool:
        """See `Machine`: Metal is part of the system."""
        return True

    def cores(self) -> int:
        """See `Machine`."""
        return os.cpu_count() or 1


class MacLayer(MacMachine, PosixLayer):
    """macOS's answers; see `OsLayer` for what each method gives."""


def _library() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _own_usage() -> tuple[int, ...]:
    """The counters of `rusage_info_v0` of this process; zeros where the system refuses."""
    usage = ctypes.create_string_buffer(RUSAGE_WORDS.size)
    if _library().proc_pid_rusage(os.getpid(), RUSAGE_V0, usage) != 0:
        return (0,) * 10
    return RUSAGE_WORDS.unpack(usage.raw)


def _system_value(name: str, size_bytes: int) -> int:
    """An integer of the system (`sysctl NAME`)."""
    value = ctypes.create_string_buffer(size_bytes)
    size = ctypes.c_size_t(size_bytes)
    if _library().sysctlbyname(name.encode(), value, ctypes.byref(size), None, ctypes.c_size_t(0)):
        raise OSError(ctypes.get_errno(), f"sysctl {name} failed")
    return int.from_bytes(value.raw[: size.value], "little")
