"""What each pixel of the set sees: rays from the camera against walls and furniture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.arrays import Array, vec
from mattebridge_sample.optics import Camera
from mattebridge_sample.shapes import Solid
from mattebridge_sample.walls import shell


@dataclass
class View:
    """What each pixel sees: which solid (-1 ... walls), where, with which normal."""

    thing: NDArray[np.int32]  # (N,) index into solids; WALLS below for the shell of the room
    position: Array  # (3, N)
    normal: Array  # (3, N)
    direction: Array  # (3, N) unit, from the eye
    shape: tuple[int, int]


def look(camera: Camera, things: list[Solid], margin: int, factor: int) -> View:
    """Rays through `factor` x `factor` points of every pixel, margin included."""
    height, width = (camera.height + 2 * margin) * factor, (camera.width + 2 * margin) * factor
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    offset = (factor - 1) / 2
    columns, rows = (columns - offset) / factor - margin, (rows - offset) / factor - margin
    direction = np.ascontiguousarray(camera.rays(columns, rows).reshape(-1, 3).T)
    origin = np.repeat(vec(camera.eye)[:, None], direction.shape[1], 1)
    depth, kind, normal = shell(origin, direction)
    for index, solid in enumerate(things):
        pixels = _bounding_pixels(camera, solid, margin, factor, (height, width))
        if not len(pixels):
            continue
        t = solid.hit(origin[:, pixels], direction[:, pixels])
        pixels, t = pixels[t < depth[pixels]], t[t < depth[pixels]]
        depth[pixels], kind[pixels] = t, index
        normal[:, pixels] = solid.normal(origin[:, pixels] + t * direction[:, pixels])
    position = origin + depth * direction
    direction /= np.sqrt((direction * direction).sum(0))
    return View(kind, position, normal, direction, (height, width))


def _bounding_pixels(
    camera: Camera, solid: Solid, margin: int, factor: int, shape: tuple[int, int]
) -> NDArray[np.int64]:
    columns, rows, depth = camera.project(solid.corners())
    if depth.max() < 0.2:
        return np.zeros(0, np.int64)
    if depth.min() < 0.2:
        x0, x1, y0, y1 = 0, shape[1], 0, shape[0]
    else:
        x0, x1 = ((np.array([columns.min() - 1, columns.max() + 2]) + margin) * factor).astype(int)
        y0, y1 = ((np.array([rows.min() - 1, rows.max() + 2]) + margin) * factor).astype(int)
    x = np.arange(max(x0, 0), min(x1, shape[1]))
    y = np.arange(max(y0, 0), min(y1, shape[0]))
    return np.asarray((y[:, None] * shape[1] + x[None]).reshape(-1), np.int64)
