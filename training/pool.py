"""The canvases that are trained on, kept as bytes on the training device, and the crops of them.

A ring that groups of canvases are put into; new ones take the place of the oldest. What is in it at
a step follows from two numbers alone (the first group and the next), so a run that is taken up
again finds the same canvases: they are drawn once more.
"""

from __future__ import annotations

import numpy as np
import torch

from training.canvases import (
    CHANNELS,
    FLAGS,
    GROUP,
    PLANES,
    TWINS,
    Group,
    KeyedShots,
    unpacked,
)
from training.farm import CanvasFarm

# Shots that are seen mirrored, and with their colour channels in another order.
_MIRRORED, _RECOLOURED = 0.5, 0.5


class CanvasPool:
    """A ring of at least `capacity` canvases, whole groups of them, filled from a farm.

    first, next: the groups that were put in, of which the newest `groups` are there.
    """

    def __init__(self, capacity: int, *, size: int, device: str = "cpu") -> None:
        self.groups = max(1, -(-capacity // GROUP))
        shape = (self.groups, GROUP, CHANNELS, size, size)
        self._planes = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._flags = torch.zeros((*shape[:2], len(FLAGS)), dtype=torch.uint8, device=device)
        self.first = self.next = 0

    @property
    def held(self) -> int:
        """How many canvases there are."""
        return min(self.groups, self.next - self.first) * GROUP

    def refill(self, farm: CanvasFarm, first: int, until: int) -> None:
        """Empty the ring, then take the groups from `first` (where the farm stands) to `until`."""
        assert farm.number == first
        self.first = self.next = first
        while self.next < until:
            self.take(farm)

    def take(self, farm: CanvasFarm, *, wait: bool = True) -> bool:
        """One more group; whether there was one."""
        group = farm.next(wait=wait)
        if group is None:
            return False
        self._put(self.next % self.groups, group)
        self.next += 1
        return True

    def crops(self, seed: int, step: int, count: int, size: int, twins: int = 0) -> KeyedShots:
        """The batch of a step: squares anywhere in canvases at random, some changed.

        The last 2 * `twins` of them are of twins, changed alike: first one of each, then the other.
        """
        rng = np.random.default_rng([seed, step, 98])
        places = self._places(rng, count, twins)
        corners = rng.integers(0, self._planes.shape[-1] - size + 1, (count, 2))
        mirrored = rng.random(count) < _MIRRORED
        orders = _channel_orders(rng, count)
        for decided in (corners, mirrored, orders):
            decided[count - twins :] = decided[count - 2 * twins : count - twins]
        canvases, flags = self._planes.flatten(0, 1), self._flags.flatten(0, 1)
        parts = [
            canvases[place, :, top : top + size, left : left + size]
            for place, (top, left) in zip(places, corners)
        ]
        seen = [part.flip(-1) if flip else part for part, flip in zip(parts, mirrored)]
        order = torch.from_numpy(orders).to(canvases.device)
        shots = torch.arange(count, device=canvases.device)[:, None]
        return unpacked(
            torch.stack(seen)[shots, order], flags[torch.from_numpy(places).to(flags.device)]
        )

    def _places(self, rng: np.random.Generator, count: int, twins: int) -> np.ndarray:
        """Which canvases, as places in the ring."""
        oldest = self.next * GROUP - self.held
        any_ones = oldest + rng.integers(0, self.held, count - 2 * twins)
        groups = oldest // GROUP + rng.integers(0, self.held // GROUP, twins)
        pairs = np.array(TWINS)[rng.integers(0, len(TWINS), twins)]
        pairs += GROUP * groups[:, None]
        return np.concatenate([any_ones, *pairs.T]) % (self.groups * GROUP)

    def _put(self, place: int, group: Group) -> None:
        self._planes[place].copy_(torch.from_numpy(group.planes))
        self._flags[place].copy_(torch.from_numpy(group.flags))


def _channel_orders(rng: np.random.Generator, count: int) -> np.ndarray:
    """Where each channel of a canvas comes from, (N, CHANNELS): red, green and blue change places
    in all pictures of a shot alike."""
    rows = []
    for _ in range(count):
        colours = rng.permutation(3) if rng.random() < _RECOLOURED else np.arange(3)
        row: list[int] = []
        for channels in PLANES.values():
            row += (len(row) + (colours if channels == 3 else np.zeros(1, np.int64))).tolist()
        rows.append(row)
    return np.array(rows, np.int64)
