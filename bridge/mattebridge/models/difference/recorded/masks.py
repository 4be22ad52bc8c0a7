"""Areas, distances and samples of masks: OpenCV's and numpy's operations, made of those of torch.

All masks are (..., h, w). Nothing is looked at: where a number of pixels counts, it is a tensor.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.difference.evidence import disc

# What OpenCV's distances by 5x5 pixels are made of: steps (down, right), and their lengths. A
# distance without any end is the last.
_STEPS = (
    *(((0, 1), 1.0), ((1, 0), 1.0)),
    *(((1, 1), 1.4), ((1, -1), 1.4)),
    *(((1, 2), 2.1969), ((2, 1), 2.1969), ((1, -2), 2.1969), ((2, -1), 2.1969)),
)
_ENDLESS = float(np.finfo(np.float32).max)
# Rounds in which the pixels of a region agree on one label, each taking the highest beside it; and
# in each, how often a label is followed to the one that takes its place, twice as far each time.
# Most frames need a few of these.
ROUNDS, FOLLOWED = 8, 11


def dilated(mask: Tensor, radius: int) -> Tensor:
    """Float planes, the highest value in a disc around each pixel."""
    found = None
    for down, right in _rectangles(radius):
        part = highest(mask, down, right)
        found = part if found is None else torch.maximum(found, part)
    assert found is not None
    return found


def eroded(mask: Tensor, radius: int) -> Tensor:
    return -dilated(-mask, radius)


def opened(mask: Tensor, radius: int) -> Tensor:
    """A mask of bool without what is thinner than a disc."""
    return dilated(eroded(mask.float(), radius), radius) > 0


def closed(mask: Tensor, radius: int) -> Tensor:
    """A mask of bool without gaps that are narrower than a disc."""
    return eroded(dilated(mask.float(), radius), radius) > 0


def highest(plane: Tensor, down: int, right: int) -> Tensor:
    """The highest value of float planes (..., h, w) so far away at most."""
    planes = plane.reshape(1, -1, *plane.shape[-2:])
    side = 2 * down + 1, 2 * right + 1
    return functional.max_pool2d(planes, side, 1, (down, right)).reshape(plane.shape)


@cache
def _rectangles(radius: int) -> tuple[tuple[int, int], ...]:
    """Half heights and widths of the rectangles that make up OpenCV's disc."""
    rows = disc(radius)[radius:].sum(1) // 2
    return tuple(
        (int(np.flatnonzero(rows >= right)[-1]), int(right)) for right in sorted(set(rows.tolist()))
    )


def distances(masks: Tensor) -> Tensor:
    """How far each pixel of some masks (K, h, w) is from what is not in it: OpenCV's `DIST_L2` by
    5x5 pixels, float32."""
    count, height, width = masks.shape
    # Beyond the picture there is nothing near.
    around = masks.new_full((count, 3 * height, 3 * width), _ENDLESS, dtype=torch.float32)
    found = around[:, height : 2 * height, width : 2 * width]
    found.masked_fill_(~masks, 0)
    for (down, right), length in _STEPS:
        times = 1
        # Any number of steps in one direction is a sum of these: 1, 2, 4, ...
        while times * down < height and times * abs(right) < width:
            one, other = (
                around[:, y : y + height, x : x + width]
                for y, x in (
                    (height + times * down, width + times * right),
                    (height - times * down, width - times * right),
                )
            )
            torch.minimum(found, torch.minimum(one, other).add_(times * length), out=found)
            times *= 2
    return found.contiguous()


def without_specks(mask: Tensor, least: float, rounds: int = ROUNDS) -> tuple[Tensor, Tensor]:
    """A mask (h, w) without regions of less than `least` pixels, which touch at corners, too; and
    whether that was found out in so many rounds."""
    count = mask.numel()
    every = torch.arange(count + 1, device=mask.device)
    inside = mask.float()
    # As floats they are whole numbers up to 2**24, more than there are pixels at working size.
    labels = every[1:].view(mask.shape) * mask
    for _ in range(rounds):
        # The highest label beside any pixel of a label takes its place.
        near = (highest(labels.float(), 1, 1) * inside).long()
        taken = every.scatter_reduce(0, labels.view(-1), near.view(-1), "amax")
        for _further in range(FOLLOWED):
            taken = taken[taken]
        labels = taken[labels]
    settled = (highest(labels.float(), 1, 1) * inside == labels).all()
    at = labels.view(-1)
    areas = torch.zeros_like(every).scatter_add(0, at, torch.ones_like(at))
    return mask & (areas[labels] >= least), settled


def each_of(mask: Tensor, every: Tensor | int) -> tuple[Tensor, Tensor]:
    """Of the pixels of a mask, in reading order, the first and each so many behind it: (N,) bool;
    and how many these are."""
    order = mask.reshape(-1).cumsum(0)
    chosen = mask.reshape(-1) & ((order - 1).remainder(every) == 0)
    return chosen, (order[-1] + every - 1).div(every, rounding_mode="floor")


def enough_of(mask: Tensor, enough: int) -> tuple[Tensor, Tensor]:
    """As `each_of`, by so many that at least `enough` remain, if there are as many, and less than
    twice that."""
    count = mask.reshape(-1).sum()
    return each_of(mask, count.div(enough, rounding_mode="floor").clamp(min=1))


def ordered(values: Tensor, chosen: Tensor) -> Tensor:
    """Values (N,) by size, those that are not chosen at the end."""
    return values.reshape(-1).masked_fill(~chosen, torch.inf).sort().values


def middle_of(by_size: Tensor, count: Tensor) -> Tensor:
    """The median of the first `count` values; 0 where there are none."""
    at = torch.stack([count - 1, count]).div(2, rounding_mode="floor").clamp(0, len(by_size) - 1)
    return torch.where(count > 0, by_size[at].mean(), 0.0)
