"""Grain, taken from what the keyer sees; where it is strong, from all, and given to the foreground.

    plate - clean plate, at working size --> grain
        weak ----> small pictures without it, by which the keyer decides; in frames of that size
                   also the pixels that it explains
        strong --> both pictures without it --> keyer, network
                   what was taken from the plate --> foreground, as far as alpha goes

What is subject, set or in doubt, and what the colours of the subject are, is decided by pictures
without grain: a decision that changes with the grain makes a still subject flicker. The network
sees weak grain as it is, in a picture in which it was trained to. Where a picture was pushed, the
grain of dark parts is as large as the difference of many a subject from its set, and keyer and
network follow it.

The filter is that of `difference/grain_filter.py`. Ten real composites in low light, MAD / soft
e-3: 13.48/136 without any filter, 11.90/123 where it compares single pixels, 11.42/118 where it
compares means. The amount is found at working size, in main memory, where the pictures are already.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from mattebridge.models.difference.evidence import SAME_NOISES
from mattebridge.models.difference.grain_filter import (
    BESIDE,
    DIAGONAL,
    REACH_PX,
    GrainFilter,
    smooth,
)
from mattebridge.models.difference.noise import MEDIAN
from mattebridge.models.difference.small import Small
from mattebridge.models.difference.working_size import size_of
from mattebridge.models.pytorch.frames import Frame

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# Deviation of one channel between plate and clean plate, encoded: less than the first is no grain;
# from the second on it is strong, and from the third on all is taken. Pictures exposed as usual
# have 0.01 to 0.019.
LEAST, FROM, FULL = 0.002, 0.021, 0.028
# The filter: the means of two pixels that differ by so many deviations of one picture's grain, over
# all channels, weigh 0.6 for each other. Grain alone makes 1.3 of them.
LIKE = 1.75
# The same for weak grain; and, in pictures without it, up to how many times the usual difference of
# the set single pixels are the same (2.5 with it): what alignment left does not become smaller.
LIKE_WEAK, SAME_WEAK = 2.2, 4.0
# Plate and clean plate show the same where their difference, over three pixels, is less; the least
# share of the frame in which grain can be measured.
CHANGED, LEAST_SET = 0.06, 0.02
# Rows at which grain is measured.
_ROWS = 160
# What the second difference makes of a deviation; and that of a difference of two pictures, in
# those of one.
_SECOND, _OF_TWO = 1.5**0.5, 2.0**0.5


class Calm(NamedTuple):
    """A frame and its small pictures, each without grain as far as that is taken; what was taken
    from the plate, (H, W, 3), None where nothing was."""

    frame: Frame
    small: Small
    grain: Optional[Tensor]


def calmed(frame: Frame, small: Small) -> Calm:
    """The frame without strong grain, and its small pictures without any. small: of this frame."""
    noise = _noise(*small.pictures)
    if noise < LEAST:
        return Calm(frame, small, None)
    share = min(max((noise - FROM) / (FULL - FROM), 0.0), 1.0)
    like = LIKE_WEAK + share * (LIKE - LIKE_WEAK)
    of_one = noise / _OF_TWO
    by = GrainFilter(like * of_one, BESIDE if share > 0 else DIAGONAL)
    looked = small.without_grain(by, SAME_WEAK + share * (SAME_NOISES - SAME_WEAK))
    if share <= 0:
        return Calm(frame, looked, None)
    pictures = frame.plate, frame.clean_plate
    if looked.explains and frame.plate.device.type == "cpu":
        found = looked.explaining().unbind()
    else:
        # Grain is larger at full size by what shrinking averages.
        scale = max(frame.plate.shape[:2]) / max(size_of(frame.plate.shape))
        by = by._replace(alike=like * (of_one * scale))
        found = tuple(smooth(picture, by) for picture in pictures)
    plate, clean_plate = (torch.lerp(*each, share) for each in zip(pictures, found))
    calm = replace(frame, plate=plate, clean_plate=clean_plate)
    return Calm(calm, looked, frame.plate - plate)


def with_its_grain(foreground: Tensor, alpha: Tensor, grain: Tensor, brightest: float) -> Tensor:
    """The foreground (H, W, 3) with the plate's grain, as far as alpha (H, W) goes.

    brightest: of the plate, encoded.
    """
    found = torch.addcmul(foreground, alpha[..., None], grain)
    return found.clamp_(0, max(brightest, 1.0))


def _noise(plate: FloatImage, clean_plate: FloatImage) -> float:
    """The deviation of one channel between the two, where they show the same; 0 if nowhere.

    By how the difference changes from pixel to pixel, which does not depend on its mean over three
    pixels, by which the same is told.
    """
    if min(plate.shape[:2]) <= REACH_PX + 1:
        return 0.0
    every = max(1, plate.shape[0] // _ROWS)
    apart = plate[::every] - clean_plate[::every]
    middle, beside = apart[:, 1:-1], apart[:, :-2] + apart[:, 2:]
    same = (np.abs(middle + beside) < 3 * CHANGED).all(axis=2)
    if same.mean() < LEAST_SET:
        return 0.0
    second = np.abs(middle - beside / 2)[same]
    return float(np.median(second)) / (MEDIAN * _SECOND)
