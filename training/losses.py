"""What is minimised: the errors of the refined alpha and colour, and a little of the coarse ones'.

Every part is a value a shot, (N,), since shots do not count alike: see `weights`.
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
    closed,
    coarse_matte,
    opened,
)
from training.canvases import KeyedShots
from training.compose.shots import Shots

# Every part there is.
PARTS = (
    *("coarse_alpha", "coarse_cross", "coarse_slope", "coarse_colour", "coarse_change", "doubt"),
    *("alpha", "slope", "colour", "band", "confidence", "change"),
)
# What the keyer's own matte would give for the part `alpha`: written down beside it.
KEYER = "keyer_alpha"
# The coarse matte counts this much beside the refined one.
_COARSE = 0.25
# Where the keyer is certain the sigmoid is flat: what is wrong there would never be corrected. So
# alpha's gradient to its logit gets this much more everywhere; it is at most a quarter by itself.
_LEAK = 0.1
_ALPHA = 1.5
# Most of what flickers is where alpha is off anyway, by more: there nothing else holds it.
_CHANGE = 5.0
# Doubt is only told where to look again: it must not steer what is seen.
_DOUBT = 0.05
# Colour counts where at least this much of it is seen.
_LEAST_ALPHA = 0.02
# Pixels that are certainly set or certainly subject.
_CERTAIN = 1 / 512
# A shot that the keyer gets wrong by this much counts about once; and the bounds of its weight.
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
    """The parts of the loss, means over the shots; their sum is what is minimised.

    shots: what the coarse change is of. seen: the windows of them that `matte` is of. twins: so
    many of the last shots show what as many before them do, and are to get the same alpha.
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
    """What the network is given of the shots."""
    return Inputs(**{name: getattr(shots, name) for name in Inputs._fields})


def weights(shots: KeyedShots) -> Tensor:
    """How much each shot counts: what the keyer gets nearly right must not be lost among shots that
    it gets wrong as a whole, whose errors are tens of times larger."""
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
    """Whether the coarse net knows where its alpha, enlarged, is wrong: a cross entropy, (N,)."""
    with torch.no_grad():
        logit = functional.interpolate(
            change.logit, scale_factor=float(factor), mode="bilinear", align_corners=False
        )
        wrong = (opened(closed(shots.keyed_alpha) + logit) - shots.alpha).abs() > WRONG
        truth = functional.max_pool2d(wrong.float(), factor)
    cross = functional.binary_cross_entropy_with_logits(
        change.doubt.float(), truth, reduction="none"
    )
    return _mean(cross)


def refined_loss(matte: NetworkMatte, shots: Shots) -> dict[str, Tensor]:
    """The parts of the loss at full size, weighted.

    Beside the errors: slopes at full and half size, the unknown region once more, and a cross
    entropy where truth is 0 or 1, so that interiors become certain.
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
    """How far apart the alphas of twins are, weighted; 0 for all other shots, (N,)."""
    found = steep(matte)
    alone = found.new_zeros(len(found) - 2 * twins)
    first, second = found[len(alone) :].chunk(2)
    away = _CHANGE * _l1(first, second)
    return torch.cat([alone, away, away])


def steep(matte: NetworkMatte) -> Tensor:
    """Alpha 0..1 whose gradient does not vanish where it is certain.

    An absolute error's best alpha stays the same, the median: only the length of its gradient is
    another. What is right beyond 0 or 1 has no error, so nothing pulls at it.
    """
    logit = matte.logit.float()
    return matte.alpha.float().clamp(0, 1) + _LEAK * (logit - logit.detach())


def shrunk_truth(shots: Shots, factor: int) -> tuple[Tensor, Tensor]:
    """Alpha and foreground at the coarse size; the colour weighted with its alpha."""
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
    """Mean of the absolute values over the chosen pixels, of which a few always count as chosen."""
    return _mean(values.abs() * where) / _mean(where).clamp_min(0.02)
