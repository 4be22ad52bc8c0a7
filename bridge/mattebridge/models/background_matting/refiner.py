"""The refiner: full resolution, but only where the coarse result is expected to be wrong.

The frame is a grid of cells of 4x4 pixels. The coarse error map chooses cells; each chosen cell
is computed again from a window around it, first at half size, then at full size:

    half size   hidden 32, alpha 1, residual 3, plate 3, clean plate 3     42 channels
                8x8 window  -> conv 24 -> conv 16 -> 4x4, each pixel doubled -> 8x8
    full size   those 16, plate 3, clean plate 3                           22 channels
                8x8 window  -> conv 12 -> conv 4  -> 4x4 pixels: alpha, residual

Convolutions have no padding of their own: windows at the frame's edge see zeros, set *after*
the maps were resized. So the same windows side by side are one dense map (`mode="full"`), and
any tile of neighbouring cells can be computed at once with the same result.

With `kernel_size=1` the windows are the cell itself (2x2 and 4x4). Module names are those of the
published state dicts. Source: Lin et al., "Real-Time High-Resolution Background Matting" (2021).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

REFINE_MODES = ("full", "sampling", "thresholding")
CELL = 4  # pixels on a side
REFINER_CHANNELS = (42, 24, 16, 12, 4)


class Refined(NamedTuple):
    """Alpha (N, 1, H, W) and foreground residual (N, 3, H, W), unclamped; the chosen cells."""

    alpha: Tensor
    residual: Tensor
    cells: Tensor  # (N, 1, H/4, W/4), 1 where the cell was computed again, else 0


class Refiner(nn.Module):
    """Refines alpha and foreground residual of the cells that the error map picks."""

    def __init__(
        self,
        mode: str,
        sample_pixels: int,
        threshold: float,
        kernel_size: int = 3,
        prevent_oversampling: bool = True,
    ) -> None:
        super().__init__()
        if mode not in REFINE_MODES:
            raise ValueError(f"refine_mode is one of {', '.join(REFINE_MODES)}; got {mode!r}")
        if kernel_size not in (1, 3):
            raise ValueError(f"refine_kernel_size is 1 or 3; got {kernel_size!r}")
        self.mode = mode
        self.sample_pixels = sample_pixels
        self.threshold = threshold
        self.kernel_size = kernel_size
        self.prevent_oversampling = prevent_oversampling
        first, second, third, fourth, last = REFINER_CHANNELS
        self.conv1 = nn.Conv2d(first, second, kernel_size, bias=False)
        self.bn1 = nn.BatchNorm2d(second)
        self.conv2 = nn.Conv2d(second, third, kernel_size, bias=False)
        self.bn2 = nn.BatchNorm2d(third)
        self.conv3 = nn.Conv2d(third + 6, fourth, kernel_size, bias=False)
        self.bn3 = nn.BatchNorm2d(fourth)
        self.conv4 = nn.Conv2d(fourth, last, kernel_size)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, pair: Tensor, coarse: Tensor, error: Tensor, hidden: Tensor) -> Refined:
        """Alpha and residual at full size, with the cells of the largest error computed again.

        `pair` (N, 6, H, W): plate and clean plate, H and W multiples of 4. `coarse`
        (N, 4, h, w): alpha in 0..1 and the unclamped residual. `error` (N, 1, h, w), in 0..1.
        `hidden` (N, 32, h, w).
        """
        height, width = pair.shape[-2:]
        cells = self.select(resized(error, height // CELL, width // CELL))
        if self.mode == "full":
            fine = self._refine_everything(pair, coarse, hidden)
        else:
            fine = resized(coarse, height, width)
            chosen = cells.squeeze(1).nonzero(as_tuple=True)
            if chosen[0].numel():
                cell_view(fine)[chosen] = self._refine_cells(pair, coarse, hidden, chosen)
        return Refined(fine[:, 0:1], fine[:, 1:4], cells)

    def select(self, error: Tensor) -> Tensor:
        """The cells to compute again, as 1 and 0, from the error of each: (N, 1, H/4, W/4)."""
        return choose_cells(
            error, self.mode, self.sample_pixels, self.threshold, self.prevent_oversampling
        )

    def _refine_everything(self, pair: Tensor, coarse: Tensor, hidden: Tensor) -> Tensor:
        return self.of_map(*self.bordered(pair, coarse, hidden))

    def _refine_cells(
        self, pair: Tensor, coarse: Tensor, hidden: Tensor, chosen: tuple[Tensor, ...]
    ) -> Tensor:
        return self.of_cells(*self.bordered(pair, coarse, hidden), chosen)

    @property
    def borders(self) -> tuple[int, int]:
        """How far, at half and at full size, the convolutions reach beyond a cell."""
        # Two 3x3 convolutions at full size, and those and two at half size; a pixel at half size
        # is two.
        return (3, 2) if self.kernel_size == 3 else (0, 0)

    def bordered(self, pair: Tensor, coarse: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The maps at half and at full size, (N, 42, ...) and (N, 6, ...), with zeros around."""
        height, width = pair.shape[-2:]
        features = resized(torch.cat([hidden, coarse], dim=1), height // 2, width // 2)
        plates = resized(pair, height // 2, width // 2)
        half_border, full_border = self.borders
        half = functional.pad(torch.cat([features, plates], dim=1), (half_border,) * 4)
        return half, functional.pad(pair, (full_border,) * 4)

    def of_map(self, half: Tensor, full: Tensor) -> Tensor:
        """Alpha and residual (N, 4, H, W) of bordered maps, or of bands of whole cells of them."""
        x = self._at_half_size(half)
        doubled = functional.interpolate(x, size=full.shape[-2:], mode="nearest")
        return self._at_full_size(doubled, full)

    def of_cells(self, half: Tensor, full: Tensor, chosen: tuple[Tensor, ...]) -> Tensor:
        """(K, 4, 4, 4): the chosen cells as channel, row, column.

        chosen: image, row and column of each cell, (K,) int64, as from `nonzero`.
        """
        half_border, full_border = self.borders
        return self.of_map(
            _windows(half, 2, half_border, chosen), _windows(full, CELL, full_border, chosen)
        )

    def _at_half_size(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)))

    def _at_full_size(self, doubled: Tensor, plates: Tensor) -> Tensor:
        x = torch.cat([doubled, plates], dim=1)
        x = self.relu(self.bn3(self.conv3(x)))
        return self.conv4(x)


