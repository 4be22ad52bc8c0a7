"""Steps along the three or four channels of a pixel, which lie beside each other in memory.

On the CPU torch loops along the innermost axis, over three values at a time: to copy three channels
of four it takes twice as long as numpy with one channel after the other, and for a comparison ten
times as long. So these steps are numpy's there; on a GPU they are torch's. The values are the same.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mattebridge.engine.blocks import row_blocks


def copy_channels(source: Tensor, target: Tensor) -> None:
    """Write an image (H, W, C) into another one of its size, of any layout and sample type."""
    if target.device.type != "cpu" or (source.is_contiguous() and target.is_contiguous()):
        target.copy_(source)
        return
    values, place = source.to(target.dtype).numpy(), target.numpy()
    for channel in range(place.shape[2]):
        place[..., channel] = values[..., channel]


def write_product(colour: Tensor, alpha: Tensor, target: Tensor) -> None:
    """Write colour (H, W, 3) times alpha (H, W, 1) into an image of any layout and sample type."""
    if colour.device.type != "cpu" or target.dtype != colour.dtype:
        copy_channels(colour * alpha, target)
        return
    values, share, place = colour.numpy(), alpha[..., 0].numpy(), target.numpy()
    for channel in range(3):
        np.multiply(values[..., channel], share, out=place[..., channel])


def count_below(image: Tensor, limit: float) -> int:
    """How many values are below it; waits for a GPU."""
    if image.device.type != "cpu":
        return int(torch.count_nonzero(image < limit))
    values = image.numpy()
    return sum(int(np.count_nonzero(values[rows] < limit)) for rows in row_blocks(image))
