"""The layer of Windows, asked as the daemon and its clients ask it. Runs on Windows, or under Wine.

Another process, where one is needed, is a second Python of the same kind.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from ctypes import wintypes
from pathlib import Path

import numpy as np
import pytest

from mattebridge.errors import GeometryError, QuotaError, UidError, UnsafeRuntimeError
from mattebridge.wire import oslayer, win32
from mattebridge.wire.connection import Connection, Listener
from mattebridge.wire.door import Door
from mattebridge.wire.folder import DOOR
from mattebridge.wire.slots import PlaneSpec, SlotMap, place
from mattebridge.wire.windows import WindowsLayer
from mattebridge.wire.windows_pipes import (
    PipeConnection,
    PipeListener,
    pipe_name,
)

SIZE = 2 << 20
LIMIT_S = 60.0


@pytest.fixture
def layer() -> WindowsLayer:
    return WindowsLayer()


@pytest.fixture
def pair(layer: WindowsLayer) -> Iterator[tuple[Connection, Connection]]:
    ends = layer.pair(1 << 16)
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def listener(layer: WindowsLayer, tmp_path: Path) -> Iterator[Listener]:
    listener = layer.bind(tmp_path / "door")
    listener.listen(8)
    yield listener
    listener.close()


def readable(layer: WindowsLayer, end: Connection) -> Connection:
    assert layer.wait([end.fileno()], LIMIT_S) == {end.fileno()}
    return end


def accepted(layer: WindowsLayer, listener: Listener) -> Connection:
    assert layer.wait([listener.fileno()], LIMIT_S)
    return listener.accept()


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.DEVNULL
    )


# -- memory --------------------------------------------------------------------------------------


def test_memory_is_zeroed_and_knows_its_size(layer: WindowsLayer) -> None:
    handle = layer.create_memory(SIZE)
    layer.check_memory(handle, SIZE)
    assert layer.read_memory(handle, SIZE) == bytes(SIZE)
    with pytest.raises(GeometryError, match="holds 2097152"):
        layer.check_memory(handle, SIZE + 1)
    layer.close_memory(handle)
    with pytest.raises(GeometryError, match="not shared memory"):
        layer.check_memory(handle, SIZE)


def test_two_maps_show_the_same_bytes_and_outlive_the_handle(layer: WindowsLayer) -> None:
    handle = layer.create_memory(SIZE)
    one, two = layer.map_memory(handle, SIZE), layer.map_memory(handle, SIZE)
    layer.close_memory(handle)
    np.frombuffer(one, np.uint8)[:] = 7
    assert np.frombuffer(two, np.uint8).min() == 7


def test_a_map_lives_as_long_as_an_array_uses_it(layer: WindowsLayer) -> None:
    handle = layer.create_memory(SIZE)
    pixels = np.frombuffer(layer.map_memory(handle, SIZE), np.uint8)
    address = pixels.ctypes.data
    gc.collect()
    pixels[-1] = 3
    assert layer.read_memory(handle, SIZE)[-1] == 3
    del pixels
    region = win32.MemoryRegion()
    win32.check(win32.kernel32.VirtualQuery(address, ctypes.byref(region), ctypes.sizeof(region)))
    assert region.State != 0x1000, "it is still mapped"
    layer.close_memory(handle)


def test_memory_is_copied_between_two_places(layer: WindowsLayer) -> None:
    source, target = layer.create_memory(SIZE), layer.create_memory(SIZE)
    np.frombuffer(layer.map_memory(source, SIZE), np.uint8)[64:128] = 5
    layer.copy_memory(source, 64, target, 256, 64)
    assert layer.read_memory(target, 320)[256:] == bytes([5]) * 64
    with pytest.raises(GeometryError, match="ended early"):
        layer.copy_memory(source, SIZE - 8, target, 0, 16)
    for handle in (source, target):
        layer.close_memory(handle)


def test_more_memory_than_there_is_is_refused(layer: WindowsLayer) -> None:
    with pytest.raises((QuotaError, OSError)):
        layer.create_memory(1 << 46)


# -- connections ---------------------------------------------------------------------------------


def test_records_keep_their_borders_and_their_order(
    layer: WindowsLayer, pair: tuple[Connection, Connection]
) -> None:
    ours, theirs = pair
    for record in (b"a", b"b" * 40_000, b"c"):
        theirs.send(record)
        assert readable(layer, ours).receive(1 << 16).data == record
    with pytest.raises(BlockingIOError):
        ours.receive(10)


def test_a_record_over_the_limit_is_cut_and_the_next_one_is_whole(
    layer: WindowsLayer, pair: tuple[Connection, Connection]
) -> None:
    ours, theirs = pair
    ours.send(b"x" * 200_000)
    record = readable(layer, theirs).receive(4096)
    assert record.cut
    assert len(record.data) == 4097
    ours.send(b"next")
    assert readable(layer, theirs).receive(4096).data == b"next"


def test_an_end_that_does_not_read_refuses_what_is_sent_to_it(
    pair: tuple[Connection, Connection],
) -> None:
    ours, _theirs = pair
    with pytest.raises(BlockingIOError):
        send_for_ever(ours)


def test_the_end_of_a_connection_is_seen_after_its_last_record(
    layer: WindowsLayer, pair: tuple[Connection, Connection]
) -> None:
    ours, theirs = pair
    theirs.send(b"last")
    theirs.close()
    assert readable(layer, ours).receive(10).data == b"last"
    assert readable(layer, ours).lost()
    assert ours.receive(10).data == b""
    with pytest.raises(BrokenPipeError):
        send_for_ever(ours)


def send_for_ever(end: Connection) -> None:
    while True:
        end.send(bytes(60_000))


def test_the_door_names_the_process_at_each_end(layer: WindowsLayer, listener: Listener,
                                                tmp_path: Path) -> None:  # fmt: skip
    client = start(CLIENT, tmp_path / "door")
    server_end = accepted(layer, listener)
    assert server_end.peer() == (client.pid, layer.user_id())
    server_end.send(b"welcome")
    assert readable(layer, server_end).receive(99).data == str(os.getpid()).encode()
    assert client.wait(LIMIT_S) == 0
    assert readable(layer, server_end).lost()
    server_end.close()


CLIENT = """
import sys; from pathlib import Path; from mattebridge.wire.windows import WindowsLayer
layer = WindowsLayer(); door = layer.connect(Path(sys.argv[1]))
assert layer.wait([door.fileno()], 60); assert door.receive(99).data == b"welcome"
assert door.peer().uid == layer.user_id()
door.send(str(door.peer().pid).encode()); door.close()
"""


def test_the_daemon_takes_no_handles(
    layer: WindowsLayer, listener: Listener, tmp_path: Path
) -> None:
    client = layer.connect(tmp_path / "door")
    server_end = accepted(layer, listener)
    memory = layer.create_memory(SIZE)
    client.send(b"look", [memory])
    record = readable(layer, server_end).receive(4096)
    assert record.cut
    assert record.descriptors == []
    for end in (client, server_end):
        end.close()
    layer.close_memory(memory)


def test_nobody_listens_is_an_error_of_its_own(layer: WindowsLayer, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        layer.connect(tmp_path / "nobody")


def test_many_clients_connect_one_after_the_other(
    layer: WindowsLayer, listener: Listener, tmp_path: Path
) -> None:
    ends = []
    for _client in range(20):
        ends += [layer.connect(tmp_path / "door"), accepted(layer, listener)]
    ends[0].send(b"the first")
    assert readable(layer, ends[1]).receive(99).data == b"the first"
    # More events than one call of Windows can wait for.
    events = [layer.wake_up() for _ in range(70)]
    assert layer.wait([event.fileno() for event in events], 0.0) == set()
    events[-1].wake()
    found = layer.wait([event.fileno() for event in events], LIMIT_S)
    assert found == {events[-1].fileno()}
    for end in [*ends, *events]:
        end.close()


def test_paths_that_windows_takes_for_one_are_one_address() -> None:
    one = pipe_name(Path(r"C:\Users\A B\door"), "S-1-5-21-1")
    assert one == pipe_name(Path("c:/users/a b/DOOR"), "S-1-5-21-1")
    assert one != pipe_name(Path(r"C:\Users\A C\door"), "S-1-5-21-1")
    assert one != pipe_name(Path(r"C:\Users\A B\door"), "S-1-5-21-2")
    assert len(one) < 256, "the longest name of a pipe"


# -- who may open a pipe -------------------------------------------------------------------------

KERNEL_OBJECT, ACCESS_LIST = 6, 4


def access_of(handle: int) -> str:
    """The access list of an object, as the system gives it back."""
    descriptor, text = ctypes.c_void_p(), ctypes.c_void_p()
    library = ctypes.WinDLL("advapi32")  # type: ignore[attr-defined]
    code = library.GetSecurityInfo(
        wintypes.HANDLE(handle), KERNEL_OBJECT, ACCESS_LIST, None, None, None, None,
        ctypes.byref(descriptor),
    )  # fmt: skip
    assert code == 0, code
    assert library.ConvertSecurityDescriptorToStringSecurityDescriptorW(
        descriptor, 1, ACCESS_LIST, ctypes.byref(text), None
    )
    return ctypes.wstring_at(text.value or 0)


def only_for(user: bytes) -> re.Pattern[str]:
    """The text of a list that is protected from inheritance and lets one user in, for all."""
    sid = re.escape(win32.sid_text(user))
    return re.compile(rf"D:P\(A;;(GA|FA|0x[0-9a-f]+);;;{sid}\)")


def test_the_access_list_of_each_pipe_names_its_owner_alone(
    layer: WindowsLayer, listener: PipeListener, pair: tuple[PipeConnection, PipeConnection],
    tmp_path: Path,
) -> None:  # fmt: skip
    """Read back from the object: the door, both ends of a connection, and the link of a worker.

    That the system obeys it is not seen here: Wine 8 does not ask the list of a pipe.
    """
    user = win32.user_of(win32.kernel32.GetCurrentProcess())
    assert listener._waiting is not None
    ends = [layer.connect(tmp_path / "door"), accepted(layer, listener), *pair]
    for handle in (listener._waiting[0], *(end.handle for end in ends)):
        assert only_for(user).fullmatch(access_of(handle))
    for end in ends[:2]:
        end.close()


def test_a_daemon_of_another_user_is_refused_by_its_client(
    layer: WindowsLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token of the process at the other end decides, whoever could open the pipe."""
    listener = layer.bind(tmp_path / DOOR)
    listener.listen(8)
    own = win32.kernel32.GetCurrentProcess()
    user_of = win32.user_of
    foreign = b"\x01\x05" + bytes(26)
    monkeypatch.setattr(
        win32, "user_of", lambda process: user_of(process) if process == own else foreign
    )
    with pytest.raises(UidError, match=r"belongs to user S-.*, not to you: start your own"):
        Door.connect(tmp_path)
    end = accepted(layer, listener)
    assert end.peer().uid == int.from_bytes(foreign, "big") != layer.user_id()
    end.close()
    listener.close()


