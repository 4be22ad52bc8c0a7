"""The front end of every engine: the clean plate laid onto the plate, pixel on pixel.

A clean plate shot a minute earlier is never quite the plate without the subject: the camera stood
elsewhere or was touched, the exposure crept. Whatever is left of that becomes matte. So, in order:

    exposure --> homography --> exposure --> refinement --> exposure
                 camera moved                last fraction of a pixel

All of it is solved on small copies and applied once, to the full-size float clean plate.

The rules that must not be broken: nothing is changed unless it measurably helps. Each step is kept
only where it lowers the median difference on the part of the set that did not change, a pair that
is locked off comes back as it went in, and what was wanted but not reached stands in `degraded`.
And what is found for a frame is found from that frame and the clean plate alone, never from the
frames before it: a farm's chunks, a resumed job and an artist's single frame agree to the bit.

Method: ORB corners (Rublee et al. 2011) and RANSAC; direct alignment by robust Gauss-Newton (after
Baker and Matthews 2004), solved with gain and offset as the enhanced correlation coefficient is
(Evangelidis and Psarakis 2008); trimmed least squares for the exposure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.checkpoint import Checkpoint, no_checkpoint

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

Alignment = Literal["off", "auto", "homography"]
Matrix = NDArray[np.float64]

# Labels of `degraded`.
UNALIGNED = "clean_plate_unaligned"
PARTLY_OUTSIDE = "clean_plate_does_not_cover"
EXPOSURE_UNMATCHED = "exposure_unmatched"

# Frames with fewer pixels on a side hold nothing to fit or align by.
MINIMUM_SIDE = 16
# Geometry is solved at this long side, exposure at the other: enough for a tenth of a pixel at HD.
GEOMETRY_SIDE = 960
EXPOSURE_SIDE = 480
# A step is kept only when the median difference falls by this share: less is grain.
REQUIRED_GAIN = 0.03
# Shifts below this many pixels cannot be told from grain; warping for them would only soften.
SMALLEST_SHIFT_PX = 0.04
# Sub-pixel refinement that wants more than this at full size has locked on to something else.
LARGEST_REFINEMENT_PX = 6.0
# Below these the solution rests on chance, or on one corner of the frame.
FEWEST_INLIERS = 12
FEWEST_CELLS = 3
# Blur (pixels), scale of a difference that still counts, and rounds, from coarse to fine.
REFINEMENT = ((2.5, 0.06, 5), (1.2, 0.03, 6))
# A (blurred) difference above this is another thing in front of the set, however badly aligned.
CHANGED = 0.06
# Above this share of the frame, missing clean plate is worth a label.
OUTSIDE_SHARE = 0.005
# The edge of the clean plate may be stretched by this much before what it repeats is no evidence.
EDGE_PX = 0.35


@dataclass(frozen=True)
class CleanPlateMatch:
    """The clean plate as the model should see it, and how it got there.

    clean_plate: (H, W, 3) float32 display-encoded, top-down, warped and exposure-matched; may be
    the caller's own array when nothing had to change: do not write into it. outside: (H, W) bool,
    True where the warped clean plate does not cover the plate (the values there repeat its edge),
    or None where all is covered. homography: 3x3, clean plate pixels to plate pixels, None without
    one. gain, offset: per channel, `gain * clean_plate + offset`. degraded: labels of what was
    wanted and not reached. report: plain values for the reply.
    """

    clean_plate: FloatImage
    outside: Optional[Mask]
    homography: Optional[Matrix]
    gain: tuple[float, float, float]
    offset: tuple[float, float, float]
    degraded: tuple[str, ...]
    report: Mapping[str, Any]


class CleanSide:
    """What alignment needs of a clean plate, whatever plate it is laid onto: made once a shot.

    picture: (H, W, 3) float32 as in `match_clean_plate`; the rest is made when it is asked for.
    """

    def __init__(self, picture: FloatImage) -> None:
        self.picture = picture

    @cached_property
    def small(self) -> FloatImage:
        """The clean plate at working size."""
        return _shrunk(self.picture, GEOMETRY_SIDE)

    @cached_property
    def peak(self) -> float:
        """Its brightest value."""
        return float(self.picture.max())

    @cached_property
    def corners(self) -> tuple[Any, Any]:
        """Points at working size, and their descriptors (None where it has none)."""
        return _corners(self.small, None)


@dataclass(frozen=True)
class _Exposure:
    """Per-channel gain and offset; `refused` says why there is none, if one was wanted."""

    gain: FloatImage
    offset: FloatImage
    refused: str = ""

    def apply(self, picture: FloatImage, ceiling: float) -> FloatImage:
        if self.is_identity:
            return picture
        matched = picture * self.gain
        matched += self.offset
        return np.clip(matched, 0, ceiling, out=matched)

    @property
    def is_identity(self) -> bool:
        return bool((self.gain == 1).all() and (self.offset == 0).all())


_NO_EXPOSURE = _Exposure(np.ones(3, np.float32), np.zeros(3, np.float32))


@dataclass(frozen=True)
class _Solution:
    """Geometry (clean plate to plate, full-size pixels) and exposure, with what is said of them."""

    homography: Optional[Matrix] = None
    exposure: _Exposure = _NO_EXPOSURE
    degraded: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)


def match_clean_plate(
    plate: FloatImage,
    clean_plate: FloatImage,
    *,
    alignment: Alignment = "off",
    match_exposure: bool = True,
    subject: Optional[FloatImage] = None,
    clean_side: Optional[CleanSide] = None,
    checkpoint: Optional[Checkpoint] = None,
) -> CleanPlateMatch:
    """The clean plate brought into register and exposure with the plate.

    plate, clean_plate: (H, W, 3) float32, display-encoded RGB, >= 0, values above 1 allowed,
    top-down, of equal size. `alignment`: `off` leaves the geometry alone; `auto` keeps a homography
    or a sub-pixel shift only where it lowers the median difference on the unchanged set;
    `homography` keeps any plausible one that does not raise it. subject: (H, W) 0..1, where the
    subject is known to be (a hint or an earlier matte): left out of every estimate. clean_side:
    that of this very array, where it is at hand; the result is the same without it. Never raises
    for what the pictures hold: what could not be done is named in `degraded`. Deterministic.
    """
    checkpoint = checkpoint or no_checkpoint
    wants = (alignment, match_exposure)
    if min(plate.shape[:2]) < MINIMUM_SIDE or wants == ("off", False):
        return _unchanged(clean_plate)
    if clean_side is None or clean_side.picture is not clean_plate:
        clean_side = CleanSide(clean_plate)
    pair = _Pair(plate, clean_side, subject)
    solution = _solve(pair, alignment, match_exposure, checkpoint)
    return _applied(solution, plate, clean_plate, pair.ceiling)


# --- small copies ---------------------------------------------------------------------------------


class _Pair:
    """Plate and clean plate at the sizes the estimates work at, and one way to warp and compare."""

    def __init__(
        self, plate: FloatImage, clean_side: CleanSide, subject: Optional[FloatImage]
    ) -> None:
        self.full = plate.shape[:2]
        self.plate = _shrunk(plate, GEOMETRY_SIDE)
        self.clean_side, self.clean = clean_side, clean_side.small
        # 1 for pictures that end at white, none for pictures with light above it.
        self.ceiling = 1.0 if max(float(plate.max()), clean_side.peak) <= 1.0 else math.inf
        self._seen: dict[int, tuple[_Solution, FloatImage, Mask, FloatImage]] = {}
        height, width = self.plate.shape[:2]
        self.free = np.ones((height, width), bool)
        if subject is not None:
            near = cv2.dilate(_shrunk(subject, GEOMETRY_SIDE), np.ones((9, 9), np.uint8))
            self.free = near < 0.1
        if self.free.sum() < 64:
            self.free[:] = True
        # Pixel centres, not corners, are what the two sizes have in common.
        sy, sx = height / self.full[0], width / self.full[1]
        self.to_small = np.array(
            [[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]], np.float64
        )

    @property
    def size(self) -> tuple[int, int]:
        return self.plate.shape[1], self.plate.shape[0]

    def small(self, full: Optional[Matrix]) -> Matrix:
        """A full-size homography at working size."""
        matrix = np.eye(3) if full is None else full
        return self.to_small @ matrix @ np.linalg.inv(self.to_small)

    def enlarged(self, small: Matrix) -> Matrix:
        matrix = np.linalg.inv(self.to_small) @ small @ self.to_small
        return np.asarray(matrix / matrix[2, 2], np.float64)

    def seen(self, solution: _Solution) -> tuple[FloatImage, Mask, FloatImage]:
        """The small clean plate under a solution, where it covers the plate, and how it differs."""
        if id(solution) not in self._seen:
            clean, covered = self._warped(solution)
            made = (solution, clean, covered, _difference(self.plate, clean))
            # The solution is kept, so that no other can come by its identity.
            self._seen[id(solution)] = made
        return self._seen[id(solution)][1:]

    def _warped(self, solution: _Solution) -> tuple[FloatImage, Mask]:
        if solution.homography is None:
            return solution.exposure.apply(self.clean, self.ceiling), self.free
        matrix = self.small(solution.homography)
        moved = _warp(self.clean, matrix, self.size)
        covered = ~_outside(matrix, self.size, self.size) & self.free
        return solution.exposure.apply(moved, self.ceiling), covered


def _shrunk(picture: FloatImage, side: int) -> FloatImage:
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = max(MINIMUM_SIDE, round(width * scale)), max(MINIMUM_SIDE, round(height * scale))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _warp(picture: FloatImage, matrix: Matrix, size: tuple[int, int]) -> FloatImage:
    return cv2.warpPerspective(
        picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _outside(matrix: Matrix, source: tuple[int, int], size: tuple[int, int]) -> Mask:
    """Where the warped picture has no pixel, a third of one forgiven."""
    right, bottom = source[0] - 1 + EDGE_PX, source[1] - 1 + EDGE_PX
    left = top = -EDGE_PX
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    quad = cv2.perspectiveTransform(corners[None], matrix)[0]
    covered = np.zeros((size[1], size[0]), np.uint8)
    limit = 16.0 * max(*size, *source)
    cv2.fillConvexPoly(
        covered, np.round(np.clip(quad, -limit, limit) * 16).astype(np.int32), 1, cv2.LINE_8, 4
    )
    return covered == 0


# --- solving --------------------------------------------------------------------------------------


def _solve(
    pair: _Pair, alignment: Alignment, match_exposure: bool, checkpoint: Checkpoint
) -> _Solution:
    checkpoint("match_exposure")
    untouched = _Solution()
    start = _with_exposure(pair, untouched, match_exposure)
    best, report = start, dict[str, Any]()
    degraded: list[str] = []
    if alignment != "off":
        checkpoint("align")
        moved, found = _homography(pair, start)
        report.update(found)
        if moved is not None:
            moved = _with_exposure(pair, moved, match_exposure)
            if _improves(pair, best, moved) or (
                alignment == "homography" and not _improves(pair, moved, best)
            ):
                best = moved
        checkpoint("refine")
        refined = _refined(pair, best)
        if refined is not None:
            refined = _with_exposure(pair, refined, match_exposure)
            if _improves(pair, best, refined):
                best = refined
        if alignment == "homography" and moved is None and best.homography is None:
            degraded.append(UNALIGNED)
        elif _lost(pair, best):
            # What was found then is the best of nothing: chance.
            best = start
            degraded.append(UNALIGNED)
    if best.exposure.refused:
        degraded.append(EXPOSURE_UNMATCHED)
    before, after = (_median(d) for d in _compared(pair, untouched, best))
    report.update(
        difference_before=round(before, 5),
        difference_after=round(after, 5),
        shift_px=round(_shift_px(best.homography, pair.full), 3),
    )
    return _Solution(best.homography, best.exposure, tuple(degraded), report)


def _lost(pair: _Pair, best: _Solution) -> bool:
    """Whether not even a quarter of the frame is set that stands still: in register, that differs
    by grain only."""
    _, covered, whole = pair.seen(best)
    difference = whole[covered][::3]
    return bool(difference.size and np.quantile(difference, 0.25) > CHANGED)


def _homography(pair: _Pair, start: _Solution) -> tuple[Optional[_Solution], dict[str, Any]]:
    """Clean plate to plate from matched corners; None, and why, where there is no honest one."""
    points_b, words_b = pair.clean_side.corners
    points_p, words_p = _corners(pair.plate, pair.free)
    if words_b is None or words_p is None or min(len(words_b), len(words_p)) < FEWEST_INLIERS:
        return None, {"alignment_refused": "too few features"}
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(words_b, words_p)
    matches = sorted(matches, key=lambda m: (m.distance, m.queryIdx))
    matches = matches[: max(30, int(len(matches) * 0.3))]
    if len(matches) < FEWEST_INLIERS:
        return None, {"alignment_refused": "too few matches", "matches": len(matches)}
    source = np.array([points_b[m.queryIdx].pt for m in matches], np.float64)
    target = np.array([points_p[m.trainIdx].pt for m in matches], np.float64)
    cv2.setRNGSeed(1)
    matrix, inliers = cv2.findHomography(source, target, cv2.RANSAC, 2.0, None, 2000, 0.999)
    found = {"matches": len(matches), "inliers": 0 if inliers is None else int(inliers.sum())}
    if matrix is None or found["inliers"] < FEWEST_INLIERS:
        return None, {**found, "alignment_refused": "too few inliers"}
    kept = target[inliers.ravel() > 0]
    if _cells_of_points(kept, pair.size) < FEWEST_CELLS:
        return None, {**found, "alignment_refused": "inliers are not spread over the frame"}
    full = pair.enlarged(matrix)
    if not _plausible(full, pair.full):
        return None, {**found, "alignment_refused": "implausible homography"}
    return _Solution(full, start.exposure), found


def _corners(small: FloatImage, free: Optional[Mask]) -> tuple[Any, Any]:
    """Corners of a picture at working size and their descriptors, where it is `free`."""
    mask = None if free is None else free.astype(np.uint8) * 255
    return cv2.ORB.create(nfeatures=2000).detectAndCompute(_grey_bytes(small), mask)


def _grey_bytes(picture: FloatImage) -> NDArray[np.uint8]:
    return np.asarray(np.round(_grey(picture) * 255), np.uint8)


def _grey(picture: FloatImage) -> FloatImage:
    return cv2.cvtColor(np.clip(picture, 0, 1), cv2.COLOR_RGB2GRAY)


def _cells_of_points(points: NDArray[np.float64], size: tuple[int, int]) -> int:
    cell = np.floor(points / np.array(size) * 4).clip(0, 3).astype(int)
    return int(np.unique(cell[:, 1] * 4 + cell[:, 0]).size)


def _plausible(matrix: Matrix, full: tuple[int, int]) -> bool:
    """Whether a camera that still shows the same set could have moved so."""
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


def _refined(pair: _Pair, start: _Solution) -> Optional[_Solution]:
    """The last pixels and fractions of one, from all slopes of the set at once.

    Robust Gauss-Newton on the grey difference: what differs by more than a misplaced edge can, the
    subject above all, gets no weight; gain and offset are solved along, so that an exposure that
    is not yet right does not pull. Deformation is damped where the set has little to hold on to.
    """
    clean, covered, _ = pair.seen(start)
    step = np.eye(3)
    for sigma, scale, rounds in REFINEMENT:
        step = _registered(pair.plate, clean, covered, step, sigma, scale, rounds)
    matrix = pair.enlarged(step @ pair.small(start.homography))
    moved = _shift_px(pair.enlarged(step), pair.full)
    if not _plausible(matrix, pair.full) or not SMALLEST_SHIFT_PX <= moved <= LARGEST_REFINEMENT_PX:
        return None
    return _Solution(matrix, start.exposure)


def _registered(
    plate: FloatImage,
    clean: FloatImage,
    covered: Mask,
    step: Matrix,
    sigma: float,
    scale: float,
    rounds: int,
) -> Matrix:
    """`step` (clean plate to plate, working pixels) after some rounds at one blur and one scale."""
    target = cv2.GaussianBlur(_grey(plate), (0, 0), sigma)
    source = cv2.GaussianBlur(_grey(clean), (0, 0), sigma)
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
    """Up to 20,000 pixels (x, y) with the steeper half of the slopes, evenly taken."""
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
    """One weighted step for eight numbers of a small homography (and gain and offset, dropped)."""
    x, y = unit[:, 0].astype(np.float32), unit[:, 1].astype(np.float32)
    along = gx * x + gy * y
    columns = [gx, gx * x, gx * y, gy, gy * x, gy * y, along * x, along * y]
    columns += [value, np.ones_like(value), residual]
    # Tukey's weight: nothing beyond three scales takes part.
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


def _shift_px(matrix: Optional[Matrix], full: tuple[int, int]) -> float:
    """The mean distance that the four quarter points of the frame move."""
    if matrix is None:
        return 0.0
    y, x = full[0], full[1]
    points = np.array([[a * x, b * y] for a in (0.2, 0.8) for b in (0.2, 0.8)], np.float64)
    moved = cv2.perspectiveTransform(points[None], matrix)[0]
    return float(np.hypot(*(moved - points).T).mean())


# --- what counts as better ------------------------------------------------------------------------


def _difference(plate: FloatImage, clean: FloatImage) -> FloatImage:
    """Largest channel difference after enough blur that grain does not count."""
    return _largest(np.abs(cv2.GaussianBlur(plate - clean, (0, 0), 1.5)))


def _largest(picture: FloatImage) -> FloatImage:
    """Largest of the three channels (numpy's own maximum over a short axis is ten times slower)."""
    red, green, blue = cv2.split(picture)
    return cv2.max(cv2.max(red, green), blue)


def _improves(pair: _Pair, before: _Solution, after: _Solution) -> bool:
    """Whether the median falls, and the mean with it: what one moves off by is counted as one."""
    old, new = _compared(pair, before, after)
    if not old.size:
        return False
    mean_old, mean_new = (float(np.minimum(d, CHANGED).mean()) for d in (old, new))
    keep = 1 - REQUIRED_GAIN
    return float(np.median(new)) < float(np.median(old)) * keep and mean_new < mean_old * keep


def _compared(pair: _Pair, before: _Solution, after: _Solution) -> tuple[FloatImage, FloatImage]:
    """Differences of two solutions at the same pixels: the textured half of what either of them
    takes for unchanged set (flat areas match under any alignment and tell nothing)."""
    _, covered_old, first = pair.seen(before)
    new, covered_new, second = pair.seen(after)
    covered = covered_old & covered_new
    same = (first < CHANGED) | (second < CHANGED)
    grey = _grey(new)
    slope = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    same &= covered
    if not same.any():
        return first[same], second[same]
    look = same & (slope >= np.median(slope[same][::3]))
    return first[look], second[look]


def _median(difference: FloatImage) -> float:
    """The median, 1 where no set is left to compare."""
    return float(np.median(difference)) if difference.size else 1.0


# --- exposure -------------------------------------------------------------------------------------


def _with_exposure(pair: _Pair, solution: _Solution, wanted: bool) -> _Solution:
    """The solution with gain and offset fitted under its geometry, where that helps."""
    if not wanted:
        return solution
    bare = solution if solution.exposure.is_identity else _Solution(solution.homography)
    clean, covered, _ = pair.seen(bare)
    exposure = _fit_exposure(pair.plate, clean, covered)
    fitted = _Solution(solution.homography, exposure)
    if not exposure.refused and _improves(pair, bare, fitted):
        return fitted
    if exposure.refused == bare.exposure.refused:
        return bare
    return _Solution(solution.homography, replace(_NO_EXPOSURE, refused=exposure.refused))


def _fit_exposure(plate: FloatImage, clean: FloatImage, covered: Mask) -> _Exposure:
    """Gain and offset per channel by trimmed least squares on what did not change.

    Assumes that a fifth of the frame is set that stands still. Clipped pixels take no part.
    """
    y, x = _shrunk(plate, EXPOSURE_SIDE), _shrunk(clean, EXPOSURE_SIDE)
    weight = _shrunk(covered.astype(np.float32), EXPOSURE_SIDE)
    usable = (weight > 0.99) & (_largest(cv2.max(x, y)) < 0.99)
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
        inliers = residual < limit
        if inliers.sum() < 50:
            break
        gain, offset = _least_squares(xs[:, inliers], ys[:, inliers])
    if inliers.sum() < 50 or limit > 2 * CHANGED:
        return _Exposure(_NO_EXPOSURE.gain, _NO_EXPOSURE.offset, "too little unchanged set")
    height, width = usable.shape
    if _cells_held(rows[inliers] * 4 // height, columns[inliers] * 4 // width) < FEWEST_CELLS:
        return _Exposure(_NO_EXPOSURE.gain, _NO_EXPOSURE.offset, "unchanged set is not spread")
    return _Exposure(gain.ravel().astype(np.float32), offset.ravel().astype(np.float32))


def _least_squares(x: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Gain and offset, (3, 1) each, from (3, N) values."""
    mean_x, mean_y = x.mean(axis=1, keepdims=True), y.mean(axis=1, keepdims=True)
    variance = np.square(x - mean_x).mean(axis=1, keepdims=True)
    covariance = ((x - mean_x) * (y - mean_y)).mean(axis=1, keepdims=True)
    gain = covariance / np.maximum(variance, 1e-9)
    offset = mean_y - gain * mean_x
    # A channel that hardly varies cannot tell gain from offset: gain only.
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


# --- applying -------------------------------------------------------------------------------------


def _applied(
    solution: _Solution, plate: FloatImage, clean_plate: FloatImage, ceiling: float
) -> CleanPlateMatch:
    height, width = plate.shape[:2]
    matrix, outside, matched = solution.homography, None, clean_plate
    degraded, share = list(solution.degraded), 0.0
    if matrix is not None:
        matched = _warp(clean_plate, matrix, (width, height))
        outside = _outside(matrix, (clean_plate.shape[1], clean_plate.shape[0]), (width, height))
        share = float(outside.mean())
        if share > OUTSIDE_SHARE:
            degraded.append(PARTLY_OUTSIDE)
        if share == 0:
            outside = None
    matched = solution.exposure.apply(matched, ceiling)
    gain, offset = solution.exposure.gain, solution.exposure.offset
    report = {
        **solution.report,
        "aligned": matrix is not None,
        "outside_share": round(share, 5),
        "gain": [round(float(v), 4) for v in gain],
        "offset": [round(float(v), 4) for v in offset],
    }
    if solution.exposure.refused:
        report["exposure_refused"] = solution.exposure.refused
    return CleanPlateMatch(
        clean_plate=matched,
        outside=outside,
        homography=matrix,
        gain=_triple(gain),
        offset=_triple(offset),
        degraded=tuple(degraded),
        report=report,
    )


def _triple(values: FloatImage) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue


def _unchanged(clean_plate: FloatImage) -> CleanPlateMatch:
    return CleanPlateMatch(
        clean_plate=clean_plate,
        outside=None,
        homography=None,
        gain=(1.0, 1.0, 1.0),
        offset=(0.0, 0.0, 0.0),
        degraded=(),
        report={"aligned": False},
    )
