"""What the network does not see is computed: light above white, and mixing in linear light.

    set above white behind the pixel --> the keyer's alpha and colour, which are of the whole values
    plate above white, or linear     --> the subject's own light, unmixed from the clean plate

The network is given plates cut at 1. Before a lamp of the set, a plate and a clean plate that are
both cut look alike, whatever covers them; so its alpha means nothing there. And the light above
white in a soft pixel is partly the set's: it must not be added to the foreground whole, or the lamp
glows through the subject's edge in every composite.

The network mixes display-encoded colours. Where the request says that the plate was mixed in linear
light, the same unmixing closes what is left between composite and plate.

Rule: pixels of display-encoded frames without a value above 1 are not changed.
"""

from __future__ import annotations

import numpy as np

from mattebridge.color import FloatImage, Mask, srgb_decode, srgb_encode
from mattebridge.models.base import ModelInput, ModelOutput

# The keyer's matte counts alone where the set is brighter than white by this much, encoded; between
# white and that the two are blended, so that grain at white does not switch between them.
BLEND = 0.1
# Square of the alpha at which half of what is unexplained is given to the colour: at 0.3 it is nine
# tenths, and noise is never enlarged more than fivefold.
HALF_AT = 0.01
# Encoded; a larger value has no meaning, and decoding it would exceed float32.
LARGEST = 1e6


def with_highlights(
    given: ModelInput, alpha: FloatImage, foreground: FloatImage, keyed: ModelOutput
) -> None:
    """Correct the network's alpha (H, W) and straight foreground (H, W, 3) in place.

    foreground: 0..1, as the network gives it. keyed: the matte of `difference` for the same frame.
    """
    assert given.clean_plate is not None
    plate, clean_plate = given.plate.max(axis=2), given.clean_plate.max(axis=2)
    _take_keyed(clean_plate, alpha, foreground, keyed)
    opaque = (plate > 1) & (alpha >= 1)
    foreground[opaque] = given.plate[opaque]
    soft = (alpha > 0) & (alpha < 1)
    if not given.scene_linear:
        soft &= (plate > 1) | (clean_plate > 1)
    _explain(given, alpha, foreground, soft)


def _take_keyed(
    brightest: FloatImage, alpha: FloatImage, foreground: FloatImage, keyed: ModelOutput
) -> None:
    """Blend the keyer's matte in where the set is above white."""
    hidden = brightest > 1
    share = np.minimum((brightest[hidden] - 1) / np.float32(BLEND), 1)
    alpha[hidden] += share * (keyed.alpha[hidden] - alpha[hidden])
    near = foreground[hidden]
    foreground[hidden] = near + share[:, None] * (keyed.foreground[hidden] - near)


def _explain(given: ModelInput, alpha: FloatImage, foreground: FloatImage, where: Mask) -> None:
    """Give the colour what plate = alpha * colour + (1 - alpha) * clean plate lacks, in place.

    In the light of the request's colour space; less the smaller alpha is.
    """
    assert given.clean_plate is not None
    part = alpha[where][:, None]
    encoded = [
        np.minimum(image[where], np.float32(LARGEST))
        for image in (given.plate, given.clean_plate, foreground)
    ]
    ceiling = np.maximum(1, encoded[0].max(axis=1, keepdims=True, initial=0))
    seen, empty, own = map(srgb_decode, encoded) if given.scene_linear else encoded
    left = seen - part * own - (1 - part) * empty
    own = np.maximum(own + left * (part / (np.square(part) + np.float32(HALF_AT))), 0)
    own = srgb_encode(own) if given.scene_linear else own
    foreground[where] = np.minimum(own, ceiling)
