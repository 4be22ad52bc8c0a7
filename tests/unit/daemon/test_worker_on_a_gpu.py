"""A worker of a pretended CUDA device: arenas are registered with its driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from fakes.pretended_cuda import CUDA, Driver, pretended_cuda
from mattebridge.daemon.worker import Worker
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

    def send(self, **message: Any) -> None:
        self.sent.append(message)
        if message["op"] == "stage":
            self.at(message["stage"])

    def send_record(self, data: bytes) -> None:
        raise AssertionError("no test hook is set")

    def is_cancelled(self, job: int) -> bool:
        return False

    def finished(self, job: int) -> None:
        pass


class Bench:
    """A worker, its driver, and an arena as the client has mapped it."""

    def __init__(self, driver: Driver) -> None:
        self.driver, self.front = driver, Front()
        self.worker = Worker(self.front, str(CUDA))  # type: ignore[arg-type]
        layer = oslayer.current()
        self._fd = layer.create_memory(ARENA_BYTES)
        self.arena = SlotMap(os.dup(self._fd), ARENA_BYTES)
        self._known = False

    def render(self, generation: int) -> dict[str, Any]:
        """Send a frame; its terminal message."""
        planes = place(SIZE, SIZE, [*GIVEN, *WANTED])
        self.arena.write_begin(generation)
        pixels = np.random.default_rng(2).random((2, SIZE, SIZE, 3), np.float32)
        for plane, image in zip(planes, pixels):
            self.arena.array(plane)[:] = image
        self.arena.write_end(generation)
        roles = [asdict(plane) for plane in planes]
        message = {
            "op": "render",
            "job": generation,
            "arena": 7,
            "bytes": [[7, ARENA_BYTES]],
            "in": roles[:2],
            "out": roles[2:],
            "model": "difference",
            "params": {"colorspace": "srgb"},
            "frame": generation,
            "gen": generation,
        }
        if not self._known:
            message["keys"], self._known = [7], True
            self.worker.handle(message, [self._fd])
        else:
            self.worker.handle(message, [])
        return self.front.sent[-1]


@pytest.fixture
def bench() -> Iterator[Bench]:
    driver = Driver()
    with pretended_cuda(driver):
        made = Bench(driver)
        yield made
        made.arena.close()


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
