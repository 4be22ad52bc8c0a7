"""Bilinear resizing in pieces: a few rows at a time, or only the windows that are used.

The same arithmetic as torch's bilinear interpolation with `align_corners=False`: output pixel `p`
of `size` lies at `(p + 0.5) * length / size - 0.5` between two input pixels, and the outermost
input pixels are repeated beyond the edge. Here it is separable and applied to (rows, columns,
channels), so that an image of which only parts are needed is not resized as a whole.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor

from mattebridge.models.pytorch.double import double_of

# Rows made at a time: few enough that a band of an 8K frame stays in the processor's cache.
BAND_ROWS = 32
# Enlargements whose shares are exact; four and eight are what is recommended at HD and UHD.
POWERS = (2, 4, 8, 16)


class Taps(NamedTuple):
    """For each output position: the input before it, the one behind it, and the share of that."""

    before: Tensor
    behind: Tensor
    share: Tensor


def taps(positions: Tensor, size: int, length: int) -> Taps:
    """Where output `positions` of an axis of `size` lie on an input axis of `length`."""
    # The ratio in single precision, and one rounding after it, as in torch's kernels with their
    # fused multiply-add: so that both have the same shares.
    ratio = float(torch.tensor(length / size, dtype=torch.float32))
    exact = positions.to(double_of(positions.device))
    place = ((exact + 0.5) * ratio - 0.5).to(torch.float32).clamp_(min=0)
    before = place.floor().to(torch.int64).clamp_(max=length - 1)
    behind = (before + 1).clamp_(max=length - 1)
    return Taps(before, behind, place - before)


def shrunk(image: Tensor, height: int, width: int) -> Tensor:
    """A contiguous image (H, W, C) at a smaller size, in new memory.

    torch's own way rounds a picture of three channels by how its pixels are dealt out to threads.
    Here are its sums in the order that it has with several.
    """
    times = image.shape[0] // height
    if times % 2 == 0 and image.shape[:2] == (times * height, times * width):
        # The mean of the four pixels in the middle of each square.
        middle = slice(times // 2 - 1, times // 2 + 1)
        seen = image.view(height, times, width, times, image.shape[2])[:, middle, :, middle]
        pairs = seen[:, :, :, 0] + seen[:, :, :, 1]
        return (pairs[:, 0] + pairs[:, 1]).mul_(0.25)
    down = taps(torch.arange(height, device=image.device), height, image.shape[0])
    across = taps(torch.arange(width, device=image.device), width, image.shape[1])
    share = across.share[:, None]

    def narrow(rows: Tensor) -> Tensor:
        before = rows.index_select(1, across.before).mul_(1 - share)
        return before.add_(rows.index_select(1, across.behind).mul_(share))

    made = image.new_empty(height, width, image.shape[2])
    for top in range(0, height, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        below = down.share[rows, None, None]
        torch.add(
            narrow(image.index_select(0, down.before[rows])).mul_(1 - below),
            narrow(image.index_select(0, down.behind[rows])).mul_(below),
            out=made[rows],
        )
    return made


class Enlargement:
    """An enlarged image, of which any rows can be made."""

    def __init__(self, image: Tensor, height: int, width: int) -> None:
        """`image` is (h, w, C), contiguous; the enlarged one (height, width, C)."""
        self._image = image
        self._size = (height, width, image.shape[2])
        device = image.device
        self._down = taps(torch.arange(height, device=device), height, image.shape[0])
        self._across = taps(torch.arange(width, device=device), width, image.shape[1])

    def rows(self, top: int, bottom: int, out: Optional[Tensor] = None) -> Tensor:
        """Rows `top` to `bottom` (exclusive), (rows, width, C), into `out` where one is given."""
        _, width, channels = self._size
        before, behind, share = (values[top:bottom] for values in self._down)
        first, last = int(before[0]), int(behind[-1])
        wide = self._wide(first, last + 1)
        if out is None:
            out = wide.new_empty(bottom - top, width, channels)
        torch.lerp(
            wide.index_select(0, before - first),
            wide.index_select(0, behind - first),
            share[:, None],
            out=out.view(bottom - top, width * channels),
        )
        return out

    def into(self, out: Tensor) -> Tensor:
        """The whole enlarged image, written into `out`, (height, width, C) and contiguous."""
        height, times = self._size[0], self._size[0] // self._image.shape[0]
        if times in POWERS and height == times * self._image.shape[0]:
            return self._by_power(times, out)
        for top in range(0, height, BAND_ROWS):
            bottom = min(top + BAND_ROWS, height)
            self.rows(top, bottom, out[top:bottom])
        return out

    def _by_power(self, times: int, out: Tensor) -> Tensor:
        """The same without copies of rows: `times` of them lie between two of the image, at the
        same shares, which are exact."""
        edge, length = times // 2, self._image.shape[0]
        share = self._down.share[None, edge : edge + times, None]
        out[:edge].flatten(1).copy_(self._wide(0, 1))
        out[-edge:].flatten(1).copy_(self._wide(length - 1, length))
        step = BAND_ROWS // times + 1
        for first in range(0, length - 1, step):
            last = min(first + step, length - 1)
            wide = self._wide(first, last + 1)
            between = out[edge + times * first : edge + times * last].view(last - first, times, -1)
            torch.lerp(wide[:-1, None], wide[1:, None], share, out=between)
        return out

    def _wide(self, first: int, end: int) -> Tensor:
        """Rows of the small image, enlarged across: (rows, width * C)."""
        source = self._image[first:end]
        return torch.lerp(
            source.index_select(1, self._across.before),
            source.index_select(1, self._across.behind),
            self._across.share[None, :, None],
        ).flatten(1)


def axis_windows(start: Tensor, side: int, size: int, length: int) -> tuple[Tensor, Tensor]:
    """How windows of an enlarged axis are made from windows of the small one.

    start: (T,) first output position of each window, which may lie outside; `side` positions in
    each; `size` and `length` of the enlarged and the small axis. Gives the first input position
    (T,) and a matrix (T, side, m) that turns the m inputs from there on into the window. Positions
    outside the enlarged axis come out as zero.
    """
    positions = start[:, None] + torch.arange(side, device=start.device)
    inside = (positions >= 0) & (positions < size)
    found = taps(positions.clamp(0, size - 1), size, length)
    reach = int((found.behind[:, -1] - found.before[:, 0]).max()) + 1
    first = found.before[:, 0].clamp(max=length - reach)
    matrix = found.share.new_zeros(*positions.shape, reach)
    base = first[:, None]
    matrix.scatter_add_(2, (found.before - base)[..., None], (1 - found.share)[..., None])
    matrix.scatter_add_(2, (found.behind - base)[..., None], found.share[..., None])
    return first, matrix * inside[..., None]


def windows(image: Tensor, top: Tensor, left: Tensor, rows: int, columns: int) -> Tensor:
    """(T, rows, columns, C) cut out of a contiguous (H, W, C); zero outside the image."""
    height, width, channels = image.shape
    y = top[:, None] + torch.arange(rows, device=image.device)
    x = left[:, None] + torch.arange(columns, device=image.device)
    index = y.clamp(0, height - 1)[:, :, None] * width + x.clamp(0, width - 1)[:, None, :]
    cut = image.view(-1, channels).index_select(0, index.view(-1)).view(*index.shape, channels)
    y_inside, x_inside = (y >= 0) & (y < height), (x >= 0) & (x < width)
    if not bool(y_inside.all() & x_inside.all()):
        cut *= y_inside[:, :, None, None] & x_inside[:, None, :, None]
    return cut
