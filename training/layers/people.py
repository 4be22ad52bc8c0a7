"""People: whole, to the waist, or head and shoulders; dressed, posed, with hair of every kind."""

# ruff: noqa: RUF005 - `place + (x, y)` moves a point, it does not join lists.
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import (
    Picture,
    Rng,
    blurred,
    chance,
    fractal,
    from_bytes,
    log_uniform,
    palette,
    to_bytes,
)
from training.layers.relief import Material, Relief, rough_outline
from training.layers.stack import Stack, toward
from training.layers.strands import clumped, grow, paint

Point = NDArray[np.float64]

# The least coverage of hair that one can see through: hairs are far thinner than a pixel, so a lock
# of them covers about half of each pixel.
_LEAST_COVER = 0.25

_HAIR = np.array(
    [
        [0.07, 0.06, 0.05],
        [0.16, 0.11, 0.08],
        [0.32, 0.21, 0.13],
        [0.50, 0.34, 0.20],
        [0.66, 0.54, 0.36],
        [0.62, 0.28, 0.12],
        [0.55, 0.55, 0.54],
        [0.74, 0.72, 0.69],
    ],
    np.float32,
)


@dataclass
class _Person:
    """Measures (pixels) and places of one figure; `tall` is the height of the whole body.

    fine: its hair is a pixel wide, and there is as much of it as that takes.
    """

    rng: Rng
    tall: float
    head: Point
    lean: float
    broad: float
    fine: bool = False

    @property
    def head_axes(self) -> tuple[float, float]:
        return self.tall * 0.057, self.tall * 0.078

    def at(self, across: float, down: float) -> Point:
        """A place on the body, in body heights from the middle line and the top of the head."""
        top = self.head - (0, self.tall * 0.078)
        return top + self.tall * np.array([across * self.broad + down * self.lean, down])


def person(stack: Stack) -> None:
    """A figure in one of three framings."""
    rng = stack.rng
    figure = _framed(stack)
    hair_colour = _hair_colour(rng)
    hairstyle = _HAIRSTYLES[int(rng.integers(len(_HAIRSTYLES)))]
    bald = chance(rng, 0.06)
    if not bald:
        hairstyle(stack, figure, hair_colour, False)
    relief = stack.relief()
    _dressed(stack, relief, figure)
    albedo = _with_details(stack, relief, figure)
    stack.body(relief, albedo)
    if not bald:
        hairstyle(stack, figure, hair_colour, True)
    if chance(rng, 0.25):
        _beard_or_hat(stack, figure, hair_colour)


def _framed(stack: Stack) -> _Person:
    rng, side = stack.rng, stack.side
    kind = rng.choice(3, p=stack.recipe.framing)
    if kind == 0:
        tall = side * rng.uniform(0.5, 0.98)
        top = side * rng.uniform(0.02, 0.9) if chance(rng, 0.1) else side * 0.99 - tall
        top = max(top, side * 0.01) + rng.uniform(-0.03, 0.02) * side
    else:
        tall = side * (rng.uniform(1.1, 1.9) if kind == 1 else log_uniform(rng, 2.0, 4.6))
        top = side * rng.uniform(0.03, 0.22)
    x = side * rng.uniform(0.25, 0.75)
    head = np.array([x, top + tall * 0.078])
    lean, broad = rng.normal(0, 0.06), rng.uniform(0.85, 1.35)
    return _Person(rng, tall, head, lean, broad, _has_fine_hair(stack))


def _has_fine_hair(stack: Stack) -> bool:
    return bool(stack.recipe.fine) and chance(stack.rng, stack.recipe.fine)


def _hair_colour(rng: Rng) -> NDArray[np.float32]:
    if chance(rng, 0.1):
        return palette(rng, 1)[0]
    return np.clip(_HAIR[int(rng.integers(len(_HAIR)))] * rng.normal(1, 0.12, 3), 0.02, 0.97)


# --- the body -------------------------------------------------------------------------------------


