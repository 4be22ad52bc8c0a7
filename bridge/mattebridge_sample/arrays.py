"""The one array type of the sample shot: float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def vec(values: Any) -> Array:
    """Numbers as a float32 array."""
    return np.asarray(values, np.float32)


def dot(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """Sums (...) of the products of two arrays (..., 3): to the bit `(a * b).sum(-1)`.

    Written out: numpy takes five times as long where it adds only three values at a time.
    """
    return np.asarray(a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2])


def turned(points: Array, matrix: Array) -> Array:
    """Points (..., 3) multiplied by a 3x3 matrix.

    Written out: for a product with so small a matrix, the threads of the linear algebra library
    start and then spin for longer than the product takes.
    """
    result = np.empty(points.shape, np.float32)
    for row, weights in enumerate(matrix):
        result[..., row] = _mixed(points[..., 0], points[..., 1], points[..., 2], weights)
    return result


def turned_columns(points: Array, matrix: Array) -> Array:
    """The same for points (3, N)."""
    x, y, z = points
    return np.stack([_mixed(x, y, z, weights) for weights in matrix])


def _mixed(x: Array, y: Array, z: Array, weights: Array) -> Array:
    a, b, c = vec(weights)
    return vec(x * a + y * b + z * c)
