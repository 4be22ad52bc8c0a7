"""The loss: errors of the refined alpha and colour, and, with less weight, of the coarse ones.

Every part is one value per shot, (N,), because shots have different weights: see `weights`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.network import (
    WRONG,
    Change,
    Inputs,
    NetworkMatte,
    coarse_alpha,
    coarse_matte,
)
from training.canvases import KeyedShots
from training.compose.shots import Shots

# The names of all parts.
PARTS = (
    *("coarse_alpha", "coarse_cross", "coarse_slope", "coarse_colour", "coarse_change", "doubt"),
    *("alpha", "slope", "colour", "band", "confidence", "change"),
)
# The part `alpha` of the keyer's own matte; logged for comparison.
KEYER = "keyer_alpha"
# Weight of the coarse matte's loss; the refined one's is 1.
_COARSE = 0.25
# Where the keyer's alpha is 0 or 1 the sigmoid is flat, and an error would never be corrected. So
# this is added to the gradient of alpha with respect to its logit everywhere; the sigmoid's own is
# at most 0.25.
_LEAK = 0.1
# Weight of the error of alpha.
_ALPHA = 1.5
# Weight of the difference between twins. Most flicker is where alpha is wrong by more than it
# flickers, and no other part of the loss keeps alpha stable there.
_CHANGE = 8.0
# Weight of doubt: small, because doubt only decides where the refiner runs. It must not influence
# what the coarse net learns about alpha.
_DOUBT = 0.05
# Colour is compared where alpha is at least this.
_LEAST_ALPHA = 0.02
# Alpha nearer to 0 or 1 than this is certainly set or subject.
_CERTAIN = 1 / 512
# A shot has the weight _USUAL_ERROR / (_LEAST_ERROR + the keyer's mean error), within two bounds.
_USUAL_ERROR, _LEAST_ERROR = 0.1, 0.012
_LOWEST, _HIGHEST = 0.3, 5.0


def losses(
    change: Change,
    matte: NetworkMatte,
    shots: KeyedShots,
    seen: KeyedShots,
    factor: int,
    twins: int = 0,
) -> dict[str, Tensor]:
    """The parts of the loss, averaged over the shots; their sum is minimised.

    shots: the crops that `change` belongs to. seen: their windows, which `matte` belongs to. The
    last `twins` shots are twins of the `twins` shots before them and should get the same alpha.
    """
    weight = weights(shots)
    coarse = coarse_matte(inputs_from(shots), change, factor)
    first = {**coarse_loss(coarse, shots, factor), "coarse_change": change_loss(coarse, twins)}
    first = {name: _COARSE * part for name, part in first.items()}
    doubt = {"doubt": _DOUBT * doubt_loss(change, shots, factor)}
    parts = {**first, **doubt, **refined_loss(matte, seen), "change": change_loss(matte, twins)}
    return {name: (weight * part).mean() for name, part in parts.items()}


def keyer_loss(shots: KeyedShots, seen: KeyedShots) -> Tensor:
    """What the part `alpha` would be if the network changed nothing."""
    return (weights(shots) * _ALPHA * _l1(seen.keyed_alpha, seen.alpha)).mean()


def inputs_from(shots: KeyedShots) -> Inputs:
    """The network's inputs for the shots."""
    return Inputs(**{name: getattr(shots, name) for name in Inputs._fields})


def weights(shots: KeyedShots) -> Tensor:
    """The weight of each shot, higher where the keyer is nearly right: shots that it gets entirely
    wrong have errors tens of times larger and would dominate the loss."""
    error = _l1(shots.keyed_alpha, shots.alpha)
    return (_USUAL_ERROR / (_LEAST_ERROR + error)).clamp(_LOWEST, _HIGHEST)


def coarse_loss(coarse: NetworkMatte, shots: Shots, factor: int) -> dict[str, Tensor]:
    """The parts of the coarse net's loss, weighted."""
    alpha, foreground = shrunk_truth(shots, factor)
    found = steep(coarse)
    return {
        "coarse_alpha": _l1(found, alpha),
        "coarse_cross": 0.4 * _mean(_cross(coarse, alpha)),
        "coarse_slope": slope_error(found, alpha),
        "coarse_colour": 0.4 * colour_error(coarse.foreground.float(), foreground, alpha),
    }


