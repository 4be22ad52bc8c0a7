"""What plate and clean plate show about each pixel, at working size: set, shadow or subject.

    difference (less what a small shift explains) --> shadow test --> distance from the set
    local regression plate = c + b * clean plate  --> how much of the set shows through

Working size (working_size.py) is bounded, so that radii are plain pixels whatever the
size of the frame. Everything is display-encoded: there a threshold means about the same in light
and dark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.models.tasks import begin

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

# Blur before comparing, so that grain and a shift by a fraction of a pixel do not count.
BLUR_PX = 1.2
# Distances below the first are set, above the second subject; both rise with the noise.
SURE_SET, SET_NOISES = 0.03, 4.0
SURE_SUBJECT, SUBJECT_NOISES = 0.09, 8.0
# The share of the frame, by smallest distance, that is certainly set: noise is measured there.
QUIET_SHARE = 0.3
# Of more pixels than this some are enough for it.
QUIET_SAMPLE = 200_000
# Grain is never larger: where even that share differs by more, no set is visible.
LARGEST_NOISE = 0.03
# A shadow keeps the set's colour and detail over this radius; what is left of the plate after it,
# weighted by the second number, is below the third. Below the fourth the set is too dark to tell.
SHADOW_RADIUS_PX, SHADOW_RESIDUE_WEIGHT, SHADOW_RESIDUE, DARK = 3.0, 1.5, 0.04, 0.12
# Structure that is coarser than this is shading, not detail.
DETAIL_RADIUS_PX = 4.0
# The set seen through the subject: window, and how sure, clear and large its detail must be.
THROUGH_RADIUS_PX, THROUGH_SAMPLES = 4.0, 12.0
THROUGH_SIGMAS, THROUGH_SHARE, THROUGH_FIT, THROUGH_DETAIL = 3.0, 0.1, 0.5, 3e-4
# Log likelihood ratio, in nats, at which the set's detail is certainly there or certainly missing;
# below the second number, a shadow in which detail is missing is not taken for one.
KEPT_NATS, KEPT_LEAST = 4.0, -0.5
# Blur in which single pixels are compared; they are the same up to so many times the usual
# difference of the set, at least the third number, if so many of 3x3 are.
SAME_BLUR_PX, SAME_NOISES, SAME_LEAST, SAME_COUNT = 0.6, 2.5, 0.015, 4
# Of the pixels by which that usual difference is told each of so many is enough.
SAME_EVERY = 7
# Less visible detail than this proves nothing over a patch of this radius.
SAME_KEPT, SAME_WIDE_PX = 0.3, 4
# Where no subject is certain: the distance at which alpha is 1.
RAMP = 0.15
# Smaller areas in which the set shows through are chance.
THROUGH_OPEN_PX = 4
Bytes = NDArray[np.uint8]
_SUM = np.ones((1, 3), np.float32)


@dataclass(frozen=True)
class Evidence:
    """All (h, w) at working size.

    distance: how far the plate is from the set, apart from shadows, display-encoded. low, high: a
    pixel below is set and one above is subject, by itself. noise: the distance of unchanged set.
    shadow: explained by darkening the set. light: the share of the set's light that is left, at
    most 1. kept: whether the set's detail is in the plate, as far as that light shows it: 1 surely,
    -1 surely not, 0 where there is no detail. through: the set's detail shows, where there is
    neither set nor shadow. covered_by, covered_by_variance: the coverage that follows from that
    detail, and its variance. same: the plate shows the set unchanged, pixel by pixel, as between
    strands; unlike `distance` nothing but the pixel and its neighbours counts.
    """

    distance: FloatImage
    low: float
    high: float
    noise: float
    shadow: Mask
    light: FloatImage
    kept: FloatImage
    through: Mask
    covered_by: FloatImage
    covered_by_variance: FloatImage
    same: Mask


def gather(
    plate: FloatImage,
    clean_plate: FloatImage,
    outside: Optional[Mask],
    *,
    edge_tolerance: float,
    deepest_shadow: float,
    same_noises: float,
) -> Evidence:
    """Evidence from two pictures (h, w, 3) at working size. `outside`: no clean plate there.

    edge_tolerance: shift in pixels that counts as no difference. deepest_shadow: the largest share
    of light that a shadow takes; 0 for none. same_noises: single pixels are the same up to so many
    times the usual difference of the set.
    """
    of_empty = begin(blurred, clean_plate, BLUR_PX)
    seen, empty = blurred(plate, BLUR_PX), of_empty.result()
    of_details, of_light = begin(_Details.of, seen, empty), begin(_light, seen, empty)
    tolerance = _slope(empty) * np.float32(edge_tolerance)
    of_fine = begin(_fine, plate, clean_plate, tolerance)
    plain = length(_beyond(seen - empty, tolerance))
    if outside is not None:
        plain[outside] = 0
    noise = quiet_level(plain if outside is None else plain[~outside]) + 0.001
    light = of_light.result()
    of_shadow = begin(_shadow, seen, empty, light, tolerance, noise, deepest_shadow)
    share, variance, fit, detail = _regression(of_details.result(), noise)
    light = np.minimum(light, 1)
    kept = np.clip(light * (2 * share - light) / (2 * KEPT_NATS * variance), -1, 1)
    shadow, residue = of_shadow.result()
    shadow &= kept > KEPT_LEAST
    through = (fit > THROUGH_FIT) & (share > THROUGH_SHARE) & (detail > THROUGH_DETAIL)
    through &= (share * share > THROUGH_SIGMAS**2 * variance) & ~shadow
    through = _opened(through, THROUGH_OPEN_PX)
    low = max(SURE_SET, SET_NOISES * noise)
    return Evidence(
        distance=np.where(shadow, np.minimum(plain, residue), plain),
        low=low,
        high=max(SURE_SUBJECT, SUBJECT_NOISES * noise),
        noise=noise,
        shadow=shadow,
        light=light,
        kept=kept,
        through=through,
        covered_by=np.clip(1 - share, 0, 1),
        covered_by_variance=variance,
        same=_same(of_fine.result(), plain < low, kept, same_noises),
    )


def length(vectors: FloatImage) -> FloatImage:
    """Euclidean length over the three channels."""
    return cv2.sqrt(cv2.transform(cv2.multiply(vectors, vectors), _SUM))


def dot(first: FloatImage, second: FloatImage) -> FloatImage:
    return cv2.transform(cv2.multiply(first, second), _SUM)


def blurred(picture: FloatImage, sigma: float) -> FloatImage:
    """A Gaussian blur; the picture's edge is repeated."""
    return np.asarray(
        cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32
    )


