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
from typing import Callable

import numpy as np
import torch
from torch import Tensor

from mattebridge.engine.blocks import is_surely_within, pointwise
from mattebridge.engine.light import FLOAT_MAX, decoded, encoded
from mattebridge.ocio import system_gain, table
from mattebridge.ocio.space import ColorSpace, Curve

# Light of a log is within this in both signs: its curve stays within float32.
_MOST_LIGHT = 1e30
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
    if space.curve is Curve.WHOLE:
        return _by_config(pixels, space, to_light=True)
    if space.curve is Curve.LOG:
        return _in_steps(pixels, _of_log(space))
    step, gain = _through_table(_table_on(pixels.device, space, to_light=True)), space.gain
    if gain is None:
        return _in_steps(pixels, step)
    return _in_steps(pixels, step, _times_power(gain.exponent, gain.darkest))


def code_of(light: Tensor, space: ColorSpace) -> Tensor:
    """Code values of light in the space's own primaries; `light` itself in a linear space."""
    if space.curve is Curve.NONE:
        return light
    if space.curve is Curve.SRGB:
        return encoded(light)
    if space.curve is Curve.WHOLE:
        return _by_config(light, space, to_light=False)
    if space.curve is Curve.LOG:
        return _in_steps(light, _to_log(space))
    step, gain = _through_table(_table_on(light.device, space, to_light=False)), space.gain
    if gain is None:
        return _in_steps(light, step)
    return _in_steps(light, _times_power(gain.exponent_back, gain.darkest_back), step)


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


# One step of a curve, from values into `target`, which may be the same tensor.
_Step = Callable[[Tensor, Tensor], None]


def _in_steps(values: Tensor, *steps: _Step) -> Tensor:
    """Values through some steps, in new memory; each block of rows through all of them."""
    out = torch.empty_like(values)

    def all_steps(source: Tensor, target: Tensor) -> None:
        for step in steps:
            step(source, target)
            source = target

    pointwise(all_steps, values, out)
    return out


def _of_log(space: ColorSpace) -> _Step:
    log = space.log
    assert log is not None
    # A scalar and a multiple of a tensor are added in one pass.
    intercept = torch.tensor(float(np.log(log.gain)))
    constant = torch.tensor(log.offset - log.slope * log.cut)

    def step(source: Tensor, target: Tensor) -> None:
        foot = torch.add(constant, source.clamp(max=log.cut), alpha=log.slope)
        torch.clamp(source, log.cut, log.highest, out=target)
        torch.add(intercept, target, alpha=log.rate, out=target).exp_().add_(foot)

    return step


def _to_log(space: ColorSpace) -> _Step:
    log = space.log
    assert log is not None
    cut = log.light_at_cut
    # What is added to a logarithm is a factor inside it; of both constants at once.
    constant = -np.log(log.gain) / log.rate - cut / log.slope
    factor = float(np.exp(constant * log.rate))
    offset = torch.tensor(-log.offset * factor)

    def step(source: Tensor, target: Tensor) -> None:
        foot = source.clamp(-_MOST_LIGHT, cut)
        torch.clamp(source, cut, _MOST_LIGHT, out=target)
        torch.add(offset, target, alpha=factor, out=target).log_().mul_(1 / log.rate)
        target.add_(foot, alpha=1 / log.slope)

    return step


def _times_power(exponent: float, darkest: float) -> _Step:
    of_red, of_green, of_blue = system_gain.WEIGHTS

    def step(source: Tensor, target: Tensor) -> None:
        red, green, blue = source.unbind(-1)
        luminance = (red * of_red).add_(green, alpha=of_green).add_(blue, alpha=of_blue)
        luminance.abs_().clamp_(darkest, table.LARGEST).log_().mul_(exponent).exp_()
        torch.mul(source, luminance.unsqueeze(-1), out=target)
        target.clamp_(-table.LARGEST, table.LARGEST)

    return step


def _through_table(at: Tensor) -> _Step:
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

    return step


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
