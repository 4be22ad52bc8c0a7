"""The layer of the operating system: memory, connections, locks, and the systems without one."""

from __future__ import annotations

import ast
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.limits import SOON_S
from fakes.places import BRIDGE, ROOT
from mattebridge.errors import GeometryError, UnsafeRuntimeError
from mattebridge.wire import oslayer, posix
from mattebridge.wire.connection import Connection, Peer

SIZE = 2 << 20


@pytest.fixture(params=["linux", "posix"])
def layer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> oslayer.OsLayer:
    monkeypatch.setenv(oslayer.TEST_VARIABLE, request.param)
    return oslayer.current()


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> oslayer.OsLayer:
    monkeypatch.delenv(oslayer.TEST_VARIABLE, raising=False)
    return oslayer.current()


@pytest.fixture
def pair(layer: oslayer.OsLayer) -> Iterator[tuple[Connection, Connection]]:
    ends = layer.pair(1 << 16)
    yield ends
    for end in ends:
        end.close()


# -- memory --------------------------------------------------------------------------------------


def test_memory_is_zeroed_whole_and_not_inherited(layer: oslayer.OsLayer) -> None:
    fd = layer.create_memory(SIZE)
    try:
        layer.check_memory(fd, SIZE)
        assert not os.get_inheritable(fd)
        assert layer.read_memory(fd, SIZE) == bytes(SIZE)
        # Every page is allocated: a machine without memory cannot answer by a signal later.
        assert os.fstat(fd).st_blocks * 512 >= SIZE
    finally:
        layer.close_memory(fd)


def test_memory_that_could_shrink_or_is_too_small_is_refused(linux: oslayer.OsLayer) -> None:
    unsealed = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, SIZE)
    sealed = linux.create_memory(SIZE)
    file = os.open("/dev/null", os.O_RDWR)
    try:
        with pytest.raises(GeometryError, match="seals are missing"):
            linux.check_memory(unsealed, SIZE)
        with pytest.raises(GeometryError, match="holds 2097152"):
            linux.check_memory(sealed, SIZE + 1)
        with pytest.raises(GeometryError, match="not sealed memory"):
            linux.check_memory(file, 1)
    finally:
        for fd in (unsealed, sealed, file):
            os.close(fd)


def test_bytes_are_copied_from_one_place_to_another(layer: oslayer.OsLayer) -> None:
    source, target = layer.create_memory(SIZE), layer.create_memory(SIZE)
    with layer.map_memory(source, SIZE) as pixels:
        pixels[4096:4100] = b"abcd"
    layer.copy_memory(source, 4096, target, 64, 4)
    assert layer.read_memory(target, 70)[64:] == b"abcd\0\0"
    with pytest.raises(GeometryError, match="ended early"):
        layer.copy_memory(source, SIZE - 2, target, 0, 4)
    layer.close_memory(source)
    layer.close_memory(target)


# -- connections ---------------------------------------------------------------------------------


def test_a_record_arrives_whole_with_its_descriptors(
    layer: oslayer.OsLayer, pair: tuple[Connection, Connection]
) -> None:
    ours, theirs = pair
    memory = layer.create_memory(SIZE)
    ours.send(b"first", (memory,))
    ours.send(b"second")
    data, (received,), cut = theirs.receive(100)
    assert (data, cut) == (b"first", False)
    layer.check_memory(received, SIZE)
    assert not os.get_inheritable(received)
    assert theirs.receive(100) == (b"second", [], False)
    assert theirs.peer() == Peer(os.getpid(), os.geteuid())
    for fd in (memory, received):
        layer.close_memory(fd)


def test_a_record_that_does_not_fit_is_cut_and_says_so(
    pair: tuple[Connection, Connection],
) -> None:
    pair[0].send(b"x" * 11)
    assert pair[1].receive(10).cut


