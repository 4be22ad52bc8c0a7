"""The network of `twoplate`, trained by this project: it corrects the matte of the classical keyer.

    plate, clean plate, hint, the keyer's matte
        --area shrink 1/2 or 1/4--> coarse U-net ----> change of alpha and colour, hidden
        --pixels in groups of four, with all that----> refiner --> change at every pixel

`difference` (`models/difference/`) mattes the frame first; its alpha and colour are inputs here,
and the network's results are added to them: with weights of zero the keyer's matte is not changed.
The input of the coarse net is the whole frame, small; it decides what belongs to the subject. The
input of the refiner is every pixel, and the alpha that would explain it if the colour were right:
the projection of plate - clean plate onto foreground - clean plate, in display and in (about)
linear values. The refiner works on groups of 2x2 pixels as channels, a quarter of the positions.

This is the version `correction`. `gated` has the next one, which keeps most of it; `versions` tells
by the weights which one they are of.

All images: (N, C, H, W) float, display-encoded RGB 0..1, any size. Letters below: I plate, B clean
plate, F foreground, a alpha.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from mattebridge.models.pytorch.pixels import between
from mattebridge.models.pytorch.threads import sigmoid
from mattebridge.models.twoplate.resampling import all_smaller, around, larger, smaller

# Channels of the encoder at 1/2, 1/4, ... of the coarse size, and residual blocks at each.
WIDTHS = (24, 48, 80, 128, 160)
BLOCKS = (1, 2, 2, 3, 3)
# Channels that the coarse net hands to the refiner beside alpha and colour.
HIDDEN = 12
REFINER_WIDTH = 32
# The coarse net computes frames up to this long side at half size, larger ones at a quarter.
HALF_SIZE_UP_TO = 1000
INPUTS = 29
# The refiner's input of each 2x2 group: plate, difference, two projections, the keyer's alpha and
# the coarse net's, the keyer's colour around the group's mean, coarse results.
REFINER_INPUTS = 12 + 12 + 4 + 4 + 4 + 4 + 12 + 1 + 3 + HIDDEN
# The factor of the last layers, of the coarse net and of the refiner, in the logit of alpha.
LOGIT_STEP = 4.0
# Alpha nearer to 0 or 1 than this is sure; an error above `WRONG` is visible.
SURE = 0.004
WRONG = 0.02
_REFINER_MIDDLE = 3
# From how far (in groups) neighbours influence a pixel: one per 3x3 convolution.
REFINER_REACH = _REFINER_MIDDLE + 2


class Inputs(NamedTuple):
    """The inputs of the network. Flags: (N, 1, 1, 1), 0 or 1; other planes (N, 1, H, W).

    keyed_alpha, keyed_foreground (N, 3, H, W): the keyer's matte of this frame, straight. Without a
    hint `alpha_hint` is 0 and `hint_given` is 0. outside: 1 where the warped clean plate does not
    cover. scene_linear: the plate is known to have been mixed in linear light. wide_alpha: the
    keyer's alpha with a wider band, for the versions that take it; a single 0 for the others.
    """

    plate: Tensor
    clean_plate: Tensor
    keyed_alpha: Tensor
    keyed_foreground: Tensor
    alpha_hint: Tensor
    hint_given: Tensor
    outside: Tensor
    scene_linear: Tensor
    wide_alpha: Tensor


class Change(NamedTuple):
    """The coarse net's result at its size: what to add to logit and colour (3), hidden, and doubt.

    logit: in its first channel; a version may hand on more about alpha in others.

    doubt: the logit of the probability that the resulting alpha is wrong by more than `WRONG`.
    """

    logit: Tensor
    foreground: Tensor
    hidden: Tensor
    doubt: Tensor


class NetworkMatte(NamedTuple):
    """The result at full size: logit, alpha and straight foreground."""

    logit: Tensor
    alpha: Tensor
    foreground: Tensor


def opened(logit: Tensor) -> Tensor:
    """Alpha from its logit; reaches 0 and 1, and a little beyond while training."""
    return sigmoid(logit) * 1.01 - 0.005


def closed(alpha: Tensor) -> Tensor:
    """The logit of an alpha 0..1; the inverse of `opened`."""
    alpha = alpha.clamp(0, 1)
    return torch.log((alpha + 0.005) / (1.005 - alpha))


class TwoPlate(nn.Module):
    """The whole network; `forward` is used by training and the ONNX export.

    A version of the network overrides what is different. `version`: its name. takes_wide: its input
    has the keyer's alpha with a wider band. strands_put_back: single hairs become fog in its matte,
    and are put back after it (`strands`).
    """

    version = "correction"
    takes_wide = False
    strands_put_back = True

    def __init__(
        self, widths: tuple[int, ...] = WIDTHS, refiner_width: int = REFINER_WIDTH
    ) -> None:
        super().__init__()
        self.coarse = CoarseNet(widths)
        self.refiner = Refiner(refiner_width)

    def forward(self, given: Inputs, factor: int) -> tuple[NetworkMatte, NetworkMatte]:
        """The coarse matte (at 1/factor) and the matte, of the size of the input."""
        height, width = given.plate.shape[2:]
        given = padded(given, factor)
        change = self.coarse(self.small_inputs(given, factor))
        matte = self.refine(given, enlarged(change, factor // 2))
        return coarse_matte(given, change, factor), NetworkMatte(
            *(plane[:, :, :height, :width] for plane in matte)
        )

    def factor_for(self, height: int, width: int) -> int:
        """How many times smaller the coarse net's picture of a frame is."""
        return 2 if max(height, width) <= HALF_SIZE_UP_TO else 4

    def small_inputs(self, given: Inputs, factor: int) -> Tensor:
        """The coarse net's input, (N, C, H / factor, W / factor)."""
        return self.looked_at(given, all_smaller(self.to_shrink(given), factor))

    def to_shrink(self, given: Inputs) -> list[Tensor]:
        """The planes at full size of which the coarse net sees the means."""
        return to_shrink(given)

    def looked_at(self, given: Inputs, small: Tensor) -> Tensor:
        """The coarse net's input, from all of a frame's planes to shrink, shrunk."""
        return looked_at(given, small)

    def refine(self, given: Inputs, half: Change) -> NetworkMatte:
        """The matte of a frame, or of some rows; `half` is the coarse change at half their size."""
        logit = twice(half.logit)
        x = self.refiner_inputs(given, half, coarse_alpha(given, logit))
        fine = self.of_pixels(given, x, self.refiner(x))
        return self.finished(given, logit, twice(half.foreground), fine)

    def refiner_inputs(self, given: Inputs, half: Change, alpha: Tensor) -> Tensor:
        """The channels of each 2x2 group; alpha: the coarse net's, at full size."""
        return refiner_inputs(given, half, alpha)

    def of_pixels(self, given: Inputs, x: Tensor, answer: Tensor) -> Tensor:
        """What `finished` needs of every pixel, from input and answer of the refiner, by groups."""
        return functional.pixel_shuffle(answer, 2).float()

    def finished(
        self, given: Inputs, logit: Tensor, colour: Tensor, fine: Optional[Tensor]
    ) -> NetworkMatte:
        """The matte from the coarse changes, enlarged to full size, and the refiner's answer;
        without `fine`, that of the coarse net alone."""
        logit = closed(given.keyed_alpha) + logit[:, :1]
        if fine is None:
            return coloured(given, logit, opened(logit), colour, None)
        logit = logit + LOGIT_STEP * fine[:, :1]
        return coloured(given, logit, opened(logit), colour, fine[:, 1:])

    def unsure(self, given: Inputs) -> Tensor:
        """Where the keyer's matte is neither set nor subject."""
        return is_unsure(given.keyed_alpha)


