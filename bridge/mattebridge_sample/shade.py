"""Light on the subject: the same sun, windows, lamp and bounced light that fall on the set.

`SunMap` sees the subject from the sun: it shadows her own body and, in `shadow.py`, the set.
`HairFog` counts how much hair lies between a point and a light, which is what gives hair depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mattebridge_sample import lights, walls
from mattebridge_sample.arrays import Array, dot, turned, vec

W_BESIDE = vec([walls.LEFT, 1.8, 0.5])
W_SEEN = vec([walls.LEFT, 1.7, 5.25])
EYE = vec([0.0, 1.52, 0.0])


def axes_toward(direction: Array) -> Array:
    """Rows: two directions across a light and the one toward it."""
    w = direction / np.sqrt((direction * direction).sum())
    u = np.cross(vec([0, 1, 0]), w)
    u /= np.sqrt((u * u).sum())
    return np.stack([u, np.cross(w, u), w]).astype(np.float32)


@dataclass(frozen=True)
class SunMap:
    """The subject as the sun sees it: the height toward the sun of the nearest point, per texel."""

    axes: Array
    origin: tuple[float, float]
    texel: float
    nearest: Array  # (M, M), -inf where nothing is
    solid: Array  # (M, M) 0..1 how much light is taken
    at: Array  # (M, M) mean height of what takes it

    def texels(self, points: Array) -> tuple[Array, Array, Array]:
        """Column, row and height toward the sun of points (..., 3)."""
        q = turned(points, self.axes)
        return (
            np.asarray((q[..., 0] - self.origin[0]) / self.texel, np.float32),
            np.asarray((q[..., 1] - self.origin[1]) / self.texel, np.float32),
            np.asarray(q[..., 2], np.float32),
        )

    def lit(self, points: Array, bias: float = 0.022) -> Array:
        """Share of the sun that reaches points of the subject itself."""
        x, y, w = self.texels(points)
        total = np.zeros(w.shape, np.float32)
        taps = ((0, 0), (1.3, 0.4), (-0.4, 1.3), (-1.3, -0.4), (0.4, -1.3))
        for dx, dy in taps:
            near = _pick(self.nearest, x + dx, y + dy)
            total += np.clip(1 - (near - w - bias) / 0.02, 0, 1)
        return vec(total / len(taps))


def _pick(image: Array, x: Array, y: Array, outside: float = -1e3) -> Array:
    shape = x.shape
    flat = cv2.remap(
        image,
        np.ascontiguousarray(x.reshape(shape[0], -1)),
        np.ascontiguousarray(y.reshape(shape[0], -1)),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=outside,
    )
    return np.asarray(flat.reshape(shape), np.float32)


def sun_map(solid: list[Array], sheer: list[tuple[Array, float]], texel: float = 0.0075) -> SunMap:
    """From opaque points (..., 3), and sheer ones with the share of light that they take."""
    axes = axes_toward(lights.TO_SUN)
    clouds = [turned(points.reshape(-1, 3), axes) for points in solid]
    veils = [(turned(points.reshape(-1, 3), axes), share) for points, share in sheer]
    every = np.concatenate(clouds + [cloud for cloud, _ in veils])
    low, high = every.min(0) - 0.06, every.max(0) + 0.06
    size = (int((high[1] - low[1]) / texel) + 1, int((high[0] - low[0]) / texel) + 1)
    nearest = np.full(size, -1e3, np.float32)
    for cloud in clouds:
        _raise(nearest, cloud, low, texel)
    nearest = vec(cv2.dilate(nearest, np.ones((3, 3), np.uint8)))
    taken = (nearest > -1e2).astype(np.float32)
    height = np.where(taken > 0, nearest, 0)
    for cloud, share in veils:
        hit = np.full(size, -1e3, np.float32)
        _raise(hit, cloud, low, texel)
        hit = vec(cv2.dilate(hit, np.ones((3, 3), np.uint8)))
        there = hit > -1e2
        height = np.where(there & (taken == 0), hit, height)
        taken = np.where(there, 1 - (1 - taken) * (1 - share), taken)
    return SunMap(
        axes,
        (float(low[0]), float(low[1])),
        texel,
        nearest,
        taken.astype(np.float32),
        height.astype(np.float32),
    )


def _raise(target: Array, cloud: Array, low: Array, texel: float) -> None:
    order = np.argsort(cloud[:, 2], kind="stable")
    column = ((cloud[order, 0] - low[0]) / texel).astype(np.int32)
    row = ((cloud[order, 1] - low[1]) / texel).astype(np.int32)
    flat = target.reshape(-1)
    index = row * target.shape[1] + column
    flat[index] = np.maximum(flat[index], cloud[order, 2])


@dataclass(frozen=True)
class HairFog:
    """Hair between each place and a light, as a volume in the light's own axes."""

    axes: Array
    low: Array
    cell: float
    depth: Array  # (A, B, C): hair passed on the way from the light

    def clear(self, points: Array, strength: float) -> Array:
        """Share of the light that comes through to points (..., 3)."""
        q = (turned(points, self.axes) - self.low) / self.cell
        i = np.floor(q).astype(np.int32)
        inside = ((i >= 0) & (i < np.array(self.depth.shape) - 1)).all(-1)
        i = np.clip(i, 0, np.array(self.depth.shape) - 2)
        f = np.clip(q - i, 0, 1).astype(np.float32)
        total = np.zeros(points.shape[:-1], np.float32)
        for dx in (0, 1):
            for dy in (0, 1):
                for dz in (0, 1):
                    weight = (
                        (f[..., 0] if dx else 1 - f[..., 0])
                        * (f[..., 1] if dy else 1 - f[..., 1])
                        * (f[..., 2] if dz else 1 - f[..., 2])
                    )
                    total += weight * self.depth[i[..., 0] + dx, i[..., 1] + dy, i[..., 2] + dz]
        return np.asarray(np.where(inside, np.exp(-strength * total), 1), np.float32)


