"""The refiner on tiles of neighbouring cells instead of single cells.

Windows of neighbouring cells overlap, so that computing a tile of n x n cells at once repeats less
arithmetic than n*n windows: at 8 x 8 the first convolution does a ninth. But a tile also computes
its cells that were not chosen. So the size of the tiles is chosen by what the cells of a frame cost
at each size; a tile of one cell is the published way, a frame full of large tiles the dense one,
and all give the same pixels.

    tile (r, c), n cells, kernel 3                     first row (column alike)   rows
    half size: features, mean of 2x2 plate pixels      2nr - 3                    2n + 6
    full size: plate, clean plate                      4nr - 2                    4n + 4
    result                                             4nr                        4n

Rows outside the frame are zero at half and at full size, as in the published padding. Tiles are
worked on in batches of bounded memory, whatever the size of the frame.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.background_matting.coarse import CoarseMaps
from mattebridge.models.background_matting.refiner import CELL, Refiner
from mattebridge.models.background_matting.resize import windows
from mattebridge.models.pytorch.fold import folded
from mattebridge.models.pytorch.threads import in_one_way
from mattebridge.models.pytorch.weights import weights_bytes

# Cells on a side of a tile, in the order in which equally cheap ones are taken.
TILE_SIDES = (8, 16, 32, 4, 2, 1)
# Cost of a tile: its pixels at full size, those at half size three times (42 channels to 24), and
# what a tile costs by being one. Fitted to times measured on one core; only ratios matter.
HALF_PIXEL_COST = 3
TILE_COST = 24
# Half-size pixels in one batch of tiles: what its 42 channels take stays in the cache.
BATCH_HALF_PIXELS = 16 * 22 * 22


class Tiles(NamedTuple):
    """Tiles of `side` cells; row and column in the grid of tiles, (T,) each."""

    side: int
    row: Tensor
    column: Tensor


class TileRefiner:
    """The refiner of a network, folded, channels last, on tiles of cells."""

    def __init__(self, refiner: Refiner) -> None:
        self._refiner = in_one_way(folded(refiner))
        # What two convolutions look beyond a cell at full size, and all four at half size.
        self._half_border, self._full_border = (3, 2) if refiner.kernel_size == 3 else (0, 0)

    @property
    def memory_bytes(self) -> int:
        return weights_bytes(self._refiner)

    def refine(
        self,
        chosen: Tensor,
        maps: CoarseMaps,
        plate: Tensor,
        clean_plate: Tensor,
        alpha: Tensor,
        residual: Tensor,
        checkpoint: Checkpoint,
    ) -> None:
        """Write the chosen cells into alpha and residual; the others are left as they are.

        chosen: (H/4, W/4) bool. plate, clean_plate: (H, W, 3) in 0..1. alpha: (H, W, 1) and
        residual (H, W, 3), contiguous, receive unclamped values. `checkpoint("refine")` is called
        before each batch.
        """
        if not bool(chosen.any()):
            return
        tiles = self.choose_tiles(chosen)
        if self._looks_everywhere(tiles, maps, plate.shape[0]):
            maps.make_all_hidden()
        batch = max(1, BATCH_HALF_PIXELS // (2 * tiles.side + 2 * self._half_border) ** 2)
        for start in range(0, len(tiles.row), batch):
            checkpoint("refine", start, len(tiles.row))
            part = Tiles(tiles.side, *(index[start : start + batch] for index in tiles[1:]))
            fine = self._compute(part, maps, plate, clean_plate)
            _write_cells(fine, part, chosen, alpha, residual)

    def choose_tiles(self, chosen: Tensor) -> Tiles:
        """The cheapest tiles that cover all chosen cells."""
        occupied = {side: _occupied(chosen, side) for side in TILE_SIDES}
        cost = {side: int(grid.sum()) * self._cost(side) for side, grid in occupied.items()}
        side = min(TILE_SIDES, key=cost.__getitem__)
        return Tiles(side, *occupied[side].nonzero(as_tuple=True))

    def _cost(self, side: int) -> int:
        half = 2 * side + 2 * self._half_border
        full = CELL * side + 2 * self._full_border
        return HALF_PIXEL_COST * half**2 + full**2 + TILE_COST

    def _looks_everywhere(self, tiles: Tiles, maps: CoarseMaps, height: int) -> bool:
        """Whether the tiles' windows have more pixels than the coarse maps altogether."""
        rows, columns = maps.size
        side = (2 * tiles.side + 2 * self._half_border) * rows / (height / 2) + 1
        return len(tiles.row) * side**2 > rows * columns

    def _compute(
        self, tiles: Tiles, maps: CoarseMaps, plate: Tensor, clean_plate: Tensor
    ) -> Tensor:
        """(T, 4n, 4n, 4): alpha and residual of whole tiles, unclamped."""
        height, width, _ = plate.shape
        side, border = 2 * tiles.side + 2 * self._half_border, self._half_border
        top, left = (2 * tiles.side * index - border for index in tiles[1:])
        features = maps.feature_windows(top, left, side, height // 2, width // 2)
        # Twice the half-size window: it holds the full-size window and something around it.
        plates = [
            windows(image, 2 * top, 2 * left, 2 * side, 2 * side) for image in (plate, clean_plate)
        ]
        net = self._refiner
        x = _channels_first(torch.cat([features, *(_mean_of_2x2(p) for p in plates)], dim=3))
        x = net.conv2(net.conv1(x).relu_()).relu_()
        doubled = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        inner = slice(2 * border - self._full_border, -(2 * border - self._full_border) or None)
        near = [p[:, inner, inner] for p in plates]
        x = _channels_first(torch.cat([doubled.permute(0, 2, 3, 1), *near], dim=3))
        fine: Tensor = net.conv4(net.conv3(x).relu_())
        return fine.permute(0, 2, 3, 1)


def _occupied(chosen: Tensor, side: int) -> Tensor:
    """Which tiles of `side` cells hold a chosen one, as a grid of tiles."""
    if side == 1:
        return chosen
    pooled = functional.max_pool2d(chosen[None, None].float(), side, ceil_mode=True)
    return pooled[0, 0] > 0


def _write_cells(
    fine: Tensor, tiles: Tiles, chosen: Tensor, alpha: Tensor, residual: Tensor
) -> None:
    """Copy the chosen cells of computed tiles to their place in the frame."""
    side = tiles.side
    rows, columns = side * tiles.row, side * tiles.column
    tile, i, j = windows(chosen[..., None], rows, columns, side, side)[..., 0].nonzero(
        as_tuple=True
    )
    cells = fine.reshape(-1, side, CELL, side, CELL, 4).permute(0, 1, 3, 2, 4, 5)[tile, i, j]
    at = (rows[tile] + i, columns[tile] + j)
    _cells_of(alpha)[at] = cells[..., :1]
    _cells_of(residual)[at] = cells[..., 1:]


def _cells_of(image: Tensor) -> Tensor:
    """(H, W, C) seen as (H/4, W/4, 4, 4, C)."""
    height, width, channels = image.shape
    grid = image.view(height // CELL, CELL, width // CELL, CELL, channels)
    return grid.permute(0, 2, 1, 3, 4)


def _mean_of_2x2(images: Tensor) -> Tensor:
    """(T, h/2, w/2, C) from (T, h, w, C)."""
    count, height, width, channels = images.shape
    rows = images.view(count, height // 2, 2, width * channels)
    added = (rows[:, :, 0] + rows[:, :, 1]).view(count, height // 2, width // 2, 2, channels)
    return (added[..., 0, :] + added[..., 1, :]).mul_(0.25)


def _channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)
