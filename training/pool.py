"""The layer pairs that shots are composed from, kept as bytes on the device that composes.

A ring of `capacity` pairs; new ones take the place of the oldest. What is in it at a step follows
from two numbers alone (the first pair and the next), so a run that is taken up again finds the
same pairs: they are drawn once more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.farm import LayerFarm
from training.layers import SIDE, LayerPair


@dataclass(frozen=True)
class Layers:
    """Chosen layers: subject (N, 4, S, S) and background (N, 3, S, S), uint8; is_screen (N,)."""

    subject: Tensor
    background: Tensor
    is_screen: Tensor


class LayerPool:
    """A ring of layer pairs, filled from a farm."""

    def __init__(self, capacity: int, *, device: str = "cpu", side: int = SIDE) -> None:
        self.capacity = capacity
        self._subjects = torch.zeros((capacity, side, side, 4), dtype=torch.uint8, device=device)
        self._sets = torch.zeros((capacity, side, side, 3), dtype=torch.uint8, device=device)
        self._screens = torch.zeros(capacity, dtype=torch.float32, device=device)
        self.first = self.next = 0

    @property
    def device(self) -> torch.device:
        return self._subjects.device

    def refill(self, farm: LayerFarm, first: int, until: int) -> None:
        """Empty the ring, then take the pairs from `first` (where the farm stands) to `until`."""
        assert farm.number == first
        self.first = self.next = first
        while self.next < until:
            self.take(farm)

    def take(self, farm: LayerFarm, *, wait: bool = True) -> bool:
        """One more pair; whether there was one."""
        pair = farm.next(wait=wait)
        if pair is None:
            return False
        self._put(self.next % self.capacity, pair)
        self.next += 1
        return True

    def choose(self, rng: np.random.Generator, count: int) -> Layers:
        """Subjects and sets at random, not in the pairs that they came in."""
        held = range(max(self.first, self.next - self.capacity), self.next)
        device = self._subjects.device
        subjects, sets = (
            torch.from_numpy(rng.integers(held.start, held.stop, count) % self.capacity).to(device)
            for _ in range(2)
        )
        return Layers(
            self._subjects[subjects].permute(0, 3, 1, 2),
            self._sets[sets].permute(0, 3, 1, 2),
            self._screens[sets],
        )

    def _put(self, place: int, pair: LayerPair) -> None:
        self._subjects[place].copy_(torch.from_numpy(pair.subject))
        self._sets[place].copy_(torch.from_numpy(pair.background))
        self._screens[place] = float(pair.is_screen)
