"""The OpenFX plugin for Windows in a host, with a daemon in another process. As `test_daemon.py`.

The host is the one of the tests on Linux (`fakes/ofx_host.py`), here in a Windows Python.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes.ofx_host import FAILED, GENERAL, OK, HostImage, Instance, OfxHost
from windows import digests, handles
from windows.patience import LIMIT_S, connect
from windows.running import Daemon, wait_for

PREMULTIPLIED, STRAIGHT = 0, 1
LINEAR = 0
KILLS = 2

# A host in a process of its own, which renders until it is killed, and says when a frame is there.
ANOTHER_HOST = """
import sys
from pathlib import Path
from fakes.ofx_host import GENERAL, OK, HostImage, OfxHost
from windows import digests
host = OfxHost(Path(sys.argv[1]))
assert host.load() == OK
plate, clean_plate = digests.frame(0)
node = host.create(GENERAL, endpoint=sys.argv[2], inputColor=0, timeout=300.0)
node.connect(Source=HostImage(plate), Background=HostImage(clean_plate))
while node.render()[0] == OK:
    print("rendered", flush=True)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Letters that Python and Windows make small in different ways are in its name."""
    return tmp_path_factory.mktemp("Élodie İΣ Run") / "V1"


@pytest.fixture(scope="module")
def daemon(folder: Path) -> Iterator[Daemon]:
    started = Daemon(folder)
    yield started
    started.kill()


@pytest.fixture(scope="module")
def binary() -> Path:
    return Path(os.environ["MATTEBRIDGE_TEST_PLUGIN"])


@pytest.fixture
def host(binary: Path) -> Iterator[OfxHost]:
    with OfxHost(binary) as loaded:
        yield loaded
    assert loaded.complaints == []
    assert loaded.images_out == 0


def node_for(host: OfxHost, folder: Path, number: int, mode: int = PREMULTIPLIED) -> Instance:
    plate, clean_plate = digests.frame(number)
    node = host.create(
        GENERAL, endpoint=str(folder), inputColor=LINEAR, outputMode=mode, timeout=LIMIT_S
    )
    return node.connect(Source=HostImage(plate), Background=HostImage(clean_plate))


def rendered(node: Instance) -> Any:
    status, output = node.render()
    assert (status, node.message) == (OK, None)
    return output.pixels()


def failed(node: Instance) -> str:
    """The sentence of a render that fails; its picture is black and transparent."""
    status, output = node.render()
    assert status == FAILED
    assert not output.pixels().any()
    assert node.message is not None
    return node.message[1]


def digest(host: OfxHost, folder: Path, number: int) -> str:
    """As `digests.expected`, of what the plugin gives in two renders."""
    straight = rendered(node_for(host, folder, number, STRAIGHT))
    premultiplied = rendered(node_for(host, folder, number))
    planes = (straight[..., 3:], straight[..., :3], premultiplied)
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in planes)).hexdigest()


def sessions(folder: Path) -> list[int]:
    """The processes that have a session, but for the one that asks."""
    with connect(folder) as client:
        pids = [session["pid"] for session in client.status(LIMIT_S)["sessions"]]
    pids.remove(os.getpid())
    return pids


def test_without_a_daemon_a_render_fails_at_once_and_says_what_to_do(
    host: OfxHost, tmp_path: Path
) -> None:
    said = failed(node_for(host, tmp_path / "none", 0))
    assert "no daemon is running in" in said
    assert "mattebridge serve --detach" in said
    (tmp_path / "none").mkdir()
    assert "no daemon is running in" in failed(node_for(host, tmp_path / "none", 0))


def test_frames_through_the_plugin_have_the_bytes_of_the_same_arithmetic_on_linux(
    daemon: Daemon, host: OfxHost
) -> None:
    expected = os.environ["MATTEBRIDGE_TEST_DIGESTS"].split(",")
    found = [digest(host, daemon.folder, number) for number in range(len(expected))]
    assert found == expected


def test_the_daemon_is_found_in_capitals_with_slashes_and_by_the_environment(
    daemon: Daemon, host: OfxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = rendered(node_for(host, daemon.folder, 0))
    other = str(daemon.folder).upper().replace("\\", "/") + "//"
    assert np.array_equal(rendered(node_for(host, Path("x"), 0).set(endpoint=other)), wanted)
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(daemon.folder))
    assert np.array_equal(rendered(node_for(host, Path("x"), 0).set(endpoint="")), wanted)
    said = failed(node_for(host, Path("x"), 0).set(endpoint="../v1"))
    assert "would leave the runtime folder" in said


def test_renders_of_threads_that_end_and_of_many_at_once_are_right(
    daemon: Daemon, host: OfxHost
) -> None:
    """Windows ends what a thread has under way when that thread ends: here, a session's reads."""
    nodes = [node_for(host, daemon.folder, number) for number in range(3)]
    wanted = [rendered(node) for node in nodes]
    for together in (1, 3):
        for _turn in range(3):
            made: dict[int, Any] = {}

            def render(number: int, into: dict[int, Any] = made) -> None:
                into[number] = nodes[number].render()[1].pixels()

            threads = [threading.Thread(target=render, args=(n,)) for n in range(together)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT_S)
            assert all(np.array_equal(made[n], wanted[n]) for n in range(together))


