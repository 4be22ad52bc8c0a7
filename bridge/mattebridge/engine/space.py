"""Colour spaces on tensors: code values to light and back, on whatever device the pixels are.

    code values <--light_of, code_of--> light in the space's primaries
    light in the space's primaries <--in_rec709, of_rec709--> Rec. 709 light

`linear` and `srgb` are the curves of `light`; a space of the config is a curve and a matrix
(`mattebridge.ocio.space`). Results are finite for every finite input. A chain
(`mattebridge.ocio.chain`) leads to Rec. 709 light in one go. So does a space that is neither, which
goes through OpenColorIO in main memory, wherever the pixels are.

On the CPU a matrix is OpenCV's, which takes a sixth of the time of torch, and a cube is
OpenColorIO's, which takes a third. Both may treat the last pixels that they are given by other
instructions, which round otherwise: those are done again, with others behind them, so that every
pixel has the same bits wherever it lies.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Callable, Union

import numpy as np
import torch
from torch import Tensor

from mattebridge.color import FloatImage
from mattebridge.engine.blocks import is_surely_within, pointwise
from mattebridge.engine.light import FLOAT_MAX, decode_quick, decoded, encoded
from mattebridge.ocio import system_gain, table
from mattebridge.ocio.chain import Cube, Log, Mix, Tables
from mattebridge.ocio.chain import Step as ChainStep
from mattebridge.ocio.log_curve import LogCurve
from mattebridge.ocio.space import ColorSpace, Curve

# Light of a log is within this in both signs: its curve stays within float32.
_MOST_LIGHT = 1e30
_LUMINANCE = Mix.of(np.tile(np.array(system_gain.WEIGHTS), (3, 1)))
# The instructions of OpenCV and OpenColorIO take no more pixels at once.
_LAST_PIXELS = 64
# To give fewer to another thread takes longer than to convert them.
_LEAST_PIXELS = 8192
# The tables and cubes that are in use, by device and, of a space, by direction.
_Owner = Union[ColorSpace, Tables, Cube]
_ON_DEVICE: weakref.WeakKeyDictionary[_Owner, dict[tuple[torch.device, bool], Tensor]]
_ON_DEVICE = weakref.WeakKeyDictionary()


def light_of(pixels: Tensor, space: ColorSpace) -> Tensor:
    """Light in the space's own primaries; `pixels` itself in a linear space. (..., 3) float32."""
    if space.curve is Curve.NONE:
        return pixels
    if space.curve is Curve.SRGB:
        return decoded(pixels)
    if space.curve is Curve.WHOLE:
        return _by_config(pixels, space, to_light=True)
    return _in_steps(pixels, *_to_light(space, pixels.device))


def code_of(light: Tensor, space: ColorSpace) -> Tensor:
    """Code values of light in the space's own primaries; `light` itself in a linear space."""
    if space.curve is Curve.NONE:
        return light
    if space.curve is Curve.SRGB:
        return encoded(light)
    if space.curve is Curve.WHOLE:
        return _by_config(light, space, to_light=False)
    if space.chain is not None:
        return _in_steps(light, *_chain(space.chain.to_code, light.device))
    if space.curve is Curve.LOG:
        return _in_steps(light, _to_log(_log_of(space)))
    step, gain = _through_table(_table_on(light.device, space, to_light=False)), space.gain
    if gain is None:
        return _in_steps(light, step)
    return _in_steps(light, _times_power(gain.exponent_back, gain.darkest_back), step)


def in_rec709(light: Tensor, space: ColorSpace, *, is_moderate: bool = False) -> Tensor:
    """Light of the space's primaries as Rec. 709 light, white at 1, negative where the gamut ends.

    is_moderate: whether it is known to be far below what float32 can hold. The light
    itself, where it is that already.
    """
    mix = space.to_rec709
    return light if mix is None else mixed(light, mix, is_moderate=is_moderate)


def of_rec709(light: Tensor, space: ColorSpace, *, is_moderate: bool = False) -> Tensor:
    """Rec. 709 light as light of the space's primaries; see `in_rec709`."""
    mix = space.of_rec709
    return light if mix is None else mixed(light, mix, is_moderate=is_moderate)


def light_of_display(display: Tensor, space: ColorSpace, *, is_moderate: bool = False) -> Tensor:
    """Light in the space's own primaries of display-encoded colours; see `in_rec709`."""
    mix = space.of_rec709
    if mix is None:
        return decoded(display)
    out = torch.empty_like(display, memory_format=torch.contiguous_format)
    steps = [decode_quick, _mixing(mix, is_moderate)]
    pointwise(lambda source, target: in_turn(steps, source, target), display, out)
    return out


# One step, from values into `target`, which may be the same tensor.
_Step = Callable[[Tensor, Tensor], None]


def to_rec709(space: ColorSpace, device: torch.device, *, is_moderate: bool = False) -> list[_Step]:
    """The steps from code values to Rec. 709 light; none where these are the same."""
    assert space.curve not in (Curve.SRGB, Curve.WHOLE)
    mix = space.to_rec709
    return _to_light(space, device) + ([] if mix is None else [_mixing(mix, is_moderate)])


