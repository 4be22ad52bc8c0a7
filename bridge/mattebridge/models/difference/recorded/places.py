"""Pixels that are to be solved, found on the device: a list of fixed length, whatever the picture.

mask --running count--> place in the list --> (N,) places in reading order, the last one repeated
"""

from __future__ import annotations

import torch
from torch import Tensor


def listed(mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """(length,) the places of the first pixels of a mask (H, W), in reading order, and how many the
    mask has. What is computed of the last one is written several times; 0 where there is none."""
    return _listed(mask.reshape(-1), mask.reshape(-1).cumsum(0), length)


def some_of(mask: Tensor, enough: int) -> tuple[Tensor, Tensor]:
    """As `listed`, of the first pixel of a mask and each so many behind it that there are less than
    twice `enough`: `every_of` says which."""
    flat = mask.reshape(-1)
    order = flat.cumsum(0)
    every = order[-1].div(enough, rounding_mode="floor").clamp(min=1)
    chosen = flat & ((order - 1).remainder(every) == 0)
    return _listed(chosen, (order - 1).div(every, rounding_mode="floor") + 1, 2 * enough)


def _listed(chosen: Tensor, order: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """order: the running count of those that are chosen, where they are."""
    count = order[-1]
    # What is not chosen, or has no place in the list, goes behind its end.
    target = torch.where(chosen, order - 1, length).clamp_(max=length)
    every = torch.arange(len(chosen), device=chosen.device)
    found = every.new_zeros(length + 1).scatter_(0, target, every)[:length]
    last = found[(count - 1).clamp(0, length - 1).view(1)]
    return torch.where(every.new_ones(length).cumsum(0) <= count, found, last), count
