"""One poll loop: sockets, descriptors, signals and finished background work, one at a time.

All work of the front is done in callbacks of this loop, on its main thread, so nothing needs a
lock. What would block the loop (allocating memory, copying a clean plate) is done by `Helper`, one
thread, whose results come back as callbacks. It does the work of all sessions in turns, a short
step at a time: a session that wants gigabytes does not keep the others waiting.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Generator, Hashable
from typing import Any, Callable, NamedTuple, Union

import zmq

from mattebridge.wire import oslayer

log = logging.getLogger(__name__)

Source = Union[int, "zmq.Socket[bytes]"]
MAX_ERRORS_IN_A_ROW = 100
# For this long after an event the loop polls without sleeping: requests come in bursts, and waking
# up would take as long as replying.
EAGER_S = 0.0001


class HandlePoller:
    """What `zmq.Poller` does, for systems where all sources are descriptors of the layer."""

    def __init__(self, layer: oslayer.OsLayer) -> None:
        self._layer = layer
        self._sources: dict[Any, None] = {}

    def register(self, source: Any, _events: int) -> None:
        """See `zmq.Poller`."""
        self._sources[source] = None

    def unregister(self, source: Any) -> None:
        """See `zmq.Poller`."""
        del self._sources[source]

    def poll(self, timeout_ms: int) -> list[tuple[Any, int]]:
        """See `zmq.Poller`."""
        return [(found, zmq.POLLIN) for found in self._layer.wait(self._sources, timeout_ms / 1000)]


class Loop:
    """Poll many sources; call one function for each that is readable."""

    def __init__(self) -> None:
        layer = oslayer.current()
        self._poller = HandlePoller(layer) if layer.control_is_records else zmq.Poller()
        self._callbacks: dict[Source, Callable[[], None]] = {}
        self._posted: deque[Callable[[], None]] = deque()
        self._errors = 0
        self._eager = False
        self._wake_up = layer.wake_up()
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


class Task(NamedTuple):
    """Work in short steps: it yields after each, and returns its result."""

    steps: Generator[None, None, Any]
    then: Callable[[Any], None]


class Helper:
    """One background thread for the work that would block the loop, in turns for all owners."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._new: queue.SimpleQueue[tuple[Hashable, Task]] = queue.SimpleQueue()
        # By owner, the one that was served longest ago first. Only the thread touches it.
        self._lines: OrderedDict[Hashable, deque[Task]] = OrderedDict()
        self._thread = threading.Thread(target=self._run, name="helper", daemon=True)
        self._thread.start()

    def do(
        self, steps: Generator[None, None, Any], then: Callable[[Any], None], *, owner: Hashable
    ) -> None:
        """Run `steps` in the thread and `then` with its result, or its exception, on the loop.

        The tasks of one owner are done one after the other, those of several in turns.
        """
        self._new.put((owner, Task(steps, then)))

    def _run(self) -> None:
        while True:
            while not self._lines or not self._new.empty():
                owner, task = self._new.get()
                self._lines.setdefault(owner, deque()).append(task)
            owner, line = self._lines.popitem(last=False)
            if self._ends(line[0]):
                line.popleft()
            if line:
                self._lines[owner] = line

    def _ends(self, task: Task) -> bool:
        """Do one step; whether it was the last, whose result is on its way."""
        try:
            next(task.steps)
            return False
        except StopIteration as done:
            result = done.value
        except BaseException as error:
            result = error
        self._loop.post(lambda: task.then(result))
        return True
