"""Colour spaces on tensors: code values to light and back, on whatever device the pixels are.

    code values <--light_of, code_of--> light in the space's primaries
    light in the space's primaries <--in_rec709, of_rec709--> Rec. 709 light

`linear` and `srgb` are the curves of `light`; a space of the config is a curve and a matrix
(`mattebridge.ocio.space`). Results are finite for every finite input. A chain
(`mattebridge.ocio.chain`) leads to Rec. 709 light in one go. So does a space that is neither, which
goes through OpenColorIO in main memory, wherever the pixels are.

In main memory all of it but the curve of `srgb` is done by the kernels of `in_memory`, which take a
third of torch's time. A step is one for tensors of any device, or all kernels of a way at once.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Callable, Optional, Union

import numpy as np
import torch
from torch import Tensor

from mattebridge.color import FloatImage
from mattebridge.engine import in_memory
from mattebridge.engine.blocks import Range, pointwise, range_of, row_blocks
from mattebridge.engine.in_memory import Kernel
from mattebridge.engine.light import (
    FLOAT_MAX,
    decode_quick,
    decoded,
    encode,
    encode_spent,
    encoded,
)
from mattebridge.ocio import system_gain, table
from mattebridge.ocio.chain import Cube, Log, Mix, Tables
from mattebridge.ocio.chain import Step as ChainStep
from mattebridge.ocio.log_curve import LogCurve
from mattebridge.ocio.space import SRGB, ColorSpace, Curve

# Light of a log is within this in both signs: its curve stays within float32.
_MOST_LIGHT = 1e30
_CPU = torch.device("cpu")
_LUMINANCE = Mix.of(np.tile(np.array(system_gain.WEIGHTS), (3, 1)))
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
    return _in_steps(pixels, _to_light(space, pixels.device))


def code_of(light: Tensor, space: ColorSpace) -> Tensor:
    """Code values of light in the space's own primaries; `light` itself in a linear space."""
    if space.curve is Curve.NONE:
        return light
    if space.curve is Curve.SRGB:
        return encoded(light)
    if space.curve is Curve.WHOLE:
        return _by_config(light, space, to_light=False)
    return _in_steps(light, _to_code(space, light.device))


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
    if mix is None and (space.curve is Curve.NONE or display.device.type != "cpu"):
        return decoded(display)
    if display.device.type == "cpu":
        back = [] if mix is None else [in_memory.mixing(mix, is_moderate)]
        return _in_steps(display, [_all_of([in_memory.decode, *back])])
    assert mix is not None
    return _in_steps(display, [decode_quick, _mixing(mix, is_moderate)])


def display_of(
    pixels: Tensor,
    space: ColorSpace,
    *,
    is_moderate: bool = False,
    found: Optional[list[Range]] = None,
) -> Tensor:
    """Finite pixels (H, W, 3) as a display shows them, never below 0, without a wait for a GPU; of
    any space but those of `Curve.WHOLE`.

    In one pass: what is in between stays in the processor's cache. is_moderate: see `in_rec709`;
    of the pixels. found: is given the range of the Rec. 709 light of each row block, for which the
    pixels are looked at.
    """
    if space is SRGB:
        return pixels.clamp(min=0)
    display = torch.empty_like(pixels, memory_format=torch.contiguous_format)
    if pixels.device.type == "cpu" and (space.curve is not Curve.NONE or space.to_rec709):
        kernels = _kernels_to_rec709(space, is_moderate)
        for rows in row_blocks(pixels):
            flat = (_flat(pixels[rows]), _flat(display[rows]))
            seen = in_memory.show(kernels, *flat, looks=found is not None)
            if found is not None:
                found.append(Range(seen))
        return display
    steps = _to_rec709(space, pixels.device, is_moderate)
    memory = torch.empty_like(pixels[next(row_blocks(pixels))]) if steps else None

    def step(source: Tensor, target: Tensor) -> None:
        light = source if memory is None else memory[: len(source)]
        _in_turn(steps, source, light)
        if found is not None:
            found.append(range_of(light))
        (encode if memory is None else encode_spent)(light, target)
        if found is None or not found[-1].is_surely_from(0):
            target.clamp_(min=0)

    pointwise(step, pixels, display)
    return display


# One step, from values into `target`, which may be the same tensor.
_Step = Callable[[Tensor, Tensor], None]


def _in_steps(values: Tensor, steps: Sequence[_Step]) -> Tensor:
    """Values through some steps, in new memory; each block of rows through all of them."""
    out = torch.empty_like(values, memory_format=torch.contiguous_format)
    pointwise(lambda source, target: _in_turn(steps, source, target), values, out)
    return out


def _in_turn(steps: Sequence[_Step], source: Tensor, target: Tensor) -> None:
    for step in steps:
        step(source, target)
        source = target


def _to_rec709(space: ColorSpace, device: torch.device, is_moderate: bool) -> list[_Step]:
    """The steps on a GPU from code values to Rec. 709 light; none where these are the same."""
    mix = space.to_rec709
    return _to_light(space, device) + ([] if mix is None else [_mixing(mix, is_moderate)])


# --- in main memory -------------------------------------------------------------------------------


def _all_of(kernels: Sequence[Kernel]) -> _Step:
    """Kernels as one step."""

    def step(source: Tensor, target: Tensor) -> None:
        in_memory.run(kernels, _flat(source), _flat(target))

    return step


def _flat(image: Tensor) -> FloatImage:
    pixels: FloatImage = image.contiguous().numpy().reshape(-1, 3)
    return pixels


