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

    plate = clean plate within the grain, at several pixels together --> gaps, and what is around

There the same measure opens even what is sure: small gaps between solid parts, which the keyer
fills because at its size they are specks, and the network leaves so. A subject that far from the
set's colour does not have it by chance, but where both are black or white. Larger ones stay: while
they count as solid, the subject is not far from their colour. A subject of many colours, such as
yarn, is not far from any, and no direction tells it apart; but few of its pixels have just the
set's colour either. How few follows from the volume that its colours fill, and how much of a pixel
in such a gap is the subject's from how far it is from the set, whatever the direction. A thread
whose colour is nearly the set's differs by less than the grain allows, but by about as much at all
its pixels; a gap, by what grain alone makes, on the mean. Only that is opened there.

Where plates have light above white, the mixtures are measured with it (`Lit`).

Method: linear discriminant (Fisher 1936) as the image-based key of every place; colours are spread
by pull-push (Gortler et al. 1996).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.pytorch.double import double_of
from mattebridge.models.twoplate.network import SURE, Inputs
from mattebridge.models.twoplate.places import Everywhere, Where
from mattebridge.models.twoplate.resampling import all_smaller, around, larger, smaller

# Encoded values above this are cut, as for the keyer: the squares of light fit into float32.
LIGHTEST = 4.0
# Alpha from which on a pixel lends its colour, and from which on in full.
_SOLID_FROM, _SOLID_FULL = 0.992, 0.998
# Sizes at which colours are spread, each half of the one before and the first a quarter of the
# frame's; and as how many solid pixels of that one the coarser size counts at each: mean and spread
# of fewer are not relied on.
_SIZES, _FEW = 5, 2.0
# The pixels, square, of which the coarsest size has one. Over about so many, solid parts must be
# near: the share of them that is enough, and the share of the rest at which not all is solid.
CELL = 4 * 2 ** (_SIZES - 1)
_ENOUGH, _OPEN = 0.002, 0.05
# Variance that the subject's colours have beyond that of the solid parts; the least of grain; how
# much grain counts beside them: the more, the less a direction is used in which it is large.
_VARIANCE, _LEAST_GRAIN, _STEADY = 5e-4, 1e-4, 8.0
# The least of grain alone, and the variance that a second difference has in that of a pixel.
_LEAST_ALONE, _SECOND = 2.5e-5, 1.5
# The squared distance, the squared misfit (in spreads) and the variance by grain at which the alpha
# that is found counts half.
_APART, _MISFIT, _GRAINY = 4.0, 3.0, 0.01
# An alpha below the first is raised the less the smaller it is, and one nearer to 1 than the second
# is lowered the less the nearer it is: residue of the set, and the inside of the subject. And how
# much less any is raised: colours farther from the set's than those of the solid parts, which make
# a pixel look too solid, are more usual than nearer ones.
_FAINT, _NEARLY, _RAISED = 0.1, 0.02, 0.4
# Set in gaps: so many deviations of the grain apart, a pixel is not the clean plate's, and one less
# apart, it is; so many of 3x3 must be for it to count a little, and twice as many in full. It opens
# what is so many pixels around it, with one over so many of these in full. Where the set is nearly
# black or white nothing counts: so is many a detail of a subject.
_SAME, _SEVERAL, _REACH, _WITHIN = 4.5, 3, 2, 8.0
_DARK, _BRIGHT = 0.12, 0.95
# The squared distance from which on gaps are opened; at twice as much, in full.
_CERTAIN = 3.0
# The same for a subject of many colours: the squared distance and the logarithm of the volume of
# its colours over that of one. Of a pixel in such a gap so much is the subject's at most for it to
# be opened, at half as much in full; and it is opened from this alpha on, from the next on in full:
# what is softer has been measured.
_RARE, _LEFT, _OPENED_FROM, _OPENED_FULL = 3.0, 0.4, 0.1, 0.4
# There set must be this close to the clean plate on the mean of 3x3 pixels, in deviations of the
# grain (grain alone: 1.3), and count less the farther it is, up to the second; and a pixel that is
# opened at most the third away from it, and in full at half of that.
_CLOSE, _FARTHEST, _AWAY = 1.4, 2.2, 6.0
# The products of two channels that a covariance has; of them the squares.
_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
_SQUARES = (0, 3, 5)
# Rows at which grain is measured: as many as hold about so many pixels.
_MEASURED = 400_000


