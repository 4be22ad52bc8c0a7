"""Jobs on a given executor, bounded by bytes, that can be stopped and have then really ended.

    waiting --fits the bytes--> queued at the executor --thread takes it--> running --> ended
        \\------------------------------\\---- stop() drops both

The futures of an executor are not enough: cancelling one through an event loop reports success
while its thread goes on. Here every job records under a lock that it starts, so that `ended` is set
only when no thread uses the caller's memory any more: the rule that must not be broken.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, Optional


class Job(NamedTuple):
    """Something to run, and the memory that it takes while it runs."""

    run: Callable[[], None]
    size_bytes: int = 0


def _at_once(call: Callable[[], None]) -> None:
    call()


class BoundedJobs:
    """Runs jobs in order of their start; `ended` resolves when the last one has left its thread.

    submit: gives a call to an executor and returns an object with `cancel()`. hop: runs a call in
    the thread from which `submit` may be used (that of an event loop); by default any thread may.
    limit_bytes: of the jobs that are queued or running, together; a larger job runs alone. A job
    that raises stops the others, and `ended` raises its exception.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        submit: Callable[[Callable[[], None]], Any],
        *,
        hop: Callable[[Callable[[], None]], Any] = _at_once,
        limit_bytes: Optional[int] = None,
    ) -> None:
        self.ended: Future[None] = Future()
        self._submit = submit
        self._hop = hop
        self._limit = limit_bytes
        self._lock = threading.RLock()
        self._waiting = deque(enumerate(jobs))
        self._queued: dict[int, Job] = {}
        self._running = 0
        self._bytes = 0
        self._handles: list[Any] = []
        self._error: Optional[BaseException] = None

    def start(self) -> None:
        """Begin; to be called where `submit` may be used."""
        self._go_on()

    def stop(self, error: Optional[BaseException] = None) -> None:
        """Start no more jobs; running ones finish. May be called from any thread."""
        with self._lock:
            self._error = self._error or error
            self._waiting.clear()
            self._bytes -= sum(job.size_bytes for job in self._queued.values())
            self._queued.clear()
            handles, self._handles = self._handles, []
        self._hop(partial(self._drop, handles))

    def _drop(self, handles: list[Any]) -> None:
        for handle in handles:
            handle.cancel()
        self._look()

    def _go_on(self) -> None:
        """Queue what fits."""
        while True:
            with self._lock:
                if not self._waiting or not self._fits(self._waiting[0][1]):
                    break
                number, job = self._waiting.popleft()
                self._queued[number] = job
                self._bytes += job.size_bytes
            try:
                handle = self._submit(partial(self._run, number))
            except RuntimeError as refused:  # the executor was shut down
                self.stop(refused)
                break
            self._handles.append(handle)
        self._look()

    def _fits(self, job: Job) -> bool:
        alone = not self._queued and not self._running
        return self._limit is None or alone or self._bytes + job.size_bytes <= self._limit

    def _run(self, number: int) -> None:
        """In a thread of the executor."""
        with self._lock:
            job = self._queued.pop(number, None)
            if job is None:
                return  # dropped while it was queued
            self._running += 1
        try:
            job.run()
        except BaseException as error:
            self.stop(error)
        finally:
            # The job no longer uses the caller's memory; it is counted where jobs are submitted.
            self._hop(partial(self._left, job))

    def _left(self, job: Job) -> None:
        with self._lock:
            self._running -= 1
            self._bytes -= job.size_bytes
        self._go_on()

    def _look(self) -> None:
        with self._lock:
            if self._waiting or self._queued or self._running or self.ended.done():
                return
            self._handles.clear()
            if self._error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(self._error)
