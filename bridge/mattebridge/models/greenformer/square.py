"""A frame on its way into the network's square, and the square's matte on its way back.

plate, hint --input--> (1, 4, S, S) --network--> (1, 4, S, S) --frame--> alpha, foreground
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.models.greenformer.fit import Fit
from mattebridge.models.greenformer.network import network_input
from mattebridge.models.pytorch.frames import tensor_of

SWAPPED = [0, 2, 1]  # red, blue, green
# The value of `alpha_upsample_mode` that means "as `result_upsample_mode`".
AS_RESULT = "as_result"


@dataclass(frozen=True)
class Square:
    """The square of one frame. settings: all of the card's. swaps: green and blue change places."""

    fit: Fit
    settings: Mapping[str, Any]
    swaps: bool = False

    @classmethod
    def of(
        cls, shape: tuple[int, ...], size: int, settings: Mapping[str, Any], *, swaps: bool = False
    ) -> Square:
        """shape: (H, W, ...) of the frame. size: the side of the square."""
        return cls(Fit.of(shape, size, str(settings["fit"])), settings, swaps)

    def input(
        self,
        plate: NDArray[Any] | Tensor,
        hint: NDArray[Any] | Tensor,
        device: torch.device,
        *,
        linear: bool,
    ) -> Tensor:
        """(1, 4, S, S) float32 of a plate (H, W, 3), display-encoded, and a hint (H, W), 0..1.

        linear: the plate was scene-linear.
        """
        seen = tensor_of(plate, device).permute(2, 0, 1)[None]
        seen = self.fit.plate(seen, linear=linear, settings=self.settings)
        hinted = self.fit.hint(tensor_of(hint, device)[None, None])
        return network_input(seen[:, SWAPPED] if self.swaps else seen, hinted)

    def frame(self, made: Tensor) -> Tensor:
        """(4, H, W) float32, 0..1, alpha first, of what the network made, (1, 4, S, S) 0..1."""
        if self.swaps:
            made = made[:, [0, *(1 + channel for channel in SWAPPED)]]
        kernel = str(self.settings["result_upsample_mode"])
        for_alpha = str(self.settings["alpha_upsample_mode"])
        if for_alpha in (AS_RESULT, kernel):
            return self.fit.back(made, kernel)[0]
        parts = self.fit.back(made[:, :1], for_alpha), self.fit.back(made[:, 1:], kernel)
        return torch.cat(parts, dim=1)[0]
