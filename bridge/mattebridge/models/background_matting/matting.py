"""What computing a network takes and gives, whichever way it is done: settings, plates, a matte.

There are two ways behind `Matting`. `fast` does the least arithmetic, and decides from the picture
what to do next; `gpu` does more of it, but in one fixed list of steps for a size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.models.background_matting.networks import MattingRefine
from mattebridge.models.background_matting.refiner import choose_cells


@dataclass(frozen=True)
class Look:
    """The settings of `MattingRefine` that need no other weights."""

    backbone_scale: float = 1 / 4
    refine_mode: str = "sampling"
    refine_sample_pixels: int = 80_000
    refine_threshold: float = 0.1
    refine_prevent_oversampling: bool = True

    @classmethod
    def of(cls, network: MattingRefine) -> Look:
        """The settings that a network was made with."""
        refiner = network.refiner
        return cls(
            network.backbone_scale,
            refiner.mode,
            refiner.sample_pixels,
            refiner.threshold,
            refiner.prevent_oversampling,
        )

    def apply_to(self, network: MattingRefine) -> None:
        """Give a plain network these settings."""
        network.backbone_scale = self.backbone_scale
        refiner = network.refiner
        refiner.mode = self.refine_mode
        refiner.sample_pixels = self.refine_sample_pixels
        refiner.threshold = self.refine_threshold
        refiner.prevent_oversampling = self.refine_prevent_oversampling

    def choose_cells(self, error: Tensor) -> Tensor:
        """(N, 1, H/4, W/4), 1 or 0, from the error of each cell."""
        return choose_cells(
            error,
            self.refine_mode,
            self.refine_sample_pixels,
            self.refine_threshold,
            self.refine_prevent_oversampling,
        )


@dataclass(frozen=True)
class NetworkMatte:
    """alpha (H, W), foreground (H, W, 3) straight, error (h, w) at the size of the small copy.

    cells: (H/4, W/4), rounded up, 1 where a cell was refined, else 0; `None` without a refiner.
    graph: on a device with graphs, whether this frame was replayed from one, and if not, why.
    """

    alpha: Tensor
    foreground: Tensor
    error: Tensor
    cells: Optional[Tensor]
    graph: Optional[str] = None


class Matting(Protocol):
    """A network that is ready to compute; it does one frame at a time."""

    @property
    def device(self) -> torch.device:
        """The device of the weights, on which the plates must be as well."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The memory of weights and kept buffers."""
        ...

    def __call__(
        self,
        plate: Tensor,
        clean_plate: Tensor,
        look: Optional[Look] = None,
        checkpoint: Checkpoint = no_checkpoint,
        *,
        is_cut: bool = False,
    ) -> NetworkMatte:
        """The matte of one frame, in new memory.

        plate, clean_plate: (H, W, 3) float32, display-encoded, of one size; never written to. They
        are cut to 0..1, as the networks were trained; is_cut: which they are already, as those of
        a `ModelInput`. look: other settings than the network's own.
        """
        ...
