"""A curve as a table over the floats themselves, from a value to another, in both signs.

    nodes: every float whose mantissa has 10 bits, from 2^-40 to 2^24, and 0, in each sign
    between two nodes: on the line between their values

The place of a value in the table is its bits, shifted: no search. Nodes are 1/1024 of a value
apart, so that PQ and a camera's log, the steepest curves there are, are met to ten parts in a
million, and black stays exactly what black is. Beyond 2^24 the last value is kept; NaN becomes that
as well.
"""

from __future__ import annotations

import numpy as np

from mattebridge.color import FloatImage, Pixels

MANTISSA_BITS = 10
SHIFT = 23 - MANTISSA_BITS
LOWEST_BITS = (127 - 40) << 23
HIGHEST_BITS = (127 + 24) << 23
# Nodes of one sign; those of negative values follow those of positive ones.
COUNT = ((HIGHEST_BITS - LOWEST_BITS) >> SHIFT) + 1
# What light is at most: sums of a few such values are finite.
LARGEST = 1e37


def nodes() -> FloatImage:
    """Where a table has its values: `COUNT` from 0 up, then the same, negative, from 0 down."""
    bits = np.arange(LOWEST_BITS, HIGHEST_BITS + 1, 1 << SHIFT, dtype=np.uint32)
    positive = bits.view(np.float32).copy()
    positive[0] = 0.0
    return np.concatenate([positive, -positive])


def through(table: FloatImage, values: FloatImage) -> FloatImage:
    """Values through a table, with numpy; `engine.space` has the same for tensors."""
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    size = np.clip(bits & 0x7FFFFFFF, LOWEST_BITS, HIGHEST_BITS - 1) - LOWEST_BITS
    place = (size >> SHIFT) + np.where(bits < 0, COUNT, 0)
    part = (size & ((1 << SHIFT) - 1)).astype(np.float32) / np.float32(1 << SHIFT)
    low, high = table[place], table[place + 1]
    found: FloatImage = low + (high - low) * part
    return found


def by_key(table: FloatImage) -> FloatImage:
    """A table in the order of the bits of floats, for those who look up many values at a time.

    (2^19, 2) float32, at the sign, exponent and first bits of the mantissa: the value there, and
    what each further step of the mantissa adds. Equal to `through`, without comparisons.
    """
    keys = np.arange(1 << (32 - SHIFT), dtype=np.int64)
    size = (keys << SHIFT) & 0x7FFFFFFF
    offset = np.where(keys >> (31 - SHIFT), COUNT, 0)
    place = ((np.clip(size, LOWEST_BITS, HIGHEST_BITS) - LOWEST_BITS) >> SHIFT) + offset
    is_between = (size >= LOWEST_BITS) & (size < HIGHEST_BITS)
    low, high = table[place], table[np.where(is_between, place + 1, place)]
    return np.stack([low, (high - low) / np.float32(1 << SHIFT)], 1).astype(np.float32)


def usable(values: Pixels) -> FloatImage:
    """A table's values, finite."""
    finite: FloatImage = np.nan_to_num(values, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
    return np.clip(finite, -LARGEST, LARGEST).astype(np.float32)


def inverse(table: FloatImage, guess: FloatImage) -> FloatImage:
    """The table of the inverse curve.

    guess: the inverse as OpenColorIO computes it, which holds where the curve cannot be inverted
    (where it is flat). Elsewhere it is made exact for this table, so that a value that goes there
    and back is the same to float precision however roughly either direction was computed.
    """
    at = nodes()
    order = np.argsort(at, kind="stable")
    places, values = at[order].astype(np.float64), table[order].astype(np.float64)
    rising = np.concatenate([[True], values[1:] > np.maximum.accumulate(values)[:-1]])
    found = np.interp(at.astype(np.float64), values[rising], places[rising])
    held = np.abs(through(table, guess) - at) <= 1e-3 * np.abs(at) + 1e-6
    inside = (at >= values[rising][0]) & (at <= values[rising][-1])
    result: FloatImage = np.where(held & inside, found, guess).astype(np.float32)
    return result
