"""A picture without its grain: each pixel the mean of those near it that are like it.

Each pixel becomes the mean of those near it, which count the more the more alike they are; what is
larger than the grain stays. How alike is told by the means of 3x3 pixels, in which there is a third
of the grain: by single pixels, one with much grain is like none of its neighbours and keeps it.

Method: joint bilateral filtering (Tomasi and Manduchi 1998; Petschnig et al. 2004), guided by the
picture's own means, with the noise of the frame known.
"""

from __future__ import annotations

from typing import NamedTuple, Union

import torch
from torch import Tensor
from torch.nn import functional

Place = tuple[int, int]

# The pixels that count lie like the black squares of a chessboard, up to so far away: of next ones,
# the means are alike because they share pixels. Of each pair only the lower one, (down, right).
REACH_PX = 2
BESIDE = ((0, 2), (1, -1), (1, 1), (2, -2), (2, 0), (2, 2))
# Those on the diagonals alone, in two thirds of the time.
DIAGONAL = ((1, -1), (1, 1), (2, -2), (2, 2))
# Rows at a time on a CPU: they stay in its cache.
_STRIP = 32


class GrainFilter(NamedTuple):
    """alike: the difference, over all channels, at which the means of two pixels weigh 0.6 for each
    other; a tensor of one value where the steps are to be the same for any. beside: the pixels that
    count, the lower ones of pairs, (down, right)."""

    alike: Union[float, Tensor]
    beside: tuple[Place, ...] = BESIDE


def smooth(picture: Tensor, by: GrainFilter) -> Tensor:
    """A picture (H, W, 3) without what grain makes of it; both sides of a step of several
    deviations of that grain stay apart. Higher and wider than the reach."""
    height, width = picture.shape[:2]
    side = (REACH_PX + 1,) * 4
    around = functional.pad(picture.permute(2, 0, 1)[None], side, mode="reflect")[0]
    rows = _STRIP if picture.device.type == "cpu" else height
    made = around.new_empty((3, height, width))
    for top in range(0, height, rows):
        part = slice(top, min(top + rows, height) + 2 * (REACH_PX + 1))
        made[:, top : top + rows] = _smoothed(around[:, part], by)
    return made.permute(1, 2, 0).contiguous()


def _smoothed(around: Tensor, by: GrainFilter) -> Tensor:
    """The same of planes (3, ...) that have a pixel more than the reach on each side."""
    likeness = _mean(around)
    around = around[:, 1:-1, 1:-1]
    side = REACH_PX
    height, width = around.shape[1] - 2 * side, around.shape[2] - 2 * side
    total = around[:, side : side + height, side : side + width].clone()
    weights = torch.ones_like(total[0])
    scale = -0.5 / by.alike**2
    for down, right in by.beside:
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