def doubt_loss(change: Change, shots: KeyedShots, factor: int) -> Tensor:
    """Cross entropy of the coarse net's prediction of where its enlarged alpha is wrong, (N,)."""
    with torch.no_grad():
        logit = functional.interpolate(
            change.logit, scale_factor=float(factor), mode="bilinear", align_corners=False
        )
        wrong = (coarse_alpha(inputs_from(shots), logit) - shots.alpha).abs() > WRONG
        truth = functional.max_pool2d(wrong.float(), factor)
    cross = functional.binary_cross_entropy_with_logits(
        change.doubt.float(), truth, reduction="none"
    )
    return _mean(cross)


def refined_loss(matte: NetworkMatte, shots: Shots) -> dict[str, Tensor]:
    """The parts of the loss at full size, weighted.

    Besides the errors of alpha and colour: slopes at full and half size, alpha in the unknown
    region once more, and a cross entropy where the true alpha is 0 or 1, so that interiors become
    fully transparent or opaque.
    """
    alpha = shots.alpha
    found = steep(matte)
    halves = functional.avg_pool2d(found, 2), functional.avg_pool2d(alpha, 2)
    band = ((alpha > 0.01) & (alpha < 0.99)).float()
    certain = ((alpha < _CERTAIN) | (alpha > 1 - _CERTAIN)).float()
    return {
        "alpha": _ALPHA * _l1(found, alpha),
        "slope": slope_error(found, alpha) + slope_error(*halves),
        "colour": 0.4 * colour_error(matte.foreground.float(), shots.foreground, alpha),
        "band": 0.2 * _mean_where(found - alpha, band),
        "confidence": 0.25 * _mean_where(_cross(matte, alpha), certain),
    }


def change_loss(matte: NetworkMatte, twins: int) -> Tensor:
    """The weighted difference of the alphas of twins, (N,); 0 for all other shots."""
    found = steep(matte)
    alone = found.new_zeros(len(found) - 2 * twins)
    first, second = found[len(alone) :].chunk(2)
    away = _CHANGE * _l1(first, second)
    return torch.cat([alone, away, away])


def steep(matte: NetworkMatte) -> Tensor:
    """Alpha 0..1 whose gradient does not vanish near 0 and 1.

    Only the size of the gradient changes, so the optimum of an absolute error, the median, stays.
    Where alpha is clipped to the right value the error is 0, and with it the gradient.
    """
    logit = matte.logit.float()
    return matte.alpha.float().clamp(0, 1) + _LEAK * (logit - logit.detach())


def shrunk_truth(shots: Shots, factor: int) -> tuple[Tensor, Tensor]:
    """True alpha and foreground at the coarse size; colours are averaged weighted by alpha."""
    alpha = functional.avg_pool2d(shots.alpha, factor)
    premultiplied = functional.avg_pool2d(shots.foreground * shots.alpha, factor)
    plain = functional.avg_pool2d(shots.foreground, factor)
    return alpha, torch.where(alpha > 0.01, premultiplied / alpha.clamp_min(0.01), plain)


def slope_error(found: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of the finite differences, both directions summed."""
    away = found - truth
    across = _mean((away[..., 1:] - away[..., :-1]).abs())
    down = _mean((away[..., 1:, :] - away[..., :-1, :]).abs())
    return across + down


def colour_error(found: Tensor, truth: Tensor, alpha: Tensor) -> Tensor:
    seen = (alpha > _LEAST_ALPHA).float()
    return _mean_where((found - truth).abs().mean(1, keepdim=True), seen)


def _cross(matte: NetworkMatte, alpha: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(matte.logit.float(), alpha, reduction="none")


def _l1(found: Tensor, truth: Tensor) -> Tensor:
    return _mean((found - truth).abs())


def _mean(values: Tensor) -> Tensor:
    return values.mean((1, 2, 3))


def _mean_where(values: Tensor, where: Tensor) -> Tensor:
    """Mean of the absolute values where `where` is 1, taken to be at least 2 % of the pixels."""
    return _mean(values.abs() * where) / _mean(where).clamp_min(0.02)
