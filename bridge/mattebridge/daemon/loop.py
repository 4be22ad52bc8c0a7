"""One poll loop: sockets, descriptors, signals and finished background work, one at a time.

Everything in the front happens in callbacks of this loop, on its main thread, so nothing needs a
lock. What would take longer than a poll (allocating memory, copying a held plate) is handed to
`Helper`, one thread, whose results come back as callbacks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import threading
import time
from collections import deque
from typing import Any, Callable, Union

import zmq

log = logging.getLogger(__name__)

Source = Union[int, "zmq.Socket[bytes]"]
MAX_ERRORS_IN_A_ROW = 100
# So long after something was handled the next is looked for without sleeping: requests come in
# bursts, and waking up would cost as much as answering.
EAGER_S = 0.0001


class Loop:
    """Poll many sources; call one function for each that is readable."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._callbacks: dict[Source, Callable[[], None]] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._errors = 0
        self._eager = False
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self.watch(self._wake_read, self._awake)

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `source` can be read."""
        self._callbacks[source] = callback
        self._poller.register(source, zmq.POLLIN)

    def forget(self, source: Source) -> None:
        """Stop watching; before the descriptor is closed."""
        if self._callbacks.pop(source, None) is not None:
            self._poller.unregister(source)

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop; may be called from any thread or signal handler."""
        self._posted.append(callback)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop when the signal arrives."""
        signal.signal(number, lambda *_: self.post(callback))

    def turn(self, timeout_s: float) -> None:
        """Wait for something to happen, at most so long, and handle all of it."""
        ready = self._poll_eagerly() or self._poller.poll(max(0, round(timeout_s * 1000)))
        self._eager = bool(ready)
        for source, _event in ready:
            callback = self._callbacks.get(source)
            if callback is not None:
                self.call(callback)

    def _poll_eagerly(self) -> list[Any]:
        """What comes at once after something was handled."""
        ready: list[Any] = []
        until = time.perf_counter() + EAGER_S
        while self._eager and not ready and time.perf_counter() < until:
            ready = self._poller.poll(0)
        return ready

    def call(self, callback: Callable[[], None]) -> None:
        """Run one callback; an error in it is logged and is not everybody's end.

        A loop in which nothing works any more ends all the same.
        """
        try:
            callback()
        except Exception:
            self._errors += 1
            if self._errors >= MAX_ERRORS_IN_A_ROW:
                raise
            log.exception("an error in the loop")
        else:
            self._errors = 0

    def _awake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._posted:
            self.call(self._posted.popleft())


class Helper:
    """One background thread for the few things that are too slow for the loop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="helper", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        """Run `work` in the thread and `then` with its result, or its exception, on the loop."""
        self._work.put((work, then))

    def _run(self) -> None:
        while True:
            work, then = self._work.get()
            try:
                result = work()
            except BaseException as error:
                result = error
            self._loop.post(lambda then=then, result=result: then(result))  # type: ignore[misc]
