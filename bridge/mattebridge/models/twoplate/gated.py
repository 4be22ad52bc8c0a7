"""The version `gated` of the network: alpha is chosen at every pixel, not only corrected.

    as in `correction`: the keyer's alpha, its logit changed by both nets --> base
    the keyer's detail, of its narrow and of its wide band, ---.
        with the coarse net's mean around it                    |
    projection of the plate onto F - B -------------------------+--> base + sum of
    an alpha of the refiner's own ------------------------------'    gate * (candidate - base)

A correction to the logit of an alpha that the keyer made 0 or 1 has to be large before it is
visible, and ends where the keyer's sure region does: as a line of one pixel. Here the refiner
predicts for every pixel how much of each candidate it takes, and what it takes is alpha itself.
The gates are not bounded and start at 0, where the matte is that of `correction`: its weights are a
start for this version (`grown`). What differs otherwise:

- the keyer is also asked for its matte with a wider band (`difference.wide`), in which less of the
  subject is taken for granted: its alpha is an input, and its colour replaces the narrow one's;
- the coarse net computes frames of more than 2,600 pixels at an eighth of their size;
- single hairs are candidates, so nothing is put back afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from mattebridge.models.twoplate.network import (
    HALF_SIZE_UP_TO,
    INPUTS,
    LOGIT_STEP,
    REFINER_INPUTS,
    REFINER_WIDTH,
    WIDTHS,
    Change,
    CoarseNet,
    Inputs,
    NetworkMatte,
    Refiner,
    TwoPlate,
    closed,
    coloured,
    in_groups,
    is_unsure,
    looked_at,
    opened,
    refiner_inputs,
    starting_at_zero,
    to_shrink,
)
from mattebridge.models.twoplate.resampling import around
from mattebridge.models.twoplate.strands import scaled

# The coarse net computes frames up to this long side at a quarter of their size, larger ones at an
# eighth: 2K is still small enough, UHD is not.
QUARTER_SIZE_UP_TO = 2600
# Beside the inputs of `correction`: the wide alpha and where it is unsure; at full size the wide
# alpha, and the coarse net's mean of alpha around each group.
_MORE_INPUTS, _MORE_REFINER_INPUTS = 2, 4 + 1
# Where the coarse net's input has the keyer's alpha, shrunk.
_KEYED = 18
# Where the refiner's input has the projections of the four pixels, in display values and in light.
_PROJECTIONS = slice(24, 32)
# Of each pixel: the gates of the candidates, and the logit of the refiner's own.
_CANDIDATES = 4
_ANSWERS = _CANDIDATES + 1
# Stretches alpha about its middle, so that what is nearly 0 or 1 becomes exactly that.
_FIRM = 1.01
# The slope of the logit of the loss: certain pixels are pulled a little beyond 0 and 1.
_SLOPE = 8.0


class GatedTwoPlate(TwoPlate):
    """See the module."""

    version = "gated"
    takes_wide = True
    strands_put_back = False

    def __init__(
        self, widths: tuple[int, ...] = WIDTHS, refiner_width: int = REFINER_WIDTH
    ) -> None:
        nn.Module.__init__(self)
        self.coarse = _GatedCoarseNet(widths, INPUTS + _MORE_INPUTS)
        self.refiner = _GatedRefiner(refiner_width, REFINER_INPUTS + _MORE_REFINER_INPUTS)

    def factor_for(self, height: int, width: int) -> int:
        longest = max(height, width)
        if longest <= HALF_SIZE_UP_TO:
            return 2
        return 4 if longest <= QUARTER_SIZE_UP_TO else 8

    def to_shrink(self, given: Inputs) -> list[Tensor]:
        wide = given.wide_alpha
        return [*to_shrink(given), wide, is_unsure(wide).float()]

    def looked_at(self, given: Inputs, small: Tensor) -> Tensor:
        return looked_at(given, small, small[:, -_MORE_INPUTS:])

    def refiner_inputs(self, given: Inputs, half: Change, alpha: Tensor) -> Tensor:
        wide = in_groups(given.wide_alpha)
        return refiner_inputs(given, half, alpha, wide, half.logit[:, 1:2])

    def of_pixels(self, given: Inputs, x: Tensor, answer: Tensor) -> Tensor:
        """The answer, and last the projection of the plate onto F - B, in the light in which the
        plate was mixed."""
        display, light = x[:, _PROJECTIONS].chunk(2, 1)
        projection = torch.lerp(display, light, given.scene_linear)
        return functional.pixel_shuffle(torch.cat([answer, projection], 1), 2).float()

    def finished(
        self, given: Inputs, logit: Tensor, colour: Tensor, fine: Optional[Tensor]
    ) -> NetworkMatte:
        """logit: the change of the logit, and the means around each pixel that the coarse net
        wants, and that the narrow and the wide alpha have. fine: the answer of `correction` (4),
        gates (4), the logit of the refiner's own alpha (1), the projection (1)."""
        change, wanted, narrow, wide = logit.chunk(4, 1)
        changed = closed(given.keyed_alpha) + change
        if fine is None:
            return coloured(given, changed, opened(changed), colour, None)
        base = opened(changed + LOGIT_STEP * fine[:, :1])
        alpha, gates = base, fine[:, 4 : 4 + _CANDIDATES]
        candidates = (
            scaled(given.keyed_alpha, narrow, wanted),
            scaled(given.wide_alpha, wide, wanted),
            fine[:, -1:],
            opened(fine[:, -2:-1]),
        )
        for number, candidate in enumerate(candidates):
            alpha = torch.addcmul(alpha, gates[:, number : number + 1], candidate - base)
        alpha = 0.5 + _FIRM * (alpha - 0.5)
        return coloured(given, _SLOPE * (alpha - 0.5), alpha, colour, fine[:, 1:4])

    def unsure(self, given: Inputs) -> Tensor:
        return is_unsure(given.keyed_alpha) | is_unsure(given.wide_alpha)


class _GatedCoarseNet(CoarseNet):
    """Hands on, beside the change, three means around each pixel: see `GatedTwoPlate.finished`."""

    def forward(self, inputs: Tensor) -> Change:
        change = super().forward(inputs)
        narrow, wide = (inputs[:, at : at + 1].float() for at in (_KEYED, INPUTS))
        wanted = opened(closed(narrow) + change.logit).clamp(0, 1)
        means = around(torch.cat([wanted, narrow, wide], 1), 3)
        return change._replace(logit=torch.cat([change.logit, means], 1))


class _GatedRefiner(Refiner):
    """With gates, which start at 0."""

    def __init__(self, width: int, inputs: int) -> None:
        super().__init__(width, inputs)
        self.gates = starting_at_zero(nn.Conv2d(width, 4 * _ANSWERS, 3, padding=1))

    def answer(self) -> tuple[Tensor, Tensor]:
        weight, bias = super().answer()
        assert self.gates.bias is not None
        return torch.cat([weight, self.gates.weight]), torch.cat([bias, self.gates.bias])


def grown(state: Mapping[str, Tensor], network: GatedTwoPlate) -> dict[str, Tensor]:
    """Weights of `correction` as a start for this version: what is new changes nothing yet.

    Names and widths must be those of `network`; inputs that `correction` lacks come after its own.
    """
    made = {}
    for name, new in network.state_dict().items():
        if name not in state or state[name].shape == new.shape:
            made[name] = state.get(name, new)
            continue
        made[name] = torch.zeros_like(new)
        made[name][:, : state[name].shape[1]] = state[name]
    return made
