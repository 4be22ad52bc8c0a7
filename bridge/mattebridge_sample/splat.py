"""Surfaces and strands drawn as dense points into a depth buffer, `factor` times the frame's size.

A surface is a grid of vertices. It is interpolated until its points lie closer together than the
pixels of the buffer; those that face the camera become a cloud, sorted from far to near, that
knows where each point is when the shutter opens, half-way, and when it closes. At each moment of
the exposure the cloud is written into a canvas, the nearest last, and the canvas is shrunk:
coverage is the share of a pixel's points that were hit, so alpha is a measured area, not an
estimate. A canvas covers only a window of the frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.arrays import Array, dot, vec
from mattebridge_sample.optics import Camera, shrink

FAR = np.float32(1e6)
BAND_ROWS = 25
DENSITY = 1.35


@dataclass(frozen=True)
class Window:
    """A part of the frame in whole pixels: columns x0..x1 and rows y0..y1, ends excluded."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Where the window lies in the frame."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


@dataclass(frozen=True)
class Layer:
    """A drawn layer at frame size: premultiplied colour and alpha (H, W, 4), depth (H, W)."""

    rgba: Array
    depth: Array


@dataclass(frozen=True)
class Surface:
    """A lit grid of vertices at the start, middle and end of the exposure."""

    points: tuple[Array, Array, Array]  # each (R, C, 3) world
    colour: Array  # (R, C, 3) radiance toward the camera
    normal: Array  # (R, C, 3), half-way
    detail: Array | None = None  # (h, w), multiplied onto the colour


@dataclass(frozen=True)
class Cloud:
    """Points in frame pixels: where they are half-way, how they move, what colour they have.

    At a share u of the exposure, -0.5..0.5, a point is at place + u * speed + u * u * bend. Places
    are sorted from far to near; `source` leads from there to depth and colour, which are not.
    """

    place: tuple[Array, Array]
    speed: tuple[Array, Array]
    bend: tuple[Array, Array] | None  # None: straight
    source: NDArray[np.int32]
    depth: Array
    colour: Array

    def at(self, share: float) -> tuple[Array, Array]:
        """Column and row of every point at a share 0..1 of the exposure."""
        u = np.float32(share - 0.5)
        if self.bend is None:
            x, y = (vec(p + u * v) for p, v in zip(self.place, self.speed))
        else:
            bent = zip(self.place, self.speed, self.bend)
            x, y = (vec(p + u * (v + u * a)) for p, v, a in bent)
        return x, y

    def bounds(self) -> tuple[float, float, float, float]:
        """Least and greatest column, least and greatest row, over the whole exposure."""
        ends = [self.at(share) for share in (0.0, 0.5, 1.0)]
        x, y = ([end[axis] for end in ends] for axis in (0, 1))
        return (
            float(min(v.min() for v in x)),
            float(max(v.max() for v in x)),
            float(min(v.min() for v in y)),
            float(max(v.max() for v in y)),
        )


def make_cloud(camera: Camera, surfaces: list[Surface], factor: int, straight: bool) -> Cloud:
    """The points of surfaces that face the camera, dense enough for a canvas of this factor.

    `straight` neglects that they move on curves while the shutter is open.
    """
    bands = [band for each in surfaces for band in _sampled(camera, each, factor, straight)]
    *columns, depth, colour = (np.concatenate(parts) for parts in zip(*bands))
    # Sixteen bits tell apart what lies a fraction of a millimetre behind something else.
    span = max(float(depth.max() - depth.min()), 1e-6)
    level = ((depth.max() - depth) * np.float32(65535 / span)).astype(np.uint16)
    order = np.argsort(level, kind="stable").astype(np.int32)
    x, y, dx, dy, *bend = (column[order] for column in columns)
    return Cloud((x, y), (dx, dy), (bend[0], bend[1]) if bend else None, order, depth, colour)


def _sampled(
    camera: Camera, surface: Surface, factor: int, straight: bool
) -> Iterator[tuple[Array, ...]]:
    """Place, speed, bend (x and y each), depth and colour of points, band by band of the rows."""
    (x0, y0, _), (x1, y1, z), (x2, y2, _) = (camera.project(points) for points in surface.points)
    view = vec(camera.eye) - surface.points[1]
    facing = dot(view, surface.normal) / np.sqrt(dot(view, view))
    bend = () if straight else (2 * (x0 + x2) - 4 * x1, 2 * (y0 + y2) - 4 * y1)
    fields = (x1, y1, x2 - x0, y2 - y0, *bend, z)
    rows = len(z)
    # In bands, because the steps between vertices differ from place to place.
    for first in range(0, rows - 1, BAND_ROWS):
        band = slice(first, min(first + BAND_ROWS + 1, rows))
        size = _sample_counts(x1[band], y1[band], factor)
        seen = np.flatnonzero(_resized(facing[band], size) > -0.02)
        colour = _resized(surface.colour[band], size)
        if surface.detail is not None:
            tall = len(surface.detail) // rows
            detail = surface.detail[band.start * tall : band.stop * tall]
            colour *= _resized(detail, size)[..., None]
        points = (_resized(field[band], size).reshape(-1)[seen] for field in fields)
        yield (*points, colour.reshape(-1, 3)[seen])


