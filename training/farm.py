"""Processes that draw layer pairs ahead of the training; no torch in here, so they start quickly.

    worker w draws the pairs first+w, first+w+n, ...  into its own few places of shared memory
    next() takes them in their order: first, first+1, ...

The order is the number's, never that of arrival: the same seed gives the same pairs in the same
order with any number of workers, also with none, when they are drawn where they are asked for.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.context import SpawnProcess
from types import TracebackType
from typing import Any

import numpy as np

from training.layers import SIDE, LayerPair, draw_pair

# How many pairs each worker may be ahead.
_AHEAD = 4
# A worker that has not drawn a pair after this long is stuck.
_STUCK_S = 120.0
_PLANES = 7


class LayerFarm:
    """Layer pairs of one seed from number `first` on, drawn by `workers` processes."""

    def __init__(self, seed: int, first: int = 0, *, workers: int = 0, side: int = SIDE) -> None:
        self._seed, self._number, self._side = seed, first, side
        self._hands = [_Hand(seed, first + w, workers, side) for w in range(workers)]
        self._first = first

    @property
    def number(self) -> int:
        """The number of the pair that `next` gives."""
        return self._number

    def next(self, *, wait: bool = True) -> LayerPair | None:
        """The next pair; None when it is not drawn yet and `wait` is off."""
        if not self._hands:
            pair: LayerPair | None = draw_pair(self._seed, self._number, self._side)
        else:
            hand = self._hands[(self._number - self._first) % len(self._hands)]
            pair = hand.take(wait)
        if pair is not None:
            self._number += 1
        return pair

    def close(self) -> None:
        """End the processes."""
        for hand in self._hands:
            hand.end()
        self._hands = []

    def __enter__(self) -> LayerFarm:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Hand:
    """One worker with its places in shared memory, filled and emptied in turn."""

    def __init__(self, seed: int, first: int, stride: int, side: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._memory = context.RawArray("B", _AHEAD * (side * side * _PLANES + 1))
        self._ready, self._free = context.Semaphore(0), context.Semaphore(_AHEAD)
        self._places = _places(self._memory, side)
        self._taken = 0
        self._process: SpawnProcess = context.Process(
            target=_work,
            args=(seed, first, stride, side, self._memory, self._ready, self._free),
            daemon=True,
        )
        self._process.start()

    def take(self, wait: bool) -> LayerPair | None:
        waited = 0.0
        while not self._ready.acquire(timeout=1.0 if wait else 0.0):
            if not self._process.is_alive():
                raise RuntimeError(f"a layer process ended with status {self._process.exitcode}")
            if not wait:
                return None
            waited += 1.0
            if waited > _STUCK_S:
                raise RuntimeError(f"a layer process has drawn nothing for {_STUCK_S:.0f} s")
        place = self._places[self._taken % _AHEAD]
        pair = LayerPair(
            place[:, :, :4].copy(),
            place[:, :, 4:].copy(),
            bool(self._memory[len(self._memory) - _AHEAD + self._taken % _AHEAD]),
        )
        self._taken += 1
        self._free.release()
        return pair

    def end(self) -> None:
        self._process.terminate()
        self._process.join(10)
        self._process.close()


def _places(memory: Any, side: int) -> Any:
    size = _AHEAD * side * side * _PLANES
    return np.frombuffer(memory, np.uint8, size).reshape(_AHEAD, side, side, _PLANES)


def _work(
    seed: int, first: int, stride: int, side: int, memory: Any, ready: Any, free: Any
) -> None:
    """The life of a worker: wait for a free place, draw into it, say so."""
    # Ctrl-C reaches the whole group; ending is the parent's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
    parent, places = os.getppid(), _places(memory, side)
    taken = 0
    while True:
        while not free.acquire(timeout=5.0):
            if os.getppid() != parent:
                return
        pair = draw_pair(seed, first + taken * stride, side)
        place = taken % _AHEAD
        places[place, :, :, :4], places[place, :, :, 4:] = pair.subject, pair.background
        memory[len(memory) - _AHEAD + place] = pair.is_screen
        taken += 1
        ready.release()
