"""Gain and offset of the clean plate, fitted in batches: the engine's exposure fit, for training.

The engine fits one pair with OpenCV (`mattebridge.clean_plate.match`); here the same trimmed least
squares run on a whole batch. What the engine's alignment leaves over is
simulated by `geometry`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# As in the engine: iterations, the quantile of residuals that sets the inliers' tolerance, and its
# minimum.
_ROUNDS = 8
_QUANTILE = 0.2
_TOLERANCE = 0.015
# In a channel with a lower standard deviation gain and offset cannot be separated.
_FLAT = 0.02
_FEWEST_CELLS = 3


def exposure_matched(plate: Tensor, clean: Tensor, on: Tensor) -> Tensor:
    """The clean plate with gain and offset fitted where `on` (N, 1, 1, 1) is 1; clipped to 0..1."""
    shrink = 4
    y = functional.avg_pool2d(plate, shrink).flatten(2)
    x = functional.avg_pool2d(clean, shrink).flatten(2)
    gain, offset = torch.ones_like(x[:, :, :1]), torch.zeros_like(x[:, :, :1])
    usable = (torch.maximum(x, y).amax(1) < 0.99).float()
    inliers = usable
    for _ in range(_ROUNDS):
        away = (x * gain + offset - y).abs().amax(1)
        near = torch.quantile(away[:, ::5], _QUANTILE, dim=1, keepdim=True)
        inliers = (away < (2 * near).clamp_min(_TOLERANCE)).float() * usable
        gain, offset = _least_squares(x, y, inliers[:, None])
    held = _spread(inliers, plate.shape[-1] // shrink).reshape(-1, 1, 1, 1)
    use = on * held
    gain = 1 + use * (gain[..., None] - 1)
    return (clean * gain + use * offset[..., None]).clamp(0, 1)


def _least_squares(x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    total = weight.sum(2, keepdim=True).clamp_min(1)
    mean_x, mean_y = ((v * weight).sum(2, keepdim=True) / total for v in (x, y))
    variance = ((x - mean_x).square() * weight).sum(2, keepdim=True) / total
    covariance = ((x - mean_x) * (y - mean_y) * weight).sum(2, keepdim=True) / total
    flat = variance < _FLAT**2
    gain = torch.where(flat, mean_y / mean_x.clamp_min(0.02), covariance / variance.clamp_min(1e-9))
    gain = gain.clamp(0.7, 1.4)
    offset = torch.where(flat, torch.zeros_like(gain), mean_y - gain * mean_x)
    return gain, offset.clamp(-0.1, 0.1)


def _spread(inliers: Tensor, side: int) -> Tensor:
    """1 where the inliers lie in enough of the 16 cells of the frame, (N,)."""
    cells = functional.adaptive_avg_pool2d(inliers.reshape(-1, 1, side, side), 4).flatten(1)
    enough = (cells > 0.01).sum(1) >= _FEWEST_CELLS
    return enough.float()
