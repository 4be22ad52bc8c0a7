"""Rays against the solids of the set: boxes, ellipsoids and upright cones, many rays at a time.

Rays are o + t * d with o and d of shape (3, N), so that each component is contiguous. A miss is
t = infinity.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.arrays import Array, turned_columns, vec

NEAR = np.float32(1e-3)


def turn(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Rotation matrix: roll about z, then pitch about x, then yaw about y (radians)."""
    cy, sy, cx, sx, cz, sz = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return vec(about_y @ about_x @ about_z)


@dataclass(frozen=True)
class Solid:
    """A unit shape scaled by `half`, turned by `rotation` and moved to `centre`."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    surface: str
    rotation: Array = field(default_factory=lambda: np.eye(3, dtype=np.float32))
    casts: bool = True

    def local(self, points: Array) -> Array:
        """World points (3, N) in the shape's own axes, in metres."""
        return self._turned(points - vec(self.centre)[:, None])

    def _turned(self, vectors: Array) -> Array:
        if self.rotation[0, 0] == 1 and self.rotation[1, 1] == 1:
            return vectors
        return turned_columns(vectors, self.rotation.T)

    def corners(self) -> Array:
        """The eight corners (8, 3) of the bounding box, in world space."""
        signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8)
        box = self.rotation @ (signs * vec(self.half)[:, None])
        return np.asarray(box.T + vec(self.centre), np.float32)

    def hit(self, origin: Array, direction: Array) -> Array:
        """Distance t (N,) of the first hit in front of each origin."""
        return self._enter(self.local(origin), self._turned(direction))

    def normal(self, points: Array) -> Array:
        """Outward normals (3, N) at points on the surface."""
        n = self._slope(self.local(points))
        n /= np.maximum(np.sqrt((n * n).sum(0)), 1e-9)
        return turned_columns(n, self.rotation)

    def _enter(self, o: Array, d: Array) -> Array:
        raise NotImplementedError

    def _slope(self, p: Array) -> Array:
        raise NotImplementedError


@dataclass(frozen=True)
class Box(Solid):
    """A box with edges rounded (in its shading only) over `bevel` metres."""

    bevel: float = 0.004

    def _enter(self, o: Array, d: Array) -> Array:
        near = np.full(o.shape[1], -np.inf, np.float32)
        far = np.full(o.shape[1], np.inf, np.float32)
        for axis, half in enumerate(self.half):
            inverse = 1 / np.where(np.abs(d[axis]) < 1e-9, np.float32(1e-9), d[axis])
            a = (-half - o[axis]) * inverse
            b = (half - o[axis]) * inverse
            near = np.maximum(near, np.minimum(a, b))
            far = np.minimum(far, np.maximum(a, b))
        return np.where((near <= far) & (near > NEAR), near, np.float32(np.inf))

    def _slope(self, p: Array) -> Array:
        half = vec(self.half)[:, None]
        inside = half - np.abs(p)
        bevel = np.minimum(np.float32(self.bevel), half * 0.5)
        lean = np.clip(1 - inside / bevel, 0, 1)
        lean = lean * lean + np.float32(1e-3) * (inside <= inside.min(0) + 1e-6)
        return np.asarray(lean * np.sign(p), np.float32)


@dataclass(frozen=True)
class Ellipsoid(Solid):
    """An ellipsoid with the half axes `half`."""

    def _enter(self, o: Array, d: Array) -> Array:
        scale = 1 / vec(self.half)[:, None]
        o, d = vec(o * scale), vec(d * scale)
        a, b, c = (d * d).sum(0), (o * d).sum(0), (o * o).sum(0) - 1
        root = b * b - a * c
        t = (-b - np.sqrt(np.maximum(root, 0))) / a
        return vec(np.where((root > 0) & (t > NEAR), t, np.inf))

    def _slope(self, p: Array) -> Array:
        return np.asarray(p / vec(self.half)[:, None] ** 2)


@dataclass(frozen=True)
class Cone(Solid):
    """An upright cylinder whose radius goes from half[0] at the bottom to `top` at the top."""

    top: float = 0.1

    def _enter(self, o: Array, d: Array) -> Array:
        half_height, slope = self.half[1], (self.top - self.half[0]) / (2 * self.half[1])
        radius = self.half[0] + slope * (o[1] + half_height)
        a = d[0] ** 2 + d[2] ** 2 - (slope * d[1]) ** 2
        b = o[0] * d[0] + o[2] * d[2] - slope * d[1] * radius
        c = o[0] ** 2 + o[2] ** 2 - radius**2
        root = b * b - a * c
        t = (-b - np.sqrt(np.maximum(root, 0))) / np.where(np.abs(a) < 1e-9, 1e-9, a)
        good = (root > 0) & (t > NEAR) & (np.abs(o[1] + t * d[1]) <= half_height)
        best = np.where(good, t, np.float32(np.inf))
        for y, limit in ((half_height, self.top), (-half_height, self.half[0])):
            t = (y - o[1]) / np.where(np.abs(d[1]) < 1e-9, np.float32(1e-9), d[1])
            inside = (o[0] + t * d[0]) ** 2 + (o[2] + t * d[2]) ** 2 <= limit**2
            best = np.where(inside & (t > NEAR) & (t < best), t, best)
        return np.asarray(best, np.float32)

    def _slope(self, p: Array) -> Array:
        cap = np.abs(p[1]) > self.half[1] - 1e-4
        slope = (self.top - self.half[0]) / (2 * self.half[1])
        side = np.stack([p[0], -slope * np.hypot(p[0], p[2]), p[2]])
        flat = np.stack([np.zeros_like(p[1]), np.sign(p[1]), np.zeros_like(p[1])])
        return np.asarray(np.where(cap, flat, side), np.float32)


def first_hit(
    solids: list[Solid], origin: Array, direction: Array
) -> tuple[Array, NDArray[np.int32]]:
    """Distance and index (-1: none) of the nearest solid along each ray."""
    best = np.full(origin.shape[1], np.inf, np.float32)
    which = np.full(origin.shape[1], -1, np.int32)
    for index, solid in enumerate(solids):
        t = solid.hit(origin, direction)
        nearer = t < best
        best[nearer] = t[nearer]
        which[nearer] = index
    return best, which


def in_shade(solids: list[Solid], origin: Array, toward: Array, spread: float) -> NDArray[np.bool_]:
    """Whether anything stands between origins (3, N) and a far light.

    All directions `toward` (3, N) lie within `spread` of their mean: only the points behind a
    solid, seen along that mean, need the real test.
    """
    axis = toward[:, :1].copy()
    across = np.cross(axis[:, 0], [0, 1, 0])
    across /= np.sqrt((across * across).sum())
    frame = np.stack([across, np.cross(axis[:, 0], across)]).astype(np.float32)
    u, v = frame @ origin
    result = np.zeros(origin.shape[1], bool)
    for solid in solids:
        radius = float(np.sqrt(np.sum(np.square(solid.half)))) + 8 * spread
        a, b = frame @ vec(solid.centre)
        near = (np.abs(u - a) < radius) & (np.abs(v - b) < radius) & ~result
        index = np.flatnonzero(near)
        if len(index):
            result[index] = np.isfinite(solid.hit(origin[:, index], toward[:, index]))
    return result


def blocked(
    solids: list[Solid], origin: Array, direction: Array, reach: Array | float
) -> NDArray[np.bool_]:
    """Whether anything stands between each origin and origin + reach * direction."""
    result = np.zeros(origin.shape[1], bool)
    for solid in solids:
        result |= solid.hit(origin, direction) < reach
    return result
