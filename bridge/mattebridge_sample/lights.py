"""The light of the set: evening sun, two windows of sky, a floor lamp, and bounced light.

Points and normals are (3, N). Strengths are set so that sunlit brick lies a little below white and
her shadow on it keeps a quarter of the light, so that a keyer can tell it from a subject.
"""

from __future__ import annotations

import numpy as np

from mattebridge_sample.arrays import Array, vec
from mattebridge_sample.shapes import Solid, blocked, first_hit
from mattebridge_sample.textures import look_up, mix, noise_tile, smoothstep
from mattebridge_sample.walls import LEFT, WINDOWS, shell

TO_SUN = np.array([-1.0, 0.21, -0.47], np.float32) / np.float32(np.sqrt(1 + 0.21**2 + 0.47**2))
SUN = np.array([5.7, 4.85, 4.05], np.float32)  # irradiance on a surface facing it
SKY = np.array([3.75, 3.65, 3.65], np.float32)  # mean radiance of the windows
# Trees stand close before the first window and take some of its sky.
SKY_SHARE = (0.9, 1.0)
LAMP = np.array([2.1, 1.15, 0.50], np.float32)  # intensity of the floor lamp
LAMP_AT = np.array([0.62, 1.58, 5.35], np.float32)
AMBIENT = np.array([0.40, 0.365, 0.34], np.float32)  # light of all further bounces


def sun_through_window(points: Array, soften: float = 0.010) -> Array:
    """How much of the sun's disc points (3, N) see through the windows and their bars, 0..1."""
    reach = np.maximum(points[0] - (LEFT - 0.13), 0.01) / -TO_SUN[0]
    y = points[1] + TO_SUN[1] * reach
    z = points[2] + TO_SUN[2] * reach
    blur = np.maximum(soften * reach, 1e-3)
    total = np.zeros(points.shape[1], np.float32)
    for z0, z1, y0, y1 in WINDOWS:
        total += _open_share(y, y0, y1, 3, blur) * _open_share(z, z0, z1, 4, blur)
    return total


def toward_sun(normal: Array) -> Array:
    """Cosine between normals (3, N) and the sun."""
    return vec(TO_SUN[0] * normal[0] + TO_SUN[1] * normal[1] + TO_SUN[2] * normal[2])


def _open_share(x: Array, low: float, high: float, panes: int, blur: Array) -> Array:
    """Share of a window's axis that is glass, seen through a blur of this width."""
    share = np.zeros_like(x)
    for pane in range(panes):
        a = low + (high - low) * pane / panes + (0.035 if pane == 0 else 0.018)
        b = low + (high - low) * (pane + 1) / panes - (0.035 if pane == panes - 1 else 0.018)
        share += np.clip((x - a) / blur + 0.5, 0, 1) - np.clip((x - b) / blur + 0.5, 0, 1)
    return np.asarray(share, np.float32)


def open_sky(p: Array, n: Array) -> Array:
    """The windows as point-like sources: quick, unshadowed."""
    total = np.zeros(p.shape[1], np.float32)
    for (z0, z1, y0, y1), share in zip(WINDOWS, SKY_SHARE):
        away = vec([[LEFT], [(y0 + y1) / 2], [(z0 + z1) / 2]]) - p
        square = (away * away).sum(0) + 0.4
        area = share * (z1 - z0) * (y1 - y0) * 0.86
        cosine = np.maximum((away * n).sum(0), 0) * np.maximum(-away[0], 0)
        total += area * cosine / square**2
    return total


def window_light(
    p: Array, n: Array, casters: list[Solid], rng: np.random.Generator, per_window: int
) -> Array:
    """Light of the sky through the windows at each point (N,), for radiance 1 of the glass."""
    total = np.zeros(p.shape[1], np.float32)
    for (z0, z1, y0, y1), share in zip(WINDOWS, SKY_SHARE):
        side = int(np.sqrt(per_window))
        area = share * (z1 - z0) * (y1 - y0) * 0.86  # the bars take the rest
        for i in range(side):
            for j in range(side):
                jitter = rng.random((2, p.shape[1]), dtype=np.float32)
                target = np.stack(
                    [
                        np.full(p.shape[1], LEFT - 0.05, np.float32),
                        y0 + (y1 - y0) * (i + jitter[0]) / side,
                        z0 + (z1 - z0) * (j + jitter[1]) / side,
                    ]
                )
                total += _gather(p, n, target, casters, area / side**2)
    return total


