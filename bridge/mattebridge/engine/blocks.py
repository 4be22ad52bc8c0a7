"""Steps that treat each pixel for itself, in row blocks on the CPU and at once on a GPU.

    pointwise(step, image, result)     step(image[rows], result[rows]) for all rows

On the CPU a chain of such steps takes longer to write and read whole-frame temporaries than to
compute: in blocks they stay in the processor's cache (the sRGB curve of a UHD picture takes less
than half the time). On a GPU every step is one launch, and few launches are what counts. So each
chain of pointwise steps goes through `pointwise`, and is written once.

Rule: a step must give the same values whatever rows it is given, so that results depend neither on
the size of a block nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Callable, Optional, Union

import torch
from torch import Tensor

# Values of one block for each thread: a block and its temporaries stay in a core's cache.
_BLOCK_VALUES = 64 * 1024


def row_blocks(image: Tensor) -> Iterator[slice]:
    """The rows of an image (H, ...) in blocks; on a GPU all of them in one."""
    height = image.shape[0]
    rows = height
    if image.device.type == "cpu":
        values = _BLOCK_VALUES * torch.get_num_threads()
        rows = max(1, values // max(1, image.numel() // max(1, height)))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def pointwise(step: Callable[..., object], image: Tensor, *others: Optional[Tensor]) -> None:
    """Call `step` with the same rows of every image, until all rows are done; None stays None."""
    for rows in row_blocks(image):
        step(image[rows], *(None if other is None else other[rows] for other in others))


def is_surely_within(values: Tensor, low: float, high: float) -> bool:
    """Whether all values are from `low` to `high`, where that costs no wait: on a GPU False.

    For steps that change nothing where this holds: the CPU skips them, a GPU does them. NaN is not
    within anything.
    """
    if values.device.type != "cpu" or not values.numel():
        return False
    lowest, highest = range_of(values).values()
    return lowest >= low and highest <= high


@dataclass(frozen=True)
class Range:
    """The lowest and highest value of an image: two numbers, or a tensor on a GPU."""

    found: Union[tuple[float, float], Tensor]

    def is_surely_from(self, low: float) -> bool:
        """Whether no value is below `low`, where that costs no wait."""
        return not isinstance(self.found, Tensor) and self.found[0] >= low

    def values(self) -> tuple[float, float]:
        """Both numbers; on a GPU it is waited for them."""
        if not isinstance(self.found, Tensor):
            return self.found
        lowest, highest = self.found.tolist()
        return lowest, highest


def range_of(values: Tensor) -> Range:
    """The range of values, without a wait; NaN where there is one, as in `extremes`."""
    if values.device.type != "cpu":
        return Range(torch.stack(values.aminmax()))
    array = values.numpy()  # whose two passes take half the time of torch's one
    return Range((float(array.min()), float(array.max())))


def extremes(*images: Tensor) -> list[tuple[float, float]]:
    """The lowest and highest value of each image, NaN where it holds one; one wait for them all."""
    return pairs_of(ends_of(*images).tolist())


def ends_of(*images: Tensor) -> Tensor:
    """The same on the device, lowest and highest by turns, which is not waited for."""
    return torch.stack([value for image in images for value in image.aminmax()])


def pairs_of(ends: Sequence[float]) -> list[tuple[float, float]]:
    """The ends of each image from those of all of them."""
    return list(zip(ends[::2], ends[1::2]))