# -- memory through a connection, and death ------------------------------------------------------

HOLDER = """
import sys, time; from pathlib import Path; from mattebridge.wire.windows import WindowsLayer
layer = WindowsLayer(); door = layer.connect(Path(sys.argv[1]))
assert layer.wait([door.fileno()], 60); record = door.receive(99)
(memory,) = record.descriptors; layer.check_memory(memory, 2 << 20)
view = layer.map_memory(memory, 2 << 20); layer.close_memory(memory)
view[0] = b"!"; door.send(b"written"); time.sleep(600)
"""


def test_a_client_is_handed_memory_and_its_death_ends_the_connection(
    layer: WindowsLayer, listener: Listener, tmp_path: Path
) -> None:
    """In a loop: what one turn left behind would be seen in the next ones' handles."""
    for _turn in range(5):
        client = start(HOLDER, tmp_path / "door")
        end = accepted(layer, listener)
        memory = layer.create_memory(SIZE)
        end.send(b"welcome", [memory])
        assert readable(layer, end).receive(99).data == b"written"
        assert layer.read_memory(memory, 1) == b"!"
        client.kill()
        assert readable(layer, end).lost()
        client.wait(LIMIT_S)
        end.close()
        layer.close_memory(memory)


SERVER = """
import sys, time; from pathlib import Path; from mattebridge.wire.windows import WindowsLayer
layer = WindowsLayer(); listener = layer.bind(Path(sys.argv[1])); listener.listen(8)
layer.wait([listener.fileno()], 60); end = listener.accept(); time.sleep(600)
"""


