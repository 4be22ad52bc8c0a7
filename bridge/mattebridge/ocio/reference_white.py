"""The light that is white in HDR video: the reference white of PQ and HLG (ITU-R BT.2408).

    PQ    58 % of the code values, which is 203 cd/m2
    HLG   75 %, which is 203 cd/m2 on a display of 1,000

A white shirt, or a page, is there in pictures that are graded for these; what is brighter is a
highlight. OpenColorIO has 100 cd/m2 at 1, so that this white is at 2.03. A space is told by the
curve of its greys, whatever its name is and whatever its light is at the code value 1.
"""

from __future__ import annotations

import numpy as np

from mattebridge.color import Pixels

_PQ_WHITE, _HLG_WHITE, _WHOLE = 0.58068888, 0.75, 1.0
# Code values at which a space is measured.
PROBES = np.array([0.2, 0.35, 0.5, _PQ_WHITE, 0.65, _HLG_WHITE, 0.9, _WHOLE], np.float32)
# What light may be off by, of a value.
_RELATIVE = 1e-3
# Powers that a display may have on top of HLG's own curve (BT.2100 has 1.2); 1 is a camera's.
_POWERS = (0.9, 1.6)


def found(light: Pixels) -> float:
    """The light of reference white of a space, by that of neutral `PROBES`; 1 of all but PQ, HLG.

    light: (N,) float64.
    """
    if not (np.isfinite(light).all() and (light > 0).all()):
        return 1.0
    shares, codes = light / light[-1], PROBES.astype(np.float64)
    if _is(shares, _pq(codes)):
        return float(light[3])
    scene = _hlg(codes)
    power = float(np.log(shares[2]) / np.log(scene[2]))
    if _POWERS[0] < power < _POWERS[1] and _is(shares, scene**power):
        return float(light[5])
    return 1.0


def _is(shares: Pixels, wanted: Pixels) -> bool:
    return bool((np.abs(shares - wanted) <= _RELATIVE * wanted).all())


def _pq(codes: Pixels) -> Pixels:
    """Light of PQ (SMPTE ST 2084), 1 at 1."""
    power = codes ** (1 / 78.84375)
    light: Pixels = np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)
    return np.asarray(light ** (1 / 0.1593017578125))


def _hlg(codes: Pixels) -> Pixels:
    """Scene light of HLG (ARIB STD-B67), 1 at 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    light: Pixels = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    return light