def _dressed(stack: Stack, relief: Relief, figure: _Person) -> None:
    rng, side = stack.rng, stack.side
    colours = palette(rng, 4)
    tone = np.array([0.92, 0.72, 0.6], np.float32) * log_uniform(rng, 0.3, 1.05)
    skin = relief.add(Material.skin(rng, side, np.clip(tone * rng.normal(1, 0.03, 3), 0.03, 0.98)))
    shirt = relief.add(Material.cloth(rng, side, colours[0]))
    trousers = relief.add(Material.cloth(rng, side, colours[1]))
    shoes = relief.add(Material.smooth(rng, side, colours[2] * 0.6))
    if figure.at(0, 0.5)[1] < side:
        _legs(relief, figure, skin, trousers, shoes)
    _torso(relief, figure, skin, shirt)
    sleeves = shirt if chance(rng, 0.6) else skin
    for hand in (-1, 1):
        _arm(relief, figure, hand, shirt, sleeves, skin)
    if chance(rng, 0.3):
        _coat(relief, figure, relief.add(Material.cloth(rng, side, colours[3])))
    _head(relief, figure, skin)


def _legs(relief: Relief, figure: _Person, skin: int, trousers: int, shoes: int) -> None:
    rng, tall = figure.rng, figure.tall
    stride, below = rng.uniform(0.0, 0.16), trousers if chance(rng, 0.7) else skin
    wide = rng.uniform(0.85, 1.25)
    for leg in (-1, 1):
        hip = figure.at(leg * 0.05, 0.5)
        knee = hip + toward(math.pi / 2 - leg * (stride + rng.uniform(-0.1, 0.2)), tall * 0.24)
        foot = knee + toward(math.pi / 2 - leg * rng.uniform(-0.25, 0.2), tall * 0.23)
        z = leg * tall * 0.02
        relief.capsule(hip, knee, tall * 0.062 * wide, tall * 0.045 * wide, material=trousers, z=z)
        relief.capsule(knee, foot, tall * 0.043 * wide, tall * 0.03 * wide, material=below, z=z)
        toe = foot + (leg * tall * rng.uniform(0.0, 0.05), tall * 0.02)
        relief.capsule(foot, toe, tall * 0.03, tall * 0.022, material=shoes, z=z + tall * 0.01)


def _torso(relief: Relief, figure: _Person, skin: int, shirt: int) -> None:
    rng, tall = figure.rng, figure.tall
    half = [0.035, 0.1, 0.115, 0.1, rng.uniform(0.075, 0.11), rng.uniform(0.08, 0.115), 0.09]
    down = [0.165, 0.185, 0.22, 0.3, 0.4, 0.49, 0.54]
    left = [figure.at(-w, d) for w, d in zip(half, down)]
    right = [figure.at(w, d) for w, d in zip(half, down)]
    outline = _smooth(np.array(left + right[::-1]))
    relief.outline(outline, material=shirt, roundness_px=tall * 0.07)
    relief.capsule(
        figure.at(0, 0.1),
        figure.at(0, 0.19),
        tall * 0.033,
        tall * 0.04,
        material=skin,
        z=tall * 0.03,
    )


def _arm(relief: Relief, figure: _Person, side: int, shirt: int, sleeve: int, skin: int) -> None:
    rng, tall = figure.rng, figure.tall
    shoulder = figure.at(side * 0.1, 0.205)
    pose = rng.choice(4, p=[0.42, 0.22, 0.2, 0.16])
    # Angles from straight down, outward positive: hanging, akimbo, before the body, raised.
    upper = (rng.uniform(0, 0.4), rng.uniform(0.5, 0.9), rng.uniform(0, 0.4), rng.uniform(1, 2.7))
    lower = (
        rng.uniform(-0.3, 0.4),
        rng.uniform(-1, -0.4),
        rng.uniform(-2.4, -0.9),
        rng.uniform(0.8, 3.4),
    )
    elbow = shoulder + toward(math.pi / 2 - side * upper[pose], tall * 0.165)
    wrist = elbow + toward(math.pi / 2 - side * lower[pose], tall * 0.14)
    z = tall * (0.09 if pose == 2 else 0.0)
    thick = rng.uniform(0.85, 1.3)
    relief.capsule(shoulder, elbow, tall * 0.036 * thick, tall * 0.029 * thick, material=shirt, z=z)
    relief.capsule(elbow, wrist, tall * 0.028 * thick, tall * 0.02, material=sleeve, z=z)
    _hand(relief, figure, wrist, math.atan2(*(wrist - elbow)[::-1]), skin, z + tall * 0.01)