def in_turn(steps: Sequence[_Step], source: Tensor, target: Tensor) -> None:
    """All steps, one behind the other, of a block of rows."""
    for step in steps:
        step(source, target)
        source = target


def _to_light(space: ColorSpace, device: torch.device) -> list[_Step]:
    if space.curve is Curve.NONE:
        return []
    if space.chain is not None:
        return _chain(space.chain.to_light, device)
    if space.curve is Curve.LOG:
        return [_of_log(_log_of(space))]
    step, gain = _through_table(_table_on(device, space, to_light=True)), space.gain
    return [step] if gain is None else [step, _times_power(gain.exponent, gain.darkest)]


def mixed(light: Tensor, mix: Mix, *, is_moderate: bool = False) -> Tensor:
    """Colours (..., 3) times a matrix, in new memory; see `in_rec709`."""
    out = torch.empty_like(light, memory_format=torch.contiguous_format)
    pointwise(_mixing(mix, is_moderate), light, out)
    return out


def _mixing(mix: Mix, is_moderate: bool = False) -> _Step:
    def step(source: Tensor, target: Tensor) -> None:
        # Products beyond float32 would give infinity less infinity.
        if not (is_moderate or is_surely_within(source, -table.LARGEST, table.LARGEST)):
            source = source.clamp(-table.LARGEST, table.LARGEST)
        run = _mix_in_memory if source.device.type == "cpu" else mix_on_device
        run(source, target, mix)

    return step


def mix_on_device(source: Tensor, target: Tensor, mix: Mix) -> None:
    """A matrix on tensors, (..., 3); `target` may be the same tensor."""
    # One channel after the other: a product of matrices rounds by where a pixel lies.
    red, green, blue = source.unbind(-1)
    channels = []
    for row, offset in zip(mix.matrix, mix.offset):
        of_red, of_green, of_blue = (float(value) for value in row)
        mixed = torch.mul(red, of_red).add_(green, alpha=of_green).add_(blue, alpha=of_blue)
        channels.append(mixed.add_(float(offset)) if offset else mixed)
    torch.stack(channels, -1, out=target)


def _mix_in_memory(source: Tensor, target: Tensor, mix: Mix) -> None:
    import cv2

    weights = mix.weights
    pixels = np.ascontiguousarray(source.numpy()).reshape(1, -1, 3)
    mixed = target.view(1, -1, 3).numpy()
    last = _last_of(pixels[0])[None]
    cv2.transform(pixels, weights, dst=mixed)
    mixed[:, -_LAST_PIXELS:] = cv2.transform(last, weights)[:, :-_LAST_PIXELS]


def _last_of(pixels: FloatImage) -> FloatImage:
    """The last ones of pixels (N, 3), with as many others behind them."""
    return np.concatenate([pixels[-_LAST_PIXELS:], np.zeros((_LAST_PIXELS, 3), np.float32)])


def _chain(steps: Sequence[ChainStep], device: torch.device) -> list[_Step]:
    return [_step_of(step, device) for step in steps]


def _step_of(step: ChainStep, device: torch.device) -> _Step:
    if isinstance(step, Mix):
        return _mixing(step)
    if isinstance(step, Tables):
        return _through_tables(step, device)
    if isinstance(step, Log):
        return _of_log(step.curve) if step.to_light else _to_log(step.curve)
    return _cube_in_memory(step) if device.type == "cpu" else cube_on_device(step, device)


def _through_tables(tables: Tables, device: torch.device) -> _Step:
    if tables.is_one:
        first = tables.channels[0]
        return _through_table(_kept_on(device, tables, True, lambda: table.by_key(first)))
    keyed = (table.by_key(each) for each in tables.channels)
    by_channel = _kept_on(device, tables, True, lambda: np.stack(list(keyed)))
    steps = [_through_table(values) for values in by_channel]

    def step(source: Tensor, target: Tensor) -> None:
        for each, values, found in zip(steps, source.unbind(-1), target.unbind(-1)):
            each(values, found)

    return step


def _cube_in_memory(cube: Cube) -> _Step:
    def step(source: Tensor, target: Tensor) -> None:
        pixels = target.copy_(source).view(-1, 3).numpy()
        last = _last_of(pixels)
        _by_threads(cube.run, pixels)
        cube.run(last)
        pixels[-_LAST_PIXELS:] = last[:-_LAST_PIXELS]

    return step


