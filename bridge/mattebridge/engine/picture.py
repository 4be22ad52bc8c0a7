"""One picture in every colour space that a frame needs, each computed once, on its device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Optional

import torch
from torch import Tensor

from mattebridge.engine.blocks import Range, extremes, row_blocks
from mattebridge.engine.light import FLOAT_MAX, encode, encoded
from mattebridge.engine.space import code_of, display_of, in_rec709, light_of, of_rec709
from mattebridge.models.pytorch.pixels import places_above, taken
from mattebridge.ocio.space import LINEAR, SRGB, ColorSpace, Curve

# Light of a wider gamut is below this somewhere; nearer to 0 it is the rounding of a matrix.
_BELOW_ZERO = -1e-6
# Where light is within this in both signs, sums of products of it are far from float32's limits.
_MODERATE = 1e30
# Rows (or columns) at which two images are compared before they are compared whole.
LOOKED_AT = 32


@dataclass(frozen=True)
class Picture:
    """One straight RGB image, (H, W, 3) float32 on its device, in whichever space is asked for.

    pixels: in `space`, finite; lowest, highest: their least and greatest value. `linear` and
    `encoded` are the whole signal with Rec. 709 primaries and white at 1, negatives (of a wider
    gamut, too) and values above 1 included; `display` is what is compared and shown: encoded,
    never below 0.
    """

    pixels: Tensor
    space: ColorSpace
    lowest: float
    highest: float

    @classmethod
    def of(cls, pixels: Tensor, space: ColorSpace) -> Picture:
        """The picture of these pixels, which are looked at for their range."""
        return cls(pixels, space, *extremes(pixels)[0])

    def in_space(self, space: ColorSpace) -> Tensor:
        """The whole signal in a space."""
        if space is self.space:
            return self.pixels
        return self.encoded if space is SRGB else code_of(self.light_in(space), space)

    def light_in(self, space: ColorSpace) -> Tensor:
        """The whole signal as light in the primaries of a space, computed once for each."""
        if space.to_rec709 is None:
            return self.linear
        if space is self.space:
            return self._own_light
        if space not in self._lights:
            self._lights[space] = of_rec709(self.linear, space)
        return self._lights[space]

    @cached_property
    def _lights(self) -> dict[ColorSpace, Tensor]:
        return {}

    @cached_property
    def _own_light(self) -> Tensor:
        return self._light_of(self.pixels)

    def _light_of(self, pixels: Tensor) -> Tensor:
        light = light_of(pixels, self.space)
        # Display values beyond 1e15 have no light that float32 can hold.
        return light.clamp_(max=FLOAT_MAX) if self.space is SRGB and self.highest > 1e15 else light

    @cached_property
    def linear(self) -> Tensor:
        return in_rec709(self._own_light, self.space)

    def linear_rows(self, rows: slice) -> Tensor:
        """`linear` of some rows alone."""
        if "linear" in vars(self) or self.space.curve is Curve.WHOLE:
            return self.linear[rows]
        return in_rec709(light_of(self.pixels[rows], self.space), self.space)

    def linear_at(self, rows: slice, places: Tensor) -> Tensor:
        """`linear` of some pixels (N,) of some rows alone: (N, 3)."""
        if "linear" in vars(self) or not self._is_built_in:
            return taken(self.linear_rows(rows), places)
        return self._light_of(taken(self.pixels[rows], places))

    def above_white(self, rows: slice) -> Tensor:
        """(N,) the pixels of some rows whose `display` is above 1 somewhere; on the CPU only."""
        if "_cut_at_white" not in vars(self):
            return places_above(self.display[rows], 1)
        places, width = self._cut_at_white[1], self.pixels.shape[1]
        first, end = torch.searchsorted(places, torch.tensor([rows.start, rows.stop]) * width)
        return places[first:end] - rows.start * width

    @cached_property
    def encoded(self) -> Tensor:
        if self.space is SRGB:
            return self.pixels
        if self._is_built_in or self._light_range[0] < 0:
            return encoded(self.linear)
        return self.display

    @cached_property
    def display(self) -> Tensor:
        if not self._is_built_in:
            return self._shown[0]
        if self._light_range[0] >= 0:
            return self.encoded
        return self._cut(None) if self._is_quickly_encoded else self.encoded.clamp(min=0)

    @cached_property
    def clipped(self) -> Tensor:
        """`display` cut at 1, as most networks need it."""
        if not self.has_highlights:
            return self.display
        if self._is_quickly_encoded:
            return self._cut_at_white[0]
        return self.encoded.clamp(0, 1) if self._is_built_in else self.display.clamp(max=1)

    @property
    def _is_quickly_encoded(self) -> bool:
        """Whether encoding the pixels takes no longer than a pass over the encoded picture."""
        quick = self.space is LINEAR and self.pixels.device.type == "cpu"
        return quick and "encoded" not in vars(self)

    @cached_property
    def _cut_at_white(self) -> tuple[Tensor, Tensor]:
        """`clipped`, and the pixels (N,) that were above 1 somewhere, in reading order."""
        above: list[Tensor] = []
        return self._cut(1, above), torch.cat(above)

    def _cut(self, highest: Optional[float], above: Optional[list[Tensor]] = None) -> Tensor:
        """`encoded` without what is below 0 or above `highest`, in one pass on the CPU.

        above: is given the pixels of each block of rows that were above 1 somewhere.
        """
        display, width = torch.empty_like(self.pixels), self.pixels.shape[1]
        for rows in row_blocks(self.pixels):
            encode(self.pixels[rows], display[rows])
            if above is not None:
                above.append(places_above(display[rows], 1) + rows.start * width)
            display[rows].clamp_(0, highest)
        return display

    @property
    def _is_built_in(self) -> bool:
        """Whether Rec. 709 light is the pixels, or their curve."""
        return self.space in (LINEAR, SRGB)

    @property
    def has_highlights(self) -> bool:
        """Whether Rec. 709 light is above 1 somewhere, encoded or not."""
        return self._light_range[1] > 1

    @property
    def is_moderate(self) -> bool:
        """Whether no light is near what float32 can hold."""
        return self.is_within(_MODERATE)

    def is_within(self, limit: float) -> bool:
        """Whether all light is nearer to 0 than this."""
        lowest, highest = self._light_range
        return lowest > -limit and highest < limit

    def is_wide(self, rows: slice) -> bool:
        """Whether some of these rows may have colours outside of Rec. 709; no built-in space has.

        What is below 0 in those is noise, not a colour.
        """
        if self._is_built_in or self._light_range[0] >= _BELOW_ZERO:
            return False
        return any(self._wide_rows[rows])

    @cached_property
    def _wide_rows(self) -> list[bool]:
        """Of each row, whether its block has such colours."""
        found: list[bool] = []
        for part, (lowest, _) in zip(row_blocks(self.pixels), self._shown[1]):
            found += [lowest < _BELOW_ZERO] * (part.stop - part.start)
        return found

    @cached_property
    def _light_range(self) -> tuple[float, float]:
        """Least and greatest value of the light; encoded they are on the same side of 0 and 1."""
        if self._is_built_in:
            return self.lowest, self.highest
        lowest, highest = zip(*self._shown[1])
        return min(lowest), max(highest)

    @cached_property
    def _shown(self) -> tuple[Tensor, list[tuple[float, float]]]:
        """`display` of a space of the config, and the range of the light of each row block."""
        if self.space.curve is Curve.WHOLE:
            light = light_of(self.pixels, self.space)
            ranges = [(float(low), float(high)) for low, high in extremes(light)]
            display = encoded(light).clamp_(min=0)
            return display, ranges * len(list(row_blocks(light)))
        found = list[Range]()
        is_moderate = self._has_moderate_pixels
        display = display_of(self.pixels, self.space, is_moderate=is_moderate, found=found)
        return display, [each.values() for each in found]

    @property
    def _has_moderate_pixels(self) -> bool:
        return self.lowest > -_MODERATE and self.highest < _MODERATE

    def tensors(self) -> Iterator[Tensor]:
        """What was computed of it so far; some of them share their memory."""
        for value in vars(self).values():
            yield from (one for one in _as_tuple(value) if isinstance(one, Tensor))
        yield from self._lights.values()


def _as_tuple(value: object) -> tuple[object, ...]:
    return value if isinstance(value, tuple) else (value,)


def same_picture(one: Picture, other: Picture) -> bool:
    """Whether both have the same bits in the same space; their ranges nearly always tell."""
    known = (one.space, one.lowest, one.highest) == (other.space, other.lowest, other.highest)
    return known and same_pixels(one.pixels, other.pixels)


def same_pixels(one: Tensor, other: Tensor) -> bool:
    """Whether two float32 images hold the same bits; a few pixels are looked at before all."""
    if one is other:
        return True
    if one.shape != other.shape:
        return False
    step = max(1, min(one.shape[:2]) // LOOKED_AT)
    some, others = one.view(torch.int32), other.view(torch.int32)
    few = (slice(None, None, step), slice(None, None, step))
    return all(torch.equal(some[part], others[part]) for part in (few, ...))
