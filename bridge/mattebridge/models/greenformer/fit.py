"""The frame as the network's square, and the square's matte at the frame's size.

    plate --light--> resized --encoded--> square      alpha, foreground --resized--> frame, 0..1

A plate that was scene-linear is resized in linear light, as the checkpoints were trained.
Antialiased bilinear where an axis shrinks, the chosen kernel where it grows. `stretch` fills the
square; `letterbox` keeps the aspect: around the frame its edge is repeated, and the hint is 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.color import HALF_MAX
from mattebridge.models.pytorch.threads import power

SHARPEN_SIGMA_PX = 1.0
SHARPEN_RADIUS_PX = 3
LANCZOS_REACH = 4
ROUNDING = 1e-6
# Values resampled at once: each is made from few of the other size, and these from hardly more.
BAND = 64


@dataclass(frozen=True)
class Fit:
    """Where a frame of (height, width) lies in a square of `size`: rows and columns, in pixels."""

    height: int
    width: int
    size: int
    rows: slice
    columns: slice

    @classmethod
    def of(cls, shape: tuple[int, ...], size: int, fit: str) -> Fit:
        """shape: (H, W, ...) of the frame. fit: `stretch` or `letterbox`."""
        height, width = shape[:2]
        if fit == "stretch":
            return cls(height, width, size, slice(0, size), slice(0, size))
        longer = max(height, width)
        rows, columns = (_centred(side, longer, size) for side in (height, width))
        return cls(height, width, size, rows, columns)

    @property
    def inner(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @property
    def grows(self) -> bool:
        """Whether the frame is enlarged: neither side shrinks, and one grows."""
        height, width = self.inner
        return (height, width) != (self.height, self.width) and (
            height >= self.height and width >= self.width
        )

    def plate(self, plate: Tensor, *, linear: bool, settings: Mapping[str, Any]) -> Tensor:
        """(1, 3, S, S) display-encoded of a plate (1, 3, H, W), display-encoded, not below 0.

        linear: it is resized in linear light. settings: of the model's card.
        """
        light = decoded(plate) if linear else plate.clamp(max=_encoded_limit())
        inner = to_size(light.clamp(max=HALF_MAX), self.inner, settings["image_upsample_mode"])
        # Bicubic may be below 0 beside edges.
        inner = encoded(inner.clamp(min=0)) if linear else inner.clamp(min=0)
        if settings["sharpen_strength"] and self.grows:
            inner = sharpened(inner, settings["sharpen_strength"])
        return self._padded(inner, "replicate")

    def hint(self, hint: Tensor) -> Tensor:
        """(1, 1, S, S) of a hint (1, 1, H, W), 0..1."""
        return self._padded(to_size(hint, self.inner, "bilinear"), "constant")

    def _padded(self, inner: Tensor, mode: str) -> Tensor:
        pads = (
            self.columns.start,
            self.size - self.columns.stop,
            self.rows.start,
            self.size - self.rows.stop,
        )
        return functional.pad(inner, pads, mode=mode) if any(pads) else inner

    def back(self, square: Tensor, kernel: str) -> Tensor:
        """(1, C, H, W), 0..1, of a matte (1, C, S, S)."""
        inner = square[:, :, self.rows, self.columns]
        made = to_size(inner, (self.height, self.width), kernel).clamp_(0, 1)
        # The weights of a kernel are rounded; what is opaque stays so.
        return made.masked_fill_(made > 1 - ROUNDING, 1)


def _centred(side: int, longer: int, size: int) -> slice:
    length = max(1, round(size * side / longer))
    start = (size - length) // 2
    return slice(start, start + length)


def to_size(image: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """(1, C, *size) float32, new; antialiased bilinear where an axis shrinks, else `kernel`."""
    height, width = image.shape[-2:]
    if size == (height, width):
        return image.clone()
    if size[0] != height:
        bands = _bands(kernel, height, size[0])
        image = torch.cat([band.matrix.to(image) @ image[:, :, band.seen] for band in bands], dim=2)
    if size[1] != width:
        made = image.new_empty(*image.shape[:3], size[1])
        for band in _bands(kernel, width, size[1]):
            made[..., band.made] = image[..., band.seen] @ band.matrix.to(image).T
        image = made
    return image


class Band(NamedTuple):
    """Some values of an axis as a matrix over those of the other size that they are made from."""

    made: slice
    seen: slice
    matrix: Tensor


@lru_cache(maxsize=32)
def _bands(kernel: str, length: int, wanted: int) -> list[Band]:
    """The resampling of an axis from `length` to `wanted` values, in bands; edges are repeated."""
    weights, taps = _taps("bilinear" if wanted < length else kernel, length, wanted)
    bands = []
    for start in range(0, wanted, BAND):
        made = slice(start, min(start + BAND, wanted))
        first, last = int(taps[made].min()), int(taps[made].max()) + 1
        matrix = torch.zeros(made.stop - start, last - first, dtype=torch.float64)
        matrix.scatter_add_(1, taps[made] - first, weights[made])
        bands.append(Band(made, slice(first, last), matrix.float()))
    return bands


def _taps(kernel: str, length: int, wanted: int) -> tuple[Tensor, Tensor]:
    """For each value wanted, the weights of values of the axis, and which those are."""
    scale = length / wanted
    # An axis that shrinks is averaged over what falls into a pixel.
    stretch = max(scale, 1.0)
    reach, weigh = KERNELS[kernel]
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * scale - 0.5
    first = torch.floor(centres - reach * stretch).long()
    taps = first[:, None] + torch.arange(2 * math.ceil(reach * stretch) + 2)
    weights = weigh((taps - centres[:, None]) / stretch)
    if scale > 1:
        # Beyond the edge there is nothing to average.
        weights = weights * ((taps >= 0) & (taps < length))
    return weights / weights.sum(dim=1, keepdim=True), taps.clamp(0, length - 1)


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


def _cubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.75, as torch and OpenCV have it."""
    a, x = -0.75, x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return torch.where(x <= 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _lanczos(x: Tensor) -> Tensor:
    return torch.sinc(x) * torch.sinc(x / LANCZOS_REACH) * (x.abs() < LANCZOS_REACH)


KERNELS = {"bilinear": (1, _triangle), "bicubic": (2, _cubic), "lanczos4": (4, _lanczos)}


def sharpened(image: Tensor, strength: float) -> Tensor:
    """(1, C, H, W) with `strength` of what a blur removes added (unsharp mask), not below 0."""
    radius = SHARPEN_RADIUS_PX
    offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (offsets / SHARPEN_SIGMA_PX) ** 2)
    weights = weights / weights.sum()
    channels = image.shape[1]
    blurred = functional.pad(image, (radius,) * 4, mode="replicate")
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        kernel = weights.view(shape).expand(channels, -1, -1, -1)
        blurred = functional.conv2d(blurred, kernel, groups=channels)
    return (image + strength * (image - blurred)).clamp_(min=0)


def encoded(light: Tensor) -> Tensor:
    """Display-encoded of scene-linear light >= 0: the piecewise sRGB curve, continued above 1."""
    curve = 1.055 * power(light.clamp(min=0.0031308), 1 / 2.4) - 0.055
    return torch.where(light <= 0.0031308, 12.92 * light, curve)


def decoded(values: Tensor) -> Tensor:
    """Scene-linear light of display-encoded values >= 0."""
    curve = power((values.clamp(min=0.04045) + 0.055) / 1.055, 2.4)
    return torch.where(values <= 0.04045, values / 12.92, curve)


def _encoded_limit() -> float:
    return float(encoded(torch.tensor(HALF_MAX)))
