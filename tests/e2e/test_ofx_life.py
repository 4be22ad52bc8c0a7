"""The plugin among hosts and daemons that come and go: time, aborts, losses, messages, sessions."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import numpy as np
import pytest

from fakes import ofx_build
from fakes.base_line import AbusedDaemon
from fakes.daemon_process import DaemonProcess, own_arenas, wait_for
from fakes.limits import SOON_S
from fakes.ofx_daemon import DOOR_TYPE, FakeDaemon
from fakes.ofx_host import (
    FAILED,
    FILTER,
    GENERAL,
    NUKE,
    OK,
    HostImage,
    Instance,
    Missing,
    OfxHost,
    blank,
)
from fakes.ofx_scene import matted, scene
from mattebridge.wire.folder import runtime_folder
from mattebridge.wire.labels import SENTENCES

# Well below the 60 s that the plugin waits by default: a wait that was not ended is seen.
ABORTED_S = 30.0


@pytest.fixture
def abused() -> Iterator[AbusedDaemon]:
    """A daemon whose workers misbehave on demand."""
    with AbusedDaemon(light=True) as daemon:
        daemon.wait_ready()
        yield daemon


def connected(host: OfxHost, folder: Any, **params: Any) -> Instance:
    plate, clean = scene()
    node = host.create(GENERAL, endpoint=str(folder), **params)
    return node.connect(Source=HostImage(plate), Background=HostImage(clean))


def good(node: Instance, expected: Any, **how: Any) -> None:
    status, output = node.render(**how)
    assert (status, node.message) == (OK, None)
    assert np.array_equal(output.pixels(), expected)


def failed(node: Instance) -> str:
    """A failed render's sentence; its window is black and transparent."""
    status, output = node.render()
    assert status == FAILED
    assert not output.pixels().any()
    assert node.message is not None
    kind, text = node.message
    assert kind == "OfxMessageError"
    assert text.startswith("mattebridge: ")
    assert len(text) <= 200
    return text


def own_descriptors() -> int:
    gc.collect()  # what other tests left behind must not go in the middle of this one
    return len(os.listdir("/proc/self/fd"))


def timed(action: Callable[[], Any]) -> float:
    started = time.monotonic()
    action()
    return time.monotonic() - started


# ---------------------------------------------------------------------------------------------
# No daemon


def test_without_a_daemon_a_render_fails_at_once_and_says_what_to_do(
    host: OfxHost, tmp_path: Path
) -> None:
    node = connected(host, tmp_path / "nobody")
    failed(node)
    fastest = min(timed(lambda: failed(node)) for _ in range(5))
    assert fastest < 1.0  # far below the 60 s that a render may wait
    assert str(tmp_path / "nobody") in failed(node)
    assert "mattebridge serve --detach" in failed(node)


def test_a_stale_socket_is_no_daemon(host: OfxHost) -> None:
    daemon = DaemonProcess(light=True)
    daemon.start()
    node = connected(host, daemon.folder)
    daemon.kill()
    assert (daemon.folder / "door").exists()
    assert "no daemon is running" in failed(node)
    daemon.end()


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda path: path.symlink_to(path.parent), "not a folder"),
        (lambda path: path.mkdir(mode=0o755), "chmod 700"),
        (lambda path: path.write_text(""), "not a folder"),
    ],
)
def test_a_folder_that_is_not_the_users_alone_is_refused(
    host: OfxHost, tmp_path: Path, make: Callable[[Path], Any], word: str
) -> None:
    make(tmp_path / "run")
    assert word in failed(connected(host, tmp_path / "run"))


@pytest.mark.parametrize("name", ["a/b", "..", "up/../there"])
def test_an_instance_name_that_leaves_the_folder_is_refused(host: OfxHost, name: str) -> None:
    assert "would leave the runtime folder" in failed(connected(host, name))


