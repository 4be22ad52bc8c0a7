"""The queue and the workers: who gets the next frame, when, and when a worker starts.

The workers are the other ends of real links, held by the test: they say what a worker says, when
the test wants it. The front's loop is turned by hand, so that what happens in one turn can be seen.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import msgpack
import pytest

from mattebridge.daemon.dispatch import Dispatcher
from mattebridge.daemon.doorkeeper import Doorkeeper
from mattebridge.daemon.leases import ArenaRecord, Group, Lease, Request
from mattebridge.daemon.limits import Limits
from mattebridge.daemon.link import LINK_BYTES
from mattebridge.daemon.loop import Helper, Loop
from mattebridge.daemon.mailbox import Mailbox
from mattebridge.daemon.replies import Replies
from mattebridge.daemon.status import Tally
from mattebridge.daemon.workers import RETIRE_LIMIT_S, WorkerProcess
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.planes import Plane

PLANE = Plane("plate", 64, 4, 2, 3, "f4", 64)
FRAME = {"op": "render", "slot": 0, "gen": 1, "in": [PLANE], "out": [PLANE], "model": "default"}
REPORT = {"model": "m", "digest": "", "degraded": [], "notes": {}, "timings": {}}


class ScriptedWorker:
    """A worker's end of a link, and what the front sees of its process."""

    pids = iter(range(10_000_000, 20_000_000))

    def __init__(self, process: WorkerProcess) -> None:
        self.pid = next(self.pids)
        self.returncode = 0
        self.ended = self.held_by_its_driver = False
        self.name = process.name
        front_end, self.link = oslayer.current().pair(1 << 20)
        process._process, process._link = self, front_end  # type: ignore[assignment]
        process._loop.watch(front_end.fileno(), process._receive)

    def poll(self) -> Optional[int]:
        return 0 if self.ended else None

    def kill(self) -> None:
        self.ended = True

    def send_signal(self, _number: int) -> None:
        self.ended = True

    def wait(self, limit_s: float) -> None:
        if not self.ended or self.held_by_its_driver:
            raise subprocess.TimeoutExpired("worker", limit_s)

    def says(self, op: str, **more: Any) -> None:
        self.link.send(msgpack.packb({"op": op, "models": [], "memory": {}, **more}))

    def hears(self) -> Optional[dict[str, Any]]:
        """The next message of the front; None where none has come."""
        if not oslayer.current().wait([self.link.fileno()], 0.0):
            return None
        return dict(msgpack.unpackb(self.link.receive(LINK_BYTES).data, raw=False))


class Bench:
    """A dispatcher, one session with many arenas, and the workers that it started."""

    def __init__(self, folder: Path, started: list[ScriptedWorker]) -> None:
        self.started = started
        self.loop, tally = Loop(), Tally()
        limits = Limits()
        self.door = Doorkeeper(
            folder,
            limits,
            self.loop,
            Helper(self.loop),
            identity={},
            lost=lambda _lease: None,
            freed=lambda _keys: None,
        )
        self.mail = Mailbox(folder, epoch=5, outbox_s=10.0)
        replies = Replies(self.mail, self.door, tally, freed=lambda _keys: None)
        self.dispatcher = Dispatcher(
            limits, self.loop, replies=replies, tally=tally, misconfigured=lambda _error: None
        )
        near, far = oslayer.current().pair(1 << 16)
        far.close()
        self.lease = Lease(near)
        self.door.leases[self.lease.sid] = self.lease
        self.frames = 0

    def submit(self) -> int:
        """Queue one more frame; its number."""
        self.frames += 1
        arena = ArenaRecord(self.frames, os.open(os.devnull, os.O_RDONLY), 1 << 21)
        self.lease.arenas[self.frames] = arena
        message = {**FRAME, "id": os.urandom(16), "params": {}, "frame": self.frames}
        request = Request(self.lease, message, time.monotonic(), arena=arena)
        self.lease.lend(arena, request)
        self.dispatcher.submit([request], time.monotonic())
        return self.frames

    def load(self, devices: list[Optional[str]]) -> Request:
        """Queue the loading of a model on these devices, as one request."""
        message = {"op": "models_load", "id": os.urandom(16), "model": "m"}
        request = Request(self.lease, message, time.monotonic())
        request.group = Group(len(devices))
        self.lease.active[request.id] = request
        parts = [request.for_device(device) for device in devices]
        self.dispatcher.submit(parts, time.monotonic())
        return request

    def replies(self, request: Request) -> list[str]:
        """What was replied to this request."""
        replies = [protocol.unpack(data) for _when, data in self.lease.outbox]
        return [reply["op"] for reply in replies if reply["id"] == request.id]

    def states(self) -> list[str]:
        return [worker.state for worker in self.dispatcher.workers]

    def turn(self) -> None:
        self.loop.turn(0.0)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    started: list[ScriptedWorker] = []
    monkeypatch.setattr(
        WorkerProcess, "_spawn", lambda process: started.append(ScriptedWorker(process))
    )
    with tempfile.TemporaryDirectory(prefix="mb-") as folder:
        made = Bench(Path(folder), started)
        yield made
        made.dispatcher.stop()
        for worker in started:
            worker.link.close()
        made.lease.connection.close()
        made.mail.close()
        made.door.close()


