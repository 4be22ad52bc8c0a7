"""Soft pixels measured against the colour of the solid parts near them.

    alpha near 1 --> its colours, spread outwards --> <I - B, F - B> / |F - B|**2 --> soft pixels

The keyer explains a soft pixel with colours that it found among the sure subject at working size,
and the coarse net with what is usual: both lean towards too solid. Once the matte is known, the
colour of its solid parts is too, and a pixel between that colour and the set's has the alpha of a
plain mixture. That alpha counts as far as it can be relied on: the two colours are far apart, the
solid parts have one colour, and the pixel lies between them. Everything is smooth in the picture,
so that grain moves the result by no more than it moves the pixel.

Method: projection onto a colour line (Berman, Dadourian and Vlahos 2000); colours are spread by
pull-push (Gortler et al. 1996).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.network import SURE, Inputs
from mattebridge.models.twoplate.places import Everywhere, Where
from mattebridge.models.twoplate.resampling import all_smaller, larger, smaller

# Alpha from which on a pixel lends its colour, and from which on in full.
_SOLID_FROM, _SOLID_FULL = 0.992, 0.998
# Halvings over which colours are spread, and how much the coarser one counts at each.
_LEVELS, _COARSER = 6, 0.02
# The halvings over which solid parts must be near, and the share of them that is enough.
_NEAR, _ENOUGH = 4, 0.05
# Added to the squared distance of the colours; how much the squared spread of the solid parts' own
# colours counts beside it; the squared distance from the line at which a pixel is no mixture.
_STEADY, _OWN, _APART, _OFF_THE_LINE = 0.002, 8.0, 0.1, 0.003


class Solid(NamedTuple):
    """The solid parts near each pixel, the nearest that there are, of frames of some size.

    around: mean colour and its variance (N, 4, H / 2, W / 2). near: their share, at 1 / 2**_NEAR.
    """

    around: Tensor
    near: Tensor


def with_mixtures(alpha: Tensor, plate: Tensor, given: Inputs) -> Tensor:
    """Alpha (N, 1, H, W), 0..1, with that of plain mixtures where it is neither 0 nor 1.

    plate: (N, 3, H, W) display-encoded. given: of that size at least.
    """
    height, width = alpha.shape[2:]
    solid = solid_parts(weighed_colours(plate, alpha))
    at = Everywhere(height, width)
    return mixed(at, alpha, plate, at.of(given.clean_plate), solid, given.scene_linear)


def mixed(
    at: Where,
    alpha: Tensor,
    plate: Tensor,
    clean_plate: Tensor,
    solid: Solid,
    scene_linear: Tensor,
) -> Tensor:
    """The same at some pixels, whose alpha, plate and clean plate are given."""
    around = at.enlarged(solid.around, 2)
    colour, spread = around[:, :3], around[:, 3:]
    near = at.enlarged(solid.near, 2**_NEAR)
    set_light = _light(clean_plate, scene_linear)
    towards = _light(colour, scene_linear) - set_light
    away = _light(plate, scene_linear) - set_light
    del around, colour, set_light  # each is some planes of the frame
    reach = towards.square().sum(1, keepdim=True)
    found = ((away * towards).sum(1, keepdim=True) / (reach + _STEADY)).clamp(0, 1)
    left = torch.addcmul(away, found, towards, value=-1).square().sum(1, keepdim=True)
    del away, towards
    reliable = (reach / (reach + _OWN * spread + _APART)).square()
    share = reliable * torch.exp(left / -_OFF_THE_LINE) * (near / _ENOUGH).clamp_max(1)
    # What is sure stays, and what is nearly sure changes little.
    share = share * (alpha.minimum(1 - alpha) / SURE).clamp(0, 1)
    return alpha + share * (found - alpha)


def _light(encoded: Tensor, scene_linear: Tensor) -> Tensor:
    """Scene-linear where the request is; squares are close enough to it. Display-encoded else."""
    return torch.lerp(encoded, encoded.square(), scene_linear)


def weighed_colours(plate: Tensor, alpha: Tensor) -> Tensor:
    """Colour, its square and 1, of solid pixels, as means at half the size: (N, 5, ...).

    Of rows alone, where these begin at an even one.
    """
    solid = ((alpha - _SOLID_FROM) / (_SOLID_FULL - _SOLID_FROM)).clamp(0, 1)
    squared = plate.square().sum(1, keepdim=True)
    return all_smaller([plate * solid, squared * solid, solid], 2)


def solid_parts(weighed: Tensor) -> Solid:
    """From `weighed_colours` of the whole frame. As few halvings as find any."""
    cell = 2 ** (_LEVELS - 1)
    bottom, right = (-side % cell for side in weighed.shape[2:])
    levels = [functional.pad(weighed, (0, right, 0, bottom))]
    for _ in range(_LEVELS - 1):
        levels.append(smaller(levels[-1], 2))
    found = _of_one(levels[-1] + levels[-1].mean((2, 3), keepdim=True))
    for level in reversed(levels[:-1]):
        found = _of_one(level + _COARSER * larger(found, 2))
    colour = found[:, :3]
    spread = (found[:, 3:4] - colour.square().sum(1, keepdim=True)).clamp_min(0)
    return Solid(torch.cat([colour, spread], 1), levels[_NEAR - 1][:, 4:].contiguous())


def _of_one(weighed: Tensor) -> Tensor:
    """Weighed sums divided by their weight, the last channel."""
    return weighed / weighed[:, 4:].clamp_min(1e-6)
