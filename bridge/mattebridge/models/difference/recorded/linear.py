"""Blurs, slopes and changes of size as products with matrices, one for the rows and one for the
columns: what OpenCV computes of an image with one kernel along each axis.

    (..., h, w) --down @ image @ across.T--> (..., h', w')

A product of 960x960 numbers takes a GPU some microseconds, as one launch, whatever the radius; a
blur of many pixels, which OpenCV computes at half the size, is one such product, too.
"""

from __future__ import annotations

from functools import partial
from typing import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.models.pytorch.frames import sent

Matrix = NDArray[np.float64]


class Filters:
    """The matrices for images of one size, made at their first use and kept on the device."""

    def __init__(self, size: tuple[int, int], device: torch.device) -> None:
        self.size, self.device = size, device
        self._pairs: dict[object, tuple[Tensor, Tensor]] = {}

    @property
    def memory_bytes(self) -> int:
        return sum(matrix.nbytes for pair in self._pairs.values() for matrix in pair)

    def blurred(self, image: Tensor, sigma: float) -> Tensor:
        """`evidence.blurred` of (..., h, w)."""
        return self._by(image, ("blur", sigma), partial(blur, sigma=sigma, border="edge"))

    def blurred_mirrored(self, image: Tensor, sigma: float) -> Tensor:
        """A blur of an image whose edge is mirrored, as OpenCV does it unless told otherwise."""
        return self._by(image, ("mirror", sigma), partial(blur, sigma=sigma, border="reflect"))

    def widely_blurred(self, image: Tensor, sigma: float) -> Tensor:
        """`evidence.widely_blurred` of (..., h, w)."""
        return self._by(image, ("wide", sigma), partial(wide_blur, sigma=sigma))

    def slopes(self, image: Tensor, sigma: float = 0.0) -> tuple[Tensor, Tensor]:
        """`evidence.slopes` of (..., h, w) along x and y, after a blur if there is one."""
        steep, level = (partial(sobel, sigma=sigma, order=order) for order in (1, 0))
        key = "slope", sigma
        return (
            self._by(image, (*key, "x"), level, steep),
            self._by(image, (*key, "y"), steep, level),
        )

    def smaller(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        """An image at a smaller size, means of areas."""
        height, width = size
        return self._by(
            image, ("small", size), partial(area, wanted=height), partial(area, wanted=width)
        )

    def _by(
        self,
        image: Tensor,
        key: object,
        of_rows: Callable[[int], Matrix],
        of_columns: Callable[[int], Matrix] | None = None,
    ) -> Tensor:
        """of_rows, of_columns: give the matrix for an axis of that length; one for both."""
        if key not in self._pairs:
            made = of_rows(self.size[0]), (of_columns or of_rows)(self.size[1]).T
            down, across = (
                sent(np.ascontiguousarray(matrix, np.float32), self.device) for matrix in made
            )
            self._pairs[key] = down, across
        down, across = self._pairs[key]
        return down @ image @ across


def blur(length: int, sigma: float, border: str) -> Matrix:
    """(length, length): a Gaussian blur. border: of `numpy.pad`."""
    # OpenCV's window for floats.
    side = round(8 * sigma + 1) | 1
    return _kernel(length, cv2.getGaussianKernel(side, sigma, cv2.CV_64F)[:, 0], border)


def wide_blur(length: int, sigma: float) -> Matrix:
    """(length, length): to half the size, a blur there, and back."""
    half = -(-length // 2)
    return _linear(half, length) @ blur(half, sigma / 2, "reflect") @ area(length, half)


def sobel(length: int, sigma: float, order: int) -> Matrix:
    """(length, length): one axis of a slope a pixel, its derivative (1) or its mean (0)."""
    kernel = np.array([-0.5, 0, 0.5] if order else [0.25, 0.5, 0.25])
    found = _kernel(length, kernel, "edge")
    return found @ blur(length, sigma, "edge") if sigma else found


def area(length: int, wanted: int) -> Matrix:
    """(wanted, length): the share of each of `length` pixels in each of `wanted` larger ones."""
    ends = np.arange(wanted + 1) * (length / wanted)
    first, last = np.arange(length)[None], np.arange(1, length + 1)[None]
    shared = np.minimum(last, ends[1:, None]) - np.maximum(first, ends[:-1, None])
    return np.maximum(shared, 0) * (wanted / length)


def _linear(length: int, wanted: int) -> Matrix:
    """(wanted, length): between the two nearest pixels."""
    at = np.clip((np.arange(wanted) + 0.5) * (length / wanted) - 0.5, 0, length - 1)
    left = np.minimum(np.floor(at).astype(int), max(length - 2, 0))
    found = np.zeros((wanted, length))
    rows = np.arange(wanted)
    np.add.at(found, (rows, left), 1 - (at - left))
    np.add.at(found, (rows, np.minimum(left + 1, length - 1)), at - left)
    return found


def _kernel(length: int, kernel: NDArray[np.float64], border: str) -> Matrix:
    """(length, length): a correlation with a kernel of odd length."""
    reach = len(kernel) // 2
    seen = np.pad(np.arange(length), reach, mode=border if length > 1 else "edge")  # type: ignore[call-overload]
    found = np.zeros((length, length))
    for place, weight in enumerate(kernel):
        np.add.at(found, (np.arange(length), seen[place : place + length]), weight)
    return found
