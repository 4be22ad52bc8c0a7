"""Alpha and subject colour of the unknown pixels, as mixtures of the set with likely colours.

    palette of the sure subject --> near colours per pixel --> explanations --> their weighted mean

Every unknown pixel is explained in several ways: only set; only subject, in one of the colours
found nearby; a mixture of the set behind it and one of those colours; a veil whose coverage follows
from the set's visible detail. Each explanation has a cost (how badly it fits, how rare its colour
is here, how unlikely it is by the region), and its weight is the larger the lower its cost.

Colours are compared display-encoded. Mixtures are computed in the light of the request's colour
space, with differences scaled back to encoded ones, so that one noise level is right for both.
Above white a colour of the subject varies by a share of its light: one number is right up to white,
and a highlight that is ten times as bright is as much less alike from pixel to pixel.

The palette is found at working size, in main memory; on a CUDA device by `recorded/palette.py`. The
pixels are explained on the frame's device, all colours of a pixel at once.

Method: after Bayesian matting (Chuang et al. 2001) with a known background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mattebridge.models.difference.evidence import Evidence, widely_blurred
from mattebridge.models.difference.trimap import Trimap
from mattebridge.models.pytorch.curves import decoded, encoded
from mattebridge.models.pytorch.frames import sent
from mattebridge.models.pytorch.pixels import taken
from mattebridge.models.tasks import begin

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

# A number, or a tensor of one.
Noise = Union[float, Tensor]
# Colours of the subject are spread at a quarter of the working size.
PALETTE_SHARE = 4
# Clusters of the subject's colours, pixels they are found among, rounds in which they settle.
COLOURS, SAMPLES, SETTLING_ROUNDS = 8, 20_000, 3
# Colours that deviate by no more are one: rounding alone would tell them apart.
ONE_COLOUR = 1e-3
# Radii over which a colour is looked for, and the least weight at which it is found there.
SPREAD_PX, COLOUR_PX, LEAST_WEIGHT = (1.0, 3.0, 9.0, 27.0), (0.5, 1.5, 4.5, 13.5), 0.02
# The least of these radii that is blurred at half the size.
WIDE_PX = 8.0
# How much the subject's own colour varies about a colour of the palette; above white, times its
# light.
VARIATION = 0.04
# Noise of one pixel's difference, encoded: at least, and what compression adds to any.
LEAST_NOISE, CODING_NOISE = 0.004, 0.006
# Costs, in nats: bonus of the two pure explanations, weight of the region's likelihood, ceiling of
# a disagreement with the visible detail, cost of a veil, whose colour is not in the palette.
PURE_SUBJECT, PURE_SET, REGION_WEIGHT, DETAIL_CEILING, VEIL_COST = 1.0, 1.0, 2.0, 6.0, 3.0
SURE_REGION = 0.005
# What a mixture costs for each width of the edge that it lies inside the subject, from the second
# number on.
DEPTH_WEIGHT, DEPTH_FREE = 3.0, 0.5
# Spread of distances that still count as set, over the noise.
SET_SPREAD = 0.015
# Added to the squared colour distance: keeps alpha steady where a colour is near that of the set.
STEADY = 0.002
# An explanation that costs more than the best one by so many nats adds nothing in float32; the
# exponential of much more is a denormal number, which takes ten times as long.
NOTHING = 60.0
# What a colour costs that the palette does not have.
UNHEARD_OF = 1e6
# What an explanation without any alpha counts for the colour.
LEAST_COUNT = 1e-4
# Variance of alpha at which a pixel's own answer and its neighbours' count the same.
DOUBT = 0.05
# Encoded values above this are cut: they tell nothing more, and float32 stays finite.
BRIGHTEST = 4.0
# Where the set shows through somewhere among so many unknown pixels in reading order, a veil may
# explain each of them that nothing else explains, at this cost.
VEIL_GROUP, ANY_VEIL_COST = 32_768, 60.0
# Pixels at a time: on the CPU they fit into one core's cache, on a GPU into a little of its memory
# (about 1 kB each).
CHUNK, CHUNK_OF_GPU = 4096, 1 << 19


@dataclass(frozen=True)
class Mixtures:
    """Of some pixels: alpha (N,), the subject's straight colour display-encoded (N, 3), and trust
    0..1 in that alpha (N,)."""

    alpha: Tensor
    colour: Tensor
    trust: Tensor


@dataclass(frozen=True)
class Palette:
    """Colours of the sure subject, at a quarter of working size.

    mean: (h, w, 3), the mean colour of the subject nearby. colours: (h, w, 3) each, the mean of one
    cluster of its colours nearby. shares: (h, w) each, the share of the subject nearby that has it.
    """

    mean: FloatImage
    colours: tuple[FloatImage, ...]
    shares: tuple[FloatImage, ...]


def make_palette(plate: FloatImage, subject: Mask) -> Palette:
    """The palette of a plate (h, w, 3) at working size; `subject` holds at least one pixel."""
    height, width = subject.shape
    small = max(1, width // PALETTE_SHARE), max(1, height // PALETTE_SHARE)
    weight = cv2.resize(subject.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    light = cv2.resize(plate * subject[..., None], small, interpolation=cv2.INTER_AREA)
    colour = light / np.maximum(weight, 1e-6)[..., None]
    of_mean, of_near = begin(_mean_nearby, light, weight), begin(_blurred, weight, COLOUR_PX)
    centres = _clusters(colour[weight > 0.5])
    if not len(centres):
        return Palette(of_mean.result(), (), ())
    nearest = _nearest(colour, centres)
    near = of_near.result()
    tasks = [
        begin(_one_nearby, colour, centre, weight * (nearest == index), weight, near)
        for index, centre in enumerate(centres)
    ]
    found = [task.result() for task in tasks]
    colours, shares = (tuple(one[index] for one in found) for index in (0, 1))
    return Palette(of_mean.result(), colours, shares)


def solve(
    plate: Tensor,
    clean_plate: Tensor,
    pixels: Tensor,
    palette: Palette,
    evidence: Evidence,
    trimap: Trimap,
    noise: Noise,
    scene_linear: bool,
) -> Iterator[tuple[slice, Mixtures]]:
    """Mixtures of the unknown pixels of full-size pictures, chunk by chunk.

    plate, clean_plate: (H, W, 3) display-encoded. pixels: (N,) the places of the unknown ones in
    reading order. evidence, trimap: at working size. noise: standard deviation of one pixel's
    difference, encoded; on a GPU a tensor of one value, which is not waited for.
    """
    maps = Maps.of(palette, evidence, trimap, plate.device)
    return solve_by(plate, clean_plate, pixels, maps, noise, scene_linear)


class Maps(NamedTuple):
    """What pixels are explained by, on the device.

    colours: mean, colours and shares of the palette, (1, 3 + 4 K, h, w). region: distance,
    coverage, its variance, likelihood, depth, where the set shows through, (1, 6, h, w). noise: of
    the evidence. above_white: whether some colour is. some_missing: whether there may be fewer
    colours than places for them, of which the shares are negative then.
    """

    colours: Tensor
    region: Tensor
    noise: Noise
    above_white: bool
    some_missing: bool = False

    @classmethod
    def of(cls, palette: Palette, evidence: Evidence, trimap: Trimap, device: torch.device) -> Maps:
        colours = _Map.of([palette.mean, *palette.colours, *palette.shares], device)
        evident = (evidence.distance, evidence.covered_by, evidence.covered_by_variance)
        masks = (trimap.likelihood, trimap.depth, evidence.through.astype(np.float32))
        region = _Map.of([*evident, *masks], device)
        above_white = any(float(each.max()) > 1 for each in (palette.mean, *palette.colours))
        return cls(colours.planes, region.planes, evidence.noise, above_white)


def solve_by(
    plate: Tensor,
    clean_plate: Tensor,
    pixels: Tensor,
    by: Maps,
    noise: Noise,
    scene_linear: bool,
) -> Iterator[tuple[slice, Mixtures]]:
    """`solve` with its maps on the device: in the same list of steps for as many pixels."""
    device, colours, maps = plate.device, _Map(by.colours), _Map(by.region)
    count = by.colours.shape[1] // 4
    through = _Map(by.region[:, 5:])
    shares = _shares_of_the_frame(pixels, *plate.shape[:2])
    unseen = _any_veil_cost(through.at(shares)[0] > 0.5)
    of_noise = _OfNoise.of(noise)
    at_once = CHUNK if device.type == "cpu" else CHUNK_OF_GPU
    for start in range(0, len(pixels), at_once):
        part = slice(start, min(start + at_once, len(pixels)))
        places = pixels[part]
        at = shares[part]
        chosen = _Pixels(taken(plate, places), taken(clean_plate, places), scene_linear)
        near = _Near.of(chosen, colours.at(at), count, by)
        region = _Region.of(maps.at(at), by.noise, unseen[part])
        yield part, _explained(chosen, near, region, of_noise)


def _any_veil_cost(through: Tensor) -> Tensor:
    """(N,): what a veil costs a pixel at which the set does not show through."""
    groups = functional.pad(through, (0, -len(through) % VEIL_GROUP)).view(-1, VEIL_GROUP)
    costs = torch.where(groups.any(1, keepdim=True), ANY_VEIL_COST, math.inf)
    return costs.expand(groups.shape).reshape(-1)[: len(through)]


def _shares_of_the_frame(places: Tensor, height: int, width: int) -> Tensor:
    """(N, 2): x and y of the pixel centres as shares of the frame."""
    y = torch.div(places, width, rounding_mode="floor")
    x = places - y * width
    return torch.stack([(x + 0.5) / width, (y + 0.5) / height], dim=1)


@dataclass(frozen=True)
class _Map:
    """Small images of one size on the device, plane by plane: (1, C, h, w)."""

    planes: Tensor

    @classmethod
    def of(cls, images: Sequence[FloatImage], device: torch.device) -> _Map:
        """Of images (h, w) or (h, w, 3), in this order."""
        planes = [image[None] if image.ndim == 2 else image.transpose(2, 0, 1) for image in images]
        stacked = np.concatenate(planes).astype(np.float32, copy=False)
        return cls(sent(stacked, device)[None])

    def at(self, shares: Tensor) -> Tensor:
        """(C, N): bilinear values at (N, 2) places in shares of the frame; the edge is repeated."""
        grid = (2 * shares - 1)[None, None]
        found = functional.grid_sample(
            self.planes, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return found[0, :, 0]


# --- the palette ----------------------------------------------------------------------------------


def _nearest(colour: FloatImage, centres: FloatImage) -> NDArray[np.intp]:
    """Which of the centres (K, 3) is nearest to each colour of (h, w, 3); of several the first."""
    red, green, blue = cv2.split(colour)
    found, least = np.zeros(red.shape, np.intp), np.full(red.shape, np.inf, np.float32)
    for index, centre in enumerate(centres):
        apart = (red - centre[0]) ** 2 + (green - centre[1]) ** 2 + (blue - centre[2]) ** 2
        found[apart < least] = index
        np.minimum(least, apart, out=least)
    return found


def _mean_nearby(light: FloatImage, weight: FloatImage) -> FloatImage:
    """The mean colour of the subject nearby; light: its colours times their weight."""
    far = light.sum((0, 1)) / max(float(weight.sum()), 1e-6)
    return _spread(light, _blurred(weight, SPREAD_PX), far, SPREAD_PX)


def _one_nearby(
    colour: FloatImage,
    centre: FloatImage,
    own: FloatImage,
    weight: FloatImage,
    weights: list[FloatImage],
) -> tuple[FloatImage, FloatImage]:
    """The mean nearby of one cluster of colours, and its share; own: its weight. weights: see
    `_share`."""
    owns = _blurred(own, COLOUR_PX)
    spread = _spread(colour * own[..., None], owns, centre, COLOUR_PX)
    return spread, _share(own, owns, weight, weights)


def _blurred(weight: FloatImage, radii: tuple[float, ...]) -> list[FloatImage]:
    """A weight as it is found over each of some radii."""
    return [_found_over(weight, radius) for radius in radii]


def _found_over(light: FloatImage, radius: float) -> FloatImage:
    if radius < WIDE_PX:
        return np.asarray(cv2.GaussianBlur(light, (0, 0), radius), np.float32)
    return widely_blurred(light, radius)


def _spread(
    light: FloatImage, weights: list[FloatImage], far: FloatImage, radii: tuple[float, ...]
) -> FloatImage:
    """A weighted colour spread outwards: from the smallest radius that has any, else `far`.

    weights: its weight over each radius.
    """
    found = np.empty_like(light)
    found[:] = far
    for radius, near in zip(reversed(radii), reversed(weights)):
        mixed = _found_over(light, radius)
        np.divide(mixed, near[..., None], out=found, where=(near > LEAST_WEIGHT)[..., None])
    return found


def _share(
    own: FloatImage, owns: list[FloatImage], weight: FloatImage, weights: list[FloatImage]
) -> FloatImage:
    """The share of the subject nearby that has this colour; owns, weights: over each radius."""
    found = np.full_like(own, float(own.sum()) / max(float(weight.sum()), 1e-6))
    for mixed, near in zip(reversed(owns), reversed(weights)):
        np.divide(mixed, near, out=found, where=near > LEAST_WEIGHT)
    return found


def _clusters(colours: FloatImage) -> FloatImage:
    """Up to `COLOURS` centres of (N, 3) colours; none where there are too few pixels.

    The widest group is split across its longest axis, again and again; then k-means refines all,
    with sums in double precision: a colour between two centres belongs to the same one on any
    device.
    Nothing is random, so that grain moves the centres as little as the colours: the matte of a
    subject that does not move does not flicker with the palette.
    """
    sample = np.ascontiguousarray(colours[:: max(1, len(colours) // SAMPLES)], np.float32)
    if len(sample) < 2 * COLOURS:
        return np.zeros((0, 3), np.float32)
    labels = np.zeros(len(sample), np.intp)
    groups = [_Group.of(sample)]
    while len(groups) < COLOURS:
        widest = max(range(len(groups)), key=lambda index: groups[index].spread)
        members = np.flatnonzero(labels == widest)
        if groups[widest].spread <= len(members) * ONE_COLOUR**2:
            break
        apart = groups[widest].beyond_middle(sample[members])
        if not apart.any() or apart.all():
            break
        labels[members[apart]] = len(groups)
        groups[widest] = _Group.of(sample[members[~apart]])
        groups.append(_Group.of(sample[members[apart]]))
    return _settled(sample, labels, len(groups))


def _settled(sample: FloatImage, labels: NDArray[np.intp], count: int) -> FloatImage:
    """The centres (K, 3) of groups of colours (N, 3) after some rounds of k-means."""
    centres = np.zeros((count, 3), np.float32)
    for left in reversed(range(SETTLING_ROUNDS)):
        sizes = np.bincount(labels, minlength=count)
        sums = [np.bincount(labels, channel, count) for channel in sample.T]
        means = np.stack(sums, axis=1) / np.maximum(sizes, 1)[:, None]
        centres = np.where(sizes[:, None] > 0, means, centres).astype(np.float32)
        if left:
            labels = _nearest(sample[None], centres)[0]
    return centres


@dataclass(frozen=True)
class _Group:
    """Colours (N, 3): their mean, their spread around it, and the axis of the largest spread."""

    middle: NDArray[np.float64]
    spread: float
    axis: NDArray[np.float64]

    @classmethod
    def of(cls, colours: FloatImage) -> _Group:
        middle = colours.mean(axis=0, dtype=np.float64)
        away = colours - middle
        values, axes = np.linalg.eigh(away.T @ away)
        axis = axes[:, -1]
        # Of its two directions always the same one.
        return cls(middle, float(values.sum()), axis * np.sign(axis[np.abs(axis).argmax()]))

    def beyond_middle(self, colours: FloatImage) -> Mask:
        return np.asarray((colours - self.middle) @ self.axis > 0)


# --- explanations ---------------------------------------------------------------------------------


class _Pixels:
    """Some pixels as (3, N) planes, in the light in which they mix, and the scale to encoded."""

    def __init__(self, plate: Tensor, clean_plate: Tensor, scene_linear: bool) -> None:
        """plate, clean_plate: (N, 3) display-encoded."""
        seen = plate.T.clamp(max=BRIGHTEST).contiguous()
        empty = clean_plate.T.clamp(max=BRIGHTEST).contiguous()
        self.scene_linear = scene_linear
        if scene_linear:
            # 1 / the slope of the decoding curve, midway: from linear to encoded differences.
            middle = (seen + empty).mul_(0.5).clamp_(min=0.04045)
            slope = middle.add_(0.055).div_(1.055).log_().mul_(1.4).exp_().mul_(2.4 / 1.055)
            self.scale = slope.reciprocal_()
        # The ceiling is white, or the pixel's own value where it has light above white.
        three = self.mixing(torch.stack([empty, seen.clamp(min=1), seen]))
        self.empty, self.ceiling, light = three.unbind()
        self.difference = light - self.empty

    def mixing(self, display: Tensor) -> Tensor:
        """Encoded values (..., 3, N) in the light that mixes."""
        return decoded(display).mul_(self.scale) if self.scene_linear else display

    def brightness(self, mixing: Tensor) -> Tensor:
        """The brightest channel of colours (..., 3, N) in light, in units of white, at least 1."""
        light = mixing / self.scale if self.scene_linear else mixing
        return light.amax(-2).clamp_min_(1)

    def encoded(self, mixing: Tensor) -> Tensor:
        if not self.scene_linear:
            return mixing
        return encoded((mixing / self.scale).clamp_(min=0))


@dataclass(frozen=True)
class _Near:
    """The colours of the subject near some pixels, the mean first: (K, 3, N), in the light that
    mixes, and how common each is there: (K, N), a logarithm. brightness: how many times as bright
    as white each is, at least 1, (K, N); `None` where none is brighter."""

    colours: Tensor
    rarity: Tensor
    brightness: Optional[Tensor]

    @classmethod
    def of(cls, pixels: _Pixels, found: Tensor, count: int, by: Maps) -> _Near:
        """found: (3 + 4 * count, N) of the palette: mean, colours, shares."""
        several = 3 * (count + 1)
        colours = found[:several].reshape(count + 1, 3, -1)
        # The mean counts like a colour that 0.3 of the subject has.
        shares = functional.pad(found[several:].clamp_min(0), (0, 0, 1, 0), value=0.3)
        light = pixels.mixing(colours.contiguous())
        brightness = pixels.brightness(light) if by.above_white else None
        rarity = shares.add_(LEAST_WEIGHT).log_()
        if by.some_missing:
            rarity[1:].masked_fill_(found[several:] < 0, -UNHEARD_OF)
        return cls(light, rarity, brightness)

    def spread(self, noise: _OfNoise) -> Noise:
        """The variance of each colour, in units of the noise's."""
        if self.brightness is None:
            return noise.spread
        return self.brightness.square() * noise.spread


