"""The refiner in a fixed list of steps: how many cells it computes depends on the settings alone.

On a GPU a step costs by being started, and a look at what was chosen stops everything until the
device is done. So nothing here depends on the picture:

    sampling     the `refine_sample_pixels` of the largest error are so many cells for any picture:
                 the window of each is gathered, and cells without any error keep what they had
    the others   the whole frame is refined, and what was not chosen keeps what it had; so is
                 sampling where it takes so many cells that the whole frame is less work

Batches of windows and bands of rows bound the memory; how many there are depends on the size alone.
The arithmetic is that of the refiner itself (`refiner.Refiner`), with its batch norms folded.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.background_matting.matting import Look
from mattebridge.models.background_matting.refiner import (
    CELL,
    Refiner,
    cell_view,
    resized,
    worst_cells,
)
from mattebridge.models.pytorch.fold import folded
from mattebridge.models.pytorch.threads import in_one_way
from mattebridge.models.pytorch.weights import weights_bytes

# Multiplications for a cell by its own window, over those for a cell of the whole frame: windows of
# neighbours overlap.
WINDOW_OVER_WHOLE = 5
# Windows gathered at once: 11 KB each at half size. HD and UHD at the published settings are one.
MOST_WINDOWS = 1 << 15
# Pixels of a band of the whole frame: about 250 bytes each while it is computed. UHD is one band.
BAND_PIXELS = 1 << 23


class CellRefiner:
    """The refiner of a network, folded, channels last, without any look at its data."""

    def __init__(self, refiner: Refiner) -> None:
        self._refiner = in_one_way(folded(refiner))

    @property
    def memory_bytes(self) -> int:
        return weights_bytes(self._refiner)

    def refine(
        self, pair: Tensor, coarse: Tensor, hidden: Tensor, error: Tensor, look: Look
    ) -> tuple[Tensor, Tensor]:
        """Alpha and residual (1, 4, H, W), unclamped, and the chosen cells (H/4, W/4), 1 or 0.

        pair: (1, 6, H, W), plate and clean plate in 0..1, H and W multiples of 4. coarse
        (1, 4, h, w), hidden (1, 32, h, w), error (1, 1, h, w): the results of the small pair.
        """
        height, width = pair.shape[-2:]
        fine = resized(coarse, height, width)
        by_cell = resized(error, height // CELL, width // CELL)
        half, full = self._refiner.bordered(pair, coarse, hidden)
        count = min(look.refine_sample_pixels // CELL**2, by_cell.numel())
        if look.refine_mode != "sampling" or count * WINDOW_OVER_WHOLE > by_cell.numel():
            cells = look.choose_cells(by_cell)
            chosen = functional.interpolate(cells, scale_factor=float(CELL), mode="nearest") > 0
            return torch.where(chosen, self._everywhere(half, full), fine), cells[0, 0]
        return fine, self._some(half, full, fine, by_cell, count, look)

    def _some(
        self, half: Tensor, full: Tensor, fine: Tensor, by_cell: Tensor, count: int, look: Look
    ) -> Tensor:
        """Write the `count` worst cells into `fine`; gives the cells that were written."""
        flat, columns = by_cell.flatten(), by_cell.shape[-1]
        worst = worst_cells(flat, count)
        wanted = flat[worst] > 0 if look.refine_prevent_oversampling else torch.ones_like(worst) > 0
        places, grid = (torch.zeros_like(worst), worst // columns, worst % columns), cell_view(fine)
        for start in range(0, count, MOST_WINDOWS):
            part = slice(start, start + MOST_WINDOWS)
            at = tuple(index[part] for index in places)
            made = self._refiner.of_cells(half, full, at)
            grid[at] = torch.where(wanted[part, None, None, None], made, grid[at])
        return torch.zeros_like(flat).scatter_(0, worst, wanted.to(flat.dtype)).view(-1, columns)

    def _everywhere(self, half: Tensor, full: Tensor) -> Tensor:
        """(1, 4, H, W): the whole frame refined, in bands of whole cells."""
        above, beside = self._refiner.borders
        rows, width = full.shape[2] - 2 * beside, full.shape[3]
        band = max(CELL, BAND_PIXELS // width // CELL * CELL)
        bands = [
            self._refiner.of_map(
                half[:, :, top // 2 : (top + height) // 2 + 2 * above],
                full[:, :, top : top + height + 2 * beside],
            )
            for top in range(0, rows, band)
            for height in [min(band, rows - top)]
        ]
        return torch.cat(bands, dim=2) if len(bands) > 1 else bands[0]