class Grain(NamedTuple):
    """The variance of one channel between plate and clean plate where there is no subject,
    (N, 1, 1, 1): with what the set differs by besides grain, such as shadows, and without it."""

    between: Tensor
    alone: Tensor


class Solid(NamedTuple):
    """The solid parts near each pixel, the nearest that there are, of frames of some size.

    around: mean colour in light, mean products of channels, and 1 (N, 10, H / 4, W / 4). near:
    their share (N, 1, H / CELL, W / CELL).
    """

    around: Tensor
    near: Tensor


class Lit(NamedTuple):
    """Plate and clean plate (N, 3, H, W) with their light above white, display-encoded, up to
    `LIGHTEST`: a cut mixture is no mixture."""

    plate: Tensor
    clean_plate: Tensor

    @classmethod
    def of(cls, plate: Tensor, clean_plate: Tensor) -> Lit:
        """From pictures (H, W, 3), which are not cut."""
        images = (image.permute(2, 0, 1)[None] for image in (plate, clean_plate))
        return cls(*(image.clamp(0, LIGHTEST).contiguous() for image in images))


def with_mixtures(alpha: Tensor, given: Inputs, lit: Optional[Lit] = None) -> Tensor:
    """Alpha (N, 1, H, W), 0..1, with that of mixtures where it is neither 0 nor 1.

    given: of that size at least.
    """
    height, width = alpha.shape[2:]
    at = Everywhere(height, width)
    plate, clean_plate = at.of(given.plate), at.of(given.clean_plate)
    grain = grain_between(alpha, plate, clean_plate)
    gaps = gaps_of(alike(plate, clean_plate, grain))
    if lit is not None:
        plate, clean_plate = at.of(lit.plate), at.of(lit.clean_plate)
    solid = solid_parts(weighed_colours(plate, alpha, given.scene_linear))
    return mixed(at, alpha, plate, clean_plate, solid, gaps, grain, given.scene_linear)


