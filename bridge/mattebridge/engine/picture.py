"""One picture in every colour space that a frame needs, each computed once, on its device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from mattebridge.engine.blocks import extremes
from mattebridge.engine.light import FLOAT_MAX, decoded, encoded


@dataclass(frozen=True)
class Picture:
    """One straight RGB image, (H, W, 3) float32 on its device, in whichever space is asked for.

    pixels: in `colorspace`, "linear" or "srgb", finite; lowest, highest: their least and greatest
    value. `linear` and `encoded` are the whole signal, negatives and values above 1 included;
    `display` is what is compared and shown: encoded, never below 0.
    """

    pixels: Tensor
    colorspace: str
    lowest: float
    highest: float

    @classmethod
    def of(cls, pixels: Tensor, colorspace: str) -> Picture:
        """The picture of these pixels, which are looked at for their range."""
        return cls(pixels, colorspace, *extremes(pixels)[0])

    def in_space(self, colorspace: str) -> Tensor:
        """`linear` or `encoded`, by the name of the space."""
        return self.linear if colorspace == "linear" else self.encoded

    @cached_property
    def linear(self) -> Tensor:
        if self.colorspace == "linear":
            return self.pixels
        light = decoded(self.pixels)
        # Display values beyond 1e15 have no light that float32 can hold.
        return light.clamp_(max=FLOAT_MAX) if self.highest > 1e15 else light

    @cached_property
    def encoded(self) -> Tensor:
        return self.pixels if self.colorspace == "srgb" else encoded(self.pixels)

    @cached_property
    def display(self) -> Tensor:
        return self.encoded if self.lowest >= 0 else self.encoded.clamp(min=0)

    @cached_property
    def clipped(self) -> Tensor:
        """`display` cut at 1, as most networks need it."""
        return self.display.clamp(max=1) if self.has_highlights else self.display

    @property
    def has_highlights(self) -> bool:
        """Whether a value is above 1, which it is in both spaces or in neither."""
        return self.highest > 1
