"""Where a step of a frame is computed: at every pixel, or at some of them.

A GPU computes all of a frame in the same list of steps. A CPU looks at the picture first: most of a
matte is 0 or 1, and steps that change nothing there are computed for the other pixels alone. The
formulas are the same, written once for planes (N, C, H, W); the pixels at some places come as such
planes too, (1, C, 1, N).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mattebridge.models.twoplate.resampling import larger

# Pixels at a time: they and what is computed of them stay in a processor's cache.
AT_ONCE = 1 << 13


class Where(Protocol):
    """Pixels of a frame (H, W); planes may be larger than it to the right and below."""

    def of(self, plane: Tensor) -> Tensor:
        """These pixels of a plane."""

    def enlarged(self, small: Tensor, times: int) -> Tensor:
        """These pixels of a plane that is so many times larger."""


@dataclass(frozen=True)
class Everywhere:
    """Every pixel of a frame."""

    height: int
    width: int

    def of(self, plane: Tensor) -> Tensor:
        return plane[:, :, : self.height, : self.width]

    def enlarged(self, small: Tensor, times: int) -> Tensor:
        return self.of(larger(small, times))


@dataclass(frozen=True)
class Part:
    """A rectangle of a frame (H, W): ends are left out."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, mask: Tensor, cell: int) -> Part:
        """What holds every pixel of a mask (H, W), and two cells more on each side; it begins and
        ends with a cell, or with the frame."""
        ends = []
        for axis, length in enumerate(mask.shape):
            found = mask.any(1 - axis).nonzero()
            first, last = (int(found[0]), int(found[-1])) if len(found) else (0, 0)
            ends += [max(first // cell - 2, 0) * cell, min((last // cell + 3) * cell, length)]
        return cls(*ends)

    def of(self, plane: Tensor) -> Tensor:
        """This part of a plane, which may be larger than the frame."""
        return plane[:, :, self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Places:
    """Some pixels of one frame, (N,) each; planes are contiguous, (1, C, H, W)."""

    rows: Tensor
    columns: Tensor

    @classmethod
    def where(cls, mask: Tensor) -> Iterator[Places]:
        """The pixels of a mask (H, W) in reading order, some at a time."""
        places = mask.reshape(-1).nonzero()[:, 0]
        for some in torch.split(places, AT_ONCE):
            rows = torch.div(some, mask.shape[1], rounding_mode="floor")
            yield cls(rows, some - rows * mask.shape[1])

    def moved(self, down: int, right: int) -> Places:
        """As many pixels farther down and to the right: those of a part, in the frame."""
        return Places(self.rows + down, self.columns + right)

    def of(self, plane: Tensor) -> Tensor:
        return _taken(plane, self.rows * plane.shape[3] + self.columns)

    def put(self, plane: Tensor, values: Tensor) -> None:
        """Write values (1, C, 1, N) to these pixels of a plane."""
        place = self.rows * plane.shape[3] + self.columns
        plane.view(plane.shape[1], -1).index_copy_(1, place, values[0, :, 0])

    def enlarged(self, small: Tensor, times: int) -> Tensor:
        (top, bottom, down), (left, right, across) = (
            _between(at, times, length)
            for at, length in zip((self.rows, self.columns), small.shape[2:])
        )
        width = small.shape[3]
        upper, lower = (
            torch.lerp(_taken(small, row + left), _taken(small, row + right), across)
            for row in (top * width, bottom * width)
        )
        return torch.lerp(upper, lower, down)


def _taken(plane: Tensor, places: Tensor) -> Tensor:
    return plane.view(plane.shape[1], -1).index_select(1, places)[None, :, None]


def _between(at: Tensor, times: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """The two pixels of a small plane that a pixel of the enlarged one lies between, and the share
    of the second."""
    place = ((at + 0.5) / times - 0.5).clamp_min_(0)
    first = place.long()
    return first, (first + 1).clamp_max_(length - 1), place - first
