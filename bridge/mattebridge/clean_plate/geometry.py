"""The geometry of a clean plate: a homography from corners, then the last fraction of a pixel.

Method: ORB corners (Rublee et al. 2011) and RANSAC; direct alignment by robust Gauss-Newton (after
Baker and Matthews 2004), solved with gain and offset as the enhanced correlation coefficient is
(Evangelidis and Psarakis 2008).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.clean_plate.pair import Matrix, Pair, Solution, grey_of
from mattebridge.color import FloatImage, Mask

# Shifts below this many pixels cannot be told from grain; warping for them would only soften.
SMALLEST_SHIFT_PX = 0.04
# Sub-pixel refinement that wants more than this at full size has locked on to something else.
LARGEST_REFINEMENT_PX = 6.0
# With fewer the solution rests on chance.
FEWEST_INLIERS = 12
# Of the 16 cells of the frame; with fewer a solution rests on one corner of it.
FEWEST_CELLS = 3
# Blur (pixels), scale of a difference that still counts, and rounds, from coarse to fine.
REFINEMENT = ((2.5, 0.06, 5), (1.2, 0.03, 6))


def find_homography(pair: Pair, start: Solution) -> tuple[Optional[Solution], dict[str, Any]]:
    """Clean plate to plate from matched corners, or None; and what was found, or why not."""
    matched, found = _matched_corners(pair)
    if matched is None:
        return None, found
    cv2.setRNGSeed(1)
    matrix, inliers = cv2.findHomography(*matched, cv2.RANSAC, 2.0, None, 2000, 0.999)
    return _accepted(pair, start, matched[1], matrix, inliers)


def find_similarity(pair: Pair, start: Solution) -> Optional[Solution]:
    """Shift, turn and scale from the same corners, or None.

    With four numbers in place of eight it cannot bend to a few corners that were matched wrongly.
    """
    matched, _ = _matched_corners(pair)
    if matched is None:
        return None
    cv2.setRNGSeed(1)
    matrix, inliers = cv2.estimateAffinePartial2D(*matched, None, cv2.RANSAC, 2.0, 2000, 0.999)
    if matrix is None:
        return None
    matrix = np.vstack([matrix, [0.0, 0.0, 1.0]])
    return _accepted(pair, start, matched[1], matrix, inliers)[0]


def _matched_corners(pair: Pair) -> tuple[Optional[tuple[Matrix, Matrix]], dict[str, Any]]:
    """Corners of the clean plate and of the plate, (N, 2) each at working size, best match first;
    None with the reason where there are too few."""
    points_b, words_b = pair.clean_side.corners
    points_p, words_p = pair.corners
    if words_b is None or words_p is None or min(len(words_b), len(words_p)) < FEWEST_INLIERS:
        return None, {"alignment_refused": "too few features"}
    matches = pair.matches[: max(30, int(len(pair.matches) * 0.3))]
    if len(matches) < FEWEST_INLIERS:
        return None, {"alignment_refused": "too few matches", "matches": len(matches)}
    source = np.array([points_b[index].pt for index in matches[:, 0]], np.float64)
    target = np.array([points_p[index].pt for index in matches[:, 1]], np.float64)
    return (source, target), {}


def _accepted(
    pair: Pair, start: Solution, target: Matrix, matrix: Any, inliers: Any
) -> tuple[Optional[Solution], dict[str, Any]]:
    """The solution with a matrix of working size, or None; and what it rests on, or why not."""
    found: dict[str, Any] = {
        "matches": len(target),
        "inliers": 0 if inliers is None else int(inliers.sum()),
    }
    if matrix is None or found["inliers"] < FEWEST_INLIERS:
        return None, {**found, "alignment_refused": "too few inliers"}
    kept = target[inliers.ravel() > 0]
    if _cells_of_points(kept, pair.size) < FEWEST_CELLS:
        return None, {**found, "alignment_refused": "inliers are not spread over the frame"}
    full = pair.enlarged(matrix)
    if not _is_plausible(full, pair.full):
        return None, {**found, "alignment_refused": "implausible homography"}
    return Solution(full, start.exposure), found


def _cells_of_points(points: NDArray[np.float64], size: tuple[int, int]) -> int:
    cell = np.floor(points / np.array(size) * 4).clip(0, 3).astype(int)
    return int(np.unique(cell[:, 1] * 4 + cell[:, 0]).size)


def _is_plausible(matrix: Matrix, full: tuple[int, int]) -> bool:
    """Whether a camera that still shows the same set can have moved like this."""
    height, width = full
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    depth = corners @ matrix[2, :2] + matrix[2, 2]
    if not np.isfinite(matrix).all() or (depth < 0.3).any():
        return False
    quad = cv2.perspectiveTransform(corners[None], matrix)[0]
    before, after = quad - np.roll(quad, 1, axis=0), np.roll(quad, -1, axis=0) - quad
    turn = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    area = cv2.contourArea(quad.astype(np.float32)) / (width * height)
    reach = np.hypot(*(quad - corners).T).max() / math.hypot(width, height)
    return bool(turn.min() > 0 and 0.5 < area < 2 and reach < 0.35)


class Refined(NamedTuple):
    """What a refinement found. solution: the start a little moved; None: nothing that can be told
    from grain, or is plausible. in_place: the set was compared, and lies where it did."""

    solution: Optional[Solution]
    in_place: bool


def refine(pair: Pair, start: Solution) -> Refined:
    """The last pixels and fractions of one, from all gradients of the set at once.

    Robust Gauss-Newton on the grey difference: what differs by more than a misplaced edge can, the
    subject above all, gets no weight. Gain and offset are solved with it, so that an exposure that
    is not yet right has no influence. Deformation is damped where the set has little texture.
    """
    clean, covered, _ = pair.seen(start)
    step = still = np.eye(3)
    for sigma, scale, rounds in REFINEMENT:
        step = _improved_step(pair.blurred(sigma), clean, covered, step, sigma, scale, rounds)
    matrix = pair.enlarged(step @ pair.small(start.homography))
    moved = shift_px(pair.enlarged(step), pair.full)
    if moved < SMALLEST_SHIFT_PX:
        return Refined(None, in_place=step is not still)
    if not _is_plausible(matrix, pair.full) or moved > LARGEST_REFINEMENT_PX:
        return Refined(None, in_place=False)
    return Refined(Solution(matrix, start.exposure), in_place=False)


def _improved_step(
    target: FloatImage,
    clean: FloatImage,
    covered: Mask,
    step: Matrix,
    sigma: float,
    scale: float,
    rounds: int,
) -> Matrix:
    """`step` (clean plate to plate, working pixels) after some rounds at one blur and one scale.

    target: the grey plate with that blur.
    """
    source = cv2.GaussianBlur(grey_of(clean), (0, 0), sigma)
    slope_x = cv2.Sobel(source, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(source, cv2.CV_32F, 0, 1, scale=1 / 8)
    points = _slope_points(np.abs(slope_x) + np.abs(slope_y), covered)
    if len(points) < 200:
        return step
    height, width = target.shape
    wanted = target[points[:, 1], points[:, 0]]
    place = points.astype(np.float64)
    unit = (place * 2 - (width, height)) / max(width, height)
    for _ in range(rounds):
        at = cv2.perspectiveTransform(place[None], np.linalg.inv(step))[0].astype(np.float32)
        value, gx, gy = (_sampled(picture, at) for picture in (source, slope_x, slope_y))
        update = _gauss_newton(unit, value, gx, gy, wanted - value, scale)
        step = step @ _small_warp(update, width, height)
    return step


def _slope_points(slope: FloatImage, covered: Mask) -> NDArray[np.int64]:
    """Up to 20,000 pixels (x, y) with the steeper half of the gradients, evenly taken."""
    inner = np.zeros_like(covered)
    inner[4:-4, 4:-4] = covered[4:-4, 4:-4]
    if not inner.any():
        return np.zeros((0, 2), np.int64)
    steep = inner & (slope > max(float(np.median(slope[inner][::3])), 0.001))
    y, x = np.nonzero(steep)
    every = max(1, len(y) // 20_000)
    return np.stack([x[::every], y[::every]], axis=1)


def _sampled(picture: FloatImage, at: FloatImage) -> FloatImage:
    """Bilinear values at (N, 2) places; in rows of 128, since remap limits a picture's sides."""
    rows = -(-len(at) // 128)
    padded = np.zeros((rows * 128, 2), np.float32)
    padded[: len(at)] = at
    grid = padded.reshape(rows, 128, 2)
    values = cv2.remap(picture, grid, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(values.reshape(-1)[: len(at)], np.float32)


def _gauss_newton(
    unit: Matrix,
    value: FloatImage,
    gx: FloatImage,
    gy: FloatImage,
    residual: FloatImage,
    scale: float,
) -> Matrix:
    """One weighted step: the eight numbers of a small homography (gain and offset are dropped)."""
    x, y = unit[:, 0].astype(np.float32), unit[:, 1].astype(np.float32)
    along = gx * x + gy * y
    columns = [gx, gx * x, gx * y, gy, gy * x, gy * y, along * x, along * y]
    columns += [value, np.ones_like(value), residual]
    # Tukey's weight: 0 beyond three scales.
    weight = np.maximum(1 - np.square(residual / (3 * scale)), 0)
    rows = np.stack(columns, axis=1) * weight[:, None]
    system = cv2.mulTransposed(rows, True, dtype=cv2.CV_64F)
    normal, right = system[:10, :10], system[:10, 10]
    damping = np.array([0.0, 1, 1, 0, 1, 1, 4, 4, 0, 0]) * 1e-3 * np.trace(normal[:6, :6]) / 6
    solved = np.linalg.lstsq(normal + np.diag(damping + 1e-9), right, rcond=None)[0]
    return np.asarray(solved[:8], np.float64)


def _small_warp(update: Matrix, width: int, height: int) -> Matrix:
    """The homography, in pixels, that moves the clean plate by a solved step."""
    a, b, c, d, e, f, g, h = update
    half = max(width, height) / 2
    unit = np.array(
        [[1 / half, 0, -width / 2 / half], [0, 1 / half, -height / 2 / half], [0, 0, 1]]
    )
    moved = np.array([[b, c, a], [e, f, d], [-g, -h, 0.0]]) / half
    return np.asarray(np.linalg.inv(unit) @ np.linalg.inv(np.eye(3) + moved) @ unit, np.float64)


def shift_px(matrix: Optional[Matrix], full: tuple[int, int]) -> float:
    """The mean distance that the four quarter points of the frame move."""
    if matrix is None:
        return 0.0
    y, x = full[0], full[1]
    points = np.array([[a * x, b * y] for a in (0.2, 0.8) for b in (0.2, 0.8)], np.float64)
    moved = cv2.perspectiveTransform(points[None], matrix)[0]
    return float(np.hypot(*(moved - points).T).mean())
