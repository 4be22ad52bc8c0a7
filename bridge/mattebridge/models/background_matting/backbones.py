"""The backbones of the BackgroundMattingV2 networks, on a plate and its clean plate, six channels.

A backbone makes from the pair (RGB + RGB, display-encoded 0..1, no normalisation) five maps of
strides 1, 2, 4, 8 and 16: the input itself first, then deeper and coarser ones. The deepest map
keeps stride 16: where the classifier these networks come from would shrink a fifth time, the
3x3 convolutions are dilated instead.

    stride        1      2       4       8       16
    ResNet        6      64      256     512     2048     channels
    MobileNetV2   6      16      24      32      320

Module names are those of the published state dicts, which are torchvision's; torchvision itself
is not needed. Sources: He et al., "Deep Residual Learning for Image Recognition" (2016), with
the stride on the 3x3 convolution; Sandler et al., "MobileNetV2" (2018); Chen et al., "Rethinking
Atrous Convolution" (2017) for the dilation; Lin et al., "Real-Time High-Resolution Background
Matting" (2021) for the six channels and the maps taken.
"""

from __future__ import annotations

from typing import Union

import torch
from torch import Tensor, nn

BACKBONES = ("resnet50", "resnet101", "mobilenetv2")

# Bottlenecks in each of the four layers.
RESNET_BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
EXPANSION = 4

# (expansion, channels, blocks, stride of the first block) from the paper's table 2, without the
# classifier's last 1x1 convolution.
MOBILENET_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# The stage whose stride of 2 would lead to stride 32: it and what follows are dilated instead.
MOBILENET_DILATED_FROM = 5
# Blocks after which a map leaves: strides 2, 4, 8 and 16.
MOBILENET_TAPS = (1, 3, 6, 17)


def make_backbone(name: str) -> Union[ResNetBackbone, MobileNetV2Backbone]:
    """The backbone of that name, with random weights; `ValueError` for any other name."""
    if name in RESNET_BLOCKS:
        return ResNetBackbone(RESNET_BLOCKS[name])
    if name == "mobilenetv2":
        return MobileNetV2Backbone()
    raise ValueError(f"backbone is one of {', '.join(BACKBONES)}; got {name!r}")


class ResNetBackbone(nn.Module):
    """ResNet-50 or -101 on six channels, last layer dilated, without pooling and classifier."""

    channels = (6, 64, 256, 512, 2048)

    def __init__(self, blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _resnet_layer(64, 64, blocks[0])
        self.layer2 = _resnet_layer(256, 128, blocks[1], stride=2)
        self.layer3 = _resnet_layer(512, 256, blocks[2], stride=2)
        self.layer4 = _resnet_layer(1024, 512, blocks[3], dilation=2)

    @property
    def first_conv(self) -> nn.Conv2d:
        """The only convolution whose input is the pair itself."""
        return self.conv1

    def forward(self, pair: Tensor) -> list[Tensor]:
        """Five maps, strides 1 to 16, from (N, 6, H, W)."""
        return self.after_first_conv(pair, self.conv1(pair))

    def after_first_conv(self, pair: Tensor, x: Tensor) -> list[Tensor]:
        """The same five maps, given the result of the first convolution on the pair."""
        half = self.relu(self.bn1(x))
        quarter = self.layer1(self.maxpool(half))
        eighth = self.layer2(quarter)
        sixteenth = self.layer4(self.layer3(eighth))
        return [pair, half, quarter, eighth, sixteenth]


class Bottleneck(nn.Module):
    """1x1 to fewer channels, 3x3 (with the stride), 1x1 to four times as many, plus the input."""

    def __init__(
        self, inputs: int, width: int, *, stride: int = 1, dilation: int = 1, reshape: bool
    ) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(
            width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _projection(inputs, outputs, stride) if reshape else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


def _resnet_layer(
    inputs: int, width: int, blocks: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    # The first block changes size and channels; it is never dilated itself.
    first = Bottleneck(inputs, width, stride=stride, reshape=True)
    outputs = width * EXPANSION
    rest = [Bottleneck(outputs, width, dilation=dilation, reshape=False) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class MobileNetV2Backbone(nn.Module):
    """MobileNetV2 on six channels, last two stages dilated, without the classifier."""

    channels = (6, 16, 24, 32, 320)

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn_relu6(6, 32, stride=2)]
        inputs, dilation = 32, 1
        for stage, (expansion, outputs, blocks, stride) in enumerate(MOBILENET_STAGES):
            for block in range(blocks):
                step = stride if block == 0 and stage < MOBILENET_DILATED_FROM else 1
                layers.append(
                    InvertedResidual(inputs, outputs, expansion, stride=step, dilation=dilation)
                )
                inputs = outputs
                # The block whose stride was taken away keeps dilation 1; all behind it are dilated.
                dilation = 2 if stage >= MOBILENET_DILATED_FROM else 1
        self.features = nn.Sequential(*layers)

    @property
    def first_conv(self) -> nn.Conv2d:
        """The only convolution whose input is the pair itself."""
        return self.features[0][0]  # type: ignore[index]

    def forward(self, pair: Tensor) -> list[Tensor]:
        """Five maps, strides 1 to 16, from (N, 6, H, W)."""
        return self.after_first_conv(pair, self.first_conv(pair))

    def after_first_conv(self, pair: Tensor, x: Tensor) -> list[Tensor]:
        """The same five maps, given the result of the first convolution on the pair."""
        maps = [pair]
        for index, block in enumerate(self.features):
            x = block[1:](x) if index == 0 else block(x)  # type: ignore[index]
            if index in MOBILENET_TAPS:
                maps.append(x)
        return maps


class InvertedResidual(nn.Module):
    """1x1 to more channels, depthwise 3x3, linear 1x1 to few; plus the input where sizes agree."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, *, stride: int, dilation: int
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(_conv_bn_relu6(inputs, hidden, kernel=1))
        layers += [
            _conv_bn_relu6(hidden, hidden, stride=stride, dilation=dilation, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds_input = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.adds_input else out


def _conv_bn_relu6(
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


def pair_channels(plate: Tensor, clean_plate: Tensor) -> Tensor:
    """(N, 6, H, W): plate RGB, then clean plate RGB, as every backbone wants it."""
    return torch.cat([plate, clean_plate], dim=1)
