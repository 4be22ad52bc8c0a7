"""What is done with the matte of `twoplate` behind its network, and made known of it.

    matte --without islands--> the plate's grain given back --without moved things--> output

On a GPU the matte is given as it is (`Ending.unsettled`): whether there are islands or moved things
is seen when the results have arrived, and few frames have any.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import torch
from torch import Tensor

from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.card import specks_of
from mattebridge.models.difference.islands import without_islands
from mattebridge.models.difference.keyer import Begun, reach
from mattebridge.models.difference.moved import without_moved
from mattebridge.models.difference.small import Small
from mattebridge.models.later import Later
from mattebridge.models.pytorch.frames import Frame, given_back, tensor_of
from mattebridge.models.twoplate.calm import with_its_grain
from mattebridge.models.twoplate.whole import WholeMatte

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Ranges


class MadeMatte(NamedTuple):
    """The matte on the device: alpha (H, W), foreground (H, W, 3), and what is known of it all.

    small: alpha at working size in main memory. ranges: see `ModelOutput`. Both where they are
    known.
    """

    alpha: Tensor
    foreground: Tensor
    share: float
    noise: float
    notes: Mapping[str, str]
    small: Optional[FloatImage] = None
    ranges: Optional[Ranges] = None


@dataclass(frozen=True)
class Ending:
    """What is done with the matte of the network: islands, the grain of the plate, moved things.

    grain: what is given back to the foreground, (H, W, 3); None where nothing is.
    """

    given: ModelInput
    frame: Frame
    small: Small
    grain: Optional[Tensor]
    keyed: Begun
    precision: str

    @torch.inference_mode()
    def output(self, made: MadeMatte, before: Optional[ModelOutput] = None) -> ModelOutput:
        """before: what `unsettled` gave; its images are used where they hold."""
        given, frame = self.given, self.frame
        pictures = frame.plate, frame.clean_plate
        alpha, matte = without_islands(made.alpha, *pictures, specks_of(given.settings), made.small)
        colour: Any
        if before is not None and alpha is tensor_of(before.alpha, alpha.device):
            colour = before.foreground
        else:
            colour = self._colour(made.foreground, alpha)
        notes = {
            **self.keyed.notes,
            "alpha_hint_used": given.alpha_hint is not None,
            "refined_share": round(made.share, 3),
            "noise": round(made.noise, 4),
            "precision": "float32" if self.precision == "auto" else self.precision,
            **made.notes,
        }
        alpha, colour = given_back(given.plate, alpha, colour)
        ranges = made.ranges if self.grain is None else None
        degraded = self.keyed.degraded
        output = ModelOutput(alpha, colour, degraded=degraded, notes=notes, ranges=ranges)
        return without_moved(output, given, lambda: self.small.pictures, matte)

    def _colour(self, foreground: Tensor, alpha: Tensor) -> Tensor:
        if self.grain is None:
            return foreground
        return with_its_grain(foreground, alpha, self.grain, self.small.brightest[0])

    def unsettled(self, matte: WholeMatte, later: Later[MadeMatte]) -> ModelOutput:
        """The output of a matte as it is, tensors of a GPU."""
        alpha: Any = matte.alpha
        colour: Any = self._colour(matte.foreground, matte.alpha)
        before = ModelOutput(alpha, colour, ranges=reach(self.small.brightest[0]))
        ends: tuple[Tensor, ...] = ()
        if self.grain is not None:
            # With grain given back the ranges are not those of the network, and reach farther.
            before = replace(before, ranges=None)
            ends = (torch.stack([*alpha.aminmax(), *colour.aminmax()]),)

        def settled(arrays: Sequence[FloatImage]) -> ModelOutput:
            looked_at = len(later.looked_at)
            output = self.output(later.settle(arrays[:looked_at]), before)
            if output.foreground is not colour:
                return output
            for found in arrays[looked_at:]:
                low, high, lowest, highest = found.tolist()
                # What is emptied is 0.
                ranges = {"alpha": (min(low, 0.0), high), "foreground": (lowest, highest)}
                output = replace(output, ranges=ranges)
            return output

        return replace(before, later=Later((*later.looked_at, *ends), settled))