def choose_cells(
    error: Tensor, mode: str, sample_pixels: int, threshold: float, prevent_oversampling: bool
) -> Tensor:
    """1 for the cells to compute again and 0 for the others, from the error of each cell.

    error: (N, 1, H/4, W/4), 0..1. "sampling" takes those of the largest error, `sample_pixels` in
    all, but none without error if `prevent_oversampling`; "thresholding" those above `threshold`;
    "full" all.
    """
    if mode == "full":
        return torch.ones_like(error)
    if mode == "thresholding":
        return (error > threshold).to(error.dtype)
    flat = error.flatten(1)
    # A small frame has fewer cells than that.
    count = min(sample_pixels // CELL**2, flat.shape[1])
    worst = worst_cells(flat, count)
    chosen = torch.zeros_like(flat).scatter_(1, worst, 1.0)
    if prevent_oversampling:
        chosen *= flat > 0
    return chosen.view_as(error)


def worst_cells(error: Tensor, count: int) -> Tensor:
    """The indices of the `count` largest errors along the last axis, in no order."""
    return error.topk(count, dim=-1, sorted=False).indices


def cell_view(x: Tensor) -> Tensor:
    """(N, C, H, W) seen as (N, H/4, W/4, C, 4, 4): index a cell, get its pixels; no copy."""
    images, channels, height, width = x.shape
    grid = x.view(images, channels, height // CELL, CELL, width // CELL, CELL)
    return grid.permute(0, 2, 4, 1, 3, 5)


def _windows(x: Tensor, step: int, border: int, chosen: tuple[Tensor, ...]) -> Tensor:
    """(K, C, s, s): what the chosen cells see of a map with `step` pixels to a cell."""
    side = step + 2 * border
    return x.permute(0, 2, 3, 1).unfold(1, side, step).unfold(2, side, step)[chosen]


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """The map at another size, bilinear; the outermost pixels are repeated beyond the edge."""
    return functional.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)
