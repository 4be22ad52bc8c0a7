"""Random windows into the layers: one for the subject, one for the set; misalignment of the latter.

A window never extends beyond its layer: a subject that the layer cuts off is cut off by the frame,
and never ends inside the picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.compose.dice import Dice

# Misalignment that is left after alignment, in pixels at 512, and its share: mostly below a pixel.
_RESIDUES = ((0.25, 0.4), (0.6, 0.33), (1.4, 0.2), (3.0, 0.07))
# Share of the shots in which the focus was pulled since the clean plate: the picture is a little
# larger or smaller; and by how much of its size at most, alignment included.
_BREATHING, _BREATH = 0.08, 0.004


def placed(dice: Dice, layers: Tensor, size: int, *, whole: float, turn: float) -> Tensor:
    """A window of each layer as (N, C, size, size); a share `whole` shows nearly all of it."""
    grid = _canvas(dice, size)
    return sampled(layers, _into_layer(grid, window(dice, whole, turn)))


def window(dice: Dice, whole: float, turn: float) -> Tensor:
    """Affine maps from the canvas -1..1 into the layer -1..1, (N, 2, 3)."""
    rng, count = dice.rng, dice.count
    wide = np.where(
        rng.random(count) < whole, rng.uniform(0.88, 1.0, count), rng.uniform(0.5, 0.9, count)
    )
    angle = rng.normal(0, turn, count).clip(-3 * turn, 3 * turn)
    cos, sin = np.cos(angle), np.sin(angle)
    wide = np.minimum(wide, 0.999 / (np.abs(cos) + np.abs(sin)))
    room = 1 - wide * (np.abs(cos) + np.abs(sin))
    flip = rng.choice([-1.0, 1.0], count)
    theta = np.zeros((count, 2, 3))
    theta[:, 0, 0], theta[:, 0, 1] = wide * cos * flip, -wide * sin
    theta[:, 1, 0], theta[:, 1, 1] = wide * sin * flip, wide * cos
    theta[:, :, 2] = rng.uniform(-1, 1, (count, 2)) * room[:, None]
    return dice.tensor(theta)


def sampled(layers: Tensor, grid: Tensor) -> Tensor:
    return functional.grid_sample(layers, grid, padding_mode="border", align_corners=False)


def two_views(
    dice: Dice, sets: Tensor, size: int, *, locked: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The set in the plate, the set in the aligned clean plate, and where the latter has no pixels.

    The two are equal if the camera was `locked` off. Both (N, 3, size, size); outside
    (N, 1, size, size), 1 where the clean plate's edge is repeated.
    """
    theta = window(dice, whole=0.5, turn=0.1)
    grid = _canvas(dice, size)
    seen = sampled(sets, _into_layer(grid, theta))
    if locked:
        return seen, seen.clone(), torch.zeros_like(seen[:, :1])
    shifted, outside = _misaligned(dice, grid, size)
    return seen, sampled(sets, _into_layer(shifted, theta)), outside


def _canvas(dice: Dice, size: int) -> Tensor:
    """The positions of the pixels, -1..1, (N, size, size, 2)."""
    line = (torch.arange(size, device=dice.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1)[None].expand(dice.count, -1, -1, -1)


def _into_layer(grid: Tensor, theta: Tensor) -> Tensor:
    return torch.einsum("nhwi,noi->nhwo", grid, theta[:, :, :2]) + theta[:, None, None, :, 2]


def _misaligned(dice: Dice, grid: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The positions, misaligned and clamped to the clean plate; 1 where they were clamped."""
    amplitude = _amplitude(dice) * (2 / 512)
    shift = dice.normal(1.0, of=2).reshape(-1, 1, 1, 2) * amplitude
    bend = dice.normal(0.5, of=4).reshape(-1, 2, 2) * amplitude.reshape(-1, 1, 1)
    warp = dice.normal(0.35, of=2).reshape(-1, 1, 1, 2) * amplitude
    moved = grid + shift + torch.einsum("nhwi,noi->nhwo", grid, bend)
    moved = moved + warp * (grid[..., :1] * grid[..., 1:])
    moved = moved * (1 + dice.chance(_BREATHING) * dice.uniform(-_BREATH, _BREATH))
    low, high = _covered(dice, size)
    held = torch.minimum(torch.maximum(moved, low), high)
    outside = ((held - moved).abs() > 1.5 / size).any(-1).float()[:, None]
    return held, outside


def _amplitude(dice: Dice) -> Tensor:
    """Misalignment in pixels at 512, 0 for a camera that was locked off, (N, 1, 1, 1)."""
    sizes, shares = zip(*_RESIDUES)
    drawn = dice.rng.choice(sizes, dice.count, p=np.array(shares) / sum(shares))
    locked = dice.rng.random(dice.count) < 0.5
    return dice.tensor(np.where(locked, 0, drawn))[:, None, None, None]


def _covered(dice: Dice, size: int) -> tuple[Tensor, Tensor]:
    """The rectangle that the clean plate covers: nearly always the whole frame."""
    margin = np.full((dice.count, 4), 1 / size)
    for shot in np.nonzero(dice.rng.random(dice.count) < 0.07)[0]:
        margin[shot, dice.rng.integers(4)] = dice.rng.uniform(0.01, 0.25)
        margin[shot, dice.rng.integers(4)] = dice.rng.uniform(0.01, 0.1)
    low, high = dice.tensor(margin[:, :2] - 1), dice.tensor(1 - margin[:, 2:])
    return low[:, None, None], high[:, None, None]
