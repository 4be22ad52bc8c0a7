"""Matrices between primaries, from where these lie.

Primaries are given as EXR headers have them: x and y of red, green, blue and white (CIE 1931).
Another white is adapted to as ICC profiles and ACES do it (Bradford).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mattebridge.color import Pixels

D65, ACES_WHITE = (0.3127, 0.3290), (0.32168, 0.33767)
REC709 = (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *D65)
P3_D65 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65)
REC2020 = (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65)
ADOBE_RGB = (0.640, 0.330, 0.210, 0.710, 0.150, 0.060, *D65)
AP0 = (0.7347, 0.2653, 0.0, 1.0, 0.0001, -0.077, *ACES_WHITE)
AP1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, *ACES_WHITE)
# XYZ of the white that ICC profiles have.
ICC_WHITE = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def between(source: Sequence[float], wanted: Sequence[float]) -> Pixels:
    """The 3 x 3 matrix from light of some primaries to light of others; white stays neutral."""
    adaptation = adapted(white_of(source), white_of(wanted))
    matrix: Pixels = np.linalg.solve(to_xyz(wanted), adaptation @ to_xyz(source))
    return matrix


def to_xyz(places: Sequence[float]) -> Pixels:
    """From RGB to XYZ; its columns add up to white, whose Y is 1."""
    columns = np.array([(x, y, 1 - x - y) for x, y in zip(places[0:6:2], places[1:6:2])]).T
    matrix: Pixels = columns * np.linalg.solve(columns, white_of(places))
    return matrix


def white_of(places: Sequence[float]) -> Pixels:
    """XYZ of white."""
    x, y = places[6:8]
    return np.array([x / y, 1.0, (1 - x - y) / y])


def adapted(white: Pixels, wanted: Pixels) -> Pixels:
    """The matrix of XYZ to what eyes see as the same under another white."""
    gains = (_BRADFORD @ wanted) / (_BRADFORD @ white)
    matrix: Pixels = np.linalg.solve(_BRADFORD, gains[:, None] * _BRADFORD)
    return matrix
