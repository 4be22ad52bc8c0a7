"""What is minimised: the errors of coarse alpha and colour, and of the refined ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate import Coarse, Matte
from training.compose.shots import Shots

# Every part there is; the refined ones are missing while the refiner takes no part.
PARTS = (
    *("coarse_alpha", "coarse_cross", "coarse_slope", "coarse_colour"),
    *("alpha", "slope", "colour", "band", "confidence"),
)
# Colour counts where at least this much of it is seen.
_LEAST_ALPHA = 0.02
# Pixels that are certainly set or certainly subject.
_CERTAIN = 1 / 512


def coarse_loss(coarse: Coarse, shots: Shots, factor: int) -> dict[str, Tensor]:
    """The parts of the coarse net's loss, weighted."""
    alpha, foreground = shrunk_truth(shots, factor)
    logit = coarse.logit.float()
    return {
        "coarse_alpha": _l1(coarse.alpha.float(), alpha),
        "coarse_cross": 0.4 * functional.binary_cross_entropy_with_logits(logit, alpha),
        "coarse_slope": slope_error(coarse.alpha.float(), alpha),
        "coarse_colour": 0.4 * colour_error(coarse.foreground.float(), foreground, alpha),
    }


def refined_loss(matte: Matte, shots: Shots) -> dict[str, Tensor]:
    """The parts of the loss at full size, weighted.

    Beside the errors: slopes at full and half size, the unknown region once more, and a cross
    entropy where truth is 0 or 1, so that interiors become certain.
    """
    alpha = shots.alpha
    found = matte.alpha.float()
    halves = functional.avg_pool2d(found, 2), functional.avg_pool2d(alpha, 2)
    band = ((alpha > 0.01) & (alpha < 0.99)).float()
    certain = ((alpha < _CERTAIN) | (alpha > 1 - _CERTAIN)).float()
    cross = functional.binary_cross_entropy_with_logits(
        matte.logit.float(), alpha, reduction="none"
    )
    return {
        "alpha": 1.5 * _l1(found, alpha),
        "slope": slope_error(found, alpha) + slope_error(*halves),
        "colour": 0.4 * colour_error(matte.foreground.float(), shots.foreground, alpha),
        "band": 0.2 * _mean_where(found - alpha, band),
        "confidence": 0.25 * _mean_where(cross, certain),
    }


def shrunk_truth(shots: Shots, factor: int) -> tuple[Tensor, Tensor]:
    """Alpha and foreground at the coarse size; the colour weighted with its alpha."""
    alpha = functional.avg_pool2d(shots.alpha, factor)
    premultiplied = functional.avg_pool2d(shots.foreground * shots.alpha, factor)
    plain = functional.avg_pool2d(shots.foreground, factor)
    return alpha, torch.where(alpha > 0.01, premultiplied / alpha.clamp_min(0.01), plain)


def slope_error(found: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the finite differences, both directions summed."""
    away = found - truth
    across = (away[..., 1:] - away[..., :-1]).abs().mean()
    down = (away[..., 1:, :] - away[..., :-1, :]).abs().mean()
    return across + down


def colour_error(found: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
    seen = (alpha > _LEAST_ALPHA).float()
    return _mean_where((found - truth).abs().mean(1, keepdim=True), seen)


def _l1(found: Tensor, truth: Tensor) -> Tensor:
    return (found - truth).abs().mean()


def _mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Mean of the absolute values over the chosen pixels, of which a few always count as chosen."""
    return (values.abs() * where).mean() / where.mean().clamp_min(0.02)
