"""The BackgroundMattingV2 networks computed fast: the same matte in a fraction of the time.

`FastMatting` is made from a plain network and gives what its forward gives, within rounding:

    plates (H, W, 3) --shrink--> small pair --CoarsePass--> alpha, residual, error (h, w)
        |                                                     |-- enlarged to (H, W)
        |                                                     `-- error picks cells
        `--windows of chosen tiles--> TileRefiner --> alpha, residual of those cells
                                                      foreground = plate + residual

Images are (rows, columns, channels), as frames are in memory, so nothing is transposed. Each
module describes what its step saves; `benchmarks/bench_background_matting.py` measures it. Rounding
of the folded convolutions may choose other cells where errors are nearly equal; in cells that both
ways chose, alpha and foreground agree to 1e-3 at worst and to 1e-5 and 2e-5 on average.

Plates are cut to 0..1 first, as the networks were trained.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.models.background_matting.coarse import CoarsePass
from mattebridge.models.background_matting.matting import Look, NetworkMatte
from mattebridge.models.background_matting.networks import (
    MattingBase,
    MattingRefine,
    pad_to_cells,
    small_size,
)
from mattebridge.models.background_matting.refiner import CELL
from mattebridge.models.background_matting.resize import Enlargement, shrunk
from mattebridge.models.background_matting.tiles import TileRefiner, Tiles

# Rows that are finished at once: what one step leaves in the processor's cache, the next finds.
FINISHED_ROWS = 16


class FastMatting:
    """A network, folded and rearranged; the network itself is not changed.

    Keeps buffers between frames, so that it does one frame at a time. Results are new memory.
    """

    def __init__(self, network: MattingBase, dtype: torch.dtype = torch.float32) -> None:
        """dtype: what the small copy is computed in; the refiner always computes in float32."""
        self._coarse = CoarsePass(network, dtype)
        self._look: Optional[Look] = None
        if isinstance(network, MattingRefine):
            self._look = Look.of(network)
            self._tiles = TileRefiner(network.refiner)

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which the plates must be as well."""
        return self._coarse.device

    @property
    def memory_bytes(self) -> int:
        """The memory of weights and kept buffers."""
        refiner = 0 if self._look is None else self._tiles.memory_bytes
        return self._coarse.memory_bytes + refiner

    @torch.inference_mode()
    def __call__(
        self,
        plate: Tensor,
        clean_plate: Tensor,
        look: Optional[Look] = None,
        checkpoint: Checkpoint = no_checkpoint,
        *,
        is_cut: bool = False,
    ) -> NetworkMatte:
        """The matte of one frame; see `Matting`.

        Sizes that are not a multiple of 4 are padded by edge replication and cropped.
        """
        if not is_cut:
            plate, clean_plate = _within_range(plate), _within_range(clean_plate)
        if self._look is None:
            return self._everywhere(plate, clean_plate, checkpoint)
        return self._refined(plate, clean_plate, look or self._look, checkpoint)

    def choose_tiles(self, chosen: Tensor) -> Tiles:
        """The tiles in which a selection of cells, (H/4, W/4) bool, would be refined."""
        return self._tiles.choose_tiles(chosen)

    def _everywhere(
        self, plate: Tensor, clean_plate: Tensor, checkpoint: Checkpoint
    ) -> NetworkMatte:
        checkpoint("coarse")
        found = self._coarse.in_bands(_batch_of(plate), _batch_of(clean_plate))
        checkpoint("finish")
        alpha, error = found[..., 0].clamp(0, 1), found[..., 4].clamp(0, 1)
        return NetworkMatte(alpha, _foreground(found[..., 1:4].contiguous(), plate), error, None)

    def _refined(
        self, plate: Tensor, clean_plate: Tensor, look: Look, checkpoint: Checkpoint
    ) -> NetworkMatte:
        height, width, _ = plate.shape
        full, full_clean = _padded(plate), _padded(clean_plate)
        rows, columns, _ = full.shape
        checkpoint("shrink")
        size = small_size(rows, columns, look.backbone_scale)
        small, small_clean = (_shrunk(image, size) for image in (full, full_clean))
        checkpoint("coarse")
        maps = self._coarse.whole(small, small_clean)
        checkpoint("enlarge")
        alpha = Enlargement(maps.coarse[..., :1].contiguous(), rows, columns).into(
            plate.new_empty(rows, columns, 1)
        )
        residual = Enlargement(maps.coarse[..., 1:].contiguous(), rows, columns).into(
            plate.new_empty(rows, columns, 3)
        )
        checkpoint("refine")
        cells = _chosen(maps.error, look, rows, columns)
        self._tiles.refine(cells > 0, maps, full, full_clean, alpha, residual, checkpoint)
        checkpoint("finish")
        if (rows, columns) != (height, width):
            alpha = alpha[:height, :width].contiguous()
            residual = residual[:height, :width].contiguous()
        alpha = alpha[..., 0].clamp_(0, 1)
        return NetworkMatte(alpha, _foreground(residual, plate), maps.error, cells)


def _chosen(error: Tensor, look: Look, rows: int, columns: int) -> Tensor:
    by_cell = functional.interpolate(
        error[None, None], size=(rows // CELL, columns // CELL), mode="bilinear"
    )
    return look.choose_cells(by_cell)[0, 0]


def _within_range(image: Tensor) -> Tensor:
    """The image cut to 0..1 for the network; the image itself where that changes nothing."""
    lowest, highest = image.aminmax()
    return image if lowest >= 0 and highest <= 1 else image.clamp(0, 1)


def _batch_of(image: Tensor) -> Tensor:
    """(1, 3, H, W), channels last, of (H, W, 3); the same memory."""
    return image.permute(2, 0, 1)[None]


def _padded(image: Tensor) -> Tensor:
    if image.shape[0] % CELL == 0 and image.shape[1] % CELL == 0:
        return image
    return pad_to_cells(_batch_of(image))[0].permute(1, 2, 0).contiguous()


def _shrunk(image: Tensor, size: tuple[int, int]) -> Tensor:
    if image.device.type != "cpu":
        return functional.interpolate(_batch_of(image), size=size, mode="bilinear")
    return _batch_of(shrunk(image, *size))


def _foreground(residual: Tensor, plate: Tensor) -> Tensor:
    """clamp(plate + residual), written into the residual."""
    for band, seen in zip(torch.split(residual, FINISHED_ROWS), torch.split(plate, FINISHED_ROWS)):
        band.add_(seen).clamp_(0, 1)
    return residual
