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

import cv2
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
    across = _turned(beside)
    fields = np.stack([value * trust + LEAST, trust]).astype(np.float32)
    for turn in range(rounds):
        part = np.float32(_weight(strength, turn, rounds))
        fields = _solved(fields, below * part)
        turned = _solved(np.stack([_turned(field) for field in fields]), across * part)
        fields = np.stack([_turned(field) for field in turned])
    return np.asarray(fields[0] / np.maximum(fields[1], np.float32(1e-9)))


def _turned(field: FloatImage) -> FloatImage:
    """Rows as columns: OpenCV's way takes a quarter of the time of numpy's."""
    return np.asarray(cv2.transpose(field) if field.size else field.T, np.float32)


def _weight(strength: float, turn: int, rounds: int) -> float:
    """The weight of the links in one round."""
    return 3.0 * strength * 4.0 ** (rounds - 1 - turn) / (4.0**rounds - 1)


def _solved(fields: FloatImage, link: FloatImage) -> FloatImage:
    """`fields` (2, N, M) smoothed along their second axis; link: (N - 1, M).

    Elimination of (1 + L) x = f from both ends at once, which meet in the row in the middle. A step
    treats a row from above and its counterpart from below, both fields and the factor for the way
    back: few, long operations on memory that lies together.
    """
    count, width = fields.shape[1:]
    half = count // 2
    found = np.empty((2, count, width), np.float32)
    above, middle, below = found[:, :half], found[:, half], found[:, :half:-1]
    middle[:] = fields[:, half]
    if not half:
        return found
    rows = np.zeros((half, 3, 2, width), np.float32)
    # An even number of rows has one less below: there a row of zeros comes first.
    upper, lower = rows[:, :, 0], rows[half - below.shape[1] :, :, 1]
    upper[:, :2] = fields[:, :half].transpose(1, 0, 2)
    lower[:, :2] = fields[:, :half:-1].transpose(1, 0, 2)
    upper[:, 2], lower[:, 2] = link[:half], link[half:][::-1]
    last = _eliminated(rows.reshape(half, 3, 2 * width)).reshape(3, 2, width)
    pivot = np.ones(width, np.float32)
    for side, to_middle in enumerate(link[half - 1 : half + 1]):
        middle += to_middle * last[:2, side]
        pivot += to_middle * (1 - last[2, side])
    middle /= pivot
    _put_back(rows.reshape(half, 3, 2 * width), np.repeat(middle, 2, axis=0).reshape(2, -1))
    above[:], below[:] = upper[:, :2].transpose(1, 0, 2), lower[:, :2].transpose(1, 0, 2)
    return found


def _eliminated(rows: FloatImage) -> FloatImage:
    """Rows (n, 3, m) of two fields and the link to the next one, in place: each as what it is made
    of beside its share of the next one, the third. The last of them."""
    before = np.zeros_like(rows[:, 2])
    before[1:] = rows[:-1, 2]
    pivot = 1 + before + rows[:, 2]
    carried = np.empty_like(rows[0])
    of_fields, of_factor = carried[:2], carried[2]
    # Views are made once, and results are given by place: the rows are short.
    both, alone = list(rows[:, :2]), list(rows)
    multiply, add, subtract, divide = np.multiply, np.add, np.subtract, np.divide
    divide(alone[0], pivot[0], alone[0])
    for done, row, fields, link, own in zip(alone, alone[1:], both[1:], before[1:], pivot[1:]):
        multiply(done, link, carried)
        add(fields, of_fields, fields)
        subtract(own, of_factor, own)
        divide(row, own, row)
    return alone[-1]


def _put_back(rows: FloatImage, after: FloatImage) -> None:
    """The way back through what `_eliminated` gives, in place; after: what follows the last row."""
    carried = np.empty_like(after)
    multiply, add = np.multiply, np.add
    for row, share in zip(list(rows[::-1, :2]), list(rows[::-1, 2])):
        multiply(after, share, carried)
        add(row, carried, row)
        after = row


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