def all_ready(bench: Bench, devices: list[str]) -> list[ScriptedWorker]:
    """Every device's worker runs and is idle: a frame for each made it start."""
    bench.dispatcher.serve_from(devices, [], chosen=False)
    numbers = [bench.submit() for _device in devices]
    assert len(bench.started) == len(devices)
    for worker in bench.started:
        worker.says("ready", warm_up_ms=1)
        bench.turn()
    for worker in bench.started:
        job = worker.hears()
        assert job is not None
        numbers.remove(job["frame"])
        worker.says("done", job=job["job"], report=REPORT)
        bench.turn()
    assert bench.states() == ["idle"] * len(devices)
    return bench.started


def test_one_worker_starts_at_once_and_one_more_for_each_frame_that_none_will_take(
    bench: Bench,
) -> None:
    bench.dispatcher.serve_from(["cuda:0", "cuda:1", "cuda:2", "cuda:3"], [], chosen=False)
    assert bench.states() == ["starting", "absent", "absent", "absent"]
    bench.submit()  # the one that starts will take it
    assert bench.states() == ["starting", "absent", "absent", "absent"]
    bench.submit()
    bench.submit()
    assert bench.states() == ["starting", "starting", "starting", "absent"]
    bench.started[0].says("ready", warm_up_ms=1)
    bench.turn()
    assert bench.states() == ["busy", "starting", "starting", "absent"]
    bench.submit()
    assert bench.states() == ["busy", "starting", "starting", "starting"]


def test_a_first_worker_that_cannot_be_used_makes_the_next_one_start(bench: Bench) -> None:
    bench.dispatcher.serve_from(["cuda:0", "cuda:1"], [], chosen=False)
    first = bench.started[0]
    first.says("unusable", reason="no kernel image")
    bench.turn()
    bench.dispatcher.tick(time.monotonic())
    assert bench.states() == ["failed", "starting"]


def test_a_worker_that_becomes_free_has_the_next_frame_before_the_turn_is_over(
    bench: Bench,
) -> None:
    """In the turn that receives `done` the next job is sent: no reply or tick comes between."""
    workers = all_ready(bench, ["cpu:0", "cpu:1", "cpu:2", "cpu:3"])
    waiting = [bench.submit() for _ in range(12)]
    running = {}
    for worker in workers:
        job = worker.hears()
        assert job is not None
        running[worker.name] = job
    given = [job["frame"] for job in running.values()]
    # In an order of their own, some of them twice in a row.
    for index in (2, 2, 0, 3, 1, 1, 1, 0):
        worker = workers[index]
        worker.says("done", job=running[worker.name]["job"], report=REPORT)
        bench.turn()
        job = worker.hears()
        assert job is not None
        running[worker.name] = job
        given.append(job["frame"])
        assert bench.states() == ["busy"] * 4
    assert given == waiting


