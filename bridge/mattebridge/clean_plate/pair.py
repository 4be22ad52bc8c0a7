"""A plate and its clean plate at working size, and what is tried on them.

    Solution: homography (clean plate to plate, full-size pixels), gain and offset
    Pair.seen(solution) --> the small clean plate under it, what it covers, how the plate differs
    improves(pair, before, after): whether one solution measurably differs less than another

Everything is solved on these small copies. Two solutions are compared at the same pixels, where
either of them takes the set for unchanged and the picture has texture: flat areas match under any
alignment.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import FloatImage, Mask, largest_channel

Matrix = NDArray[np.float64]

# Frames with fewer pixels on a side hold nothing to fit or align by.
MINIMUM_SIDE = 16
# Geometry is solved at this long side: enough for a tenth of a pixel at HD.
GEOMETRY_SIDE = 960
# A step is kept only when the median difference falls by this share: less is grain.
REQUIRED_GAIN = 0.03
# A (blurred) difference above this is another thing in front of the set, however badly aligned.
CHANGED = 0.06
# Blur in which a geometry that is wrong by a pixel still counts, and a soft clean plate hardly.
COARSE_PX = 3.0
# A cell of the frame differs more than before when it does by this factor and this much.
WORSE, WORSE_LEAST = 1.15, 0.002
# The edge of the clean plate may be stretched by this much before what it repeats is no evidence.
EDGE_PX = 0.35


@dataclass(frozen=True)
class Exposure:
    """Per-channel gain and offset; `refused` is why there is none, if one was asked for."""

    gain: FloatImage
    offset: FloatImage
    refused: str = ""

    def apply(self, picture: FloatImage, ceiling: float) -> FloatImage:
        if self.is_identity:
            return picture
        height, width, _ = picture.shape
        # By whole rows: numpy's loop over three channels takes four times as long.
        rows = picture.reshape(height, -1) * np.tile(self.gain, width)
        rows += np.tile(self.offset, width)
        return np.clip(rows, 0, ceiling, out=rows).reshape(picture.shape)

    @property
    def is_identity(self) -> bool:
        return bool((self.gain == 1).all() and (self.offset == 0).all())


NO_EXPOSURE = Exposure(np.ones(3, np.float32), np.zeros(3, np.float32))


@dataclass(frozen=True)
class Solution:
    """Geometry (clean plate to plate, full-size pixels) and exposure, and a report of them."""

    homography: Optional[Matrix] = None
    exposure: Exposure = NO_EXPOSURE
    degraded: tuple[str, ...] = ()
    report: Mapping[str, Any] = field(default_factory=dict)


class CleanSide:
    """What alignment needs of a clean plate, whatever the plate: computed once a shot.

    picture: (H, W, 3) float32 as in `match_clean_plate`, or one at working size and the brightest
    value of the whole; the rest is computed on first use.
    """

    def __init__(self, picture: FloatImage, brightest: Optional[float] = None) -> None:
        self.picture = picture
        self._brightest = brightest

    @cached_property
    def small(self) -> FloatImage:
        """The clean plate at working size."""
        return shrunk(self.picture, GEOMETRY_SIDE)

    @cached_property
    def peak(self) -> float:
        """Its brightest value."""
        return float(self.picture.max()) if self._brightest is None else self._brightest

    @cached_property
    def corners(self) -> tuple[Any, Any]:
        """Points at working size, and their descriptors (None where it has none)."""
        return corners_of(self.small, None)


class Pair:
    """Plate and clean plate at working size, with one way to warp and compare them."""

    def __init__(
        self,
        plate: FloatImage,
        clean_side: CleanSide,
        subject: Optional[FloatImage],
        *,
        full: Optional[tuple[int, int]] = None,
        brightest: Optional[float] = None,
    ) -> None:
        """full, brightest: of the whole plate, where pictures of working size are given."""
        self.full = (plate.shape[0], plate.shape[1]) if full is None else full
        brightest = float(plate.max()) if brightest is None else brightest
        self.plate = shrunk(plate, GEOMETRY_SIDE)
        self.clean_side, self.clean = clean_side, clean_side.small
        # 1 for pictures without light above white.
        self.ceiling = 1.0 if max(brightest, clean_side.peak) <= 1.0 else math.inf
        self._seen: dict[int, tuple[Solution, FloatImage, Mask, FloatImage]] = {}
        self._slopes: dict[int, FloatImage] = {}
        self._unexplained: dict[int, float] = {}
        self._moved: dict[bytes, tuple[FloatImage, Mask]] = {}
        self._blurred: dict[float, FloatImage] = {}
        self._small: dict[int, FloatImage] = {}
        # Not cached properties: those of all pairs wait for each other before Python 3.12.
        self._corners: Optional[tuple[Any, Any]] = None
        self._matches: Optional[NDArray[np.int64]] = None
        height, width = self.plate.shape[:2]
        self.free = np.ones((height, width), bool)
        if subject is not None:
            near = cv2.dilate(shrunk(subject, GEOMETRY_SIDE), np.ones((9, 9), np.uint8))
            self.free = near < 0.1
        if self.free.sum() < 64:
            self.free[:] = True
        # The two sizes have the pixel centres in common, not the corners of the frame.
        sy, sx = height / self.full[0], width / self.full[1]
        self.to_small = np.array(
            [[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]], np.float64
        )

    @property
    def size(self) -> tuple[int, int]:
        """The working size, width and height."""
        return self.plate.shape[1], self.plate.shape[0]

    def small(self, full: Optional[Matrix]) -> Matrix:
        """A full-size homography at working size."""
        matrix = np.eye(3) if full is None else full
        return self.to_small @ matrix @ np.linalg.inv(self.to_small)

    def enlarged(self, small: Matrix) -> Matrix:
        """A homography of working size at full size."""
        matrix = np.linalg.inv(self.to_small) @ small @ self.to_small
        return np.asarray(matrix / matrix[2, 2], np.float64)

    @property
    def corners(self) -> tuple[Any, Any]:
        """Corners of the plate and their descriptors, where the subject is not known to be."""
        if self._corners is None:
            self._corners = corners_of(self.plate, self.free)
        return self._corners

    @property
    def matches(self) -> NDArray[np.int64]:
        """(N, 2): corners of the clean plate that are like one of the plate, and that one; the most
        alike first."""
        if self._matches is None:
            self._matches = matched(self.clean_side.corners[1], self.corners[1])
        return self._matches

    def blurred(self, sigma: float) -> FloatImage:
        """The grey plate after a blur; not to be written into."""
        if sigma not in self._blurred:
            self._blurred[sigma] = cv2.GaussianBlur(grey_of(self.plate), (0, 0), sigma)
        return self._blurred[sigma]

    def smaller(self, side: int) -> FloatImage:
        """The plate at a long side; not to be written into."""
        if side not in self._small:
            self._small[side] = shrunk(self.plate, side)
        return self._small[side]

    def seen(self, solution: Solution) -> tuple[FloatImage, Mask, FloatImage]:
        """The small clean plate under a solution, where it covers the plate, and how it differs."""
        if id(solution) not in self._seen:
            clean, covered = self._warped(solution)
            made = (solution, clean, covered, difference(self.plate, clean))
            # The solution is kept with it: no other object can then have its id.
            self._seen[id(solution)] = made
        return self._seen[id(solution)][1:]

    def slope(self, solution: Solution) -> FloatImage:
        """How steep the small clean plate is under a solution, in grey; not to be written into."""
        clean, *_ = self.seen(solution)  # which keeps the solution, so that its id stays its own
        if id(solution) not in self._slopes:
            grey = grey_of(clean)
            self._slopes[id(solution)] = _steepness(grey)
        return self._slopes[id(solution)]

    def unexplained(self, solution: Solution) -> float:
        """See the function of that name."""
        clean, covered, whole = self.seen(solution)  # which keeps the solution, as above
        if id(solution) not in self._unexplained:
            found = _unexplained(self.plate, clean, covered & (whole < CHANGED))
            self._unexplained[id(solution)] = found
        return self._unexplained[id(solution)]

    def _warped(self, solution: Solution) -> tuple[FloatImage, Mask]:
        if solution.homography is None:
            return solution.exposure.apply(self.clean, self.ceiling), self.free
        key = solution.homography.tobytes()
        if key not in self._moved:
            matrix = self.small(solution.homography)
            covered = ~outside_of(matrix, self.size, self.size) & self.free
            self._moved[key] = warp(self.clean, matrix, self.size), covered
        moved, covered = self._moved[key]
        return solution.exposure.apply(moved, self.ceiling), covered


def improves(pair: Pair, before: Solution, after: Solution) -> bool:
    """Whether median and mean fall; in the mean, every difference over `CHANGED` counts alike."""
    old, new = compared(pair, before, after)
    if not old.size:
        return False
    keep = 1 - REQUIRED_GAIN
    # First what takes the least time.
    mean_old, mean_new = (float(np.minimum(d, CHANGED).mean()) for d in (old, new))
    if not mean_new < mean_old * keep:
        return False
    return float(np.median(new)) < float(np.median(old)) * keep


def compared(pair: Pair, before: Solution, after: Solution) -> tuple[FloatImage, FloatImage]:
    """Differences of two solutions at the same pixels.

    Those are the textured half of what either of them takes for unchanged set: flat areas match
    under any alignment.
    """
    _, covered_old, first = pair.seen(before)
    _, covered_new, second = pair.seen(after)
    covered = covered_old & covered_new
    same = np.flatnonzero(((first < CHANGED) | (second < CHANGED)) & covered)
    first, second = first.reshape(-1)[same], second.reshape(-1)[same]
    if not same.size:
        return first, second
    slope = pair.slope(after).reshape(-1)[same]
    look = np.flatnonzero(slope >= np.median(slope[::3]))
    return first[look], second[look]


def unexplained(pair: Pair, solution: Solution) -> float:
    """How many times more the pictures differ where the set has texture than where it is flat.

    Grain differs alike in both: near 1 it explains the difference. After a blur in which a slight
    softness of one picture hardly counts.
    """
    return pair.unexplained(solution)


def _unexplained(plate: FloatImage, clean: FloatImage, same: Mask) -> float:
    """same: (h, w), where the set is taken for unchanged."""
    if not same.any():
        return 1.0
    slope = _steepness(cv2.GaussianBlur(grey_of(clean), (0, 0), COARSE_PX))
    coarse = _largest_size(cv2.GaussianBlur(plate - clean, (0, 0), COARSE_PX))
    low, high = np.quantile(slope[same][::3], (0.3, 0.7))
    flat, steep = coarse[same & (slope <= low)], coarse[same & (slope >= high)]
    return float(np.median(steep)) / max(float(np.median(flat)), 1e-4)


def worsens_somewhere(pair: Pair, before: Solution, after: Solution) -> bool:
    """Whether in one of the 16 cells of the frame plate and clean plate differ more than before.

    A clean plate in its right place lies better everywhere.
    """
    (_, first, old), (_, second, new) = pair.seen(before), pair.seen(after)
    covered = first & second
    height, width = covered.shape
    for row in range(4):
        for column in range(4):
            cell = (
                slice(row * height // 4, (row + 1) * height // 4),
                slice(column * width // 4, (column + 1) * width // 4),
            )
            if covered[cell].sum() < 64:
                continue
            was, now = (
                float(np.minimum(whole[cell][covered[cell]], 2 * CHANGED).mean())
                for whole in (old, new)
            )
            if now > was * WORSE + WORSE_LEAST:
                return True
    return False


def difference(plate: FloatImage, clean: FloatImage) -> FloatImage:
    """Largest channel difference after enough blur that grain does not count."""
    return _largest_size(cv2.GaussianBlur(plate - clean, (0, 0), 1.5))


def _largest_size(apart: FloatImage) -> FloatImage:
    """The largest size of the three channels, which are overwritten."""
    return largest_channel(np.abs(apart, out=apart))


def _steepness(grey: FloatImage) -> FloatImage:
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
    steep = np.abs(across, out=across)
    steep += np.abs(down, out=down)
    return steep


def grey_of(picture: FloatImage) -> FloatImage:
    return cv2.cvtColor(np.clip(picture, 0, 1), cv2.COLOR_RGB2GRAY)


def corners_of(small: FloatImage, free: Optional[Mask]) -> tuple[Any, Any]:
    """Corners of a picture at working size and their descriptors, where it is `free`."""
    mask = None if free is None else free.astype(np.uint8) * 255
    return cv2.ORB.create(nfeatures=2000).detectAndCompute(_grey_bytes(small), mask)


def matched(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N, 2): which descriptors (., 32) of `one` and of `other` are the most alike of all to each
    other, the most alike first; of several that are as much alike, the first.

    OpenCV's matcher with its cross-check, with all distances by one product of matrices: that
    takes a third of the time, and versions of OpenCV differ in what they cross-check.
    """
    first, second = (
        np.unpackbits(words, axis=1).astype(np.float32) * 2 - 1 for words in (one, other)
    )
    # How many bits agree, less how many do not, in steps of more than there are descriptors, less
    # the place in `one`: whole numbers below 2**24 for up to 30,000, so exact, and none of them
    # twice in a column.
    place = np.arange(len(one), dtype=np.float32)[:, None]
    first = np.hstack([first * (1 << len(one).bit_length()), -place])
    alike = first @ np.hstack([second, np.ones_like(second[:, :1])]).T
    nearest = alike.argmax(axis=1)
    likeness = np.take_along_axis(alike, nearest[:, None], axis=1)[:, 0]
    mutual = np.flatnonzero(likeness == alike.max(axis=0)[nearest])
    pairs = np.stack([mutual, nearest[mutual]], axis=1)
    return pairs[np.argsort(-likeness[mutual])]


def _grey_bytes(picture: FloatImage) -> NDArray[np.uint8]:
    return np.asarray(np.round(grey_of(picture) * 255), np.uint8)


def shrunk(picture: FloatImage, side: int) -> FloatImage:
    height, width = size_at(picture.shape, side)
    if (height, width) == picture.shape[:2]:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def size_at(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Height and width of a picture of this shape whose long side is `side` at most."""
    height, width = shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return height, width
    return max(MINIMUM_SIDE, round(height * scale)), max(MINIMUM_SIDE, round(width * scale))


def warp(picture: FloatImage, matrix: Matrix, size: tuple[int, int]) -> FloatImage:
    return cv2.warpPerspective(
        picture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def outside_of(matrix: Matrix, source: tuple[int, int], size: tuple[int, int]) -> Mask:
    """Where the warped picture has no pixel, but for `EDGE_PX` around its edge."""
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
