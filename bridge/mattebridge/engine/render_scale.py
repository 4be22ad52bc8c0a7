"""A held clean plate at the render scale of a frame: proxies, previews, thumbnails.

A host that renders at half size sends a plate of half the size, and the daemon holds the clean
plate at full size. Where one scale takes the clean plate to the frame in both directions, to the
rounding of a host, the clean plate is resampled as the host resampled the plate. A clean plate that
is sent with the frame is never resampled: the host scales it together with the plate.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Optional

import numpy as np

from mattebridge.color import FloatImage, Pixels, to_float

Size = tuple[int, int]

# Hosts floor, round or round up the sides of a scaled frame: less than a pixel either way.
ROUNDING = 1
# Closer to full size than this a difference in size is a crop or a mistake, not a scale.
MAX_SCALE = Fraction(19, 20)
# Hosts scale by simple fractions; the true one gives the place of every pixel exactly.
MAX_DENOMINATOR = 16


def scale_between(full: Size, size: Size) -> Optional[Fraction]:
    """The scale that makes a frame of `size` (height, width) from `full`; None where none does."""
    low = max(Fraction(side - ROUNDING, whole) for side, whole in zip(size, full))
    high = min(Fraction(side + ROUNDING, whole) for side, whole in zip(size, full))
    if not max(low, Fraction(0)) < high:
        return None
    middle = Fraction(size[0] + size[1], full[0] + full[1])
    if not low < middle < high:
        middle = (low + high) / 2
    simple = middle.limit_denominator(MAX_DENOMINATOR)
    scale = simple if low < simple < high else middle
    return scale if 0 < scale <= MAX_SCALE else None


def resampled(plane: Pixels, size: Size) -> FloatImage:
    """A picture (H, W, C) at a smaller `size` (height, width), each pixel the mean of its area.

    Integers become fractions of their maximum. The values are averaged as they are encoded, as a
    host does it. The sizes must have a scale (`scale_between`).
    """
    import cv2

    scale = scale_between((plane.shape[0], plane.shape[1]), size)
    assert scale is not None
    covered = [round(side / scale) for side in size]
    kept = to_float(plane[: covered[0], : covered[1]])
    missing = [max(0, covered[axis] - kept.shape[axis]) for axis in (0, 1)]
    whole = np.pad(kept, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
    return cv2.resize(whole, size[::-1], interpolation=cv2.INTER_AREA)