def _kernels_to_rec709(space: ColorSpace, is_moderate: bool) -> list[Kernel]:
    mix = space.to_rec709
    # A table holds no light that is near what float32 can hold, and a log none of moderate codes.
    is_moderate = is_moderate or space.curve is Curve.TABLE
    return _kernels(space, True) + ([] if mix is None else [in_memory.mixing(mix, is_moderate)])


@lru_cache(maxsize=64)
def _kernels(space: ColorSpace, to_light: bool) -> list[Kernel]:
    """From code values to light in the space's own primaries, or back; made once."""
    if space.curve is Curve.NONE:
        return []
    if space.chain is not None:
        steps = space.chain.to_light if to_light else space.chain.to_code
        return [_kernel_of(step) for step in steps]
    if space.log is not None:
        return [(in_memory.of_log if to_light else in_memory.to_log)(space.log)]
    if space.hlg is not None:
        curve = (in_memory.of_hlg if to_light else in_memory.to_hlg)(space.hlg)
    else:
        curve = in_memory.through_table(_keyed(space, to_light))
    if space.gain is None:
        return [curve]
    gain, is_bounded = space.gain, space.hlg is not None
    if to_light:
        power = in_memory.times_power(gain.exponent, gain.darkest, is_bounded=is_bounded)
        return [curve, power]
    back, least = gain.exponent_back, gain.darkest_back
    return [in_memory.times_power(back, least, is_bounded=is_bounded), curve]


def _kernel_of(step: ChainStep) -> Kernel:
    if isinstance(step, Mix):
        return in_memory.mixing(step)
    if isinstance(step, Log):
        return (in_memory.of_log if step.to_light else in_memory.to_log)(step.curve)
    if isinstance(step, Cube):
        return in_memory.cube_kernel(step)
    at = _kept_on(_CPU, step, True, lambda: _by_rows(step.channels))
    if step.is_one:
        return in_memory.through_table(at[0].numpy())
    return in_memory.by_channel([in_memory.through_table(each.numpy()) for each in at])


def _keyed(space: ColorSpace, to_light: bool) -> FloatImage:
    values = space.decode if to_light else space.encode
    assert values is not None
    kept: FloatImage = _kept_on(_CPU, space, to_light, lambda: _by_rows([values]))[0].numpy()
    return kept


def _by_rows(tables: Sequence[FloatImage]) -> FloatImage:
    """(N, 2, 2^19): values and slopes of tables, each in a row of its own."""
    return np.ascontiguousarray(np.stack([table.by_key(each).T for each in tables]))


# --- on tensors -----------------------------------------------------------------------------------


def _to_light(space: ColorSpace, device: torch.device) -> list[_Step]:
    if space.curve is Curve.NONE:
        return []
    if device.type == "cpu":
        return [_all_of(_kernels(space, True))]
    if space.chain is not None:
        return _chain(space.chain.to_light, device)
    if space.log is not None:
        return [_of_log(space.log)]
    step, gain = through_table(_table_on(device, space, to_light=True)), space.gain
    return [step] if gain is None else [step, times_power(gain.exponent, gain.darkest)]


def _to_code(space: ColorSpace, device: torch.device) -> list[_Step]:
    if device.type == "cpu":
        return [_all_of(_kernels(space, False))]
    if space.chain is not None:
        return _chain(space.chain.to_code, device)
    if space.log is not None:
        return [_to_log(space.log)]
    step, gain = through_table(_table_on(device, space, to_light=False)), space.gain
    if gain is None:
        return [step]
    return [times_power(gain.exponent_back, gain.darkest_back), step]


def mixed(light: Tensor, mix: Mix, *, is_moderate: bool = False) -> Tensor:
    """Colours (..., 3) times a matrix, in new memory; see `in_rec709`."""
    return _in_steps(light, [_mixing(mix, is_moderate)])


def _mixing(mix: Mix, is_moderate: bool = False) -> _Step:
    in_here = _all_of([in_memory.mixing(mix, is_moderate)])

    def step(source: Tensor, target: Tensor) -> None:
        if source.device.type == "cpu":
            in_here(source, target)
            return
        # Products beyond float32 would give infinity less infinity.
        if not is_moderate:
            source = source.clamp(-table.LARGEST, table.LARGEST)
        mix_on_device(source, target, mix)

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


def _chain(steps: Sequence[ChainStep], device: torch.device) -> list[_Step]:
    return [_step_of(step, device) for step in steps]


def _step_of(step: ChainStep, device: torch.device) -> _Step:
    if isinstance(step, Mix):
        return _mixing(step)
    if isinstance(step, Tables):
        return _through_tables(step, device)
    if isinstance(step, Log):
        return _of_log(step.curve) if step.to_light else _to_log(step.curve)
    return cube_on_device(step, device)


def _through_tables(tables: Tables, device: torch.device) -> _Step:
    if tables.is_one:
        first = tables.channels[0]
        return through_table(_kept_on(device, tables, True, lambda: table.by_key(first)))
    keyed = (table.by_key(each) for each in tables.channels)
    by_channel = _kept_on(device, tables, True, lambda: np.stack(list(keyed)))
    steps = [through_table(values) for values in by_channel]

    def step(source: Tensor, target: Tensor) -> None:
        for each, values, found in zip(steps, source.unbind(-1), target.unbind(-1)):
            each(values, found)

    return step


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


def times_power(exponent: float, darkest: float) -> _Step:
    def step(source: Tensor, target: Tensor) -> None:
        # The luminance in all channels, which takes less than to repeat it behind the power.
        factor = torch.empty_like(target)
        mix_on_device(source, factor, _LUMINANCE)
        factor.abs_().clamp_(darkest, table.LARGEST).log_().mul_(exponent).exp_()
        torch.mul(source, factor, out=target)
        target.clamp_(-table.LARGEST, table.LARGEST)

    return step


def through_table(at: Tensor) -> _Step:
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