def test_the_death_of_the_daemon_is_seen_by_its_client(layer: WindowsLayer, tmp_path: Path) -> None:
    server = start(SERVER, tmp_path / "door")
    until = time.monotonic() + LIMIT_S
    while True:
        try:
            client = layer.connect(tmp_path / "door")
            break
        except (FileNotFoundError, BlockingIOError):
            assert time.monotonic() < until
            time.sleep(0.01)
    assert client.peer().pid == server.pid
    assert not client.lost()
    server.kill()
    assert readable(layer, client).lost()
    server.wait(LIMIT_S)
    client.close()
    with pytest.raises(FileNotFoundError):
        layer.connect(tmp_path / "door")


PARENT = """
import subprocess, sys, time; from mattebridge.wire.windows import WindowsLayer
WindowsLayer().end_children_with_me()
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True); time.sleep(600)
"""


def test_a_child_ends_with_its_parent_however_that_ends(layer: WindowsLayer) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    process = win32.check(win32.kernel32.OpenProcess(win32.SYNCHRONIZE, False, child))
    assert win32.kernel32.WaitForSingleObject(process, 0) == win32.WAIT_TIMEOUT
    parent.kill()
    ended = win32.kernel32.WaitForSingleObject(process, int(LIMIT_S * 1000))
    assert ended == win32.WAIT_OBJECT_0
    win32.close(process)
    parent.stdout.close()
    parent.wait(LIMIT_S)