def test_the_folder_is_found_as_the_python_client_finds_it(
    host: OfxHost, shared_daemon: DaemonProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = shared_daemon.home  # a socket path ends at 107 bytes
    plate, clean = scene()
    expected = matted(shared_daemon, plate, clean).premultiplied
    node = connected(host, "")
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", str(shared_daemon.folder) + "/")
    good(node, expected)
    monkeypatch.setenv("MATTEBRIDGE_RUNTIME_DIR", "relative")
    assert "absolute" in failed(node)
    monkeypatch.delenv("MATTEBRIDGE_RUNTIME_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    for name in ("", str(short / "by-path"), "v7", "Farm Job 4711"):
        monkeypatch.setenv("MATTEBRIDGE_INSTANCE", name)
        assert str(runtime_folder()) + ":" in failed(node)
        if name:
            assert str(runtime_folder(name)) + ":" in failed(connected(host, name))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short / ("long" * 30)))
    (short / ("long" * 30)).mkdir()
    assert "too long a path" in failed(node)


@pytest.mark.parametrize("knob", ["model", "cleanPlate"])
@pytest.mark.parametrize("name", ["No Such", "x" * 65, "ü", "x" * 10000])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(
    host: OfxHost, knob: str, name: str
) -> None:
    with FakeDaemon() as daemon:
        assert "is not a valid name" in failed(connected(host, daemon.folder, **{knob: name}))
        assert daemon.hellos == []


def test_the_daemons_own_sentence_reaches_the_artist(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    assert "nosuch" in failed(connected(host, shared_daemon.folder, model="nosuch"))


# ---------------------------------------------------------------------------------------------
# Time and aborts


def test_a_render_never_outlives_its_time_limit_and_its_arena_stays_with_the_daemon(
    host: OfxHost, abused: AbusedDaemon
) -> None:
    plate, clean = scene()
    expected = matted(abused, plate, clean).premultiplied
    before = own_arenas()  # fixtures of other tests may keep some
    node = connected(host, abused.folder)
    good(node, expected)
    node.set(timeout=1.0)
    with abused.gate("deaf"):
        started = time.monotonic()
        status, output = node.render(time=13)
        took = time.monotonic() - started
        assert status == FAILED
        assert node.message is not None
        assert "1.0 s" in node.message[1]
        assert 0.95 <= took < 1.0 + ABORTED_S
        assert not output.pixels().any()
        # The parked arena is lent: the next frame goes through another one.
        other = connected(host, abused.folder)
        assert own_arenas() == before + 1
        thread = threading.Thread(target=good, args=(other, expected))
        thread.start()
        wait_for(lambda: own_arenas() == before + 2, SOON_S, "a second arena is opened")
    thread.join(60)
    good(node.set(timeout=SOON_S), expected)


@pytest.mark.parametrize("action", ["gate", "deaf"])
def test_an_abort_returns_at_once_without_a_word_and_the_next_frame_is_right(
    host: OfxHost, abused: AbusedDaemon, action: str
) -> None:
    plate, clean = scene()
    expected = matted(abused, plate, clean).premultiplied
    node = connected(host, abused.folder)
    good(node, expected)
    with abused.gate(action) as gate:
        stop = threading.Event()
        node.aborted = stop.is_set
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(node.render(time=13)))
        thread.start()
        gate.wait_reached()
        before = node.abort_calls
        wait_for(
            lambda: node.abort_calls >= before + 8, SOON_S, "the host is asked again and again"
        )
        stop.set()
        took = timed(lambda: thread.join(ABORTED_S))
        assert took < ABORTED_S
        status, output = found
        assert (status, node.message) == (OK, None)
        assert (output.view().view(np.uint8) == 0x5B).all()
        node.aborted = lambda: False
    good(node, expected)


def test_an_abort_before_anything_sends_nothing(host: OfxHost) -> None:
    with FakeDaemon() as daemon:
        node = connected(host, daemon.folder)
        node.aborted = lambda: True
        status, _output = node.render()
        assert (status, node.message) == (OK, None)
        assert daemon.requests == []
        node.aborted = lambda: False
        good(node, np.full((24, 32, 4), 0.25, np.float32))