def hair_fog(hair: Array, toward: Array, share: float, cell: float = 0.014) -> HairFog:
    """The fog of strands (N, K, 3); `share` is the hair that one vertex stands for."""
    axes = axes_toward(toward)
    q = turned(hair.reshape(-1, 3), axes)
    low = q.min(0) - 3 * cell
    size = ((q.max(0) - low) / cell).astype(int) + 4
    index = ((q - low) / cell).astype(np.int64)
    flat = (index[:, 0] * size[1] + index[:, 1]) * size[2] + index[:, 2]
    grid = np.bincount(flat, minlength=int(size.prod())).reshape(size).astype(
        np.float32
    ) * np.float32(share)
    for axis in (0, 1):
        grid = (np.roll(grid, 1, axis) + 2 * grid + np.roll(grid, -1, axis)) / 4
    passed = np.cumsum(grid[..., ::-1], -1)[..., ::-1]
    passed = np.concatenate([passed[..., 1:], np.zeros_like(passed[..., :1])], -1) + 0.3 * grid
    return HairFog(axes, low.astype(np.float32), cell, passed.astype(np.float32))


@dataclass(frozen=True)
class Lighting:
    """All that is needed to light the subject in one frame."""

    sun: SunMap
    fogs: dict[str, HairFog]
    probe: Array  # (6, 3) irradiance on surfaces facing +x -x +y -y +z -z
    blobs: Array  # (B, 4) spheres standing for the body, x y z radius

    def ambient(self, n: Array) -> Array:
        """Bounced light for normals (..., 3)."""
        up, down = np.maximum(n, 0) ** 2, np.maximum(-n, 0) ** 2
        total = sum(
            up[..., axis, None] * self.probe[2 * axis]
            + down[..., axis, None] * self.probe[2 * axis + 1]
            for axis in range(3)
        )
        return np.asarray(total, np.float32)

    def openness(self, p: Array, n: Array) -> tuple[Array, Array]:
        """Share of the surroundings that points see past the body: straight up, and wide."""
        shut, wide = np.zeros(p.shape[:-1], np.float32), np.zeros(p.shape[:-1], np.float32)
        for blob in self.blobs:
            away = blob[:3] - p
            square = dot(away, away)
            cosine = dot(away, n) / np.sqrt(np.maximum(square, 1e-8))
            share = blob[3] ** 2 / np.maximum(square, blob[3] ** 2)
            shut += np.maximum(cosine, 0) * share
            wide += np.maximum(cosine + 0.35, 0) * share
        return np.exp(-1.15 * shut), np.exp(-0.85 * wide)


def _toward(p: Array, place: Array) -> tuple[Array, Array]:
    away = place - p
    square = dot(away, away)
    return np.asarray(away / np.sqrt(square)[..., None], np.float32), np.asarray(square, np.float32)


