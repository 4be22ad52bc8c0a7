"""F1-F7: hosts, front and worker are killed, stopped and wedged at the worst moments."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fakes.base_line import (
    AbusedDaemon,
    StartAbused,
    arena_descriptors,
    assert_nothing_remains,
    resident_bytes,
)
from fakes.daemon_process import children, is_alive, own_arenas, wait_for
from fakes.host_process import HostFamily, HostProcess
from fakes.light_python import matted_light
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot
from fakes.raw_client import Raw
from mattebridge.client import MatteClient
from mattebridge.errors import ConnectionFailed, DaemonLost, DeadlineError, WorkerLostError

SHOT = shot(seed=7)

# The same deaths of daemons with the real engine: test_soak.py.


@pytest.fixture
def light() -> bool:
    return True


def _session_is_gone(client: MatteClient, pid: int) -> bool:
    return pid not in [entry["pid"] for entry in client.status()["sessions"]]


# -- F1-F3: a client is killed -----------------------------------------------------------------


@pytest.mark.timeout(900)
def test_f01_a_killed_client_frees_its_queued_request(
    daemon: AbusedDaemon, kill_turns: int
) -> None:
    queue_two = """
        for frame in (1, 2):
            client.submit(plate, clean_plate, frame=frame, **PLAIN)
        sleep()
    """
    with daemon.connect() as client, HostFamily(daemon.folder, queue_two) as family:
        for _turn in range(kill_turns):
            with daemon.gate() as gate, family.host() as host:
                blocker = client.submit(*SHOT, frame=13, **PLAIN)
                gate.wait_reached()
                host.heard("sleeping")
                wait_for(lambda: client.ping()["queue"] >= 2, SOON_S, "two requests wait")
                host.kill()
                wait_for(lambda: _session_is_gone(client, host.pid), SOON_S, "its session ends")
                # The polite client has at most one frame waiting.
                assert client.ping()["queue"] <= 1
            assert same(blocker.result(SOON_S), matted_light(*SHOT))


@pytest.mark.timeout(900)
def test_f02_arenas_of_a_client_killed_while_rendering_are_freed_when_the_worker_is_done(
    daemon: AbusedDaemon, kill_turns: int
) -> None:
    render = "client.submit(plate, clean_plate, frame=13, **PLAIN); sleep()"
    with daemon.connect() as client, HostFamily(daemon.folder, render) as family:
        for _turn in range(kill_turns):
            before = arena_descriptors(daemon.pid)
            with daemon.gate("deaf") as gate, family.host() as host:
                host.heard("sleeping")
                gate.wait_reached()
                assert arena_descriptors(daemon.pid) == before + 2
                host.kill()
                wait_for(lambda: _session_is_gone(client, host.pid), SOON_S, "its session ends")
                # The worker may still write into one of them: that one stays.
                assert arena_descriptors(daemon.pid) == before + 1
                gate.open()
                wait_for(
                    lambda before=before: arena_descriptors(daemon.pid) == before,
                    SOON_S,
                    "the lent arena is freed",
                )


@pytest.mark.timeout(900)
def test_f03_a_client_killed_while_it_writes_an_arena_leaves_nothing(
    daemon: AbusedDaemon, kill_turns: int
) -> None:
    write_half = """
        client.matte(plate, clean_plate, **PLAIN)
        arena = client._exchange.session.free_arena(1)
        arena.memory.write_begin(arena.generation + 1)
        say("writing")
        while True:
            arena.memory._map[64:100_000] = os.urandom(100_000 - 64)
    """
    with daemon.connect() as client, HostFamily(daemon.folder, write_half) as family:
        before = arena_descriptors(daemon.pid)
        for _turn in range(kill_turns):
            with family.host() as host:
                host.heard("writing")
                host.kill()
                wait_for(lambda: _session_is_gone(client, host.pid), SOON_S, "its session ends")
                assert arena_descriptors(daemon.pid) == before


# -- F4: the front is killed -------------------------------------------------------------------


def _kill_mid_render(daemon: AbusedDaemon, client: MatteClient) -> None:
    """One turn: the front dies while frame 13 is in the worker's hands; the frame still comes."""
    front = client.status()["pid"]
    workers = children(front)
    with daemon.gate() as gate:
        handle = client.submit(*SHOT, frame=13, **PLAIN)
        gate.wait_reached()
        os.kill(front, signal.SIGKILL)
    assert same(handle.result(SOON_S), matted_light(*SHOT))
    assert client.status()["pid"] != front
    assert_nothing_remains(daemon, workers)