def _by_threads(run: Callable[[FloatImage], None], pixels: FloatImage) -> None:
    """Change pixels in place, a part in each of torch's threads; `run` has only one."""
    count = torch.get_num_threads()
    # Parts end where the widest instructions do, so that each pixel has its bits.
    size = -(-len(pixels) // (count * _LAST_PIXELS)) * _LAST_PIXELS
    if count == 1 or size < _LEAST_PIXELS:
        run(pixels)
        return
    others = [pixels[first : first + size] for first in range(size, len(pixels), size)]
    waiting = [_helpers(count - 1).submit(run, part) for part in others]
    run(pixels[:size])
    for each in waiting:
        each.result()


@lru_cache(maxsize=4)
def _helpers(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="cube")


def cube_on_device(cube: Cube, device: torch.device) -> _Step:
    """A cube on tensors (..., 3), whose target may be the same tensor."""
    nodes = _kept_on(device, cube, True, lambda: cube.nodes.reshape(-1, 3))
    last = len(cube.nodes) - 1
    # How many nodes one step along red, green and blue is.
    strides = ((last + 1) ** 2, last + 1, 1)
    between = _tetrahedron if cube.tetrahedral else _corners

    def step(source: Tensor, target: Tensor) -> None:
        place = source.reshape(-1, 3).clamp(0, 1).mul_(last)
        low = place.to(torch.int64).clamp_(max=last - 1)
        red, green, blue = low.unbind(1)
        first = (red * strides[0]).add_(green, alpha=strides[1]).add_(blue)
        target.copy_(between(nodes, first, place - low, strides).view(source.shape))

    return step


_Strides = tuple[int, int, int]


def _corners(nodes: Tensor, first: Tensor, part: Tensor, strides: _Strides) -> Tensor:
    """Between the eight corners of a cell."""

    def between(at: Tensor, axis: int) -> Tensor:
        if axis == 3:
            return nodes.index_select(0, at)
        low, high = between(at, axis + 1), between(at + strides[axis], axis + 1)
        return low.add_(high.sub_(low).mul_(part[:, axis : axis + 1]))

    return between(first, 0)


def _tetrahedron(nodes: Tensor, first: Tensor, part: Tensor, strides: _Strides) -> Tensor:
    """From the lowest corner of a cell to the highest one, along the longest part first."""
    falling, order = part.sort(dim=1, descending=True, stable=True)
    steps = torch.tensor(strides, device=part.device)[order]
    found = nodes.index_select(0, first) * (1 - falling[:, :1])
    at = first
    for i in range(3):
        at = at + steps[:, i]
        weight = falling[:, i : i + 1] - (falling[:, i + 1 : i + 2] if i < 2 else 0)
        found.add_(nodes.index_select(0, at).mul_(weight))
    return found


def _in_steps(values: Tensor, *steps: _Step) -> Tensor:
    """Values through some steps, in new memory; each block of rows through all of them."""
    out = torch.empty_like(values)

    pointwise(lambda source, target: in_turn(steps, source, target), values, out)
    return out


def _log_of(space: ColorSpace) -> LogCurve:
    assert space.log is not None
    return space.log


def _of_log(log: LogCurve) -> _Step:
    # A scalar and a multiple of a tensor are added in one pass.
    intercept = torch.tensor(float(np.log(log.gain)))
    constant = torch.tensor(log.offset - log.slope * log.cut)

    def step(source: Tensor, target: Tensor) -> None:
        foot = torch.add(constant, source.clamp(max=log.cut), alpha=log.slope)
        torch.clamp(source, log.cut, log.highest, out=target)
        torch.add(intercept, target, alpha=log.rate, out=target).exp_().add_(foot)

    return step


def _to_log(log: LogCurve) -> _Step:
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
    luminance_of = _mixing(_LUMINANCE)

    def step(source: Tensor, target: Tensor) -> None:
        # The luminance in all channels, which takes less than to repeat it behind the power.
        factor = torch.empty_like(target)
        luminance_of(source, factor)
        factor.abs_().clamp_(darkest, table.LARGEST).log_().mul_(exponent).exp_()
        torch.mul(source, factor, out=target)
        target.clamp_(-table.LARGEST, table.LARGEST)

    return step


def _through_table(at: Tensor) -> _Step:
    # A value and its slope, found together.
    pairs, last = at.view(torch.int64).flatten(), (1 << table.SHIFT) - 1

    def step(source: Tensor, target: Tensor) -> None:
        bits = source.contiguous().view(torch.int32)
        keys = (bits >> table.SHIFT).bitwise_and_(len(pairs) - 1).flatten()
        found = pairs.index_select(0, keys).view(torch.float32).view(*source.shape, 2)
        beyond = bits.bitwise_and(last).to(torch.float32)
        torch.addcmul(found[..., 0], found[..., 1], beyond, out=target)

    return step


def _table_on(device: torch.device, space: ColorSpace, to_light: bool) -> Tensor:
    values = space.decode if to_light else space.encode
    assert values is not None
    return _kept_on(device, space, to_light, lambda: table.by_key(values))


def _kept_on(
    device: torch.device, owner: _Owner, to_light: bool, values: Callable[[], FloatImage]
) -> Tensor:
    """Values of a table or cube on this device, copied there once."""
    known = _ON_DEVICE.setdefault(owner, {})
    if (device, to_light) not in known:
        known[device, to_light] = torch.from_numpy(values()).to(device)
    return known[device, to_light]


def _by_config(values: Tensor, space: ColorSpace, *, to_light: bool) -> Tensor:
    assert space.config is not None
    convert = space.config.light_of if to_light else space.config.of_light
    found = convert(values.cpu().numpy(), space.name)
    light = torch.from_numpy(found).to(values.device)
    return light.nan_to_num_(0.0, FLOAT_MAX, -FLOAT_MAX).clamp_(-table.LARGEST, table.LARGEST)
