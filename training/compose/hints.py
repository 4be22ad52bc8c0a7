"""Rough mattes as an artist would draw them, made from the true ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.compose.blur import blur, smooth_field
from training.compose.dice import Dice

# Half of the shots have no hint at all.
_GIVEN = 0.5


def rough_hint(dice: Dice, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """A hint (N, 1, H, W) and whether it is given (N, 1, 1, 1); where not, the hint is 0."""
    size = alpha.shape[-1]
    small = functional.avg_pool2d(alpha, 4)
    grown = _grown(dice, small)
    boxes = _boxes(dice, small)
    rough = torch.lerp(grown, boxes, dice.chance(0.2))
    rough = blur(rough, dice.log_uniform(0.2, 5))
    # Some lack a part, some are partly transparent.
    forgotten = (smooth_field(dice, rough.shape[-1], 4) > 1.2).float() * dice.chance(0.15)
    rough = rough * (1 - forgotten) * (1 - dice.chance(0.2) * dice.uniform(0, 0.4))
    given = dice.chance(_GIVEN)
    hint = functional.interpolate(rough, size=(size, size), mode="bilinear", align_corners=False)
    return hint.clamp(0, 1) * given, given


def _grown(dice: Dice, small: Tensor) -> Tensor:
    """Dilated or eroded by a radius that differs from batch to batch, and shifted a little."""
    reach = int(dice.rng.integers(0, 7))
    sign = dice.chance(0.6) * 2 - 1
    hard = torch.lerp(small, (small > 0.5).float(), dice.chance(0.6))
    window = 2 * reach + 1
    wide = functional.max_pool2d(hard, window, 1, reach)
    narrow = -functional.max_pool2d(-hard, window, 1, reach)
    shape = torch.where(sign > 0, wide, narrow)
    shift = tuple(int(v) for v in dice.rng.integers(-4, 5, 2))
    return torch.roll(shape, shift, (2, 3))


def _boxes(dice: Dice, small: Tensor) -> Tensor:
    """Coarse boxes: every cell that the subject touches is filled."""
    cell = int(dice.rng.integers(4, 20))
    pad = -small.shape[-1] % cell
    touched = functional.max_pool2d(functional.pad(small, (0, pad, 0, pad)), cell)
    boxes = functional.interpolate((touched > 0.3).float(), scale_factor=cell, mode="nearest")
    return boxes[:, :, : small.shape[2], : small.shape[3]]
