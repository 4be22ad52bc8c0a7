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

from typing import Any

import torch
from torch import Tensor

from mattebridge.models.base import ModelOutput
from mattebridge.models.difference.full_size import copy_where, places_of
from mattebridge.models.pytorch.curves import decoded, encoded
from mattebridge.models.pytorch.frames import Frame

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
    keyed: ModelOutput,
    brightest: tuple[float, float],
) -> None:
    """Correct the network's alpha (H, W) and straight foreground (H, W, 3) in place.

    foreground: 0..1, as the network gives it. keyed: the matte of `difference` for the same frame,
    tensors of the frame's device. brightest: the highest value of plate and clean plate.
    """
    if max(brightest) <= 1:
        return
    plate, clean_plate = (image.amax(2) for image in (frame.plate, frame.clean_plate))
    _take_keyed(clean_plate, alpha, foreground, keyed)
    opaque = (plate > 1) & (alpha >= 1)
    copy_where(opaque, frame.plate, foreground)
    soft, hot = (alpha > 0) & (alpha < 1), (plate > 1) | (clean_plate > 1)
    elsewhere = _share_of(brightest[1]) if frame.scene_linear else 0.0
    _explain(frame, alpha, foreground, soft, torch.where(hot, 1.0, elsewhere))


def _share_of(brightness: float) -> float:
    """How far the rules apply before a set of this brightness, encoded; 0 at white, 1 beyond."""
    return min(max((brightness - 1) / BLEND, 0.0), 1.0)


def _take_keyed(brightness: Tensor, alpha: Tensor, foreground: Tensor, keyed: ModelOutput) -> None:
    """Blend the keyer's matte in where the set is above white."""
    # A GPU does all of the frame before it has told where that is.
    places: Any = places_of(brightness > 1) if alpha.device.type == "cpu" else slice(None)
    share = ((brightness.view(-1)[places] - 1) / BLEND).clamp_(0, 1)
    for image, others in ((alpha, keyed.alpha), (foreground, keyed.foreground)):
        flat, other = (one.reshape(len(brightness.view(-1)), -1) for one in (image, others))
        own = flat[places]
        flat[places] = own + share[:, None] * (other[places] - own)


def _explain(frame: Frame, alpha: Tensor, foreground: Tensor, soft: Tensor, share: Tensor) -> None:
    """Give the colour what plate = alpha * colour + (1 - alpha) * clean plate lacks, in place.

    In the light of the request's colour space. soft, share: (H, W), which pixels, and how much of
    the correction, 0..1.
    """
    places = places_of(soft & (share > 0))
    at_once = AT_ONCE if places.device.type == "cpu" else max(1, len(places))
    for some in torch.split(places, at_once):
        _explain_some(frame, alpha, foreground, share, some)


def _explain_some(
    frame: Frame, alpha: Tensor, foreground: Tensor, share: Tensor, places: Tensor
) -> None:
    """The same of the pixels at these places."""
    share = share.view(-1)[places][:, None]
    part, near = alpha.view(-1)[places][:, None], foreground.view(-1, 3)[places]
    images = (frame.plate.reshape(-1, 3)[places], frame.clean_plate.reshape(-1, 3)[places], near)
    display = torch.stack(images).clamp_(max=LARGEST)
    ceiling = display[0].amax(1, keepdim=True).clamp_(min=1)
    seen, empty, own = (decoded(display) if frame.scene_linear else display).unbind()
    left = seen - part * own - (1 - part) * empty
    own = (own + left * (part / (part.square() + HALF_AT))).clamp_(min=0)
    own = (encoded(own) if frame.scene_linear else own).minimum(ceiling)
    foreground.view(-1, 3)[places] = near + share * (own - near)
