"""The refiner: what is added to the coarse logits, computed at full size from plate and coarse.

    plate, coarse (7) --3x3--> GN, ReLU --4 blocks, dilation 1, 2, 4, 8--> 1x1 --> x 10 (4)

A block: 3x3, GN, ReLU, 3x3, GN, + what came in, ReLU. A pixel sees its surroundings up to 31 pixels
away, and, by way of the group norms, the whole frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint, no_checkpoint

CHANNELS, GROUPS = 64, 8
DILATIONS = (1, 2, 4, 8)
# What the last layer gives is multiplied by this: published weights were trained so.
GAIN = 10.0


class Refiner(nn.Module):
    """The published refiner."""

    def __init__(self) -> None:
        super().__init__()
        first, norm = nn.Conv2d(7, CHANNELS, 3, padding=1), nn.GroupNorm(GROUPS, CHANNELS)
        self.stem = nn.Sequential(first, norm, nn.ReLU())
        self.res1, self.res2, self.res3, self.res4 = (ResidualBlock(d) for d in DILATIONS)
        self.final = nn.Conv2d(CHANNELS, 4, 1)

    def forward(
        self, plate: Tensor, coarse: Tensor, checkpoint: Checkpoint = no_checkpoint
    ) -> Tensor:
        """The change of the logits, (B, 4, S, S), alpha first.

        plate: (B, 3, S, S) normalised. coarse: (B, 4, S, S) probabilities, alpha first.
        `checkpoint("refine")` is called before each block.
        """
        x = self.stem(torch.cat([plate, coarse], dim=1))
        for number, block in enumerate(self.blocks):
            checkpoint("refine", number, len(self.blocks))
            x = block(x)
        change: Tensor = self.final(x) * GAIN
        return change

    @property
    def blocks(self) -> tuple[ResidualBlock, ...]:
        return self.res1, self.res2, self.res3, self.res4

    def layers(self) -> Iterator[Layer]:
        """The nine convolutions in order, each with the norm behind it."""
        first, norm, _ = self.stem
        assert isinstance(first, nn.Conv2d)
        assert isinstance(norm, nn.GroupNorm)
        yield Layer(first, norm, opens=False, closes=False)
        for block in self.blocks:
            yield Layer(block.conv1, block.gn1, opens=True, closes=False)
            yield Layer(block.conv2, block.gn2, opens=False, closes=True)


class Layer(NamedTuple):
    """A convolution and its norm. opens, closes: it is the first or last of a residual block."""

    conv: nn.Conv2d
    norm: nn.GroupNorm
    opens: bool
    closes: bool

    @property
    def reach(self) -> int:
        """How many pixels to each side the convolution sees."""
        return int(self.conv.dilation[0])


class ResidualBlock(nn.Module):
    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.conv1 = _convolution(dilation)
        self.gn1 = nn.GroupNorm(GROUPS, CHANNELS)
        self.conv2 = _convolution(dilation)
        self.gn2 = nn.GroupNorm(GROUPS, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.gn1(self.conv1(x)))
        return functional.relu(self.gn2(self.conv2(inner)) + x)


def _convolution(dilation: int) -> nn.Conv2d:
    return nn.Conv2d(CHANNELS, CHANNELS, 3, padding=dilation, dilation=dilation)