def test_an_abort_cancels_the_request_by_its_id(host: OfxHost) -> None:
    stop = threading.Event()

    def answer(request: dict[str, Any]) -> list[Any]:
        stop.set()
        return [0.3, daemon.reply(request, "cancelled")]

    with FakeDaemon(answer=answer) as daemon:
        node = connected(host, daemon.folder)
        node.aborted = stop.is_set
        assert node.render()[0] == OK
        wait_for(lambda: bool(daemon.cancels), SOON_S, "a cancel arrives")
        assert daemon.cancels == [daemon.requests[0]["id"]]


def test_a_parked_arena_is_never_written_while_it_is_lent(
    host: OfxHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_OFX_SESSIONS", "1")
    stop = threading.Event()

    def silent(request: dict[str, Any]) -> list[Any]:
        stop.set()
        return []

    with FakeDaemon(answer=silent) as daemon:
        node = connected(host, daemon.folder, timeout=1.0)
        node.aborted = stop.is_set
        node.render()
        before = bytes(daemon.memory[0])
        node.aborted = lambda: False
        assert "1.0 s" in failed(node)  # waits for the one session, which does not come back
        assert bytes(daemon.memory[0]) == before
        assert len(daemon.hellos) == 1
        assert len(daemon.requests) == 1


@pytest.mark.parametrize("way", ["held, then released", "final and not held"])
def test_a_parked_arena_serves_again_once_it_is_returned(
    host: OfxHost, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setenv("MATTEBRIDGE_OFX_SESSIONS", "1")
    stop = threading.Event()

    def answer(request: dict[str, Any]) -> list[Any]:
        if len(daemon.requests) > 1:
            return FakeDaemon.answer(daemon, request)
        stop.set()
        held = way.startswith("held")
        replies: list[Any] = [0.2, daemon.reply(request, "error", code="E_DEADLINE", message="late",
                                                retry=True) | {"held": held}]  # fmt: skip
        return [*replies, 0.2, daemon.reply(request, "released")] if held else replies

    with FakeDaemon(answer=answer) as daemon:
        node = connected(host, daemon.folder)
        node.aborted = stop.is_set
        node.render()
        node.aborted = lambda: False
        good(node, np.full((24, 32, 4), 0.25, np.float32))
        assert len(daemon.hellos) == 1
        assert [request["gen"] for request in daemon.requests] == [1, 2]


# ---------------------------------------------------------------------------------------------
# A daemon that is lost


def test_a_daemon_that_was_restarted_between_two_frames_is_not_even_noticed(
    host: OfxHost, kill_turns: int
) -> None:
    daemon = DaemonProcess(light=True)
    try:
        daemon.start().wait_ready()
        plate, clean = scene()
        expected = matted(daemon, plate, clean).premultiplied
        node = connected(host, daemon.folder)
        good(node, expected)
        descriptors, maps = own_descriptors(), own_arenas()
        for _ in range(kill_turns):
            daemon.kill()
            assert "no daemon is running" in failed(node)
            daemon.start()
            good(node, expected)
            assert node.message is None
        assert own_descriptors() <= descriptors
        assert own_arenas() <= maps
    finally:
        daemon.end()


def test_a_daemon_killed_under_a_frame_is_one_error_at_once(
    host: OfxHost, abused: AbusedDaemon
) -> None:
    node = connected(host, abused.folder)
    with abused.gate() as gate:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.extend(node.render(time=13)))
        thread.start()
        gate.wait_reached()
        abused.kill()
        assert timed(lambda: thread.join(ABORTED_S)) < ABORTED_S
    assert found[0] == FAILED
    assert node.message is not None
    assert "no daemon is running" in node.message[1]
    assert not found[1].pixels().any()


def test_a_session_lost_under_a_frame_is_replaced_once_in_silence(host: OfxHost) -> None:
    def answer(request: dict[str, Any]) -> list[Any]:
        lost = len(daemon.requests) == 1
        return [None] if lost else FakeDaemon.answer(daemon, request)

    with FakeDaemon(answer=answer) as daemon:
        good(connected(host, daemon.folder), np.full((24, 32, 4), 0.25, np.float32))
        first, second = daemon.requests
        assert first["id"] == second["id"]
        assert len(daemon.hellos) == 2
        for role in ("plate", "clean_plate"):
            assert np.array_equal(daemon.inputs[0][role], daemon.inputs[1][role])


def test_a_session_lost_twice_with_one_frame_is_an_error(host: OfxHost) -> None:
    with FakeDaemon(answer=lambda _request: [None]) as daemon:
        assert "twice" in failed(connected(host, daemon.folder))
        assert len(daemon.requests) == 2


@pytest.mark.parametrize("code", ["E_TORN", "E_WORKER_LOST", "E_LEASE", "E_SLOT_BUSY"])
def test_what_is_worth_it_is_tried_once_more(host: OfxHost, code: str) -> None:
    held = code == "E_SLOT_BUSY"

    def answer(request: dict[str, Any]) -> list[Any]:
        if len(daemon.requests) == 2:
            return FakeDaemon.answer(daemon, request)
        reply = daemon.reply(request, "error", code=code, message="again", retry=True)
        return [reply | {"held": held}]

    with FakeDaemon(answer=answer) as daemon:
        node = connected(host, daemon.folder)
        good(node, np.full((24, 32, 4), 0.25, np.float32))
        assert len(daemon.hellos) == (2 if code in ("E_LEASE", "E_SLOT_BUSY") else 1)
        daemon.requests.clear()
        daemon.requests.append({})
        daemon.requests.append({})
        daemon.answer = lambda request: [  # type: ignore[method-assign]
            daemon.reply(request, "error", code=code, message="never mind", retry=True)
        ]
        assert "never mind" in failed(node)
        assert len(daemon.requests) == 4


def test_a_busy_daemon_is_waited_for(host: OfxHost) -> None:
    def answer(request: dict[str, Any]) -> list[Any]:
        if len(daemon.requests) >= 4:
            return FakeDaemon.answer(daemon, request)
        return [daemon.reply(request, "error", code="E_BUSY", message="full", retry=True,
                             retry_after_ms=30)]  # fmt: skip

    with FakeDaemon(answer=answer) as daemon:
        good(connected(host, daemon.folder), np.full((24, 32, 4), 0.25, np.float32))
        assert [request["gen"] for request in daemon.requests] == [1, 2, 3, 4]


def test_a_quota_is_an_error_where_no_session_of_ours_could_come_back(host: OfxHost) -> None:
    refusal = {"op": "error", "code": "E_QUOTA", "message": "too much", "retry": True}
    with FakeDaemon(welcome=lambda _hello: refusal) as daemon:
        assert "too much" in failed(connected(host, daemon.folder))
        assert len(daemon.hellos) == 1


def test_memory_that_our_own_idle_sessions_hold_is_given_back_before_a_quota_is_an_error(
    host: OfxHost,
) -> None:
    asked: list[str] = []

    def welcome(message: dict[str, Any]) -> dict[str, Any]:
        asked.append(message["op"])
        if message["op"] == "resize":
            return {"op": "error", "code": "E_QUOTA", "message": "too much", "retry": True}
        return FakeDaemon.welcome(daemon, message)

    with FakeDaemon(welcome=welcome) as daemon:
        node = connected(host, daemon.folder)
        good(node, np.full((24, 32, 4), 0.25, np.float32))
        plate, _clean = scene(400, 500)
        node.connect(Source=HostImage(plate), Background=Missing.UNCONNECTED)
        good(node, np.full((400, 500, 4), 0.25, np.float32))
        assert asked == ["hello", "resize", "hello"]


def test_a_draining_daemon_is_waited_for_until_the_time_is_up(host: OfxHost) -> None:
    refusal = {"op": "error", "code": "E_DRAINING", "message": "stopping", "retry": True}
    with FakeDaemon(welcome=lambda _hello: refusal) as daemon:
        node = connected(host, daemon.folder, timeout=1.0)
        assert "1.0 s" in failed(node)
        assert len(daemon.hellos) > 1


# ---------------------------------------------------------------------------------------------
# Messages, and what is shown instead of a frame


def test_a_message_is_gone_with_the_next_good_frame(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    node = connected(host, shared_daemon.folder, model="nosuch")
    failed(node)
    good(node.set(model="default"), matted(shared_daemon, plate, clean).premultiplied)


@pytest.mark.parametrize("label", ["clean_plate_unaligned", "no_set_visible"])
def test_less_than_was_asked_for_is_a_warning_with_a_sentence(host: OfxHost, label: str) -> None:
    def answer(request: dict[str, Any]) -> list[Any]:
        FakeDaemon.answer(daemon, request)
        return [daemon.reply(request, "done", degraded=[label])]

    with FakeDaemon(answer=answer) as daemon:
        node = connected(host, daemon.folder)
        assert node.render()[0] == OK
        kind, text = node.message
        assert kind == "OfxMessageWarning"
        assert text.startswith("mattebridge: less than asked for: " + SENTENCES[label])


@pytest.mark.parametrize("messages", ["v1", "none", "v2-null", "v2-refused"])
def test_a_host_without_persistent_messages_gets_a_line_once(
    binary: Path, tmp_path: Path, messages: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with OfxHost(binary, messages=messages) as host:
        node = connected(host, tmp_path / "nobody")
        for _ in range(3):
            assert node.render()[0] == FAILED
        if messages in ("v1", "v2-refused"):
            assert [kind for kind, _text in host.said] == ["OfxMessageLog"]
            assert "no daemon" in host.said[0][1]
            assert capfd.readouterr().err == ""
        else:
            assert capfd.readouterr().err.count("mattebridge: no daemon") == 1
    assert host.complaints == []


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_passing_the_source_through_is_an_explicit_choice_and_warns(
    host: OfxHost, tmp_path: Path, dtype: str
) -> None:
    plate, _clean = scene(dtype=dtype)
    node = host.create(GENERAL, endpoint=str(tmp_path / "nobody"), onError=1)
    node.connect(Source=HostImage(plate, padding=12))
    status, output = node.render()
    assert status == OK
    assert np.array_equal(output.pixels(), plate)
    assert node.message is not None
    assert node.message[0] == "OfxMessageWarning"


def test_passing_a_source_through_converts_it_and_leaves_the_rest_black(
    host: OfxHost, tmp_path: Path
) -> None:
    plate, _clean = scene(channels=3)
    node = host.create(GENERAL, endpoint=str(tmp_path / "nobody"), onError=1)
    node.connect(Source=HostImage(plate, origin=(2, 2)))
    _status, output = node.render(blank(30, 40, 4, np.uint16))
    expected = np.zeros((30, 40, 4), np.uint16)
    inside = expected[30 - 2 - 24 : 30 - 2, 2:34]
    inside[..., :3] = np.floor(plate.clip(0, 1) * np.float32(65535) + np.float32(0.5))
    inside[..., 3] = 65535
    assert np.array_equal(output.pixels(), expected)


def test_transparent_black_is_an_explicit_choice_and_warns(host: OfxHost, tmp_path: Path) -> None:
    node = connected(host, tmp_path / "nobody", onError=2)
    status, output = node.render()
    assert status == OK
    assert not output.pixels().any()
    assert node.message is not None
    assert node.message[0] == "OfxMessageWarning"


def test_by_default_no_pixel_of_the_plate_is_ever_left_in_a_failed_window(
    host: OfxHost, tmp_path: Path
) -> None:
    plate, _clean = scene()
    node = connected(host, tmp_path / "nobody")
    output = HostImage(plate)  # MLT renders into the source's own buffer, and ignores the status
    assert node.render(output, window=(4, 4, 20, 20))[0] == FAILED
    expected = plate.copy()
    expected[4:20, 4:20] = 0
    assert np.array_equal(output.pixels(), expected)


# ---------------------------------------------------------------------------------------------
# Many at once, and many after each other


def test_eight_frames_on_four_threads_of_one_instance_are_all_right(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    expected = matted(shared_daemon, plate, clean).premultiplied
    node = connected(host, shared_daemon.folder)
    wrong: list[str] = []

    def work() -> None:
        for _ in range(2):
            status, output = node.render()
            if status != OK or not np.array_equal(output.pixels(), expected):
                wrong.append(str(node.message))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_two_instances_render_their_own_frames_at_once(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    shots = [scene(seed=seed) for seed in (1, 2)]
    expected = [matted(shared_daemon, *shot).premultiplied for shot in shots]
    nodes = [connected(host, shared_daemon.folder) for _ in shots]
    for node, (plate, clean) in zip(nodes, shots):
        node.connect(Source=HostImage(plate), Background=HostImage(clean))
    wrong: list[int] = []

    def work(index: int) -> None:
        for _ in range(5):
            status, output = nodes[index].render()
            if status != OK or not np.array_equal(output.pixels(), expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_an_instance_a_frame_uses_one_session_and_one_arena(host: OfxHost) -> None:
    plate, _clean = scene()
    before = own_arenas()
    with FakeDaemon() as daemon:
        for _ in range(100):
            node = host.create(FILTER, endpoint=str(daemon.folder))
            node.connect(Source=HostImage(plate, negative=True), Background=Missing.BARE,
                         AlphaHint=Missing.BARE)  # fmt: skip
            assert node.render()[0] == OK
            node.destroy()
        assert len(daemon.hellos) == 1
        assert len(daemon.requests) == 100
        assert own_arenas() == before  # the fake's is a memfd of another name
        assert len(daemon.memory) == 1


def test_a_larger_frame_exchanges_the_arena_of_the_same_session(
    host: OfxHost, shared_daemon: DaemonProcess
) -> None:
    node = connected(host, shared_daemon.folder)
    before = own_arenas()
    for size in ((24, 32), (260, 260), (24, 32)):
        plate, clean = scene(*size)
        node.connect(Source=HostImage(plate), Background=HostImage(clean))
        good(node, matted(shared_daemon, plate, clean).premultiplied)
        assert own_arenas() == before + 1


def test_a_host_that_loses_our_pointer_still_renders(
    binary: Path, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    with OfxHost(binary, name=NUKE, keep_instance_data=False) as host:
        node = connected(host, shared_daemon.folder)
        good(node, matted(shared_daemon, plate, clean).premultiplied)
        node.destroy()


def test_a_host_that_names_no_window_gets_the_whole_output(
    binary: Path, shared_daemon: DaemonProcess
) -> None:
    plate, clean = scene()
    refused = {"OfxImageEffectPropRenderWindow", "OfxPropTime", "OfxImageEffectPropRenderScale"}
    with OfxHost(binary, name=NUKE, refuse=refused) as host:
        node = connected(host, shared_daemon.folder)
        good(node, matted(shared_daemon, plate, clean).premultiplied)


def test_loading_and_unloading_two_hundred_times_leaves_nothing(
    binary: Path, shared_daemon: DaemonProcess
) -> None:
    host = OfxHost(binary, name=NUKE)

    def once(render: bool) -> None:
        assert host.load() == OK
        node = connected(host, shared_daemon.folder)
        if render:
            assert node.render()[0] == OK
        node.destroy()
        assert host.unload() == OK

    before = own_arenas()
    once(True)
    descriptors = own_descriptors()
    assert own_arenas() == before
    for index in range(200):
        once(index % 10 == 0)
    assert own_descriptors() <= descriptors
    assert own_arenas() == before
    assert host.complaints == []


@pytest.mark.slow
def test_a_hundred_lost_daemons_leak_nothing(host: OfxHost) -> None:
    def lose(times: int) -> int:
        with FakeDaemon(answer=lambda _request: [None]) as daemon:
            node = connected(host, daemon.folder)
            for _ in range(times):
                failed(node)
            node.destroy()
        return own_descriptors()

    before = lose(3)
    assert lose(100) <= before
    assert "memfd:fake" not in Path("/proc/self/maps").read_text()


def test_of_the_sessions_that_nobody_uses_one_stays(binary: Path) -> None:
    daemon = AbusedDaemon(light=True)

    def sessions() -> int:
        return sum(session["client"] == "ofx" for session in asking.status()["sessions"])

    try:
        with OfxHost(ofx_build.impatient_plugin(), name=NUKE) as host:
            asking = daemon.start().wait_ready().client()
            nodes = [connected(host, daemon.folder) for _ in range(2)]
            threads = [threading.Thread(target=node.render, kwargs={"time": 13}) for node in nodes]
            with daemon.gate():
                for thread in threads:
                    thread.start()
                wait_for(lambda: sessions() == 2, SOON_S, "each of two renders has a session")
            for thread in threads:
                thread.join()
            time.sleep(1.1)
            assert nodes[0].render()[0] == OK
            wait_for(lambda: sessions() == 1, SOON_S, lambda: "the daemon sees one door")
            for node in nodes:
                node.destroy()
    finally:
        daemon.end()


# ---------------------------------------------------------------------------------------------
# Processes of their own


FORK = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from fakes.ofx_host import GENERAL, HostImage, OfxHost
from fakes.ofx_scene import scene
host = OfxHost(Path(sys.argv[1]))
host.load()
plate, clean = scene()
node = host.create(GENERAL, endpoint=sys.argv[2])
node.connect(Source=HostImage(plate), Background=HostImage(clean))
assert node.render()[0] == 0
if os.fork() == 0:
    doors = [n for n in os.listdir("/proc/self/fd") if "socket" in
             os.readlink(f"/proc/self/fd/{n}") and n not in "012"]
    arenas = "memfd:mattebridge" in open("/proc/self/maps").read()
    status = node.render()[0]
    os._exit(10 + len(doors) if arenas or status else len(doors))
code = os.waitstatus_to_exitcode(os.wait()[1])
assert code == 1, code  # the control socket alone; the door is closed, the arena not there
assert node.render()[0] == 0
node.destroy()
host.unload()
host.close_library()
assert "MatteBridge.ofx" not in open("/proc/self/maps").read()
if os.fork() == 0:
    os._exit(0)
assert os.wait()[1] == 0
print("fine")
"""


def run_script(script: str, *arguments: Any) -> subprocess.CompletedProcess[str]:
    paths = [str(ofx_build.ROOT / "tests"), str(ofx_build.ROOT / "bridge")]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments), *paths],
        capture_output=True,
        text=True,
        timeout=60,
    )


STRANGER = """
import os, socket, sys, time
listener = socket.socket(socket.AF_UNIX, int(sys.argv[2]))
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
os.setuid(65534)
listener.listen(4)  # the kernel reports the credentials of this moment to peers
print("open", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_door_is_not_walked_through(host: OfxHost) -> None:
    with FakeDaemon() as daemon:
        (daemon.folder / "door").unlink()
        stranger = subprocess.Popen(
            [sys.executable, "-c", STRANGER, str(daemon.folder / "door"), str(int(DOOR_TYPE))],
            stdout=subprocess.PIPE,
        )
        try:
            assert stranger.stdout is not None
            assert stranger.stdout.readline() == b"open\n"
            assert "belongs to user 65534" in failed(connected(host, daemon.folder))
        finally:
            stranger.kill()
            stranger.communicate()


def test_a_forked_host_keeps_no_door_and_a_library_that_is_gone_is_not_called(
    binary: Path, shared_daemon: DaemonProcess
) -> None:
    done = run_script(FORK, binary, shared_daemon.folder)
    assert (done.stdout, done.returncode) == ("fine\n", 0), done.stderr
