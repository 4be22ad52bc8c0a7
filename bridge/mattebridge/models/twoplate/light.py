"""A scene-linear plate explained in linear light, by a little of alpha and a little of the colour.

The network explains a plate in display-encoded values. One that was mixed in light is then not
quite `alpha * F + (1 - alpha) * B`, and a composite over the clean plate B differs from it at soft
pixels. To unmix the colour F would give the plate back, and would put all of the network's errors
in alpha into the colour. So what is left is shared:

    left = plate - (alpha * F + (1 - alpha) * B), in light
      part of it along F - B ---> alpha, which may be wrong by ALPHA_OFF
      the rest ----------------> colour, which may be wrong by COLOUR_OFF; less where alpha is small
      what grain explains -----> stays

Each is the most likely correction where errors are normal (Tikhonov regularisation, one pixel at a
time). The twelve composites of tests/quality that are mixed in light, before and after (and
unmixed): composite over the clean plate at soft pixels 0.026 -> 0.011 (0.016), colour 5.4 -> 5.7
(10.9), alpha 40.7 -> 40.0 (40.7).

Rule: opaque and empty pixels, those above white, those of a subject above white, those that the
clean plate does not cover and those far from every nearly opaque one are not changed, nor is a
request in display-encoded values. Far ones are shadows and things of the set that moved: with them
the sample shot got worse, alpha 17.6 -> 18.8. The network's colour of a subject above white is cut
there: measured against it a soft pixel has too much light, and alpha, too large already, rises.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from mattebridge.models.difference.full_size import places_near
from mattebridge.models.pytorch.curves import decoded, encoded
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.pytorch.pixels import put, taken
from mattebridge.models.twoplate.near import near

# Deviations that the network is taken to have: of an alpha of 0.5, and of an opaque colour in
# light; less with the power of 1.5 of how soft a pixel is, and of its alpha. Larger ones explain
# more of the plate, and move alpha in cast shadows, where the plate is no mixture, or the colour.
ALPHA_OFF = 0.14
COLOUR_OFF = 0.18
# Soft pixels that are farther than so many pixels, and than this share of the long side, from all
# pixels of this alpha are left to the network.
OPAQUE, NEAR_PX, NEAR_SHARE = 0.95, 32, 0.03
# `noise` is that of a difference of two pictures.
_OF_ONE = 0.7
_LEAST_NOISE = 0.001
# Beyond white the correction fades over this much, encoded: several times what grain makes of the
# keyer's colours, which are means, so that it does not switch it.
_FADED = 0.03
# Pixels at a time: on the CPU they stay in its cache, on a GPU they bound the memory, some 150
# bytes each.
_AT_ONCE, _AT_ONCE_OF_GPU = 1 << 13, 1 << 22


def explain_in_light(
    frame: Frame,
    alpha: Tensor,
    foreground: Tensor,
    noise: float,
    keyed: Optional[Tensor] = None,
) -> None:
    """Correct alpha (H, W) and straight foreground (H, W, 3), encoded 0..1, in place.

    noise: deviation of one channel between plate and clean plate, display-encoded. keyed: the
    keyer's foreground (H, W, 3), not cut; `None` where nothing is above white.
    """
    if not frame.scene_linear:
        return
    soft = (alpha > 0) & (alpha < 1)
    if frame.outside is not None:
        soft &= ~frame.outside
    # Where a nearly opaque pixel is near: a subject's edge, no shadow or moved thing.
    places = places_near(soft, alpha >= OPAQUE, _reach_px(alpha))
    grain = max(noise * _OF_ONE, _LEAST_NOISE) ** 2
    at_once = _AT_ONCE if alpha.device.type == "cpu" else _AT_ONCE_OF_GPU
    for some in torch.split(places, at_once):
        seen, empty, own = (
            _channels(image, some) for image in (frame.plate, frame.clean_plate, foreground)
        )
        before = taken(alpha, some)
        found, colour = _explained(before, seen, empty, own, grain)
        if keyed is not None:
            share = _up_to_white(taken(keyed, some).amax(1))
            found, colour = torch.lerp(before, found, share), torch.lerp(own, colour, share)
        put(alpha, some, found)
        put(foreground, some, colour.T)


def explained_at_once(
    alpha: Tensor,
    foreground: Tensor,
    plate: Tensor,
    clean_plate: Tensor,
    outside: Optional[Tensor],
    noise: Tensor,
    keyed: Optional[Tensor] = None,
) -> tuple[Tensor, Tensor]:
    """The same for a scene-linear frame without a look at the picture, as a GPU does it.

    Images as there, outside: (H, W) float, 0 or 1; noise: a tensor of one value. Gives alpha and
    foreground.
    """
    soft = (alpha > 0) & (alpha < 1) & near(alpha >= OPAQUE, _reach_px(alpha))
    if outside is not None:
        soft &= outside <= 0
    grain = (noise * _OF_ONE).clamp(min=_LEAST_NOISE).square_()
    seen, empty, own = (image.permute(2, 0, 1) for image in (plate, clean_plate, foreground))
    found, colour = _explained(alpha, seen, empty, own, grain)
    if keyed is not None:
        share = _up_to_white(keyed.amax(2))
        found, colour = torch.lerp(alpha, found, share), torch.lerp(own, colour, share)
    return torch.where(soft, found, alpha), torch.where(soft, colour, own).permute(1, 2, 0)


def _up_to_white(brightness: Tensor) -> Tensor:
    """How much of the correction counts for a subject of this brightness, encoded."""
    return (1 - (brightness - 1) / _FADED).clamp_(0, 1)


def _reach_px(alpha: Tensor) -> float:
    return max(NEAR_PX, NEAR_SHARE * max(alpha.shape))


def _explained(
    before: Tensor, plate: Tensor, empty: Tensor, colour: Tensor, grain: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Alpha (...) and colour (3, ...) of pixels, corrected; grain: its variance."""
    inside = torch.maximum(plate, empty).amax(0) <= 1
    # Values above 1 are not used: `inside` leaves these pixels out.
    plate, empty, own = decoded(torch.stack([plate, empty, colour]).clamp_(max=1)).unbind()
    part = _corrected_alpha(before, plate, empty, own, grain)
    left = plate - part * own - (1 - part) * empty
    may_be_off = _colour_variance(part)
    own += left * (part * may_be_off / (part.square() * may_be_off + grain))
    found = encoded(own.clamp_(min=0)).clamp_(0, 1)
    return torch.where(inside, part, before), torch.where(inside, found, colour)


def _channels(image: Tensor, places: Tensor) -> Tensor:
    """The pixels at these places as (3, N): arithmetic on whole channels is much quicker."""
    return taken(image, places).T.contiguous()


def _colour_variance(part: Tensor) -> Tensor:
    return COLOUR_OFF**2 * part * part * part


def _corrected_alpha(
    part: Tensor, plate: Tensor, empty: Tensor, own: Tensor, grain: float | Tensor
) -> Tensor:
    """Alpha (...) moved along F - B by what the plate lacks there; the images are (3, ...)."""
    apart = own - empty
    left = plate - empty - part * apart
    softness = 4 * part * (1 - part)
    may_be_off = ALPHA_OFF**2 * softness * softness * softness
    doubt = part.square() * _colour_variance(part) + grain
    along, length = (apart * left).sum(0), apart.square().sum(0)
    return (part + may_be_off * along / (doubt + may_be_off * length)).clamp_(0, 1)
