"""The BackgroundMattingV2 networks for a GPU: few large steps, and the same ones for every picture.

A GPU waits for the processor that starts its work, and the processor for the GPU where it asks what
came out. So here is one list of steps for a size and its settings, without a question on the way:

    plates (H, W, 3) --joined, cut to 0..1--> pair (6 channels)
        |--shrunk--> CoarsePass.at_once --> alpha, residual, error, hidden (h, w)
        `-----------------------------------------> CellRefiner --> alpha, foreground (H, W)

Such a list can be recorded once and replayed as a single launch (`pytorch/graphs.py`). Every map is
channels last. The results are those of `fast`, within rounding; the same code runs on a CPU, where
it takes two to five times as long.
"""

from __future__ import annotations

from functools import partial
from typing import Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.models.background_matting.cells import CellRefiner
from mattebridge.models.background_matting.coarse import CoarsePass
from mattebridge.models.background_matting.decoder import ALPHA, ERROR, HIDDEN, RESIDUAL
from mattebridge.models.background_matting.matting import Look, NetworkMatte
from mattebridge.models.background_matting.networks import (
    MattingBase,
    MattingRefine,
    pad_to_cells,
    small_size,
)
from mattebridge.models.background_matting.refiner import resized
from mattebridge.models.pytorch.graphs import Graphs


class GpuMatting:
    """A network, folded and laid out for a GPU; the network itself is not changed."""

    def __init__(
        self,
        network: MattingBase,
        dtype: torch.dtype = torch.float32,
        graphs: Optional[Graphs] = None,
    ) -> None:
        """dtype: what the small copy is computed in; the refiner always computes in float32.

        graphs: records the steps of a size and replays them; without it every step is launched.
        """
        self._coarse = CoarsePass(network, dtype)
        self._graphs = graphs
        self._look: Optional[Look] = None
        if isinstance(network, MattingRefine):
            self._look = Look.of(network)
            self._cells = CellRefiner(network.refiner)

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which the plates must be as well."""
        return self._coarse.device

    @property
    def memory_bytes(self) -> int:
        """The memory of weights and recordings."""
        refiner = 0 if self._look is None else self._cells.memory_bytes
        recorded = 0 if self._graphs is None else self._graphs.memory_bytes
        return self._coarse.memory_bytes + refiner + recorded

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
        """The matte of one frame; see `Matting`. The device may still be at work on it.

        The plates are cut in the step that joins them, whatever `is_cut` says.
        """
        look = self._look and (look or self._look)
        compute = self._everywhere if look is None else partial(self._refined, look)
        checkpoint("coarse")
        if self._graphs is None:
            made, graph = compute(plate, clean_plate), None
        else:
            made, graph = self._graphs.run((look, plate.shape), compute, (plate, clean_plate))
        checkpoint("finish")
        alpha, foreground, error, *cells = made
        return NetworkMatte(alpha, foreground, error, cells[0] if cells else None, graph)

    def _everywhere(self, plate: Tensor, clean_plate: Tensor) -> tuple[Tensor, ...]:
        pair = _joined(plate, clean_plate)
        found = self._coarse.at_once(pair[:, :3], pair[:, 3:], hidden=False)
        return (*_finished(found, pair), found[0, ERROR.start].clamp(0, 1))

    def _refined(self, look: Look, plate: Tensor, clean_plate: Tensor) -> tuple[Tensor, ...]:
        pair = _joined(plate, clean_plate)
        full = pad_to_cells(pair).contiguous(memory_format=torch.channels_last)
        rows, columns = full.shape[-2:]
        small = resized(full, *small_size(rows, columns, look.backbone_scale))
        found = self._coarse.at_once(small[:, :3], small[:, 3:], hidden=True)
        error = found[:, ERROR].clamp(0, 1)
        found[:, ALPHA].clamp_(0, 1)
        found[:, HIDDEN].relu_()
        coarse = found[:, ALPHA.start : RESIDUAL.stop]
        fine, cells = self._cells.refine(full, coarse, found[:, HIDDEN], error, look)
        return (*_finished(fine, pair), error[0, 0], cells)


def _joined(plate: Tensor, clean_plate: Tensor) -> Tensor:
    """(1, 6, H, W), channels last, cut to 0..1, of two images (H, W, 3)."""
    return torch.cat([plate, clean_plate], dim=2).clamp_(0, 1).permute(2, 0, 1)[None]


def _finished(found: Tensor, pair: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha (H, W) and foreground (H, W, 3) of alpha and residual, cut to the size of the pair."""
    height, width = pair.shape[-2:]
    rows = found[0, :, :height, :width].permute(1, 2, 0)
    plate = pair[0, :3].permute(1, 2, 0)
    return rows[..., 0].clamp(0, 1), (rows[..., RESIDUAL] + plate).clamp_(0, 1)
