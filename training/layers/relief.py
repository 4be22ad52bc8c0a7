"""Solid bodies as height fields over the picture: rounded parts in front of each other, lit.

A body is built from capsules, ellipsoids and inflated outlines, each at its own depth and of its
own material; the nearest is visible. Slopes of the height give shading, hollows get less ambient
light, and high parts cast shadows on the others: flat cut-outs would mislead the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import (
    Field,
    Picture,
    Rng,
    blurred,
    chance,
    fractal,
    log_uniform,
    surface,
)

# Height where there is no body.
_NOTHING = -1e4


@dataclass(frozen=True)
class Light:
    """A key light, its colour, and the ambient light; other ones for every subject."""

    direction: tuple[float, float, float]
    key: NDArray[np.float32]
    ambient: NDArray[np.float32]

    @classmethod
    def random(cls, rng: Rng) -> Light:
        azimuth, height = rng.uniform(0, 2 * math.pi), rng.uniform(0.25, 1.2)
        x, y = math.cos(azimuth) * math.cos(height), math.sin(azimuth) * math.cos(height)
        # Light from below is rare.
        if y > 0 and chance(rng, 0.8):
            y = -y
        share = rng.uniform(0.35, 0.9)
        warm = 1 + rng.normal(0, 0.06, 3)
        cool = 1 + rng.normal(0, 0.06, 3)
        total = rng.uniform(0.9, 1.35)
        return cls(
            (x, y, math.sin(height)),
            (total * share * 1.25 * warm).astype(np.float32),
            (total * (1 - share * 0.75) * cool).astype(np.float32),
        )


@dataclass(frozen=True)
class Material:
    """albedo: (h, w, 3). gloss: 0 matt to 1 polished. bump: heights in px added to the body."""

    albedo: Picture
    gloss: float = 0.0
    bump: Field | None = None

    @classmethod
    def cloth(cls, rng: Rng, size: int, colour: NDArray[np.float32]) -> Material:
        fold = fractal(rng, size, size, coarsest=log_uniform(rng, 6, 25), roughness=0.45)
        ridges = 1 - np.abs(2 * fold - 1)
        return cls(surface(rng, size, size, colour), 0.05, ridges * rng.uniform(0, 14))

    @classmethod
    def smooth(cls, rng: Rng, size: int, colour: NDArray[np.float32]) -> Material:
        gloss = float(rng.choice([0.0, 0.25, 0.7], p=[0.4, 0.4, 0.2]))
        return cls(surface(rng, size, size, colour), gloss)

    @classmethod
    def skin(cls, rng: Rng, size: int, tone: NDArray[np.float32]) -> Material:
        blush = fractal(rng, size, size, coarsest=12, roughness=0.6)[..., None] - 0.5
        warm = np.array([0.06, 0.0, -0.03], np.float32)
        return cls(np.clip(tone * (1 + 0.12 * blush) + warm * blush, 0, 1), 0.15)


@dataclass
class Relief:
    """The body being built; sizes and places in pixels, x right, y down."""

    side: int
    materials: list[Material] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.height = np.full((self.side, self.side), _NOTHING, np.float32)
        self.cover = np.zeros((self.side, self.side), np.float32)
        self.index = np.zeros((self.side, self.side), np.uint8)

    def add(self, material: Material) -> int:
        """Add a material; returns the number by which shapes refer to it."""
        self.materials.append(material)
        return len(self.materials) - 1

    def capsule(
        self, start: Any, end: Any, wide: float, narrow: float, *, material: int, z: float = 0.0
    ) -> None:
        """A limb from `start` (radius `wide`) to `end` (radius `narrow`)."""
        start, end = np.asarray(start, np.float32), np.asarray(end, np.float32)
        reach = max(wide, narrow) + 2
        box = self._box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        if box is None:
            return
        x, y = _grid(box)
        axis = end - start
        along = ((x - start[0]) * axis[0] + (y - start[1]) * axis[1]) / (float(axis @ axis) + 1e-6)
        along = np.clip(along, 0, 1)
        away = np.hypot(x - start[0] - along * axis[0], y - start[1] - along * axis[1])
        radius = wide + (narrow - wide) * along
        self._merge(box, np.sqrt(np.maximum(radius**2 - away**2, 0)) + z, radius - away, material)

    def ellipsoid(
        self,
        centre: Any,
        axes: tuple[float, float],
        *,
        material: int,
        angle: float = 0.0,
        z: float = 0.0,
        depth: float | None = None,
    ) -> None:
        centre = np.asarray(centre, np.float32)
        reach = max(axes) + 2
        box = self._box(centre - reach, centre + reach)
        if box is None:
            return
        x, y = _grid(box)
        x, y = x - centre[0], y - centre[1]
        u = (x * math.cos(angle) + y * math.sin(angle)) / axes[0]
        v = (-x * math.sin(angle) + y * math.cos(angle)) / axes[1]
        out = np.hypot(u, v)
        thick = min(axes) if depth is None else depth
        height = thick * np.sqrt(np.maximum(1 - out * out, 0)) + z
        self._merge(box, height, (1 - out) * min(axes), material)

    def outline(
        self,
        points: NDArray[Any],
        *,
        material: int,
        roundness_px: float,
        z: float = 0.0,
        holes: tuple[NDArray[Any], ...] = (),
    ) -> None:
        """A closed outline, (n, 2), its rim rounded off over `roundness_px`; holes stay open."""
        mask = np.zeros((self.side, self.side), np.uint8)
        cv2.fillPoly(mask, [_fixed(points)], 255, cv2.LINE_AA, 3)
        for hole in holes:
            cv2.fillPoly(mask, [_fixed(hole)], 0, cv2.LINE_AA, 3)
        self.inflate(mask, material=material, roundness_px=roundness_px, z=z)

    def inflate(
        self, mask: NDArray[np.uint8], *, material: int, roundness_px: float, z: float = 0.0
    ) -> None:
        """A mask (h, w) uint8 as a body with a rounded rim."""
        x, y, width, height = cv2.boundingRect(mask)
        if width < 2 or height < 2:
            return
        box = (x, y, x + width, y + height)
        near = np.ascontiguousarray(mask[y : y + height, x : x + width])
        solid = cv2.copyMakeBorder((near > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
        depth = cv2.distanceTransform(self._beyond(solid, box), cv2.DIST_L2, 5)[1:-1, 1:-1]
        rim = np.maximum(roundness_px - depth, 0)
        dome = np.sqrt(np.maximum(roundness_px**2 - rim**2, 0))
        cover = near.astype(np.float32) / 255
        self._merge(box, dome + z, cover - 0.5, material)

    def _beyond(self, solid: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Any:
        """Fill the padding of a mask where the body continues outside the frame."""
        left, top, right, bottom = box
        if top == 0:
            solid[0] = solid[1]
        if bottom == self.side:
            solid[-1] = solid[-2]
        if left == 0:
            solid[:, 0] = solid[:, 1]
        if right == self.side:
            solid[:, -1] = solid[:, -2]
        return solid

    def _box(self, low: Any, high: Any) -> tuple[int, int, int, int] | None:
        x0, y0 = (max(0, math.floor(v)) for v in low)
        x1, y1 = (min(self.side, math.ceil(v) + 1) for v in high)
        return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None

    def _merge(
        self, box: tuple[int, int, int, int], height: Field, inside: Field, material: int
    ) -> None:
        """`inside`: signed distance to the edge in px, positive inside."""
        view = np.s_[box[1] : box[3], box[0] : box[2]]
        cover = np.clip(inside + 0.5, 0, 1)
        nearer = (cover > 0) & (height > self.height[view])
        self.height[view][nearer] = height[nearer]
        self.index[view][nearer] = material
        np.maximum(self.cover[view], cover, out=self.cover[view])

    # --- light ------------------------------------------------------------------------------------

    def albedo(self) -> Picture:
        """The unlit colours, material by material."""
        picture = self.materials[0].albedo.copy()
        for number, material in enumerate(self.materials[1:], 1):
            np.copyto(picture, material.albedo, where=(self.index == number)[..., None])
        return picture

    def shade(self, rng: Rng, light: Light, albedo: Picture | None = None) -> Picture:
        """The lit colours, (h, w, 3); outside the body the unlit ones."""
        albedo = self.albedo() if albedo is None else albedo
        solid, height = self.cover > 0, self._ground()
        normal = self._normals(height)
        toward = np.array(light.direction, np.float32)
        facing = normal @ toward
        wrap = rng.uniform(0, 0.35)
        direct = np.clip((facing + wrap) / (1 + wrap), 0, 1) * self._unshadowed(height, light)
        hollow = np.clip(1 - (blurred(height, 14) - height) / 40, 0.35, 1.1)
        above = (0.8 - 0.25 * normal[..., 1]) * hollow
        amount = direct[..., None] * light.key + above[..., None] * light.ambient
        # Light is applied to (about) linear values.
        lit = np.sqrt(np.maximum(np.square(albedo) * amount, 0))
        gloss = self._gloss(normal, toward)
        lit += gloss[..., None] * direct[..., None] * light.key
        return np.clip(lit, 0, 1) * solid[..., None] + albedo * ~solid[..., None]

    def _ground(self) -> Field:
        """The height with the bumps of the materials; flat where there is no body."""
        solid = self.cover > 0
        floor = float(self.height[solid].min()) if solid.any() else 0.0
        height = np.where(solid, self.height, floor)
        for number, material in enumerate(self.materials):
            if material.bump is not None:
                height += material.bump * (self.index == number)
        return cv2.GaussianBlur(height, (0, 0), 1.0)

    def _normals(self, height: Field) -> Picture:
        gx = np.clip(cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8), -2.5, 2.5)
        gy = np.clip(cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8), -2.5, 2.5)
        length = np.sqrt(gx * gx + gy * gy + 1)
        return np.stack([-gx / length, -gy / length, 1 / length], -1)

    def _unshadowed(self, height: Field, light: Light) -> Field:
        """1 where the key light arrives, less in cast shadows."""
        x, y, up = light.direction
        flat = math.hypot(x, y) + 1e-6
        blocked = np.zeros_like(height)
        for far in (6, 14, 30, 60):
            shift = np.float32([[1, 0, -x / flat * far], [0, 1, -y / flat * far]])
            moved = cv2.warpAffine(
                height, shift, (self.side, self.side), borderMode=cv2.BORDER_REPLICATE
            )
            over = moved - height - far * up / flat
            np.maximum(blocked, np.clip(over / (3 + far * 0.3), 0, 1), out=blocked)
        return 1 - 0.85 * blurred(blocked, 1.5)

    def _gloss(self, normal: Picture, toward: NDArray[np.float32]) -> Field:
        strength = np.array([material.gloss for material in self.materials], np.float32)
        if not strength.any():
            return np.zeros_like(self.height)
        half = toward + np.array([0, 0, 1], np.float32)
        half /= np.linalg.norm(half)
        shine = np.clip(normal @ half, 0, 1)
        return strength[self.index] * (0.7 * shine**40 + 0.2 * shine**8)


def _grid(box: tuple[int, int, int, int]) -> tuple[Field, Field]:
    x0, y0, x1, y1 = box
    x = np.arange(x0, x1, dtype=np.float32)[None]
    y = np.arange(y0, y1, dtype=np.float32)[:, None]
    return x, y


def _fixed(points: NDArray[Any]) -> NDArray[np.int32]:
    """Points with three fractional bits, as OpenCV's `shift=3` takes them."""
    return np.round(np.asarray(points, np.float64) * 8).astype(np.int32)


def rough_outline(
    rng: Rng, centre: Any, radius: float, *, rough: float = 0.3, points: int = 90
) -> NDArray[np.float64]:
    """A closed, irregular outline around a point, (n, 2)."""
    turn = np.linspace(0, 2 * math.pi, points, endpoint=False)
    distance = np.ones(points)
    for order in range(2, 9):
        distance += rough * rng.normal() / order * np.cos(order * turn + rng.uniform(0, 7))
    distance = np.maximum(distance, 0.25) * radius
    stretch = rng.uniform(0.6, 1.6)
    x, y = np.cos(turn) * distance * stretch, np.sin(turn) * distance / stretch
    spin = rng.uniform(0, math.pi)
    rotated = np.stack(
        [x * math.cos(spin) - y * math.sin(spin), x * math.sin(spin) + y * math.cos(spin)], -1
    )
    return rotated + np.asarray(centre)