# --- coarse ---------------------------------------------------------------------------------------


def padded(given: Inputs, multiple: int) -> Inputs:
    """Right and bottom edges repeated to a multiple; flags stay."""
    height, width = given.plate.shape[2:]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return given

    def grown(plane: Tensor) -> Tensor:
        return functional.pad(plane, (0, right, 0, bottom), mode="replicate")

    return each_plane(given, grown)


def each_plane(given: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """The inputs with every plane changed; flags, which are a single pixel, are not."""
    return Inputs(*(plane if plane.shape[2] == 1 else change(plane) for plane in given))


def is_unsure(alpha: Tensor) -> Tensor:
    """Where alpha is neither 0 nor 1, nor nearly."""
    return between(alpha, SURE, 1 - SURE)


def to_shrink(given: Inputs) -> list[Tensor]:
    """The planes that the coarse net's input is made from: 15 channels, each (N, C, H, W)."""
    alpha, colour = given.keyed_alpha, given.keyed_foreground
    return [
        given.plate,
        given.clean_plate,
        (given.plate - given.clean_plate).abs().mean(1, keepdim=True),
        alpha,
        is_unsure(alpha).float(),
        alpha * (colour - given.plate),
        unexplained(given, alpha, colour).abs().mean(1, keepdim=True),
        given.alpha_hint,
        given.outside,
    ]


def looked_at(given: Inputs, small: Tensor, *more: Tensor) -> Tensor:
    """The 29 channels of the coarse net's input, from the planes `to_shrink`, shrunk; and more.

    The logarithm of I / B is the same in all channels where a shadow falls; the mean of |I - B|
    separates fine texture and grain, which shrinking has removed, from a real difference. Of the
    keyer's matte: alpha, where it was unsure, what it took from the plate's colour, and how much of
    the plate it does not explain. Last, whether the set's texture is visible.
    """
    plate, clean, detail = small[:, :3], small[:, 3:6], small[:, 6:7]
    keyed, unsure, taken, left = small[:, 7:8], small[:, 8:9], small[:, 9:12], small[:, 12:13]
    away = plate - clean
    flat = torch.ones_like(plate[:, :1])
    return torch.cat(
        [
            plate,
            clean,
            3 * away,
            3 * (away.square().mean(1, keepdim=True) + 1e-8).sqrt().clamp_max(1),
            torch.log((plate + 0.04) / (clean + 0.04)).clamp(-2, 2),
            3 * detail,
            small[:, 13:14],
            flat * given.hint_given,
            small[:, 14:15],
            flat * given.scene_linear,
            keyed,
            unsure,
            3 * taken,
            5 * left,
            set_showing(plate, clean),
            *more,
        ],
        1,
    )


def set_showing(plate: Tensor, clean_plate: Tensor) -> Tensor:
    """Whether the set's texture is in the plate, (N, 5, h, w); convolutions cannot compute this.

    Over 5x5: the slope of plate over clean plate, which is 1 - coverage whatever the colour in
    front, and how much texture there is to measure it by. Over 3x3 and 7x7: their correlation. Over
    3x3: the logarithm of their difference relative to the texture of both, low only where they are
    the same.
    """
    seen, empty = (picture - around(picture, 5) for picture in (plate, clean_plate))
    both, of_seen, of_empty = (
        (first * second).sum(1, keepdim=True)
        for first, second in ((seen, empty), (seen, seen), (empty, empty))
    )
    apart = (plate - clean_plate).square().sum(1, keepdim=True)

    def correlation(size: int) -> Tensor:
        power = (around(of_seen, size) + 1e-5) * (around(of_empty, size) + 1e-5)
        return around(both, size) / power.sqrt()

    texture = around(of_empty, 5)
    slope = (around(both, 5) / (texture + 1e-4)).clamp(-0.5, 1.5)
    unlike = (around(apart, 3) + 1e-4) / (around(of_seen + of_empty, 3) + 1e-4)
    return torch.cat(
        [
            slope,
            5 * (texture + 1e-8).sqrt(),
            correlation(3),
            correlation(7),
            0.5 * unlike.log().clamp(-4, 4),
        ],
        1,
    )


def unexplained(given: Inputs, alpha: Tensor, colour: Tensor) -> Tensor:
    """What is left of the plate: I - a F - (1 - a) B."""
    left = torch.addcmul(given.plate, alpha, colour, value=-1)
    return torch.addcmul(left, 1 - alpha, given.clean_plate, value=-1)


def coarse_matte(given: Inputs, change: Change, factor: int) -> NetworkMatte:
    """The keyer's matte, shrunk, with the coarse net's change; for training."""
    alpha, colour = (
        functional.avg_pool2d(plane, factor)
        for plane in (given.keyed_alpha, given.keyed_foreground)
    )
    logit = closed(alpha) + change.logit[:, :1]
    return NetworkMatte(logit, opened(logit), colour + change.foreground)


def coarse_alpha(given: Inputs, logit: Tensor) -> Tensor:
    """The coarse net's alpha at full size; logit: its change, enlarged."""
    return opened(closed(given.keyed_alpha) + logit[:, :1])


class CoarseNet(nn.Module):
    """A U-net over the small picture, with a branch for its mean."""

    def __init__(self, widths: tuple[int, ...], inputs: int = INPUTS) -> None:
        super().__init__()
        self.depth = len(widths)
        self.down = nn.ModuleList()
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        above = inputs
        for width, blocks in zip(widths, BLOCKS):
            self.down.append(_stage(above, width, blocks))
            above = width
        self.everywhere = nn.Conv2d(above, above, 1)
        for width in reversed(widths[:-1]):
            self.up.append(_conv(above, width, 1))
            self.merge.append(_conv(2 * width, width, 3))
            above = width
        answer = nn.Conv2d(32, 1 + 3 + HIDDEN + 1, 3, padding=1)
        with torch.no_grad():
            answer.weight[:4].zero_()
            answer.bias[:4].zero_()  # type: ignore[index]
        self.last = nn.Sequential(_conv(above + inputs, 32, 3), answer)

    def forward(self, inputs: Tensor) -> Change:
        """From the channels of its input, of any size; inside, it is a multiple of 2**depth."""
        height, width = inputs.shape[2:]
        inputs = inputs.to(self.everywhere.weight.dtype)
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
            x = merge(torch.cat([twice(up(x)), skip], 1))
        # In float32: half precision cannot separate .996 from 1.
        out = self.last(torch.cat([twice(x), inputs], 1))[:, :, :height, :width].float()
        return Change(LOGIT_STEP * out[:, :1], out[:, 1:4], out[:, 4:-1], out[:, -1:])


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


def twice(x: Tensor) -> Tensor:
    return larger(x, 2)


# --- full size ------------------------------------------------------------------------------------


class Refiner(nn.Module):
    """Corrects alpha and colour at every pixel; starts by changing nothing."""

    def __init__(self, width: int = REFINER_WIDTH, inputs: int = REFINER_INPUTS) -> None:
        super().__init__()
        self.enter = nn.Conv2d(inputs, width, 3, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(_REFINER_MIDDLE)
        )
        self.leave = starting_at_zero(nn.Conv2d(width, 16, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """The answer for each 2x2 group, the channels of a pixel for `pixel_shuffle`; x: (N, C, h,
        w), of the whole frame or some rows of it."""
        x = x.to(self.enter.weight.dtype)
        x = functional.relu(self.enter(x))
        for conv in self.middle:
            x = x + functional.relu(conv(x))
        return functional.conv2d(x, *self.answer(), padding=1)

    def inner(self, x: Tensor, inside: Optional[Tensor]) -> Tensor:
        """The layers on a window that has `REFINER_REACH` more groups on each side than the result.

        x: (N, C, h, w), from `refiner_inputs`. inside: (N, 1, h, w), 1 in the frame and 0 beyond
        it, where everything is 0 before each layer; None where all of it is in the frame. Not for
        training: layers are computed in place.
        """

        def seen(values: Tensor, margin: int) -> Tensor:
            if inside is None:
                return values
            height, width = inside.shape[2:]
            return values.mul_(inside[:, :, margin : height - margin, margin : width - margin])

        x = seen(_without_edge(self.enter, seen(x.to(self.enter.weight.dtype), 0)).relu_(), 1)
        for done, conv in enumerate(self.middle, 2):
            x = seen(_without_edge(conv, x).relu_().add_(x[:, :, 1:-1, 1:-1]), done)
        return functional.conv2d(x, *self.answer())

    def answer(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the last layer."""
        assert self.leave.bias is not None
        return self.leave.weight, self.leave.bias


def starting_at_zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _without_edge(conv: nn.Module, x: Tensor) -> Tensor:
    """A 3x3 convolution without padding: a pixel less on each side."""
    assert isinstance(conv, nn.Conv2d)
    return functional.conv2d(x, conv.weight, conv.bias)


def enlarged(change: Change, times: int) -> Change:
    """The coarse change at half of the frame's size."""
    if times == 1:
        return change
    return Change(*(larger(plane, times) for plane in change))


def refiner_inputs(given: Inputs, half: Change, coarse_alpha: Tensor, *more: Tensor) -> Tensor:
    """The 68 channels of each 2x2 group, and more, (N, C, H / 2, W / 2)."""
    plate, clean_plate = given.plate, given.clean_plate
    keyed_alpha, keyed_colour = (
        smaller(plane, 2) for plane in (given.keyed_alpha, given.keyed_foreground)
    )
    # Group first, colour second: (N, 3, 4, h, w) keeps the four pixels of a group apart.
    shape = (plate.shape[0], 3, 4, plate.shape[2] // 2, plate.shape[3] // 2)
    groups, clean_groups = in_groups(plate), in_groups(clean_plate)
    colour = keyed_colour + half.foreground
    seen, clean = groups.reshape(shape), clean_groups.reshape(shape)
    aim = colour.clamp(0, 1)[:, :, None]
    around = in_groups(given.keyed_foreground).reshape(shape)
    around = (around - keyed_colour[:, :, None]).flatten(1, 2)
    return torch.cat(
        [
            groups,
            groups - clean_groups,
            projected(seen, clean, aim),
            # Squares are close enough to linear light.
            projected(seen.square(), clean.square(), aim.square()),
            opened(closed(keyed_alpha) + half.logit[:, :1]),
            colour,
            half.hidden,
            in_groups(given.keyed_alpha),
            in_groups(coarse_alpha),
            3 * around,
            *more,
        ],
        1,
    )


def in_groups(planes: Tensor) -> Tensor:
    """(N, 4 C, H / 2, W / 2): the four pixels of each 2x2 group behind each other."""
    if planes.device.type != "cpu" or not torch.is_inference_mode_enabled():
        return functional.pixel_unshuffle(planes, 2)
    # The same in half of the time.
    parts = [planes[:, :, down::2, right::2] for down in (0, 1) for right in (0, 1)]
    return torch.stack(parts, 2).flatten(1, 2)


def projected(plate: Tensor, clean_plate: Tensor, foreground: Tensor) -> Tensor:
    """The alpha that explains the plate best with these colours: <I-B, F-B> / |F-B|**2."""
    toward = foreground - clean_plate
    along = ((plate - clean_plate) * toward).sum(1)
    return (along / (toward.square().sum(1) + 0.003)).clamp(-0.2, 1.2)


def coloured(
    given: Inputs, logit: Tensor, alpha: Tensor, coarse: Tensor, fine: Optional[Tensor]
) -> NetworkMatte:
    """The matte with this alpha, and the two changes of colour; `fine` may be None.

    The colour is first moved towards I = a F + (1 - a) B, by more the larger a is: where a is 1 it
    becomes the plate's, where a is 0 it does not change.
    """
    share, colour = alpha.clamp(0, 1), given.keyed_foreground + coarse
    colour = torch.addcmul(colour, pull(share), unexplained(given, share, colour))
    if fine is not None:
        colour = torch.addcmul(colour, (4 * (1 - share)).clamp_max(1), fine)
    return NetworkMatte(logit, alpha, colour)


def pull(alpha: Tensor) -> Tensor:
    """The share of what is unexplained that the colour is given: near 1 / alpha for large alpha."""
    return 1.1 * alpha / (alpha.square() + 0.1)


def clamped(matte: NetworkMatte) -> NetworkMatte:
    """Alpha and colour cut to 0..1, as the model returns them; training uses them as they are."""
    return matte._replace(alpha=matte.alpha.clamp(0, 1), foreground=matte.foreground.clamp(0, 1))


def inputs_of(
    plate: Tensor,
    clean_plate: Tensor,
    keyed: tuple[Tensor, Tensor],
    alpha_hint: Optional[Tensor] = None,
    outside: Optional[Tensor] = None,
    *,
    scene_linear: bool = False,
    wide_alpha: Optional[Tensor] = None,
) -> Inputs:
    """Inputs from (N, 3, H, W) plates and the keyer's alpha and foreground; None becomes 0."""
    nothing = torch.zeros_like(plate[:, :1])
    flag = torch.ones_like(plate[:, :1, :1, :1])
    return Inputs(
        plate,
        clean_plate,
        *keyed,
        nothing if alpha_hint is None else alpha_hint,
        flag * float(alpha_hint is not None),
        nothing if outside is None else outside,
        flag * float(scene_linear),
        torch.zeros_like(flag) if wide_alpha is None else wide_alpha,
    )
