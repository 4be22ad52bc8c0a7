"""A worker that has several frames in hand: all are answered once, with their own pixels."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from fakes.base_line import AbusedDaemon
from fakes.daemon_process import wait_for
from fakes.light_engine import IN_FLIGHT
from fakes.light_python import matted_light
from fakes.limits import SOON_S
from fakes.pictures import PLAIN, same, shot
from mattebridge.client import MatteClient
from mattebridge.errors import Cancelled, DeadlineError, OutOfMemoryError

SHOTS = [shot(seed=seed) for seed in range(4)]


@pytest.fixture(scope="module")
def daemon() -> Iterator[AbusedDaemon]:
    with AbusedDaemon(light=True, **{IN_FLIGHT: "3"}) as running:
        yield running.wait_ready()  # type: ignore[misc]


@pytest.fixture
def client(daemon: AbusedDaemon) -> Iterator[MatteClient]:
    daemon.misbehave()
    with daemon.connect(in_flight=6) as connected:
        wait_for(lambda: connected.ping()["state"] == "ready", SOON_S, "its worker is there")
        connected.matte(*SHOTS[0], **PLAIN)  # after a failure a worker takes one at a time
        yield connected


def in_flight(client: MatteClient) -> int:
    return int(client.status()["workers"][0]["in_flight"])


def test_frames_that_overlap_have_their_own_pixels(client: MatteClient) -> None:
    handles = []
    for number in range(40):
        if number >= 5:
            handles[number - 5].result(SOON_S)
        handles.append(client.submit(*SHOTS[number % 4], frame=number, **PLAIN))
    for number, handle in enumerate(handles):
        assert same(handle.result(SOON_S), matted_light(*SHOTS[number % 4]))


def test_the_worker_has_three_of_the_frames_and_the_others_wait(
    daemon: AbusedDaemon, client: MatteClient
) -> None:
    with daemon.gate("gate") as gate:
        handles = [client.submit(*SHOTS[n % 4], frame=13 + n, **PLAIN) for n in range(5)]
        gate.wait_reached()
        wait_for(lambda: in_flight(client) == 3, SOON_S, "the worker has three")
        status = client.status()
        assert status["workers"][0]["in_flight_limit"] == 3
        assert status["queue"]["interactive"] == 2
        assert status["workers"][0]["frame"] == 13
    for number, handle in enumerate(handles):
        assert same(handle.result(SOON_S), matted_light(*SHOTS[number % 4]))
    assert in_flight(client) == 0


def test_a_frame_in_the_worker_is_cancelled_while_another_is_computed(
    daemon: AbusedDaemon, client: MatteClient
) -> None:
    with daemon.gate("gate") as gate:
        first = client.submit(*SHOTS[0], frame=13, **PLAIN)
        gate.wait_reached()
        second, third = (client.submit(*SHOTS[n], frame=20 + n, **PLAIN) for n in (1, 2))
        wait_for(lambda: in_flight(client) == 3, SOON_S, "the worker has three")
        second.cancel()
        client.ping()  # answered after the cancel: the worker has it before the gate opens
    with pytest.raises(Cancelled):
        second.result(SOON_S)
    assert same(first.result(SOON_S), matted_light(*SHOTS[0]))
    assert same(third.result(SOON_S), matted_light(*SHOTS[2]))


def test_a_deadline_ends_a_frame_that_waits_in_the_worker(
    daemon: AbusedDaemon, client: MatteClient
) -> None:
    with daemon.gate("deaf") as gate:
        first = client.submit(*SHOTS[0], frame=13, **PLAIN)
        gate.wait_reached()
        late = client.submit(*SHOTS[1], frame=14, deadline_s=0.05, **PLAIN)
        with pytest.raises(DeadlineError):
            late.result(SOON_S)
    assert same(first.result(SOON_S), matted_light(*SHOTS[0]))
    assert same(client.matte(*SHOTS[3], **PLAIN), matted_light(*SHOTS[3]))


def test_a_frame_without_memory_costs_only_itself(
    daemon: AbusedDaemon, client: MatteClient
) -> None:
    daemon.misbehave("model#14=oom")
    handles = [client.submit(*SHOTS[n], frame=13 + n, **PLAIN) for n in range(3)]
    with pytest.raises(OutOfMemoryError):
        handles[1].result(SOON_S)
    for number in (0, 2):
        assert same(handles[number].result(SOON_S), matted_light(*SHOTS[number]))


def test_all_frames_of_a_killed_worker_are_computed_by_the_next(
    daemon: AbusedDaemon, client: MatteClient
) -> None:
    with daemon.gate("deaf") as gate:
        handles = [client.submit(*SHOTS[n], frame=13 + n, **PLAIN) for n in range(4)]
        gate.wait_reached()
        wait_for(lambda: in_flight(client) == 3, SOON_S, "the worker has three")
        (pid,) = daemon.worker_pids()
        os.kill(pid, signal.SIGKILL)
        # The next one may be there before anybody has looked.
        wait_for(lambda: pid not in daemon.worker_pids(), SOON_S, "it dies")
    for number, handle in enumerate(handles):
        assert same(handle.result(SOON_S), matted_light(*SHOTS[number]))


def test_memory_is_released_after_all_frames_in_the_worker(
    daemon: AbusedDaemon, client: MatteClient
) -> None:
    with daemon.gate("gate") as gate:
        handles = [client.submit(*SHOTS[n], frame=13 + n, **PLAIN) for n in range(3)]
        gate.wait_reached()
        wait_for(lambda: in_flight(client) == 3, SOON_S, "the worker has three")
        with daemon.connect() as other:
            before = daemon.worker_pids()
            gate.open()
            assert [worker["device"] for worker in other.release()] == ["cpu"]
    for number, handle in enumerate(handles):
        assert same(handle.result(SOON_S), matted_light(*SHOTS[number]))
    assert daemon.worker_pids() != before


def test_a_client_that_leaves_takes_all_its_frames_along(daemon: AbusedDaemon) -> None:
    daemon.misbehave()
    with daemon.connect() as watcher:
        with daemon.gate("gate") as gate, daemon.connect(in_flight=4) as leaver:
            for number in range(3):
                leaver.submit(*SHOTS[number], frame=13, **PLAIN)
            gate.wait_reached()
            wait_for(lambda: in_flight(watcher) == 3, SOON_S, "the worker has three")
            workers = daemon.worker_pids()
        wait_for(lambda: in_flight(watcher) == 0, SOON_S, "none is left")
        assert daemon.worker_pids() == workers
        assert same(watcher.matte(*SHOTS[1], **PLAIN), matted_light(*SHOTS[1]))
