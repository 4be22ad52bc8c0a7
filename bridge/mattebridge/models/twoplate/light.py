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

Rule: opaque and empty pixels, those above white, those that the clean plate does not cover and
those far from every nearly opaque one are not changed, nor is a request in display-encoded values.
The last ones are shadows and things of the set that moved: with them the sample shot got worse,
alpha 17.6 -> 18.8.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import FloatImage, srgb_decode, srgb_encode
from mattebridge.models.base import ModelInput

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
# Pixels at a time: bounds the memory, some 150 bytes each.
_AT_ONCE = 1 << 18


def explain_in_light(
    given: ModelInput, alpha: FloatImage, foreground: FloatImage, noise: float
) -> None:
    """Correct alpha (H, W) and straight foreground (H, W, 3), encoded 0..1, in place.

    noise: deviation of one channel between plate and clean plate, display-encoded.
    """
    if not given.scene_linear:
        return
    soft = (alpha > 0) & (alpha < 1)
    if given.outside is not None:
        soft &= ~given.outside
    soft &= _near_subject(alpha)
    grain = np.float32(max(noise * _OF_ONE, _LEAST_NOISE)) ** 2
    rows, columns = np.nonzero(soft)
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        _explain((rows[part], columns[part]), given, alpha, foreground, grain)


def _near_subject(alpha: FloatImage) -> NDArray[np.bool_]:
    """Where a nearly opaque pixel is near: a subject's edge, no shadow or moved thing."""
    away = cv2.distanceTransform((alpha < OPAQUE).astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(away < max(NEAR_PX, NEAR_SHARE * max(alpha.shape)))


def _explain(
    where: tuple[Any, Any],
    given: ModelInput,
    alpha: FloatImage,
    foreground: FloatImage,
    grain: np.float32,
) -> None:
    """Correct the pixels at these rows and columns, in place; grain: its variance."""
    assert given.clean_plate is not None
    plate, empty = (_channels(image, where) for image in (given.plate, given.clean_plate))
    inside = np.maximum(plate, empty).max(axis=0) <= 1
    where = (where[0][inside], where[1][inside])
    plate, empty = (srgb_decode(image[:, inside]) for image in (plate, empty))
    own = srgb_decode(_channels(foreground, where))
    part = _corrected_alpha(alpha[where], plate, empty, own, grain)
    left = plate - part * own - (1 - part) * empty
    may_be_off = _colour_variance(part)
    own += left * (part * may_be_off / (np.square(part) * may_be_off + grain))
    alpha[where] = part
    foreground[where] = np.clip(srgb_encode(np.maximum(own, 0)), 0, 1).T


def _channels(image: FloatImage, where: tuple[Any, Any]) -> FloatImage:
    """The pixels at these places as (3, N): arithmetic on whole channels is much quicker."""
    return np.ascontiguousarray(image[where].T)


def _colour_variance(part: FloatImage) -> FloatImage:
    return np.float32(COLOUR_OFF**2) * part * part * part


def _corrected_alpha(
    part: FloatImage, plate: FloatImage, empty: FloatImage, own: FloatImage, grain: np.float32
) -> FloatImage:
    """Alpha (N,) moved along F - B by what the plate lacks there; the images are (3, N)."""
    apart = own - empty
    left = plate - empty - part * apart
    softness = 4 * part * (1 - part)
    may_be_off = np.float32(ALPHA_OFF**2) * softness * softness * softness
    doubt = np.square(part) * _colour_variance(part) + grain
    along, length = (apart * left).sum(axis=0), np.square(apart).sum(axis=0)
    moved: FloatImage = part + may_be_off * along / (doubt + may_be_off * length)
    return np.clip(moved, 0, 1)
