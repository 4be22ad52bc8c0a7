"""The network of `twoplate`: alpha and foreground from two plates, trained by this project.

    plate, clean plate, hint --area shrink 1/2 or 1/4--> coarse U-net --> alpha, colour, hidden
    plate, clean plate (pixels in groups of four) + all that -----------> refiner --> full size

The coarse net sees the whole frame small and decides what belongs to the subject; the refiner sees
every pixel, and is told which alpha would explain it if the coarse colour were right: the
projection of plate - clean plate onto foreground - clean plate, in display and in (about) linear
values. It works on groups of 2x2 pixels laid out as channels, which costs a quarter of the places.

All images: (N, C, H, W) float, display-encoded RGB 0..1, any size. Letters below: I plate, B clean
plate, F foreground, a alpha.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

# Channels of the encoder at 1/2, 1/4, ... of the coarse size, and residual blocks at each.
WIDTHS = (24, 48, 80, 128, 160)
BLOCKS = (1, 2, 2, 3, 3)
# Channels that the coarse net hands to the refiner beside alpha and colour.
HIDDEN = 12
REFINER_WIDTH = 32
# Frames up to this long side are looked at in half size, larger ones in a quarter.
HALF_SIZE_UP_TO = 1000
_INPUTS = 18
# What the refiner sees of each 2x2 group: plate, difference, two projections, coarse results.
_REFINER_INPUTS = 12 + 12 + 4 + 4 + 1 + 3 + HIDDEN
_REFINER_MIDDLE = 3
# How far (in groups) a pixel's neighbours have a say in it: one per 3x3 convolution.
REFINER_REACH = _REFINER_MIDDLE + 2


class Inputs(NamedTuple):
    """What the network is given. alpha_hint, outside: (N, 1, H, W); flags: (N, 1, 1, 1), 0 or 1.

    Without a hint `alpha_hint` is 0 and `hint_given` is 0. outside: 1 where the warped clean plate
    does not cover. scene_linear: the plate is known to have been mixed in linear light.
    """

    plate: Tensor
    clean_plate: Tensor
    alpha_hint: Tensor
    hint_given: Tensor
    outside: Tensor
    scene_linear: Tensor


class Coarse(NamedTuple):
    """The coarse net's answer at its size: logit of alpha, colour (3), hidden."""

    logit: Tensor
    foreground: Tensor
    hidden: Tensor

    @property
    def alpha(self) -> Tensor:
        return opened(self.logit)


class Matte(NamedTuple):
    """The result at full size: logit, alpha and straight foreground."""

    logit: Tensor
    alpha: Tensor
    foreground: Tensor


def factor_for(height: int, width: int) -> int:
    """By how much the coarse net's picture is smaller."""
    return 2 if max(height, width) <= HALF_SIZE_UP_TO else 4


def opened(logit: Tensor) -> Tensor:
    """Alpha from its logit; reaches 0 and 1, and a little beyond while training."""
    return torch.sigmoid(logit) * 1.01 - 0.005


class TwoPlate(nn.Module):
    """The whole network; `forward` is what training and the ONNX export use."""

    def __init__(
        self, widths: tuple[int, ...] = WIDTHS, refiner_width: int = REFINER_WIDTH
    ) -> None:
        super().__init__()
        self.coarse = CoarseNet(widths)
        self.refiner = Refiner(refiner_width)

    def forward(self, given: Inputs, factor: int) -> tuple[Coarse, Matte]:
        """The coarse result (at 1/factor) and the matte, of the size of the input."""
        height, width = given.plate.shape[2:]
        given = padded(given, factor)
        coarse = self.coarse_only(given, factor)
        matte = self.refiner(given.plate, given.clean_plate, coarse, factor)
        return coarse, Matte(*(plane[:, :, :height, :width] for plane in matte))

    def coarse_only(self, given: Inputs, factor: int) -> Coarse:
        """The first half of the work; sizes are multiples of the factor."""
        coarse: Coarse = self.coarse(small_inputs(given, factor))
        return coarse


