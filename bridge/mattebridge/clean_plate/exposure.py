"""The exposure of a clean plate: gain and offset per channel, by trimmed least squares."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.clean_plate.geometry import FEWEST_CELLS
from mattebridge.clean_plate.pair import (
    CHANGED,
    NO_EXPOSURE,
    Exposure,
    Matrix,
    Pair,
    Solution,
    improves,
    shrunk,
)
from mattebridge.color import FloatImage, Mask, largest_channel

# Exposure is solved at this long side.
EXPOSURE_SIDE = 480


def with_exposure(pair: Pair, solution: Solution, wanted: bool) -> Solution:
    """The solution with gain and offset fitted under its geometry, if that improves it."""
    if not wanted:
        return solution
    bare = solution if solution.exposure.is_identity else Solution(solution.homography)
    clean, covered, _ = pair.seen(bare)
    exposure = _fit_exposure(pair.smaller(EXPOSURE_SIDE), clean, covered)
    fitted = Solution(solution.homography, exposure)
    if not exposure.refused and improves(pair, bare, fitted):
        return fitted
    if exposure.refused == bare.exposure.refused:
        return bare
    return Solution(solution.homography, replace(NO_EXPOSURE, refused=exposure.refused))


def _fit_exposure(y: FloatImage, clean: FloatImage, covered: Mask) -> Exposure:
    """Gain and offset per channel by trimmed least squares on what did not change.

    y: the plate at `EXPOSURE_SIDE`. Assumes that a fifth of the frame is set that stands still.
    Clipped pixels take no part.
    """
    x = shrunk(clean, EXPOSURE_SIDE)
    weight = shrunk(covered.astype(np.float32), EXPOSURE_SIDE)
    usable = (weight > 0.99) & (largest_channel(cv2.max(x, y)) < 0.99)
    if usable.sum() < 50:
        usable = weight > 0.99
    rows, columns = np.nonzero(usable)
    every = max(1, len(rows) // 30_000)
    rows, columns = rows[::every], columns[::every]
    # Channel by channel: (3, N).
    xs = np.ascontiguousarray(x[rows, columns].T.astype(np.float64))
    ys = np.ascontiguousarray(y[rows, columns].T.astype(np.float64))
    gain, offset = np.ones((3, 1)), np.zeros((3, 1))
    inliers, limit = np.zeros(len(rows), bool), 0.0
    for _ in range(8):
        if len(rows) < 50:
            break
        residual = np.abs(xs * gain + offset - ys).max(axis=0)
        limit = max(2.0 * float(np.quantile(residual, 0.2)), 0.015)
        before, inliers = inliers, residual < limit
        if inliers.sum() < 50 or np.array_equal(before, inliers):
            break  # from the same pixels every further round gives the same
        gain, offset = _least_squares(xs[:, inliers], ys[:, inliers])
    if inliers.sum() < 50 or limit > 2 * CHANGED:
        return Exposure(NO_EXPOSURE.gain, NO_EXPOSURE.offset, "too little unchanged set")
    height, width = usable.shape
    if _cells_held(rows[inliers] * 4 // height, columns[inliers] * 4 // width) < FEWEST_CELLS:
        return Exposure(NO_EXPOSURE.gain, NO_EXPOSURE.offset, "unchanged set is not spread")
    return Exposure(gain.ravel().astype(np.float32), offset.ravel().astype(np.float32))


def _least_squares(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Gain and offset, (3, 1) each, from (3, N) values."""
    mean_x, mean_y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    from_x, from_y = x - mean_x, y - mean_y
    covariance = (from_x * from_y).mean(axis=1, keepdims=True)
    variance = np.square(from_x, out=from_x).mean(axis=1, keepdims=True)
    gain = covariance / np.maximum(variance, 1e-9)
    offset = mean_y - gain * mean_x
    # In a channel that hardly varies, gain and offset cannot be told apart: gain only.
    flat = variance < 0.02**2
    if flat.any():
        level = np.median(y, axis=1, keepdims=True)
        level = level / np.maximum(np.median(x, axis=1, keepdims=True), 0.02)
        gain, offset = np.where(flat, level, gain), np.where(flat, 0.0, offset)
    return np.clip(gain, 0.7, 1.4), np.clip(offset, -0.1, 0.1)


def _cells_held(row: NDArray[Any], column: NDArray[Any]) -> int:
    """How many of the 16 cells of the frame hold more than a scattering of the inliers."""
    counts = np.bincount(row * 4 + column, minlength=16)
    return int((counts >= max(8, counts.sum() * 0.01)).sum())
