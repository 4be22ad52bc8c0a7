"""The refiner in tiles, with the pixels of the whole frame: two ways of different memory.

A tile is a core with a halo, cut at the frame's edge, where the convolutions' own zeros are the
right ones. Beyond the halo's inner edges values are wrong, and never reach the core. The group
norms need the mean and variance of the whole frame: they are counted over the cores alone, each
pixel once, before anything is normalised.

    refined_by_layers   one convolution after the other, each in tiles; three whole maps are kept;
                        with a core as large as the frame it is the quickest way for a whole frame
    refined_by_prefix   the network from its start again for each norm, then once more for the
                        result; nothing is kept but one tile

Rule: neither a norm of a tile's own, nor blended overlaps. Both look right on quiet pictures and
change the matte of others by tenths.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.greenformer.refiner import GAIN, GROUPS, Layer, Refiner
from mattebridge.models.pytorch.double import double_of

CORE = 512
# Pixels whose moments are taken at once: the copy that this needs stays small.
BAND_PIXELS = 2**16

Part = tuple[slice, slice]


class Tile(NamedTuple):
    """A core and its halo in the frame, and the core within them: rows and columns each."""

    whole: Part
    core: Part
    inner: Part


class Affine(NamedTuple):
    """A norm with known statistics: a factor and an offset by channel, (1, C, 1, 1)."""

    factor: Tensor
    offset: Tensor

    def apply_(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.offset, x, self.factor, out=x)


class Moments:
    """Count, mean and squared deviations by group, merged from parts in double precision."""

    def __init__(self, device: torch.device) -> None:
        # On the device, so that merging does not wait for it.
        self.count = 0
        self.mean = self.squares = torch.zeros(GROUPS, dtype=double_of(device), device=device)

    def add(self, x: Tensor) -> None:
        """Count in a part of the frame, (1, C, h, w) float32, a band of rows at a time."""
        rows = max(1, BAND_PIXELS // x.shape[3])
        for first in range(0, x.shape[2], rows):
            self._add_band(x[:, :, first : first + rows])

    def _add_band(self, x: Tensor) -> None:
        channels = x.shape[1]
        count = x[0].numel() // GROUPS
        mean = _by_group(x.sum(dim=(0, 2, 3))) / count
        centre = mean.to(x).repeat_interleave(channels // GROUPS).view(1, -1, 1, 1)
        squares = _by_group((x - centre).square_().sum(dim=(0, 2, 3)))
        total = self.count + count
        step = mean - self.mean
        self.mean = self.mean + step * (count / total)
        self.squares = self.squares + squares + step.square() * (self.count * count / total)
        self.count = total

    def affine(self, norm: nn.GroupNorm) -> Affine:
        """What the norm does to a frame with these moments."""
        deviation = (self.squares / self.count + norm.eps).sqrt()
        per_group = norm.num_channels // GROUPS
        mean, deviation = (each.repeat_interleave(per_group) for each in (self.mean, deviation))
        kind = double_of(mean.device)
        factor = norm.weight.to(kind) / deviation
        offset = norm.bias.to(kind) - mean * factor
        return Affine(*(each.float().view(1, -1, 1, 1) for each in (factor, offset)))


def _by_group(sums: Tensor) -> Tensor:
    return sums.to(double_of(sums.device)).view(GROUPS, -1).sum(dim=1)


def tiles_of(x: Tensor, core: int, halo: int) -> list[Tile]:
    """The tiles of a frame (1, C, H, W), row by row."""
    rows, columns = (_along(length, core, halo) for length in x.shape[-2:])
    return [Tile(*zip(row, column)) for row in rows for column in columns]


def _along(length: int, core: int, halo: int) -> list[tuple[slice, slice, slice]]:
    parts = []
    for start in range(0, length, core):
        end = min(start + core, length)
        first, last = max(start - halo, 0), min(end + halo, length)
        parts.append((slice(first, last), slice(start, end), slice(start - first, end - first)))
    return parts


def _at(x: Tensor, part: Part) -> Tensor:
    return x[:, :, part[0], part[1]]


def refined_whole(refiner: Refiner, x: Tensor, checkpoint: Checkpoint) -> Tensor:
    """As `refined_by_layers`, each convolution on the frame as a whole."""
    return refined_by_layers(refiner, x, checkpoint, max(x.shape[-2:]))


def refined_by_layers(
    refiner: Refiner, x: Tensor, checkpoint: Checkpoint, core: int = CORE
) -> Tensor:
    """The change of the logits, (1, 4, H, W), of plate and coarse probabilities, (1, 7, H, W)."""
    layers = list(refiner.layers())
    kept: Optional[Tensor] = None
    for number, layer in enumerate(layers):
        checkpoint("refine", number, len(layers))
        if layer.opens:
            kept = x
        made, moments = _convolved(layer, x, core)
        moments.affine(layer.norm).apply_(made)
        if layer.closes and kept is not None:
            made.add_(kept)
        x = made.relu_()
    change = x.new_empty(1, 4, *x.shape[-2:])
    for tile in tiles_of(x, core, 0):
        _at(change, tile.core).copy_(refiner.final(_at(x, tile.whole)))
    return change.mul_(GAIN)


def _convolved(layer: Layer, x: Tensor, core: int) -> tuple[Tensor, Moments]:
    """A convolution of the frame, tile by tile, and the moments of its result."""
    moments, tiles = Moments(x.device), tiles_of(x, core, layer.reach)
    if len(tiles) == 1:
        made = layer.conv(x)
        moments.add(made)
        return made, moments
    made = _map_like(x, layer.conv.out_channels)
    for tile in tiles:
        part = _at(layer.conv(_at(x, tile.whole)), tile.inner)
        moments.add(part)
        _at(made, tile.core).copy_(part)
    return made, moments


def _map_like(x: Tensor, channels: int) -> Tensor:
    """A map of so many channels, laid out as `x` is: a tile of another layout is copied first."""
    last = x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if last else torch.contiguous_format
    size = (x.shape[0], channels, *x.shape[-2:])
    return torch.empty(size, dtype=x.dtype, device=x.device, memory_format=layout)


def refined_by_prefix(
    refiner: Refiner, x: Tensor, checkpoint: Checkpoint, core: int = CORE
) -> Tensor:
    """As `refined_by_layers`, from the start again for each norm."""
    layers = list(refiner.layers())
    reaches = list(accumulate(layer.reach for layer in layers))
    norms: list[Affine] = []
    for number, (layer, halo) in enumerate(zip(layers, reaches)):
        moments = Moments(x.device)
        for tile in tiles_of(x, core, halo):
            checkpoint("refine", number, len(layers) + 1)
            before = _run(layers[:number], norms, _at(x, tile.whole))
            moments.add(_at(layer.conv(before), tile.inner))
        norms.append(moments.affine(layer.norm))
    change = x.new_empty(1, 4, *x.shape[-2:])
    for tile in tiles_of(x, core, reaches[-1]):
        checkpoint("refine", len(layers), len(layers) + 1)
        seen = _run(layers, norms, _at(x, tile.whole))
        _at(change, tile.core).copy_(refiner.final(_at(seen, tile.inner)))
    return change.mul_(GAIN)


def _run(layers: Sequence[Layer], norms: Sequence[Affine], x: Tensor) -> Tensor:
    """The first layers, with their norms known, on one tile."""
    kept = x
    for layer, norm in zip(layers, norms):
        if layer.opens:
            kept = x
        x = norm.apply_(layer.conv(x))
        x = functional.relu_(x.add_(kept) if layer.closes else x)
    return x
