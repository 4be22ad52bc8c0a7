"""Things of the set that stand elsewhere in the clean plate: a matte shows them at both places.

    clean plate   . . O . .      O: a thing at its old place
    plate         . . . P .      P: at the new one, the same pixels shifted
    matte         . . # # .      both differ, and are solid

A chair was moved after the clean plate was shot. Plate and clean plate differ where it stands now
and where it stood, and no colour tells that neither is the subject. But what the plate shows at the
one place, the clean plate shows at the other, and both places together are all that differs there.
A part of the matte, or a pair of parts, that is explained by one shift in this way is emptied, and
the reply says `set_moved`: what stands there now belongs to the set, but may be wanted.

Rule: the largest part of the matte, and one of more than half its size, is never emptied. Where the
subject covers or touches one of the places, nothing is found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import permutations
from typing import TYPE_CHECKING, Callable, Optional

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.models.difference.card import specks_of
from mattebridge.models.difference.evidence import blurred, disc
from mattebridge.models.difference.full_size import cut, enlarged_mask, small_arrays
from mattebridge.models.difference.islands import LEAST_ALPHA
from mattebridge.models.difference.mixture import BRIGHTEST
from mattebridge.models.pytorch.frames import Frame, given_back, tensor_of

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask, ModelInput, ModelOutput

Shift = tuple[int, int]
Index = NDArray[np.int64]

# The label of `degraded`.
SET_MOVED = "set_moved"
# Parts have at least so many specks and pixels at working size, fewer of which may agree by chance;
# at most this share of the largest one; and are the largest few.
LEAST_SPECKS, LEAST_AREA, LARGEST_SHARE, MOST_PARTS = 2.0, 100, 0.5, 8
# The pixels of both pictures are the same when they differ by less than the first number, or this
# share of what plate and clean plate differ by in place. Both are blurred by so much before.
SAME, SAME_SHARE, BLUR_PX = 0.05, 0.35, 0.8
# A smaller shift is misalignment, at working size.
LEAST_SHIFT_PX = 3.0
# The side of a part, in steps, when shifts are tried first; the pixels compared; the shifts tried
# again, in steps so many times finer.
COARSE_SIDE, SAMPLE, TRIED_AGAIN, FINER = 12, 200, 3, 4
# How much of a part must be explained: a single one by both places, and by the new one alone; each
# of a pair. The rest is its outline.
BOTH_SHARE, NEW_SHARE, PAIR_SHARE, EDGE_PX = 0.85, 0.4, 0.75, 2
# Two parts of such different size are not the places of one thing.
PAIR_SIZES = 1.6
# What is emptied around a part: its faint edge.
AROUND_PX = 4
# An alpha hint from here on shows a subject.
HINTED = 0.5


@torch.inference_mode()
def without_moved(
    made: ModelOutput,
    given: ModelInput,
    small: Optional[Callable[[], tuple[FloatImage, FloatImage]]] = None,
    matte: Optional[FloatImage] = None,
) -> ModelOutput:
    """A model's result of a frame without moved things, and with the label if there are any; the
    same images if there are none.

    The setting `specks` of the frame counts. What an alpha hint shows as subject stays. small,
    matte: see `moved_of`.
    """
    frame = Frame.of(given)
    alpha = tensor_of(made.alpha, frame.plate.device)
    specks = specks_of(given.settings)
    moved = moved_of(alpha, frame.plate, frame.clean_plate, specks, small, matte)
    if moved is None:
        return made
    if frame.hint is not None:
        moved &= frame.hint < HINTED
        if not moved.any():
            return made
    (emptied,) = given_back(made.alpha, alpha.masked_fill(moved, 0))
    return replace(made, alpha=emptied, degraded=(*made.degraded, SET_MOVED))


def moved_of(
    alpha: Tensor,
    plate: Tensor,
    clean_plate: Tensor,
    speck_share: float,
    small: Optional[Callable[[], tuple[FloatImage, FloatImage]]] = None,
    matte: Optional[FloatImage] = None,
) -> Optional[Tensor]:
    """Where a matte (H, W) shows moved things of the set, or None where it shows none.

    plate, clean_plate: (H, W, 3) display-encoded. speck_share: the area of a speck as a share of
    the frame. small: gives both pictures at working size, cut at `BRIGHTEST`, where they are known.
    matte: alpha in that size, if it is there already.
    """
    if matte is None:
        (matte,) = small_arrays(alpha)
    parts = list(_parts(matte, speck_share))
    if not parts:
        return None
    if small is None:
        seen, empty = small_arrays(*(cut(picture, BRIGHTEST) for picture in (plate, clean_plate)))
    else:
        seen, empty = small()
    pair = _Pair(seen, empty)
    found = [one.mask for one in parts if _is_both_places(one, pair)]
    for one, other in permutations(parts, 2):
        alike = max(one.area, other.area) < PAIR_SIZES * min(one.area, other.area)
        if alike and _is_new_place(one, other, pair):
            found += [one.mask, other.mask]
    if not found:
        return None
    side = 2 * AROUND_PX + 1
    mask = cv2.dilate(np.any(found, axis=0).astype(np.uint8), np.ones((side, side), np.uint8))
    return enlarged_mask(mask > 0, alpha)


@dataclass(frozen=True)
class _Part:
    """A part of the matte at working size: mask (h, w), its area, and its box, ends left out."""

    mask: Mask
    area: int
    top: int
    left: int
    bottom: int
    right: int

    @property
    def side(self) -> int:
        return max(self.bottom - self.top, self.right - self.left)

    @cached_property
    def inside(self) -> Mask:
        """The mask of its box alone."""
        return self.mask[self.top : self.bottom, self.left : self.right]

    @cached_property
    def places(self) -> tuple[Index, Index]:
        """Rows and columns of its pixels, in its box."""
        rows, columns = np.nonzero(self.inside)
        return rows, columns


class _Pair:
    """Plate and clean plate at working size, blurred in the box of a part, each once."""

    def __init__(self, seen: FloatImage, empty: FloatImage) -> None:
        self._pictures = seen, empty
        self._blurred: dict[tuple[int, float], list[FloatImage]] = {}

    def at(self, part: _Part, sigma: float = 0.0) -> list[FloatImage]:
        """Both in the box of the part, blurred by `BLUR_PX`, and that by `sigma`."""
        key = id(part.mask), sigma
        if key not in self._blurred:
            self._blurred[key] = [_in_box(image, part, sigma) for image in self._pictures]
        return self._blurred[key]


def _in_box(picture: FloatImage, part: _Part, sigma: float) -> FloatImage:
    """The box of a blurred picture: only what has influence on it is blurred."""
    reach = _reach(BLUR_PX) + _reach(sigma)
    top, left = max(part.top - reach, 0), max(part.left - reach, 0)
    image = blurred(picture[top : part.bottom + reach, left : part.right + reach], BLUR_PX)
    if sigma:
        image = blurred(image, sigma)
    return image[part.top - top : part.bottom - top, part.left - left : part.right - left]


def _reach(sigma: float) -> int:
    """From how far away a blur brings something; OpenCV's windows of floats are as large."""
    return math.ceil(4 * sigma) + 1