def test_a_frame_that_finds_several_idle_workers_goes_to_the_first_of_them(bench: Bench) -> None:
    """So the others stay idle, and end when they were not needed for long enough."""
    workers = all_ready(bench, ["cpu:0", "cpu:1"])
    for _turn in range(3):
        bench.submit()
        job = workers[0].hears()
        assert job is not None
        workers[0].says("done", job=job["job"], report=REPORT)
        bench.turn()
    assert workers[1].hears() is None
    idle_since = bench.dispatcher.workers[1].last_progress
    limit_s = Limits().worker_idle_s
    bench.dispatcher.workers[0].last_progress = idle_since + limit_s
    bench.dispatcher.tick(idle_since + limit_s + 1)
    assert bench.states() == ["idle", "retiring"]
    message = workers[1].hears()
    assert message is not None
    assert message["op"] == "exit"


def test_a_worker_that_does_not_end_for_a_release_is_killed_and_the_release_is_answered(
    bench: Bench,
) -> None:
    (worker,) = all_ready(bench, ["cuda:0"])
    request = Request(bench.lease, {"op": "release", "id": os.urandom(16)}, time.monotonic())
    bench.lease.active[request.id] = request
    bench.dispatcher.release(request)
    assert bench.states() == ["retiring"]
    now = time.monotonic()
    bench.dispatcher.tick(now)
    assert (bench.states(), worker.ended, request.answered) == (["retiring"], False, False)
    bench.dispatcher.tick(now + RETIRE_LIMIT_S + 1)
    assert (bench.states(), worker.ended) == (["dying"], True)
    bench.dispatcher.tick(now + RETIRE_LIMIT_S + 2)
    replies = [protocol.unpack(data) for _when, data in bench.lease.outbox]
    (freed,) = [reply for reply in replies if reply["id"] == request.id]
    assert freed["op"] == "freed"
    assert [held["device"] for held in freed["workers"]] == ["cuda:0"]
    assert request.id not in bench.lease.active


def test_a_killed_worker_whose_last_message_was_on_the_way_gets_no_further_frame(
    bench: Bench,
) -> None:
    (worker,) = all_ready(bench, ["cpu"])
    bench.submit()
    job = worker.hears()
    assert job is not None
    worker.says("done", job=job["job"], report=REPORT)
    bench.dispatcher.workers[0].kill("a test")
    bench.turn()
    assert bench.states() == ["dying"]
    bench.submit()
    assert worker.hears() is None
    assert len(bench.dispatcher.queue) == 1
    bench.dispatcher.tick(time.monotonic())
    assert bench.states() == ["starting"]
    assert len(bench.dispatcher.queue) == 1


@pytest.mark.parametrize(("devices", "retry"), [(["cpu:0", "cpu:1"], True), (["cpu:0"], False)])
def test_a_frame_of_a_worker_that_is_given_up_may_be_sent_again_where_others_work(
    devices: list[str], retry: bool, bench: Bench
) -> None:
    first = all_ready(bench, devices)[0]
    process = bench.dispatcher.workers[0]
    process.failures = Limits().restarts - 1
    bench.submit()
    assert first.hears() is not None
    first.ended = True
    bench.dispatcher.tick(time.monotonic())
    assert process.state == "failed"
    error = protocol.unpack(bench.lease.outbox[-1][1])
    assert (error["code"], error["retry"]) == ("E_WORKER_LOST", retry)


def loaded(bench: Bench, worker: ScriptedWorker) -> None:
    """The worker loads the model that it was asked to load."""
    job = worker.hears()
    assert job is not None
    assert job["op"] == "models_load"
    worker.says("done", job=job["job"], report={"models": []})
    bench.turn()


def test_a_model_that_is_loaded_before_the_devices_are_known_is_loaded_on_all(bench: Bench) -> None:
    request = bench.load([None])
    bench.dispatcher.serve_from(["cuda:0", "cuda:1"], [], chosen=True)
    assert bench.states() == ["starting", "starting"]
    for worker in bench.started:
        assert bench.replies(request) == []
        worker.says("ready", warm_up_ms=1)
        bench.turn()
        loaded(bench, worker)
    assert bench.replies(request) == ["models"]
    assert bench.lease.active == {}


def test_a_cancelled_load_waits_for_the_worker_that_has_begun_and_for_no_other(
    bench: Bench,
) -> None:
    bench.dispatcher.serve_from(["cuda:0", "cuda:1"], [], chosen=False)
    first = bench.started[0]
    first.says("ready", warm_up_ms=1)
    bench.turn()
    request = bench.load(["cuda:0", "cuda:1"])
    assert bench.dispatcher.cancel(request) == "running"
    assert (len(bench.dispatcher.queue), bench.replies(request)) == (0, [])
    loaded(bench, first)
    assert bench.replies(request) == ["cancelled"]
    assert bench.lease.active == {}


