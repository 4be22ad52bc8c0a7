"""One picture in every colour space that a frame needs, each computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mattebridge.color import FloatImage, srgb_decode, srgb_encode

FLOAT_MAX = np.float32(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Picture:
    """One straight RGB image, (H, W, 3) float32, in whichever space is asked for.

    pixels: in `colorspace`, "linear" or "srgb". `linear` and `encoded` are the whole signal,
    negatives and values above 1 included; `display` is what is compared and shown: encoded, never
    below 0.
    """

    pixels: FloatImage
    colorspace: str

    def in_space(self, colorspace: str) -> FloatImage:
        """`linear` or `encoded`, by the name of the space."""
        return self.linear if colorspace == "linear" else self.encoded

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
        """`display` cut at 1, as most networks need it."""
        return np.minimum(self.display, np.float32(1.0)) if self.has_highlights else self.display

    @cached_property
    def has_highlights(self) -> bool:
        return bool(self.display.max() > 1.0)