def sources(p: Array, light: Lighting, own: Array | None) -> list[tuple[Array, Array, float]]:
    """For points (..., 3): direction, irradiance on a surface facing it, softness of each light.

    `own` is how much of the sun the body itself lets through.
    """
    flat = p.reshape(-1, 3).T
    sun = lights.sun_through_window(flat, 0.016).reshape(p.shape[:-1])
    sun = sun * (light.sun.lit(p) if own is None else own)
    sun = sun * light.fogs["sun"].clear(p, 1.0)
    result = [(np.broadcast_to(lights.TO_SUN, p.shape), sun[..., None] * lights.SUN, 0.0)]
    for place, name, area, soft in (
        (W_BESIDE, "beside", 4.3 * lights.SKY_SHARE[0], 0.35),
        (W_SEEN, "seen", 2.9, 0.12),
    ):
        toward, square = _toward(p, place)
        power = area * np.maximum(-toward[..., 0], 0) / (square + 0.4)
        power = power * light.fogs[name].clear(p, 0.8)
        result.append((toward, power[..., None] * lights.SKY, soft))
    toward, square = _toward(p, lights.LAMP_AT)
    power = light.fogs["lamp"].clear(p, 0.8) / square
    result.append((toward, power[..., None] * lights.LAMP, 0.05))
    return result


def light_part(material: str, colour: Array, points: Array, n: Array, light: Lighting) -> Array:
    """Radiance toward the camera (R, C, 3) of a part of the body with these normals."""
    view = EYE - points
    view = view / np.sqrt(dot(view, view))[..., None]
    facing = np.clip(dot(view, n), 0, 1)
    open_, wide = light.openness(points, n)
    skin = material == "skin"
    total = light.ambient(n) * open_[..., None] * colour / np.pi
    for toward, power, soft in sources(points, light, None):
        cosine = dot(toward, n)
        reach = power * (1 if soft == 0 else wide[..., None])
        if skin:
            # Light wanders in skin: the edge of a shadow is soft, and red.
            wrap = vec([0.30, 0.14, 0.09]) + soft
            lambert = np.clip((cosine[..., None] + wrap) / (1 + wrap), 0, 1) ** 1.2
        else:
            lambert = np.clip((cosine[..., None] + soft + 0.05) / (1.05 + soft), 0, 1)
        total = total + colour / np.pi * reach * lambert
        half = toward + view
        half = half / np.sqrt(dot(half, half))[..., None]
        if skin:
            lobe = np.clip(dot(half, n), 0, 1)
            gleam = 0.020 * lobe**14 * 2.2 + 0.012 * lobe**55 * 5
            total = total + reach * (gleam * np.clip(cosine + 0.1, 0, 1))[..., None]
        else:
            fuzz = 0.030 * (1 - facing) ** 3 * np.clip(cosine + 0.3, 0, 1)
            total = total + reach * fuzz[..., None]
    return np.asarray(total, np.float32)


MELANIN = vec([0.130, 0.054, 0.024])


def light_hair(
    hair: Array, tangent: Array, tone: Array, warmth: Array, along: Array, light: Lighting
) -> Array:
    """Radiance (N, K, 3) of strands: two highlights along the hair, and light through it."""
    view = hair - EYE
    view = view / np.sqrt(dot(view, view))[..., None]
    colour = MELANIN * np.exp(vec([0.30, 0.42, 0.5]) * tone[:, None])[:, None]
    colour = colour * np.exp(vec([0.05, -0.04, -0.12]) * warmth[:, None])[:, None]
    tips = np.clip((along - 0.15) / 0.35, 0, 1)[..., None]
    colour = colour * (1 + vec([0.40, 0.36, 0.30]) * tips)
    shift = (0.07 * warmth)[:, None]
    deep = light.fogs["camera"].clear(hair, 0.30)
    total = colour * (0.30 * light.probe.mean(0) / np.pi) * (0.25 + 0.75 * deep)[..., None]
    own = light.sun.lit(hair, bias=0.05)
    for toward, power, _ in sources(hair, light, own):
        across = dot(toward, tangent)
        sine = np.sqrt(np.maximum(1 - across * across, 0))
        look = dot(view, tangent)
        look_sine = np.sqrt(np.maximum(1 - look * look, 0))
        # Angle between the light and its mirror direction along the hair.
        mirror = sine * look_sine + across * look
        first = np.clip(mirror - shift, 0, 1) ** 42
        second = np.clip(mirror + 0.05 + 0.5 * shift, 0, 1) ** 9
        behind = np.clip(dot(toward, view), 0, 1) ** 5
        lobe = (
            colour * (0.22 * sine)[..., None]
            + np.float32(0.050) * first[..., None]
            + colour * (0.42 * second)[..., None]
            + np.sqrt(colour) * colour * (2.2 * behind * sine)[..., None]
        )
        total = total + power * lobe / np.float32(1.3)
    return np.asarray(total, np.float32)
