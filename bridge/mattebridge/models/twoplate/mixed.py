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

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.network import SURE, Inputs

# Alpha from which on a pixel lends its colour, and from which on in full.
_SOLID_FROM, _SOLID_FULL = 0.992, 0.998
# Halvings over which colours are spread, and how much the coarser one counts at each.
_LEVELS, _COARSER = 6, 0.02
# The halvings over which solid parts must be near, and the share of them that is enough.
_NEAR, _ENOUGH = 4, 0.05
# Added to the squared distance of the colours; how much the squared spread of the solid parts' own
# colours counts beside it; the squared distance from the line at which a pixel is no mixture.
_STEADY, _OWN, _APART, _OFF_THE_LINE = 0.002, 8.0, 0.1, 0.003


def with_mixtures(alpha: Tensor, plate: Tensor, given: Inputs) -> Tensor:
    """Alpha (N, 1, H, W), 0..1, with that of plain mixtures where it is neither 0 nor 1.

    plate: (N, 3, H, W) display-encoded. given: of that size at least.
    """
    height, width = alpha.shape[2:]
    clean_plate = given.clean_plate[:, :, :height, :width]
    colour, spread, near = _solid_around(plate, alpha)
    set_light = _light(clean_plate, given)
    towards, away = _light(colour, given) - set_light, _light(plate, given) - set_light
    del colour, set_light  # each is three planes of the frame
    reach = towards.square().sum(1, keepdim=True)
    found = ((away * towards).sum(1, keepdim=True) / (reach + _STEADY)).clamp(0, 1)
    left = torch.addcmul(away, found, towards, value=-1).square().sum(1, keepdim=True)
    del away, towards
    reliable = (reach / (reach + _OWN * spread + _APART)).square()
    share = reliable * torch.exp(left / -_OFF_THE_LINE) * (near / _ENOUGH).clamp_max(1)
    # What is sure stays, and what is nearly sure changes little.
    share = share * (alpha.minimum(1 - alpha) / SURE).clamp(0, 1)
    return alpha + share * (found - alpha)


def _light(encoded: Tensor, given: Inputs) -> Tensor:
    """Scene-linear where the request is; squares are close enough to it. Display-encoded else."""
    return torch.lerp(encoded, encoded.square(), given.scene_linear)


def _solid_around(plate: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the solid parts near each pixel: mean colour (N, 3, H, W), its variance, and their share.

    The nearest that there are: as few halvings as find any. The first is of half the size.
    """
    height, width = alpha.shape[2:]
    cell = 2**_LEVELS
    solid = ((alpha - _SOLID_FROM) / (_SOLID_FULL - _SOLID_FROM)).clamp(0, 1)
    squared = plate.square().sum(1, keepdim=True)
    weighed = torch.cat([_half(part * solid) for part in (plate, squared)] + [_half(solid)], 1)
    spare = -height % cell // 2, -width % cell // 2
    levels = [functional.pad(weighed, (0, spare[1], 0, spare[0]))]
    for _ in range(_LEVELS - 1):
        levels.append(_half(levels[-1]))
    found = _of_one(levels[-1] + levels[-1].mean((2, 3), keepdim=True))
    for level in reversed(levels[:-1]):
        found = _of_one(level + _COARSER * _larger(found, 2))
    colour = found[:, :3]
    spread = (found[:, 3:4] - colour.square().sum(1, keepdim=True)).clamp_min(0)
    near = _larger(levels[_NEAR - 1][:, 4:], 2**_NEAR)
    both = _larger(torch.cat([colour, spread], 1), 2)[:, :, :height, :width]
    return both[:, :3], both[:, 3:], near[:, :, :height, :width]


def _half(planes: Tensor) -> Tensor:
    return functional.avg_pool2d(planes, 2, ceil_mode=True)


def _of_one(weighed: Tensor) -> Tensor:
    """Weighed sums divided by their weight, the last channel."""
    return weighed / weighed[:, 4:].clamp_min(1e-6)


def _larger(planes: Tensor, times: int) -> Tensor:
    size = [side * times for side in planes.shape[2:]]
    return functional.interpolate(planes, size=size, mode="bilinear", align_corners=False)
