"""The grain between plate and clean plate, measured where the plate shows only the set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mattebridge.models.difference.full_size import places_of
from mattebridge.models.difference.mixture import CODING_NOISE, LEAST_NOISE, Noise
from mattebridge.models.difference.recorded.masks import enough_of
from mattebridge.models.pytorch.pixels import taken

# Noise of one pixel's difference, encoded, at most.
_MOST = 0.2
# The median of a normal distribution's absolute values, in deviations.
MEDIAN = 0.6745
# With fewer pixels than the first nothing is measured, and this is taken; of more than the second
# some are enough.
_LEAST_PIXELS, _USUAL, ENOUGH = 100, 0.01, 100_000


def pixel_noise(plate: Tensor, clean_plate: Tensor, empty: Tensor) -> float:
    """Standard deviation of one channel of one pixel between plate and clean plate, encoded.

    plate, clean_plate: (H, W, 3). empty: (H, W), where the plate shows only the set.
    """
    places = places_of(empty)
    return float(noise_at(plate, clean_plate, places[:: every_of(len(places))]))


def every_of(count: int) -> int:
    """Of so many pixels, each of how many is enough to tell the noise."""
    return max(1, count // ENOUGH)


def noise_at(plate: Tensor, clean_plate: Tensor, places: Tensor) -> Noise:
    """The same at these places (N,); on a GPU a tensor of one value, which is not waited for."""
    if len(places) < _LEAST_PIXELS:
        return _noise_of(_USUAL)
    apart = taken(plate, places).sub_(taken(clean_plate, places)).abs_()
    if apart.device.type == "cpu":
        return _noise_of(min(float(np.median(apart.numpy())) / MEDIAN, _MOST))
    ordered = apart.reshape(-1).sort().values
    return _of_middle(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2])


def noise_of_first(plate: Tensor, clean_plate: Tensor, places: Tensor, count: Tensor) -> Tensor:
    """`noise_at` of the first `count` (1,) of some places, as a tensor of one value, in the same
    list of steps for any number."""
    apart = (taken(plate, places) - taken(clean_plate, places)).abs_()
    counts = torch.arange(len(places), device=plate.device) < count
    return _of_taken(apart, counts, count[0])


def noise_where(plate: Tensor, clean_plate: Tensor, empty: Tensor) -> Tensor:
    """`pixel_noise` as a tensor of one value, in the same list of steps for any picture."""
    chosen, count = enough_of(empty, ENOUGH)
    return _of_taken((plate - clean_plate).abs_().reshape(-1, 3), chosen, count)


def _of_taken(apart: Tensor, taken: Tensor, count: Tensor) -> Tensor:
    """The noise of the differences (N, 3) of those pixels that are taken, of which there are so
    many."""
    # The others stand at the end.
    ordered = apart.masked_fill_(~taken[:, None], torch.inf).reshape(-1).sort().values
    middle = torch.stack([3 * count - 1, 3 * count]).div_(2, rounding_mode="floor").clamp_(min=0)
    found = _of_middle(ordered[middle].sum())
    return torch.where(count < _LEAST_PIXELS, _noise_of(_USUAL), found)


def _of_middle(twice_the_median: Tensor) -> Tensor:
    measured = twice_the_median.div_(2 * MEDIAN).clamp_(LEAST_NOISE, _MOST)
    return measured.square_().add_(CODING_NOISE**2).sqrt_()


def _noise_of(measured: float) -> float:
    return float(np.hypot(max(measured, LEAST_NOISE), CODING_NOISE))
