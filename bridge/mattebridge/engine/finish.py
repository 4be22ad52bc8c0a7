"""A model's alpha and foreground as the planes that were asked for.

    alpha --mattes--> rounded to its plane's type --> foreground --> rounded --> premultiplied

Rule: each result is computed from those before it, as they were rounded. So `premultiplied` is the
product of the foreground and alpha that the host receives, in half as in float, and the unmix is
exact for the alpha that the host receives. The frame is done in strips of rows, so that this takes
a few megabytes of memory whatever the size of the frame.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional

import numpy as np

from mattebridge.color import (
    HALF_MAX,
    FloatImage,
    Pixels,
    srgb_decode,
    srgb_encode,
    strips,
    unmix,
    unpremultiply,
)
from mattebridge.engine.picture import FLOAT_MAX, Picture

# A highlight behind almost no alpha is mostly the set's: at alpha 0 the foreground may be as bright
# as the plate, and more by this slope, which reaches plate / alpha, all that unmixing can give, at
# alpha 0.1. Without it a lamp beside the subject would sparkle through noise in the alpha.
_HIGHLIGHT_SLOPE = np.float32(90.0)
_HIGHLIGHT_MIN_ALPHA = np.float32(1e-6)


@dataclass(frozen=True)
class Finish:
    """What the results of one frame are computed from.

    alpha: (H, W) float32 0..1, mattes applied. foreground: the model's, (H, W, 3) float32 straight
    display-encoded. plate, clean_plate: straight; the clean plate as matched to the plate.
    core_matte: (H, W) or None. source: where the foreground is from, `model`, `unmix` or `plate`.
    colorspace: of the results. premultiply: `linear`, or `display` for the product of encoded
    colours. keeps_highlights: the foreground has values above 1 itself.
    While `write` runs, `clamped` counts, by output, the values that its type cannot hold, and
    `write_s` the seconds of each strip that writing into the planes of `out` takes.
    """

    alpha: FloatImage
    foreground: FloatImage
    plate: Picture
    clean_plate: Optional[Picture]
    core_matte: Optional[FloatImage]
    source: str
    colorspace: str
    premultiply: str = "linear"
    keeps_highlights: bool = False
    clamped: dict[str, int] = field(default_factory=dict)
    write_s: list[float] = field(default_factory=list)

    def write(self, out: Mapping[str, Pixels], progress: Callable[[int, int], None]) -> None:
        """Fill alpha, foreground and premultiplied, those of them that are in `out`.

        progress: called with the rows done and the rows in all.
        """
        height, width = self.alpha.shape
        # Values near the limit of float32 may become infinite in between; they are clamped.
        with np.errstate(over="ignore", invalid="ignore"):
            for number, rows in enumerate(strips(height, width * 3)):
                if number % 16 == 0:
                    progress(rows.start, height)
                results = self._strip(out, rows)
                start = time.perf_counter()
                for role, values in results.items():
                    out[role][rows] = values
                self.write_s.append(time.perf_counter() - start)

    def _strip(self, out: Mapping[str, Pixels], rows: slice) -> dict[str, Pixels]:
        """The results of a strip that are in `out`, each within the range of its type."""
        stored, alpha = _rounded(self.alpha[rows], _type_of(out, "alpha"))
        results = {"alpha": stored[..., None]}
        if "foreground" in out or "premultiplied" in out:
            dtype = _type_of(out, "foreground")
            colour = self._clamped("foreground", self._colour(rows, alpha), dtype)
            results["foreground"], colour = _rounded(colour, dtype)
        if "premultiplied" in out:
            dtype = out["premultiplied"].dtype
            product = self._clamped("premultiplied", self._product(colour, alpha), dtype)
            rgba = np.empty((*alpha.shape, 4), dtype)
            for channel in range(3):
                rgba[..., channel] = product[..., channel]
            rgba[..., 3] = alpha
            results["premultiplied"] = rgba
        return {role: values for role, values in results.items() if role in out}

    def _product(self, colour: FloatImage, alpha: FloatImage) -> FloatImage:
        """Foreground x alpha in linear light, then encoded where the output is.

        With `premultiply` display, colours are multiplied as they are encoded.
        """
        if self.colorspace == "linear" or self.premultiply == "display":
            return colour * alpha[..., None]
        # Finite, so that it is 0 and not NaN where alpha is 0.
        light = np.minimum(srgb_decode(colour), FLOAT_MAX)
        return srgb_encode(light * alpha[..., None])

    def _colour(self, rows: slice, alpha: FloatImage) -> FloatImage:
        """The straight foreground of a strip in the output's colour space, not yet rounded."""
        if self.source == "plate":
            return self.plate.in_space(self.colorspace)[rows]
        if self.source == "unmix":
            assert self.clean_plate is not None
            light = unmix(self.plate.linear[rows], self.clean_plate.linear[rows], alpha)
            straight = unpremultiply(light, alpha)
            return straight if self.colorspace == "linear" else srgb_encode(straight)
        encoded = self._model_colour(rows, alpha)
        return srgb_decode(encoded) if self.colorspace == "linear" else encoded

    def _model_colour(self, rows: slice, alpha: FloatImage) -> FloatImage:
        """The model's foreground with the plate's highlights, display-encoded.

        Where a core matte makes alpha 1, all light is the subject's, whatever the model found:
        there the plate itself is the foreground.
        """
        colour = self.foreground[rows]
        if not self.keeps_highlights:
            colour = self._with_highlights(np.clip(colour, 0.0, 1.0), rows, alpha)
        if self.core_matte is not None:
            core = self.core_matte[rows][..., None]
            mixed = colour + core * (self.plate.encoded[rows] - colour)
            colour = np.where(core > 0, np.where(core < 1, mixed, self.plate.encoded[rows]), colour)
        return colour

    def _with_highlights(self, colour: FloatImage, rows: slice, alpha: FloatImage) -> FloatImage:
        """Add back what the clipped plate lacked, as far as the clean plate does not explain it."""
        if not self.plate.has_highlights or self.plate.display[rows].max() <= 1.0:
            return colour
        red, green, blue = np.moveaxis(self.plate.display[rows] > 1.0, -1, 0)
        bright = red | green | blue
        light = self.plate.linear[rows]
        if self.clean_plate is not None:
            coverage = alpha[..., None]
            own = light - (np.float32(1.0) - coverage) * self.clean_plate.linear[rows]
            own /= np.maximum(coverage, _HIGHLIGHT_MIN_ALPHA)
            light = np.minimum(own, light * (np.float32(1.0) + _HIGHLIGHT_SLOPE * coverage))
            light = np.minimum(light, FLOAT_MAX, out=light)
        excess = srgb_encode(light)
        excess -= np.float32(1.0)
        colour += np.maximum(excess, np.float32(0.0), out=excess) * bright[..., None]
        return colour

    def _clamped(self, name: str, values: FloatImage, dtype: Any) -> FloatImage:
        """Values within what `dtype` can hold; those that were beyond it are counted."""
        limit = HALF_MAX if dtype == np.float16 else FLOAT_MAX
        if values.size and (values.max() > limit or values.min() < -limit):
            count = int(np.count_nonzero(np.abs(values) > limit))
            self.clamped[name] = self.clamped.get(name, 0) + count
            return np.clip(values, -limit, limit)
        return values