def test_an_aborted_render_returns_and_the_next_is_right(daemon: Daemon, host: OfxHost) -> None:
    node = node_for(host, daemon.folder, 1)
    wanted = rendered(node)
    node.aborted = lambda: node.abort_calls > 3
    node.abort_calls = 0
    assert node.render()[0] == OK  # the host drops this frame
    node.aborted = lambda: False
    assert np.array_equal(rendered(node), wanted)


def test_a_plugin_that_is_unloaded_leaves_no_session_and_no_handle(
    daemon: Daemon, binary: Path
) -> None:
    def once() -> None:
        with OfxHost(binary) as host:
            rendered(node_for(host, daemon.folder, 0))
            assert sessions(daemon.folder) == [os.getpid()]
            assert handles.of() > before
        wait_for(lambda: not sessions(daemon.folder), "its session is still there")

    before = 0
    once()  # what a process opens once for ever
    before = handles.of()
    for _turn in range(3):
        once()
    assert handles.of() <= before


def test_killed_hosts_leave_no_session_no_arena_and_no_handle_of_the_daemon(
    daemon: Daemon, binary: Path
) -> None:
    counts = []
    for _turn in range(KILLS + 1):
        other = subprocess.Popen(
            [sys.executable, "-c", ANOTHER_HOST, str(binary), str(daemon.folder)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline().strip() == b"rendered"
        assert len(sessions(daemon.folder)) == 1
        other.kill()
        other.wait(LIMIT_S)
        other.stdout.close()
        wait_for(lambda: not sessions(daemon.folder), "its session is still there")
        with connect(daemon.folder) as client:
            assert client.status(LIMIT_S)["memory"]["arena_bytes"] == 0
            counts.append(handles.of(daemon.process.pid))
    assert counts[-1] <= counts[0]


def test_daemons_killed_under_renders_fail_them_in_words_and_leave_nothing(
    host: OfxHost, tmp_path: Path
) -> None:
    place = tmp_path / "v1"
    counts = []
    for _turn in range(KILLS + 1):
        daemon = Daemon(place)
        node = node_for(host, place, 2)
        wanted = rendered(node)
        ended: list[tuple[int, Any]] = []

        def until_it_fails(into: list[tuple[int, Any]] = ended, of: Instance = node) -> None:
            while not into or into[-1][0] == OK:
                into.append(of.render())

        thread = threading.Thread(target=until_it_fails)
        thread.start()
        wait_for(lambda seen=ended: len(seen) > 2, "no frame is rendered")
        daemon.kill()
        started = time.monotonic()
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert time.monotonic() - started < LIMIT_S / 2  # it did not wait for its time limit
        assert all(np.array_equal(frame.pixels(), wanted) for status, frame in ended[:-1])
        assert ended[-1][0] == FAILED
        assert not ended[-1][1].pixels().any()
        assert node.message is not None
        assert "no daemon is running" in node.message[1] or "was lost" in node.message[1]
        assert "no daemon is running" in failed(node)
        del thread
        counts.append(handles.of())
    # The first turn opens what a process opens once for ever.
    assert counts[-1] <= counts[0]
