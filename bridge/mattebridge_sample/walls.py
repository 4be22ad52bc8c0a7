"""The shell of the set: walls, floor, ceiling, and two windows in deep openings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.arrays import Array

RIGHT, LEFT, BACK, CEILING, BEHIND = 1.05, -2.3, 7.2, 3.1, -3.0
# Openings in the left wall: z from, z to, y from, y to. The first is beside the camera, out of
# frame, and lets the sun in; the second is seen.
WINDOWS = ((-0.75, 1.75, 0.75, 2.75), (4.25, 6.25, 0.85, 2.55))
RECESS = 0.20
# Codes of what a ray meets; solids have numbers from 0.
WALLS = {
    -1: "floor",
    -2: "ceiling",
    -3: "wall_right",
    -4: "wall_back",
    -5: "wall_left",
    -6: "reveal",
    -7: "outside",
}


def shell(origin: Array, direction: Array) -> tuple[Array, NDArray[np.int32], Array]:
    """The walls, floor and window recesses along rays from inside: t, kind, normal (3, N)."""
    planes = (
        (1, 0.0, -1, 1.0),
        (1, CEILING, -2, -1.0),
        (0, RIGHT, -3, -1.0),
        (2, BACK, -4, -1.0),
        (0, LEFT, -5, 1.0),
        (2, BEHIND, -4, 1.0),
    )
    best = np.full(origin.shape[1], np.inf, np.float32)
    kind = np.full(origin.shape[1], -1, np.int32)
    normal = np.zeros_like(origin)
    for axis, place, code, sign in planes:
        along = direction[axis] * -sign
        t = np.where(along > 1e-7, (place - origin[axis]) * -sign / np.maximum(along, 1e-7), np.inf)
        nearer = t < best
        best = np.where(nearer, t, best).astype(np.float32)
        kind[nearer] = code
        normal[:, nearer] = 0
        normal[axis, nearer] = sign
    return _recess(origin, direction, best, kind, normal)


def _recess(
    origin: Array, direction: Array, best: Array, kind: NDArray[np.int32], normal: Array
) -> tuple[Array, NDArray[np.int32], Array]:
    at = origin + best * direction
    for z0, z1, y0, y1 in WINDOWS:
        inside = (kind == -5) & (at[2] > z0) & (at[2] < z1) & (at[1] > y0) & (at[1] < y1)
        index = np.flatnonzero(inside)
        if not len(index):
            continue
        o, d = origin[:, index], direction[:, index]
        t = (LEFT - RECESS - o[0]) / np.minimum(d[0], -1e-6)
        code = np.full(len(index), -7, np.int32)
        n = np.zeros_like(o)
        n[0] = 1
        for axis, low, high in ((1, y0, y1), (2, z0, z1)):
            for place, sign in ((low, 1.0), (high, -1.0)):
                along = np.where(np.abs(d[axis]) < 1e-7, np.float32(1e-7), d[axis])
                side = (place - o[axis]) / along
                nearer = (side > best[index]) & (side < t) & (d[axis] * sign < 0)
                t[nearer] = side[nearer]
                code[nearer] = -6
                n[:, nearer] = 0
                n[axis, nearer] = sign
        best[index], kind[index], normal[:, index] = t, code, n
    return best, kind, normal