def _type_of(out: Mapping[str, Pixels], role: str) -> Any:
    """The type that a result is rounded to: of its plane, else of the product it is used for."""
    plane = out.get(role, out.get("premultiplied"))
    return np.float32 if plane is None else plane.dtype


def _rounded(values: FloatImage, dtype: Any) -> tuple[Pixels, FloatImage]:
    """The values as they are stored, and the same in float32 for what is computed from them."""
    if dtype == np.float32:
        return values, values
    stored = values.astype(dtype)
    return stored, stored.astype(np.float32)


def with_mattes(
    alpha: FloatImage, garbage_matte: Optional[FloatImage], core_matte: Optional[FloatImage]
) -> FloatImage:
    """Alpha with the artist's mattes applied, in place: core makes it 1, garbage makes it 0.

    Soft mattes: `1 - (1 - alpha) * (1 - core)`, then times `1 - garbage`, so that garbage wins
    where both are set. All are (H, W) float32 0..1.
    """
    one = np.float32(1.0)
    if core_matte is not None:
        alpha += (one - alpha) * core_matte
        # Rounding may leave the sum just off 1 where the core is 1.
        np.copyto(alpha, one, where=core_matte >= one)
    if garbage_matte is not None:
        alpha *= one - garbage_matte
    return np.clip(alpha, 0.0, 1.0, out=alpha)


def write_map(
    plane: Pixels, values: FloatImage, covered: tuple[int, int], *, smooth: bool = False
) -> None:
    """Enlarge a model's small map (h, w) into a plane (H, W, 1), as the published scripts do.

    covered: height and width of the padded frame, which the map is of. smooth: interpolated
    linearly; else each pixel takes the nearest value.
    """
    for axis, length in enumerate(covered):
        centres = (np.arange(plane.shape[axis]) + 0.5) * (values.shape[axis] / length)
        if smooth:
            values = _interpolated(values, centres - 0.5, axis)
        else:
            values = np.take(values, centres.astype(np.intp), axis=axis, mode="clip")
    plane[..., 0] = values


def _interpolated(values: FloatImage, places: FloatImage, axis: int) -> FloatImage:
    """Linear between neighbours along an axis; the outermost values are repeated beyond it."""
    below = np.floor(places)
    share = (places - below).astype(np.float32)
    first, second = (
        np.take(values, (below + step).astype(np.intp), axis=axis, mode="clip") for step in (0, 1)
    )
    return first + (second - first) * (share[:, None] if axis == 0 else share)