def test_a_cancelled_load_that_no_worker_has_begun_ends_at_once(bench: Bench) -> None:
    bench.dispatcher.serve_from(["cuda:0", "cuda:1"], [], chosen=False)
    request = bench.load(["cuda:0", "cuda:1"])
    assert bench.dispatcher.cancel(request) == "queued"
    assert (len(bench.dispatcher.queue), bench.replies(request)) == (0, ["cancelled"])
    assert bench.lease.active == {}


def test_a_killed_worker_that_its_driver_holds_does_not_keep_the_front_from_ending(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    (worker,) = all_ready(bench, ["cuda:0"])
    worker.held_by_its_driver = True
    bench.dispatcher.stop()
    assert bench.states() == ["absent"]
    assert "worker cuda:0 was killed and does not end" in caplog.text


# -- workers that take more than one request ------------------------------------------------------


def deep(bench: Bench, devices: list[str], depth: int = 3) -> list[ScriptedWorker]:
    """Workers of devices with streams, idle."""
    workers = all_ready(bench, devices)
    for process in bench.dispatcher.workers:
        process.depth = depth
    return workers


def jobs_of(worker: ScriptedWorker) -> list[dict[str, Any]]:
    jobs = []
    while (job := worker.hears()) is not None:
        jobs.append(job)
    return jobs


def all_replies(bench: Bench) -> list[dict[str, Any]]:
    return [protocol.unpack(data) for _when, data in bench.lease.outbox]


def test_a_worker_says_how_many_requests_it_takes_and_gets_no_more(bench: Bench) -> None:
    bench.dispatcher.serve_from(["cuda:0"], [], chosen=False)
    (worker,) = bench.started
    for _frame in range(5):
        bench.submit()
    worker.says("ready", warm_up_ms=1, in_flight=3)
    bench.turn()
    jobs = jobs_of(worker)
    assert [job["frame"] for job in jobs] == [1, 2, 3]
    status = bench.dispatcher.workers[0].describe(time.monotonic())
    assert (status["in_flight"], status["in_flight_limit"], status["frame"]) == (3, 3, 1)
    worker.says("done", job=jobs[0]["job"], report=REPORT)
    bench.turn()
    assert [job["frame"] for job in jobs_of(worker)] == [4]


def test_an_idle_worker_has_a_frame_before_a_busy_one_that_takes_more(bench: Bench) -> None:
    workers = deep(bench, ["cuda:0", "cuda:1"])
    for _frame in range(4):
        bench.submit()
    assert [len(jobs_of(worker)) for worker in workers] == [2, 2]


def test_frames_that_wait_in_a_busy_worker_make_the_next_one_start(bench: Bench) -> None:
    bench.dispatcher.serve_from(["cuda:0", "cuda:1"], [], chosen=False)
    bench.submit()
    bench.started[0].says("ready", warm_up_ms=1, in_flight=3)
    bench.turn()
    assert bench.states() == ["busy", "absent"]
    bench.submit()
    assert bench.states() == ["busy", "starting"]
    assert len(jobs_of(bench.started[0])) == 2


def test_a_worker_that_dies_answers_each_of_its_requests_and_then_takes_one_at_a_time(
    bench: Bench,
) -> None:
    (worker,) = deep(bench, ["cuda:0"])
    before = len(all_replies(bench))
    for _frame in range(4):
        bench.submit()
    worker.ended = True
    bench.dispatcher.tick(time.monotonic())
    bench.dispatcher.tick(time.monotonic())
    errors = all_replies(bench)[before:]
    assert [(error["code"], error["retry"]) for error in errors] == [("E_WORKER_LOST", True)] * 3
    assert len({error["id"] for error in errors}) == 3
    fresh = bench.started[-1]
    fresh.says("ready", warm_up_ms=1, in_flight=3)
    bench.turn()
    for _frame in range(2):
        bench.submit()
    (job,) = jobs_of(fresh)  # the one that waited: what it does to the worker it does alone
    fresh.says("done", job=job["job"], report=REPORT)
    bench.turn()
    assert len(jobs_of(fresh)) == 2


def test_each_request_of_a_worker_can_be_cancelled_and_ends_once(bench: Bench) -> None:
    (worker,) = deep(bench, ["cuda:0"])
    before = len(all_replies(bench))
    for _frame in range(3):
        bench.submit()
    jobs = jobs_of(worker)
    second = next(r for r in bench.lease.active.values() if r.job == jobs[1]["job"])
    assert bench.dispatcher.cancel(second) == "running"
    assert jobs_of(worker) == [{"op": "cancel", "job": second.job}]
    worker.says("cancelled", job=second.job)
    for job in (jobs[0], jobs[2], jobs[1]):  # the last has ended before
        worker.says("done", job=job["job"], report=REPORT)
    for _message in range(4):
        bench.turn()
    assert [reply["op"] for reply in all_replies(bench)[before:]] == ["cancelled", "done", "done"]
    assert bench.states() == ["idle"]
    assert bench.lease.active == {}


def test_a_lease_that_ends_stops_all_its_requests_in_a_worker(bench: Bench) -> None:
    (worker,) = deep(bench, ["cuda:0"])
    for _frame in range(3):
        bench.submit()
    jobs = [job["job"] for job in jobs_of(worker)]
    bench.dispatcher.drop(bench.lease)
    assert [message["job"] for message in jobs_of(worker)] == jobs
    assert not bench.dispatcher.computes


def test_the_deadline_of_a_request_that_waits_in_a_worker_is_kept(bench: Bench) -> None:
    (worker,) = deep(bench, ["cuda:0"])
    before = len(all_replies(bench))
    for _frame in range(2):
        bench.submit()
    jobs = jobs_of(worker)
    waiting = bench.dispatcher.workers[0].requests[1]
    waiting.deadline, waiting.message = time.monotonic(), {**waiting.message, "deadline_ms": 1}
    bench.dispatcher.tick(time.monotonic())
    (late,) = all_replies(bench)[before:]
    assert (late["code"], late["started"], late["held"]) == ("E_DEADLINE", False, True)
    assert jobs_of(worker) == [{"op": "cancel", "job": jobs[1]["job"]}]
    worker.says("cancelled", job=jobs[1]["job"])
    bench.turn()
    assert all_replies(bench)[-1]["op"] == "released"


def test_a_release_waits_for_all_requests_of_a_worker_and_sends_it_no_more(bench: Bench) -> None:
    (worker,) = deep(bench, ["cuda:0"])
    for _frame in range(2):
        bench.submit()
    jobs = jobs_of(worker)
    request = Request(bench.lease, {"op": "release", "id": os.urandom(16)}, time.monotonic())
    bench.lease.active[request.id] = request
    bench.dispatcher.release(request)
    bench.submit()
    for job in jobs:
        assert bench.states() == ["busy"]
        worker.says("done", job=job["job"], report=REPORT)
        bench.turn()
    assert bench.states() == ["retiring"]
    assert [message["op"] for message in jobs_of(worker)] == ["exit"]


def test_memory_is_forgotten_by_a_worker_that_is_never_idle(bench: Bench) -> None:
    (worker,) = deep(bench, ["cuda:0"])
    for _frame in range(3):
        bench.submit()
    jobs = jobs_of(worker)
    key = next(iter(jobs[0]["keys"]))
    worker.says("done", job=jobs[0]["job"], report=REPORT)
    bench.turn()
    bench.dispatcher.forget([key])
    assert jobs_of(worker) == []
    worker.says("done", job=jobs[1]["job"], report=REPORT)
    bench.turn()
    assert bench.states() == ["busy"]
    assert jobs_of(worker) == [{"op": "forget", "keys": [key]}]


def test_the_time_of_a_request_begins_when_the_worker_is_done_with_the_one_before(
    bench: Bench,
) -> None:
    (worker,) = deep(bench, ["cuda:0"])
    for _frame in range(2):
        bench.submit()
    first, second = bench.dispatcher.workers[0].requests
    assert first.started is not None
    assert second.started is not None
    first.started -= 50
    second.started -= 50
    worker.says("done", job=first.job, report=REPORT)
    bench.turn()
    assert time.monotonic() - second.started < 50