def _gather(p: Array, n: Array, target: Array, casters: list[Solid], area: float) -> Array:
    away = target - p
    square = (away * away).sum(0)
    distance = np.sqrt(square)
    away /= distance
    cosine = np.maximum((away * n).sum(0), 0) * np.maximum(-away[0], 0)
    value = area * cosine / np.maximum(square, 0.05)
    open_ = np.flatnonzero(value > 1e-5)
    shut = blocked(
        casters, p[:, open_] + 0.004 * n[:, open_], away[:, open_], distance[open_] - 0.01
    )
    value[open_[shut]] = 0
    return np.asarray(value, np.float32)


def lamp_light(
    p: Array, n: Array, casters: list[Solid], rng: np.random.Generator, samples: int
) -> Array:
    total = np.zeros(p.shape[1], np.float32)
    for _ in range(samples):
        target = LAMP_AT[:, None] + rng.uniform(-0.1, 0.1, (3, p.shape[1])).astype(np.float32)
        away = target - p
        square = (away * away).sum(0)
        distance = np.sqrt(square)
        away /= distance
        value = np.maximum((away * n).sum(0), 0) / np.maximum(square, 0.03)
        # The shade lets more out above and below than through its cloth.
        value *= 0.45 + 0.9 * smoothstep(0.55, 0.85, np.abs(away[1]))
        shut = blocked(casters, p + 0.004 * n, away, distance - 0.12)
        total += np.where(shut, 0, value).astype(np.float32)
    return vec(total / samples)


def bounced_light(
    p: Array, n: Array, things: list[Solid], tint: Array, rng: np.random.Generator, samples: int
) -> Array:
    """Irradiance (N, 3) from the walls and things around after one bounce."""
    total = np.zeros((p.shape[1], 3), np.float32)
    a = np.where(np.abs(n[0]) > 0.8, vec([[0], [1], [0]]), vec([[1], [0], [0]]))
    tangent = np.cross(n, a, axis=0)
    tangent /= np.sqrt((tangent * tangent).sum(0))
    bitangent = np.cross(n, tangent, axis=0)
    turn_by = rng.random(p.shape[1], dtype=np.float32)
    for sample in range(samples):
        r = np.sqrt((sample + rng.random(p.shape[1], dtype=np.float32)) / samples)
        phi = 2 * np.pi * (turn_by + sample * 0.618034)
        direction = (
            (r * np.cos(phi)) * tangent + (r * np.sin(phi)) * bitangent + np.sqrt(1 - r * r) * n
        )
        direction = direction.astype(np.float32)
        total += _seen(p + 0.004 * n, direction, things, tint)
    return np.asarray(total * np.pi / samples, np.float32)


def _seen(origin: Array, direction: Array, things: list[Solid], tint: Array) -> Array:
    """Radiance (N, 3) along rays: plain colours, no further shadows; windows count as dark."""
    t, kind, normal = shell(origin, direction)
    near, which = first_hit(things, origin, direction)
    hit = near < t
    t = np.where(hit, near, t)
    kind = np.where(hit, which, kind)
    at = origin + t * direction
    for index in np.unique(which[hit]):
        here = np.flatnonzero(hit & (which == index))
        normal[:, here] = things[index].normal(at[:, here])
    colour = tint[kind + 8]
    sun = sun_through_window(at) * np.maximum(toward_sun(normal), 0)
    light = AMBIENT * 1.3 + sun[:, None] * SUN + open_sky(at, normal)[:, None] * SKY
    away = LAMP_AT[:, None] - at
    square = (away * away).sum(0)
    lamp = np.maximum((away * normal).sum(0), 0) / np.maximum(square, 0.05) ** 1.5 * 0.6
    light = light + lamp[:, None] * LAMP
    return np.asarray(np.where((kind == -7)[:, None], 0, colour * light / np.pi), np.float32)


def outside(direction: Array) -> Array:
    """Radiance (N, 3) of what is beyond the windows: evening sky over trees and a house."""
    rise = direction[1] / np.maximum(np.abs(direction[0]), 0.05)
    along = direction[2] / np.maximum(np.abs(direction[0]), 0.05)
    sky = mix(vec([4.6, 5.2, 6.0]), vec([8.8, 7.6, 6.0]), np.exp(-5 * np.maximum(rise, 0)))
    crown = 0.10 + 0.09 * look_up(noise_tile(91, 256, 1.4), along / 2.4, along * 0)
    leaves = look_up(noise_tile(92, 256, 1.3), along / 1.5, rise / 1.5)
    trees = vec([0.62, 0.85, 0.34]) * np.exp(0.45 * leaves)[:, None]
    return mix(sky, trees, smoothstep(0.04, -0.04, rise - crown))
