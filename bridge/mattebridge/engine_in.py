"""The engine's way in: from the planes of a request to pictures a model may look at.

    slot planes --private float32 copies--> [checkpoint] --NaN policy--> straight --> display, 0..1

Rule: the planes of a request are read once, into memory of ours, and never looked at again. Until
the checkpoint says that they were not written to meanwhile, nothing is concluded from their values.
The clean plate of a shot is usually the same picture each frame: it is compared with the last ones
held and kept with all that was derived from it, its alignment included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge.color import (
    UNPREMULTIPLY_MIN_ALPHA,
    FloatImage,
    srgb_decode,
    srgb_encode,
    strips,
    to_float,
)
from mattebridge.errors import (
    DtypeError,
    GeometryError,
    InputsError,
    ModelError,
    NonFiniteError,
    TooLargeError,
)
from mattebridge.params import INPUT_CHANNELS, INPUT_DTYPES, OUTPUT_CHANNELS, OUTPUT_DTYPES

if TYPE_CHECKING:
    from mattebridge.alignment import CleanSide
    from mattebridge.engine import RenderParams
    from mattebridge.models.base import ModelCard

Plane = NDArray[Any]

MATTES = ("alpha_hint", "garbage_matte", "core_matte")
FLOAT_MAX = np.float32(np.finfo(np.float32).max)

# Float copies of plate and clean plate in both spaces and as the model sees them, the clean plate
# as sent, the matched one: measured 95 to 147 at UHD.
ENGINE_BYTES_PER_PIXEL = 144


@dataclass(frozen=True)
class Limits:
    """What one frame may take; a request over them is refused before anything is allocated."""

    max_pixels: int = 2**28
    memory_bytes: Optional[int] = None


# --- what was asked for ---------------------------------------------------------------------------


def check_request(
    planes: Mapping[str, Plane],
    out: Mapping[str, Plane],
    card: ModelCard,
    params: RenderParams,
    limits: Limits,
) -> None:
    """Raise the error of a request whose planes cannot give what is asked; reads no pixel."""
    if "plate" not in planes:
        raise InputsError("the request holds no plate", field="plate")
    _check_layouts("in", planes, INPUT_CHANNELS, INPUT_DTYPES)
    _check_layouts("out", out, OUTPUT_CHANNELS, OUTPUT_DTYPES)
    _check_size_limits(planes["plate"], card, limits)
    _check_sizes(planes, out, card)
    _check_needs(planes, card, params)
    for role in ("error", "refinement"):
        if role in out and role not in card.extra_outputs:
            raise ModelError(
                f"model '{card.name}' gives no {role} map - leave '{role}' out of the outputs",
                reason="output",
            )


def _check_layouts(
    side: str,
    planes: Mapping[str, Plane],
    channels: Mapping[str, tuple[int, ...]],
    dtypes: tuple[str, ...],
) -> None:
    for role, plane in planes.items():
        if role not in channels:
            raise InputsError(
                f"'{role}' is no plane of a request; there are: {', '.join(channels)}", field=side
            )
        if plane.ndim != 3 or plane.shape[2] not in channels[role] or 0 in plane.shape:
            wanted = " or ".join(str(count) for count in channels[role])
            raise GeometryError(
                f"{role} must be height x width x {wanted}; got {plane.shape}", field=role
            )
        if plane.dtype.str[1:] not in dtypes or not plane.dtype.isnative:
            raise DtypeError(
                f"{role} must be one of {', '.join(dtypes)}; got {plane.dtype}", field=role
            )


def _check_size_limits(plate: Plane, card: ModelCard, limits: Limits) -> None:
    pixels = plate.shape[0] * plate.shape[1]
    if pixels > limits.max_pixels:
        raise TooLargeError(
            f"a plate of {size_text(plate)} has {pixels} pixels; the limit is {limits.max_pixels}"
            " - use a smaller proxy or crop",
            limit=limits.max_pixels,
        )
    needed = pixels * (ENGINE_BYTES_PER_PIXEL + card.bytes_per_pixel)
    if limits.memory_bytes is not None and needed > limits.memory_bytes:
        raise TooLargeError(
            f"a plate of {size_text(plate)} with model '{card.name}' needs about"
            f" {needed / 2**30:.1f} GiB of memory; {limits.memory_bytes / 2**30:.1f} GiB may be"
            " used - use a smaller proxy or crop",
            limit=limits.memory_bytes,
            needed=needed,
        )


def _check_sizes(planes: Mapping[str, Plane], out: Mapping[str, Plane], card: ModelCard) -> None:
    plate = planes["plate"]
    for role, plane in planes.items():
        if plane.shape[:2] != plate.shape[:2]:
            wants = f"model '{card.name}' needs" if role in card.needs else "the request wants"
            raise InputsError(
                f"{wants} {_one(role)} of {size_text(plate)}; got {size_text(plane)}"
                f" - reformat the {_words(role)}",
                field=role,
                plate_size=[plate.shape[1], plate.shape[0]],
                got_size=[plane.shape[1], plane.shape[0]],
            )
    for role, plane in out.items():
        if plane.shape[:2] != plate.shape[:2]:
            raise GeometryError(
                f"output {role} must be of the plate's size {size_text(plate)};"
                f" got {size_text(plane)}",
                field=role,
            )


def _check_needs(planes: Mapping[str, Plane], card: ModelCard, params: RenderParams) -> None:
    size = size_text(planes["plate"])
    for role in card.needs:
        if role not in planes:
            raise InputsError(
                f"model '{card.name}' needs {_one(role)} of {size}; got none - connect one",
                field=role,
            )
    if params.foreground == "unmix" and "clean_plate" not in planes:
        raise InputsError(
            f"foreground 'unmix' needs a clean plate of {size}; got none - connect one,"
            " or use foreground 'model'",
            field="clean_plate",
        )
    if params.plate_alpha != "opaque" and planes["plate"].shape[2] != 4:
        raise InputsError(
            f"plate_alpha '{params.plate_alpha}' needs a plate with an alpha channel; got RGB"
            " - send RGBA, or say 'opaque'",
            field="plate",
        )


def _words(role: str) -> str:
    return role.replace("_", " ")


def _one(role: str) -> str:
    return f"{'an' if role[0] in 'aeiou' else 'a'} {_words(role)}"


def size_text(plane: Plane) -> str:
    return f"{plane.shape[1]}x{plane.shape[0]}"


# --- pictures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """One straight RGB image, (H, W, 3) float32, in whichever space is asked for.

    `linear` and `encoded` are the whole signal, negatives and values above 1 included; `display`
    is what may be compared and looked at: encoded, never below 0.
    """

    pixels: FloatImage
    colorspace: str

    @cached_property
    def linear(self) -> FloatImage:
        if self.colorspace == "linear":
            return self.pixels
        light = srgb_decode(self.pixels)
        # Display values beyond 1e15 have no light that float32 can hold.
        return np.minimum(light, FLOAT_MAX, out=light) if self.pixels.max() > 1e15 else light

    @cached_property
    def encoded(self) -> FloatImage:
        return self.pixels if self.colorspace == "srgb" else srgb_encode(self.pixels)

    @cached_property
    def display(self) -> FloatImage:
        if self.encoded.min() >= 0:
            return self.encoded
        return np.maximum(self.encoded, np.float32(0.0))

    @cached_property
    def clipped(self) -> FloatImage:
        """`display` cut at 1, as most networks want it."""
        return np.minimum(self.display, np.float32(1.0)) if self.has_highlights else self.display

    @cached_property
    def has_highlights(self) -> bool:
        return bool(self.display.max() > 1.0)

    def in_space(self, colorspace: str) -> FloatImage:
        return self.linear if colorspace == "linear" else self.encoded


@dataclass
class HeldCleanPlate:
    """A clean plate as it was sent, and what was made of it once."""

    raw: Plane
    colorspace: str
    plate_alpha: str
    key: Optional[str] = None
    nonfinite: int = 0
    picture: Optional[Picture] = None
    # What alignment needs of it; made on first use, so that `off` imports no cv2.
    side: Optional[CleanSide] = None

    @property
    def size_bytes(self) -> int:
        """What it takes when everything derived from it exists."""
        height, width = self.raw.shape[:2]
        return int(self.raw.nbytes + 6 * 12 * height * width)

    def matched_picture(self, display: FloatImage) -> Picture:
        """The matched clean plate as a picture; the picture itself where nothing was changed."""
        assert self.picture is not None
        return self.picture if display is self.picture.display else Picture(display, "srgb")


class CleanPlates:
    """The clean plates of the last shots, least recently used first out of a byte budget."""

    def __init__(self, budget_bytes: int, count: int = 4) -> None:
        self._budget_bytes = budget_bytes
        self._count = count
        self._held: list[HeldCleanPlate] = []

    def find_or_copy(
        self, plane: Plane, params: RenderParams, key: Optional[str]
    ) -> HeldCleanPlate:
        """The held clean plate with these pixels, or a private copy of them, not yet held.

        A `key` stands for its content: the same key, layout and parameters are the same pixels
        without a look. Whoever passes keys keeps those of different clients apart.
        """
        for held in reversed(self._held):
            if self._is_same(held, plane, params, key):
                return held
        return HeldCleanPlate(plane.copy(), params.colorspace, params.plate_alpha, key)

    def keep(self, plate: HeldCleanPlate) -> None:
        """Hold it, as the one used last; only once its pixels are known to be whole."""
        self._held = [held for held in self._held if held is not plate] + [plate]

    def trim(self) -> None:
        """Let go of what is over the budget; called when the frame no longer needs it."""
        while self._held and (
            len(self._held) > self._count or self.size_bytes > self._budget_bytes
        ):
            self._held.pop(0)

    def clear(self) -> None:
        self._held.clear()

    @property
    def size_bytes(self) -> int:
        return sum(held.size_bytes for held in self._held)

    def __len__(self) -> int:
        return len(self._held)

    @staticmethod
    def _is_same(
        held: HeldCleanPlate, plane: Plane, params: RenderParams, key: Optional[str]
    ) -> bool:
        if (held.colorspace, held.plate_alpha) != (params.colorspace, params.plate_alpha):
            return False
        if held.raw.shape != plane.shape or held.raw.dtype != plane.dtype or held.key != key:
            return False
        return key is not None or same_bits(held.raw, plane)


def same_bits(one: Plane, other: Plane) -> bool:
    """Whether two planes of one shape and type hold the same bytes; NaN equals itself."""
    bits = np.dtype(f"u{one.dtype.itemsize}")
    return all(
        np.array_equal(one[rows].view(bits), other[rows].view(bits))
        for rows in strips(one.shape[0], one.shape[1] * one.shape[2])
    )


# --- taking them ----------------------------------------------------------------------------------


@dataclass
class FrameInputs:
    """The pictures and mattes of one frame, finite, straight, in memory of ours.

    alpha_hint, garbage_matte, core_matte: (H, W) float32 0..1. notes: counts of what had to be
    put right, for the reply.
    """

    plate: Picture
    clean_plate: Optional[HeldCleanPlate]
    mattes: Mapping[str, FloatImage]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> Optional[FloatImage]:
        """Where the artist said the subject is, as far as anything was said."""
        said = [self.mattes[role] for role in ("alpha_hint", "core_matte") if role in self.mattes]
        return np.maximum.reduce(said) if said else None


@dataclass
class PrivateCopies:
    """The planes of a request in memory of ours, not yet looked at."""

    plate: FloatImage
    plate_alpha: Optional[FloatImage]
    clean_plate: Optional[HeldCleanPlate]
    mattes: dict[str, FloatImage]


def copy_planes(
    planes: Mapping[str, Plane],
    params: RenderParams,
    clean_plates: CleanPlates,
    clean_plate_key: Optional[str],
) -> PrivateCopies:
    """Read every plane once; integers become fractions of their maximum."""
    clean_plate = planes.get("clean_plate")
    return PrivateCopies(
        *_split(planes["plate"], params.plate_alpha),
        None
        if clean_plate is None
        else clean_plates.find_or_copy(clean_plate, params, clean_plate_key),
        {role: to_float(planes[role][..., 0]) for role in MATTES if role in planes},
    )


def prepare(copies: PrivateCopies, params: RenderParams) -> FrameInputs:
    """Apply the policy for non-finite values and make the colours straight.

    Raises `NonFiniteError` with the count under the policy `error`; under `zero` NaN and
    infinities become 0 and are counted in the notes.
    """
    counts = {"plate": make_finite(copies.plate)}
    if copies.plate_alpha is not None:
        counts["plate"] += make_finite(copies.plate_alpha)
    held = copies.clean_plate
    if held is not None:
        if held.picture is None:
            held.picture, held.nonfinite = _clean_picture(held)
        counts["clean_plate"] = held.nonfinite
    counts.update((role, make_finite(matte)) for role, matte in copies.mattes.items())
    _check_finite(counts, params.nonfinite)
    plate = Picture(
        _straight(copies.plate, copies.plate_alpha, params.plate_alpha, params.colorspace),
        params.colorspace,
    )
    mattes = {role: np.clip(matte, 0.0, 1.0, out=matte) for role, matte in copies.mattes.items()}
    inputs = FrameInputs(plate, held, mattes)
    negatives = {"plate": _negatives(plate.pixels)}
    if held is not None and held.picture is not None:
        negatives["clean_plate"] = _negatives(held.picture.pixels)
    _note_counts(inputs.notes, "nonfinite", counts)
    _note_counts(inputs.notes, "negative", negatives)
    return inputs


def make_finite(values: FloatImage) -> int:
    """Set NaN and infinities to 0 in place; how many there were."""
    count = 0
    for rows in strips(len(values), values[:1].size):
        finite = np.isfinite(values[rows])
        if not finite.all():
            count += int(finite.size - np.count_nonzero(finite))
            values[rows][~finite] = 0.0
    return count


def _split(plane: Plane, plate_alpha: str) -> tuple[FloatImage, Optional[FloatImage]]:
    """RGB, and the alpha where it means something; channel by channel, which is quickest."""
    rgb = np.empty((*plane.shape[:2], 3), np.float32)
    if plane.shape[2] == 3:
        return to_float(plane, rgb), None
    for rows in strips(plane.shape[0], plane.shape[1] * 4):
        for channel in range(3):
            to_float(plane[rows, :, channel], rgb[rows, :, channel])
    return rgb, None if plate_alpha == "opaque" else to_float(plane[..., 3])


def _clean_picture(held: HeldCleanPlate) -> tuple[Picture, int]:
    rgb, alpha = _split(held.raw, held.plate_alpha)
    nonfinite = make_finite(rgb) + (0 if alpha is None else make_finite(alpha))
    straight = _straight(rgb, alpha, held.plate_alpha, held.colorspace)
    return Picture(straight, held.colorspace), nonfinite


def _straight(
    rgb: FloatImage, alpha: Optional[FloatImage], plate_alpha: str, colorspace: str
) -> FloatImage:
    """Colour divided by its alpha in linear light, in place, where there is an edge."""
    if alpha is None or plate_alpha != "premultiplied":
        return rgb
    edge = (alpha > UNPREMULTIPLY_MIN_ALPHA) & (alpha < 1.0)
    if edge.any():
        pixels = rgb[edge] if colorspace == "linear" else srgb_decode(rgb[edge])
        with np.errstate(over="ignore"):
            pixels /= alpha[edge][:, None]
        np.clip(pixels, -FLOAT_MAX, FLOAT_MAX, out=pixels)
        rgb[edge] = pixels if colorspace == "linear" else srgb_encode(pixels)
    return rgb


def _check_finite(counts: Mapping[str, int], policy: str) -> None:
    total = sum(counts.values())
    if total and policy == "error":
        found = ", ".join(f"{role} {count}" for role, count in counts.items() if count)
        raise NonFiniteError(
            f"{total} values are NaN or infinite ({found}) - mend them upstream, or set"
            " nonfinite to 'zero'",
            count=total,
            planes={role: count for role, count in counts.items() if count},
        )


def _negatives(values: FloatImage) -> int:
    return int(np.count_nonzero(values < 0)) if values.min() < 0 else 0


def _note_counts(notes: dict[str, Any], name: str, counts: Mapping[str, int]) -> None:
    found = {role: count for role, count in counts.items() if count}
    if found:
        notes[name] = found