def _hand(relief: Relief, figure: _Person, wrist: Point, angle: float, skin: int, z: float) -> None:
    rng, tall = figure.rng, figure.tall
    palm = wrist + toward(angle, tall * 0.03)
    relief.capsule(wrist, palm, tall * 0.017, tall * 0.02, material=skin, z=z)
    spread = rng.uniform(0.05, 0.25)
    for finger in range(-2, 3):
        root = palm + toward(angle + math.pi / 2, finger * tall * 0.0075)
        aim = angle + finger * spread + rng.normal(0, 0.06)
        joint = root + toward(aim, tall * 0.02)
        tip = joint + toward(aim + rng.normal(0, 0.3), tall * 0.018)
        relief.capsule(root, joint, tall * 0.0062, tall * 0.0056, material=skin, z=z)
        relief.capsule(joint, tip, tall * 0.0056, tall * 0.0045, material=skin, z=z)


def _coat(relief: Relief, figure: _Person, material: int) -> None:
    """A coat, skirt or dress over the hips, open or closed."""
    rng = figure.rng
    bottom, flare = rng.uniform(0.58, 0.92), rng.uniform(0.1, 0.24)
    start = rng.choice([0.185, 0.4])
    down = np.linspace(start, bottom, 12)
    width = np.interp(down, [0.185, 0.22, 0.42, bottom], [0.09, 0.125, 0.1, flare])
    fold = 0.008 * np.sin(down * rng.uniform(10, 60))
    slit = rng.uniform(0, 0.12) if chance(rng, 0.5) else 0.0
    for side in (-1, 1):
        outer = [figure.at(side * (w + f), d) for w, f, d in zip(width, fold, down)]
        inner = [figure.at(side * (slit * (d - start) - 0.004), d) for d in down[::-1]]
        outline = _smooth(np.array(outer + inner))
        relief.outline(
            outline, material=material, roundness_px=figure.tall * 0.05, z=figure.tall * 0.025
        )


def _head(relief: Relief, figure: _Person, skin: int) -> None:
    tall, (wide, high) = figure.tall, figure.head_axes
    z = tall * 0.05
    relief.ellipsoid(figure.head, (wide, high), material=skin, z=z, depth=wide)
    relief.ellipsoid(
        figure.head + (0, high * 0.45), (wide * 0.72, high * 0.55), material=skin, z=z, depth=wide
    )
    look = figure.rng.uniform(-0.35, 0.35) * wide
    nose = figure.head + (look, high * 0.16)
    relief.capsule(
        nose - (0, high * 0.25), nose, wide * 0.08, wide * 0.17, material=skin, z=z + wide * 0.92
    )
    for side in (-1, 1):
        ear = figure.head + (side * wide * 0.98, high * 0.1)
        relief.ellipsoid(ear, (wide * 0.14, high * 0.2), material=skin, z=z)


def _with_details(stack: Stack, relief: Relief, figure: _Person) -> Picture:
    """The unlit colours with a face on the head, and buttons, belt and print on the clothes."""
    rng, (wide, high) = figure.rng, figure.head_axes
    albedo = to_bytes(relief.albedo())
    look = figure.head + (rng.uniform(-0.3, 0.3) * wide, high * 0.02)
    if chance(rng, 0.85):
        for side in (-1, 1):
            eye = look + (side * wide * 0.4, 0)
            _dot(albedo, eye, (wide * 0.16, wide * 0.08), (0.9, 0.88, 0.86))
            _dot(albedo, eye, (wide * 0.07, wide * 0.08), (0.12, 0.1, 0.08))
            _dot(albedo, eye - (0, wide * 0.25), (wide * 0.22, wide * 0.035), (0.2, 0.14, 0.1))
        _dot(albedo, look + (0, high * 0.5), (wide * 0.28, wide * 0.07), (0.65, 0.3, 0.28))
    if chance(rng, 0.5):
        colour = palette(rng, 1)[0]
        for down in np.arange(0.22, 0.5, 0.035):
            _dot(albedo, figure.at(0, down), (figure.tall * 0.005,) * 2, colour)
    if chance(rng, 0.35):
        tone = (palette(rng, 1)[0] * 255).tolist()
        corner = tuple(int(v) for v in figure.at(-0.07, 0.32))
        text = "".join(rng.choice(list("ACEHKLMNRSTUVX2579"), 4))
        scale = figure.tall * 0.0026
        cv2.putText(albedo, text, corner, 2, scale, tone, max(1, int(scale * 4)), cv2.LINE_AA)
    return blurred(from_bytes(albedo), 0.4)


