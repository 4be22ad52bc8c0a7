"""The canvases that are trained on, stored as bytes on the training device, and crops of them.

The pool is a ring buffer of groups: a new group replaces the oldest. Its content at a step follows
from two numbers (the first group and the next one), so a resumed run gets the same canvases by
drawing them again.
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

# Probabilities that a crop is mirrored, and that its colour channels are permuted.
_MIRRORED, _RECOLOURED = 0.5, 0.5


class CanvasPool:
    """A ring buffer of at least `capacity` canvases (whole groups), filled from a farm.

    Groups `first` to `next` - 1 have been put in; the newest `groups` of them are held.
    """

    def __init__(self, capacity: int, *, size: int, device: str = "cpu") -> None:
        self.groups = max(1, -(-capacity // GROUP))
        shape = (self.groups, GROUP, CHANNELS, size, size)
        self._planes = torch.zeros(shape, dtype=torch.uint8, device=device)
        self._flags = torch.zeros((*shape[:2], len(FLAGS)), dtype=torch.uint8, device=device)
        self._moved = np.zeros((*shape[:2], 2), np.int64)
        self.first = self.next = 0

    @property
    def held(self) -> int:
        """How many canvases are held."""
        return min(self.groups, self.next - self.first) * GROUP

    def refill(self, farm: CanvasFarm, first: int, until: int) -> None:
        """Empty the ring, then take groups `first` (the farm's next one) to `until` - 1."""
        assert farm.number == first
        self.first = self.next = first
        while self.next < until:
            self.take(farm)

    def take(self, farm: CanvasFarm, *, wait: bool = True) -> bool:
        """Take one more group; False if none is ready."""
        group = farm.next(wait=wait)
        if group is None:
            return False
        self._put(self.next % self.groups, group)
        self.next += 1
        return True

    def crops(self, seed: int, step: int, count: int, size: int, twins: int = 0) -> KeyedShots:
        """The batch of a step: square crops at random places of random canvases, augmented.

        The last 2 * `twins` crops are pairs of twins: the first of every pair, then the second ones
        in the same order. Both crops of a pair are cut and augmented alike; where the subject of
        the second has moved its crop has moved with it, so that both show the same of the subject.
        """
        rng = np.random.default_rng([seed, step, 98])
        places = self._places(rng, count, twins)
        room = self._planes.shape[-1] - size
        corners = rng.integers(0, room + 1, (count, 2))
        mirrored = rng.random(count) < _MIRRORED
        orders = _channel_orders(rng, count)
        for decided in (corners, mirrored, orders):
            decided[count - twins :] = decided[count - 2 * twins : count - twins]
        moved = np.clip(self._moved.reshape(-1, 2)[places[count - twins :]], -room, room)
        firsts = corners[count - 2 * twins : count - twins]
        firsts[:] = np.clip(firsts, np.maximum(0, -moved), room - np.maximum(0, moved))
        corners[count - twins :] = firsts + moved
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
        """The chosen canvases, as indices in the ring."""
        oldest = self.next * GROUP - self.held
        any_ones = oldest + rng.integers(0, self.held, count - 2 * twins)
        groups = oldest // GROUP + rng.integers(0, self.held // GROUP, twins)
        pairs = np.array(TWINS)[rng.integers(0, len(TWINS), twins)]
        pairs += GROUP * groups[:, None]
        return np.concatenate([any_ones, *pairs.T]) % (self.groups * GROUP)

    def _put(self, place: int, group: Group) -> None:
        self._planes[place].copy_(torch.from_numpy(group.planes))
        self._flags[place].copy_(torch.from_numpy(group.flags))
        self._moved[place] = group.moved


def _channel_orders(rng: np.random.Generator, count: int) -> np.ndarray:
    """The source of each channel of each shot, (N, CHANNELS): red, green and blue are permuted in
    the same way in all pictures of a shot."""
    rows = []
    for _ in range(count):
        colours = rng.permutation(3) if rng.random() < _RECOLOURED else np.arange(3)
        row: list[int] = []
        for channels in PLANES.values():
            row += (len(row) + (colours if channels == 3 else np.zeros(1, np.int64))).tolist()
        rows.append(row)
    return np.array(rows, np.int64)