def _resized(grid: Array, size: tuple[int, int]) -> Array:
    return vec(cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR))


class Canvas:
    """Colour and depth at `factor` times the resolution of a window of the frame."""

    def __init__(
        self, camera: Camera, window: Window, factor: int, jitter: tuple[float, float]
    ) -> None:
        self.camera, self.window, self.factor = camera, window, factor
        self.shape = (window.shape[0] * factor, window.shape[1] * factor)
        self.jitter = jitter
        count = self.shape[0] * self.shape[1]
        self.depth = np.full(count, FAR, np.float32)
        self.rgba = np.zeros((count, 4), np.float32)

    def place(self, points: Array) -> tuple[Array, Array, Array]:
        """Column, row (canvas pixels, as numbers to be floored) and depth of world points."""
        x, y, z = self.camera.project(points)
        return self._column(x), self._row(y), z

    def _column(self, x: Array) -> Array:
        shift = np.float32((0.5 - self.window.x0) * self.factor + self.jitter[0])
        return x * np.float32(self.factor) + shift

    def _row(self, y: Array) -> Array:
        shift = np.float32((0.5 - self.window.y0) * self.factor + self.jitter[1])
        return y * np.float32(self.factor) + shift

    def index(self, x: Array, y: Array) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Flat buffer index of each position, and which of them lie inside."""
        column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
        inside = (column >= 0) & (column < self.shape[1]) & (row >= 0) & (row < self.shape[0])
        return row * self.shape[1] + column, inside

    def draw(self, cloud: Cloud, share: float) -> None:
        """Write a cloud as it is at a share 0..1 of the exposure, onto an empty canvas."""
        x, y = cloud.at(share)
        index, inside = self.index(self._column(x), self._row(y))
        # The last point written to a pixel stays: it is the nearest.
        winner = np.full(len(self.depth), -1, np.int32)
        winner[index[inside]] = cloud.source[inside]
        hit = np.flatnonzero(winner >= 0)
        point = winner[hit]
        self.depth[hit] = cloud.depth[point]
        self.rgba[hit, :3] = cloud.colour[point]
        self.rgba[hit, 3] = 1

    def strands(self, points: Array, colour: Array, matrix_for: Callable[[int], Array]) -> None:
        """Draw strands (N, K, 3) with colours (N, K, 3), one buffer pixel wide, the nearest last.

        `matrix_for(count)` gives the (count, K) interpolation from knots to `count` points.
        """
        x, y, z = self.place(points)
        order = np.argsort(-z.mean(1), kind="stable")
        x, y, z, colour = x[order], y[order], z[order], colour[order]
        length = np.hypot(np.diff(x, axis=1), np.diff(y, axis=1)).sum(1)
        count = int(min(length.max(), 1.7 * np.median(length)) * 1.05) + 2
        matrix = matrix_for(count).T
        column, row, depth = x @ matrix, y @ matrix, z @ matrix
        index, inside = self.index(column, row)
        keep = np.flatnonzero(inside.reshape(-1))
        index = index.reshape(-1)[keep]
        nearer = depth.reshape(-1)[keep] < self.depth[index] + np.float32(0.004)
        keep, index = keep[nearer], index[nearer]
        # The last strand written to a pixel stays: it is the nearest.
        winner = np.full(len(self.depth), -1, np.int32)
        winner[index] = keep
        hit = np.flatnonzero(winner >= 0)
        strand, step = np.divmod(winner[hit], count)
        self.depth[hit] = depth.reshape(-1)[winner[hit]]
        knot = step * np.float32((points.shape[1] - 1) / (count - 1))
        first = np.minimum(knot.astype(np.int32), points.shape[1] - 2)
        share = (knot - first)[:, None]
        flat = colour.reshape(-1, 3)
        at = strand * points.shape[1] + first
        self.rgba[hit, :3] = flat[at] * (1 - share) + flat[at + 1] * share
        self.rgba[hit, 3] = 1

    def veil(self, points: Array, colour: Array, tau: Array) -> None:
        """Lay thin cloth (R, C, 3) over the canvas; `tau` is its optical depth at each vertex.

        Every point brings the area that it covers, so that two layers over a pixel count twice.
        """
        x, y, z = self.place(points)
        place = np.stack([x, y, z, tau], -1)
        size = _sample_counts(x, y, 0.75)
        area = _cell_area(x, y) * (x.size / (size[0] * size[1]))
        place = _resized(place, size).reshape(-1, 4)
        lit = _resized(np.dstack([colour, area]), size).reshape(-1, 4)
        index, inside = self.index(place[:, 0], place[:, 1])
        keep = np.flatnonzero(inside)
        keep = keep[place[keep, 2] < self.depth[index[keep]] + np.float32(0.01)]
        if not len(keep):
            return
        dense = lit[keep, 3] * place[keep, 3]
        row, column = np.divmod(index[keep], self.shape[1])
        top, left = max(int(row.min()) - 4, 0), max(int(column.min()) - 4, 0)
        shape = (int(row.max()) + 5 - top, int(column.max()) + 5 - left)
        shape = (min(shape[0], self.shape[0] - top), min(shape[1], self.shape[1] - left))
        index = (row - top) * shape[1] + (column - left)
        stack = np.empty((*shape, 4), np.float32)
        stack[..., 3] = np.bincount(index, dense, shape[0] * shape[1]).reshape(shape)
        for channel in range(3):
            weights = dense * lit[keep, channel]
            stack[..., channel] = np.bincount(index, weights, shape[0] * shape[1]).reshape(shape)
        # Counting points is uneven from pixel to pixel; cloth is not.
        stack = vec(cv2.GaussianBlur(stack, (0, 0), 1.0))
        alpha = 1 - np.exp(-stack[..., 3:])
        cloth = stack[..., :3] / np.maximum(stack[..., 3:], 1e-4)
        place_in = (slice(top, top + shape[0]), slice(left, left + shape[1]))
        back = self.rgba.reshape(*self.shape, 4)[place_in]
        back[...] = over(np.concatenate([cloth * alpha, alpha], -1), back)

    def layer(self) -> Layer:
        """The canvas at frame resolution."""
        rgba = shrink(self.rgba.reshape(*self.shape, 4), self.factor)
        solid = self.depth < FAR / 2
        near = np.where(solid, self.depth, 0).reshape(self.shape)
        share = shrink(solid.astype(np.float32).reshape(self.shape), self.factor)
        depth = shrink(near, self.factor) / np.maximum(share, 1e-6)
        return Layer(rgba, np.where(share > 1e-4, depth, FAR))


def seen_columns(facing: Array) -> NDArray[np.int64]:
    """The columns of a closed grid (R, C) that face the camera anywhere, in order, and one more."""
    count = facing.shape[1]
    seen = facing.max(0) > -0.08
    if seen.all() or not seen.any():
        return np.asarray(np.arange(-1, count + 2) % count)
    # Start after the longest unseen run; unseen columns between seen ones stay.
    hidden = np.flatnonzero(~seen)
    runs = np.split(hidden, np.flatnonzero(np.diff(hidden) > 1) + 1)
    if len(runs) > 1 and runs[0][0] == 0 and runs[-1][-1] == count - 1:
        runs = [*runs[1:-1], np.concatenate([runs[-1], runs[0] + count])]
    longest = max(runs, key=len)
    first, length = int(longest[-1]) + 1, count - len(longest)
    return np.asarray(np.arange(first - 1, first + length + 1) % count)


def _cell_area(x: Array, y: Array) -> Array:
    """Buffer pixels that each vertex of a projected grid stands for."""
    xa, ya = np.gradient(x, axis=0), np.gradient(y, axis=0)
    xb, yb = np.gradient(x, axis=1), np.gradient(y, axis=1)
    return np.asarray(np.abs(xa * yb - xb * ya), np.float32)


def _sample_counts(x: Array, y: Array, factor: float) -> tuple[int, int]:
    """How many points along columns and rows leave no gap in a canvas of this factor.

    A grid may lie across the pixels at 45 degrees: its points must be closer than 0.71 pixel.
    """
    across = np.hypot(np.diff(x[::3], axis=1), np.diff(y[::3], axis=1))
    down = np.hypot(np.diff(x[:, ::3], axis=0), np.diff(y[:, ::3], axis=0))
    density = factor * DENSITY
    return (
        int(x.shape[1] * max(_wide_step(across) * density, 0.2)) + 2,
        int(x.shape[0] * max(_wide_step(down) * density, 0.2)) + 2,
    )


def _wide_step(steps: Array) -> float:
    """Nearly the longest step of a grid; a few outliers do not count."""
    return min(float(steps.max()), 1.6 * float(np.percentile(steps, 90)))


def over(front: Array, back: Array) -> Array:
    """Premultiplied RGBA `front` over `back`."""
    return front + (1 - front[..., 3:]) * back


def by_depth(a: Layer, b: Layer) -> Array:
    """Two layers in the order of their depth at each pixel."""
    return np.where((a.depth < b.depth)[..., None], over(a.rgba, b.rgba), over(b.rgba, a.rgba))
