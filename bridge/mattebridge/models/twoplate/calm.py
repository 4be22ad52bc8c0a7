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

Each pixel becomes the mean of those near it, which count the more the more alike they are; what is
larger than the grain stays. How alike is told by the means of 3x3 pixels, in which there is a third
of the grain: by single pixels, one with much grain is like none of its neighbours and keeps it. Ten
real composites in low light, MAD / soft e-3: 13.48/136 without any filter, 11.90/123 by single
pixels, 11.42/118 by means. The amount is found at working size, in main memory, and the small
pictures are filtered there, so that a GPU is not waited for.

Method: joint bilateral filtering (Tomasi and Manduchi 1998; Petschnig et al. 2004), guided by the
picture's own means, with the noise of the frame known.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.difference.evidence import SAME_NOISES
from mattebridge.models.difference.keyer import Small
from mattebridge.models.difference.mixture import BRIGHTEST
from mattebridge.models.difference.noise import MEDIAN
from mattebridge.models.pytorch.frames import Frame, arrays_of, sent, tensor_of

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

Place = tuple[int, int]

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
# The pixels that count lie like the black squares of a chessboard, up to so far away: of next ones,
# the means are alike because they share pixels. Of each pair only the lower one, (down, right).
REACH_PX = 2
_BESIDE = ((0, 2), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2))
# Where all grain is weak those on the diagonals do, in two thirds of the time.
_DIAGONAL = ((1, -1), (1, 1), (2, -2), (2, 2))
# Rows at a time on a CPU: they stay in its cache.
_STRIP = 32
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
    beside = _BESIDE if share > 0 else _DIAGONAL
    of_one = noise / _OF_TWO
    pictures, main_memory = (frame.plate, frame.clean_plate), torch.device("cpu")
    is_small = frame.plate.shape == small.plate.shape and max(small.brightest) <= BRIGHTEST
    seen = (tensor_of(picture, main_memory) for picture in small.pictures)
    found = [smooth(picture, of_one, like, beside) for picture in seen]
    looked = copy(small)
    looked.plate, looked.clean_plate = arrays_of(*found)
    looked.same_noises = SAME_WEAK + share * (SAME_NOISES - SAME_WEAK)
    if is_small:
        # To a GPU both are sent at once: there the filter would be many steps.
        looked.calm = sent(np.stack([looked.plate, looked.clean_plate]), frame.plate.device)
        found = list(looked.calm.unbind())
    elif share > 0:
        # Grain is larger at full size by what shrinking averages.
        scale = max(frame.plate.shape[:2]) / max(small.plate.shape[:2])
        found = [smooth(picture, of_one * scale, like) for picture in pictures]
    if share <= 0:
        return Calm(frame, looked, None)
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


def smooth(
    picture: Tensor, grain: float, like: float = LIKE, beside: tuple[Place, ...] = _BESIDE
) -> Tensor:
    """A picture (H, W, 3) without what grain of this deviation makes of it.

    beside: the pixels that count, the lower ones of pairs, (down, right). Both sides of a step of
    several deviations stay apart. Higher and wider than the reach.
    """
    height, width = picture.shape[:2]
    side = (REACH_PX + 1,) * 4
    around = functional.pad(picture.permute(2, 0, 1)[None], side, mode="reflect")[0]
    rows = _STRIP if picture.device.type == "cpu" else height
    made = around.new_empty((3, height, width))
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height) + 2 * (REACH_PX + 1))
        made[:, top : top + rows] = _smoothed(around[:, part], like * grain, beside)
    return made.permute(1, 2, 0).contiguous()


def _smoothed(around: Tensor, alike: float, beside: tuple[Place, ...]) -> Tensor:
    """The same of planes (3, ...) that have a pixel more than the reach on each side; alike: the
    difference at which two pixels weigh 0.6 for each other."""
    likeness = _mean(around)
    around = around[:, 1:-1, 1:-1]
    side = REACH_PX
    height, width = around.shape[1] - 2 * side, around.shape[2] - 2 * side
    total = around[:, side : side + height, side : side + width].clone()
    weights = torch.ones_like(total[0])
    scale = -0.5 / alike**2
    for down, right in beside:
        # The weight of a pixel for another is that of the other for it: of all such pairs.
        left, wide = max(right, 0), width + abs(right)
        upper = likeness[:, side - down : side + height, side - left :][..., :wide]
        lower = likeness[:, side : side + height + down, side - left + right :][..., :wide]
        unlike = (upper - lower).abs_()
        weight = (unlike[0] + unlike[1]).add_(unlike[2]).square_().mul_(scale).exp_()
        for y, x, own in (
            (side + down, side + right, weight[down:, left : left + width]),
            (side - down, side - right, weight[:height, left - right : left - right + width]),
        ):
            total.addcmul_(around[:, y : y + height, x : x + width], own)
            weights += own
    return total.div_(weights)


def _mean(planes: Tensor) -> Tensor:
    """The mean around each pixel, of 1, 2 and 1 parts in both directions; a pixel less on each
    side."""
    rows = (planes[:, :-2] + planes[:, 2:]).add_(planes[:, 1:-1], alpha=2)
    return (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2).mul_(1 / 16)
