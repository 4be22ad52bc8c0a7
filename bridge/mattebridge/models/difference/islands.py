"""Islands: small parts of a matte far from any larger part, which are no subject.

    alpha --working size--> regions --small and far?--> like the set nearby? --> emptied

A hand-held camera sees edges of the set from another side than the clean plate, lamps flicker,
leaves move: specks of the set remain in the matte, far from the subject. Hair, droplets and fingers
cut off by a prop lie close to it and stay. A region smaller than a speck is emptied wherever it is
far from every larger one; one that is a few specks large only where the clean plate, shifted a
little, shows about the same. A larger one stays: it may be a ball or a bird.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.evidence import length
from mattebridge.models.difference.working_size import WORK_SIDE, shrunk

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask, ModelInput

# Alpha of a region; below, it hardly shows.
LEAST_ALPHA = 0.1
# A region is far when it is this many of its own sizes, and this share of the long side, away.
FAR_SIZES, FAR_SHARE = 4.0, 0.01
# A region of up to so many specks is emptied if it is like the set nearby.
LARGEST_SPECKS = 8.0
# How far the set may have moved there, at working size, and how much of the difference must vanish.
SHIFT_PX, EXPLAINED = 6, 0.5
# What is emptied around a region: its faint edge.
EDGE_PX = 3


def without_islands(alpha: FloatImage, given: ModelInput) -> None:
    """Empty the islands of a matte (H, W) of a frame in place; its setting `specks` counts."""
    assert given.clean_plate is not None
    specks = given.settings.get("specks", DIFFERENCE.settings_schema["specks"].default)
    islands = islands_of(alpha, given.plate, given.clean_plate, float(specks))
    if islands is not None:
        alpha[islands] = 0


def islands_of(
    alpha: FloatImage, plate: FloatImage, clean_plate: FloatImage, speck_share: float
) -> Optional[Mask]:
    """Where a matte (H, W) shows islands, or None where it has none.

    plate, clean_plate: (H, W, 3) display-encoded. speck_share: the area of a speck as a share of
    the frame; 0: nothing is an island.
    """
    if speck_share <= 0:
        return None
    height, width = alpha.shape
    scale = min(1.0, WORK_SIDE / max(height, width))
    small = shrunk(alpha)
    over = (small > LEAST_ALPHA).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].astype(np.float64)
    speck = speck_share * small.size
    minor = [
        index
        for index in range(1, count)
        if areas[index] < LARGEST_SPECKS * speck and areas[index] < areas[1:].max()
    ]
    if not minor:
        return None
    major = np.isin(labels, [0, *minor], invert=True)
    away = cv2.distanceTransform((~major).astype(np.uint8), cv2.DIST_L2, 5)
    nearest = _least_by_label(away, labels, count)
    far = FAR_SIZES * np.sqrt(areas) + FAR_SHARE * max(small.shape)
    found = [
        index
        for index in minor
        if nearest[index] > far[index]
        and (areas[index] < speck or _is_like_set(stats[index], scale, plate, clean_plate))
    ]
    if not found:
        return None
    side = 2 * EDGE_PX + 1
    mask = cv2.dilate(np.isin(labels, found).astype(np.uint8), np.ones((side, side), np.uint8))
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _least_by_label(values: FloatImage, labels: NDArray[np.int32], count: int) -> FloatImage:
    """The smallest value in each region."""
    least = np.full(count, np.inf, np.float32)
    inside = labels > 0
    np.minimum.at(least, labels[inside], values[inside])
    return least


def _is_like_set(
    box: NDArray[np.int32], scale: float, plate: FloatImage, clean_plate: FloatImage
) -> bool:
    """Whether the clean plate, shifted a little, explains most of the difference in a box."""
    left, top, width, height = (int(value) for value in box[:4])
    seen = _cut(plate, (left, top, width, height), scale, 0)
    empty = _cut(clean_plate, (left, top, width, height), scale, SHIFT_PX)
    rows, columns = seen.shape[:2]
    apart = [
        float(length(seen - empty[y : y + rows, x : x + columns]).mean())
        for y in range(empty.shape[0] - rows + 1)
        for x in range(empty.shape[1] - columns + 1)
    ]
    as_it_is = apart[len(apart) // 2]
    return min(apart) < EXPLAINED * as_it_is


def _cut(
    picture: FloatImage, box: tuple[int, int, int, int], scale: float, margin: int
) -> FloatImage:
    """A box of working size out of a full-size picture, with a margin; the edge is repeated."""
    left, top, width, height = box
    size = width + 2 * margin, height + 2 * margin
    matrix = np.array(
        [[1 / scale, 0, (left - margin + 0.5) / scale - 0.5], [0, 1 / scale, 0]], np.float64
    )
    matrix[1, 2] = (top - margin + 0.5) / scale - 0.5
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
