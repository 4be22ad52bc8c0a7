"""A sheer scarf: a loose wrap at the neck, and one long tail that the draught carries.

The tail is the translucent part of the shot. It is drawn as areal density: where the cloth lies
double, or is seen edge-on, more of it lies over a pixel and less of the set comes through.
"""

from __future__ import annotations

import numpy as np

from mattebridge_sample.arrays import Array, dot, turned, vec
from mattebridge_sample.figure import Part, normals
from mattebridge_sample.motion import chest_yaw, gesture, torso_to_world, yaw
from mattebridge_sample.shade import EYE, Lighting, sources

CLOTH = np.array([0.62, 0.66, 0.68], np.float32)
LENGTH, WIDTH = 0.72, 0.25


def wrap() -> Part:
    """The wrap around the neck, upright and facing away; opaque, several layers thick."""
    rows, columns = 60, 140
    angle = np.arange(columns, dtype=np.float32) * np.float32(2 * np.pi / columns)
    polar = np.linspace(0.06, 2 * np.pi - 0.06, rows, dtype=np.float32)[:, None]
    ring = np.float32(0.083) + 0.010 * np.cos(angle) + 0.006 * np.sin(2 * angle + 1)
    thick = 0.030 + 0.006 * np.sin(3 * angle + 0.5) + 0.004 * np.sin(5 * angle + 2)
    fold = 0.0042 * np.sin(polar * 5 + 3 * np.sin(angle * 2) + angle) + 0.003 * np.sin(
        9 * polar - 4 * angle
    )
    tube = thick + fold
    r = ring + tube * np.cos(polar)
    y = 1.428 + 1.15 * tube * np.sin(polar) + 0.014 * np.cos(angle + 3.4)
    points = np.stack([r * np.sin(angle), y, -0.008 + r * np.cos(angle) * 0.95], -1).astype(
        np.float32
    )
    crease = np.exp(55 * fold)[..., None]
    colour = CLOTH * (0.82 * crease)
    return Part(points[::-1], np.asarray(colour[::-1], np.float32), "cloth")


def tail(t: float) -> Array:
    """The tail in world space (A, B, 3): A along it from the nape, B across."""
    rows, columns = 110, 44
    a = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    b = np.linspace(-1, 1, columns, dtype=np.float32)[None]
    start = torso_to_world(vec([0.045, 1.432, -0.095]), t)
    turn = yaw(chest_yaw(float(gesture(t))) * 0.35)
    flow = 2 * np.pi * (1.15 * a - 1.25 * t)
    rise = -0.30 + 0.42 * a + 0.36 * np.sin(flow + 0.4) * (0.25 + a)
    depth = -0.10 + 0.30 * np.sin(0.8 * flow + 1.7) * a
    step = np.stack([np.cos(rise) * np.cos(depth), np.sin(rise), np.sin(depth)], -1) * (
        LENGTH / rows
    )
    spine = np.cumsum(step, 0)
    # Across: mostly upright, turning over along the tail; gathered at the neck.
    twist = 0.35 + 0.55 * np.sin(2 * np.pi * (0.9 * a - 0.9 * t) + 0.8) + 0.35 * a
    along = step / np.sqrt(dot(step, step))[..., None]
    up = vec([0, 1, 0]) - along * along[..., 1:2]
    up /= np.sqrt(dot(up, up))[..., None]
    side = np.cross(along, up)
    across = np.cos(twist)[..., None] * up + np.sin(twist)[..., None] * side
    normal = np.cos(twist)[..., None] * side - np.sin(twist)[..., None] * up
    width = WIDTH / 2 * (0.16 + 0.84 * np.clip(a / 0.45, 0, 1) ** 0.8)
    ripple = 0.020 * np.sin(2 * np.pi * (1.6 * b + 1.7 * a - 1.1 * t)) + 0.011 * np.sin(
        2 * np.pi * (3.1 * b - 2.3 * a + 0.8 * t) + 1
    )
    ripple = ripple * np.clip(a * 3, 0.3, 1) + 0.030 * np.sin(9 * b + 2) * np.clip(1 - a * 3, 0, 1)
    sag = -0.03 * b * b * a
    local = spine + (width * b + sag)[..., None] * across + ripple[..., None] * normal
    local = turned(local, turn)
    return np.asarray(start + local, np.float32)


def light_tail(points: Array, light: Lighting) -> tuple[Array, Array]:
    """Radiance (A, B, 3) of the thin cloth and its optical depth seen from the camera (A, B)."""
    n = normals(points, closed=False)
    view = EYE - points
    view = view / np.sqrt(dot(view, view))[..., None]
    facing = dot(view, n)
    n = n * np.sign(facing)[..., None]
    total = CLOTH / np.pi * (0.5 * light.ambient(n) + 0.35 * light.ambient(-n))
    own = 0.35 + 0.65 * light.sun.lit(points, bias=0.06)
    for toward, power, soft in sources(points, light, own):
        cosine = dot(toward, n)
        front = np.clip((cosine + soft) / (1 + soft), 0, 1)
        through = np.clip((-cosine + soft) / (1 + soft), 0, 1)
        sheen = 0.03 * (1 - np.abs(facing)) ** 2 * np.abs(cosine)
        total = total + power * (
            CLOTH / np.pi * (0.85 * front + 0.60 * through)[..., None] + sheen[..., None]
        )
    rows, columns = points.shape[:2]
    b = np.abs(np.linspace(-1, 1, columns, dtype=np.float32))[None]
    a = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    hem = np.maximum(np.clip((b - 0.93) / 0.02, 0, 1), np.clip((a - 0.972) / 0.006, 0, 1))
    stripe = 0.5 * np.exp(-(((a - 0.90) / 0.010) ** 2)) + 0.5 * np.exp(-(((a - 0.86) / 0.010) ** 2))
    gather = 1.1 * np.clip(1 - a / 0.30, 0, 1)
    tau = (0.62 + 0.55 * hem + 0.9 * stripe + gather) / np.clip(np.abs(facing), 0.28, 1)
    tau = tau * (1 + 0.10 * np.sin(2 * np.pi * 10 * b))
    return np.asarray(total, np.float32), np.asarray(tau, np.float32)
