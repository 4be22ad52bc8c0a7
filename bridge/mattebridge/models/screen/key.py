"""How much of the screen is in each pixel, and where there is certainly nothing but subject.

    excess of the screen's channel over that of the field --> image-based key --> empty, inside
    key's slope at the outline --> width of the edge --> deep: farther inside than the edge is wide
    key varies from pixel to pixel --> hair with the screen between: not deep
    share of the screen's channel in the colour --> sure: the least screen of all colours nearby

The image-based key (IBK) subtracts a weighted mean of the other channels from the screen's, for the
plate and the field, and compares. It knows the screen exactly and the subject not at all: green
hair, and red hair with screen between, look the same to it. So it is taken here with equal weights,
to find what is certain; `weights` then learns better ones from that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mattebridge.models.screen.field import Field, blurred
from mattebridge.models.screen.find import Screen

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

# All lengths in pixels of a frame of 640.
# Blur before keying, so that grain does not count; and the key below which there is only screen.
SOFT_PX, EMPTY = 2.0, 0.06
# The first rise of the key, where the width of an edge is measured; blur, and reach of a measure.
RISE, WIDE_BLUR_PX, NEAR_PX, FAR_PX, FAR_WEIGHT = (0.1, 0.35), 2.5, 12.0, 60.0, 0.02
CONTRAST_PX, LEAST_SLOPE, LEAST_WIDTH_PX, MOST_WIDTH_PX = 30.0, 0.01, 2.0, 80.0
# Widths are found at this share of the working size.
SHARE = 2
# Deep is so many widths inside, at least so many pixels, with this key.
DEEP_WIDTHS, LEAST_DEEP_PX, DEEP_KEY = 1.7, 4.0, 0.35
# Fine is what varies by this and by so many noises of the empty screen; the key above which nothing
# counts; a blur (pixels of the picture), and radii of the detail and of its mean.
FINE, FINE_NOISES, FINE_KEY, FINE_BLUR_PX, FINE_PX = 0.05, 2.5, 0.8, 0.7, (2.0, 3.0)
# Radius within which the colour with the least screen is opaque; the power by which others count
# less; the least key of subject; and what deep pixels count at least.
RADIUS_PX, POWER, LEAST_KEY, DEEP_COUNTS = 25.0, 4.0, 0.3, 0.1
# Added to channels before shares are taken: black has no hue.
BLACK, MOST_SHARE = 0.02, 0.45


@dataclass(frozen=True)
class Key:
    """All (h, w) at working size.

    empty: nothing but screen. deep: farther inside than edges are wide here, and not hair with the
    screen between. sure: how sure each pixel is nothing but subject, 0..1.
    """

    empty: Mask
    deep: Mask
    sure: FloatImage


def make_key(plate: FloatImage, field: Field, screen: Screen) -> Key:
    """The key of a plate (h, w, 3) at working size, display-encoded."""
    unit = max(field.seen.shape) / 640
    behind = np.maximum(screen.excess(field.picture), np.float32(0.02))
    soft = blurred(plate, SOFT_PX * unit)
    alpha = 1 - screen.excess(soft) / behind
    quiet = (np.abs(alpha) < EMPTY).astype(np.uint8)
    empty = cv2.morphologyEx(quiet, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
    inside = cv2.distanceTransform((~empty).astype(np.uint8), cv2.DIST_L2, 5)
    # Without any empty pixel OpenCV gives nearly the largest float.
    inside = np.minimum(inside, np.float32(sum(inside.shape))) / np.float32(unit)
    wide = 1 - screen.excess(blurred(plate, WIDE_BLUR_PX * unit)) / behind
    width = _edge_width(np.clip(wide, 0, 1), unit)
    deep = (inside > np.maximum(DEEP_WIDTHS * width, LEAST_DEEP_PX)) & (wide > DEEP_KEY)
    deep &= ~_fine(plate, behind, empty, screen)
    sure = _sureness(soft, field.picture, screen, RADIUS_PX * unit) * (alpha > LEAST_KEY)
    return Key(empty, deep, np.asarray(sure + DEEP_COUNTS * deep, np.float32))


def _fine(plate: FloatImage, behind: FloatImage, empty: Mask, screen: Screen) -> Mask:
    """(h, w): where the key varies from pixel to pixel, as in hair with the screen between.

    The light of the screen on cloth and skin varies slowly, and what it takes from the key is less
    than `FINE_KEY` leaves. Grain varies too: what it makes of the empty screen counts as nothing.
    """
    unit = max(plate.shape) / 640
    sharp = np.clip(1 - screen.excess(blurred(plate, FINE_BLUR_PX)) / behind, -1, FINE_KEY)
    detail = sharp - blurred(sharp, FINE_PX[0] * unit)
    power = blurred(np.square(detail), FINE_PX[1] * unit)
    grain = float(np.median(power[empty])) if empty.any() else 0.0
    return np.asarray(power > FINE**2 + FINE_NOISES**2 * grain)


def _edge_width(alpha: FloatImage, unit: float) -> FloatImage:
    """The width of the edge from screen to subject near each place, in pixels of a frame of 640.

    Contrast over slope where the key first rises, less what the blur added. The contrast is that
    to the largest key nearby: a green dress has a small key, and no wide edge for that.
    """
    height, width = alpha.shape
    small = max(1, width // SHARE), max(1, height // SHARE)
    alpha = cv2.resize(alpha, small, interpolation=cv2.INTER_AREA)
    unit /= SHARE
    slopes = [cv2.Sobel(alpha, cv2.CV_32F, *axis, scale=unit / 8) for axis in ((1, 0), (0, 1))]
    side = 2 * max(1, round(CONTRAST_PX * unit)) + 1
    contrast = blurred(cv2.dilate(alpha, np.ones((side, side), np.uint8)), NEAR_PX * unit)
    steepness = cv2.magnitude(*slopes) / np.maximum(contrast, np.float32(RISE[1]))
    rise = ((alpha > RISE[0]) & (alpha < RISE[1])).astype(np.float32)
    near, wide = NEAR_PX * unit, FAR_PX * unit
    usual = blurred(rise * steepness, wide) / np.maximum(blurred(rise, wide), 1e-6)
    weight = np.float32(FAR_WEIGHT)
    mean = (blurred(rise * steepness, near) + weight * usual) / (blurred(rise, near) + weight)
    found = np.minimum(1 / np.maximum(mean, np.float32(LEAST_SLOPE)), MOST_WIDTH_PX)
    added = np.float32((2.5 * WIDE_BLUR_PX) ** 2)
    squared = np.maximum(found * found - added, np.float32(LEAST_WIDTH_PX**2))
    return cv2.resize(cv2.sqrt(squared), (width, height), interpolation=cv2.INTER_LINEAR)


def _sureness(soft: FloatImage, empty: FloatImage, screen: Screen, radius: float) -> FloatImage:
    """1 where a colour has as little of the screen in it as any nearby, less where it has more.

    At a wide soft edge the pixels near the subject's inside have the least; those between are
    mixtures, whose colours must not count as the subject's.
    """
    own, behind = _share(soft, screen), _share(empty, screen)
    side = 2 * max(1, round(radius)) + 1
    least = blurred(cv2.erode(own, np.ones((side, side), np.uint8)), radius / 2)
    span = np.maximum(behind - np.minimum(least, np.float32(MOST_SHARE)), np.float32(0.05))
    return np.asarray(np.clip((behind - own) / span, 0, 1) ** np.float32(POWER), np.float32)


def _share(picture: FloatImage, screen: Screen) -> FloatImage:
    """The share of the screen's channel in the sum of all."""
    whole = picture.sum(axis=2) + np.float32(3 * BLACK)
    return (picture[..., screen.channel] + np.float32(BLACK)) / whole
