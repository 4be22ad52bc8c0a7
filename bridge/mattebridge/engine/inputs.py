"""The planes of a request as pictures for the model: private copies, finite, straight.

    planes --copy_planes--> PrivateCopies, float32 --[checkpoint]--> prepare --> PreparedInputs
                            (clean plate: the kept one with the same pixels, or a copy)

Rule: the planes belong to the host and may change at any time. They are read once, into private
memory, and never again. Nothing is concluded from their values before the checkpoint has confirmed
that they were not written to meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from mattebridge.color import (
    UNPREMULTIPLY_MIN_ALPHA,
    FloatImage,
    Pixels,
    srgb_decode,
    srgb_encode,
    strips,
    to_float,
)
from mattebridge.engine.clean_plates import CleanPlates, KeptCleanPlate
from mattebridge.engine.picture import FLOAT_MAX, Picture
from mattebridge.errors import NonFiniteError
from mattebridge.wire.params import MATTE_ROLES, RenderParams

# Rows (or columns) at which two pictures are compared before they are compared whole.
LOOKED_AT = 32


@dataclass(frozen=True)
class PrivateCopies:
    """The planes of a request in private memory, their values not checked yet.

    plate_alpha: None where the plate has no alpha channel or it does not count. mattes: by role.
    """

    plate: FloatImage
    plate_alpha: Optional[FloatImage]
    clean_plate: Optional[KeptCleanPlate]
    mattes: Mapping[str, FloatImage]


@dataclass(frozen=True)
class PreparedInputs:
    """The pictures and mattes of one frame: finite, straight, in private memory.

    mattes: alpha_hint, garbage_matte, core_matte, as far as they were sent, (H, W) float32 0..1.
    notes: for the reply; here the counts of values that were not finite or negative.
    """

    plate: Picture
    clean_plate: Optional[KeptCleanPlate]
    mattes: Mapping[str, FloatImage]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> Optional[FloatImage]:
        """Where the hint or the core matte show the subject, (H, W) 0..1; None without either."""
        shown = [self.mattes[role] for role in ("alpha_hint", "core_matte") if role in self.mattes]
        return np.maximum.reduce(shown) if shown else None


def copy_planes(
    planes: Mapping[str, Pixels],
    params: RenderParams,
    clean_plates: CleanPlates,
    clean_plate_key: Optional[str],
) -> PrivateCopies:
    """Read every plane once; integers become fractions of their maximum."""
    kept, clean_plate = None, planes.get("clean_plate")
    if clean_plate is not None:
        size = planes["plate"].shape[:2]
        kept = clean_plates.find_or_copy(clean_plate, params, clean_plate_key, size)
    return PrivateCopies(
        *_split(planes["plate"], params.plate_alpha),
        kept,
        {role: to_float(planes[role][..., 0]) for role in MATTE_ROLES if role in planes},
    )


def _split(plane: Pixels, plate_alpha: str) -> tuple[FloatImage, Optional[FloatImage]]:
    """RGB, and the alpha where it counts; channel by channel, which is quickest."""
    rgb = np.empty((*plane.shape[:2], 3), np.float32)
    if plane.shape[2] == 3:
        return to_float(plane, rgb), None
    for rows in strips(plane.shape[0], plane.shape[1] * 4):
        for channel in range(3):
            to_float(plane[rows, :, channel], rgb[rows, :, channel])
    return rgb, None if plate_alpha == "opaque" else to_float(plane[..., 3])


def prepare(copies: PrivateCopies, params: RenderParams) -> PreparedInputs:
    """Apply the policy for non-finite values and make the colours straight, in place.

    Raises `NonFiniteError` with the count under the policy `error`; under `zero` NaN and
    infinities become 0 and are counted in the notes.
    """
    counts = _made_finite(copies)
    _check_finite(counts, params.nonfinite)
    straight = _straight(copies.plate, copies.plate_alpha, params.plate_alpha, params.colorspace)
    plate, kept = Picture(straight, params.colorspace), copies.clean_plate
    mattes = {role: np.clip(matte, 0.0, 1.0, out=matte) for role, matte in copies.mattes.items()}
    negatives = {"plate": _negatives(plate.pixels)}
    if kept is not None and kept.picture is not None:
        negatives["clean_plate"] = _negatives(kept.picture.pixels)
    notes = _counts(nonfinite=counts, negative=negatives)
    if kept is not None and kept.was_resampled:
        height, width = kept.sent[0][:2]
        notes["clean_plate_resampled_from"] = [width, height]
    if kept is not None and kept.picture is not None and _are_equal(plate, kept.picture):
        notes["clean_plate_is_the_plate"] = True
    return PreparedInputs(plate, kept, mattes, notes)


def _are_equal(plate: Picture, clean_plate: Picture) -> bool:
    """Whether both are the same picture; a few of their pixels nearly always show that not."""
    step = max(1, min(plate.pixels.shape[:2]) // LOOKED_AT)
    few = (slice(None, None, step), slice(None, None, step))
    return plate.colorspace == clean_plate.colorspace and all(
        np.array_equal(plate.pixels[part], clean_plate.pixels[part]) for part in (few, ...)
    )


def _made_finite(copies: PrivateCopies) -> dict[str, int]:
    """Set NaN and infinities to 0 in place; how many there were by role."""
    counts = {"plate": _set_finite(copies.plate)}
    if copies.plate_alpha is not None:
        counts["plate"] += _set_finite(copies.plate_alpha)
    kept = copies.clean_plate
    if kept is not None:
        if kept.picture is None:
            kept.picture, kept.nonfinite = _clean_picture(kept)
        counts["clean_plate"] = kept.nonfinite
    counts.update((role, _set_finite(matte)) for role, matte in copies.mattes.items())
    return counts


def _set_finite(values: FloatImage) -> int:
    count = 0
    for rows in strips(len(values), values[:1].size):
        finite = np.isfinite(values[rows])
        if not finite.all():
            count += int(finite.size - np.count_nonzero(finite))
            values[rows][~finite] = 0.0
    return count


def _clean_picture(kept: KeptCleanPlate) -> tuple[Picture, int]:
    rgb, alpha = _split(kept.raw, kept.plate_alpha)
    nonfinite = _set_finite(rgb) + (0 if alpha is None else _set_finite(alpha))
    straight = _straight(rgb, alpha, kept.plate_alpha, kept.colorspace)
    return Picture(straight, kept.colorspace), nonfinite


def _check_finite(counts: Mapping[str, int], policy: str) -> None:
    total = sum(counts.values())
    if total and policy == "error":
        found = ", ".join(f"{role} {count}" for role, count in counts.items() if count)
        raise NonFiniteError(
            f"{total} values are NaN or infinite ({found}) - repair them upstream, or set"
            " nonfinite to 'zero'",
            count=total,
            planes={role: count for role, count in counts.items() if count},
        )


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


def _negatives(values: FloatImage) -> int:
    return int(np.count_nonzero(values < 0)) if values.min() < 0 else 0


def _counts(**by_name: Mapping[str, int]) -> dict[str, Any]:
    """The counts that are not 0, as notes."""
    found = {
        name: {role: count for role, count in counts.items() if count}
        for name, counts in by_name.items()
    }
    return {name: counts for name, counts in found.items() if counts}
