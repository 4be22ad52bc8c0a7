"""The foreground without the screen: not what shows through, and not its light on the subject.

    plate - (1 - alpha) field = subject's own and spilt light --> less the spill --> limited

Spill has the colour of the screen and lies over the subject's own. How strong it is follows from
the key of opaque subject nearby (`weights`). What is left of the screen's colour after that, above
what the inside of the subject shows by itself, is limited to the larger of the other channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from mattebridge.models.screen.field import blurred
from mattebridge.models.screen.find import Screen
from mattebridge.models.screen.key import Key

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# The unmixed colour counts from the first alpha on, and alone from the second on; below, it is that
# of the subject nearby. It is divided by the third at least.
UNMIX_FROM, UNMIX_FULL, UNMIX_LEAST = 0.05, 0.4, 0.05
# Colours are spread at this share of the working size, over these radii, each counting for this
# much of the one before.
SHARE, RADII_PX, FALL = 4, (1.0, 3.0, 9.0, 27.0), 0.05
# An excess of the screen's channel inside the subject is spill up to this, beyond it its own.
SPILT = 0.06


def nearby_colour(picture: FloatImage, sure: FloatImage) -> FloatImage:
    """The mean colour of the sure subject nearby, (h, w, C) at a quarter of working size."""
    height, width = sure.shape
    small = max(1, width // SHARE), max(1, height // SHARE)
    weight = _spread(cv2.resize(sure, small, interpolation=cv2.INTER_AREA))
    light = cv2.resize(picture * sure[..., None], small, interpolation=cv2.INTER_AREA)
    return _spread(light.reshape(*weight.shape, -1)) / weight[..., None]


def own_excess(plate: FloatImage, key: Key, screen: Screen) -> FloatImage:
    """(h, w): by how much the subject's own colour is the screen's, as its inside shows it."""
    first, second = screen.others
    others = np.maximum(plate[..., first], plate[..., second])
    beyond = np.maximum(plate[..., screen.channel] - others - np.float32(SPILT), 0)
    inside = key.deep.astype(np.float32)
    if not key.deep.any():
        return np.zeros((1, 1), np.float32)
    return np.ascontiguousarray(nearby_colour(beyond[..., None], inside)[..., 0] * 1.5)


def without_screen(
    light: FloatImage,
    field: FloatImage,
    alpha: FloatImage,
    spill: FloatImage,
    near: FloatImage,
) -> FloatImage:
    """The straight colour of the subject (N, 3), of pixels in the light that mixes.

    alpha: (N,). spill: (N,), the share of the screen's light on it. near: (N, 3), the colour of the
    subject nearby, without it.
    """
    part = alpha[:, None]
    own = np.maximum(light - (1 - part) * field, 0) / np.maximum(part, np.float32(UNMIX_LEAST))
    weight = np.clip((part - UNMIX_FROM) / (UNMIX_FULL - UNMIX_FROM), 0, 1)
    # A pixel with hardly any subject tells nothing of its colour above white.
    ceiling = np.maximum(np.maximum(light[:, 0], light[:, 1]), np.maximum(light[:, 2], 1))
    own = np.minimum(own, ceiling[:, None]) - spill[:, None] * field
    return np.maximum(weight * own + (1 - weight) * near, 0)


def limited(colour: FloatImage, allowed: FloatImage, strength: float, screen: Screen) -> FloatImage:
    """The screen's channel of colours (N, 3), encoded, cut to the larger of the others, and what is
    allowed over it (N,)."""
    first, second = screen.others
    limit = np.maximum(colour[:, first], colour[:, second]) + allowed
    over = np.maximum(colour[:, screen.channel] - limit, 0)
    colour[:, screen.channel] -= np.float32(strength) * over
    return colour


def _spread(values: FloatImage) -> FloatImage:
    """Values blurred over all radii, and a little of their mean everywhere."""
    found = np.zeros_like(values)
    found += values.mean(axis=(0, 1)) * np.float32(FALL ** len(RADII_PX)) + np.float32(1e-9)
    for index, radius in enumerate(RADII_PX):
        found += blurred(values, radius).reshape(values.shape) * np.float32(FALL**index)
    return found
