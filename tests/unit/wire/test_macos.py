"""The layer of macOS: what it makes of the system's answers, and that it needs nothing of Linux's.

The answers are made here, after the system's headers; no Mac has given them.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, Optional

import pytest

from mattebridge.wire import macos
from mattebridge.wire.connection import Peer
from mattebridge.wire.macos import MacMachine


class FakeLibrary:
    """macOS's C library, as far as it is asked."""

    def __init__(self, **values: int) -> None:
        self.values = values
        self.refuses = False

    def proc_pid_rusage(self, pid: int, flavor: int, usage: Any) -> int:
        assert (pid, flavor) == (os.getpid(), 0)
        counters = struct.pack("<10Q", 1, 2, 3, 4, 5, 6, 300 << 20, 200 << 20, 9, 10)
        ctypes.memmove(usage, bytes(16) + counters, 96)
        return -1 if self.refuses else 0

    def sysctlbyname(self, name: bytes, value: Any, size: Any, _new: None, _length: Any) -> int:
        if name.decode() not in self.values:
            return -1
        assert size._obj.value == len(value)
        ctypes.memmove(value, self.values[name.decode()].to_bytes(len(value), "little"), len(value))
        return 0


class FakeSocket:
    """A connection with the options of macOS."""

    def __init__(self, credentials: Optional[bytes], pid: int) -> None:
        self.options = {(0, 1): credentials, (0, 2): struct.pack("<i", pid)}

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        found = self.options[level, option]
        if found is None:
            raise OSError(57, "Socket is not connected")
        return found[:size]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> FakeLibrary:
    fake = FakeLibrary(**{"hw.memsize": 16 << 30, "kern.memorystatus_level": 25})
    monkeypatch.setattr(macos, "_library", lambda: fake)
    return fake


def test_memory_is_read_from_the_counters_of_the_process(library: FakeLibrary) -> None:
    assert MacMachine().resident_bytes() == 300 << 20
    assert MacMachine().private_bytes() == 200 << 20
    library.refuses = True
    assert MacMachine().resident_bytes() == MacMachine().private_bytes() == 0


def test_memory_of_the_machine_is_free_by_the_share_that_the_system_names(
    library: FakeLibrary,
) -> None:
    assert MacMachine().total_memory_bytes() == 16 << 30
    assert MacMachine().available_memory_bytes() == 4 << 30
    del library.values["hw.memsize"]
    with pytest.raises(OSError, match=r"sysctl hw\.memsize"):
        MacMachine().total_memory_bytes()


def _xucred(version: int, uid: int) -> bytes:
    return struct.pack("<IIh2x16I", version, uid, 2, 20, 12, *[0] * 14)


@pytest.mark.parametrize(
    ("credentials", "peer"),
    [
        (_xucred(0, 501), Peer(4321, 501)),
        (_xucred(1, 501), Peer(-1, -1)),  # of another layout
        (_xucred(0, 501)[:12], Peer(-1, -1)),
        (None, Peer(-1, -1)),  # the other end has closed
    ],
)
def test_a_peer_is_read_from_its_credentials(credentials: Optional[bytes], peer: Peer) -> None:
    connection: Any = FakeSocket(credentials, 4321)
    assert MacMachine().peer_of(connection) == peer


def test_folders_are_those_of_macos_and_the_sockets_path_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    temporary = "/var/folders/zz/zyxvpxvq6csfxvn_n0000000000000/T/"
    monkeypatch.setattr(os, "confstr", {65537: temporary}.__getitem__)
    monkeypatch.setenv("HOME", "/Users/artist")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    machine = MacMachine()
    support = Path("/Users/artist/Library/Application Support/mattebridge")
    assert machine.settings_folder() == machine.data_folder() == support
    assert machine.runtime_root() == Path(temporary) / f"mattebridge-{os.getuid()}"
    door = machine.runtime_root() / ("i" * 20) / "door"
    assert len(os.fsencode(door)) <= machine.longest_address() == 103
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    assert machine.data_folder() == Path("/elsewhere/mattebridge")


# The whole layer without what macOS lacks, its own two calls apart.
WITHOUT_LINUX = """
import os, select, socket, sys
from pathlib import Path
for module, names in {
    os: ["memfd_create", "posix_fallocate", "sendfile", "sched_getaffinity", "eventfd"],
    socket: ["SOCK_SEQPACKET", "SO_PEERCRED", "MSG_CMSG_CLOEXEC", "MSG_NOSIGNAL", "SOCK_CLOEXEC"],
    select: ["epoll"],
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"
from mattebridge.wire import macos, oslayer
from mattebridge.wire.connection import Peer
macos.MacMachine.prepare = lambda self, connection: None
macos.MacMachine.peer_of = lambda self, connection: Peer(os.getpid(), os.getuid())
layer = oslayer.current()
assert "mattebridge.wire.linux" not in sys.modules
memory = layer.create_memory(4 << 20)
layer.map_memory(memory, 4 << 20)[:4] = b"abcd"
other = layer.create_memory(4 << 20)
layer.copy_memory(memory, 0, other, 100_000, 1 << 20)
assert layer.read_memory(other, 100_004)[-4:] == b"abcd"
listener = layer.bind(Path(sys.argv[1]))
listener.listen(8)
client = layer.connect(Path(sys.argv[1]))
server = listener.accept()
server.send(b"welcome", (memory,))
assert layer.wait([client.fileno()], 5.0)
data, (received,), cut = client.receive(100)
assert (data, cut, layer.read_memory(received, 4)) == (b"welcome", False, b"abcd")
assert not os.get_inheritable(received)
assert layer.control_peer("") == Peer(-1, os.geteuid())
assert layer.free_descriptors() > 0 and layer.cores() > 0
layer.release_memory()
layer.die_with_parent()
layer.check_private(Path(sys.argv[1]).parent)
print("whole")
"""


def test_the_layer_needs_nothing_that_macos_lacks(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", WITHOUT_LINUX, str(tmp_path / "door")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