def _parts(small: FloatImage, speck_share: float) -> Iterator[_Part]:
    """The parts that may be something moved, the largest few."""
    over = (small > LEAST_ALPHA).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(over, connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    order = sorted(range(1, count), key=lambda index: -int(areas[index]))
    least = max(LEAST_SPECKS * speck_share * small.size, LEAST_AREA)
    for index in order[1 : MOST_PARTS + 1]:
        if least < areas[index] < LARGEST_SHARE * areas[order[0]]:
            left, top, width, height = (int(value) for value in stats[index, :4])
            yield _Part(labels == index, int(areas[index]), top, left, top + height, left + width)


def _is_both_places(part: _Part, pair: _Pair) -> bool:
    """Whether a part is something at its new place and its old one, which overlap or touch."""
    shift = _best_shift(part, part, pair, (0, 0), part.side)
    if shift is None:
        return False
    new, old = _explained(part, part, pair, shift)
    shares = (new & part.inside).sum() / part.area, ((new | old) & part.inside).sum() / part.area
    return bool(shares[0] > NEW_SHARE and shares[1] > BOTH_SHARE)


def _is_new_place(one: _Part, other: _Part, pair: _Pair) -> bool:
    """Whether the plate shows at `one` what the clean plate shows at `other`."""
    middle = one.top - other.top, one.left - other.left
    shift = _best_shift(one, other, pair, middle, max(4, one.side // 4))
    if shift is None:
        return False
    new, old = _explained(one, other, pair, shift)
    shares = (new & one.inside).sum() / one.area, (old & other.inside).sum() / other.area
    return bool(min(shares) > PAIR_SHARE)


def _best_shift(new: _Part, old: _Part, pair: _Pair, middle: Shift, reach: int) -> Optional[Shift]:
    """The shift from the old place to the new one that explains most of a sample of `new`."""
    step = max(1, -(-new.side // COARSE_SIDE))
    rows, columns = new.places
    every = max(1, len(rows) // SAMPLE)
    sample = rows[::every], columns[::every]
    tried = _tried(middle, reach, step)
    while step > 1:
        # In steps first, on pictures that hardly vary from one step to the next.
        counts = _same(sample, new, old, pair, 0.5 * step, tried).sum(axis=1)
        best = tried[np.argsort(-counts, kind="stable")[:TRIED_AGAIN]]
        finer = max(1, step // FINER)
        tried = np.concatenate([_tried((int(y), int(x)), step, finer) for y, x in best])
        step = finer
    counts = _same(sample, new, old, pair, 0.0, tried).sum(axis=1)
    if not counts.any():
        return None
    down, right = tried[int(np.argmax(counts))]
    return int(down), int(right)


def _tried(middle: Shift, reach: int, step: int) -> Index:
    """The shifts (N, 2) in steps around one, those of misalignment left out."""
    steps = np.arange(-reach, reach + 1, step)
    down, right = np.meshgrid(middle[0] + steps, middle[1] + steps, indexing="ij")
    shifts = np.stack([down.ravel(), right.ravel()], axis=1)
    return shifts[np.square(shifts).sum(axis=1) >= LEAST_SHIFT_PX**2]


def _same(
    places: tuple[Index, Index], new: _Part, old: _Part, pair: _Pair, sigma: float, shifts: Index
) -> Mask:
    """Which pixels of the plate in `new` are those of the clean plate in `old`, by shifts (S, 2):
    (S, N).

    places: rows and columns of the N pixels in the box of `new`. sigma: see `_Pair.at`.
    """
    found = np.zeros((len(shifts), len(places[0])), bool)
    seen, empty = (picture[places] for picture in pair.at(new, sigma))
    in_place = _squared(seen - empty)
    # What does not differ in place is nothing new there, and is not looked for.
    differ = np.flatnonzero(in_place > SAME**2)
    rows, columns = (at[differ] for at in places)
    # Where they would have been, in the box of the old place, which is laid into what is looked at.
    rows, columns = rows + (new.top - old.top), columns + (new.left - old.left)
    down, right = shifts[:, :1], shifts[:, 1:]
    if not differ.size or not len(shifts):
        return found
    first = int(rows.min() - down.max()), int(columns.min() - right.max())
    last = int(rows.max() - down.min()), int(columns.max() - right.min())
    looked_at = _cut_out(old.inside, first, last)
    width = looked_at.shape[1]
    at = ((rows - first[0]) * width + columns - first[1])[None] - (down * width + right)
    by_shift, pixel = np.nonzero(looked_at.take(at))
    where = rows[pixel] - down[by_shift, 0], columns[pixel] - right[by_shift, 0]
    pixel = differ[pixel]
    apart = _squared(seen[pixel] - pair.at(old, sigma)[1][where])
    alike = apart < np.maximum(SAME**2, SAME_SHARE**2 * in_place[pixel])
    found[by_shift, pixel] = alike
    return found


def _cut_out(mask: Mask, first: Shift, last: Shift) -> Mask:
    """The mask from one place to another, both included; what is outside of it is empty."""
    (top, left), (bottom, right) = first, last
    cut = np.zeros((bottom - top + 1, right - left + 1), bool)
    kept = mask[max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)]
    rows, columns = max(-top, 0), max(-left, 0)
    cut[rows : rows + kept.shape[0], columns : columns + kept.shape[1]] = kept
    return cut


def _squared(difference: FloatImage) -> FloatImage:
    return np.asarray(np.einsum("...c,...c->...", difference, difference))


def _explained(new: _Part, old: _Part, pair: _Pair, shift: Shift) -> tuple[Mask, Mask]:
    """The pixels of the new place that are the same, and where they are at the old place, each in
    its box; their outlines, which are mixed with what is behind them, included."""
    same = _same(new.places, new, old, pair, 0.0, np.array([shift]))[0]
    rows, columns = (at[same] for at in new.places)
    at_new, at_old = (np.zeros(part.inside.shape, np.uint8) for part in (new, old))
    at_new[rows, columns] = 1
    at_old[rows + new.top - old.top - shift[0], columns + new.left - old.left - shift[1]] = 1
    at_new, at_old = (cv2.dilate(mask, disc(EDGE_PX)) for mask in (at_new, at_old))
    return at_new > 0, at_old > 0
