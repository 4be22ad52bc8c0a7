"""A worker of a pretended CUDA device: arenas are registered with its driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from fakes.pretended_cuda import CUDA, Counts, Driver, pretended_cuda
from fakes.searches import LONG_S, Searched
from mattebridge.daemon.hooks import Hooks
from mattebridge.daemon.worker import Worker
from mattebridge.engine.started import Results
from mattebridge.errors import ModelError
from mattebridge.wire import oslayer
from mattebridge.wire.slots import PlaneSpec, SlotMap, place

SIZE = 48
ARENA_BYTES = 2 << 20
GIVEN = [PlaneSpec("plate", 3, "f4"), PlaneSpec("clean_plate", 3, "f4")]
WANTED = [PlaneSpec("alpha", 1, "f4")]


class Front:
    """The other end of the link: keeps what is sent; `at` is called at each stage."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.at: Any = lambda stage: None
        self.coming: list[tuple[dict[str, Any], list[int]]] = []
        self.cancelled: set[int] = set()

    def send(self, **message: Any) -> None:
        self.sent.append(message)
        if message["op"] == "stage":
            self.at(message["stage"])

    def send_record(self, data: bytes) -> None:
        raise AssertionError("no test hook is set")

    def arrived(self) -> list[tuple[dict[str, Any], list[int]]]:
        arrived, self.coming = self.coming, []
        return arrived

    def is_cancelled(self, job: int) -> bool:
        return job in self.cancelled

    def finished(self, job: int) -> None:
        pass


class Bench:
    """A worker, its driver, and arenas as their client has mapped them, one for each frame."""

    def __init__(self, driver: Driver | None, device: str = str(CUDA)) -> None:
        self.driver, self.front = driver, Front()
        self.worker = Worker(self.front, device)  # type: ignore[arg-type]
        self.arenas: dict[int, tuple[int, SlotMap]] = {}

    @property
    def arena(self) -> SlotMap:
        return self.arenas[7][1]

    def message(
        self,
        generation: int,
        *,
        arena: int = 7,
        model: str = "difference",
        keep: bool = False,
        key: str | None = None,
    ) -> tuple[dict[str, Any], list[int]]:
        """A frame in an arena, as the front sends it: other pixels for each generation, but for
        the clean plate of a key."""
        new = arena not in self.arenas
        if new:
            fd = oslayer.current().create_memory(ARENA_BYTES)
            self.arenas[arena] = fd, SlotMap(os.dup(fd), ARENA_BYTES)
        fd, memory = self.arenas[arena]
        planes = place(SIZE, SIZE, [*GIVEN, *WANTED])
        memory.write_begin(generation)
        pixels = np.random.default_rng(generation).random((2, SIZE, SIZE, 3), np.float32)
        if key is not None:
            pixels[1] = np.random.default_rng(0).random((SIZE, SIZE, 3), np.float32)
        for plane, image in zip(planes, pixels):
            memory.array(plane)[:] = image
        memory.write_end(generation)
        roles = [asdict(plane) for plane in planes]
        message = {
            "op": "render",
            "job": generation,
            "arena": arena,
            "bytes": [[arena, ARENA_BYTES]],
            "keys": [arena] if new else [],
            "in": roles[:2],
            "out": roles[2:],
            "model": model,
            "params": {"colorspace": "srgb"},
            "frame": generation,
            "gen": generation,
            "keep": keep,
            **({} if key is None else {"clean_plate_key": key}),
        }
        return message, [fd] if new else []

    def render(self, generation: int) -> dict[str, Any]:
        """Send a frame; its terminal message."""
        self.worker.handle(*self.message(generation))
        return self.front.sent[-1]

    def render_together(self, *frames: tuple[dict[str, Any], list[int]]) -> list[tuple[str, int]]:
        """Send frames, all but the first while that one is read; their ends, in order."""
        self.front.at = lambda stage: self.front.coming.extend(later) or later.clear()
        later = list(frames[1:])
        self.worker.handle(*frames[0])
        return self.ends()

    def ends(self) -> list[tuple[str, int]]:
        return [(said["op"], said["job"]) for said in self.front.sent if said["op"] != "stage"]

    def alpha(self, arena: int) -> np.ndarray:
        return self.arenas[arena][1].array(place(SIZE, SIZE, [*GIVEN, *WANTED])[2]).copy()

    def close(self) -> None:
        for _fd, memory in self.arenas.values():
            memory.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    driver = Driver()
    with pretended_cuda(driver):
        made = Bench(driver)
        yield made
        made.close()


def test_an_arena_is_registered_by_its_first_frame_until_the_front_forgets_it(bench: Bench) -> None:
    assert bench.render(1)["op"] == "done"
    assert list(bench.driver.registered.values()) == [ARENA_BYTES]
    done = bench.render(2)
    assert done["memory"]["registered_bytes"] == ARENA_BYTES
    assert len(bench.driver.registered) == 1
    bench.worker.handle({"op": "forget", "keys": [7]}, [])
    assert bench.driver.registered == {}


