"""`release`: devices are given to other programs, the daemon stays, and no frame is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fakes.base_line import AbusedDaemon
from fakes.daemon_process import DaemonProcess, StartDaemon, is_alive, wait_for
from fakes.light_python import matted_light
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot
from fakes.raw_client import RawClient
from mattebridge import cli
from mattebridge.client import Matte

SHOT = shot(seed=11)


def pixels_of(matte: Matte) -> dict[str, Any]:
    return {"alpha": matte.alpha, "foreground": matte.foreground}


def _memory(daemon: DaemonProcess) -> dict[str, Any]:
    return dict(daemon.client().status()["workers"][0]["memory"])


@pytest.mark.slow
def test_release_drops_models_and_the_next_frame_has_the_same_pixels(
    start_daemon: StartDaemon,
) -> None:
    daemon = start_daemon()
    client = daemon.client()
    before = client.matte(*SHOT, **PLAIN)
    (pid,) = daemon.worker_pids()
    assert "difference" in _memory(daemon)["models"]
    (freed,) = client.release()
    assert (freed["device"], list(freed["models"])) == ("cpu", ["difference"])
    assert freed["resident_bytes"] > 10 << 20
    assert not is_alive(pid)
    status = client.status()
    assert status["workers"][0]["memory"] == {}
    assert (status["workers"][0]["pid"], status["workers"][0]["failures"]) == (0, 0)
    assert status["state"] == "ready"
    after = client.matte(*SHOT, **PLAIN)
    assert same(after, pixels_of(before))
    assert daemon.worker_pids() != [pid]


def test_release_keeps_held_clean_plates_and_sessions(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True)
    client = daemon.client()
    plate, clean_plate = SHOT
    client.hold_clean_plate("clean", clean_plate)
    before = client.matte(plate, "clean", **PLAIN)
    client.release()
    assert [held["name"] for held in client.held_clean_plates()] == ["clean"]
    assert same(client.matte(plate, "clean", **PLAIN), pixels_of(before))


def test_release_where_nothing_is_held_answers_at_once(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(light=True)
    client = daemon.client()
    client.matte(*SHOT, **PLAIN)
    assert len(client.release()) == 1
    assert client.release() == []


@pytest.fixture
def gated() -> Iterator[AbusedDaemon]:
    daemon = AbusedDaemon(light=True)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.end()


def _asked(daemon: AbusedDaemon) -> tuple[RawClient, bytes]:
    """A session whose `release` has reached the daemon, and the id of the request."""
    asking = RawClient(daemon.folder)
    request = asking.send({"op": "release"})
    assert asking.terminal(asking.send({"op": "ping"}))["op"] == "pong"
    return asking, request


def test_release_waits_for_the_frame_that_is_computed_and_for_no_other(
    gated: AbusedDaemon,
) -> None:
    """The running frame is finished before its worker ends; the one that waits gets a new one."""
    client = gated.client()
    client.matte(*SHOT, **PLAIN)
    (pid,) = gated.worker_pids()
    with gated.gate() as gate:
        running = client.submit(*SHOT, frame=13, **PLAIN)
        gate.wait_reached()
        asking, request = _asked(gated)
        waiting = client.submit(*SHOT, frame=14, **PLAIN)
        wait_for(lambda: client.ping()["queue"] == 1, SOON_S, "the second frame waits")
        assert is_alive(pid)
        assert asking.receive(timeout_s=0.05) is None
    assert same(running.result(SOON_S), matted_light(*SHOT))
    freed = asking.terminal(request)
    assert (freed["op"], [worker["device"] for worker in freed["workers"]]) == ("freed", ["cpu"])
    assert not is_alive(pid)
    asking.close()
    assert same(waiting.result(SOON_S), matted_light(*SHOT))
    assert len(gated.worker_pids()) == 1
    assert client.status()["workers"][0]["failures"] == 0


def test_a_session_that_ends_while_it_waits_for_a_release_leaves_nothing(
    gated: AbusedDaemon,
) -> None:
    client = gated.client()
    client.matte(*SHOT, **PLAIN)
    with gated.gate() as gate:
        running = client.submit(*SHOT, frame=13, **PLAIN)
        gate.wait_reached()
        asking, _request = _asked(gated)
        asking.close()
        wait_for(lambda: len(client.status()["sessions"]) == 1, SOON_S, "the session has ended")
    assert same(running.result(SOON_S), matted_light(*SHOT))
    assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
    assert "error" not in gated.log()


def test_the_command_says_what_each_worker_gave_back(
    start_daemon: StartDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon = start_daemon(light=True)
    daemon.client().matte(*SHOT, **PLAIN)
    where = ["--instance", str(daemon.folder)]
    assert cli.main(["release", *where]) == 0
    assert capsys.readouterr().out.startswith("mattebridge: cpu gave back ")
    assert cli.main(["release", *where]) == 0
    assert capsys.readouterr().out == "mattebridge: no worker held memory\n"
    daemon.stop()
    assert cli.main(["release", *where]) == 0
    assert "no daemon runs" in capsys.readouterr().out