@pytest.mark.timeout(900)
def test_f04_a_client_gets_its_frame_although_the_front_was_killed_mid_render(
    start_abused: StartAbused, monkeypatch: pytest.MonkeyPatch, kill_turns: int
) -> None:
    daemon = start_abused()
    monkeypatch.setenv("MATTEBRIDGE_DAEMON_PYTHON", daemon.python)
    monkeypatch.setenv("MATTEBRIDGE_TEST_HOOKS", f"@{daemon.hooks}")
    with daemon.connect(start=True) as client:
        for turn in range(kill_turns):
            _kill_mid_render(daemon, client)
            if turn == 0:
                descriptors, arenas = len(os.listdir("/proc/self/fd")), own_arenas()
        assert len(os.listdir("/proc/self/fd")) == descriptors
        assert own_arenas() == arenas
        last = client.status()["pid"]
        assert client.shutdown()
    wait_for(lambda: not is_alive(last), SOON_S, "the last daemon stops")
    assert daemon.files() == {"lock", "status.json", "log"}


def test_f04_a_client_that_may_not_start_a_daemon_gets_one_error_that_it_is_lost(
    start_abused: StartAbused,
) -> None:
    daemon, arenas = start_abused(), own_arenas()
    with daemon.connect() as client, daemon.gate() as gate:
        handle = client.submit(*SHOT, frame=13, **PLAIN)
        gate.wait_reached()
        workers = daemon.worker_pids()
        daemon.kill()
        with pytest.raises(DaemonLost, match="no daemon is running"):
            handle.result(SOON_S)
        assert_nothing_remains(daemon, workers)
        # And whatever is asked next says so again, in bounded time and in our own words.
        for ask in (client.ping, lambda: client.matte(*SHOT, **PLAIN)):
            with pytest.raises((DaemonLost, ConnectionFailed)):
                ask()
        daemon.misbehave()
        daemon.start()
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
    assert own_arenas() == arenas


def test_f04_frames_in_flight_survive_a_front_that_is_replaced_at_once(
    start_abused: StartAbused,
) -> None:
    daemon, arenas = start_abused(), own_arenas()
    shots = [shot(seed=seed) for seed in (21, 22)]
    with daemon.connect() as client, daemon.gate() as gate:
        handles = [client.submit(*one, frame=13, **PLAIN) for one in shots]
        gate.wait_reached()
        daemon.kill()
        daemon.start()
        gate.open()
        for handle, one in zip(handles, shots):
            assert same(handle.result(SOON_S), matted_light(*one))
        assert own_arenas() == arenas + 2
    assert own_arenas() == arenas


def test_f04_a_second_loss_with_the_same_frame_is_an_error(
    start_abused: StartAbused,
) -> None:
    daemon, arenas = start_abused(), own_arenas()
    with daemon.connect() as client, daemon.gate() as gate:
        handle = client.submit(*SHOT, frame=13, **PLAIN)
        for _loss in range(2):
            assert client.ping()["state"] in ("starting", "ready")
            gate.wait_reached()
            daemon.kill()
            daemon.start()
        with pytest.raises(DaemonLost, match="second time"):
            handle.result(SOON_S)
        daemon.misbehave()
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
    assert own_arenas() == arenas


# -- F5: the worker is killed ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_f05_a_killed_worker_is_answered_for_once_reaped_and_replaced(
    daemon: AbusedDaemon, raw: Raw, kill_turns: int
) -> None:
    victim = raw(daemon, slots=1)
    for turn in range(kill_turns):
        with daemon.gate("deaf") as gate:
            request = victim.send(victim.render(frame=13, gen=2 * turn + 1))
            gate.wait_reached()
            (worker,) = daemon.worker_pids()
            os.kill(worker, signal.SIGKILL)
            reply = victim.terminal(request)
        assert reply["code"] == "E_WORKER_LOST"
        assert (reply["retry"], reply["held"]) == (True, False)
        assert not is_alive(worker)
        # The lease and its arena lived on.
        request = victim.send(victim.render(gen=2 * turn + 2))
        assert victim.terminal(request)["op"] == "done"


@pytest.mark.slow
def test_f05_a_client_sends_a_frame_again_when_its_worker_was_killed(
    daemon: AbusedDaemon,
) -> None:
    with daemon.connect() as client:
        with daemon.gate("deaf") as gate:
            handle = client.submit(*SHOT, frame=13, **PLAIN)
            gate.wait_reached()
            (worker,) = daemon.worker_pids()
            os.kill(worker, signal.SIGKILL)
            # Its front may have started the next one already.
            wait_for(lambda: not is_alive(worker), SOON_S, "it dies")
        assert same(handle.result(SOON_S), matted_light(*SHOT))


