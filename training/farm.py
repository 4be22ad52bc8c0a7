"""Processes that draw groups of canvases ahead of the training.

    worker w draws groups first+w, first+w+n, ...  into a few buffers of its own, in shared memory
    next() returns them by number: first, first+1, ...

Groups are returned by number, not in order of completion: the same seed gives the same groups in
the same order with any number of workers. With `any_order` they are returned as they are completed,
so that a group that takes long holds none up. Without workers `next` draws the group itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any

import numpy as np

from training.canvases import CHANNELS, FLAGS, GROUP, USUAL, Drawing, Group, draw_group

# How many finished groups a worker may hold; one takes 63 MB.
_AHEAD = 2
# Niceness of the workers, so that training goes first. With 5 they took so much of two cores that a
# training step on both cores was slower than on one.
_NICE = 12
# A worker that has not drawn a group after this long is stuck.
_STUCK_S = 600.0


class CanvasFarm:
    """Groups of one seed from number `first` on, drawn by `workers` processes."""

    def __init__(
        self,
        seed: int,
        first: int = 0,
        *,
        workers: int = 0,
        drawing: Drawing = USUAL,
        any_order: bool = False,
    ) -> None:
        self._seed, self._number, self._drawing = seed, first, drawing
        self._hands = [_Hand(seed, first + w, workers, drawing) for w in range(workers)]
        self._first, self._any_order = first, any_order

    @property
    def number(self) -> int:
        """The number of the group that `next` returns; in any order: how many came before."""
        return self._number

    def next(self, *, wait: bool = True) -> Group | None:
        """The next group; None if it is not drawn yet and `wait` is false."""
        if not self._hands:
            group: Group | None = draw_group(self._seed, self._number, self._drawing)
        elif self._any_order:
            group = self._any(wait)
        else:
            hand = self._hands[(self._number - self._first) % len(self._hands)]
            group = hand.take(wait)
        if group is not None:
            self._number += 1
        return group

    def _any(self, wait: bool) -> Group | None:
        """A group that some process has completed."""
        until = time.monotonic() + _STUCK_S
        while True:
            for hand in list(self._hands):
                group = hand.take(False)
                if group is not None:
                    # The next time it is the last that is asked.
                    self._hands.remove(hand)
                    self._hands.append(hand)
                    return group
            if not wait:
                return None
            if time.monotonic() > until:
                raise RuntimeError(f"no canvas process has drawn anything for {_STUCK_S:.0f} s")
            time.sleep(0.05)

    def close(self) -> None:
        """End the processes."""
        for hand in self._hands:
            hand.end()
        self._hands = []

    def __enter__(self) -> CanvasFarm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Hand:
    """One worker process and its buffers in shared memory, used in turn."""

    def __init__(self, seed: int, first: int, stride: int, drawing: Drawing) -> None:
        context = multiprocessing.get_context("spawn")
        self._memory = context.RawArray("B", _AHEAD * _place_bytes(drawing.size))
        self._ready, self._free = context.Semaphore(0), context.Semaphore(_AHEAD)
        self._places = _places(self._memory, drawing.size)
        self._taken = 0
        self._process: SpawnProcess = context.Process(
            target=_work,
            args=(seed, first, stride, drawing, self._memory, self._ready, self._free),
            daemon=True,
        )
        self._process.start()

    def take(self, wait: bool) -> Group | None:
        waited = 0.0
        while not self._ready.acquire(timeout=1.0 if wait else 0.0):
            if not self._process.is_alive():
                raise RuntimeError(f"a canvas process ended with status {self._process.exitcode}")
            if not wait:
                return None
            waited += 1.0
            if waited > _STUCK_S:
                raise RuntimeError(f"a canvas process has drawn nothing for {_STUCK_S:.0f} s")
        place = self._places[self._taken % _AHEAD]
        group = Group(place.planes.copy(), place.flags.copy(), place.moved.copy())
        self._taken += 1
        self._free.release()
        return group

    def end(self) -> None:
        self._process.terminate()
        self._process.join(10)
        self._process.close()


def _place_bytes(size: int) -> int:
    return GROUP * (CHANNELS * size * size + len(FLAGS) + 2)


def _places(memory: Any, size: int) -> list[Group]:
    """The buffers as groups: arrays over the shared memory, which both processes see."""
    places = []
    for values in np.frombuffer(memory, np.uint8).reshape(_AHEAD, -1):
        ends = np.cumsum([GROUP * CHANNELS * size * size, GROUP * len(FLAGS)])
        planes, flags, moved = np.split(values, ends)
        shape = (GROUP, CHANNELS, size, size)
        places.append(
            Group(
                planes.reshape(shape),
                flags.reshape(GROUP, -1),
                moved.view(np.int8).reshape(GROUP, 2),
            )
        )
    return places


def _work(
    seed: int, first: int, stride: int, drawing: Drawing, memory: Any, ready: Any, free: Any
) -> None:
    """Main loop of a worker: wait for a free buffer, draw into it, mark it as ready."""
    # Ctrl-C reaches the whole process group; the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICE)
    parent, places = os.getppid(), _places(memory, drawing.size)
    taken = 0
    while True:
        while not free.acquire(timeout=5.0):
            if os.getppid() != parent:
                return
        group, place = draw_group(seed, first + taken * stride, drawing), places[taken % _AHEAD]
        place.planes[:], place.flags[:], place.moved[:] = group.planes, group.flags, group.moved
        taken += 1
        ready.release()
