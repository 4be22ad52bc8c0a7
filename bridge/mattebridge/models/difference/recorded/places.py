"""Pixels that are to be solved, found on the device: a list of fixed length, whatever the picture.

mask --running count--> place in the list --> (N,) places in reading order, the last one repeated
"""

from __future__ import annotations

import torch
from torch import Tensor

from mattebridge.models.difference.recorded.masks import enough_of


def listed(mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(length,) the places of the first pixels of a mask (H, W), in reading order, and how many the
    mask has. What is computed of the last one is written several times; 0 where there is none."""
    chosen = mask.reshape(-1)
    order = chosen.cumsum(0)
    count = order[-1]
    # What is not chosen, or has no place in the list, goes behind its end.
    target = torch.where(chosen, order - 1, length).clamp_(max=length)
    every = torch.arange(len(chosen), device=chosen.device)
    found = every.new_zeros(length + 1).scatter_(0, target, every)[:length]
    last = found[(count - 1).clamp(0, length - 1).view(1)]
    return torch.where(every.new_ones(length).cumsum(0) <= count, found, last), count


def some_of(mask: Tensor, enough: int) -> tuple[Tensor, Tensor]:
    """As `listed`, of the first pixel of a mask and each so many behind it that there are less than
    twice `enough`."""
    chosen, _ = enough_of(mask, enough)
    return listed(chosen, 2 * enough)