@dataclass(frozen=True)
class _Region:
    """What is known of the region around some pixels, (N,) each.

    for_subject, for_set: nats that speak for them. inside: the cost of a mixture, which is higher
    inside the subject. apart: half the squared distance from the set, in spreads. coverage,
    twice_variance: that follow from the set's visible detail, which shows at `through`. unseen: the
    cost of a veil where it does not show.
    """

    for_subject: Tensor
    for_set: Tensor
    inside: Tensor
    apart: Tensor
    coverage: Tensor
    twice_variance: Tensor
    through: Tensor
    unseen: Tensor

    @classmethod
    def of(cls, found: Tensor, noise: Noise, unseen: Tensor) -> _Region:
        """found: (6, N) distance, coverage, variance, likelihood, depth, through."""
        distance, coverage, variance, likely, depth, through = found
        likely = likely.clamp(SURE_REGION, 1 - SURE_REGION)
        return cls(
            for_subject=REGION_WEIGHT * likely.log(),
            for_set=REGION_WEIGHT * (1 - likely).log(),
            inside=DEPTH_WEIGHT * (depth - DEPTH_FREE).clamp_min(0),
            apart=0.5 * (distance / (SET_SPREAD + noise)).square(),
            coverage=coverage,
            twice_variance=2 * (variance + 0.01),
            through=through > 0.5,
            unseen=unseen,
        )

    def detail_cost(self, alpha: Tensor | float) -> Tensor:
        """What it costs an alpha (..., N) to disagree with the visible detail."""
        off = (self.coverage - alpha).square().div_(self.twice_variance)
        return off.clamp_max_(DETAIL_CEILING)