def mixed(
    at: Where,
    alpha: Tensor,
    plate: Tensor,
    clean_plate: Tensor,
    solid: Solid,
    gaps: Tensor,
    of_frame: Grain,
    scene_linear: Tensor,
) -> Tensor:
    """The same at some pixels, whose alpha, plate, clean plate and `gaps_of` are given."""
    grain = of_frame.between
    likely, close = torch.split(gaps, 1, 1)
    around = torch.split(at.enlarged(solid.around, 4), 1, 1)
    mean, products = around[:3], around[3:-1]
    empty = torch.split(_light(clean_plate, scene_linear), 1, 1)
    seen = torch.split(_light(plate, scene_linear), 1, 1)
    towards = [colour - behind for colour, behind in zip(mean, empty)]
    away = [colour - behind for colour, behind in zip(seen, empty)]
    del seen, empty
    variance = _VARIANCE + _STEADY * grain
    spread = [product - mean[i] * mean[j] for product, (i, j) in zip(products, _PAIRS)]
    for place in _SQUARES:
        spread[place] = spread[place].clamp_min(0) + variance
    inverse, volume = _inverse(spread)
    weights = _times(inverse, towards)
    apart = _dot(weights, towards).clamp_min(1e-3)
    found = (_dot(weights, away) / apart).clamp(0, 1)
    left = [colour - found * toward for colour, toward in zip(away, towards)]
    allowed = found.square() + grain / variance
    misfit = _dot(_times(inverse, left), left).clamp_min(0) / allowed
    noisy = grain * _dot(weights, weights) / apart.square()
    reliable = 1 / (1 + (_APART / apart).square()) / (1 + misfit / _MISFIT)
    near = at.enlarged(solid.near, CELL)
    reliable = reliable * (near / _ENOUGH).clamp_max(1)
    # What is sure stays, and what is nearly sure changes little.
    share = reliable / (1 + noisy / _GRAINY) * (alpha.minimum(1 - alpha) / SURE).clamp_max(1)
    raised = _RAISED * share * (alpha / _FAINT).clamp_max(1)
    lowered = share * ((1 - alpha) / _NEARLY).clamp_max(1)
    # Gaps are opened, however sure; neither they nor others where all is solid.
    partly = ((1 - near) / _OPEN).clamp_max(1)
    opened = likely * reliable * (apart / _CERTAIN - 1).clamp(0, 1)
    lowered = lowered.maximum(opened) * partly
    made = alpha + torch.where(found > alpha, raised, lowered) * (found - alpha)
    # So are those of a subject of many colours, where no direction tells anything.
    rare = apart + (volume / variance**3).log()
    certain = close * (near / _ENOUGH).clamp_max(1) * partly * (rare / _RARE - 1).clamp(0, 1)
    deviations = _apart(plate, clean_plate) / of_frame.alone.sqrt()
    certain = certain * (2 - deviations / (0.5 * _AWAY)).clamp(0, 1)
    usual = _dot(towards, towards) + spread[0] + spread[3] + spread[5]
    own = ((_dot(away, away) - 3 * grain).clamp_min(0) / usual).sqrt()
    return _opened(made, own, certain)


def _opened(alpha: Tensor, own: Tensor, certain: Tensor) -> Tensor:
    """Alpha lowered to what is the subject's own of a pixel, the more the surer it is in a gap."""
    certain = certain * (2 - own / (0.5 * _LEFT)).clamp(0, 1)
    certain = certain * ((alpha - _OPENED_FROM) / (_OPENED_FULL - _OPENED_FROM)).clamp(0, 1)
    return alpha + certain * (own - alpha).clamp_max(0)


def alike(plate: Tensor, clean_plate: Tensor, grain: Grain) -> Tensor:
    """How far each pixel of the plate is the clean plate's within the grain, 0..1, and the same
    times how many deviations apart they are: (N, 2, H, W); 0 where that proves nothing."""
    apart = _apart(plate, clean_plate)
    dark = clean_plate.amax(1, keepdim=True) < _DARK
    bright = clean_plate.amin(1, keepdim=True) > _BRIGHT
    same = (_SAME - apart / grain.between.sqrt()).clamp_(0, 1).masked_fill_(dark | bright, 0)
    return torch.cat([same, same * (apart / grain.alone.sqrt())], 1)


def _apart(plate: Tensor, clean_plate: Tensor) -> Tensor:
    """The difference of plate and clean plate in the channel that differs most."""
    return (plate - clean_plate).abs_().amax(1, keepdim=True)


def gaps_of(same: Tensor) -> Tensor:
    """Where the set is seen and close to it, 0..1, and where it is seen for certain: (N, 2, H, W).
    same: `alike` of a part of the frame."""
    count, apart = torch.split(around(same, 3), 1, 1)
    apart = apart / count.clamp_min(1e-6)
    several = (count * (9 / _SEVERAL) - 1).clamp_(0, 1).mul_(same[:, :1])
    close = ((_FARTHEST - apart) / (_FARTHEST - _CLOSE)).clamp_(0, 1).mul_(several)
    return around(torch.cat([several, close], 1), 2 * _REACH + 1).mul_(_WITHIN).clamp_(max=1)


