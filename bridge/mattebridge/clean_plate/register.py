"""The frames of a shot, aligned with one of them: read when they are needed, a band at a time.

    frame --match_clean_plate--> Placement --lay--> rows of it as the reference would show them

The reference is taken for the plate and every other frame for its clean plate, so the camera may
move and the exposure may drift. A frame that cannot be aligned is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.checkpoint import Checkpoint
from mattebridge.clean_plate.match import UNALIGNED, match_clean_plate
from mattebridge.color import FloatImage, srgb_encode
from mattebridge.errors import InputsError

# (H, W, 3) scene-linear RGB of the frame at an index; a new array each time.
Reader = Callable[[int], FloatImage]
# (H, W) 0..1, where the subject is known to be in that frame.
SubjectReader = Callable[[int], FloatImage]

# Grain is estimated on a grid of so many points a side.
NOISE_GRID = 64


class AlignedShot:
    """The frames of a shot, read when they are needed.

    subject: where the subject is known to be, or None. `shape` is that of the reference.
    """

    def __init__(
        self, read: Reader, count: int, reference: int, subject: Optional[SubjectReader]
    ) -> None:
        self._read, self._count, self._subject = read, count, subject
        self._reference = reference
        self._light = _finite_or_nan(read(reference))
        self.shape = self._light.shape

    def register(self, align: bool, checkpoint: Checkpoint) -> tuple[list[Placement], float]:
        """The frames that could be aligned, and the sigma of their grain."""
        places, points = [], []
        target = _display(self._light)
        for index in range(self._count):
            checkpoint("align", index, self._count)
            light = self._light if index == self._reference else self._frame(index)
            place = self._placement(target, light, index) if align else Placement(index)
            if place is not None:
                places.append(place)
                points.append(_points(place.lay(light, slice(0, len(light)))))
        self._light = np.empty(0, np.float32)
        return places, _grain(np.stack(points)) if points else 0.0

    def samples(
        self, places: Sequence[Placement], rows: slice, checkpoint: Checkpoint
    ) -> FloatImage:
        """(N, rows, W, 3) display-encoded; NaN where a frame has no pixel, or the subject."""
        stack = np.empty((len(places), rows.stop - rows.start, *self.shape[1:]), np.float32)
        for number, place in enumerate(places):
            checkpoint("read", number, len(places))
            stack[number] = place.lay(self._frame(place.index), rows)
            if self._subject is not None:
                matte = place.lay_matte(self._subject(place.index), rows)
                stack[number][matte > 0.02] = np.nan
        return stack

    def _frame(self, index: int) -> FloatImage:
        light = _finite_or_nan(self._read(index))
        if light.shape != self.shape:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (self.shape, light.shape)]
            raise InputsError(
                f"the frames of a shot must have one size; got {sizes[0]} and {sizes[1]}",
                field="plate",
            )
        return light

    def _placement(self, target: FloatImage, light: FloatImage, index: int) -> Optional[Placement]:
        """Where the frame is on the reference; None if it could not be aligned."""
        if index == self._reference:
            return Placement(index)
        subject = None if self._subject is None else self._subject(index)
        match = match_clean_plate(
            target, _display(light), alignment="auto", match_exposure=True, subject=subject
        )
        if UNALIGNED in match.degraded:
            return None
        return Placement(index, match.homography, match.gain, match.offset)


@dataclass(frozen=True)
class Placement:
    """Where a frame is on the reference: homography (frame to reference), gain and offset."""

    index: int
    homography: Optional[NDArray[np.float64]] = None
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def lay(self, light: FloatImage, rows: slice) -> FloatImage:
        """Rows of the frame as the reference would show them, display-encoded; NaN outside."""
        if self.homography is None:
            seen = light[rows]
        else:
            seen = _warped(light, self.homography, rows)
        encoded = srgb_encode(seen)
        if (self.gain, self.offset) != ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0)):
            encoded *= np.array(self.gain, np.float32)
            encoded += np.array(self.offset, np.float32)
        return encoded

    def lay_matte(self, matte: FloatImage, rows: slice) -> FloatImage:
        """Rows of a matte of the frame, placed in the same way; 0 outside."""
        if self.homography is None:
            return matte[rows]
        return np.nan_to_num(_warped(matte, self.homography, rows))


def _warped(image: FloatImage, matrix: NDArray[np.float64], rows: slice) -> FloatImage:
    """Rows of a warped image; NaN where it has no pixel, or one that is not a number."""
    size = (image.shape[1], rows.stop - rows.start)
    up = np.array([[1, 0, 0], [0, 1, -rows.start], [0, 0, 1]], np.float64) @ matrix
    numbers = np.isfinite(image if image.ndim == 2 else image.sum(axis=2)).astype(np.float32)
    if not numbers.all():
        numbers = cv2.erode(numbers, np.ones((3, 3), np.uint8))
        image = np.nan_to_num(image)
    moved = cv2.warpPerspective(
        image, up, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    # Cubic interpolation keeps edges sharp, and undershoots beside bright ones.
    np.maximum(moved, image.min(), out=moved)
    moved[cv2.warpPerspective(numbers, up, size, flags=cv2.INTER_LINEAR) < 0.999] = np.nan
    return np.asarray(moved, np.float32)


def _finite_or_nan(light: FloatImage) -> FloatImage:
    if np.isfinite(light).all():
        return light
    broken = ~np.isfinite(light).all(axis=2)
    light = light.copy()
    light[broken] = np.nan
    return light


def _display(light: FloatImage) -> FloatImage:
    """As alignment compares it: encoded, finite, not below 0."""
    return np.maximum(srgb_encode(np.nan_to_num(light)), np.float32(0))


def _points(encoded: FloatImage) -> FloatImage:
    height, width = encoded.shape[:2]
    y = np.linspace(0, height - 1, min(height, NOISE_GRID)).astype(int)
    x = np.linspace(0, width - 1, min(width, NOISE_GRID)).astype(int)
    return encoded[np.ix_(y, x)]


def _grain(points: FloatImage) -> float:
    """Sigma of the grain: the median over pixels of the median deviation over time.

    points: (N, h, w, 3). A subject covers few pixels, or each of them for a short time: the medians
    leave it out.
    """
    seen = np.isfinite(points).all(axis=(0, 3))
    if not seen.any():
        return 0.0
    values = points[:, seen]
    away = np.abs(values - np.median(values, axis=0))
    return float(np.median(np.median(away, axis=0)) * 1.4826)
