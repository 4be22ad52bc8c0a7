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

import numpy as np

from mattebridge.color import FloatImage, Mask, srgb_decode, srgb_encode
from mattebridge.models.base import ModelInput, ModelOutput

# Where the set is brighter than white by this much, encoded, the rules apply in full; between white
# and that they are blended in, so that grain at white does not switch them.
BLEND = 0.1
# Square of the alpha at which half of what is unexplained is given to the colour; the noise of a
# straight colour is enlarged elevenfold at most.
HALF_AT = 0.002
# Encoded; a larger value has no meaning, and decoding it would exceed float32.
LARGEST = 1e6


def with_highlights(
    given: ModelInput, alpha: FloatImage, foreground: FloatImage, keyed: ModelOutput
) -> None:
    """Correct the network's alpha (H, W) and straight foreground (H, W, 3) in place.

    foreground: 0..1, as the network gives it. keyed: the matte of `difference` for the same frame.
    """
    assert given.clean_plate is not None
    plate, clean_plate = (_brightest(image) for image in (given.plate, given.clean_plate))
    if max(plate.max(), clean_plate.max()) <= 1:
        return
    _take_keyed(clean_plate, alpha, foreground, keyed)
    opaque = (plate > 1) & (alpha >= 1)
    foreground[opaque] = given.plate[opaque]
    soft, hot = (alpha > 0) & (alpha < 1), (plate > 1) | (clean_plate > 1)
    _explain(given, alpha, foreground, soft & hot, 1.0)
    if given.scene_linear:
        _explain(given, alpha, foreground, soft & ~hot, float(_share_of(clean_plate.max())))


def _brightest(image: FloatImage) -> FloatImage:
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])


def _share_of(brightness: Any) -> Any:
    """How far the rules apply before a set of this brightness, encoded; 0 at white, 1 beyond."""
    return np.clip((brightness - np.float32(1)) / np.float32(BLEND), 0, 1)


def _take_keyed(
    brightness: FloatImage, alpha: FloatImage, foreground: FloatImage, keyed: ModelOutput
) -> None:
    """Blend the keyer's matte in where the set is above white."""
    hidden = brightness > 1
    share, near = _share_of(brightness[hidden]), foreground[hidden]
    alpha[hidden] += share * (keyed.alpha[hidden] - alpha[hidden])
    foreground[hidden] = near + share[:, None] * (keyed.foreground[hidden] - near)


def _explain(
    given: ModelInput, alpha: FloatImage, foreground: FloatImage, where: Mask, share: float
) -> None:
    """Give the colour what plate = alpha * colour + (1 - alpha) * clean plate lacks, in place.

    In the light of the request's colour space. share: of the correction, 0..1.
    """
    if not share or not where.any():
        return
    assert given.clean_plate is not None
    part, near = alpha[where][:, None], foreground[where]
    encoded = [
        np.minimum(image, np.float32(LARGEST))
        for image in (given.plate[where], given.clean_plate[where], near)
    ]
    ceiling = np.maximum(1, encoded[0].max(axis=1, keepdims=True))
    seen, empty, own = map(srgb_decode, encoded) if given.scene_linear else encoded
    left = seen - part * own - (1 - part) * empty
    own = np.maximum(own + left * (part / (np.square(part) + np.float32(HALF_AT))), 0)
    own = np.minimum(srgb_encode(own) if given.scene_linear else own, ceiling)
    foreground[where] = near + np.float32(share) * (own - near)