FRAMES = """
import sys, numpy as np; from pathlib import Path; from mattebridge.wire import oslayer
from mattebridge.wire.windows import WindowsLayer
layer = WindowsLayer(); oslayer.find = lambda: layer
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import PlaneSpec, SlotMap, place
door = layer.connect(Path(sys.argv[1]))
for generation in range(1, 6):
    assert layer.wait([door.fileno()], 60); record = door.receive(99)
    arena = SlotMap(record.descriptors[0], 2 << 20); arena.check_generation(generation)
    plate, matte = place(67, 41, [PlaneSpec("plate", 4, "f4"), PlaneSpec("alpha", 1, "f4")])
    arena.array(matte)[:] = arena.array(plate)[..., :1] * 2
    arena.close(); door.send(b"done")
"""


def test_frames_go_there_and_back_through_arenas_bit_for_bit(
    layer: WindowsLayer, listener: Listener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oslayer, "find", lambda: layer)
    client = start(FRAMES, tmp_path / "door")
    end = accepted(layer, listener)
    plate, matte = place(67, 41, [PlaneSpec("plate", 4, "f4"), PlaneSpec("alpha", 1, "f4")])
    for generation in range(1, 6):
        memory = layer.create_memory(SIZE)
        arena = SlotMap(_second_handle(memory), SIZE)  # which the arena closes
        pixels = np.random.default_rng(generation).normal(size=(41, 67, 4)).astype(np.float32)
        arena.write_begin(generation)
        arena.array(plate)[:] = pixels
        arena.write_end(generation)
        end.send(b"frame", [memory])
        assert readable(layer, end).receive(99).data == b"done"
        assert np.array_equal(arena.array(matte), pixels[..., :1] * 2)
        arena.close()
        layer.close_memory(memory)
    assert client.wait(LIMIT_S) == 0
    end.close()


def _second_handle(memory: int) -> int:
    own, given = win32.kernel32.GetCurrentProcess(), wintypes.HANDLE()
    win32.check(
        win32.kernel32.DuplicateHandle(
            own, memory, own, ctypes.byref(given), 0, False, win32.DUPLICATE_SAME_ACCESS
        )
    )
    return given.value or 0


# -- the user, and the machine -------------------------------------------------------------------


def test_a_lock_is_held_by_one_and_ends_with_its_descriptor(
    layer: WindowsLayer, tmp_path: Path
) -> None:
    one, two = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    assert layer.lock(one)
    assert not layer.lock(two)
    layer.unlock(one)
    assert layer.lock(two)
    os.close(two)
    assert layer.lock(one)
    os.close(one)


def test_a_folder_of_ones_own_is_private_and_a_file_is_no_folder(
    layer: WindowsLayer, tmp_path: Path
) -> None:
    layer.check_private(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(UnsafeRuntimeError, match="not a folder"):
        layer.check_private(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        layer.check_private(tmp_path / "nothing")
    assert layer.runtime_root().is_absolute()


def test_the_machine_is_described(layer: WindowsLayer) -> None:
    assert 0 < layer.available_memory_bytes() <= layer.total_memory_bytes()
    assert layer.resident_bytes() > 1 << 20
    assert layer.free_descriptors() > 1000
    assert layer.cores() >= 1
