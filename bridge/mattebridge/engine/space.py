"""Colour spaces on tensors: code values to light and back, on whatever device the pixels are.

    code values <--light_of, code_of--> light in the space's primaries
    light in the space's primaries <--in_rec709, of_rec709--> Rec. 709 light

`linear` and `srgb` are the curves of `light`; a space of the config is a curve and a matrix
(`mattebridge.ocio.space`). Results are finite for every finite input. A space that is neither goes
through OpenColorIO in main memory, wherever the pixels are, and its light is Rec. 709 light.

On the CPU a matrix is OpenCV's, which takes a sixth of the time of torch. It may treat the last
pixels that it is given by other instructions, which round otherwise: those are done again, with
others behind them, so that every pixel has the same bits wherever it lies.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor

from mattebridge.engine.blocks import is_surely_within, pointwise
from mattebridge.engine.light import FLOAT_MAX, decoded, encoded
from mattebridge.ocio import system_gain, table
from mattebridge.ocio.space import ColorSpace, Curve

# What no light is below in a log, whose foot would leave float32.
_DARKEST = 1e30
# OpenCV's instructions take no more pixels at once.
_LAST_PIXELS = 64
# The tables of spaces that are in use, by device and direction.
_ON_DEVICE: weakref.WeakKeyDictionary[ColorSpace, dict[tuple[torch.device, bool], Tensor]]
_ON_DEVICE = weakref.WeakKeyDictionary()
_FRACTION = 1.0 / (1 << table.SHIFT)


def light_of(pixels: Tensor, space: ColorSpace) -> Tensor:
    """Light in the space's own primaries; `pixels` itself in a linear space. (..., 3) float32."""
    if space.curve is Curve.NONE:
        return pixels
    if space.curve is Curve.SRGB:
        return decoded(pixels)
    if space.curve is Curve.LOG:
        return _of_log(pixels, space)
    if space.curve is Curve.WHOLE:
        return _by_config(pixels, space, to_light=True)
    light = _through_table(pixels, space, to_light=True)
    if space.gain is None:
        return light
    return _times_power(light, space.gain.exponent, space.gain.darkest)


def code_of(light: Tensor, space: ColorSpace) -> Tensor:
    """Code values of light in the space's own primaries; `light` itself in a linear space."""
    if space.curve is Curve.NONE:
        return light
    if space.curve is Curve.SRGB:
        return encoded(light)
    if space.curve is Curve.LOG:
        return _to_log(light, space)
    if space.curve is Curve.WHOLE:
        return _by_config(light, space, to_light=False)
    if space.gain is not None:
        light = _times_power(light, space.gain.exponent_back, space.gain.darkest_back)
    return _through_table(light, space, to_light=False)


def in_rec709(light: Tensor, space: ColorSpace) -> Tensor:
    """Light of the space's primaries as Rec. 709 light, negative where the gamut ends."""
    return light if space.matrix is None else _mixed(light, space.matrix)


def of_rec709(light: Tensor, space: ColorSpace) -> Tensor:
    """Rec. 709 light as light of the space's primaries."""
    return light if space.matrix_back is None else _mixed(light, space.matrix_back)


def _mixed(light: Tensor, matrix: np.ndarray) -> Tensor:
    out = torch.empty_like(light, memory_format=torch.contiguous_format)

    def step(source: Tensor, target: Tensor) -> None:
        # Products beyond float32 would give infinity less infinity.
        if not is_surely_within(source, -table.LARGEST, table.LARGEST):
            source = source.clamp(-table.LARGEST, table.LARGEST)
        mix = _mix_in_memory if source.device.type == "cpu" else _mix_on_device
        mix(source, target, matrix)

    pointwise(step, light, out)
    return out


def _mix_on_device(source: Tensor, target: Tensor, matrix: np.ndarray) -> None:
    # One channel after the other: a product of matrices rounds by where a pixel lies.
    red, green, blue = source.unbind(-1)
    for channel, row in enumerate(matrix):
        of_red, of_green, of_blue = (float(value) for value in row)
        mixed = torch.mul(red, of_red, out=target[..., channel])
        mixed.add_(green, alpha=of_green).add_(blue, alpha=of_blue)


def _mix_in_memory(source: Tensor, target: Tensor, matrix: np.ndarray) -> None:
    import cv2

    weights = matrix.astype(np.float32)
    pixels = np.ascontiguousarray(source.numpy()).reshape(1, -1, 3)
    mixed = target.view(1, -1, 3).numpy()
    cv2.transform(pixels, weights, dst=mixed)
    spare = np.zeros((1, _LAST_PIXELS, 3), np.float32)
    last = np.concatenate([pixels[:, -_LAST_PIXELS:], spare], 1)
    mixed[:, -_LAST_PIXELS:] = cv2.transform(last, weights)[:, :-_LAST_PIXELS]


def _of_log(codes: Tensor, space: ColorSpace) -> Tensor:
    log, out = space.log, torch.empty_like(codes)
    assert log is not None
    intercept = float(np.log(log.gain))

    def step(source: Tensor, target: Tensor) -> None:
        torch.clamp(source, log.cut, log.highest, out=target)
        target.mul_(log.rate).add_(intercept).exp_().add_(log.offset)
        target.add_(source.clamp(max=log.cut).sub_(log.cut), alpha=log.slope)

    pointwise(step, codes, out)
    return out


def _to_log(light: Tensor, space: ColorSpace) -> Tensor:
    log, out = space.log, torch.empty_like(light)
    assert log is not None
    cut, intercept = log.light_at_cut, float(np.log(log.gain)) / log.rate

    def step(source: Tensor, target: Tensor) -> None:
        torch.clamp(source, min=cut, out=target)
        target.sub_(log.offset).log_().mul_(1 / log.rate).sub_(intercept)
        target.add_(source.clamp(-_DARKEST, cut).sub_(cut), alpha=1 / log.slope)

    pointwise(step, light, out)
    return out


def _times_power(light: Tensor, exponent: float, darkest: float) -> Tensor:
    out = torch.empty_like(light)
    of_red, of_green, of_blue = system_gain.WEIGHTS

    def step(source: Tensor, target: Tensor) -> None:
        red, green, blue = source.unbind(-1)
        luminance = (red * of_red).add_(green, alpha=of_green).add_(blue, alpha=of_blue)
        luminance.abs_().clamp_(darkest, table.LARGEST).log_().mul_(exponent).exp_()
        torch.mul(source, luminance.unsqueeze(-1), out=target)
        target.clamp_(-table.LARGEST, table.LARGEST)

    pointwise(step, light, out)
    return out


def _through_table(values: Tensor, space: ColorSpace, *, to_light: bool) -> Tensor:
    at = _table_on(values.device, space, to_light)
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


def _table_on(device: torch.device, space: ColorSpace, to_light: bool) -> Tensor:
    """The table on this device, copied there once."""
    known = _ON_DEVICE.setdefault(space, {})
    if (device, to_light) not in known:
        values = space.decode if to_light else space.encode
        known[device, to_light] = torch.from_numpy(values).to(device)
    return known[device, to_light]


def _by_config(values: Tensor, space: ColorSpace, *, to_light: bool) -> Tensor:
    assert space.config is not None
    convert = space.config.light_of if to_light else space.config.of_light
    found = convert(values.cpu().numpy(), space.name)
    light = torch.from_numpy(found).to(values.device)
    return light.nan_to_num_(0.0, FLOAT_MAX, -FLOAT_MAX).clamp_(-table.LARGEST, table.LARGEST)
