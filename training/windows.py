"""The window of each crop that the refiner is trained on: mostly at edges and keyer errors.

    crop --coarse net, whole--> change --window--> refiner --> loss at full size, in the window

The refiner costs more than the coarse net, and in most of a crop there is nothing to correct. So it
runs on a quarter of each crop, chosen by how many of its pixels are edge or wrongly keyed. One
window in four is placed anywhere, so that the refiner also learns to leave the rest unchanged.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.network import Change, Inputs, each_plane
from training.canvases import PLANES, KeyedShots

# Window corners are multiples of this, which is a multiple of every factor of the coarse net.
_GRID = 16
# Share of the windows that are placed anywhere.
_ANYWHERE = 0.25
# Alpha nearer to 0 or 1 than this is not an edge, and a smaller error of alpha is ignored.
_LITTLE = 0.02

Corners = list[tuple[int, int]]


def chosen(shots: KeyedShots, size: int, rng: np.random.Generator, twins: int = 0) -> Corners:
    """Top left corner of each shot's window; (0, 0) if the crop is not larger than the window.

    The last `twins` shots have the same windows as the `twins` shots before them.
    """
    side = shots.alpha.shape[-1]
    if size >= side:
        return [(0, 0)] * len(shots.alpha)
    alpha = shots.alpha
    edge = (alpha > _LITTLE) & (alpha < 1 - _LITTLE)
    busy = (edge | ((shots.keyed_alpha - alpha).abs() > _LITTLE)).float()
    sums = functional.avg_pool2d(busy, size, stride=_GRID)[:, 0].cpu().numpy().astype(np.float64)
    corners = []
    for one in sums[: len(sums) - twins]:
        shares = np.ones_like(one) if rng.random() < _ANYWHERE else one**2 + 1e-9
        place = int(rng.choice(one.size, p=(shares / shares.sum()).ravel()))
        top, left = divmod(place, one.shape[1])
        corners.append((top * _GRID, left * _GRID))
    return corners + corners[len(corners) - twins :]


def inputs_in(given: Inputs, corners: Corners, size: int) -> Inputs:
    """The network's inputs cut to the windows; flags are kept."""
    return each_plane(given, lambda plane: cut(plane, corners, size))


def change_in(half: Change, corners: Corners, size: int) -> Change:
    """The coarse change, at half the size of the crop, cut to the windows."""
    halves = [(top // 2, left // 2) for top, left in corners]
    return Change(*(cut(plane, halves, size // 2) for plane in half))


def shots_in(shots: KeyedShots, corners: Corners, size: int) -> KeyedShots:
    """The shots cut to the windows, truth included."""
    return replace(shots, **{name: cut(getattr(shots, name), corners, size) for name in PLANES})


def cut(planes: Tensor, corners: Corners, size: int) -> Tensor:
    """(N, C, size, size) out of (N, C, H, W), each from its own corner."""
    return torch.stack(
        [
            plane[:, top : top + size, left : left + size]
            for plane, (top, left) in zip(planes, corners)
        ]
    )