def _dot(picture: Any, centre: Any, axes: Any, colour: Any) -> None:
    at = tuple(round(float(v) * 8) for v in centre)
    size = tuple(max(4, round(float(v) * 8)) for v in axes)
    tone = [float(v) * 255 for v in colour]
    cv2.ellipse(picture, at, size, 0, 0, 360, tone, -1, cv2.LINE_AA, 3)


def _smooth(points: NDArray[np.float64], rounds: int = 2) -> NDArray[np.float64]:
    """The outline with its corners cut (Chaikin)."""
    for _ in range(rounds):
        ahead = np.roll(points, -1, 0)
        points = np.stack([points * 0.75 + ahead * 0.25, points * 0.25 + ahead * 0.75], 1)
        points = points.reshape(-1, 2)
    return points


# --- hair -----------------------------------------------------------------------------------------


def _scalp(
    figure: _Person, count: int, low: float, high: float
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Roots on the skull between two angles (0 right, -pi/2 top), and the outward directions."""
    rng, (wide, tall) = figure.rng, figure.head_axes
    angle = rng.uniform(low, high, count)
    deep = np.sqrt(rng.uniform(0.25, 1.0, count))
    roots = figure.head + np.stack(
        [np.cos(angle) * wide * 1.05 * deep, np.sin(angle) * tall * 1.0 * deep], -1
    )
    return roots.astype(np.float32), angle


def _sheet(
    stack: Stack, strands: Any, colour: Any, *, behind: bool = False, thickness: float = 0.7
) -> None:
    """Paint strands with uneven light and lay them on; some sheets are half transparent."""
    rng = stack.rng
    spread = rng.uniform(0.12, 0.35)
    picture, cover = paint(rng, stack.side, strands, colour, thickness_px=thickness, spread=spread)
    shine = fractal(rng, stack.side, stack.side, coarsest=12, roughness=0.4)[..., None]
    picture = picture * (0.7 + 0.6 * shine)
    if stack.recipe.backlit and chance(rng, stack.recipe.backlit):
        picture = picture * _light_from_behind(stack)
    picture = np.clip(picture, 0, 1)
    if stack.recipe.wispy and chance(rng, stack.recipe.wispy):
        dense = np.clip(1.6 * fractal(rng, stack.side, stack.side, coarsest=5, roughness=0.5), 0, 1)
        cover = cover * (1 - dense * (1 - log_uniform(rng, _LEAST_COVER, 1.0)))
    else:
        cover = cover * rng.uniform(0.85, 1.0)
    if behind:
        stack.under(picture, cover)
    else:
        stack.over(picture, cover)


def _light_from_behind(stack: Stack) -> Picture:
    """A factor (side, side, 3) on the colour of hair: high where no body is behind it."""
    rng = stack.rng
    behind = blurred(stack.alpha, stack.side * rng.uniform(0.004, 0.02))[..., None]
    tint = rng.uniform(1.2, 3.5) * rng.normal(1, 0.08, 3)
    factor = behind + (1 - behind) * tint
    return factor.astype(np.float32)


def _count(figure: _Person, density: float = 1.0) -> int:
    """The number of strands for the size of the head."""
    if figure.fine:
        return int(np.clip(figure.head_axes[0] * 60 * density, 400, 20_000))
    return int(np.clip(figure.head_axes[0] ** 2 * 0.9 * density, 250, 5200))


def _thickness(figure: _Person) -> float:
    return 0.5 if figure.fine else float(np.clip(figure.head_axes[0] / 90, 0.5, 1.3))


def _cap(stack: Stack, figure: _Person, colour: Any) -> None:
    """The skull under the hair, so that no skin shows through it."""
    wide, tall = figure.head_axes
    relief = stack.relief()
    material = relief.add(Material(np.full((stack.side, stack.side, 3), colour * 0.7, np.float32)))
    hairline = figure.rng.uniform(-0.55, -0.3)
    outline = [
        figure.head + (math.cos(a) * wide * 1.07, min(math.sin(a), 0.1) * tall * 1.06)
        for a in np.linspace(math.pi - hairline * 0.3, 2 * math.pi + hairline * 0.3, 40)
    ]
    lower = [
        figure.head + (x * wide, hairline * tall * (1 - 0.3 * x * x))
        for x in np.linspace(0.9, -0.9, 12)
    ]
    relief.outline(np.array(outline + lower), material=material, roundness_px=wide * 0.5)
    stack.body(relief)


def _short(stack: Stack, figure: _Person, colour: Any, front: bool) -> None:
    """Short hair, standing up or lying flat."""
    if not front:
        return
    rng, (wide, _) = figure.rng, figure.head_axes
    _cap(stack, figure, colour)
    roots, angle = _scalp(figure, _count(figure), -math.pi - 0.25, 0.25)
    keep = roots[:, 1] < figure.head[1] - figure.head_axes[1] * rng.uniform(0.15, 0.45)
    keep |= np.abs(roots[:, 0] - figure.head[0]) > wide * 0.85
    roots, angle = roots[keep], angle[keep]
    lengths = wide * rng.uniform(0.1, rng.uniform(0.25, 0.8), len(roots))
    comb = rng.normal(0, 0.6)
    strands = grow(
        rng, roots, angle + comb, lengths, curl=0.7, gravity=rng.uniform(0, 0.5), frizz=0.05
    )
    _sheet(
        stack, clumped(rng, strands, 120, rng.uniform(0, 0.5)), colour, thickness=_thickness(figure)
    )


def _long(stack: Stack, figure: _Person, colour: Any, front: bool) -> None:
    """Hair down to the shoulders or far below, straight or wavy, with stray hairs."""
    rng, (wide, tall) = figure.rng, figure.head_axes
    length = wide * rng.uniform(2.2, 6.5)
    waves, wind = rng.choice([0.0, 0.25, 0.6]), rng.normal(0, 0.25)
    if front:
        _cap(stack, figure, colour)
        roots, angle = _scalp(figure, _count(figure, 0.5), -math.pi - 0.2, 0.2)
        keep = roots[:, 1] < figure.head[1] - tall * 0.35
        keep |= np.abs(roots[:, 0] - figure.head[0]) > wide * 0.8
        roots, angle, length = roots[keep], angle[keep], length * 0.75
    else:
        if not (stack.recipe.thin and chance(rng, stack.recipe.thin)):
            _mass(stack, figure, colour, length)
        roots, angle = _scalp(figure, _count(figure, 1.1), -math.pi - 0.4, 0.4)
    lengths = length * rng.uniform(0.55, 1.0, len(roots))
    outward = np.where(np.cos(angle) >= 0, 0.9, math.pi - 0.9) + wind
    start = 0.5 * np.where(np.sin(angle) > 0, np.pi / 2, angle) + 0.5 * outward
    start = np.where(
        np.sin(angle) < -0.3, outward * 0.6 - 0.35 * np.sign(np.cos(angle)) + 0.1, start
    )
    strands = grow(
        rng, roots, np.where(np.cos(angle) >= 0, np.abs(start), start), lengths,
        curl=0.25, gravity=1.6, frizz=rng.uniform(0.0, 0.06), waves=waves, steps=18,
    )  # fmt: skip
    strands = clumped(rng, strands, int(rng.integers(25, 140)), rng.uniform(0.1, 0.75))
    _sheet(stack, strands, colour, thickness=_thickness(figure))
    _flyaways(stack, figure, colour, length)


def _mass(stack: Stack, figure: _Person, colour: Any, length: float) -> None:
    """The opaque core of long hair behind the head."""
    rng, (wide, tall) = figure.rng, figure.head_axes
    relief, side = stack.relief(), stack.side
    streak = cv2.resize(
        fractal(rng, max(8, side // 20), side, coarsest=60, roughness=0.8), (side, side)
    )
    picture = np.clip(colour * (0.5 + 0.6 * streak[..., None]), 0, 1).astype(np.float32)
    material = relief.add(Material(picture, 0.1))
    bottom = figure.head[1] + length * rng.uniform(0.3, 0.6)
    flare = wide * rng.uniform(0.9, 1.5)
    centre, half_way = figure.head[0], (figure.head[1] + bottom) / 2
    points = [
        *(figure.head + step for step in ((-wide, -tall * 0.3), (0, -tall), (wide, -tall * 0.3))),
        (centre + flare, half_way),
        (centre + flare * 0.8, bottom),
        (centre - flare * 0.8, bottom),
        (centre - flare, half_way),
    ]
    relief.outline(_smooth(np.array(points), 3), material=material, roundness_px=wide * 0.8)
    stack.body(relief)


def _curly(stack: Stack, figure: _Person, colour: Any, front: bool) -> None:
    """Curls around the head, dense inside, sparse at the rim."""
    rng, (wide, tall) = figure.rng, figure.head_axes
    if front:
        _cap(stack, figure, colour)
    reach = wide * rng.uniform(0.5, 1.9)
    count = _count(figure, 0.45 if front else 1.2)
    roots, angle = _scalp(figure, count, -math.pi - 0.5, 0.5)
    if front:
        keep = roots[:, 1] < figure.head[1] - tall * 0.45
        roots, angle = roots[keep], angle[keep]
    strands = grow(
        rng, roots, angle + rng.normal(0, 0.5, len(roots)),
        reach * rng.uniform(0.4, 1.7, len(roots)), curl=rng.uniform(1, 3),
        gravity=rng.uniform(0, 0.6), frizz=rng.uniform(0.1, 0.45), steps=14,
    )  # fmt: skip
    _sheet(stack, strands, colour, thickness=_thickness(figure))


def _tied(stack: Stack, figure: _Person, colour: Any, front: bool) -> None:
    """Combed back into a bun or tail, with loose hairs."""
    rng, (wide, tall) = figure.rng, figure.head_axes
    knot = figure.head + (
        rng.choice([-1, 1]) * wide * rng.uniform(0.2, 1.1),
        -tall * rng.uniform(0.5, 1.1),
    )
    if front:
        _cap(stack, figure, colour)
        roots, _ = _scalp(figure, _count(figure, 0.6), -math.pi, 0)
        keep = roots[:, 1] < figure.head[1] - tall * 0.4
        roots = roots[keep]
        aim = knot - roots
        lengths = np.hypot(aim[:, 0], aim[:, 1]) * rng.uniform(0.5, 1, len(roots))
        angles = np.arctan2(aim[:, 1], aim[:, 0])
        _sheet(
            stack, grow(rng, roots, angles, lengths, curl=0.2), colour, thickness=_thickness(figure)
        )
        _flyaways(stack, figure, colour, wide * 1.2)
        return
    count = _count(figure, 0.6)
    roots = knot + rng.normal(0, wide * 0.14, (count, 2))
    if chance(rng, 0.5):
        spin = rng.uniform(0, 2 * math.pi, count)
        strands = grow(rng, roots, spin, np.full(count, wide * 1.3), curl=4, frizz=0.08)
    else:
        away = rng.uniform(-math.pi, 0) + rng.normal(0, 0.35, count)
        strands = grow(
            rng, roots, away, wide * rng.uniform(1, rng.uniform(2, 6), count), gravity=1.4, curl=0.4
        )
    _sheet(stack, clumped(rng, strands, 40, 0.4), colour, thickness=_thickness(figure))


def _windblown(stack: Stack, figure: _Person, colour: Any, front: bool) -> None:
    """Hair blown to one side, separated into single strands."""
    rng, (wide, tall) = figure.rng, figure.head_axes
    if front:
        _cap(stack, figure, colour)
    count = _count(figure, 0.4 if front else 1.0)
    roots, angle = _scalp(figure, count, -math.pi - 0.2, 0.2)
    if front:
        keep = roots[:, 1] < figure.head[1] - tall * 0.4
        roots, angle = roots[keep], angle[keep]
    wind = rng.choice([0, math.pi]) + rng.normal(0, 0.4)
    away = wind + rng.normal(0, rng.uniform(0.2, 0.6), len(roots))
    lengths = wide * rng.uniform(0.8, rng.uniform(2, 6), len(roots))
    strands = grow(rng, roots, away, lengths, curl=0.8, waves=0.3, frizz=0.04, steps=18)
    _sheet(
        stack, clumped(rng, strands, 60, rng.uniform(0, 0.5)), colour, thickness=_thickness(figure)
    )


def _flyaways(stack: Stack, figure: _Person, colour: Any, length: float) -> None:
    """Stray single hairs on all sides."""
    rng = figure.rng
    count = int(rng.integers(20, 160))
    roots, angle = _scalp(figure, count, -math.pi - 0.6, 0.6)
    strands = grow(
        rng, roots, angle + rng.normal(0, 0.6, count), length * rng.uniform(0.2, 0.8, count),
        curl=1.5, gravity=rng.uniform(0, 1.2), frizz=0.06, steps=16,
    )  # fmt: skip
    _sheet(stack, strands, colour, behind=chance(rng, 0.5), thickness=0.5)


def _beard_or_hat(stack: Stack, figure: _Person, colour: Any) -> None:
    rng, (wide, tall) = figure.rng, figure.head_axes
    if chance(rng, 0.5):
        count = _count(figure, 0.35)
        angle = rng.uniform(0.1, math.pi - 0.1, count)
        roots = figure.head + np.stack(
            [np.cos(angle) * wide * 0.9, np.abs(np.sin(angle)) * tall * rng.uniform(0.6, 1, count)],
            -1,
        )
        lengths = wide * rng.uniform(0.1, rng.uniform(0.2, 1.0), count)
        _sheet(stack, grow(rng, roots, angle, lengths, gravity=1, curl=0.8), colour)
        return
    relief = stack.relief()
    felt = relief.add(Material.cloth(rng, stack.side, palette(rng, 1)[0]))
    brow = figure.head - (0, tall * 0.45)
    relief.ellipsoid(brow - (0, tall * 0.25), (wide * 1.1, tall * 0.6), material=felt)
    relief.ellipsoid(
        brow, (wide * rng.uniform(1.1, 2.0), tall * 0.16), material=felt, z=wide * 0.8,
        angle=rng.normal(0, 0.1),
    )  # fmt: skip
    stack.body(relief)


_HAIRSTYLES: tuple[Callable[[Stack, _Person, Any, bool], None], ...] = (
    _short,
    _short,
    _long,
    _long,
    _long,
    _curly,
    _tied,
    _windblown,
)


def head_of_hair(stack: Stack) -> None:
    """A head from behind or a wig: nothing but hair, filling much of the frame."""
    rng, side = stack.rng, stack.side
    tall = side * rng.uniform(1.6, 4.2)
    head = np.array([side * rng.uniform(0.3, 0.7), side * rng.uniform(0.3, 0.55)])
    figure = _Person(rng, tall, head, 0.0, 1.0, _has_fine_hair(stack))
    colour = _hair_colour(rng)
    style = (_long, _curly, _windblown)[int(rng.integers(3))]
    style(stack, figure, colour, False)
    relief = stack.relief()
    shaded = np.full((side, side, 3), colour * 0.75, np.float32)
    hairs = relief.add(Material(shaded))
    wide, high = figure.head_axes
    relief.outline(
        rough_outline(rng, head, wide * 1.02, rough=0.1), material=hairs, roundness_px=high
    )
    stack.body(relief)
    crown = head + (rng.normal(0, wide * 0.3), -high * rng.uniform(0, 0.7))
    for far in (1.0, 0.55):
        count = _count(figure, 0.7)
        spin, deep = rng.uniform(0, 2 * math.pi, count), np.sqrt(rng.uniform(0, far, count))
        roots = crown + np.stack([np.cos(spin) * wide, np.sin(spin) * high], -1) * deep[:, None]
        strands = grow(
            rng, roots, spin + rng.normal(0, 0.3), wide * rng.uniform(0.4, 1.8, count),
            gravity=rng.uniform(0.3, 1.8), curl=0.6, waves=rng.uniform(0, 0.4), frizz=0.03,
        )  # fmt: skip
        _sheet(
            stack,
            clumped(rng, strands, 90, rng.uniform(0, 0.7)),
            colour,
            thickness=_thickness(figure),
        )
    _flyaways(stack, figure, colour, wide * 2)
