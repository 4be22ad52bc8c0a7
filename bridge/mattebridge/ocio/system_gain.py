"""HLG's system gain: light times a power of its own luminance.

    shown light = light * max(|luminance|, darkest) ** exponent

A display of HLG (ITU-R BT.2100) shows scene light with it, so that a code value has no light of its
own: that hangs on the two other channels. The gain of a space is measured: `exponent` by white,
which has to stay neutral, `darkest` by two colours of which only one is brighter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from mattebridge.color import Pixels

# Luminance of red, green and blue of BT.2100.
WEIGHTS = (0.2627, 0.6780, 0.0593)
# A dark code value, alone and beside brighter ones: below and above `darkest` of every HLG.
_DARK, _BRIGHTER = 0.015, 0.06
# A smaller power, and a smaller determinant of the matrix, are those of no gain.
_LEAST_EXPONENT = 1e-3
PROBES = np.array(
    [[_DARK] * 3, [_BRIGHTER] * 3, [_DARK, _BRIGHTER, _BRIGHTER], [1.0] * 3], np.float32
)


@dataclass(frozen=True)
class SystemGain:
    """One such gain; light is in units in which that of 1 has a gain of 1."""

    exponent: float
    darkest: float

    @property
    def exponent_back(self) -> float:
        """The power of the shown luminance that takes the gain away again."""
        return -self.exponent / (1 + self.exponent)

    @property
    def darkest_back(self) -> float:
        """The shown luminance of the darkest light that has a gain of its own."""
        return float(self.darkest ** (1 + self.exponent))

    def shown(self, light: Pixels) -> Pixels:
        """Light with the gain; (..., 3), or neutral light of any other shape, float64."""
        return _times_power(light, self.exponent, self.darkest)

    def scene(self, shown: Pixels) -> Pixels:
        """The inverse of `shown`."""
        return _times_power(shown, self.exponent_back, self.darkest_back)


def _times_power(light: Pixels, exponent: float, darkest: float) -> Pixels:
    light = np.asarray(light, np.float64)
    is_colour = light.ndim > 1 and light.shape[-1] == 3
    luminance = (light @ WEIGHTS)[..., None] if is_colour else light
    result: Pixels = light * np.maximum(np.abs(luminance), darkest) ** exponent
    return result


def found(primaries: Pixels, probes: Pixels) -> Optional[tuple[SystemGain, Pixels]]:
    """The gain of a space and the matrix from its light to that of its results; None without one.

    primaries: (3, 3), the results for code values of 1 in one channel. probes: those for `PROBES`.
    Of a space that is something else altogether, what is returned does not hold either.
    """
    white = float(np.median(probes[3]))
    exponent = _exponent(primaries, white) if white > 0 else 0.0
    matrix = _matrix(primaries, white or 1.0, exponent)
    if exponent < _LEAST_EXPONENT or abs(np.linalg.det(matrix)) < _LEAST_EXPONENT:
        return None
    darkest = _darkest(probes, matrix, exponent)
    return (SystemGain(exponent, darkest), matrix) if np.isfinite(darkest) else None


def _darkest(probes: Pixels, matrix: Pixels, exponent: float) -> float:
    dark, brighter = (float(np.median(probes[i])) for i in (0, 1))
    with np.errstate(all="ignore"):
        # Neutral light that is bright enough is a power of what is shown.
        luminance = (1 - WEIGHTS[0]) * np.float64(brighter) ** (1 / (1 + exponent))
        # The dark channel's own light, by the gain that the brighter ones give it.
        shown = float(np.linalg.solve(matrix, probes[2])[0])
        own = shown / luminance**exponent
        own = shown / (luminance + WEIGHTS[0] * own) ** exponent
        return float((dark / own) ** (1 / exponent))


def _matrix(primaries: Pixels, white: float, exponent: float) -> Pixels:
    weights = np.array(WEIGHTS)[:, None]
    return np.ascontiguousarray((primaries / (white * weights**exponent)).T)


def _exponent(primaries: Pixels, white: float) -> float:
    """By bisection: with it, the matrix leaves the luminance of white as it is."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        is_too_bright = _matrix(primaries, white, middle).sum() > 3
        low, high = (low, middle) if is_too_bright else (middle, high)
    return (low + high) / 2
