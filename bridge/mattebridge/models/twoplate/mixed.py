"""Soft pixels measured against the colours of the solid parts near them.

    alpha near 1 --> mean and spread of its colours, spread outwards
    mean and spread, set --> the light in which they are told apart best --> alpha of soft pixels

The keyer explains a soft pixel with colours that it found among the sure subject at working size,
and the coarse net with what is usual: both lean towards too solid. Once the matte is known, the
colours of its solid parts are too. Hair has one hue and many brightnesses, so that a pixel between
its mean colour and the set's may be a thin bright strand or a thick dark one. But some direction
among colours, a weighted sum of the channels, has about one value for all of the hair, and another
for the set: measured along it, a pixel has the alpha of a plain mixture. It is Fisher's:
w = S^-1 (F - B), with F and S the mean and the covariance of the solid parts' colours nearby.

    alpha = <w, I - B> / <w, F - B>

That alpha counts as far as it can be relied on: <w, F - B>, the squared distance of subject and set
in spreads of the subject's colours, is large; the pixel lies between them; grain alone would not
move it far. Where the light is scarce or the set has the subject's colours, the matte stands.

Method: linear discriminant (Fisher 1936) as the image-based key of every place; colours are spread
by pull-push (Gortler et al. 1996).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.network import SURE, Inputs

# Alpha from which on a pixel lends its colour, and from which on in full.
_SOLID_FROM, _SOLID_FULL = 0.992, 0.998
# Halvings over which colours are spread, and how much the coarser one counts at each.
_LEVELS, _COARSER = 6, 0.02
# The halvings over which solid parts must be near, and the share of them that is enough.
_NEAR, _ENOUGH = 4, 0.002
# Variance that the subject's colours have beyond that of the solid parts; the least of grain; how
# much grain counts beside them: the more, the less a direction is used in which it is large.
_VARIANCE, _LEAST_GRAIN, _STEADY = 5e-4, 1e-4, 8.0
# How much the alpha found counts at most; the squared distance at which it counts half of that, the
# squared misfit (in spreads) at which it does, and the variance by grain at which it does.
_MOST, _APART, _MISFIT, _GRAINY = 0.9, 4.0, 3.0, 0.03
# An alpha below the first is raised the less the smaller it is, and one nearer to 1 than the second
# is lowered the less the nearer it is: residue of the set, and the inside of the subject.
_FAINT, _NEARLY = 0.1, 0.02
# Pixels at a time: they stay in a CPU's cache.
_AT_ONCE = 1 << 14
# The products of two channels that a covariance has.
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
# Planes of the colours nearby: mean, products, share of solid parts.
_PLANES = 3 + len(_PAIRS) + 1


def with_mixtures(
    alpha: Tensor, plate: Tensor, given: Inputs, *, everywhere: bool = False
) -> Tensor:
    """Alpha (N, 1, H, W), 0..1, with that of mixtures where it is neither 0 nor 1.

    plate: (N, 3, H, W) display-encoded. given: of that size at least. everywhere: every pixel is
    computed, in the same steps for any picture, as a GPU does it; else the soft ones, of one frame.
    """
    height, width = alpha.shape[2:]
    clean_plate = given.clean_plate[:, :, :height, :width]
    grain = _grain(alpha, plate, clean_plate)
    near = _solid_around(plate, alpha, given.scene_linear)
    if everywhere:
        large = functional.interpolate(near, scale_factor=2.0, mode="nearest")
        colours = large[:, :, :height, :width].unbind(1)
        seen, empty = (_light(x, given.scene_linear).unbind(1) for x in (plate, clean_plate))
        return _mixed(alpha[:, 0], seen, empty, colours, grain)[:, None]
    made = alpha.clone()
    rows, columns = torch.nonzero((alpha[0, 0] > 0) & (alpha[0, 0] < 1), as_tuple=True)
    for y, x in zip(torch.split(rows, _AT_ONCE), torch.split(columns, _AT_ONCE)):
        colours = near[0, :, y // 2, x // 2].unbind(0)
        seen, empty = (
            _light(image[0, :, y, x], given.scene_linear[0, 0, 0]).unbind(0)
            for image in (plate, clean_plate)
        )
        made[0, 0, y, x] = _mixed(alpha[0, 0, y, x], seen, empty, colours, grain[0, 0, 0])
    return made


def _light(encoded: Tensor, scene_linear: Tensor) -> Tensor:
    """Scene-linear where the request is; squares are close enough to it. Display-encoded else."""
    return torch.lerp(encoded, encoded.square(), scene_linear)


def _grain(alpha: Tensor, plate: Tensor, clean_plate: Tensor) -> Tensor:
    """The variance of one channel between plate and clean plate where there is no subject,
    (N, 1, 1); of as many rows as are enough."""
    every = max(1, alpha[0].numel() // 400_000)
    empty = (alpha[:, :, ::every] < SURE).float()
    apart = (plate[:, :, ::every] - clean_plate[:, :, ::every]).abs().mean(1, keepdim=True)
    mean = (apart * empty).sum((2, 3)) / empty.sum((2, 3)).clamp_min(1)
    return (1.25 * mean[..., None]).square().clamp_min(_LEAST_GRAIN)


# --- the colours nearby ---------------------------------------------------------------------------


def _solid_around(plate: Tensor, alpha: Tensor, scene_linear: Tensor) -> Tensor:
    """Of the solid parts near each 2x2 pixels: `_PLANES` planes of half the size, and a little more
    than that. Mean colour and mean products of channels, in light, and how much of it there is.

    The nearest that there are: as few halvings as find any.
    """
    height, width = alpha.shape[2:]
    cell = 2**_LEVELS
    solid = ((alpha - _SOLID_FROM) / (_SOLID_FULL - _SOLID_FROM)).clamp(0, 1)
    weight = _half(solid)
    colour = _light(_half(plate * solid) / weight.clamp_min(1e-6), scene_linear)
    channels = colour.unbind(1)
    products = torch.stack([channels[i] * channels[j] for i, j in _PAIRS], 1)
    weighed = torch.cat([colour * weight, products * weight, weight], 1)
    spare = -height % cell // 2, -width % cell // 2
    levels = [functional.pad(weighed, (0, spare[1], 0, spare[0]))]
    for _ in range(_LEVELS - 1):
        levels.append(_half(levels[-1]))
    found = _of_one(levels[-1] + levels[-1].mean((2, 3), keepdim=True))
    for level in reversed(levels[:-1]):
        found = _of_one(level + _COARSER * _larger(found, 2))
    near = _larger(levels[_NEAR - 1][:, -1:], 2 ** (_NEAR - 1))
    return torch.cat([found[:, :-1], near], 1)


def _half(planes: Tensor) -> Tensor:
    return functional.avg_pool2d(planes, 2, ceil_mode=True)


def _of_one(weighed: Tensor) -> Tensor:
    """Weighed sums divided by their weight, the last channel."""
    return weighed / weighed[:, -1:].clamp_min(1e-6)


def _larger(planes: Tensor, times: int) -> Tensor:
    size = [side * times for side in planes.shape[2:]]
    return functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)


# --- pixels ---------------------------------------------------------------------------------------


def _mixed(
    alpha: Tensor,
    plate: Sequence[Tensor],
    clean_plate: Sequence[Tensor],
    near: Sequence[Tensor],
    grain: Tensor,
) -> Tensor:
    """Alpha of pixels in any order. plate, clean_plate: three channels in light; near: the
    `_PLANES`; all of one shape."""
    mean, products, share = near[:3], near[3:-1], near[-1]
    towards = [colour - empty for colour, empty in zip(mean, clean_plate)]
    away = [seen - empty for seen, empty in zip(plate, clean_plate)]
    spread = [product - mean[i] * mean[j] for product, (i, j) in zip(products, _PAIRS)]
    variance = _VARIANCE + _STEADY * grain
    for own in (0, 3, 5):
        spread[own] = spread[own].clamp_min(0) + variance
    inverse = _inverse(spread)
    weights = _times(inverse, towards)
    apart = _dot(weights, towards).clamp_min(1e-3)
    found = (_dot(weights, away) / apart).clamp(0, 1)
    left = [seen - found * toward for seen, toward in zip(away, towards)]
    allowed = found.square() + grain / variance
    misfit = _dot(_times(inverse, left), left).clamp_min(0) / allowed
    noisy = grain * _dot(weights, weights) / apart.square()
    reliable = apart / (apart + _APART) / (1 + misfit / _MISFIT) / (1 + noisy / _GRAINY)
    counts = _MOST * reliable * (share / _ENOUGH).clamp(0, 1)
    rest = torch.where(found > alpha, alpha / _FAINT, (1 - alpha) / _NEARLY)
    counts = counts * rest.clamp_max(1)
    # What is sure stays, and what is nearly sure changes little.
    counts = counts * (alpha.minimum(1 - alpha) / SURE).clamp(0, 1)
    return alpha + counts * (found - alpha)


def _inverse(matrix: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of symmetric 3x3 matrices, by their six values in the order of `_PAIRS`."""
    a, b, c, d, e, f = matrix
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    scale = (a * first + b * second + c * third).clamp_min(1e-12).reciprocal()
    rest = (a * f - c * c, b * c - a * e, a * d - b * b)
    return [value * scale for value in (first, second, third, *rest)]


def _times(matrix: Sequence[Tensor], vector: Sequence[Tensor]) -> list[Tensor]:
    a, b, c, d, e, f = matrix
    x, y, z = vector
    return [a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z]


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    red, green, blue = (one * other for one, other in zip(first, second))
    return red + green + blue