@pytest.mark.slow
def test_f05_a_worker_that_dies_five_times_in_a_row_is_given_up_without_a_loop(
    start_abused: StartAbused, raw: Raw
) -> None:
    daemon = start_abused()
    daemon.misbehave("model=kill")
    victim = raw(daemon, slots=1)
    codes = []
    for turn in range(5):
        reply = victim.terminal(victim.send(victim.render(gen=turn + 1)))
        codes.append((reply["code"], reply["retry"]))
    assert codes == [("E_WORKER_LOST", True)] * 4 + [("E_WORKER_LOST", False)]
    with daemon.connect() as client:
        assert client.ping()["state"] == "failed"
        with pytest.raises(WorkerLostError, match="stop and start") as caught:
            client.matte(*SHOT, **PLAIN)
        assert not caught.value.retry
        assert "stays down" in daemon.log()
        used = _cpu_s(daemon.pid)
        time.sleep(1.0)
        assert _cpu_s(daemon.pid) - used < 0.5
        assert daemon.worker_pids() == []


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# -- F6: the worker is wedged ------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("wedge", ["stopped", "endless stage"])
def test_f06_a_wedged_worker_keeps_no_client_waiting_and_is_killed_by_the_watchdog(
    start_abused: StartAbused, raw: Raw, wedge: str
) -> None:
    daemon = start_abused(MATTEBRIDGE_WATCHDOG_S="9", MATTEBRIDGE_WATCHDOG_FACTOR="0")
    victim = raw(daemon, slots=1)
    # The watchdog goes by what such a frame usually takes: show it one.
    assert victim.terminal(victim.send(victim.render(gen=1)))["op"] == "done"
    with daemon.connect() as client:
        with daemon.gate("deaf" if wedge == "stopped" else "hang") as gate:
            request = victim.send(victim.render(frame=13, gen=2, deadline_ms=2500))
            gate.wait_reached()
            (worker,) = daemon.worker_pids()
            if wedge == "stopped":
                os.kill(worker, signal.SIGSTOP)
                gate.open()
            reply = victim.terminal(request)
            assert (reply["code"], reply["started"]) == ("E_DEADLINE", True)
            assert reply["held"] is True
            assert is_alive(worker)
            ages, waits = [], []
            for _ping in range(10):
                asked = time.monotonic()
                ages.append(client.ping()["workers"][0]["age_since_progress_ms"])
                waits.append(time.monotonic() - asked)
            assert min(waits) < 1.0  # the frame hangs for ever
            assert ages == sorted(ages)
            assert ages[0] > 300
            returned = victim.receive(SOON_S)
            assert returned is not None
            assert (returned["op"], returned["slot"], returned["gen"]) == ("released", 0, 2)
            assert not is_alive(worker)
        assert "no progress" in daemon.log()
        assert victim.terminal(victim.send(victim.render(gen=3)))["op"] == "done"
        assert client.status()["workers"][0]["restarts"] == 1


@pytest.mark.slow
def test_f06_a_frame_without_deadline_in_a_wedged_worker_ends_as_worker_lost(
    start_abused: StartAbused, raw: Raw
) -> None:
    daemon = start_abused(MATTEBRIDGE_WATCHDOG_S="5", MATTEBRIDGE_WATCHDOG_FACTOR="0")
    victim = raw(daemon, slots=1)
    assert victim.terminal(victim.send(victim.render(gen=1)))["op"] == "done"
    daemon.misbehave("model#13=hang")
    reply = victim.terminal(victim.send(victim.render(frame=13, gen=2)))
    assert (reply["code"], reply["retry"], reply["held"]) == ("E_WORKER_LOST", True, False)


@pytest.mark.slow
def test_f06_a_deadline_reaches_the_client_although_the_worker_hangs(
    daemon: AbusedDaemon,
) -> None:
    with daemon.connect() as client:
        with daemon.gate("deaf"):
            with pytest.raises(DeadlineError) as caught:
                client.matte(*SHOT, frame=13, deadline_s=4.0, **PLAIN)
            assert caught.value.details["started"] is True
        # The arena that was out came back, and serves again.
        for _frame in range(3):
            assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))


# -- F7: a client stops reading ----------------------------------------------------------------


@pytest.mark.slow
def test_f07_a_stopped_client_with_full_queues_blocks_nobody_and_loses_its_lease(
    start_abused: StartAbused,
) -> None:
    daemon = start_abused(MATTEBRIDGE_OUTBOX_S="1")
    deaf = """
        for _ in range(450):
            client._exchange.session.send({"op": "status", "id": os.urandom(16)})
        say("sent")
        sys.stdin.readline()
        try:
            client.ping()
        except errors.DaemonError as error:
            say("told", type(error).__name__)
        else:
            say("told", "reattached", client.ping()["state"])
    """
    before = resident_bytes(daemon.pid)
    with daemon.connect() as client, HostProcess(daemon.folder, deaf) as host:
        host.heard("sent")
        host.signal(signal.SIGSTOP)
        wait_for(lambda: _session_is_gone(client, host.pid), SOON_S, "its session is ended")
        assert same(client.matte(*SHOT, **PLAIN), matted_light(*SHOT))
        assert "does not read its replies" in daemon.log()
        assert resident_bytes(daemon.pid) < before + (24 << 20)
        host.signal(signal.SIGCONT)
        assert host.process.stdin is not None
        host.process.stdin.write(b"go on\n")
        host.process.stdin.flush()
        assert host.heard("told") in ("DaemonLost", "reattached ready")
