"""A model's small maps spread over the frame, as the published scripts do."""

from __future__ import annotations

import torch
from torch import Tensor


def spread(
    values: Tensor, size: tuple[int, int], covered: tuple[int, int], *, smooth: bool
) -> Tensor:
    """A map (h, w) at the size (height, width) of the frame, float32.

    covered: height and width of the padded frame, which the map is of. smooth: interpolated
    linearly; else each pixel takes the nearest value.
    """
    for axis, (length, whole) in enumerate(zip(size, covered)):
        count = values.shape[axis]
        # Twice the place of each pixel's centre in the map, times `whole`: whole numbers, so that
        # no device rounds it.
        centres = (2 * torch.arange(length, device=values.device) + 1) * count
        if smooth:
            values = _interpolated(values, centres - whole, 2 * whole, axis)
        else:
            values = values.index_select(axis, (centres // (2 * whole)).clamp_(max=count - 1))
    return values


def _interpolated(values: Tensor, places: Tensor, unit: int, axis: int) -> Tensor:
    """Linear between neighbours along an axis; the outermost values are repeated beyond it.

    places: in the map, in parts of which `unit` lie between two values.
    """
    below, last = torch.div(places, unit, rounding_mode="floor"), values.shape[axis] - 1
    share = (places - below * unit).to(torch.float32) / unit
    first, second = (values.index_select(axis, (below + step).clamp_(0, last)) for step in (0, 1))
    return torch.lerp(first, second, share[:, None] if axis == 0 else share)