def from_state(state: Mapping[str, Tensor]) -> TwoPlate:
    """An empty network of the shape that the weights have, on the meta device."""
    stages = 0
    while f"coarse.down.{stages}.0.weight" in state:
        stages += 1
    widths = tuple(len(state[f"coarse.down.{stage}.0.weight"]) for stage in range(stages))
    refiner = state.get("refiner.enter.weight")
    with torch.device("meta"):
        return TwoPlate(widths or WIDTHS, REFINER_WIDTH if refiner is None else len(refiner))


# --- coarse ---------------------------------------------------------------------------------------


def padded(given: Inputs, multiple: int) -> Inputs:
    """Right and bottom edges repeated to a multiple; flags stay."""
    height, width = given.plate.shape[2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return given

    def grown(plane: Tensor) -> Tensor:
        return functional.pad(plane, (0, right, 0, bottom), mode="replicate")

    return given._replace(
        plate=grown(given.plate),
        clean_plate=grown(given.clean_plate),
        alpha_hint=grown(given.alpha_hint),
        outside=grown(given.outside),
    )


def small_inputs(given: Inputs, factor: int) -> Tensor:
    """The 18 channels that the coarse net looks at, (N, 18, H / factor, W / factor).

    The logarithm of I / B is the same in all channels where a shadow falls; the mean of |I - B|
    tells fine texture and grain, which shrinking has removed, from a real difference.
    """
    plate, clean = (
        functional.avg_pool2d(plane, factor) for plane in (given.plate, given.clean_plate)
    )
    detail = (given.plate - given.clean_plate).abs().mean(1, keepdim=True)
    away = plate - clean
    ratio = torch.log((plate + 0.04) / (clean + 0.04)).clamp(-2, 2)
    flat = torch.ones_like(plate[:, :1])
    return torch.cat(
        [
            plate,
            clean,
            3 * away,
            3 * (away.square().mean(1, keepdim=True) + 1e-8).sqrt().clamp_max(1),
            ratio,
            3 * functional.avg_pool2d(detail, factor),
            functional.avg_pool2d(given.alpha_hint, factor),
            flat * given.hint_given,
            functional.avg_pool2d(given.outside, factor),
            flat * given.scene_linear,
        ],
        1,
    )


class CoarseNet(nn.Module):
    """A U-net over the small picture, with a branch that sees its mean."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.depth = len(widths)
        self.down = nn.ModuleList()
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        above = _INPUTS
        for width, blocks in zip(widths, BLOCKS):
            self.down.append(_stage(above, width, blocks))
            above = width
        self.everywhere = nn.Conv2d(above, above, 1)
        for width in reversed(widths[:-1]):
            self.up.append(_conv(above, width, 1))
            self.merge.append(_conv(2 * width, width, 3))
            above = width
        self.last = nn.Sequential(
            _conv(above + _INPUTS, 32, 3), nn.Conv2d(32, 1 + 3 + HIDDEN, 3, padding=1)
        )

    def forward(self, inputs: Tensor) -> Coarse:
        """From 18 channels of any size; the size inside is a multiple of 2**depth."""
        height, width = inputs.shape[2:]
        multiple = 2**self.depth
        inputs = functional.pad(
            inputs, (0, -width % multiple, 0, -height % multiple), mode="replicate"
        )
        skips, x = [], inputs
        for stage in self.down:
            x = stage(x)
            skips.append(x)
        x = x + functional.relu(self.everywhere(x.mean((2, 3), keepdim=True)))
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1])):
            x = merge(torch.cat([_twice(up(x)), skip], 1))
        # In full precision: half of it could not tell .996 from 1.
        out = self.last(torch.cat([_twice(x), inputs], 1))[:, :, :height, :width].float()
        foreground = inputs[:, :3, :height, :width] + out[:, 1:4]
        return Coarse(out[:, :1], foreground, out[:, 4:])


def _conv(
    above: int, width: int, size: int, stride: int = 1, *, rectified: bool = True
) -> nn.Sequential:
    layers = [nn.Conv2d(above, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if rectified else []))


def _stage(above: int, width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*_conv(above, width, 3, 2), *(_Residual(width) for _ in range(blocks)))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width, 3)
        self.second = _conv(width, width, 3, rectified=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


# --- full size ------------------------------------------------------------------------------------


class Refiner(nn.Module):
    """Corrects alpha and colour at every pixel; starts by changing nothing."""

    def __init__(self, width: int = REFINER_WIDTH) -> None:
        super().__init__()
        self.enter = nn.Conv2d(_REFINER_INPUTS, width, 3, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(_REFINER_MIDDLE)
        )
        self.leave = nn.Conv2d(width, 16, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]

    def forward(self, plate: Tensor, clean_plate: Tensor, coarse: Coarse, factor: int) -> Matte:
        """All of the frame at once; sizes are multiples of the factor."""
        half = enlarged(coarse, factor // 2)
        change = self.change(plate, clean_plate, half)
        return finished(plate, clean_plate, half, change)

    def change(self, plate: Tensor, clean_plate: Tensor, half: Coarse) -> Tensor:
        """(N, 4, H, W): what to add to the logit (by four) and to the colour."""
        x = functional.relu(self.enter(refiner_inputs(plate, clean_plate, half)))
        for conv in self.middle:
            x = x + functional.relu(conv(x))
        return functional.pixel_shuffle(self.leave(x), 2).float()


def enlarged(coarse: Coarse, times: int) -> Coarse:
    """The coarse result at half of the frame's size."""
    if times == 1:
        return coarse
    return Coarse(
        *(
            functional.interpolate(
                plane, scale_factor=float(times), mode="bilinear", align_corners=False
            )
            for plane in coarse
        )
    )


def refiner_inputs(plate: Tensor, clean_plate: Tensor, half: Coarse) -> Tensor:
    """The channels of each 2x2 group, (N, 48, H / 2, W / 2)."""
    # Group first, colour second: (N, 3, 4, h, w) keeps the four pixels of a group apart.
    shape = (plate.shape[0], 3, 4, plate.shape[2] // 2, plate.shape[3] // 2)
    groups = functional.pixel_unshuffle(plate, 2)
    clean_groups = functional.pixel_unshuffle(clean_plate, 2)
    colour = half.foreground.clamp(0, 1)[:, :, None]
    seen, clean = groups.reshape(shape), clean_groups.reshape(shape)
    return torch.cat(
        [
            groups,
            groups - clean_groups,
            projected(seen, clean, colour),
            # Squares are close enough to linear light.
            projected(seen.square(), clean.square(), colour.square()),
            half.alpha,
            half.foreground,
            half.hidden,
        ],
        1,
    )


def projected(plate: Tensor, clean_plate: Tensor, foreground: Tensor) -> Tensor:
    """The alpha that explains the plate best, given both colours: <I-B, F-B> / |F-B|**2."""
    toward = foreground - clean_plate
    along = ((plate - clean_plate) * toward).sum(1)
    return (along / (toward.square().sum(1) + 0.003)).clamp(-0.2, 1.2)


def finished(plate: Tensor, clean_plate: Tensor, half: Coarse, change: Tensor) -> Matte:
    """Alpha and colour at full size from the coarse ones and the refiner's change.

    The colour is first moved to where I = a F + (1 - a) B holds as far as a allows: where a is 1 it
    is the plate's, where a is 0 it stays the coarse one.
    """
    logit = _twice(half.logit) + 4 * change[:, :1]
    alpha = opened(logit)
    colour = _twice(half.foreground)
    share = alpha.clamp(0, 1)
    missing = plate - share * colour - (1 - share) * clean_plate
    colour = colour + 1.1 * share / (share.square() + 0.1) * missing + change[:, 1:]
    return Matte(logit, alpha, colour)


def clamped(matte: Matte) -> Matte:
    """What leaves the network when it is not trained."""
    return matte._replace(alpha=matte.alpha.clamp(0, 1), foreground=matte.foreground.clamp(0, 1))


def inputs_of(
    plate: Tensor,
    clean_plate: Tensor,
    alpha_hint: Optional[Tensor] = None,
    outside: Optional[Tensor] = None,
    *,
    scene_linear: bool = False,
) -> Inputs:
    """Inputs of (N, 3, H, W) plates, with what is absent filled in."""
    nothing = torch.zeros_like(plate[:, :1])
    flag = torch.ones_like(plate[:, :1, :1, :1])
    return Inputs(
        plate,
        clean_plate,
        nothing if alpha_hint is None else alpha_hint,
        flag * float(alpha_hint is not None),
        nothing if outside is None else outside,
        flag * float(scene_linear),
    )
