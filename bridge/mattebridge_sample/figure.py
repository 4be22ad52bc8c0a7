"""The subject's body: grids of vertices for head, clothes, arms and hands, made from soft solids.

The body is modelled as a distance to a soft union of ellipsoids and capsules, upright and facing
away, and its skin is found once by walking in from outside; moving it is `motion.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mattebridge_sample.arrays import Array, dot, vec
from mattebridge_sample.motion import Arm
from mattebridge_sample.textures import look_up, noise_tile, smoothstep

HEM, TROUSERS_TOP = 0.885, 0.905
SWEATER = np.array([0.028, 0.108, 0.136], np.float32)
DENIM = np.array([0.028, 0.036, 0.060], np.float32)
SKIN = np.array([0.56, 0.315, 0.215], np.float32)
LIPS = np.array([0.42, 0.13, 0.11], np.float32)
BROW = np.array([0.060, 0.036, 0.022], np.float32)


def _ellipsoid(p: Array, centre: tuple[float, ...], radii: tuple[float, ...]) -> Array:
    q = p - vec(centre)
    near, far = q / vec(radii), q / vec(radii) ** 2
    a, b = np.sqrt(dot(near, near)), np.sqrt(dot(far, far))
    return np.asarray(a * (a - 1) / np.maximum(b, 1e-6), np.float32)


def _capsule(p: Array, a: tuple[float, ...], b: tuple[float, ...], ra: float, rb: float) -> Array:
    axis = vec(b) - vec(a)
    q = p - vec(a)
    h = np.clip((q @ axis) / float(axis @ axis), 0, 1)
    d = q - h[..., None] * axis
    return np.asarray(np.sqrt(dot(d, d)) - (ra + (rb - ra) * h), np.float32)


def _join(a: Array, b: Array, soft: float) -> Array:
    h = np.clip(0.5 + 0.5 * (b - a) / soft, 0, 1)
    return np.asarray(b + (a - b) * h - soft * h * (1 - h), np.float32)


def _cut(a: Array, b: Array, soft: float) -> Array:
    return -_join(-a, b, soft)


def _body(p: Array) -> Array:
    q = p.copy()
    q[..., 0] = np.abs(q[..., 0])  # left and right are alike
    d = _ellipsoid(q, (0, 0.92, 0), (0.165, 0.14, 0.112))
    d = _join(d, _ellipsoid(q, (0.075, 0.865, -0.052), (0.095, 0.095, 0.09)), 0.05)
    d = _join(d, _capsule(q, (0.085, 0.86, 0.0), (0.09, 0.45, 0.01), 0.098, 0.075), 0.05)
    d = _join(d, _ellipsoid(q, (0, 1.07, 0.0), (0.118, 0.17, 0.088)), 0.06)
    d = _join(d, _ellipsoid(q, (0, 1.25, -0.005), (0.148, 0.19, 0.108)), 0.06)
    d = _join(d, _ellipsoid(q, (0.068, 1.245, 0.085), (0.066, 0.066, 0.055)), 0.04)
    d = _join(d, _ellipsoid(q, (0.075, 1.31, -0.075), (0.075, 0.10, 0.04)), 0.05)
    d = _join(d, _capsule(q, (0, 1.375, -0.008), (0.140, 1.376, -0.008), 0.062, 0.056), 0.05)
    return _join(d, _capsule(q, (0, 1.46, -0.02), (0.13, 1.40, -0.014), 0.048, 0.036), 0.04)


def _neck(p: Array) -> Array:
    return _capsule(p, (0, 1.38, -0.015), (0, 1.56, 0.012), 0.056, 0.050)


def _face(p: Array) -> Array:
    q = p.copy()
    q[..., 0] = np.abs(q[..., 0])
    d = _ellipsoid(q, (0, 1.632, -0.018), (0.0765, 0.093, 0.098))
    d = _join(d, _ellipsoid(q, (0, 1.585, 0.022), (0.063, 0.095, 0.073)), 0.03)
    d = _join(d, _capsule(q, (0.050, 1.548, 0.012), (0.012, 1.511, 0.070), 0.020, 0.016), 0.03)
    d = _join(d, _ellipsoid(q, (0, 1.512, 0.078), (0.018, 0.014, 0.014)), 0.02)
    d = _join(d, _ellipsoid(q, (0.040, 1.578, 0.062), (0.026, 0.02, 0.024)), 0.02)
    d = _join(d, _ellipsoid(q, (0.022, 1.622, 0.082), (0.032, 0.010, 0.014)), 0.016)
    d = _cut(d, _ellipsoid(q, (0.032, 1.603, 0.104), (0.020, 0.011, 0.017)), 0.012)
    d = _join(d, _ellipsoid(q, (0.031, 1.601, 0.078), (0.0135, 0.012, 0.0125)), 0.003)
    d = _join(d, _capsule(q, (0, 1.607, 0.092), (0, 1.569, 0.110), 0.0065, 0.0105), 0.012)
    d = _join(d, _ellipsoid(q, (0.010, 1.562, 0.099), (0.009, 0.007, 0.010)), 0.008)
    d = _join(d, _ellipsoid(q, (0, 1.5435, 0.0905), (0.021, 0.0055, 0.0105)), 0.006)
    d = _join(d, _ellipsoid(q, (0, 1.5345, 0.0895), (0.019, 0.0065, 0.0105)), 0.005)
    return _join(d, _neck(p), 0.02)


@dataclass(frozen=True)
class Part:
    """A grid of vertices at rest (R, C, 3), its reflectance (R, C, 3), and how it takes light."""

    points: Array
    colour: Array
    material: str  # "skin" | "cloth" | "denim"
    detail: Array | None = None


def _walk_in(origin: Array, outward: Array, start: float, distance_to: object) -> Array:
    """Points on the surface met when walking from `start` metres out toward each origin."""
    r = np.full(outward.shape[:-1], start, np.float32)
    for _ in range(40):
        step = distance_to(origin + r[..., None] * outward)  # type: ignore[operator]
        r = np.maximum(r - 0.8 * step, 0.004)
    return np.asarray(origin + r[..., None] * outward, np.float32)


def normals(points: Array, closed: bool = True) -> Array:
    """Outward unit normals of a grid whose columns run around and rows run down or up."""
    if closed:
        ring = np.concatenate([points[:, -1:], points, points[:, :1]], 1)
        across = (ring[:, 2:] - ring[:, :-2]) / 2
    else:
        across = np.gradient(points, axis=1)
    n = np.cross(across, np.gradient(points, axis=0))
    return np.asarray(n / np.maximum(np.sqrt(dot(n, n))[..., None], 1e-9), np.float32)


def _rings(rows: int, columns: int, y0: float, y1: float) -> tuple[Array, Array, Array]:
    y = np.linspace(y0, y1, rows, dtype=np.float32)
    angle = np.arange(columns, dtype=np.float32) * np.float32(2 * np.pi / columns)
    origin = np.zeros((rows, columns, 3), np.float32)
    origin[..., 1] = y[:, None]
    outward = np.zeros_like(origin)
    outward[..., 0], outward[..., 2] = np.sin(angle), np.cos(angle)
    return origin, outward, angle


def _folds(u: Array, v: Array, seed: int) -> Array:
    """Soft creases in metres over a cloth, u around and v along, both in metres."""
    long = noise_tile(seed, 256, 2.0, aspect=3.2)
    ridge = np.zeros(u.shape, np.float32)
    for angle, scale, weight in ((0.6, 0.55, 1.0), (-0.7, 0.62, 0.9), (0.1, 0.42, 0.5)):
        c, s = np.cos(angle), np.sin(angle)
        n = look_up(long, (c * u + s * v) / scale, (c * v - s * u) / scale)
        ridge += vec(weight * (1 - np.abs(n)) * np.exp(-0.5 * np.abs(n)))
    return np.asarray(0.0042 * ridge, np.float32)


@lru_cache(maxsize=8)
def knit(columns: int, rows: int, across: int, along: int) -> Array:
    """Knitted rows as a brightness pattern (rows, columns) around 1."""
    v, u = np.mgrid[0:rows, 0:columns].astype(np.float32)
    u, v = u / columns * across, v / rows * along
    wale = np.abs((u % 1) - 0.5) * 2
    stitch = 0.5 + 0.5 * np.cos(2 * np.pi * (v + 0.7 * np.abs((u % 1) - 0.5)))
    fuzz = look_up(noise_tile(77, 256, 0.6), u / 60, v / 60)
    return np.asarray(
        (0.80 + 0.30 * (1 - wale**3) * (0.55 + 0.45 * stitch)) * np.exp(0.10 * fuzz), np.float32
    )


@lru_cache(maxsize=1)
def torso() -> Part:
    """Sweater and trousers from thighs to neck."""
    rows, columns = 250, 200
    origin, outward, angle = _rings(rows, columns, 0.60, 1.475)
    points = _walk_in(origin, outward, 0.36, _body)
    radius = np.sqrt(((points - origin) ** 2).sum(-1))
    y = points[..., 1]
    u = np.broadcast_to(angle * 0.15, y.shape)
    sweater = smoothstep(HEM - 0.002, HEM + 0.002, y)
    loose = 0.012 + 0.012 * np.exp(-(((y - 0.97) / 0.07) ** 2)) - 0.004 * smoothstep(1.30, 1.42, y)
    give = 0.45 + 0.55 * smoothstep(1.40, 1.25, y)
    out = sweater * (loose + (_folds(u, y, 300) - 0.004) * give) + (1 - sweater) * 0.5 * _folds(
        u, y, 301
    )
    # The hem is a ribbed band, drawn in.
    band = smoothstep(0.935, 0.925, y) * sweater
    out = out - 0.008 * band + 0.0016 * band * np.sin(angle * 70)
    points = points + outward * (out / np.maximum(1, 0.12 / radius))[..., None]
    colour = DENIM + (SWEATER - DENIM) * sweater[..., None]
    fabric = knit(columns * 8, rows * 8, 150, 210)
    across, along = vec(np.arange(columns * 8) / 500), vec(np.arange(rows * 8) / 500)
    thread = look_up(noise_tile(303, 256, 0.8), *(vec(axis) for axis in np.meshgrid(across, along)))
    denim = np.exp(0.22 * thread)
    line = np.linspace(0.60, 1.475, rows * 8, dtype=np.float32)[:, None]
    detail = np.where(line > HEM, fabric, denim).astype(np.float32)
    return Part(points, np.asarray(colour, np.float32), "cloth", detail)


@lru_cache(maxsize=1)
def head() -> Part:
    """Head and neck."""
    rows, columns = 170, 160
    polar = np.linspace(0.02, 2.35, rows, dtype=np.float32)[::-1, None]
    angle = (np.arange(columns, dtype=np.float32) * np.float32(2 * np.pi / columns))[None]
    outward = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.sin(angle), np.cos(polar), np.sin(polar) * np.cos(angle)
        ),
        -1,
    )
    origin = np.broadcast_to(vec([0, 1.59, 0.01]), outward.shape)
    points = _walk_in(origin, outward.astype(np.float32), 0.30, _face)
    return Part(points, _face_colour(points), "skin")


@lru_cache(maxsize=1)
def neck() -> Part:
    """The neck, into the collar."""
    origin, outward, _ = _rings(40, 64, 1.38, 1.56)
    points = _walk_in(origin, outward, 0.2, _neck)
    return Part(points, np.broadcast_to(SKIN * np.float32(0.94), points.shape).copy(), "skin")


def _face_colour(p: Array) -> Array:
    x, y, z = np.abs(p[..., 0]), p[..., 1], p[..., 2]
    colour = np.broadcast_to(SKIN, p.shape).copy()

    def blend(target: Array, amount: Array) -> None:
        nonlocal colour
        colour = colour + (target - colour) * amount[..., None]

    hair_line = 1.545 + np.interp(
        z, [-0.10, -0.04, 0.0, 0.035, 0.06, 0.09], [0.0, 0.008, 0.045, 0.095, 0.135, 0.16]
    )
    blend(
        BROW * np.float32(1.3), 0.92 * smoothstep(-0.002, 0.008, (y - hair_line).astype(np.float32))
    )
    blush = vec(np.exp(-(((x - 0.046) / 0.022) ** 2) - ((y - 1.567) / 0.020) ** 2) * (z > 0))
    blend(vec([0.58, 0.25, 0.18]), 0.45 * blush)
    front = smoothstep(0.06, 0.075, z)
    blend(
        LIPS, front * smoothstep(0.024, 0.019, x) * smoothstep(0.0125, 0.0095, np.abs(y - 1.5392))
    )
    arch = 1.6235 + 0.004 * np.sin(np.clip((x - 0.012) / 0.035, 0, 1) * np.pi)
    blend(
        BROW,
        0.85
        * smoothstep(0.055, 0.06, z)
        * smoothstep(0.0058, 0.0035, np.abs(y - arch))
        * smoothstep(0.010, 0.016, x)
        * smoothstep(0.056, 0.046, x),
    )
    eye = np.hypot((x - 0.031) / 0.0135, (y - 1.601) / 0.0062)
    blend(vec([0.55, 0.52, 0.48]), smoothstep(1.0, 0.85, eye) * front)
    iris = np.hypot(x - 0.031, y - 1.6012)
    blend(vec([0.05, 0.035, 0.02]), smoothstep(0.0058, 0.0048, iris) * front * (eye < 1))
    lash = np.exp(-(((eye - 1.05) / 0.14) ** 2)) * (y > 1.600) * front
    blend(vec([0.03, 0.02, 0.015]), 0.9 * lash)
    return np.asarray(colour, np.float32)


def ear(side: float) -> Part:
    """An ear; `side` is 1 for her right."""
    rows, columns = 28, 28
    polar = np.linspace(0.05, np.pi - 0.05, rows, dtype=np.float32)[::-1, None]
    angle = (np.arange(columns, dtype=np.float32) * np.float32(2 * np.pi / columns))[None]
    ball = np.stack(
        np.broadcast_arrays(
            np.sin(polar) * np.sin(angle), np.cos(polar), np.sin(polar) * np.cos(angle)
        ),
        -1,
    )
    dent = 1 - 0.5 * np.exp(-((ball[..., 1] / 0.5) ** 2) - ((ball[..., 2] / 0.45) ** 2)) * (
        ball[..., 0] * side > 0
    )
    points = ball * vec([0.011, 0.031, 0.019]) * dent[..., None]
    points[..., 0] += np.float32(side) * (0.075 + 0.25 * np.maximum(-points[..., 2], 0))
    points += vec([0, 1.592, -0.012])
    colour = np.broadcast_to(SKIN * vec([1.02, 0.90, 0.88]), points.shape)
    return Part(points.astype(np.float32), np.asarray(colour, np.float32), "skin")


def tube(
    path: Array, radius: Array, flat: Array, wide: Array | float = 1.0, columns: int = 40
) -> tuple[Array, Array]:
    """Vertices (R, C, 3) around a path (R, 3), flattened along `flat`; and the arc length."""
    tangent = np.gradient(path, axis=0)
    tangent /= np.maximum(np.sqrt((tangent * tangent).sum(-1, keepdims=True)), 1e-9)
    side = np.cross(np.broadcast_to(flat, path.shape), tangent)
    side /= np.maximum(np.sqrt((side * side).sum(-1, keepdims=True)), 1e-9)
    up = np.cross(tangent, side)
    angle = (np.arange(columns, dtype=np.float32) * np.float32(2 * np.pi / columns))[None, :, None]
    width = np.broadcast_to(np.asarray(wide, np.float32), radius.shape)[:, None, None]
    ring = np.cos(angle) * side[:, None] * width + np.sin(angle) * up[:, None] / width
    length = np.concatenate([[0], np.cumsum(np.sqrt((np.diff(path, axis=0) ** 2).sum(-1)))])
    return np.asarray(path[:, None] + ring * radius[:, None, None], np.float32), length.astype(
        np.float32
    )


def _curve(knots: list[Array], count: int) -> Array:
    """A smooth path (count, 3) through knots."""
    k = np.stack(knots)
    t = np.concatenate([[0], np.cumsum(np.sqrt((np.diff(k, axis=0) ** 2).sum(-1)))])
    grid = np.linspace(0, t[-1], count * 4)
    path = np.stack([np.interp(grid, t, k[:, axis]) for axis in range(3)], -1)
    reach = max(int(count * 4 * 0.05), 1)
    padded = np.concatenate(
        [2 * path[:1] - path[reach:0:-1], path, 2 * path[-1:] - path[-2 : -reach - 2 : -1]]
    )
    kernel = np.hanning(2 * reach + 3)[1:-1]
    kernel /= kernel.sum()
    smooth = np.stack([np.convolve(padded[:, axis], kernel, "valid") for axis in range(3)], -1)
    return np.asarray(smooth[::4], np.float32)


def arm_parts(arm: Arm, thumb: float) -> list[Part]:
    """Sleeve, forearm and hand of an arm in world space; `thumb` is the side the thumb is on."""
    palm = arm.wrist + (arm.tip - arm.wrist) * np.float32(0.22)
    path = _curve([arm.inner, arm.shoulder, arm.elbow, arm.wrist, palm], 126)
    # Arc length from the shoulder joint, in shares of the way to the wrist.
    length = np.concatenate([[0], np.cumsum(np.sqrt((np.diff(path, axis=0) ** 2).sum(-1)))])
    before = np.sqrt(((arm.shoulder - arm.inner) ** 2).sum())
    reach = sum(
        np.sqrt(((b - a) ** 2).sum())
        for a, b in ((arm.shoulder, arm.elbow), (arm.elbow, arm.wrist))
    )
    s = ((length - before) / reach).astype(np.float32)
    rest = vec([0.02, 0.12, -1])
    parts = []

    def stretch(first: float, last: float, rows: int) -> tuple[Array, Array]:
        at = np.linspace(max(first, float(s[0])), last, rows)
        return vec(at), vec(np.stack([np.interp(at, s, path[:, axis]) for axis in range(3)], -1))

    at, line = stretch(-0.3, 0.83, 100)
    radius = np.interp(
        at,
        [-0.18, -0.05, 0.03, 0.14, 0.40, 0.52, 0.62, 0.80, 0.83],
        [0.044, 0.058, 0.062, 0.060, 0.051, 0.047, 0.051, 0.043, 0.036],
    )
    points, along = tube(line, radius.astype(np.float32), rest, columns=56)
    v, u = np.meshgrid(along - before, np.arange(56, dtype=np.float32) / 56, indexing="ij")
    crumple = 0.5 + 1.3 * np.exp(-(((v - 0.29) / 0.07) ** 2)) + 0.9 * smoothstep(0.38, 0.45, v)
    out = (_folds(v * 1.3, u * 0.3, 310) - 0.004) * crumple
    centre = line[:, None]
    points = (
        points
        + (points - centre)
        / np.sqrt(((points - centre) ** 2).sum(-1, keepdims=True))
        * out[..., None]
    )
    colour = np.broadcast_to(SWEATER, points.shape).astype(np.float32)
    parts.append(Part(points.astype(np.float32), colour, "cloth", knit(56 * 8, 800, 44, 130)))
    at, line = stretch(0.72, 1.07, 36)
    radius = np.interp(at, [0.7, 0.8, 0.92, 1.0, 1.07], [0.037, 0.033, 0.026, 0.0235, 0.020])
    points, _ = tube(line, radius.astype(np.float32), arm.back_of_hand, wide=1.12, columns=32)
    parts.append(Part(points, np.broadcast_to(SKIN, points.shape).astype(np.float32), "skin"))
    return parts + _hand(arm, thumb)


def _hand(arm: Arm, thumb: float) -> list[Part]:
    """Palm and five fingers."""
    forward = arm.tip - arm.wrist
    size = np.float32(np.sqrt((forward * forward).sum()))
    forward = forward / size
    back = arm.back_of_hand - forward * float(forward @ arm.back_of_hand)
    back = back / np.sqrt((back * back).sum())
    side = np.cross(back, forward) * np.float32(thumb)  # toward the thumb
    scale = size / np.float32(0.17)
    parts = []

    def add(
        knots: list[tuple[float, float, float]],
        radii: list[float],
        wide: Array | float,
        rows: int,
        columns: int,
    ) -> None:
        at = [
            arm.wrist + scale * (forward * vec(a) + side * vec(b) + back * np.float32(c))
            for a, b, c in knots
        ]
        path = _curve(at, rows)
        s = np.linspace(0, 1, rows)
        taper = np.interp(s, np.linspace(0, 1, len(radii)), radii)
        taper = taper * np.sqrt(np.clip((1 - s) / 0.12, 0, 1) * 0.97 + 0.03)
        points, _ = tube(
            path, (taper * scale).astype(np.float32), back.astype(np.float32), wide, columns
        )
        colour = np.broadcast_to(SKIN * vec([1.0, 0.95, 0.93]), points.shape)
        parts.append(Part(points, colour.astype(np.float32), "skin"))

    flare = np.interp(np.linspace(0, 1, 34), [0, 0.2, 0.6, 1], [1.05, 1.15, 1.42, 1.45])
    add(
        [(-0.035, 0, 0), (0.02, 0, 0.001), (0.06, 0, 0.002), (0.095, 0, -0.001)],
        [0.019, 0.0215, 0.0255, 0.026, 0.020],
        flare.astype(np.float32),
        34,
        32,
    )
    for where, long in ((0.028, 0.070), (0.0095, 0.080), (-0.009, 0.074), (-0.027, 0.058)):
        spread = where * 0.35
        add(
            [
                (0.070, where, 0),
                (0.092, where * 1.05, 0.001),
                (0.092 + long * 0.5, where + spread, -0.004),
                (0.092 + long, where + spread * 1.6, -0.016),
            ],
            [0.0095, 0.0092, 0.0085, 0.0078, 0.0066],
            1.05,
            26,
            18,
        )
    add(
        [
            (0.012, 0.012, -0.004),
            (0.040, 0.034, -0.008),
            (0.068, 0.050, -0.010),
            (0.092, 0.058, -0.012),
        ],
        [0.013, 0.013, 0.0105, 0.0095, 0.0075],
        1.05,
        26,
        18,
    )
    return parts