class _OfNoise(NamedTuple):
    """What follows from the noise of a frame. variance: its square. likeness: 1 / 2 of it, inverse.
    spread: the variance of the subject's colour, in units of the noise's. solid: what the
    logarithm costs where all of that counts."""

    variance: Noise
    likeness: Noise
    spread: Noise
    solid: Noise

    @classmethod
    def of(cls, noise: Noise) -> _OfNoise:
        variance = noise**2
        spread = VARIATION**2 / variance
        log = torch.log1p(spread) if isinstance(spread, Tensor) else math.log1p(spread)
        return cls(variance, 0.5 / variance, spread, 1.5 * log)


def _explained(pixels: _Pixels, near: _Near, region: _Region, noise: _OfNoise) -> Mixtures:
    count, size = near.rarity.shape
    costs = near.rarity.new_empty((2 * count + 2, size))
    mixed, pure, set_alone, veil_cost = torch.split(costs, [count, count, 1, 1])
    squared = _over_channels(pixels.difference, pixels.difference)
    towards = near.colours - pixels.empty
    reach = _over_channels(towards, towards)
    along = _over_channels(towards, pixels.difference)
    alpha = (along / (reach + STEADY)).clamp_(0, 1)
    left = (alpha * reach).sub_(along, alpha=2).mul_(alpha).add_(squared)
    # In units of the noise: the subject's colour varies with its alpha.
    spread = near.spread(noise)
    variance = (alpha * alpha).mul_(spread).add_(1)
    left = left.clamp_min_(0).mul_(noise.likeness).div_(variance)
    torch.sub(left.add_(variance.log_(), alpha=1.5), near.rarity, out=mixed)
    mixed += region.detail_cost(alpha).add_(region.inside)
    left = torch.sub(reach, along, alpha=2).add_(squared)
    left = left.clamp_min_(0).mul_(noise.likeness / (1 + spread))
    if near.brightness is not None:
        assert isinstance(spread, Tensor)
        # What its logarithm costs more than that of a colour up to white.
        left.add_(spread.log1p(), alpha=1.5).sub_(noise.solid)
    torch.sub(left, near.rarity, out=pure)
    pure += region.detail_cost(1.0).add_(noise.solid - PURE_SUBJECT).sub_(region.for_subject)
    set_alone[0] = region.detail_cost(0.0).add_(region.apart).sub_(PURE_SET).sub_(region.for_set)
    veil_cost[0], veil_alpha, veil = _veil(pixels, region, noise)
    weights = torch.sub(costs.amin(0), costs, out=costs).clamp_(min=-NOTHING).exp_()
    of_all = weights.sum(0)
    mixed, pure, set_alone, veiled = torch.split(weights, [count, count, 1, 1])
    # The mean of alpha, and of its square: 1 of the pure subject, 0 of the set.
    weighed, of_pure, of_veil = mixed * alpha, pure.sum(0), veiled[0] * veil_alpha
    mean = (weighed.sum(0) + of_pure + of_veil) / of_all
    mean_square = (weighed.mul(alpha).sum(0) + of_pure + of_veil * veil_alpha) / of_all
    variance = (mean_square - mean * mean).clamp_min_(0)
    # Colours count as their alpha does, and a little beyond that.
    by_colour = weighed.add_(mixed, alpha=LEAST_COUNT).add_(pure, alpha=1 + LEAST_COUNT)
    # Only set: any colour will do, so the mean.
    by_colour[0].add_(set_alone[0], alpha=LEAST_COUNT)
    of_veil += LEAST_COUNT * veiled[0]
    colour = near.colours.mul_(by_colour[:, None]).sum(0).addcmul_(of_veil, veil)
    colour /= by_colour.sum(0).add_(of_veil)
    towards = colour - pixels.empty
    reach = _over_channels(towards, towards)
    variance += (noise.variance + mean * mean * VARIATION**2) / (reach + 1e-4)
    return Mixtures(mean, pixels.encoded(colour).T.contiguous(), DOUBT / (variance + DOUBT))


def _over_channels(first: Tensor, second: Tensor) -> Tensor:
    """The dot product of colours (..., 3, N)."""
    one, other = first.unbind(-2), second.unbind(-2)
    return (one[0] * other[0]).addcmul_(one[1], other[1]).addcmul_(one[2], other[2])


def _veil(pixels: _Pixels, region: _Region, noise: _OfNoise) -> tuple[Tensor, Tensor, Tensor]:
    """The explanation by a veil of any colour, whose coverage follows from the set's detail: its
    cost, alpha (N,) and colour (3, N)."""
    alpha = region.coverage.clamp_min(0.05)
    colour = pixels.empty + pixels.difference / alpha
    colour = colour.clamp_min_(0).minimum(pixels.ceiling)
    # What a colour between black and the ceiling does not explain is left over.
    left = pixels.difference - alpha * (colour - pixels.empty)
    cost = _over_channels(left, left).mul_(noise.likeness).add_(VEIL_COST + noise.solid)
    return torch.where(region.through, cost, region.unseen), alpha, colour
