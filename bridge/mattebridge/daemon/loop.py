"""One poll loop: sockets, descriptors, signals and finished background work, one at a time.

All work of the front is done in callbacks of this loop, on its main thread, so nothing needs a
lock. What would block the loop (allocating memory, copying a clean plate) is done by `Helper`, one
thread, whose results come back as callbacks.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections import deque
from typing import Any, Callable, Union

import zmq

from mattebridge.wire import oslayer

log = logging.getLogger(__name__)

Source = Union[int, "zmq.Socket[bytes]"]
MAX_ERRORS_IN_A_ROW = 100
# For this long after an event the loop polls without sleeping: requests come in bursts, and waking
# up would take as long as replying.
EAGER_S = 0.0001


class Loop:
    """Poll many sources; call one function for each that is readable."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._callbacks: dict[Source, Callable[[], None]] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._errors = 0
        self._eager = False
        self._wake_up = oslayer.current().wake_up()
        self.watch(self._wake_up.fileno(), self._awake)

    def watch(self, source: Source, callback: Callable[[], None]) -> None:
        """Call `callback` whenever `source` can be read."""
        self._callbacks[source] = callback
        self._poller.register(source, zmq.POLLIN)

    def forget(self, source: Source) -> None:
        """Stop watching a source; to be called before its descriptor is closed."""
        if self._callbacks.pop(source, None) is not None:
            self._poller.unregister(source)

    def post(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop; may be called from any thread or signal handler."""
        self._posted.append(callback)
        self._wake_up.wake()

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop when the signal arrives."""
        signal.signal(number, lambda *_: self.post(callback))

    def turn(self, timeout_s: float) -> None:
        """Wait for events, for at most `timeout_s`, and handle all of them."""
        ready = self._poll_eagerly() or self._poller.poll(max(0, round(timeout_s * 1000)))
        self._eager = bool(ready)
        for source, _event in ready:
            callback = self._callbacks.get(source)
            if callback is not None:
                self.call(callback)

    def _poll_eagerly(self) -> list[Any]:
        """Events that follow another one within `EAGER_S`."""
        ready: list[Any] = []
        until = time.perf_counter() + EAGER_S
        while self._eager and not ready and time.perf_counter() < until:
            ready = self._poller.poll(0)
        return ready

    def call(self, callback: Callable[[], None]) -> None:
        """Run one callback; log an error in it and go on.

        After `MAX_ERRORS_IN_A_ROW` errors in a row the error is raised: nothing works any more.
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
        self._wake_up.clear()
        while self._posted:
            self.call(self._posted.popleft())


class Helper:
    """One background thread for the work that would block the loop."""

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