def test_the_end_of_a_connection_is_seen_by_the_other_side(
    layer: oslayer.OsLayer, pair: tuple[Connection, Connection]
) -> None:
    ours, theirs = pair
    assert not layer.wait([ours.fileno()], 0.0)
    assert not ours.lost()
    theirs.send(b"last")
    theirs.close()
    assert layer.wait([ours.fileno()], 1.0) == {ours.fileno()}
    assert not ours.lost()
    assert ours.receive(10).data == b"last"
    assert ours.lost()
    assert ours.receive(10).data == b""
    with pytest.raises(BrokenPipeError):
        ours.send(b"nobody reads this")


def test_a_client_connects_to_a_path_and_both_ends_know_each_other(
    layer: oslayer.OsLayer, tmp_path: Path
) -> None:
    path = tmp_path / "door"
    with pytest.raises(FileNotFoundError):
        layer.connect(path)
    listener = layer.bind(path)
    with pytest.raises(ConnectionRefusedError):
        layer.connect(path)
    listener.listen(1)
    with pytest.raises(BlockingIOError):
        listener.accept()
    client = layer.connect(path)
    server = listener.accept()
    assert client.peer() == server.peer() == Peer(os.getpid(), layer.user_id())
    with pytest.raises(BlockingIOError):
        server.receive(10)
    for end in (client, server, listener):
        end.close()


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("localhost:1000:1001:4321", Peer(pid=4321, uid=1000)),
        ("127.0.0.1", Peer(-1, -1)),
        ("localhost:x:1:2", Peer(-1, -1)),
        ("", Peer(-1, -1)),
    ],
)
def test_the_sender_of_a_control_message_is_read_from_its_address(
    linux: oslayer.OsLayer, address: str, peer: Peer
) -> None:
    assert linux.control_peer(address) == peer


def test_a_wait_is_ended_from_another_thread(layer: oslayer.OsLayer) -> None:
    wake_up = layer.wake_up()
    for _ in range(100_000):  # more than the pipe holds: waking never waits
        wake_up.wake()
    while layer.wait([wake_up.fileno()], 0.0):
        wake_up.clear()
    threading.Timer(0.05, wake_up.wake).start()
    # Empty where the time ran out.
    assert layer.wait([wake_up.fileno()], SOON_S) == {wake_up.fileno()}
    wake_up.close()


# -- records in a stream -------------------------------------------------------------------------


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Connection, socket.socket]]:
    """A connection of the layer of macOS, and the bare socket at its other end."""
    monkeypatch.setenv(oslayer.TEST_VARIABLE, "posix")
    ours, theirs = oslayer.current().pair(1 << 16)
    bare = socket.socket(fileno=os.dup(theirs.fileno()))
    theirs.close()
    yield ours, bare
    ours.close()
    bare.close()


def test_a_record_that_arrives_in_pieces_is_received_once_it_is_whole(
    stream: tuple[Connection, socket.socket],
) -> None:
    ours, bare = stream
    record = b"\5\0\0\0whole\3\0\0\0"
    for at in range(len(record)):
        bare.send(record[at : at + 1])
        if at == 8:
            assert ours.receive(10).data == b"whole"
        else:
            with pytest.raises(BlockingIOError):
                ours.receive(10)
    bare.close()
    assert ours.receive(10).data == b""  # what had begun never came


def test_a_record_that_is_too_long_is_dropped_whole_and_the_next_is_received(
    stream: tuple[Connection, socket.socket],
) -> None:
    ours, bare = stream
    with pytest.raises(BlockingIOError):
        ours.receive(10)
    bare.sendall(b"\0\0\2\0" + bytes(100))
    assert ours.receive(10).cut
    with pytest.raises(BlockingIOError):
        ours.receive(10)
    sender = threading.Thread(target=bare.sendall, args=[bytes((2 << 16) - 100) + b"\2\0\0\0ok"])
    sender.start()
    received = None
    while received is None:
        with contextlib.suppress(BlockingIOError):
            received = ours.receive(10)
    sender.join()
    assert received == (b"ok", [], False)


