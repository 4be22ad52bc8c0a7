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
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from mattebridge.color import (
    UNPREMULTIPLY_MIN_ALPHA,
    FloatImage,
    srgb_decode,
    srgb_encode,
    strips,
    to_float,
)
from mattebridge.engine.clean_plates import CleanPlates, HeldCleanPlate
from mattebridge.engine.picture import FLOAT_MAX, Picture, Plane
from mattebridge.engine.request import MATTES
from mattebridge.errors import (
    NonFiniteError,
)

if TYPE_CHECKING:
    from mattebridge.wire.params import RenderParams


# --- what was asked for ---------------------------------------------------------------------------


# --- pictures -------------------------------------------------------------------------------------


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
