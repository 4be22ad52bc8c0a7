"""The curve of HLG in closed form: a root below the middle, a logarithm above it (ARIB STD-B67).

    scene light = gain * code^2 / 3                          up to a code value of 0.5
                  gain * (exp((code - C) / A) + B) / 12      above, in both signs

A power costs half of what looking a value up in a table does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from mattebridge.color import FloatImage, Pixels
from mattebridge.ocio import table

A, B, C = 0.17883277, 0.28466892, 0.55991073
# The code value above which all are taken for this one: a million times white.
HIGHEST = 3.0
# What light may be off by, of a value and near black, and what codes may.
_RELATIVE, _ABSOLUTE, _CODES = 2e-5, 5e-7, 1e-4


@dataclass(frozen=True)
class HlgCurve:
    """One such curve; gain: the scene light of the code value 1."""

    gain: float

    @property
    def most_light(self) -> float:
        """The light of `HIGHEST`."""
        return float(self.decoded(np.array([HIGHEST]))[0])

    def decoded(self, codes: Pixels) -> Pixels:
        """Scene light of code values, float64."""
        size = np.minimum(np.abs(np.asarray(codes, np.float64)), HIGHEST)
        light = np.where(size <= 0.5, size**2 / 3, (np.exp((size - C) / A) + B) / 12)
        signed: Pixels = np.copysign(self.gain * light, codes)
        return signed


def fitted(decode: FloatImage, encode: FloatImage) -> Optional[HlgCurve]:
    """The curve of two tables, to light and back; None where they have another form.

    Looked at is what pictures hold: code values up to 1.2, and their light.
    """
    codes = np.concatenate([np.linspace(-0.2, 1.2, 1401), [1e-4, 1e-3]]).astype(np.float32)
    gain = float(table.through(decode, np.ones(1, np.float32))[0])
    if not (np.isfinite(gain) and gain > 0):
        return None
    curve = HlgCurve(gain)
    light = curve.decoded(codes)
    off = np.abs(table.through(decode, codes) - light) <= _RELATIVE * np.abs(light) + _ABSOLUTE
    back = np.abs(table.through(encode, light.astype(np.float32)) - codes) <= _CODES
    return curve if off.all() and back.all() else None