def grain_between(alpha: Tensor, plate: Tensor, clean_plate: Tensor) -> Grain:
    """The grain of planes of one size."""
    every = max(1, alpha[0].numel() // _MEASURED)
    empty = (alpha[:, :, ::every] < SURE).float()
    apart = plate[:, :, ::every] - clean_plate[:, :, ::every]
    between = _variance(apart, empty).clamp_min(_LEAST_GRAIN)
    # A shadow is about the same from pixel to pixel, and so is what an exposure fit left.
    second = apart[..., 1:-1] - (apart[..., :-2] + apart[..., 2:]) / 2
    inside = empty[..., 1:-1] * empty[..., :-2] * empty[..., 2:]
    alone = (_variance(second, inside) / _SECOND).clamp_min(_LEAST_ALONE)
    return Grain(between, alone.minimum(between))


def _variance(apart: Tensor, empty: Tensor) -> Tensor:
    """Of normal values, from their mean absolute one where it is empty, (N, 1, 1, 1)."""
    apart = apart.abs().mean(1, keepdim=True)
    # A sum of half a million values is rounded by how they are dealt out to threads.
    exact = double_of(empty.device)
    total = (apart * empty).sum((2, 3), keepdim=True, dtype=exact)
    count = empty.sum((2, 3), keepdim=True, dtype=exact).clamp_min(1)
    return (1.25 * (total / count).float()).square()


def _light(encoded: Tensor, scene_linear: Tensor) -> Tensor:
    """Scene-linear where the request is; squares are close enough to it. Display-encoded else."""
    return torch.lerp(encoded, encoded.square(), scene_linear)


def weighed_colours(plate: Tensor, alpha: Tensor, scene_linear: Tensor) -> Tensor:
    """Colour in light, its products and 1, of solid pixels, at a quarter of the size: (N, 10, ...).

    Of rows alone, where these begin at a multiple of four.
    """
    solid = ((alpha - _SOLID_FROM) / (_SOLID_FULL - _SOLID_FROM)).clamp(0, 1)
    half = all_smaller([plate * solid, solid], 2)
    weight = half[:, 3:]
    colour = _light(half[:, :3] / weight.clamp_min(1e-6), scene_linear)
    products = [colour[:, i : i + 1] * colour[:, j : j + 1] for i, j in _PAIRS]
    return smaller(torch.cat([torch.cat([colour, *products], 1) * weight, weight], 1), 2)


def solid_parts(weighed: Tensor) -> Solid:
    """From `weighed_colours` of the whole frame. As few halvings as find any."""
    cell = 2 ** (_SIZES - 1)
    bottom, right = (-side % cell for side in weighed.shape[2:])
    levels = [functional.pad(weighed, (0, right, 0, bottom))]
    for _ in range(_SIZES - 1):
        levels.append(smaller(levels[-1], 2))
    found = _of_one(levels[-1].mean((2, 3), keepdim=True))
    for halvings in reversed(range(_SIZES)):
        coarser = larger(found, 2) if halvings < _SIZES - 1 else found
        found = _of_one(torch.add(levels[halvings], coarser, alpha=_FEW / 4**halvings))
    return Solid(found, levels[-1][:, -1:].contiguous())


def _of_one(weighed: Tensor) -> Tensor:
    """Weighed sums divided by their weight, the last channel."""
    return weighed / weighed[:, -1:].clamp_min(1e-6)


def _inverse(matrix: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
    """The inverse of symmetric 3x3 matrices, by their six values in the order of `_PAIRS`, and
    their determinant."""
    a, b, c, d, e, f = matrix
    first, second, third = d * f - e * e, c * e - b * f, b * e - c * d
    determinant = (a * first + b * second + c * third).clamp_min(1e-12)
    scale = determinant.reciprocal()
    rest = (a * f - c * c, b * c - a * e, a * d - b * b)
    return [value * scale for value in (first, second, third, *rest)], determinant


def _times(matrix: Sequence[Tensor], vector: Sequence[Tensor]) -> list[Tensor]:
    a, b, c, d, e, f = matrix
    x, y, z = vector
    return [a * x + b * y + c * z, b * x + d * y + e * z, c * x + e * y + f * z]


def _dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    red, green, blue = (one * other for one, other in zip(first, second))
    return red + green + blue
