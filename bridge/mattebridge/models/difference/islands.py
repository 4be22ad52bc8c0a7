"""Islands: small parts of a matte far from any larger part, which are no subject.

    alpha --working size--> regions --small and far?--> like the set nearby? --> emptied

A hand-held camera sees edges of the set from another side than the clean plate, lamps flicker,
leaves move: specks of the set remain in the matte, far from the subject. Hair, droplets and fingers
cut off by a prop lie close to it and stay. A region smaller than a speck is emptied wherever it is
far from every larger one; one that is a few specks large only where the clean plate, shifted a
little, shows about the same. A larger one stays: it may be a ball or a bird.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.models.difference.evidence import length
from mattebridge.models.difference.full_size import enlarged_mask, small_arrays
from mattebridge.models.difference.working_size import WORK_SIDE
from mattebridge.models.pytorch.frames import arrays_of

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

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


def without_islands(
    alpha: Tensor,
    plate: Tensor,
    clean_plate: Tensor,
    speck_share: float,
    small: Optional[FloatImage] = None,
) -> tuple[Tensor, Optional[FloatImage]]:
    """A matte (H, W) without its islands, see `islands_of`: the same tensor if there are none. Then
    with the matte at working size, if it was looked at."""
    if speck_share <= 0 and small is None:
        return alpha, None  # nothing is an island, and a GPU need not be waited for
    if small is None:
        (small,) = small_arrays(alpha)
    islands = islands_of(alpha, plate, clean_plate, speck_share, small)
    return (alpha, small) if islands is None else (alpha.masked_fill(islands, 0), None)


def islands_of(
    alpha: Tensor, plate: Tensor, clean_plate: Tensor, speck_share: float, small: FloatImage
) -> Optional[Tensor]:
    """Where a matte (H, W) shows islands, or None where it has none.

    plate, clean_plate: (H, W, 3) display-encoded. speck_share: the area of a speck as a share of
    the frame; 0: nothing is an island. small: the matte at working size.
    """
    height, width = alpha.shape
    scale = min(1.0, WORK_SIDE / max(height, width))
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
    away_from_all = [index for index in minor if nearest[index] > far[index]]
    larger = [index for index in away_from_all if areas[index] >= speck]
    like_set = _are_like_set([stats[index] for index in larger], scale, plate, clean_plate)
    unlike = {index for index, is_like in zip(larger, like_set) if not is_like}
    found = [index for index in away_from_all if index not in unlike]
    if not found:
        return None
    side = 2 * EDGE_PX + 1
    mask = cv2.dilate(np.isin(labels, found).astype(np.uint8), np.ones((side, side), np.uint8))
    return enlarged_mask(mask > 0, alpha)


def _least_by_label(values: FloatImage, labels: NDArray[np.int32], count: int) -> FloatImage:
    """The smallest value in each region."""
    least = np.full(count, np.inf, np.float32)
    inside = labels > 0
    np.minimum.at(least, labels[inside], values[inside])
    return least


def _are_like_set(
    boxes: Sequence[NDArray[np.int32]], scale: float, plate: Tensor, clean_plate: Tensor
) -> list[bool]:
    """Whether the clean plate, shifted a little, explains most of the difference in each box.

    The pixels of all boxes come to main memory together.
    """
    if not boxes:
        return []
    inner, outer = [], []
    for box in boxes:
        left, top, width, height = (int(value) for value in box[:4])
        inner.append(_Cut.of((left, top, width, height), scale, 0, plate))
        outer.append(_Cut.of((left, top, width, height), scale, SHIFT_PX, clean_plate))
    pixels = arrays_of(
        *(plate[cut.part] for cut in inner), *(clean_plate[cut.part] for cut in outer)
    )
    taken = [cut.taken(array) for cut, array in zip([*inner, *outer], pixels)]
    return [_is_like_set(*pair) for pair in zip(taken[: len(boxes)], taken[len(boxes) :])]


def _is_like_set(seen: FloatImage, empty: FloatImage) -> bool:
    """Whether a box of the plate is like some box of the clean plate, which is cut out wider."""
    rows, columns = seen.shape[:2]
    apart = [
        float(length(seen - empty[y : y + rows, x : x + columns]).mean())
        for y in range(empty.shape[0] - rows + 1)
        for x in range(empty.shape[1] - columns + 1)
    ]
    as_it_is = apart[len(apart) // 2]
    return min(apart) < EXPLAINED * as_it_is


@dataclass(frozen=True)
class _Cut:
    """A box of working size out of a full-size picture, with a margin; the edge is repeated.

    part: the pixels around it, the only ones that come to main memory. size: width and height.
    matrix: from the box to these pixels.
    """

    part: tuple[slice, slice]
    size: tuple[int, int]
    matrix: NDArray[np.float64]

    @classmethod
    def of(cls, box: tuple[int, int, int, int], scale: float, margin: int, picture: Tensor) -> _Cut:
        left, top, width, height = box
        size = width + 2 * margin, height + 2 * margin
        x, y = ((first - margin + 0.5) / scale - 0.5 for first in (left, top))
        rows = _around(y, size[1] / scale, picture.shape[0])
        columns = _around(x, size[0] / scale, picture.shape[1])
        matrix = [[1 / scale, 0, x - columns.start], [0, 1 / scale, y - rows.start]]
        return cls((rows, columns), size, np.array(matrix, np.float64))

    def taken(self, pixels: FloatImage) -> FloatImage:
        """The box, from the pixels of `part`."""
        flags, border = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, cv2.BORDER_REPLICATE
        return cv2.warpAffine(pixels, self.matrix, self.size, flags=flags, borderMode=border)


def _around(first: float, length: float, limit: int) -> slice:
    """The pixels from `first` on for `length`, and two more on each side, within the picture."""
    begin = min(max(int(first) - 2, 0), limit - 1)
    return slice(begin, max(begin + 1, min(int(first + length) + 3, limit)))
