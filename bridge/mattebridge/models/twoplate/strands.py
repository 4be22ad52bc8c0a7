"""Strands that the keyer resolves, put back where the network's matte blurs them.

    the keyer's alpha ----mean around it--.
    the network's alpha --mean around it--+--> the keyer's alpha, with the network's mean where
                                               that departs, where both have soft pixels

The coarse net decides over neighbourhoods larger than a strand, the more so in large frames: their
mean coverage is better than the keyer's where the keyer is mistaken, but single hairs become fog,
and small departures from the keyer's mean are more often wrong than right. So the keyer's alpha
stands where both means agree, and is scaled, towards 0 or 1, to the network's where they do not.
How far apart they may be follows from the colours: of a subject far from the set's colour the keyer
measures the coverage, of one near it hardly; so they may be as far apart as the square of the
distance of the colours. Where either of them is sure, the network's alpha stands: gaps that it
opened stay open, and what it made solid stays solid. It counts the more the nearer it is to 1,
because solid parts of the keyer's matte have specks, and next to 0, where the keyer leaves faint
residue. At last soft pixels are measured against the solid parts near them (`mixed`).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.mixed import with_mixtures
from mattebridge.models.twoplate.network import Inputs, NetworkMatte, is_unsure, pull

# Means nearer to 0 or 1 than this are not divided by.
_LEAST = 1e-3
# The network's alpha from which on the keyer's detail counts in full, and what it lacks to 1.
_FAINT, _SOLID = 0.08, 0.4


def with_strands(
    matte: NetworkMatte, given: Inputs, factor: int, *, everywhere: bool = False
) -> NetworkMatte:
    """The matte, alpha and straight foreground 0..1, with the keyer's detail.

    given: of that size at least. factor: the coarse net's; a neighbourhood is three of its pixels.
    everywhere: see `with_mixtures`.
    """
    height, width = matte.alpha.shape[2:]
    keyed, clean_plate, plate = (
        plane[:, :, :height, :width]
        for plane in (given.keyed_alpha, given.clean_plate, given.plate)
    )
    alpha = _with_detail(matte, keyed, clean_plate, factor)
    alpha = with_mixtures(alpha, plate, given, everywhere=everywhere)
    # What is taken from alpha is added to the colour: the pixel in front of the set stays the same.
    lacking = pull(alpha) * (matte.alpha - alpha)
    foreground = (matte.foreground + lacking * (matte.foreground - clean_plate)).clamp(0, 1)
    became_opaque = (alpha >= 1) & (matte.alpha < 1)
    return NetworkMatte(matte.logit, alpha, plate.where(became_opaque, foreground))


def _with_detail(matte: NetworkMatte, keyed: Tensor, clean_plate: Tensor, factor: int) -> Tensor:
    apart = (matte.foreground - clean_plate).square().sum(1, keepdim=True)
    around = _mean_around(
        torch.cat([is_unsure(keyed).float(), keyed, matte.alpha, apart], 1), factor
    )
    unsure, mean, wanted, apart = around.chunk(4, 1)
    soft = (matte.alpha / _FAINT).clamp_max(1) * ((1 - matte.alpha) / _SOLID).clamp_max(1)
    shared = (2 * unsure).clamp_max(1) * soft
    departs = ((wanted - mean).abs() / apart.clamp_min(_LEAST)).clamp_max(1)
    detail = keyed + departs * (_scaled(keyed, mean, wanted) - keyed)
    return matte.alpha + shared * (detail - matte.alpha)


def _scaled(alpha: Tensor, mean: Tensor, wanted: Tensor) -> Tensor:
    """Alpha with another mean of its neighbourhood; 0 stays 0 where it falls, 1 where it rises."""
    down = alpha * (wanted / mean.clamp_min(_LEAST)).clamp_max(1)
    up = 1 - (1 - alpha) * ((1 - wanted) / (1 - mean).clamp_min(_LEAST)).clamp_max(1)
    return down.where(wanted < mean, up)


def _mean_around(planes: Tensor, cell: int) -> Tensor:
    """The mean of about 3x3 cells around every pixel, smoothly, plane by plane."""
    height, width = planes.shape[2:]
    grown = functional.pad(planes, (0, -width % cell, 0, -height % cell), mode="replicate")
    cells = functional.avg_pool2d(grown, cell)
    cells = functional.avg_pool2d(cells, 3, 1, 1, count_include_pad=False)
    around = functional.interpolate(
        cells, scale_factor=float(cell), mode="bilinear", align_corners=False
    )
    return around[:, :, :height, :width]
