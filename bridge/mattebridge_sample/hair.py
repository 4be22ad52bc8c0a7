"""Long hair: thousands of strands that grow from the scalp, hang, and follow the head late.

Guides are walked out of the scalp under gravity, pushed off head and shoulders; every strand is
a mix of neighbouring guides with its own place, clump and curl. In motion a point far from the
root takes the pose that the head had a moment ago: that is the whole of the dynamics, and it
swings as hair does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mattebridge_sample.arrays import Array, dot, turned, vec
from mattebridge_sample.motion import base, chest_yaw, gesture, head_to_world, sway, yaw

KNOTS = 22
SCALP = (np.array([0.0, 1.630, -0.014], np.float32), np.array([0.080, 0.097, 0.101], np.float32))
PART_AT = np.float32(-0.020)  # the parting is on her left
# Ellipsoids that hair cannot enter, in the axes of the head ...
HEAD_SOLIDS = (
    ((0.0, 1.630, -0.014), (0.083, 0.100, 0.104)),
    ((0.0, 1.560, 0.020), (0.069, 0.080, 0.072)),
    ((0.0, 1.45, -0.015), (0.066, 0.14, 0.066)),
)
# ... and in those of the chest.
CHEST_SOLIDS = (
    ((0.0, 1.25, -0.005), (0.170, 0.215, 0.135)),
    ((-0.085, 1.385, -0.010), (0.125, 0.078, 0.085)),
    ((0.085, 1.385, -0.010), (0.125, 0.078, 0.085)),
    ((0.0, 1.40, -0.03), (0.11, 0.095, 0.088)),
)


@dataclass(frozen=True)
class Strands:
    """Strands at rest, in the axes of the head: points (N, KNOTS, 3) from root to tip."""

    points: Array
    along: Array  # (N, KNOTS) metres from the root
    tone: Array  # (N,) brightness and
    warmth: Array  # (N,) hue, each around 0
    phase: Array  # (N,) 0..1, one number for each strand


def _push_out(
    p: Array, solids: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...], gap: Array | float
) -> Array:
    for centre, radii in solids:
        q = p - vec(centre)
        part = q / (vec(radii) + np.asarray(gap)[..., None])
        size = np.sqrt(dot(part, part))[..., None]
        p = np.where(size < 1, vec(centre) + q / np.maximum(size, 1e-4), p)
    return np.asarray(p, np.float32)


def _roots(count: int, rng: np.random.Generator) -> Array:
    """Evenly spread places on the scalp, hair line respected."""
    found: list[Array] = []
    total = 0
    while total < count:
        ball = rng.normal(size=(count * 3, 3))
        ball /= np.sqrt((ball * ball).sum(1, keepdims=True))
        p = SCALP[0] + SCALP[1] * ball.astype(np.float32)
        x, y, z = np.abs(p[:, 0]), p[:, 1], p[:, 2]
        line = 1.545 + np.interp(
            z, [-0.10, -0.04, 0.0, 0.035, 0.06, 0.09], [0.0, 0.008, 0.045, 0.095, 0.135, 0.16]
        )
        line = line - 0.03 * (x > 0.062) * (z > 0.0) * (z < 0.035)
        keep = p[y > line + rng.normal(0, 0.003, len(p))]
        found.append(keep)
        total += len(keep)
    return np.asarray(np.concatenate(found)[:count], np.float32)


def grow(count: int, seed: int) -> Strands:
    """Strands of a shoulder-length cut and longer, with flyaways."""
    rng = np.random.default_rng([seed, 3])
    guide_roots = _roots(420, rng)
    guides = _walk(guide_roots, rng)
    roots = _roots(count, rng)
    apart = roots[:, None] - guide_roots[None]
    away = dot(apart, apart)
    # Strands from both sides of the parting must not mix.
    side = np.sign(roots[:, 0] - PART_AT)[:, None] != np.sign(guide_roots[:, 0] - PART_AT)[None]
    away = away + np.where(side & (roots[:, 2] > -0.05)[:, None], 0.01, 0)
    nearest = np.argsort(away, axis=1)[:, :3]
    weight = 1 / (np.take_along_axis(away, nearest, 1) + 2e-5)
    weight /= weight.sum(1, keepdims=True)
    shape = (guides - guides[:, :1])[nearest]
    blend = (shape * weight[:, :, None, None]).sum(1)
    # A lock is the mix of one guide's neighbours: further down strands gather around it.
    lock = shape[:, 0] + (guide_roots[nearest[:, 0]] - roots)[:, None]
    s = np.linspace(0, 1, KNOTS, dtype=np.float32)
    gather = (0.62 * s**1.2 * rng.uniform(0.3, 1.0, (count, 1)))[..., None]
    path = roots[:, None] + blend * (1 - gather) + lock * gather
    path = path + _curl(count, s, rng)
    length = rng.uniform(0.74, 1.04, (count, 1, 1)) - 0.35 * (rng.random((count, 1, 1)) < 0.06)
    path = roots[:, None] + (path - roots[:, None]) * length
    path = path + _flyaways(count, s, rng)
    path = _push_out(vec(path), HEAD_SOLIDS, vec(rng.uniform(0.000, 0.010, (count, 1))))
    path[:, 0] = roots
    steps = np.diff(path, axis=1)
    step = np.sqrt(dot(steps, steps))
    along = np.concatenate([np.zeros((count, 1)), np.cumsum(step, 1)], 1)
    tone = 0.35 * rng.normal(size=count) + 0.30 * np.sin(roots[:, 0] * 190 + roots[:, 2] * 140)
    return Strands(
        path.astype(np.float32),
        along.astype(np.float32),
        tone.astype(np.float32),
        rng.normal(size=count).astype(np.float32),
        rng.random(count).astype(np.float32),
    )


def _walk(roots: Array, rng: np.random.Generator) -> Array:
    """Guides (N, KNOTS, 3): out of the scalp, combed away from the parting and the face, down."""
    count = len(roots)
    normal = (roots - SCALP[0]) / SCALP[1] ** 2
    normal /= np.sqrt((normal * normal).sum(1, keepdims=True))
    side = np.where(roots[:, 0] > PART_AT, 1.0, -1.0).astype(np.float32)
    top = np.clip((roots[:, 1] - 1.665) / 0.045, 0, 1) * np.clip((roots[:, 2] + 0.07) / 0.06, 0, 1)
    front = np.clip((roots[:, 2] + 0.02) / 0.06, 0, 1)
    comb = np.stack([side * 0.75 * top, -0.9 + 0.7 * top, -0.75 * front - 0.45 * top], -1)
    # On her left it is tucked behind the ear.
    tucked = np.clip((PART_AT - roots[:, 0]) / 0.02, 0, 1) * front
    comb += tucked[:, None] * vec([0, 0.15, -1.6])
    comb -= (comb * normal).sum(1, keepdims=True) * normal
    comb /= np.maximum(np.sqrt((comb * comb).sum(1, keepdims=True)), 0.15)
    direction = 0.30 * normal + comb
    direction /= np.sqrt(dot(direction, direction))[:, None]
    # From the crown it has the longest way; the ends are cut in steps.
    total = 0.40 + 0.035 * rng.normal(size=count) - 0.05 * front
    total = total + 0.11 * np.clip((roots[:, 1] - 1.58) / 0.14, 0, 1)
    step = (total / (KNOTS - 1))[:, None].astype(np.float32)
    wave = 46 * roots[:, 0] + 30 * roots[:, 2] + 0.5 * rng.normal(size=count)
    lift = rng.uniform(0.003, 0.012, count) + 0.006 * top
    points = [roots]
    for index in range(1, KNOTS):
        s = index / (KNOTS - 1)
        ahead = (tucked * np.clip((points[-1][:, 2] + 0.045) / 0.04, 0, 1))[:, None]
        pull = vec([0, -1, 0]) * (0.30 + 0.45 * s) * (1 - 0.75 * ahead)
        pull = pull + vec([0, 0, -0.45]) * ahead
        turn = wave + 15 * s
        curl = np.stack([np.cos(turn), 0 * wave, np.sin(turn)], -1) * (0.17 * min(1.0, 2.2 * s))
        direction = direction + pull + curl
        direction /= np.sqrt(dot(direction, direction))[:, None]
        p = points[-1] + direction * step
        p = _push_out(p.astype(np.float32), HEAD_SOLIDS, lift + 0.004)
        p = _push_out(p, CHEST_SOLIDS, lift)
        direction = (p - points[-1]) / step
        direction /= np.maximum(np.sqrt(dot(direction, direction))[:, None], 1e-6)
        points.append(p)
    return np.stack(points, 1)


def _curl(count: int, s: Array, rng: np.random.Generator) -> Array:
    phase = rng.uniform(0, 2 * np.pi, (count, 3))
    turns = rng.uniform(1.2, 3.2, (count, 1))
    size = (0.0055 * rng.uniform(0.2, 1.0, (count, 1)) * np.minimum(1, 3 * s) * (0.4 + s))[
        ..., None
    ]
    wave = np.stack(
        [np.sin(2 * np.pi * turns * s + phase[:, axis : axis + 1]) for axis in range(3)], -1
    )
    return np.asarray(size * wave * vec([1, 0.3, 1]), np.float32)


def _flyaways(count: int, s: Array, rng: np.random.Generator) -> Array:
    """A few strands leave the rest, and many are a little loose: the halo against the light."""
    far = np.minimum(rng.exponential(0.8, (count, 1)), 2.4) * (rng.random((count, 1)) < 0.09)
    near = 0.45 * rng.random((count, 1)) * (rng.random((count, 1)) < 0.30)
    loose = far + near
    heading = rng.normal(size=(count, 1, 3)) * vec([1, 0.55, 1])
    bend = (
        rng.normal(size=(count, 1, 3))
        * np.sin(np.pi * s * rng.uniform(0.8, 2.2, (count, 1)))[..., None]
    )
    return np.asarray(
        (0.028 * loose * s**1.3)[..., None] * heading + (0.005 * loose)[..., None] * bend,
        np.float32,
    )


def at(strands: Strands, t: float) -> Array:
    """Strands (N, KNOTS, 3) in world space at a time in seconds."""
    s = np.linspace(0, 1, KNOTS, dtype=np.float32)
    late = vec((0.02 + 0.17 * s**1.4)[None] * (0.8 + 0.45 * strands.phase[:, None]))
    p = head_to_world(strands.points, vec(t - late))
    # What swings around overshoots a little at the tips.
    before = head_to_world(strands.points, vec(t - 2.1 * late))
    p = vec(p + (0.55 * s**1.5)[None, :, None] * (p - before) * vec([1, 0.3, 1]))
    # The draught that carries the scarf lifts the outer strands more than the inner ones.
    gust = 0.5 + 0.5 * np.sin(2 * np.pi * (0.9 * t - 0.8 * s[None]) + 5 * strands.phase[:, None])
    drift = (s**1.7)[None] * (0.012 + 0.055 * strands.phase[:, None] ** 3) * (0.4 + gust)
    p = vec(p + drift[..., None] * vec([1.0, 0.12, -0.15]))
    return _off_the_shoulders(p.astype(np.float32), strands, t)


def _off_the_shoulders(p: Array, strands: Strands, t: float) -> Array:
    t = float(gesture(t))
    turn = yaw(chest_yaw(t))
    shift = base(t) + sway(vec([1.3])[0:1], t)[0]
    local = turned(p - shift, turn.T)
    gap = (0.004 + 0.022 * strands.phase)[:, None]
    local = _push_out(local.astype(np.float32), CHEST_SOLIDS, gap)
    return np.asarray(turned(local, turn) + shift, np.float32)


def tangents(points: Array) -> Array:
    """Unit directions along strands, root to tip."""
    d = np.gradient(points, axis=1)
    return np.asarray(d / np.maximum(np.sqrt(dot(d, d))[..., None], 1e-9), np.float32)


def spread_matrix(count: int) -> Array:
    """(count, KNOTS) cubic interpolation from knots to `count` points along a strand."""
    x = np.linspace(0, KNOTS - 1, count)
    first = np.clip(np.floor(x).astype(int), 0, KNOTS - 2)
    f = x - first
    matrix = np.zeros((count, KNOTS))
    rows = np.arange(count)
    for offset, weight in (
        (-1, ((-f + 2) * f - 1) * f / 2),
        (0, ((3 * f - 5) * f * f + 2) / 2),
        (1, ((-3 * f + 4) * f + 1) * f / 2),
        (2, (f - 1) * f * f / 2),
    ):
        np.add.at(matrix, (rows, np.clip(first + offset, 0, KNOTS - 1)), weight)
    return matrix.astype(np.float32)
