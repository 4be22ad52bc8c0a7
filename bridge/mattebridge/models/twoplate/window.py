"""The part of a large frame that shows the subject, matted by itself: at a finer working size.

    what differs, at working size --> its box --fits a window?--yes--> the model, in the window
                                                         `------no---> the model, everywhere
    matte of the window --> the frame: alpha 0 around it

Keyer and coarse net see a frame at a bounded size. Where a subject is small in a large frame, most
of those pixels are spent on a set before which nothing stands, and hair is coarse. In a window of
about as many pixels the subject is seen at its own size, or at half of it or a little more, for
about the same cost. Ten real composites, MAD / soft e-3: in HD frames 1.51/96 -> 1.13/81, in UHD
frames 0.46/109 -> 0.29/82, in HD frames with the clean plate of a moved or breathing camera
1.77/104 -> 1.28/88.

Windows are square, tall or wide, of one size each, so that a GPU keeps what it recorded. Where the
box grows until it hardly fits, the mattes of the window and of what is next larger are mixed, so
that a shot passes from one to the other little by little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import cv2
import numpy as np
import torch
from torch import Tensor

from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.card import DIFFERENCE, specks_of
from mattebridge.models.difference.evidence import (
    SET_NOISES,
    SURE_SET,
    blurred,
    disc,
    length,
    quiet_level,
)
from mattebridge.models.difference.islands import islands_of
from mattebridge.models.difference.small import Small
from mattebridge.models.difference.working_size import WORK_SIDE, size_of
from mattebridge.models.later import Later

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

# The long side of a frame, in working sizes, from which on it has windows: in smaller ones little
# would change.
LEAST_TIMES = 1.5
# The pixels of a window, which are computed at their own size, over those that the frame has at
# working size: at most so many, as what is computed of the whole frame is saved; its sides are
# multiples of the second.
PIXELS, SIDE_PX = 1.15, 32
# In pixels of a window: what it holds around the box at least, and how much more where it counts in
# full. Windows begin at multiples of the third, so that there may be half of it less on one side.
MARGIN_PX, MORE_PX, GRID_PX = 32, 32, 32
# Plate and clean plate are compared after this blur, at working size; how far it reaches.
BLUR_PX, BLURRED_PX = 1.2, 4
# A subject that goes on beyond the clean plate is so many times as far from where it ended as the
# clean plate is at most: it leans by half a right angle.
LEANING = 1.4
# An alpha hint from here on shows a subject.
HINTED = 0.1
# Before a screen the pixels of a window are so many times larger than the frame's, at least. The
# keyer for screens finds the subject's inside by its size: at their own size wide soft edges, of
# hair and of motion, become solid.
OF_SCREEN = 2
# The largest value of the setting.
MOST_SPECKS = DIFFERENCE.settings_schema["specks"].maximum or 1.0
_IMAGES = ("plate", "clean_plate", "alpha_hint", "outside")


class Box(NamedTuple):
    """A rectangle of a frame in its pixels; ends are left out."""

    top: float
    left: float
    bottom: float
    right: float


@dataclass(frozen=True)
class Window:
    """A part of a frame, and how much of its matte counts, above 0 and up to 1."""

    rows: slice
    columns: slice
    share: float

    def cut(self, given: ModelInput) -> ModelInput:
        """The frame without what lies around, in memory of its own; specks have their area in
        pixels, and a hint reaches as far."""
        images = {name: getattr(given, name) for name in _IMAGES}
        parts = {name: self._of(image) for name, image in images.items() if image is not None}
        height, width = given.plate.shape[:2]
        rows, columns = parts["plate"].shape[:2]
        specks = specks_of(given.settings) * (height * width) / (rows * columns)
        settings = {**given.settings, "specks": min(specks, MOST_SPECKS)}
        kept: dict[str, Any] = {"small": None, "unfitted": None, "of_clean_plate": None}
        part_of = max(height, width) / max(rows, columns)
        return replace(given, settings=settings, part_of=part_of, **kept, **parts)

    def _of(self, image: Any) -> Any:
        part = image[self.rows, self.columns]
        return part.contiguous() if isinstance(part, Tensor) else np.ascontiguousarray(part)

    def put(self, made: ModelOutput, shape: tuple[int, ...]) -> ModelOutput:
        """The matte of this part as that of the frame, (H, W, ...): around it alpha is 0, and the
        foreground has the colours of the window's border."""
        height, width = shape[:2]
        rows, columns = self.rows, self.columns
        part, own = torch.as_tensor(made.alpha), torch.as_tensor(made.foreground)
        alpha = part.new_zeros(height, width)
        alpha[rows, columns] = part
        colour = own.new_empty(height, width, 3)
        colour[rows, columns] = own
        colour[rows, : columns.start] = own[:, :1]
        colour[rows, columns.stop :] = own[:, -1:]
        colour[: rows.start] = colour[rows.start]
        colour[rows.stop :] = colour[rows.stop - 1]
        placed, later = self._noted(_with(made, alpha, colour)), made.later
        if later is None:
            return placed

        def settled(arrays: Sequence[FloatImage]) -> ModelOutput:
            known = later.settle(arrays)
            if known.alpha is not made.alpha or known.foreground is not made.foreground:
                return self.put(known, shape)
            images = placed.alpha, placed.foreground
            return self._noted(replace(known, alpha=images[0], foreground=images[1]))

        return replace(placed, later=Later(later.looked_at, settled))

    def _noted(self, made: ModelOutput) -> ModelOutput:
        """What is known of a matte that was placed: where, and that alpha is 0 around it."""
        ranges, rows, columns = made.ranges, self.rows, self.columns
        if ranges is not None and "alpha" in ranges:
            low, high = ranges["alpha"]
            ranges = {**ranges, "alpha": (min(low, 0.0), high)}
        place = [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
        return replace(made, notes={**made.notes, "window": place}, ranges=ranges)


def mixed(one: ModelOutput, other: ModelOutput, share: float) -> ModelOutput:
    """Two mattes of a frame, so much of the first; the notes are those of the first, with how much
    of it there is."""
    first, second = torch.as_tensor(one.alpha), torch.as_tensor(other.alpha)
    own = share * first
    alpha = own + (1 - share) * second
    # Mixed as they lie over a set: colours count as their alpha does.
    weight = (own / alpha.clamp_min(1e-6)).masked_fill_(alpha <= 0, share)
    colour = torch.lerp(
        torch.as_tensor(other.foreground), torch.as_tensor(one.foreground), weight[..., None]
    )
    degraded = tuple(dict.fromkeys((*one.degraded, *other.degraded)))
    notes = {**one.notes, "window_share": round(share, 3)}
    return _with(one, alpha, colour, degraded=degraded, notes=notes, ranges=None)


def _with(made: ModelOutput, alpha: Tensor, foreground: Tensor, **other: Any) -> ModelOutput:
    """A result with other images, tensors or arrays as before."""
    images: Any = (alpha, foreground)
    if not isinstance(made.alpha, Tensor):
        images = alpha.numpy(), foreground.numpy()
    return replace(made, alpha=images[0], foreground=images[1], **other)


def has_windows(shape: tuple[int, ...], times: int = 1) -> bool:
    """Whether a frame of this shape may have windows with pixels so many times larger than its."""
    return max(shape[:2]) >= LEAST_TIMES * times * WORK_SIDE


def windows_of(
    shape: tuple[int, ...], small: Small, speck_share: float, times: int = 1
) -> list[Window]:
    """The windows of a frame whose mattes are mixed, each with what follows: the next one, and the
    last one with the frame's matte, unless its share is 1. Empty: the frame's alone.

    shape: of the frame. small: its pictures. speck_share: the area of a speck as a share of the
    frame; islands (`difference/islands.py`) may lie outside of the windows. times: how many times
    larger the pixels of the first one are.
    """
    if not has_windows(shape, times):
        return []
    box = _changed(small, speck_share)
    if box is None:
        return []
    scale = max(shape[:2]) / max(small.plate.shape[:2])
    box = Box(*(scale * end for end in box))
    found = []
    while has_windows(shape, times):
        window = _around(box, times, shape)
        if window.share > 0:
            found.append(window)
        if window.share >= 1:
            break
        times *= 2
    return found


def _around(box: Box, times: int, shape: tuple[int, ...]) -> Window:
    """The window of this frame that holds a box best, with pixels so many times larger than the
    frame's; its share may be 0."""
    margins = MARGIN_PX * times, (MARGIN_PX + MORE_PX) * times
    found = []
    for size in _sizes(shape):
        height, width = (min(side * times, span) for side, span in zip(size, shape))
        rows, of_rows = _placed(box.top, box.bottom, height, shape[0], margins)
        columns, of_columns = _placed(box.left, box.right, width, shape[1], margins)
        found.append(Window(rows, columns, min(of_rows, of_columns)))
    return max(found, key=lambda window: window.share)


def _sizes(shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Height and width of the windows of a frame, in their own pixels: square, tall, wide."""
    height, width = size_of(shape)
    most = PIXELS * height * width
    # Of a square frame longer ones would hold as many pixels, which are not computed as they are.
    sides = (min(side, WORK_SIDE) for side in (math.sqrt(most), most / WORK_SIDE))
    square, short = (int(side) // SIDE_PX * SIDE_PX for side in sides)
    return (square, square), (WORK_SIDE, short), (short, WORK_SIDE)


def _placed(
    first: float, last: float, side: int, span: int, margins: tuple[int, int]
) -> tuple[slice, float]:
    """Where a window of that side lies along one axis of a frame, and how well it holds the box
    from `first` to `last`, 0..1."""
    # What lies beyond the frame's edge needs no margin.
    least, whole = (min(last + margin, span) - max(first - margin, 0) for margin in margins)
    share = float(side >= whole)
    if least < side < whole:
        share = (side - least) / (whole - least)
    start = round((first + last - side) / 2 / GRID_PX) * GRID_PX
    start = max(0, min(start, span - side))
    return slice(start, start + side), share


def _changed(small: Small, speck_share: float) -> Optional[Box]:
    """The box of all that differs from the clean plate or is hinted at, at working size, with what
    may belong to it beyond the clean plate; None where nothing does."""
    apart = blurred(small.plate - small.clean_plate, BLUR_PX)
    distance, compared = length(apart), None
    if small.outside is not None:
        # Beside it the blur has mixed in what lies there.
        compared = cv2.dilate(small.outside.astype(np.uint8), disc(BLURRED_PX)) == 0
        distance[~compared] = 0
    noise = quiet_level(distance if compared is None else distance[compared]) + 0.001
    seen = distance > max(SURE_SET, SET_NOISES * noise)
    _, _, stats, _ = cv2.connectedComponentsWithStats(seen.astype(np.uint8), connectivity=8)
    if (stats[1:, cv2.CC_STAT_AREA] >= max(speck_share * seen.size, 1)).any():
        _empty_islands(seen, small, speck_share)
        if small.outside is not None:
            seen |= _continued(seen, small.outside)
    else:
        seen[:] = False
    if small.hint is not None:
        seen |= small.hint > HINTED
    left, top, width, height = cv2.boundingRect(seen.astype(np.uint8))
    return Box(top, left, top + height, left + width) if width else None


def _continued(seen: Mask, outside: Mask) -> Mask:
    """Where a mask may go on beyond the clean plate, beside which it ends: the keyer lets a subject
    go on there, up to its edges."""
    beyond, reach = outside.astype(np.uint8), BLURRED_PX + 2
    ends = seen & (cv2.dilate(beyond, disc(reach)) > 0)
    if not ends.any():
        return ends
    away = cv2.distanceTransform((~ends).astype(np.uint8), cv2.DIST_L2, 5)
    depth = cv2.distanceTransform(beyond, cv2.DIST_L2, 5)
    return outside & (away <= LEANING * depth + reach)


def _empty_islands(seen: Mask, small: Small, speck_share: float) -> None:
    """Take from a mask, in place, what is an island of its matte: parts of a set that flickers or
    is seen from elsewhere, which are not there in every frame."""
    matte = seen.astype(np.float32)
    own, plate, clean_plate = map(torch.from_numpy, (matte, small.plate, small.clean_plate))
    islands = islands_of(own, plate, clean_plate, speck_share, matte)
    if islands is not None:
        seen &= ~islands.numpy()
