"""Pixels near a mask, found on the frame's device in the same list of steps for any picture.

The distance is that of `cv2.distanceTransform` with a mask of 3x3: steps to the side count one
number, diagonal steps another. So the pixels nearer than a limit lie in rows around each pixel,
each as wide as its distance allows: one is near where some row above or below has a pixel of the
mask within that row's width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

# What a step to the side and a diagonal one count.
_SIDE, _DIAGONAL = 0.955, 1.3693
# Rows that are compared at a time: they take so many bytes for each pixel.
_ROWS = 16


def near(mask: Tensor, reach_px: float) -> Tensor:
    """(H, W) bool, where a pixel of the mask (H, W) is nearer than that."""
    height, rows = mask.shape[0], int(reach_px / _SIDE)
    across = functional.pad(_across(mask), (0, 0, rows, rows), value=torch.inf)
    # (H, W, 2 rows + 1): of each pixel, the distances in the rows around it.
    around = across.unfold(0, 2 * rows + 1, 1)
    widths = _widths(rows, reach_px, mask.device)
    found = torch.zeros_like(mask)
    for first in range(0, 2 * rows + 1, _ROWS):
        some = slice(first, first + _ROWS)
        found |= (around[..., some] <= widths[some]).any(-1)
    return found[:height]


def _across(mask: Tensor) -> Tensor:
    """How far each pixel is from the mask in its own row, in pixels; infinite without any."""
    place = torch.arange(mask.shape[1], device=mask.device, dtype=torch.float32)
    before = torch.where(mask, place, -torch.inf).cummax(1).values
    behind = torch.where(mask, -place, -torch.inf).flip(1).cummax(1).values.flip(1)
    return torch.minimum(place - before, -behind - place)


def _widths(rows: int, reach_px: float, device: torch.device) -> Tensor:
    """(2 rows + 1,): how far to the side a pixel in each row may be; below 0 where none may."""
    away = torch.arange(-rows, rows + 1, device=device, dtype=torch.float32).abs_()
    more = _DIAGONAL - _SIDE
    wide = (reach_px - more * away) / _SIDE
    return torch.where(wide >= away, wide, (reach_px - _SIDE * away) / more)
