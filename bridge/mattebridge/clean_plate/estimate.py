"""A clean plate from the shot itself, where none was filmed: all that moves is taken away.

    frames --register--> all aligned with one of them (the reference), in its exposure
      band of rows by band of rows:
        samples of a pixel over time --settle--> the median of the largest group of alike ones,
                                                 and its lead over the next group: confidence

The set looks the same in every frame, the subject that walks through it does not. So the set is the
largest group of alike samples, even where the subject covers a pixel for more than half of the
time, which a plain median would not survive. The median of that group is the set, with less grain
than any one frame.

The rule that must not be broken: a pixel that was not seen is never passed off as one that was.
Where no group stands out, the subject never left, or something else moves all the time; where such
pixels enclose calm ones (the inside of a coat), these are the subject too. Both have confidence 0
and count as hidden. A subject that does not move at all cannot be found: it looks like furniture.

Arrays in, arrays out; frames come from a function, so that only one frame and a band of all of them
are in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

import cv2
import numpy as np

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.clean_plate.register import AlignedShot, Reader, SubjectReader
from mattebridge.clean_plate.settle import settle_band
from mattebridge.color import FloatImage, Mask
from mattebridge.errors import InputsError

# Fewer frames cannot show what stays.
FEWEST_FRAMES = 5
# Samples count as alike within this much (display-encoded) and so many sigmas of the grain.
ALIKE = 0.01
ALIKE_SIGMAS = 3.0
# Less confidence than this means that the set was not seen.
HIDDEN_BELOW = 0.1
# Restless regions have less than this. They are looked for at this long side, after gaps of this
# share of it are closed; one that is calm inside, or hidden, by this share of its area counts as
# never left.
SHORE_BELOW = 0.75
REGION_SIDE = 480
REGION_BLUR_PX = 1.0
SHORE_GAP = 0.02
NEVER_LEFT_SHARE = 0.33
# Smaller regions than this share of the frame are grain.
SMALLEST_REGION = 0.005
BYTES_PER_SAMPLE = 12


@dataclass(frozen=True)
class CleanPlate:
    """What the shot shows of its set.

    pixels: (H, W, 3) float32, scene-linear RGB, top-down, aligned with frame `reference`.
    confidence: (H, W) float32, 1 where the set is certain, 0 where it is a guess. hidden_share: the
    share of the frame where the set was not seen. used, left_out: indices of the frames it is made
    of, and of those that could not be aligned with the reference.
    """

    pixels: FloatImage
    confidence: FloatImage
    hidden_share: float
    reference: int
    used: tuple[int, ...]
    left_out: tuple[int, ...]

    @property
    def hidden(self) -> Mask:
        """(H, W), True where the set was not seen."""
        return self.confidence < HIDDEN_BELOW


def make_clean_plate(
    read: Reader,
    count: int,
    *,
    reference: Optional[int] = None,
    subject: Optional[SubjectReader] = None,
    align: bool = True,
    memory_bytes: int = 1 << 30,
    checkpoint: Checkpoint = no_checkpoint,
) -> CleanPlate:
    """The set behind whatever moves in `count` frames of one size.

    reference: the frame to align with, by default the middle one. subject: where the subject is
    known to be; these pixels are left out. align: False for a camera that is known to stand still.
    memory_bytes: for the samples of a band; a frame is read once for each band. Values that are not
    numbers are left out.

    Raises `InputsError` for fewer than five frames, for frames of different sizes, and where too
    few can be aligned.
    """
    if count < FEWEST_FRAMES:
        raise InputsError(
            f"a clean plate needs at least {FEWEST_FRAMES} frames of the shot; got {count}",
            field="plate",
        )
    reference = count // 2 if reference is None else reference
    shot = AlignedShot(read, count, reference, subject)
    places, grain = shot.register(align, checkpoint)
    left_out = tuple(sorted(set(range(count)) - {place.index for place in places}))
    if len(places) < FEWEST_FRAMES:
        raise InputsError(
            f"only {len(places)} of {count} frames show what the reference frame shows: the camera "
            "moves too far - take a shorter range of frames, or another reference",
            field="plate",
        )
    tolerance = ALIKE + ALIKE_SIGMAS * grain
    pixels = np.empty(shot.shape, np.float32)
    confidence = np.empty(shot.shape[:2], np.float32)
    for rows in _bands(shot.shape, len(places), memory_bytes):
        samples = shot.samples(places, rows, checkpoint)
        settle_band(samples, tolerance, pixels[rows], confidence[rows])
    confidence[_never_left(confidence)] = 0
    return CleanPlate(
        pixels=pixels,
        confidence=confidence,
        hidden_share=float((confidence < HIDDEN_BELOW).mean()),
        reference=reference,
        used=tuple(place.index for place in places),
        left_out=left_out,
    )


def _bands(shape: Sequence[int], count: int, memory_bytes: int) -> Iterator[slice]:
    """Bands of rows whose samples fit into the memory, all of about one height."""
    height, width = shape[:2]
    most = max(1, memory_bytes // (count * width * BYTES_PER_SAMPLE))
    bands = -(-height // most)
    edges = [height * number // bands for number in range(bands + 1)]
    for top, bottom in zip(edges, edges[1:]):
        yield slice(top, bottom)


def _never_left(confidence: FloatImage) -> Mask:
    """Restless regions that the subject never leaves altogether, with all that they enclose.

    Calm spots and islands inside a restless shore, or between it and one side of the frame, are the
    inside of something that moves on the spot. Where they and hidden pixels are a good part of a
    region, the rest of it is not known either: at its edge set and subject alternate.
    """
    height, width = confidence.shape
    scale = min(1.0, REGION_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(confidence, size, interpolation=cv2.INTER_AREA)
    restless = cv2.GaussianBlur(small, (0, 0), REGION_BLUR_PX) < SHORE_BELOW
    if not restless.any():
        return np.zeros(confidence.shape, np.bool_)
    shore = _closed(restless, max(1, round(SHORE_GAP * max(size) / 2)))
    region = shore | _islands(shore)
    unknown = region & ((small >= SHORE_BELOW) | (small < HIDDEN_BELOW))
    count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    area = np.bincount(labels.ravel(), minlength=count)
    part = np.bincount(labels.ravel(), weights=unknown.ravel(), minlength=count)
    found = (part >= NEVER_LEFT_SHARE * area) & (area >= SMALLEST_REGION * labels.size)
    never = np.isin(labels, 1 + np.flatnonzero(found[1:]))
    full = cv2.resize(never.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    return np.asarray(full > 0)


def _closed(mask: Mask, radius: int) -> Mask:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc) > 0)


def _islands(shore: Mask) -> Mask:
    """What the shore encloses and touches at most one side of the frame."""
    count, labels = cv2.connectedComponents((~shore).astype(np.uint8), connectivity=4)
    sides = [set(side.tolist()) for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    enclosed = [n for n in range(1, count) if sum(n in side for side in sides) <= 1]
    return np.isin(labels, enclosed)
