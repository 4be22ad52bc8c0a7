"""A clean plate from the shot itself, where nobody shot one: what stays when what moves is gone.

    frames --match_clean_plate--> all in register and exposure with one of them (the reference)
      band of rows by band of rows:
        samples of a pixel over time --> the largest group of alike ones --> their median
                                                   `--> how large, against the next one: confidence

The set looks the same in every frame, the subject that walks through it does not. So the set is the
largest group of alike samples, even where the subject covers a pixel for more than half of the
time, which a plain median would not survive. The median of that group is the set, with less grain
than any one frame.

The rule that must not be broken: no pixel is claimed on trust. Where no group stands out, the
subject never left, or something else moves all the time; where such pixels enclose calm ones (the
inside of a coat), these are the subject too. Both have confidence 0 and count as hidden. What this
cannot see is a subject that does not move at all: it looks like furniture.

Arrays in, arrays out; frames come from a function, so that none but one and a band of all are ever
in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Callable, Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.clean_plate.match import UNALIGNED, CleanPlateMatch, match_clean_plate
from mattebridge.color import FloatImage, srgb_decode, srgb_encode
from mattebridge.errors import InputsError

Mask = NDArray[np.bool_]
# (H, W, 3) scene-linear RGB of the frame at an index; a new array each time.
Reader = Callable[[int], FloatImage]
# (H, W) 0..1, where the subject is known to be in that frame.
SubjectReader = Callable[[int], FloatImage]

# Fewer frames cannot show what stays.
FEWEST_FRAMES = 5
# Samples count as alike within this much (display-encoded) and so many sigmas of the grain.
ALIKE = 0.01
ALIKE_SIGMAS = 3.0
# Beside an edge they may differ by so much of a pixel's step to its neighbours: nothing is in
# register to less than that.
ALIKE_SHIFT_PX = 0.5
# Grain is estimated on a grid of so many points a side.
NOISE_GRID = 64
# The lead over the next group, as a share of the frames, from which a pixel is sure.
SURE_LEAD = 0.5
# So many frames must agree for any confidence, and so many for full; and such a share of them.
FEWEST_ALIKE, ENOUGH_ALIKE = 3, 5
FEWEST_SHARE, ENOUGH_SHARE = 0.15, 0.35
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
# Pixels settled at once: their samples and temporaries stay in the cache.
SETTLE_PIXELS = 2048
BYTES_PER_SAMPLE = 12

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class CleanPlate:
    """What the shot shows of its set.

    pixels: (H, W, 3) float32, scene-linear RGB, top-down, in register with frame `reference`.
    confidence: (H, W) float32, 1 where the set is sure, 0 where it is a guess. hidden_share: of the
    frame, where the set was not seen. used, left_out: indices of the frames it is made of, and of
    those that could not be aligned to the reference.
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

    reference: the frame to be in register with, by default the middle one. subject: where the
    subject is known to be; these pixels take no part. align: False for a camera that is known to
    stand still. memory_bytes: for the samples of a band; a frame is read once for each band. Values
    that are no numbers take no part.

    Raises `InputsError` for fewer than five frames, for frames of different sizes, and where too
    few can be aligned.
    """
    if count < FEWEST_FRAMES:
        raise InputsError(
            f"a clean plate needs at least {FEWEST_FRAMES} frames of the shot; got {count}",
            field="plate",
        )
    reference = count // 2 if reference is None else reference
    shot = _Shot(read, count, reference, subject)
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
        _settle_band(samples, tolerance, pixels[rows], confidence[rows])
    confidence[_never_left(confidence)] = 0
    return CleanPlate(
        pixels=pixels,
        confidence=confidence,
        hidden_share=float((confidence < HIDDEN_BELOW).mean()),
        reference=reference,
        used=tuple(place.index for place in places),
        left_out=left_out,
    )


# --- the frames, in register ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """How a frame lies on the reference: homography (frame to reference), gain and offset."""

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
        if self.homography is None:
            return matte[rows]
        return np.nan_to_num(_warped(matte, self.homography, rows))


def _warped(image: FloatImage, matrix: NDArray[np.float64], rows: slice) -> FloatImage:
    """Rows of a moved image; NaN where it has no pixel, or none that is a number, to look at."""
    size = (image.shape[1], rows.stop - rows.start)
    up = np.array([[1, 0, 0], [0, 1, -rows.start], [0, 0, 1]], np.float64) @ matrix
    numbers = np.isfinite(image if image.ndim == 2 else image.sum(axis=2)).astype(np.float32)
    if not numbers.all():
        numbers = cv2.erode(numbers, np.ones((3, 3), np.uint8))
        image = np.nan_to_num(image)
    moved = cv2.warpPerspective(
        image, up, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    # Cubic keeps edges sharp, and swings below what there is beside bright ones.
    np.maximum(moved, image.min(), out=moved)
    moved[cv2.warpPerspective(numbers, up, size, flags=cv2.INTER_LINEAR) < 0.999] = np.nan
    return np.asarray(moved, np.float32)


class _Shot:
    """The frames of a shot, read when they are needed."""

    def __init__(
        self, read: Reader, count: int, reference: int, subject: Optional[SubjectReader]
    ) -> None:
        self._read, self._count, self._subject = read, count, subject
        self._reference = reference
        self._light = _finite_or_nan(read(reference))
        self.shape = self._light.shape

    def register(self, align: bool, checkpoint: Checkpoint) -> tuple[list[_Place], float]:
        """The frames that lie on the reference, and the sigma of their grain."""
        places, points = [], []
        target = _display(self._light)
        for index in range(self._count):
            checkpoint("align", index, self._count)
            light = self._light if index == self._reference else self._frame(index)
            place = self._place(target, light, index) if align else _Place(index)
            if place is not None:
                places.append(place)
                points.append(_points(place.lay(light, slice(0, len(light)))))
        self._light = np.empty(0, np.float32)
        return places, _grain(np.stack(points)) if points else 0.0

    def samples(self, places: Sequence[_Place], rows: slice, checkpoint: Checkpoint) -> FloatImage:
        """(N, rows, W, 3) display-encoded; NaN where a frame has nothing to say."""
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
                f"the frames of a shot are of one size; got {sizes[0]} and {sizes[1]}",
                field="plate",
            )
        return light

    def _place(self, target: FloatImage, light: FloatImage, index: int) -> Optional[_Place]:
        """How the frame lies on the reference; None where that could not be found out."""
        if index == self._reference:
            return _Place(index)
        subject = None if self._subject is None else self._subject(index)
        match = match_clean_plate(
            target, _display(light), alignment="auto", match_exposure=True, subject=subject
        )
        if not _is_in_register(match):
            return None
        return _Place(index, match.homography, match.gain, match.offset)


def _is_in_register(match: CleanPlateMatch) -> bool:
    return UNALIGNED not in match.degraded


def _finite_or_nan(light: FloatImage) -> FloatImage:
    if np.isfinite(light).all():
        return light
    broken = ~np.isfinite(light).all(axis=2)
    light = light.copy()
    light[broken] = np.nan
    return light


def _display(light: FloatImage) -> FloatImage:
    """What alignment compares: encoded, finite, not below 0."""
    return np.maximum(srgb_encode(np.nan_to_num(light)), np.float32(0))


def _points(encoded: FloatImage) -> FloatImage:
    height, width = encoded.shape[:2]
    y = np.linspace(0, height - 1, min(height, NOISE_GRID)).astype(int)
    x = np.linspace(0, width - 1, min(width, NOISE_GRID)).astype(int)
    return encoded[np.ix_(y, x)]


def _grain(points: FloatImage) -> float:
    """Sigma over time, as most of the frame has it: the median over pixels of the median over time.

    points: (N, h, w, 3). What moves is in the minority in most pixels, or most pixels lack it.
    """
    seen = np.isfinite(points).all(axis=(0, 3))
    if not seen.any():
        return 0.0
    values = points[:, seen]
    away = np.abs(values - np.median(values, axis=0))
    return float(np.median(np.median(away, axis=0)) * 1.4826)


def _bands(shape: Sequence[int], count: int, memory_bytes: int) -> Iterator[slice]:
    """Rows whose samples fit into the memory; equal bands, so that the last is not a sliver."""
    height, width = shape[:2]
    most = max(1, memory_bytes // (count * width * BYTES_PER_SAMPLE))
    bands = -(-height // most)
    edges = [height * number // bands for number in range(bands + 1)]
    for top, bottom in zip(edges, edges[1:]):
        yield slice(top, bottom)


# --- one pixel over time --------------------------------------------------------------------------


def _settle_band(
    samples: FloatImage, tolerance: float, pixels: FloatImage, confidence: FloatImage
) -> None:
    """Fill a band of the plate and its confidence from (N, rows, W, 3) samples."""
    first = np.empty_like(pixels)
    for rows in _strips(samples):
        first[rows] = find_groups(_by_pixel(samples, rows), tolerance).reshape(first[rows].shape)
    reach = 2 * tolerance + ALIKE_SHIFT_PX * _slope(first)
    for rows in _strips(samples):
        found, sure = settle(
            _by_pixel(samples, rows), first[rows].reshape(-1, 3), reach[rows].reshape(-1), tolerance
        )
        pixels[rows] = srgb_decode(found).reshape(pixels[rows].shape)
        confidence[rows] = sure.reshape(confidence[rows].shape)


def _strips(samples: FloatImage) -> Iterator[slice]:
    height, width = samples.shape[1:3]
    rows = max(1, SETTLE_PIXELS // width)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _by_pixel(samples: FloatImage, rows: slice) -> FloatImage:
    """(P, N, 3) of some rows."""
    strip = samples[:, rows].reshape(len(samples), -1, 3)
    return np.ascontiguousarray(strip.transpose(1, 0, 2))


def _slope(picture: FloatImage) -> FloatImage:
    """(H, W): the largest difference of a pixel to its neighbours, over channels and sides."""
    wide = cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    box = np.ones((3, 3), np.uint8)
    step = cv2.dilate(wide, box) - cv2.erode(wide, box)
    return np.asarray(step.max(axis=2)[1:-1, 1:-1], np.float32)


def find_groups(samples: FloatImage, tolerance: float) -> FloatImage:
    """(P, 3): a colour out of the largest group of alike samples of each pixel.

    samples: (P, N, 3) display-encoded over N frames, NaN where a frame shows nothing. tolerance:
    how far two samples of one thing may be from what both show.
    """
    luma = _luma(samples)
    order = np.argsort(luma, axis=1)
    sizes = _group_sizes(np.take_along_axis(luma, order, axis=1), 2 * tolerance)
    first = sizes.argmax(axis=1)[:, None]
    size = np.take_along_axis(sizes, first, axis=1)
    # Things of one luma and other colours lie mixed in a group: of a few samples of it, the one
    # that most are like.
    best, most = np.zeros((len(samples), 3), np.float32), np.zeros(len(samples), np.int64)
    for quarter in (2, 1, 3):
        place = first + np.maximum(size - 1, 0) * quarter // 4
        index = np.take_along_axis(order, place, axis=1)[..., None]
        colour = np.take_along_axis(samples, index, axis=1)[:, 0]
        count = _alike(samples, colour, np.float32(2 * tolerance)).sum(axis=1)
        best[count > most] = colour[count > most]
        most = np.maximum(most, count)
    return best


def settle(
    samples: FloatImage, colour: FloatImage, reach: FloatImage, tolerance: float
) -> tuple[FloatImage, FloatImage]:
    """The colour of the set and the confidence in it: (P, 3) display-encoded and (P,) 0..1.

    samples: (P, N, 3), NaN where a frame shows nothing. colour: (P, 3) of the group that is taken
    for the set, and reach (P,), how far from it a sample still belongs to it. A pixel without
    samples is black and has confidence 0.
    """
    luma = _luma(samples)
    alike = _alike(samples, colour, reach[:, None])
    # The next group: the largest among the samples that do not belong.
    rest = np.sort(np.where(alike, np.float32(np.inf), luma), axis=1)
    rival = _group_sizes(rest, 2 * tolerance).max(axis=1)
    seen = np.isfinite(luma).sum(axis=1)
    return _median_of(samples, alike), _confidence(alike.sum(axis=1), rival, seen)


def _alike(samples: FloatImage, colour: FloatImage, reach: Any) -> Mask:
    """(P, N): which samples lie within reach of a colour in every channel; NaN lies nowhere."""
    away = np.abs(samples - colour[:, None])
    # Channel by channel: numpy's maximum over an axis of three is ten times slower.
    return (away[..., 0] <= reach) & (away[..., 1] <= reach) & (away[..., 2] <= reach)


def _luma(samples: FloatImage) -> FloatImage:
    luma = samples @ _LUMA
    luma[~np.isfinite(luma)] = np.inf
    return luma


def _group_sizes(ranked: FloatImage, width: float) -> NDArray[np.int16]:
    """For each of the (P, N) ascending values, how many lie from it to `width` above it."""
    sizes = np.isfinite(ranked).astype(np.int16)
    with np.errstate(invalid="ignore"):
        for step in range(1, ranked.shape[1]):
            sizes[:, :-step] += ranked[:, step:] - ranked[:, :-step] <= width
    return sizes


def _median_of(samples: FloatImage, chosen: Mask) -> FloatImage:
    """(P, 3): the median over the chosen samples, channel by channel; 0 where there is none."""
    by_channel = np.where(chosen[:, None], samples.transpose(0, 2, 1), np.float32(np.inf))
    by_channel.sort(axis=2)
    count = chosen.sum(axis=1)
    last = np.maximum(count - 1, 0)
    low, high = (
        np.take_along_axis(by_channel, index[:, None, None], axis=2)[..., 0]
        for index in (last // 2, (last + 1) // 2)
    )
    middle = (low + high) * np.float32(0.5)
    return np.where(count[:, None] > 0, middle, np.float32(0))


def _confidence(
    alike: NDArray[np.int64], rival: NDArray[np.int16], seen: NDArray[np.int64]
) -> FloatImage:
    seen = np.maximum(seen, 1)
    sure = _ramp((alike - rival) / seen, 0.0, SURE_LEAD)
    sure *= _ramp(alike, FEWEST_ALIKE - 1, ENOUGH_ALIKE)
    sure *= _ramp(alike / seen, FEWEST_SHARE, ENOUGH_SHARE)
    return sure.astype(np.float32)


def _ramp(values: NDArray[Any], low: float, high: float) -> NDArray[np.float64]:
    return np.clip((values - low) / (high - low), 0, 1)


# --- where the subject never leaves ---------------------------------------------------------------


def _never_left(confidence: FloatImage) -> Mask:
    """Restless regions that the subject never leaves altogether, with all that they enclose.

    Calm spots and islands behind a restless shore, or between it and one side of the frame, are the
    inside of something that moves on the spot. Where they and hidden pixels are a good part of a
    region, what else is restless there is no better known: at its rim set and subject take turns.
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
    """What is cut off by the shore and touches at most one side of the frame."""
    count, labels = cv2.connectedComponents((~shore).astype(np.uint8), connectivity=4)
    sides = [set(side.tolist()) for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1])]
    enclosed = [n for n in range(1, count) if sum(n in side for side in sides) <= 1]
    return np.isin(labels, enclosed)
