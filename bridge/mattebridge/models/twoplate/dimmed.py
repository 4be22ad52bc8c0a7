"""The soft edges of a subject brighter than white, as the network can see them: with their alpha.

    plate = alpha * F + (1 - alpha) * B, in light, F above white
    B + s * (plate - B) = alpha * (B + s * (F - B)) + (1 - alpha) * B

The network is given plates cut at 1. Cut, a tenth of a highlight that is ten times as bright as
white looks like all of it, and edges come out solid and too far outside. So the plate's difference
from the set is made smaller there, by the same factor as the keyer's colour F, which is not cut:
alpha stays what it was, and so does the set. The factor leaves between colour and set the distance
that a cut at white would leave.

Rule: only where the plate is cut, that is above white, and the set is not; and only where the
keyer's alpha is neither 0 nor 1 and its colour is above white. Elsewhere plate and colour are cut.
Darker pixels are left to the network, which sees them as they are: a body of such pixels that the
keyer took for a faint trace of something very bright would be dimmed away with them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.pytorch.pixels import places_above, taken
from mattebridge.models.twoplate.mixed import LIGHTEST
from mattebridge.models.twoplate.network import Inputs

# Beyond white the plate is dimmed over this much, encoded, so that grain does not switch it.
_FADED = 0.03
# A colour is at least this far from the set, in light.
_LEAST_APART = 1e-6
# Pixels at a time on a CPU: they stay in its cache.
_AT_ONCE = 1 << 13


def dim_edges(given: Inputs, frame: Frame, alpha: Tensor, foreground: Tensor) -> None:
    """Write those edges into the network's plate and colour, which are of this frame's size.

    alpha (H, W) and foreground (H, W, 3): the keyer's that the network is given, not cut.
    """
    images = frame.plate, frame.clean_plate, foreground
    for some in torch.split(places_above(frame.plate, 1), _AT_ONCE):
        part = taken(alpha, some)
        some = some[(part > 0) & (part < 1)]
        plate, empty, own = (taken(image, some) for image in images)
        cut = (own.amax(1) > 1) & (empty.amax(1) <= 1)
        pixels = (image[cut].T.contiguous() for image in (plate, empty, own))
        found = _dimmed(frame.scene_linear, *pixels)
        for plane, values in zip((given.plate, given.keyed_foreground), found):
            plane.view(3, -1).index_copy_(1, some[cut], values)


def dimmed_at_once(
    plate: Tensor,
    clean_plate: Tensor,
    alpha: Tensor,
    foreground: Tensor,
    *,
    scene_linear: bool,
) -> tuple[Tensor, Tensor]:
    """Plate and colour (H, W, 3) for the network without a look at the picture, as a GPU does it.

    plate, clean_plate: (H, W, 3), not cut. alpha, foreground: as there.
    """
    images = plate, clean_plate, foreground
    bright = torch.stack(images).amax(3) > 1
    here = bright[0] & bright[2] & ~bright[1] & (alpha > 0) & (alpha < 1)
    found = _dimmed(scene_linear, *(image.permute(2, 0, 1) for image in images))
    one, other = (
        torch.where(here[..., None], dim.permute(1, 2, 0), image.clamp(0, 1))
        for dim, image in zip(found.unbind(), (plate, foreground))
    )
    return one, other


def _dimmed(scene_linear: bool, plate: Tensor, clean_plate: Tensor, colour: Tensor) -> Tensor:
    """Plate and colour (2, 3, ...) of pixels, encoded 0..1."""
    both = torch.stack([plate, colour, colour.clamp(max=1)]).clamp_(0, LIGHTEST)
    brightness = both[0].amax(0)
    # Squares are close enough to linear light, and are what the network measures it by.
    light = both.square() if scene_linear else both
    empty = clean_plate.clamp(0, 1)
    empty = empty.square() if scene_linear else empty
    away = light - empty
    reach, left = away[1:].square().sum(1).sqrt().unbind()
    share = (left / reach.clamp_min(_LEAST_APART)).clamp_(max=1)
    share = torch.lerp(torch.ones_like(share), share, ((brightness - 1) / _FADED).clamp_(0, 1))
    dim = torch.addcmul(empty, share, away[:2]).clamp_(0, 1)
    return dim.sqrt() if scene_linear else dim