def test_a_driver_that_registers_nothing_costs_no_frame(bench: Bench) -> None:
    bench.driver.lockable_bytes = 0
    done = bench.render(1)
    assert done["op"] == "done"
    assert done["memory"]["pageable_bytes"] == ARENA_BYTES
    assert done["memory"]["pageable_because"] == "out of memory (error 2)"
    bench.worker.handle({"op": "forget", "keys": [7]}, [])


def test_a_registered_arena_that_was_written_during_the_frame_is_torn(bench: Bench) -> None:
    """Its copies may run until the device is waited for, which is later than the stage `inputs`."""
    bench.front.at = lambda stage: bench.arena.write_begin(9) if stage == "finish" else None
    failed = bench.render(1)
    assert (failed["op"], failed["error"]["code"]) == ("failed", "E_TORN")


# -- frames that overlap --------------------------------------------------------------------------


@pytest.fixture
def counted() -> Iterator[tuple[Bench, Counts]]:
    with pretended_cuda() as counts:
        made = Bench(None)
        yield made, counts
        made.close()


def test_the_next_frame_is_copied_in_before_the_host_waits_for_a_copy_out(
    counted: tuple[Bench, Counts],
) -> None:
    bench, counts = counted
    counts.late = 10**6  # no copy is over unless it is waited for
    frames = [bench.message(number, arena=number) for number in (1, 2, 3)]
    counts.reset()
    assert bench.render_together(*frames) == [("done", 1), ("done", 2), ("done", 3)]
    copies_in = [i for i, (stream, what) in enumerate(counts.order) if what == "copy in"]
    waits = [i for i, noted in enumerate(counts.order) if noted == ("stream 2", "host waits")]
    ahead = [i for i in copies_in if counts.order[i][0] == "stream 1"]
    assert len(ahead) == 3  # the plates; clean plates are looked up when it is their turn
    assert len(waits) == 3
    assert max(ahead) < min(waits)
    # The steps wait for the planes on the device, and the copy out for the steps.
    assert counts.order.count(("steps", "waits for stream 1")) == 3
    assert counts.order.count(("stream 2", "waits for steps")) == 3
    assert counts.order.count(("steps", "uses memory of another stream")) == 3
    outs = [stream for stream, what in counts.order if what == "copy out"]
    # The results, and of each matte two images that the host looks at.
    assert outs.count("stream 2") == 9


def test_a_frame_is_reported_at_the_next_stage_of_another_once_its_results_have_arrived(
    counted: tuple[Bench, Counts],
) -> None:
    bench, counts = counted
    counts.late = 2
    bench.render_together(bench.message(1, arena=1), bench.message(2, arena=2))
    said = [(message["op"], message["job"]) for message in bench.front.sent]
    assert said.index(("stage", 2)) < said.index(("done", 1)) < said.index(("done", 2))
    assert not [message for message in bench.front.sent[said.index(("done", 1)) + 1 :]
                if message["job"] == 1]  # fmt: skip