def widely_blurred(picture: FloatImage, sigma: float) -> FloatImage:
    """A Gaussian blur of many pixels, computed at half the size, in a quarter of the time.

    Of values up to 1 within 0.015, and within 0.04 at the edge, whose mirror is half a pixel off.
    """
    height, width = picture.shape[:2]
    half = -(-width // 2), -(-height // 2)
    small = cv2.resize(picture, half, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / 2)
    return np.asarray(cv2.resize(small, (width, height)), np.float32)


def _beyond(difference: FloatImage, tolerance: FloatImage) -> FloatImage:
    """What is left of a difference beyond `tolerance`."""
    return cv2.max(cv2.absdiff(difference, 0.0) - tolerance, 0.0)


def _opened(mask: Mask, radius: int) -> Mask:
    if not radius:
        return mask
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, disc(radius)) > 0


def disc(radius: int) -> Bytes:
    side = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def quiet_level(distance: FloatImage) -> float:
    """The median of the smallest differences: grain, and what alignment left."""
    if not distance.size:
        return 0.0
    sample = np.sort(distance.ravel()[:: max(1, distance.size // QUIET_SAMPLE)])
    level = float(np.median(sample[: max(1, int(sample.size * QUIET_SHARE))]))
    return min(level, LARGEST_NOISE)


def _slope(picture: FloatImage) -> FloatImage:
    """How steep each channel is, for each pixel."""
    x, y = slopes(picture)
    return np.asarray(cv2.sqrt(x * x + y * y))


def slopes(picture: FloatImage) -> tuple[FloatImage, FloatImage]:
    """Of each channel along x and along y, a pixel; the picture's edge is repeated."""
    x, y = (
        cv2.Sobel(picture, cv2.CV_32F, *axes, scale=1 / 8, borderType=cv2.BORDER_REPLICATE)
        for axes in ((1, 0), (0, 1))
    )
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


def _fine(plate: FloatImage, clean_plate: FloatImage, tolerance: FloatImage) -> FloatImage:
    """How far single pixels differ."""
    return length(_beyond(blurred(plate - clean_plate, SAME_BLUR_PX), tolerance))


def _same(fine: FloatImage, alike: Mask, kept: FloatImage, noises: float) -> Mask:
    """Where single pixels differ by no more than those of the set usually do.

    fine: how far they do. alike: where plate and clean plate hardly differ after the larger blur:
    mostly set. A wide patch without visible detail of the set may be a subject of its colour, and
    does not count.
    """
    usual = float(np.median(fine[alike][::SAME_EVERY])) if alike.any() else 0.0
    limit = max(SAME_LEAST, noises * min(usual, LARGEST_NOISE))
    close = (fine < limit).astype(np.uint8)
    around = cv2.boxFilter(close, cv2.CV_8U, (3, 3), normalize=False)
    same = (close > 0) & (around >= SAME_COUNT)
    wide = _opened(alike & (kept < SAME_KEPT), SAME_WIDE_PX)
    return same & (cv2.dilate(wide.astype(np.uint8), disc(SAME_WIDE_PX + 1)) == 0)


def _light(seen: FloatImage, empty: FloatImage) -> FloatImage:
    """The share of the set's light that explains the plate, which may be more than 1.

    It is one number for a neighbourhood: light changes softly, so that a shadow keeps the set's
    detail, while the outline of a subject of the set's hue does not.
    """
    together = blurred(dot(seen, empty), SHADOW_RADIUS_PX)
    alone = blurred(dot(empty, empty), SHADOW_RADIUS_PX)
    return together / (alone + np.float32(1e-4))


def _shadow(
    seen: FloatImage,
    empty: FloatImage,
    light: FloatImage,
    tolerance: FloatImage,
    noise: float,
    deepest: float,
) -> tuple[Mask, FloatImage]:
    """Where less light on the same set explains the plate, and what it does not explain."""
    shaded = np.asarray(light[..., None] * empty, np.float32)
    residue = length(_beyond(seen - shaded, tolerance))
    residue *= np.float32(SHADOW_RESIDUE_WEIGHT)
    shadow = (light > 1 - deepest) & (light < 1) & (residue < max(SHADOW_RESIDUE, 2 * noise))
    red, green, blue = cv2.split(empty)
    shadow &= cv2.max(cv2.max(red, green), blue) > DARK
    return shadow, residue


class _Details(NamedTuple):
    """The variance of both pictures in a window around each pixel, and their covariance, (h, w)."""

    of_seen: FloatImage
    of_empty: FloatImage
    both: FloatImage

    @classmethod
    def of(cls, seen: FloatImage, empty: FloatImage) -> _Details:
        task = begin(_detail, empty)
        seen, empty = _detail(seen), task.result()
        others = [begin(_in_window, *pair) for pair in ((empty, empty), (seen, empty))]
        return cls(_in_window(seen, seen), *(other.result() for other in others))


def _detail(picture: FloatImage) -> FloatImage:
    """Detail only: a gradient of light or of paint over the window tells nothing."""
    return picture - blurred(picture, DETAIL_RADIUS_PX)


def _in_window(first: FloatImage, second: FloatImage) -> FloatImage:
    return blurred(dot(first, second), THROUGH_RADIUS_PX)


def _regression(
    details: _Details, noise: float
) -> tuple[FloatImage, FloatImage, FloatImage, FloatImage]:
    """Slope of plate over clean plate in a window, its variance, the fit (r^2), the set's variance.

    Where a veil of smooth colour covers a set with detail, the slope is 1 - coverage, whatever the
    colour of the veil.
    """
    of_empty = np.maximum(details.of_empty, np.float32(1e-6))
    of_seen, both = np.maximum(details.of_seen, np.float32(1e-9)), details.both
    slope = np.asarray(both / of_empty, np.float32)
    unexplained = np.maximum(of_seen - both * slope, 0) / THROUGH_SAMPLES
    variance = (unexplained + np.float32(3 * noise * noise)) / of_empty
    fit = np.square(np.maximum(both, 0)) / (of_empty * of_seen)
    return slope, variance.astype(np.float32), fit, of_empty
