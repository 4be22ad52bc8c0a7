"""Light that changes slowly is found on a sparse grid of pixels and spread to all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.arrays import Array, dot


@dataclass(frozen=True)
class Coarse:
    """A sparse grid of set points, and how each fine pixel mixes its four nearest."""

    shape: tuple[int, int]
    position: Array  # (3, M)
    normal: Array  # (3, M)
    index: NDArray[np.int32]  # (4, N)
    weight: Array  # (4, N)

    def spread(self, values: Array) -> Array:
        """Values (M[, C]) on the sparse grid -> (N[, C]) at the fine pixels, edges kept."""
        total = None
        for index, weight in zip(self.index, self.weight):
            part = values[index] * (weight if values.ndim == 1 else weight[:, None])
            total = part if total is None else total + part
        return np.asarray(total, np.float32)


def coarse_grid(position: Array, normal: Array, shape: tuple[int, int], step: int) -> Coarse:
    """Every `step`th pixel of a view (3, N) of this shape, and the mixing weights back to it."""
    rows = np.arange(step // 2, shape[0], step)
    columns = np.arange(step // 2, shape[1], step)
    picked = (rows[:, None] * shape[1] + columns[None]).reshape(-1)
    p, n = position[:, picked], normal[:, picked]
    y = (np.arange(shape[0], dtype=np.float32) - step // 2) / step
    x = (np.arange(shape[1], dtype=np.float32) - step // 2) / step
    y0 = np.clip(np.floor(y), 0, max(len(rows) - 2, 0)).astype(np.int32)
    x0 = np.clip(np.floor(x), 0, max(len(columns) - 2, 0)).astype(np.int32)
    fy, fx = np.clip(y - y0, 0, 1), np.clip(x - x0, 0, 1)
    indices, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            row = np.minimum(y0 + dy, len(rows) - 1)
            column = np.minimum(x0 + dx, len(columns) - 1)
            index = (row[:, None] * len(columns) + column[None]).reshape(-1)
            wy = fy if dy else 1 - fy
            wx = fx if dx else 1 - fx
            weight = (wy[:, None] * wx[None]).reshape(-1) + np.float32(1e-3)
            plane = np.abs(((p[:, index] - position) * normal).sum(0))
            alike = np.maximum((n[:, index] * normal).sum(0), 0)
            weights.append(weight * (alike**4 * np.exp(-plane / 0.015) + np.float32(1e-5)))
            indices.append(index)
    total = np.sum(weights, 0)
    return Coarse(
        (len(rows), len(columns)),
        np.ascontiguousarray(p),
        np.ascontiguousarray(n),
        np.stack(indices).astype(np.int32),
        (np.stack(weights) / total).astype(np.float32),
    )


def smooth(values: Array, p: Array, n: Array, shape: tuple[int, int], passes: int = 2) -> Array:
    """Noise taken out of light (N, C) on a pixel grid, without crossing edges of the set."""
    image = values.reshape(*shape, -1)
    place, facing = p.T.reshape(*shape, 3), n.T.reshape(*shape, 3)
    for step in (1, 2)[:passes]:
        total, weights = np.zeros_like(image), np.zeros((*shape, 1), np.float32)
        for dy in (-2, -1, 0, 1, 2):
            for dx in (-2, -1, 0, 1, 2):
                move = (dy * step, dx * step)
                there = np.roll(place, move, (0, 1))
                away = there - place
                plane = np.abs(dot(away, facing))
                alike = np.maximum(dot(np.roll(facing, move, (0, 1)), facing), 0) ** 8
                near = np.exp(-dot(away, away) / 0.12)
                weight = (alike * near * np.exp(-plane / 0.02))[..., None] + 1e-6
                total += np.roll(image, move, (0, 1)) * weight
                weights += weight
        image = total / weights
    return np.asarray(image.reshape(values.shape), np.float32)
