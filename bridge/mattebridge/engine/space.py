"""Colour spaces on tensors: code values to light and back, on whatever device the pixels are.

    code values <--light_of, code_of--> light in the space's primaries
    light in the space's primaries <--in_rec709, of_rec709--> Rec. 709 light

`linear` and `srgb` are the curves of `light`; a space of the config is a table and a matrix
(`mattebridge.ocio.space`). Results are finite for every finite input. A space that is neither goes
through OpenColorIO in main memory, wherever the pixels are, and its light is Rec. 709 light.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mattebridge.engine.blocks import pointwise
from mattebridge.engine.light import FLOAT_MAX, decoded, encoded
from mattebridge.ocio import table
from mattebridge.ocio.space import ColorSpace, Curve

_FRACTION = 1.0 / (1 << table.SHIFT)


def light_of(pixels: Tensor, space: ColorSpace) -> Tensor:
    """Light in the space's own primaries; `pixels` itself in a linear space. (..., 3) float32."""
    if space.curve is Curve.NONE:
        return pixels
    if space.curve is Curve.SRGB:
        return decoded(pixels)
    if space.curve is Curve.WHOLE:
        return _by_config(pixels, space, to_light=True)
    return _through_table(pixels, space.decode)


def code_of(light: Tensor, space: ColorSpace) -> Tensor:
    """Code values of light in the space's own primaries; `light` itself in a linear space."""
    if space.curve is Curve.NONE:
        return light
    if space.curve is Curve.SRGB:
        return encoded(light)
    if space.curve is Curve.WHOLE:
        return _by_config(light, space, to_light=False)
    return _through_table(light, space.encode)


def in_rec709(light: Tensor, space: ColorSpace) -> Tensor:
    """Light of the space's primaries as Rec. 709 light, negative where the gamut ends."""
    return light if space.matrix is None else _mixed(light, space.matrix)


def of_rec709(light: Tensor, space: ColorSpace) -> Tensor:
    """Rec. 709 light as light of the space's primaries."""
    return light if space.matrix is None else _mixed(light, np.linalg.inv(space.matrix))


def _mixed(light: Tensor, matrix: np.ndarray) -> Tensor:
    rows = [[float(value) for value in row] for row in matrix]
    out = torch.empty_like(light)

    def step(source: Tensor, target: Tensor) -> None:
        # Products beyond float32 would give infinity less infinity. One channel after the other:
        # a product of matrices takes half as long again, and rounds by where a pixel lies.
        red, green, blue = source.clamp(-table.LARGEST, table.LARGEST).unbind(-1)
        for channel, (of_red, of_green, of_blue) in enumerate(rows):
            mixed = torch.mul(red, of_red, out=target[..., channel])
            mixed.add_(green, alpha=of_green).add_(blue, alpha=of_blue)

    pointwise(step, light, out)
    return out


def _through_table(values: Tensor, values_at: object) -> Tensor:
    assert isinstance(values_at, np.ndarray)
    at = torch.from_numpy(values_at).to(values.device)
    out = torch.empty_like(values)

    def step(source: Tensor, target: Tensor) -> None:
        bits = source.contiguous().view(torch.int32)
        size = (bits & 0x7FFFFFFF).clamp_(table.LOWEST_BITS, table.HIGHEST_BITS - 1)
        size -= table.LOWEST_BITS
        part = (size & ((1 << table.SHIFT) - 1)).to(torch.float32).mul_(_FRACTION)
        # The sign bit, shifted down, is -1.
        place = (size >> table.SHIFT).sub_(bits >> 31, alpha=table.COUNT).flatten()
        low = at.index_select(0, place).view(source.shape)
        high = at.index_select(0, place + 1).view(source.shape)
        torch.addcmul(low, high.sub_(low), part, out=target)

    pointwise(step, values, out)
    return out


def _by_config(values: Tensor, space: ColorSpace, *, to_light: bool) -> Tensor:
    assert space.config is not None
    names = (space.name, space.config.rec709_light)
    source, wanted = names if to_light else reversed(names)
    found = space.config.convert(values.cpu().numpy(), source, wanted)
    light = torch.from_numpy(found).to(values.device)
    return light.nan_to_num_(0.0, FLOAT_MAX, -FLOAT_MAX).clamp_(-table.LARGEST, table.LARGEST)