def test_a_connection_whose_other_end_does_not_read_is_ended_without_waiting(
    stream: tuple[Connection, socket.socket],
) -> None:
    ours, bare = stream
    with pytest.raises(BlockingIOError):
        ours.send(bytes(8 << 20))  # more than any buffer holds
    # A part of it went out: the other end reads that, and then the end.
    bare.settimeout(60)
    while bare.recv(1 << 20):
        pass


def test_memory_that_was_made_smaller_is_an_error_and_no_signal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(oslayer.TEST_VARIABLE, "posix")
    layer = oslayer.current()
    source, target = layer.create_memory(SIZE), layer.create_memory(SIZE)
    try:
        os.ftruncate(source, 1 << 16)
        assert layer.read_memory(source, 64) == bytes(64)
        for size_bytes in (1 << 17, SIZE):
            with pytest.raises(GeometryError, match="ended early"):
                layer.copy_memory(source, 0, target, 0, size_bytes)
        with posix._mapped(target, SIZE) as pixels:
            os.ftruncate(target, 1 << 16)  # while it is being read
            with pytest.raises(GeometryError, match="ended early"):
                posix._carry(pixels, memoryview(bytearray(SIZE)))
    finally:
        for fd in (source, target):
            os.close(fd)


# -- the user, the machine -----------------------------------------------------------------------


def test_a_lock_is_held_once_and_ends_with_its_descriptor(
    layer: oslayer.OsLayer, tmp_path: Path
) -> None:
    path = tmp_path / "lock"
    first = os.open(path, os.O_RDWR | os.O_CREAT)
    second = os.open(path, os.O_RDWR)
    assert layer.lock(first)
    assert not layer.lock(second)
    layer.unlock(first)
    assert layer.lock(second)
    threading.Timer(0.05, os.close, [second]).start()
    assert layer.lock(first, wait=True)
    os.close(first)


def test_the_figures_of_this_process_are_plausible(layer: oslayer.OsLayer) -> None:
    free = layer.free_descriptors()
    fd = os.open(os.devnull, os.O_RDONLY)
    assert layer.free_descriptors() == free - 1
    os.close(fd)
    assert 0 < free < layer.descriptor_limit()
    assert 1 << 20 < layer.resident_bytes() < layer.total_memory_bytes()


def test_every_name_is_the_name_of_one_file(layer: oslayer.OsLayer) -> None:
    assert layer.fault_of_path("out/nul. /C:x?") is None


# -- systems without a layer ---------------------------------------------------------------------


def test_another_system_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oslayer.sys, "platform", "sunos5")
    assert oslayer.find() is None
    with pytest.raises(UnsafeRuntimeError, match=r"does not run on sunos5 yet.*macOS and Windows"):
        oslayer.current()


# The files that other systems cannot import. Those of Windows are tested there
# (tests/e2e/test_under_wine.py).
LAYERS = (
    "linux.py", "macos.py", "posix.py", "posix_on_linux.py", "unix.py",
    "win32.py", "windows.py", "windows_children.py", "windows_memory.py", "windows_pipes.py",
)  # fmt: skip

# What Windows lacks. The packages that come from elsewhere choose by the real system, so they are
# loaded before it changes.
OTHER_SYSTEM = """
import asyncio, ctypes, importlib, multiprocessing, os, select, socket, subprocess, sys, tempfile
import msgpack, numpy, numpy.typing, zmq
sys.platform = sys.argv[1]
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
lacking = {
    os: ["geteuid", "getuid", "memfd_create", "posix_fallocate", "sendfile", "pread",
         "O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "sysconf", "register_at_fork"],
    socket: ["AF_UNIX", "SOCK_SEQPACKET", "SO_PEERCRED", "socketpair", "SCM_RIGHTS",
             "CMSG_SPACE", "MSG_CMSG_CLOEXEC", "MSG_NOSIGNAL"],
    select: ["poll", "epoll"],
}
for module, names in lacking.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
from mattebridge.client import MatteClient
from mattebridge.errors import UnsafeRuntimeError
for name in sys.argv[3:]:
    importlib.import_module(name)
assert "mattebridge.wire.linux" not in sys.modules
for arguments in ({}, {"start": True}, {"instance": sys.argv[2]}):
    try:
        MatteClient.connect(**arguments)
    except UnsafeRuntimeError as error:
        print(error.message)
"""


