"""Where the refiner looks in training: a window of each crop, mostly where it has something to do.

    crop --coarse net, whole--> change --window--> refiner --> loss at full size, in the window

The refiner costs more than the coarse net, and over most of a crop it has nothing to decide. So it
is asked for a quarter of each crop, chosen by how much of it is edge or wrongly keyed; one in four
lies anywhere, so that it also learns to leave the rest alone.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.network import Change, Inputs, each_plane
from training.canvases import PLANES, KeyedShots

# Windows lie on a grid this wide: a multiple of every factor of the coarse net.
_GRID = 16
_ANYWHERE = 0.25
# Alpha nearer to 0 or 1 than this is not an edge, and an error below it is none.
_LITTLE = 0.02

Corners = list[tuple[int, int]]


def chosen(shots: KeyedShots, size: int, rng: np.random.Generator, twins: int = 0) -> Corners:
    """Top and left of a window of each shot; the crop's own where it is not larger.

    The last `twins` shots are looked at where those before them are.
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
    """The windows of the network's inputs; flags stay."""
    return each_plane(given, lambda plane: cut(plane, corners, size))


def change_in(half: Change, corners: Corners, size: int) -> Change:
    """The windows of the coarse change at half of the crop's size."""
    halves = [(top // 2, left // 2) for top, left in corners]
    return Change(*(cut(plane, halves, size // 2) for plane in half))


def shots_in(shots: KeyedShots, corners: Corners, size: int) -> KeyedShots:
    """The windows of the shots, truth and all."""
    return replace(shots, **{name: cut(getattr(shots, name), corners, size) for name in PLANES})


def cut(planes: Tensor, corners: Corners, size: int) -> Tensor:
    """(N, C, size, size) out of (N, C, H, W), each from its own corner."""
    return torch.stack(
        [
            plane[:, top : top + size, left : left + size]
            for plane, (top, left) in zip(planes, corners)
        ]
    )
