"""The curve of a camera's log in closed form: an exponential with a straight foot.

    light = gain * exp(rate * code) + offset        from the code value `cut` up
            ... on the straight line of slope `slope` below it, without a step

That is the form of LogC3, LogC4, S-Log3, V-Log, D-Log, Log3G10, ACEScct, DaVinci Intermediate and
Film Gen 5. Its numbers are found from measured code values and light. A power costs half of what
looking a value up in a table does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from mattebridge.color import Pixels

# Code values at which a space is measured: densely where a foot ends, which is never above 0.2.
PROBES = np.concatenate([np.linspace(-0.5, 0.4, 18_001), np.linspace(0.405, 1.1, 140)]).astype(
    np.float32
)
# Where every log is above its foot, and where every foot is straight.
_ABOVE, _BELOW = 0.25, -0.3
# What light may be off by: of a value, and in parts of white.
_RELATIVE, _ABSOLUTE = 1e-5, 5e-7
# A code value of 20 would be 10^80 times white: `exp` has to stay within float32.
_LARGEST_POWER = 80.0


@dataclass(frozen=True)
class LogCurve:
    """One such curve; code values and light are those of a neutral colour."""

    gain: float
    rate: float
    offset: float
    cut: float
    slope: float

    @property
    def light_at_cut(self) -> float:
        """The light where the foot ends."""
        return float(self.gain * np.exp(self.rate * self.cut) + self.offset)

    @property
    def highest(self) -> float:
        """The code value above which all are taken for this one."""
        return float((_LARGEST_POWER - np.log(self.gain)) / self.rate)

    def decoded(self, codes: Pixels) -> Pixels:
        """Light of code values, float64."""
        codes = np.asarray(codes, np.float64)
        above = np.clip(codes, self.cut, self.highest)
        foot = self.slope * (np.minimum(codes, self.cut) - self.cut)
        light: Pixels = self.gain * np.exp(self.rate * above) + self.offset + foot
        return light

    def encoded(self, light: Pixels) -> Pixels:
        """Code values of light, float64."""
        light = np.asarray(light, np.float64)
        above = np.maximum(light, self.light_at_cut)
        foot = (np.minimum(light, self.light_at_cut) - self.light_at_cut) / self.slope
        codes: Pixels = np.log((above - self.offset) / self.gain) / self.rate + foot
        return codes


def fitted(light: Pixels) -> Optional[LogCurve]:
    """The curve of the light that was measured at `PROBES`; None where it has another form."""
    codes, light = PROBES.astype(np.float64), np.asarray(light, np.float64)
    upper = codes >= _ABOVE
    with np.errstate(all="ignore"):
        power = _exponential(codes[upper], light[upper])
        curve = _with_foot(codes, light, power) if np.isfinite(power).all() else None
        if curve is None:
            return None
        off = np.abs(curve.decoded(codes) - light)
    return curve if (off <= _RELATIVE * np.abs(light) + _ABSOLUTE).all() else None


def _exponential(codes: Pixels, light: Pixels) -> tuple[float, float, float]:
    """gain, rate and offset through the first, the middle and the last of some points."""
    middle = int(np.argmin(np.abs(codes - (codes[0] + codes[-1]) / 2)))
    below, above = codes[0] - codes[middle], codes[-1] - codes[middle]
    low, half, high = light[[0, middle, -1]]
    # Equal steps of code values multiply the light by equal factors; the steps are nearly equal.
    wanted = np.log((high - half) / (half - low))
    rate = wanted / above
    for _ in range(20):
        rate += (wanted - np.log(np.expm1(rate * above) / -np.expm1(rate * below))) / above
    gain = (high - low) / (np.exp(rate * codes[-1]) - np.exp(rate * codes[0]))
    return float(gain), float(rate), float(low - gain * np.exp(rate * codes[0]))


def _with_foot(
    codes: Pixels, light: Pixels, power: tuple[float, float, float]
) -> Optional[LogCurve]:
    gain, rate, offset = power
    if not (gain > 0 and 1 < rate < 30):
        return None
    straight = codes <= _BELOW
    slope = float(np.diff(light[straight][[0, -1]])[0] / np.diff(codes[straight][[0, -1]])[0])
    if not slope > 0:
        return None
    foot = light[0] + slope * (codes - codes[0])
    curve = gain * np.exp(rate * codes) + offset
    is_foot = np.abs(foot - light) < np.abs(curve - light)
    last = int(np.flatnonzero(is_foot & (codes < _ABOVE))[-1]) if is_foot.any() else 0
    # Where the two meet, near the last point that is the foot's.
    near = np.linspace(codes[max(last - 20, 0)], codes[min(last + 20, len(codes) - 1)], 40_001)
    gap = np.abs(gain * np.exp(rate * near) + offset - (light[0] + slope * (near - codes[0])))
    return LogCurve(gain, rate, offset, float(near[int(np.argmin(gap))]), slope)
