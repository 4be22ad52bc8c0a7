"""Edge-aware smoothing of a sparse or doubtful map: trusted values spread to what is near them.

    value x trust ----+--> along columns --> along rows --> (three times, ever finer) --> ratio
    trust ------------+

Minimises `sum trust (x - value)^2 + sum link (x_i - x_j)^2`, approximately: each pass solves the
one-dimensional problem exactly (a tridiagonal system for every column, then for every row), which
spreads a value over any distance at a fixed cost. Links between neighbours are 1 where nothing
separates them and near 0 across an edge.

Method: fast global smoothing (Min et al. 2014), normalised by the smoothed trust.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage


# Added everywhere: what fades to less would become denormal numbers, which take ten times as long.
LEAST = np.float32(1e-20)


def smoothed(
    value: FloatImage,
    trust: FloatImage,
    links: tuple[FloatImage, FloatImage],
    strength: float,
    rounds: int,
) -> FloatImage:
    """`value` (H, W) spread from where `trust` (H, W) is high to where it is low.

    links: to the right neighbour (H, W - 1) and to the lower one (H - 1, W), 0..1. strength: the
    weight of the links relative to trust; its square root is about the reach in pixels.
    """
    beside, below = links
    fields = np.stack([value * trust + LEAST, trust]).astype(np.float32)
    for turn in range(rounds):
        part = np.float32(_weight(strength, turn, rounds))
        fields = _solved(fields, below * part)
        turned = _solved(fields.transpose(0, 2, 1), beside.T * part)
        fields = turned.transpose(0, 2, 1)
    return np.ascontiguousarray(fields[0] / np.maximum(fields[1], np.float32(1e-9)))


def _weight(strength: float, turn: int, rounds: int) -> float:
    """The weight of the links in one round."""
    return 3.0 * strength * 4.0 ** (rounds - 1 - turn) / (4.0**rounds - 1)


def _solved(fields: FloatImage, link: FloatImage) -> FloatImage:
    """`fields` (2, N, M) smoothed along their second axis; link: (N - 1, M).

    Thomas' elimination of (1 + L) x = f, one row of M columns at a time, both fields at once and
    the factor for the way back beside them: few, long operations on memory that lies together.
    """
    count, width = fields.shape[1:]
    rows = np.empty((count, 3, width), np.float32)
    rows[:, :2] = fields.transpose(1, 0, 2)
    above = np.zeros((count, width), np.float32)
    above[1:], rows[:-1, 2], rows[-1, 2] = link, link, 0
    pivot = 1 + above + rows[:, 2]
    carried = np.empty((3, width), np.float32)
    of_fields, of_factor = carried[:2], carried[2]
    # Views are made once, and results are given by place: the rows are short.
    both, factor, alone = list(rows[:, :2]), list(rows[:, 2]), list(rows)
    multiply, add, subtract, divide = np.multiply, np.add, np.subtract, np.divide
    divide(alone[0], pivot[0], alone[0])
    for before, row, fields_, up, own in zip(alone, alone[1:], both[1:], above[1:], pivot[1:]):
        multiply(before, up, carried)
        add(fields_, of_fields, fields_)
        subtract(own, of_factor, own)
        divide(row, own, row)
    for after, row, share in zip(both[:0:-1], both[-2::-1], factor[-2::-1]):
        multiply(after, share, of_fields)
        add(row, of_fields, row)
    return rows[:, :2].transpose(1, 0, 2)


# --- on a GPU -------------------------------------------------------------------------------------


def smoothed_at_once(
    value: Tensor, trust: Tensor, links: tuple[Tensor, Tensor], strength: float, rounds: int
) -> Tensor:
    """`smoothed` as a GPU does it: for all rows at a time, in about ten steps for each thousand.

    The same within rounding.
    """
    beside, below = links
    fields = torch.stack([value * trust + float(LEAST), trust])
    for turn in range(rounds):
        weight = _weight(strength, turn, rounds)
        fields = _reduced(fields, below * weight)
        fields = _reduced(fields.transpose(1, 2), beside.T * weight).transpose(1, 2)
    return fields[0] / fields[1].clamp(min=1e-9)


def _reduced(fields: Tensor, link: Tensor) -> Tensor:
    """`_solved` by cyclic reduction: (2, N, M); link: (N - 1, M).

    Each row is its own value and a share of the rows above and below it. These are replaced by what
    they are made of, so that after k steps a row depends on those 2**k away alone, and at last on
    none.
    """
    count, width = fields.shape[1:]
    reach = count
    # Shares of the row above and below, and the values; 0 beyond the frame. Each step writes into
    # the one that it does not read.
    now, other = (fields.new_zeros(4, count + 2 * reach, width) for _ in range(2))
    inside = slice(reach, reach + count)
    now[0, reach + 1 : reach + count] = link
    now[1, reach : reach + count - 1] = link
    whole = 1 + now[0, inside] + now[1, inside]
    now[2:, inside] = fields
    now[:, inside] /= whole
    step = 1
    while step < count:
        up, down = (slice(reach + by, reach + by + count) for by in (-step, step))
        above, below = now[0, inside], now[1, inside]
        whole = 1 - above * now[1, up]
        whole.addcmul_(below, now[0, down], value=-1)
        torch.mul(above, now[0, up], out=other[0, inside])
        torch.mul(below, now[1, down], out=other[1, inside])
        torch.addcmul(now[2:, inside], above, now[2:, up], out=other[2:, inside])
        other[2:, inside].addcmul_(below, now[2:, down])
        other[:, inside] /= whole
        now, other = other, now
        step *= 2
    return now[2:, inside]
