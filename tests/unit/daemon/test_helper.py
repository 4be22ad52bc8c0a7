"""The helper thread: work of all sessions in turns, and nothing left of work that was dropped."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from typing import Any

import pytest

from mattebridge.daemon.loop import Helper, Loop
from mattebridge.errors import QuotaError
from mattebridge.wire import linux, oslayer


class Gate:
    """Keeps the helper busy until everything is queued."""

    def __init__(self, helper: Helper) -> None:
        self._event = threading.Event()
        helper.do(self._steps(), lambda _result: None, owner="gate")

    def _steps(self) -> Generator[None, None, None]:
        self._event.wait(60)
        yield

    def open(self) -> None:
        self._event.set()


def steps(name: str, count: int, log: list[str]) -> Generator[None, None, str]:
    for _ in range(count):
        log.append(name)
        yield
    return name


def run(loop: Loop, results: list[Any], wanted: int) -> None:
    for _ in range(1000):
        if len(results) == wanted:
            return
        loop.turn(0.1)
    raise AssertionError(results)


def test_a_small_task_does_not_wait_for_the_large_ones_of_others() -> None:
    loop, log, results = Loop(), list[str](), list[Any]()
    helper = Helper(loop)
    gate = Gate(helper)
    for owner in ("large-1", "large-2", "large-3"):
        helper.do(steps(owner, 50, log), results.append, owner=owner)
    helper.do(steps("small", 1, log), results.append, owner="small")
    gate.open()
    run(loop, results, 4)
    assert results[0] == "small"
    # Each of the others has had its turn once, and one of them perhaps twice.
    assert log.index("small") <= 4


def test_the_tasks_of_one_owner_are_done_in_their_order() -> None:
    loop, log, results = Loop(), list[str](), list[Any]()
    helper = Helper(loop)
    gate = Gate(helper)
    for number in range(5):
        helper.do(steps(f"task-{number}", 3, log), results.append, owner="one")
    helper.do(steps("other", 3, log), results.append, owner="other")
    gate.open()
    run(loop, results, 6)
    assert [name for name in log if name != "other"] == sorted(log)[3:]
    assert results.index("other") <= 1


def test_an_exception_is_the_result_and_the_helper_goes_on() -> None:
    loop, results = Loop(), list[Any]()
    helper = Helper(loop)

    def failing() -> Generator[None, None, None]:
        yield
        raise QuotaError("no memory", limit="memory")

    helper.do(failing(), results.append, owner="one")
    helper.do(steps("next", 2, []), results.append, owner="one")
    run(loop, results, 2)
    assert isinstance(results[0], QuotaError)
    assert results[1] == "next"


def test_memory_is_allocated_in_steps_and_is_the_same_in_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linux, "STEP_BYTES", 4096)
    layer = oslayer.current()
    allocation = layer.allocate_memory(3 * 4096 + 64)
    count = 0
    while True:
        try:
            next(allocation)
            count += 1
        except StopIteration as done:
            descriptor = done.value
            break
    assert count == 4
    layer.check_memory(descriptor, 3 * 4096 + 64)
    assert os.fstat(descriptor).st_size == 3 * 4096 + 64
    os.close(descriptor)


def test_an_allocation_that_is_dropped_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linux, "STEP_BYTES", 4096)
    allocation = oslayer.current().allocate_memory(16 * 4096)
    before = len(os.listdir("/proc/self/fd"))
    next(allocation)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    allocation.close()
    assert len(os.listdir("/proc/self/fd")) == before
