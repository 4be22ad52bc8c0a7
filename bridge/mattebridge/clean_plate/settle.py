"""One pixel over time: the colour of the set, and the confidence in it.

    samples --find_groups--> a colour of the largest group --settle--> the median of that group,
                                                                       and its lead over the next

Samples of one thing differ by its grain, and beside an edge by what a fraction of a pixel shifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import LUMINANCE_WEIGHTS, FloatImage, Mask, largest_channel, srgb_decode

# Beside an edge samples may differ by so much of a pixel's step to its neighbours: nothing is
# aligned more exactly than that.
ALIKE_SHIFT_PX = 0.5
# The lead over the next group, as a share of the frames, from which a pixel is certain.
SURE_LEAD = 0.5
# So many frames must agree for any confidence, and so many for full; and such a share of them.
FEWEST_ALIKE, ENOUGH_ALIKE = 3, 5
FEWEST_SHARE, ENOUGH_SHARE = 0.15, 0.35
# Pixels settled at once: their samples and temporaries stay in the cache.
SETTLE_PIXELS = 2048

_LUMA = np.array(LUMINANCE_WEIGHTS, np.float32)


def settle_band(
    samples: FloatImage, tolerance: float, pixels: FloatImage, confidence: FloatImage
) -> None:
    """Fill a band of the plate and its confidence from (N, rows, W, 3) samples."""
    first = np.empty_like(pixels)
    for rows in _strips(samples):
        first[rows] = find_groups(_by_pixel(samples, rows), tolerance).reshape(first[rows].shape)
    reach = 2 * tolerance + ALIKE_SHIFT_PX * _slope(first)
    for rows in _strips(samples):
        found, sure = settle(
            _by_pixel(samples, rows), first[rows].reshape(-1, 3), reach[rows].reshape(-1), tolerance
        )
        pixels[rows] = srgb_decode(found).reshape(pixels[rows].shape)
        confidence[rows] = sure.reshape(confidence[rows].shape)


def _strips(samples: FloatImage) -> Iterator[slice]:
    height, width = samples.shape[1:3]
    rows = max(1, SETTLE_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _by_pixel(samples: FloatImage, rows: slice) -> FloatImage:
    """(P, N, 3) of some rows."""
    strip = samples[:, rows].reshape(len(samples), -1, 3)
    return np.ascontiguousarray(strip.transpose(1, 0, 2))


def _slope(picture: FloatImage) -> FloatImage:
    """(H, W): the largest difference of a pixel to its neighbours, over channels and sides."""
    wide = cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    box = np.ones((3, 3), np.uint8)
    step = cv2.dilate(wide, box) - cv2.erode(wide, box)
    return np.asarray(largest_channel(step)[1:-1, 1:-1], np.float32)


def find_groups(samples: FloatImage, tolerance: float) -> FloatImage:
    """(P, 3): a colour out of the largest group of alike samples of each pixel.

    samples: (P, N, 3) display-encoded over N frames, NaN where a frame shows nothing. tolerance:
    how far a sample may be from the thing that it shows.
    """
    luma = _luma(samples)
    order = np.argsort(luma, axis=1)
    sizes = _group_sizes(np.take_along_axis(luma, order, axis=1), 2 * tolerance)
    first = sizes.argmax(axis=1)[:, None]
    size = np.take_along_axis(sizes, first, axis=1)
    # A group may mix things of one luma and several colours: of a few samples of it, the one that
    # most samples are like.
    best, most = np.zeros((len(samples), 3), np.float32), np.zeros(len(samples), np.int64)
    for quarter in (2, 1, 3):
        place = first + np.maximum(size - 1, 0) * quarter // 4
        index = np.take_along_axis(order, place, axis=1)[..., None]
        colour = np.take_along_axis(samples, index, axis=1)[:, 0]
        count = _alike(samples, colour, np.float32(2 * tolerance)).sum(axis=1)
        best[count > most] = colour[count > most]
        most = np.maximum(most, count)
    return best


def settle(
    samples: FloatImage, colour: FloatImage, reach: FloatImage, tolerance: float
) -> tuple[FloatImage, FloatImage]:
    """The colour of the set and the confidence in it: (P, 3) display-encoded and (P,) 0..1.

    samples: (P, N, 3), NaN where a frame shows nothing. colour: (P, 3) of the group that is taken
    for the set, and reach (P,), how far from it a sample still belongs to it. A pixel without
    samples is black and has confidence 0.
    """
    luma = _luma(samples)
    alike = _alike(samples, colour, reach[:, None])
    # The next group: the largest among the samples that do not belong.
    rest = np.sort(np.where(alike, np.float32(np.inf), luma), axis=1)
    rival = _group_sizes(rest, 2 * tolerance).max(axis=1)
    seen = np.isfinite(luma).sum(axis=1)
    return _median_of(samples, alike), _confidence(alike.sum(axis=1), rival, seen)


def _alike(samples: FloatImage, colour: FloatImage, reach: Any) -> Mask:
    """(P, N): which samples are within reach of a colour in every channel; NaN never is."""
    away = np.abs(samples - colour[:, None])
    # Channel by channel: numpy's maximum over an axis of three is ten times slower.
    return (away[..., 0] <= reach) & (away[..., 1] <= reach) & (away[..., 2] <= reach)


def _luma(samples: FloatImage) -> FloatImage:
    luma = samples @ _LUMA
    luma[~np.isfinite(luma)] = np.inf
    return luma


def _group_sizes(ranked: FloatImage, width: float) -> NDArray[np.int16]:
    """For each of the (P, N) ascending values, how many are from it to `width` above it."""
    sizes = np.isfinite(ranked).astype(np.int16)
    with np.errstate(invalid="ignore"):
        for step in range(1, ranked.shape[1]):
            sizes[:, :-step] += ranked[:, step:] - ranked[:, :-step] <= width
    return sizes


def _median_of(samples: FloatImage, chosen: Mask) -> FloatImage:
    """(P, 3): the median over the chosen samples, channel by channel; 0 where there is none."""
    by_channel = np.where(chosen[:, None], samples.transpose(0, 2, 1), np.float32(np.inf))
    by_channel.sort(axis=2)
    count = chosen.sum(axis=1)
    last = np.maximum(count - 1, 0)
    low, high = (
        np.take_along_axis(by_channel, index[:, None, None], axis=2)[..., 0]
        for index in (last // 2, (last + 1) // 2)
    )
    middle = (low + high) * np.float32(0.5)
    return np.where(count[:, None] > 0, middle, np.float32(0))


def _confidence(
    alike: NDArray[np.int64], rival: NDArray[np.int16], seen: NDArray[np.int64]
) -> FloatImage:
    seen = np.maximum(seen, 1)
    sure = _ramp((alike - rival) / seen, 0.0, SURE_LEAD)
    sure *= _ramp(alike, FEWEST_ALIKE - 1, ENOUGH_ALIKE)
    sure *= _ramp(alike / seen, FEWEST_SHARE, ENOUGH_SHARE)
    return sure.astype(np.float32)


def _ramp(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values - low) / (high - low), 0, 1)
