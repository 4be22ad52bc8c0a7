"""From the backbone's maps back to the picture: context at several scales, then four steps up.

`ContextPyramid` (published name: ASPP) convolves the coarsest map with several dilations and adds
its mean; `Decoder` doubles the size four times and joins the backbone's map of that size at each
step. It ends in 37 channels at the size of the backbone's input:

    0       alpha
    1..3    foreground residual: foreground - plate
    4       error: how wrong the alpha is expected to be here
    5..36   hidden features for the refiner

Module names are those of the published state dicts. Sources: Chen et al., "Rethinking Atrous
Convolution for Semantic Image Segmentation" (2017); Lin et al., "Real-Time High-Resolution
Background Matting" (2021).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

CONTEXT_CHANNELS = 256
DILATIONS = (3, 6, 9)
# Channels after each step up; the last is alpha 1, residual 3, error 1, hidden 32.
DECODER_CHANNELS = (128, 64, 48, 37)
ALPHA, RESIDUAL, ERROR, HIDDEN = slice(0, 1), slice(1, 4), slice(4, 5), slice(5, 37)


class ContextPyramid(nn.Module):
    """The coarsest map with dilations 1, 3, 6, 9, and its mean: (N, 256, h, w)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        dilated = [_conv_bn_relu(inputs, 3, dilation) for dilation in DILATIONS]
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), *_conv_bn_relu(inputs, 1))
        self.convs = nn.ModuleList([_conv_bn_relu(inputs, 1), *dilated, pooled])
        joined = CONTEXT_CHANNELS * len(self.convs)
        # Dropout acts in training only; here it keeps the published indices of the list.
        self.project = nn.Sequential(*_conv_bn_relu(joined, 1), nn.Dropout(0.5))

    def forward(self, x: Tensor) -> Tensor:
        *local, pooled = [branch(x) for branch in self.convs]
        everywhere = functional.interpolate(pooled, size=x.shape[-2:], mode="bilinear")
        return self.project(torch.cat([*local, everywhere], dim=1))


def _conv_bn_relu(inputs: int, kernel: int, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(
        inputs, CONTEXT_CHANNELS, kernel, padding=padding, dilation=dilation, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(CONTEXT_CHANNELS), nn.ReLU(inplace=True))


class Decoder(nn.Module):
    """Four steps from stride 16 to stride 1; `channels` are the backbone's, finest first."""

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        full, half, quarter, eighth = channels[:4]
        first, second, third, last = DECODER_CHANNELS
        self.conv1 = nn.Conv2d(CONTEXT_CHANNELS + eighth, first, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = nn.Conv2d(first + quarter, second, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(second)
        self.conv3 = nn.Conv2d(second + half, third, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(third)
        self.conv4 = nn.Conv2d(third + full, last, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, context: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(N, 37, H, W) from the context and the backbone's maps, finest first."""
        x = self.to_half_size(context, maps)
        return self.conv4(upsample_and_join(x, maps[0]))

    def to_half_size(self, context: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """(N, 48, H/2, W/2): all steps but the last."""
        _, half, quarter, eighth = maps[:4]
        x = self.relu(self.bn1(self.conv1(upsample_and_join(context, eighth))))
        x = self.relu(self.bn2(self.conv2(upsample_and_join(x, quarter))))
        return self.relu(self.bn3(self.conv3(upsample_and_join(x, half))))


def upsample_and_join(x: Tensor, skip: Tensor) -> Tensor:
    """`x` resized to the exact size of `skip` (odd sizes too), then both joined, `x` first."""
    grown = functional.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([grown, skip], dim=1)
