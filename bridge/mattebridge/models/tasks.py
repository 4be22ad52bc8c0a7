"""Steps of one frame beside each other, where the CPU has several threads for it.

    task = begin(blurred, plate, 1.2)    another thread takes it as soon as it is free
    ...                                  other steps
    task.result()                        waits; what no thread has taken is computed here

For steps over arrays that OpenCV or numpy computes in one thread, and that let others run
meanwhile. There are as many threads as torch computes with, the caller's among them; with one, a
task is computed when its result is wanted. It is the same call in whatever thread, so that results
do not depend on how many there are. A task may begin tasks of its own: nothing waits for one that
no thread has taken.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Callable, Generic, Optional, TypeVar

import torch

if TYPE_CHECKING:
    from typing import ParamSpec

    Given = ParamSpec("Given")

Result = TypeVar("Result")


class Task(Generic[Result]):
    """A step that was begun."""

    def __init__(self, step: Callable[[], Result], future: Optional[Future[Result]]) -> None:
        """future: of the same step in another thread; None: there is none."""
        self._step, self._future = step, future

    def result(self) -> Result:
        """What the step gives or raises; asked for once."""
        if self._future is None or self._future.cancel():
            return self._step()
        return self._future.result()


def begin(
    step: Callable[Given, Result], *arguments: Given.args, **keywords: Given.kwargs
) -> Task[Result]:
    """Begin a step, which must not write into what others read meanwhile."""
    call = functools.partial(step, *arguments, **keywords)
    threads = torch.get_num_threads()
    if threads == 1:
        return Task(call, None)
    pool = _pool(threads - 1, os.getpid())
    try:
        return Task(call, pool.submit(call))
    except RuntimeError:
        # No thread starts any more: the main thread has ended and this one goes on, or the system
        # has none left. What still waits for one is computed where it is wanted, too.
        pool.shutdown(wait=False, cancel_futures=True)
        return Task(call, None)


@functools.cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """process: a fork has none of the threads of its parent."""
    return ThreadPoolExecutor(threads, thread_name_prefix="task")
