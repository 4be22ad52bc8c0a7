"""Planes (N, C, H, W) made smaller and larger, by whole factors.

On a CPU these steps are OpenCV's, plane by plane, which take a tenth to a half of torch's time and
agree with them within 1e-6; on a GPU, while training and in an ONNX file they are torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Callable

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def smaller(planes: Tensor, times: int) -> Tensor:
    """The mean of `times` x `times` pixels each, at the right and lower edge of those there are."""
    height, width = planes.shape[2:]
    if _by_torch(planes) or height % times or width % times:
        return functional.avg_pool2d(planes, times, ceil_mode=True)
    if times % 2 == 0 and times > 2:
        # By halves, which OpenCV has vector instructions for: in a third of the time.
        return smaller(smaller(planes, 2), times // 2)
    size = (width // times, height // times)
    return _each(
        planes, size, lambda one, made: cv2.resize(one, size, made, interpolation=cv2.INTER_AREA)
    )


def all_smaller(planes: Sequence[Tensor], times: int) -> Tensor:
    """`smaller` of planes one behind the other: (N, C, ...) of all of them."""
    if _by_torch(planes[0]):
        return smaller(torch.cat(list(planes), 1), times)
    return torch.cat([smaller(each, times) for each in planes], 1)


def larger(planes: Tensor, times: int) -> Tensor:
    """Bilinear; pixel centres are between each other, and the edge is repeated."""
    height, width = planes.shape[2:]
    together = planes.is_contiguous(memory_format=torch.channels_last)
    # torch is quick where the many channels of a pixel lie together. What it makes of few depends
    # on the number of threads.
    if _by_torch(planes) or (together and planes.shape[1] > 3):
        size = (height * times, width * times)
        return functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)
    size = (width * times, height * times)
    if together and planes.shape[1] > 1:
        images = planes.permute(0, 2, 3, 1).numpy()
        made = [cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in images]
        return torch.from_numpy(np.stack(made)).permute(0, 3, 1, 2)
    return _each(
        planes, size, lambda one, made: cv2.resize(one, size, made, interpolation=cv2.INTER_LINEAR)
    )


def around(planes: Tensor, size: int) -> Tensor:
    """The mean of `size` x `size` pixels around each; at the edge of the frame, of those inside."""
    if _by_torch(planes):
        return functional.avg_pool2d(planes, size, 1, size // 2, count_include_pad=False)
    height, width = planes.shape[2:]
    down, across = (_lacking(length, size) for length in (height, width))

    def mean(one: Any, made: Any) -> None:
        cv2.boxFilter(one, -1, (size, size), made, borderType=cv2.BORDER_CONSTANT)
        for row, times in down:
            made[row] *= times
        for column, times in across:
            made[:, column] *= times

    return _each(planes, (width, height), mean)


def _lacking(length: int, size: int) -> list[tuple[int, Any]]:
    """The places near both ends whose window of `size` is partly outside, and what a mean that
    counts that as 0 is multiplied by."""
    at, reach = np.arange(length), size // 2
    inside = np.minimum(at + reach, length - 1) - np.maximum(at - reach, 0) + 1
    return [(int(place), np.float32(size / inside[place])) for place in at[inside < size]]


def _by_torch(planes: Tensor) -> bool:
    return planes.device.type != "cpu" or not torch.is_inference_mode_enabled()


def _each(planes: Tensor, size: tuple[int, int], step: Callable[[Any, Any], object]) -> Tensor:
    """`step` of each plane into one of the size, width and height."""
    made = planes.new_empty((*planes.shape[:2], size[1], size[0]))
    for given, found in zip(planes.numpy(), made.numpy()):
        for one, other in zip(given, found):
            step(one, other)
    return made
