"""Steps beside each other: the same results in whatever thread, and no step that waits for ever."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch

from mattebridge.models.tasks import begin


@pytest.fixture(autouse=True)
def the_threads_there_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[1, 2, 4])
def threads(request: pytest.FixtureRequest) -> int:
    torch.set_num_threads(request.param)
    return int(request.param)


def test_results_and_errors_are_those_of_the_steps(threads: int) -> None:
    divided = [begin(divmod, 7, divisor) for divisor in (2, 3, 0)]
    assert [task.result() for task in divided[:2]] == [(3, 1), (2, 1)]
    with pytest.raises(ZeroDivisionError):
        divided[2].result()


def test_keywords_reach_the_step(threads: int) -> None:
    assert begin(sorted, [1, 3, 2], reverse=True).result() == [3, 2, 1]


def test_steps_that_begin_others_end_with_fewer_threads_than_steps(threads: int) -> None:
    def sum_of(depth: int) -> int:
        parts = [begin(sum_of, depth - 1) for _ in range(3)] if depth else []
        return 1 + sum(part.result() for part in parts)

    assert begin(sum_of, 4).result() == 1 + 3 + 9 + 27 + 81


def test_another_thread_takes_a_step_while_the_caller_goes_on() -> None:
    torch.set_num_threads(2)
    taken = threading.Event()
    task = begin(lambda: taken.set() or threading.get_ident())
    assert taken.wait(30)
    assert task.result() != threading.get_ident()


def test_with_one_thread_a_step_is_the_callers() -> None:
    torch.set_num_threads(1)
    assert begin(threading.get_ident).result() == threading.get_ident()


def test_a_thread_that_outlives_the_main_one_computes_on() -> None:
    """A program may matte its frames in a thread of its own. At the end of the main one, Python
    ends all pools of threads."""
    program = """
import threading, torch
from mattebridge.models.tasks import begin

def late():
    threading.main_thread().join()
    print(begin(divmod, 7, 2).result(), begin(divmod, 9, 2).result())

torch.set_num_threads(2)
task = begin(abs, -1)
threading.Thread(target=late).start()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("(3, 1) (4, 1)\n", "", 0)


def test_without_another_thread_all_steps_are_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    torch.set_num_threads(7)  # as many as no other test has
    monkeypatch.setattr(threading.Thread, "start", refused)
    tasks = [begin(threading.get_ident) for _ in range(3)]
    assert [task.result() for task in tasks] == [threading.get_ident()] * 3


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system has no fork"
)
def test_a_fork_has_threads_of_its_own() -> None:
    torch.set_num_threads(2)
    assert begin(abs, -1).result() == 1
    child = multiprocessing.get_context("fork").Process(target=_taken_in_a_child)
    child.start()
    child.join(30)
    assert child.exitcode == 0


def _taken_in_a_child() -> None:
    taken = threading.Event()
    begin(taken.set)
    raise SystemExit(0 if taken.wait(20) else 1)