@pytest.mark.parametrize("platform", ["sunos5"])
def test_on_another_system_the_host_half_is_imported_and_connecting_says_the_sentence(
    platform: str, tmp_path: Path
) -> None:
    names = [
        "mattebridge." + ".".join(path.relative_to(BRIDGE / "mattebridge").with_suffix("").parts)
        for folder in ("wire", "client", "hosts")
        for path in sorted((BRIDGE / "mattebridge" / folder).glob("*.py"))
        if path.name not in ("__init__.py", *LAYERS)
    ]
    names += [f"mattebridge.{name}" for name in ("color", "errors", "interpreter", "whole_files")]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", OTHER_SYSTEM, platform, str(tmp_path / "v1"), *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "MATTEBRIDGE_RUNTIME_DIR"},
    )
    assert done.returncode == 0, done.stderr
    sentence = f"mattebridge does not run on {platform} yet"
    assert [line[: len(sentence)] for line in done.stdout.splitlines()] == [sentence] * 3


def test_modules_of_one_system_are_imported_in_its_layer_alone() -> None:
    users = {}
    for path in sorted((BRIDGE / "mattebridge").rglob("*.py")):
        names = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add(str(node.module))
        found = names & {"fcntl", "resource", "termios", "pwd", "grp", "msvcrt", "winreg"}
        if found:
            users[path.relative_to(BRIDGE / "mattebridge").as_posix()] = found
    assert users == {
        "wire/linux.py": {"fcntl"},
        "wire/unix.py": {"fcntl", "resource", "termios"},
        "wire/win32.py": {"msvcrt"},
        "wire/windows.py": {"msvcrt"},
    }


# What a file could ask to find out on which system it runs.
SYSTEM_NAMES = {
    "os.name", "os.uname", "sys.platform", "sys.getwindowsversion", "platform.system",
    "platform.platform", "platform.uname", "platform.release", "platform.win32_ver",
    "platform.mac_ver",
}  # fmt: skip
MODULES_OF_A_SYSTEM = {"os", "sys", "signal", "socket", "select", "mmap", "time", "subprocess"}


def questions(tree: ast.AST) -> set[str]:
    """The questions of a file: names of the system, and whether a module has what some lack."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {f"{node.value.id}.{node.attr}"} & SYSTEM_NAMES
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & SYSTEM_NAMES
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            asks = node.func.id == "hasattr" or (node.func.id == "getattr" and len(node.args) == 3)
            module, name = [*node.args, None, None][:2]
            if asks and isinstance(module, ast.Name) and module.id in MODULES_OF_A_SYSTEM:
                found.add(f"{module.id}.{name.value if isinstance(name, ast.Constant) else '?'}")
    return found


def test_which_system_it_is_asks_the_layer_alone_and_the_installers_table_of_folders() -> None:
    asking = {}
    for path in sorted((BRIDGE / "mattebridge").rglob("*.py")):
        found = questions(ast.parse(path.read_text("utf-8")))
        if found and path.parent.name != "wire":
            asking[path.relative_to(BRIDGE / "mattebridge").as_posix()] = found
    assert asking == {"commands/host_folders.py": {"sys.platform"}}
    for folder in ("nuke", "resolve"):
        for path in (ROOT / folder).glob("*.py"):
            assert questions(ast.parse(path.read_text("utf-8"))) == set(), path


def test_the_questions_are_found() -> None:
    text = """
import os, platform, signal, sys
from os import name
from sys import platform as system
windows = os.name == "nt" or sys.platform == "win32" or platform.system() == "Windows"
hangup = getattr(signal, "SIGHUP", None) if hasattr(os, "fork") else getattr(sys, "stdout")
"""
    assert questions(ast.parse(text)) == {
        "os.name", "sys.platform", "platform.system", "signal.SIGHUP", "os.fork",
    }  # fmt: skip