def test_an_error_that_is_seen_with_the_results_ends_its_own_frame_alone(
    counted: tuple[Bench, Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, counts = counted
    counts.late = 10**6
    report, seen = Results.report, []

    def refused(self: Results, arrays: Any) -> Any:
        seen.append(1)
        if len(seen) == 1:
            raise ModelError("NaN or infinite values", reason="nonfinite")
        return report(self, arrays)

    monkeypatch.setattr(Results, "report", refused)
    ends = bench.render_together(*(bench.message(number, arena=number) for number in (1, 2)))
    assert ends == [("failed", 1), ("done", 2)]
    failed = next(said for said in bench.front.sent if said["op"] == "failed")
    assert failed["error"]["code"] == "E_MODEL"


def test_a_frame_that_is_cancelled_behind_its_steps_is_not_settled(
    counted: tuple[Bench, Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, counts = counted
    counts.late = 10**6
    report, settled, stages = Results.report, [], []

    def noted(self: Results, arrays: Any) -> Any:
        settled.append(self.prepared.request.frame)
        return report(self, arrays)

    monkeypatch.setattr(Results, "report", noted)
    later = [bench.message(2, arena=2)]

    def at(stage: str) -> None:
        stages.append(stage)
        bench.front.coming.extend(later)
        later.clear()
        if stages.count("inputs") == 2:  # the first frame has been computed
            bench.front.cancelled.add(1)

    bench.front.at = at
    bench.worker.handle(*bench.message(1, arena=1))
    assert bench.ends() == [("cancelled", 1), ("done", 2)]
    assert settled == [2]
    # Nothing writes into its arena any more.
    assert counts.order.count(("stream 2", "host waits")) == 2


def test_pixels_do_not_depend_on_the_frames_in_flight(counted: tuple[Bench, Counts]) -> None:
    bench, counts = counted
    counts.late = 3
    bench.render_together(*(bench.message(number, arena=number) for number in (1, 2, 3)))
    together = [bench.alpha(number) for number in (1, 2, 3)]
    for number in (1, 2, 3):
        bench.worker.handle(*bench.message(number, arena=9))
        assert np.array_equal(bench.alpha(9), together[number - 1])
    assert not np.array_equal(together[0], together[1])


def test_a_frame_that_waits_in_the_worker_and_is_cancelled_ends_before_the_one_it_waits_for(
    counted: tuple[Bench, Counts],
) -> None:
    bench, _counts = counted
    first, second = (bench.message(number, arena=number) for number in (1, 2))

    def at(stage: str) -> None:
        if stage == "inputs" and not bench.front.cancelled:
            bench.front.coming.append(second)
            bench.front.cancelled.add(2)

    bench.front.at = at
    before = bench.arenas[2][1].array(place(SIZE, SIZE, [*GIVEN, *WANTED])[2]).copy()
    bench.worker.handle(*first)
    assert bench.ends() == [("cancelled", 2), ("done", 1)]
    assert np.array_equal(bench.alpha(2), before)


def test_a_frame_that_fails_costs_those_beside_it_nothing(counted: tuple[Bench, Counts]) -> None:
    bench, _counts = counted
    frames = [bench.message(number, arena=number) for number in (1, 2, 3)]
    frames[1][0]["model"] = "no such model"
    ends = bench.render_together(*frames)
    assert sorted(ends, key=lambda end: end[1]) == [("done", 1), ("failed", 2), ("done", 3)]


def test_a_frame_that_an_artist_waits_for_is_computed_before_those_of_a_job(
    counted: tuple[Bench, Counts],
) -> None:
    bench, _counts = counted
    batch = [bench.message(number, arena=number) for number in (1, 2, 3)]
    asked = [bench.message(number, arena=number, keep=True) for number in (4, 5)]
    ends = bench.render_together(*batch, *asked)
    assert ends == [("done", number) for number in (1, 4, 5, 2, 3)]


def test_memory_that_was_sent_ahead_is_given_back_when_it_is_exhausted(
    counted: tuple[Bench, Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, counts = counted
    hooks = Hooks("model#1=oom:1")
    monkeypatch.setattr(bench.worker, "_hooks", hooks)
    monkeypatch.setattr("mattebridge.engine.engine.give_back", lambda device: None)
    counts.reset()
    ends = bench.render_together(bench.message(1, arena=1), bench.message(2, arena=2))
    assert ends == [("done", 1), ("done", 2)]
    # The second frame was sent ahead, dropped, and read in its turn on the stream of the steps.
    plates = [stream for stream, what in counts.order if what == "copy in"]
    assert plates.count("stream 1") == 2
    alone = Bench(None)
    alone.worker.handle(*alone.message(2, arena=2))
    assert np.array_equal(alone.alpha(2), bench.alpha(2))
    alone.close()


def test_the_clean_plate_of_the_next_frame_is_aligned_while_this_one_is_computed(
    counted: tuple[Bench, Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _counts = counted
    searched = Searched(monkeypatch)
    bench.worker.handle(*bench.message(1, arena=1, key="shot"))  # which keeps the clean plate
    first, second = (bench.message(number, arena=number, key="shot") for number in (2, 3))
    is_third: list[bool] = []

    def at(stage: str) -> None:
        if stage == "model" and not is_third:
            searched.begun.clear()
            bench.front.coming.append(second)
            is_third.append(True)
        elif stage == "foreground":
            assert searched.begun.wait(LONG_S)

    bench.front.at = at
    bench.worker.handle(*first)
    assert bench.ends()[1:] == [("done", 2), ("done", 3)]
    together = [bench.alpha(number) for number in (2, 3)]
    assert True in searched.threads
    bench.front.at = lambda stage: None
    monkeypatch.setattr(bench.worker._engine, "send_ahead", lambda *_, **__: None)
    for number in (2, 3):
        bench.worker.handle(*bench.message(number, arena=9, key="shot"))
        assert np.array_equal(bench.alpha(9), together[number - 2])


def test_a_frame_that_is_cancelled_while_it_waits_ends_its_search(
    counted: tuple[Bench, Counts], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, _counts = counted
    searched = Searched(monkeypatch)
    bench.worker.handle(*bench.message(1, arena=1, key="shot"))
    first = bench.message(2, arena=2)  # of no clean plate that is kept
    second = bench.message(3, arena=3, key="shot")
    held = searched.hold()

    def at(stage: str) -> None:
        if stage == "inputs" and not bench.front.coming and not searched.begun.is_set():
            bench.front.coming.append(second)
        elif stage == "foreground":
            assert searched.begun.wait(LONG_S)
            bench.front.cancelled.add(3)

    bench.front.at = at
    bench.worker.handle(*first)
    assert bench.ends()[1:] == [("cancelled", 3), ("done", 2)]
    held.gate.set()
    assert held.over.wait(LONG_S)
    assert searched.ended == ["_Dropped"]
