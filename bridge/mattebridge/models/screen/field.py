"""The empty screen over the whole frame: what the plate would show without the subject.

    clean plate, or a smooth surface fitted to the screen --> base
    plate - base where screen is seen, spread under the subject --> base + rest = field

Light falls off over a screen, so that one colour is never right. A polynomial of both coordinates
follows the light; what is left of it (folds, seams, shadows) is taken from the plate where only
screen is seen, and spread smoothly from there. With a clean plate, that is the base, and the rest
is a change of the light since.

Everything is at working size and display-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np

from mattebridge.color import largest_channel
from mattebridge.models.screen.find import Screen, refusal

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

# Blur before comparing, so that grain does not count.
BLUR_PX = 1.2
# Degree of the surface, pixels it is fitted to, rounds of dropping what does not fit.
DEGREE, SAMPLES, ROUNDS = 3, 20_000, 6
# How far a colour's ratios may be from those of the base, and how far its level near a subject, in
# shares of the level and in spreads of what fits.
HUE_REACH, LEVEL_SHARE, LEVEL_SPREADS, LEAST_SPREAD = 0.07, 0.03, 4.0, 0.004
# Farther than this from anything that is not screen (in pixels of a frame of 640), the plate shows
# the screen whatever its level: a fold, a seam, a shadow.
FAR_PX, MARGIN_PX = 14.0, 2.0
# A shadow leaves at least this share of the light, which changes by less than this share from pixel
# to pixel of a frame of 640, after this blur, over a region of more than this radius.
DARKEST_SHADE, SHADE_SLOPE, SHADE_BLUR_PX, SHADE_PX = 0.4, 0.01, 1.5, 2.0
# A clean plate whose colours have less of the screen's channel than this is not of the screen.
LEAST_EXCESS = 0.02


@dataclass(frozen=True)
class Field:
    """The screen at working size: picture (h, w, 3) display-encoded; seen (h, w), where the plate
    shows nothing else; rest (h, w, 3), the field less its base."""

    picture: FloatImage
    seen: Mask
    rest: FloatImage


def make_field(plate: FloatImage, clean_plate: Optional[FloatImage], screen: Screen) -> Field:
    """The field behind a plate (h, w, 3); clean_plate: (h, w, 3) of the screen, or None.

    Raises `ModelError` for pictures that show nothing of the screen.
    """
    soft = blurred(plate, BLUR_PX)
    candidate = screen.clear(soft) & (screen.hue_distance(soft) < 2 * HUE_REACH)
    base = _base(soft, candidate, clean_plate, screen)
    candidate = screen.clear(soft) & (_hue_apart(soft, base, screen) < HUE_REACH)
    seen = _seen(soft, base, candidate)
    rest = _spread(soft - base, seen)
    return Field(np.maximum(base + rest, np.float32(0)), seen, rest)


def continued(picture: FloatImage, seen: Mask) -> FloatImage:
    """A screen (h, w, 3) that is known where `seen` (h, w), over the whole picture."""
    base = _surface(picture, seen)
    return np.maximum(base + _spread(picture - base, seen), np.float32(0))


def _base(
    soft: FloatImage, candidate: Mask, clean_plate: Optional[FloatImage], screen: Screen
) -> FloatImage:
    empty = None if clean_plate is None else blurred(clean_plate, BLUR_PX)
    shown = candidate if empty is None else screen.excess(empty) > LEAST_EXCESS
    if not shown.any():
        raise refusal(
            f"this {'plate' if empty is None else 'clean plate'} shows nothing of a {screen.name}"
            " screen of the colour that was named",
            "pick the setting 'colour' from the screen, or leave it and 'screen' out",
        )
    return _surface(soft, candidate) if empty is None else empty


def _spread(rest: FloatImage, seen: Mask) -> FloatImage:
    return filled(np.where(seen[..., None], rest, np.float32(0)), seen.astype(np.float32))


def blurred(picture: FloatImage, sigma: float) -> FloatImage:
    return cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)


def filled(values: FloatImage, weight: FloatImage) -> FloatImage:
    """Values (h, w, C) spread smoothly from where weight (h, w) is 1 to where it is 0.

    Coarse levels of a pyramid fill what finer ones lack (Burt 1988, push and pull).
    """
    height, width = weight.shape
    if min(height, width) < 4:
        total = max(float(weight.sum()), 1e-6)
        mean = (values * weight[..., None]).sum((0, 1)) / total
        return np.where(weight[..., None] > 0.5, values, mean.astype(np.float32))
    halved = cv2.pyrDown(weight)
    carried = cv2.pyrDown(values * weight[..., None]) / np.maximum(halved, 1e-6)[..., None]
    coarse = filled(carried, np.minimum(halved * np.float32(4), np.float32(1)))
    below = cv2.pyrUp(coarse, dstsize=(width, height)).reshape(values.shape)
    return below + weight[..., None] * (values - below)


def _hue_apart(picture: FloatImage, base: FloatImage, screen: Screen) -> FloatImage:
    """How far the ratios of two pictures are apart."""
    own, empty = (np.maximum(x[..., screen.channel], np.float32(1e-3)) for x in (picture, base))
    apart = [picture[..., other] / own - base[..., other] / empty for other in screen.others]
    return np.hypot(*apart)


def _seen(soft: FloatImage, base: FloatImage, candidate: Mask) -> Mask:
    """Where the plate shows nothing but screen."""
    away = cv2.distanceTransform(candidate.astype(np.uint8), cv2.DIST_L2, 5)
    unit = max(candidate.shape) / 640
    off = largest_channel(np.abs(soft - base))
    level = largest_channel(base)
    clear = candidate & (away > MARGIN_PX)
    spread = float(np.median(off[clear])) if clear.any() else 0.0
    near = off < np.maximum(LEVEL_SHARE * level, LEVEL_SPREADS * np.float32(spread))
    near |= _shaded(soft, base, candidate)
    return clear & (near | (away > FAR_PX * unit))


def _shaded(soft: FloatImage, base: FloatImage, candidate: Mask) -> Mask:
    """Where a candidate is darker than the base by a share that changes slowly: a shadow.

    Dark hair in front of the screen has its hue too, but changes faster.
    """
    unit = max(candidate.shape) / 640
    black = np.float32(0.02)
    seen, lit = (np.maximum(largest_channel(colours), black) for colours in (soft, base))
    share = np.log(seen / lit)
    share = blurred(share, SHADE_BLUR_PX * unit)
    slopes = (cv2.Sobel(share, cv2.CV_32F, *axis, scale=unit / 8) for axis in ((1, 0), (0, 1)))
    slow = cv2.magnitude(*slopes) < SHADE_SLOPE
    whole = candidate & slow & (share > np.log(DARKEST_SHADE))
    rounds = max(1, round(SHADE_PX * unit))
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.erode(whole.astype(np.uint8), kernel, iterations=rounds) > 0)


def _surface(picture: FloatImage, candidate: Mask) -> FloatImage:
    """A polynomial of the coordinates through the candidates (h, w), without those that do not fit.

    The mean of all where there are too few.
    """
    height, width = candidate.shape
    rows, columns = np.nonzero(candidate)
    every = max(1, len(rows) // SAMPLES)
    rows, columns = rows[::every], columns[::every]
    values = picture[rows, columns].astype(np.float64)
    degree = DEGREE if len(rows) > 2000 else 1 if len(rows) > 200 else 0
    terms = _terms(columns / width * 2 - 1, rows / height * 2 - 1, degree)
    weight = np.ones(len(rows))
    for _ in range(ROUNDS):
        weighted = terms * weight[:, None]
        normal = weighted.T @ terms + 1e-4 * len(rows) * np.diag(_roughness(degree))
        factors = np.linalg.solve(normal, weighted.T @ values)
        off = np.abs(values - terms @ factors).max(axis=1)
        limit = 3 * max(float(np.median(off)) * 1.5, LEAST_SPREAD)
        weight = np.square(np.maximum(1 - np.square(off / limit), 0))
    # By rows and columns: the surface is a sum of products of one power of each.
    powers = range(degree + 1)
    across = np.stack([(np.arange(width) / width * 2 - 1) ** i for i in powers])
    down = np.stack([(np.arange(height) / height * 2 - 1) ** j for j in powers])
    table = np.zeros((degree + 1, degree + 1, 3))
    for (i, j), factor in zip(_powers(degree), factors):
        table[i, j] = factor
    fitted = np.einsum("jy,jxc->yxc", down, np.einsum("ix,ijc->jxc", across, table))
    low, high = values.min(axis=0), values.max(axis=0)
    return np.ascontiguousarray(np.clip(fitted, low, high), np.float32)


def _powers(degree: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(degree + 1) for j in range(degree + 1 - i)]


def _terms(x: FloatImage, y: FloatImage, degree: int) -> FloatImage:
    return np.stack([x**i * y**j for i, j in _powers(degree)], axis=-1)


def _roughness(degree: int) -> list[float]:
    """A small cost of high powers, which else are wild where no screen is seen."""
    return [float(i + j) ** 2 + 1e-6 for i, j in _powers(degree)]
