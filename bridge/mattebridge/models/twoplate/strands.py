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

from collections.abc import Iterator
from operator import itemgetter
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.mixed import (
    CELL,
    Lit,
    alike,
    gaps_of,
    grain_between,
    mixed,
    solid_parts,
    weighed_colours,
    with_mixtures,
)
from mattebridge.models.twoplate.network import (
    Inputs,
    NetworkMatte,
    each_plane,
    is_unsure,
    pull,
)
from mattebridge.models.twoplate.places import Everywhere, Part, Places, Where
from mattebridge.models.twoplate.resampling import all_smaller, around

# Means nearer to 0 or 1 than this are not divided by.
_LEAST = 1e-3
# The network's alpha from which on the keyer's detail counts in full, and what it lacks to 1.
_FAINT, _SOLID = 0.08, 0.4
# Rows at a time on a CPU: whole cells, and pairs of rows.
STRIP = 64


def with_strands(
    matte: NetworkMatte, given: Inputs, factor: int, lit: Optional[Lit] = None
) -> NetworkMatte:
    """The matte, alpha and straight foreground 0..1, with the keyer's detail.

    given: of that size at least. factor: the coarse net's; a neighbourhood is three of its pixels.
    lit: the same pictures with their light above white, if they have any.
    """
    height, width = matte.alpha.shape[2:]
    at = Everywhere(height, width)
    given = each_plane(given, at.of)
    means = _smooth(_cells(matte, given, factor))
    alpha = _with_detail(at, matte, given, means, factor)
    alpha = with_mixtures(alpha, given, lit)
    return matte._replace(alpha=alpha, foreground=_completed(at, matte, given, alpha))


def put_strands(
    matte: NetworkMatte,
    given: Inputs,
    factor: int,
    height: int,
    width: int,
    lit: Optional[Lit] = None,
) -> None:
    """The same for one frame of this size, in place, as a CPU does it: at the pixels that are
    neither 0 nor 1, since no other changes. Its planes are contiguous, and may be larger."""
    means = _smooth(
        torch.cat([_cells(*part, factor) for part in _strips(matte, given, height, width)], 2)
    )
    soft = ((matte.alpha > 0) & (matte.alpha < 1))[0, 0, :height, :width]
    before = matte.alpha.clone()
    for at in Places.where(soft):
        at.put(before, _with_detail(at, matte, given, means, factor))
    whole = Everywhere(height, width)
    grain = grain_between(*map(whole.of, (before, given.plate, given.clean_plate)))
    # What lies farther from the subject has no part in what follows.
    part = Part.around(whole.of(before)[0, 0] > 0, CELL)
    pictures = Lit(given.plate, given.clean_plate) if lit is None else lit
    planes = before, given.plate, given.clean_plate, pictures.plate
    alpha, plate, clean_plate, shown = map(part.of, planes)
    weighed, same = [], []
    for top in range(0, alpha.shape[2], STRIP):
        rows = slice(top, top + STRIP)
        weighed.append(weighed_colours(shown[:, :, rows], alpha[:, :, rows], given.scene_linear))
        same.append(alike(plate[:, :, rows], clean_plate[:, :, rows], grain))
    solid, gaps = solid_parts(torch.cat(weighed, 2)), gaps_of(torch.cat(same, 2))
    changing = (alpha > 0) & ((alpha < 1) | (gaps[:, :1] > 0))
    for inside in Places.where(changing[0, 0]):
        at = inside.moved(part.top, part.left)
        own, seen, empty = map(at.of, (before, *pictures))
        near = inside.of(gaps)
        found = mixed(inside, own, seen, empty, solid, near, grain, given.scene_linear)
        colour = _completed(at, matte, given, found)
        at.put(matte.alpha, found)
        at.put(matte.foreground, colour)


def _strips(
    matte: NetworkMatte, given: Inputs, height: int, width: int
) -> Iterator[tuple[NetworkMatte, Inputs]]:
    """A frame in strips of rows that a processor's cache holds, each from a whole cell on."""
    for top in range(0, height, STRIP):
        part = (..., slice(top, min(top + STRIP, height)), slice(width))
        yield (
            NetworkMatte(*(plane[part] for plane in matte)),
            each_plane(given, itemgetter(part)),
        )


def _completed(at: Where, matte: NetworkMatte, given: Inputs, alpha: Tensor) -> Tensor:
    """The colour that goes with another alpha.

    What is taken from alpha is added to the colour: the pixel in front of the set stays the same.
    """
    before, colour = at.of(matte.alpha), at.of(matte.foreground)
    lacking = pull(alpha) * (before - alpha)
    colour = (colour + lacking * (colour - at.of(given.clean_plate))).clamp(0, 1)
    return at.of(given.plate).where((alpha >= 1) & (before < 1), colour)


def _with_detail(
    at: Where, matte: NetworkMatte, given: Inputs, means: Tensor, factor: int
) -> Tensor:
    """Alpha with the keyer's detail. means: those of `_cells`, smooth."""
    found, keyed = at.of(matte.alpha), at.of(given.keyed_alpha)
    unsure, mean, wanted, apart = at.enlarged(means, factor).chunk(4, 1)
    soft = (found / _FAINT).clamp_max(1) * ((1 - found) / _SOLID).clamp_max(1)
    shared = (2 * unsure).clamp_max(1) * soft
    departs = ((wanted - mean).abs() / apart.clamp_min(_LEAST)).clamp_max(1)
    detail = keyed + departs * (scaled(keyed, mean, wanted) - keyed)
    return found + shared * (detail - found)


def scaled(alpha: Tensor, mean: Tensor, wanted: Tensor) -> Tensor:
    """Alpha with another mean of its neighbourhood; 0 stays 0 where it falls, 1 where it rises."""
    down = alpha * (wanted / mean.clamp_min(_LEAST)).clamp_max(1)
    up = 1 - (1 - alpha) * ((1 - wanted) / (1 - mean).clamp_min(_LEAST)).clamp_max(1)
    return down.where(wanted < mean, up)


def _cells(matte: NetworkMatte, given: Inputs, cell: int) -> Tensor:
    """Means over cells: where the keyer is unsure, its alpha, the network's, and the squared
    distance of the colours. Of rows alone, where these begin with a cell."""
    red, green, blue = torch.split(matte.foreground - given.clean_plate, 1, 1)
    apart = (red * red).addcmul_(green, green).addcmul_(blue, blue)
    keyed = given.keyed_alpha
    planes = [is_unsure(keyed).float(), keyed, matte.alpha, apart]
    height, width = keyed.shape[2:]
    lacking = (0, -width % cell, 0, -height % cell)
    if any(lacking):
        planes = [functional.pad(plane, lacking, mode="replicate") for plane in planes]
    return all_smaller(planes, cell)


def _smooth(cells: Tensor) -> Tensor:
    """The mean of about 3x3 of them, of those in the frame."""
    return around(cells, 3)
