"""The soft edges of a subject brighter than white, as the network can see them: with their alpha.

    plate = alpha * F + (1 - alpha) * B, in light, F above white
    B + s * (plate - B) = alpha * (B + s * (F - B)) + (1 - alpha) * B

The network is given plates cut at 1. Cut, a tenth of a highlight that is ten times as bright as
white looks like all of it, and edges come out solid and too far outside. So the plate's difference
from the set is made smaller there, by the same factor as the keyer's colour F, which is not cut:
alpha stays what it was, and so does the set. The factor leaves between colour and set the distance
that a cut at white would leave.

Rule: only a scene-linear plate, which was mixed in light; only where the keyer's alpha is neither 0
nor 1, its colour is above white and the set is not. Elsewhere plate and colour are cut.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mattebridge.models.pytorch.curves import decoded, encoded
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.pytorch.pixels import between, taken
from mattebridge.models.twoplate.network import Inputs

# Pixels at a time on a CPU: they stay in its cache.
_AT_ONCE = 1 << 13
# Encoded; a larger value has no meaning, and decoding it would exceed float32.
_LARGEST = 1e6
# A colour is at least this far from the set, in light.
_LEAST_APART = 1e-6


def dim_edges(given: Inputs, frame: Frame, alpha: Tensor, foreground: Tensor) -> None:
    """Write those edges into the network's plate and colour, which are of this frame's size.

    frame: scene-linear. alpha (H, W) and foreground (H, W, 3): the keyer's that the network is
    given, not cut.
    """
    soft = between(alpha, 0, 1).view(-1).nonzero()[:, 0]
    for some in torch.split(soft, _AT_ONCE):
        some = some[taken(foreground, some).amax(1) > 1]
        some = some[taken(frame.clean_plate, some).amax(1) <= 1]
        images = (frame.plate, frame.clean_plate, foreground)
        found = _dimmed(*(taken(image, some).T.contiguous() for image in images))
        for plane, values in zip((given.plate, given.keyed_foreground), found):
            plane.view(3, -1).index_copy_(1, some, values)


def dimmed_at_once(
    plate: Tensor, clean_plate: Tensor, alpha: Tensor, foreground: Tensor
) -> tuple[Tensor, Tensor]:
    """Plate and colour (3, H, W) for the network without a look at the picture, as a GPU does it.

    plate, clean_plate: (H, W, 3), not cut, of a scene-linear frame. alpha, foreground: as there.
    """
    seen, empty, own = (image.permute(2, 0, 1) for image in (plate, clean_plate, foreground))
    here = (alpha > 0) & (alpha < 1) & (own.amax(0) > 1) & (empty.amax(0) <= 1)
    found = _dimmed(seen, empty, own)
    one, other = (
        torch.where(here, dim, image.clamp(0, 1)) for dim, image in zip(found, (seen, own))
    )
    return one, other


def _dimmed(plate: Tensor, clean_plate: Tensor, colour: Tensor) -> tuple[Tensor, Tensor]:
    """Plate and colour (3, ...) of pixels, encoded 0..1."""
    display = torch.stack([plate, clean_plate, colour]).clamp_(0, _LARGEST)
    seen, empty, own = decoded(display).unbind()
    apart, left = own - empty, own.clamp(max=1) - empty
    share = (_length(left) / _length(apart).clamp_min(_LEAST_APART)).clamp_(max=1)
    both = torch.stack([empty + share * (seen - empty), empty + share * apart])
    dim = encoded(both.clamp_(0, 1)).clamp_(0, 1)
    return dim[0], dim[1]


def _length(colour: Tensor) -> Tensor:
    return colour.square().sum(0).sqrt()
