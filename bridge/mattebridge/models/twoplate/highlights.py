"""What the network does not see is computed: light above white.

    set above white behind a pixel ----> alpha and colour of the keyer, which sees it
    plate or set above white there ----> colour: the subject's own light, unmixed from the set
    set above white, linear request ---> the same at every soft pixel of the frame

The network is given plates cut at 1. Before a lamp of the set, a plate and a clean plate that are
both cut look alike, whatever covers them; so its alpha means nothing there. And the light above
white in a soft pixel is partly the set's: added to the foreground whole, it would glow through the
subject's edge in every composite.

The network explains the plate in display-encoded colours. Beside lamps a plate that was mixed in
linear light needs more: there the colour of every soft pixel is completed in linear light.

Rule: where neither plate nor clean plate has a value above 1, nothing is changed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mattebridge.models.difference.full_size import places_of
from mattebridge.models.pytorch.curves import decoded, encoded
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.pytorch.pixels import places_above, put, taken

# Where the set is brighter than white by this much, encoded, the rules apply in full; between white
# and that they are blended in, so that grain at white does not switch them.
BLEND = 0.1
# Square of the alpha at which half of what is unexplained is given to the colour; the noise of a
# straight colour is enlarged elevenfold at most.
HALF_AT = 0.002
# Pixels at a time on a CPU: they stay in its cache.
AT_ONCE = 1 << 13
# Encoded; a larger value has no meaning, and decoding it would exceed float32.
LARGEST = 1e6


def with_highlights(
    frame: Frame,
    alpha: Tensor,
    foreground: Tensor,
    keyed: tuple[Tensor, Tensor],
    brightest: tuple[float, float],
) -> None:
    """Correct the network's alpha (H, W) and straight foreground (H, W, 3) in place.

    foreground: 0..1, as the network gives it. keyed: alpha and foreground of `difference` for the
    same frame, on its device. brightest: the highest value of plate and clean plate.
    """
    if max(brightest) <= 1:
        return
    over, behind = (places_above(image, 1) for image in (frame.plate, frame.clean_plate))
    _take_keyed(frame.clean_plate, behind, alpha, foreground, keyed)
    opaque = over[taken(alpha, over) >= 1]
    put(foreground, opaque, taken(frame.plate, opaque))
    hot = torch.zeros(alpha.numel(), dtype=torch.bool, device=alpha.device)
    hot[over] = hot[behind] = True
    elsewhere = _share_of(brightest[1]) if frame.scene_linear else 0.0
    soft = ((alpha > 0) & (alpha < 1)).view(-1)
    places = places_of(soft if elsewhere > 0 else soft & hot)
    at_once = AT_ONCE if places.device.type == "cpu" else max(1, len(places))
    for some in torch.split(places, at_once):
        part, own = taken(alpha, some), taken(foreground, some)
        seen, empty = taken(frame.plate, some), taken(frame.clean_plate, some)
        share = torch.where(hot[some], 1.0, elsewhere)
        found = _explained(part, own, seen, empty, share, frame.scene_linear)
        put(foreground, some, found)


def highlighted_at_once(
    alpha: Tensor,
    foreground: Tensor,
    keyed: tuple[Tensor, Tensor],
    plate: Tensor,
    clean_plate: Tensor,
    *,
    scene_linear: bool,
) -> tuple[Tensor, Tensor]:
    """The same without a look at the picture, as a GPU does it; gives alpha and foreground.

    keyed: alpha and foreground of `difference`. plate, clean_plate: (H, W, 3), not cut.
    """
    seen, empty = plate.amax(2), clean_plate.amax(2)
    share = _of_white(empty)
    alpha = alpha + share * (keyed[0] - alpha)
    foreground = foreground + share[..., None] * (keyed[1] - foreground)
    opaque = (seen > 1) & (alpha >= 1)
    foreground = torch.where(opaque[..., None], plate, foreground)
    share = ((seen > 1) | (empty > 1)).float()
    if scene_linear:
        share = share.maximum(_of_white(empty.amax()))
    found = _explained(alpha, foreground, plate, clean_plate, share, scene_linear)
    soft = (alpha > 0) & (alpha < 1) & (share > 0)
    return alpha, torch.where(soft[..., None], found, foreground)


def _share_of(brightness: float) -> float:
    """How far the rules apply before a set of this brightness, encoded; 0 at white, 1 beyond."""
    return min(max((brightness - 1) / BLEND, 0.0), 1.0)


def _of_white(brightness: Tensor) -> Tensor:
    """`_share_of` for pixels."""
    return ((brightness - 1) / BLEND).clamp_(0, 1)


def _take_keyed(
    clean_plate: Tensor,
    places: Tensor,
    alpha: Tensor,
    foreground: Tensor,
    keyed: tuple[Tensor, Tensor],
) -> None:
    """Blend the keyer's matte in where the set is above white: at these places."""
    share = _of_white(taken(clean_plate, places).amax(1))
    for image, other, part in zip((alpha, foreground), keyed, (share, share[:, None])):
        own = taken(image, places)
        put(image, places, own + part * (taken(other, places) - own))


def _explained(
    part: Tensor,
    near: Tensor,
    plate: Tensor,
    clean_plate: Tensor,
    share: Tensor,
    scene_linear: bool,
) -> Tensor:
    """The colour `near` (..., 3) of pixels with what plate = alpha * colour + (1 - alpha) *
    clean plate lacks, in the light of the request's colour space.

    part: their alpha (...). share: how much of the correction (...), 0..1.
    """
    part, share = part[..., None], share[..., None]
    display = torch.stack((plate, clean_plate, near)).clamp_(max=LARGEST)
    ceiling = display[0].amax(-1, keepdim=True).clamp_(min=1)
    seen, empty, own = (decoded(display) if scene_linear else display).unbind()
    left = seen - part * own - (1 - part) * empty
    own = (own + left * (part / (part.square() + HALF_AT))).clamp_(min=0)
    own = (encoded(own) if scene_linear else own).minimum(ceiling)
    return near + share * (own - near)
