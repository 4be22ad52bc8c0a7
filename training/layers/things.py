"""Things: furniture, wheels, baskets, nets, cables, fringes, letters, boxes and vases."""

# ruff: noqa: RUF005 - `place + (x, y)` moves a point, it does not join lists.
from __future__ import annotations

import math
from typing import Any, Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import (
    Picture,
    blurred,
    chance,
    fractal,
    from_bytes,
    log_uniform,
    palette,
    surface,
)
from training.layers.relief import Material, rough_outline
from training.layers.stack import Stack, toward
from training.layers.strands import clumped, grow, paint


def thing(stack: Stack) -> None:
    """One of the things of the recipe."""
    names = stack.recipe.things
    _THINGS[names[int(stack.rng.integers(len(names)))]](stack)


def blob(stack: Stack) -> None:
    """Rounded, irregular bodies, sometimes with holes."""
    rng, side = stack.rng, stack.side
    for _ in range(int(rng.integers(1, 4))):
        middle, size = stack.place(0.45, 1.4)
        relief = stack.relief()
        bump = fractal(rng, side, side, coarsest=log_uniform(rng, 4, 40), roughness=0.6)
        skin = Material.smooth(rng, side, palette(rng, 1)[0])
        skin = Material(skin.albedo, skin.gloss, bump * rng.uniform(0, 25))
        shape = rough_outline(rng, middle, size * 0.35, rough=rng.uniform(0.1, 0.8))
        holes = tuple(
            rough_outline(
                rng, middle + rng.normal(0, size * 0.15, 2), size * rng.uniform(0.02, 0.1)
            )
            for _ in range(int(rng.integers(0, 5)) if chance(rng, 0.3) else 0)
        )
        relief.outline(
            shape,
            material=relief.add(skin),
            roundness_px=size * rng.uniform(0.03, 0.3),
            holes=holes,
        )
        stack.body(relief)


def _furniture(stack: Stack) -> None:
    """Legs, rails and slats: a chair, a trestle, a rack."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(0.6, 1.5)
    relief = stack.relief()
    wood = relief.add(Material.smooth(rng, side, palette(rng, 1)[0]))
    cloth = relief.add(Material.cloth(rng, side, palette(rng, 1)[0]))
    thick = size * log_uniform(rng, 0.006, 0.03)
    left, right = middle + (-size * 0.22, 0), middle + (size * 0.22, 0)
    back = np.array([rng.uniform(-0.1, 0.1), -rng.uniform(0.25, 0.5)]) * size
    for leg in (left, right, left + (size * 0.1, -size * 0.08), right + (size * 0.1, -size * 0.08)):
        foot = leg + (rng.uniform(-0.06, 0.06) * size, size * 0.42)
        relief.capsule(leg, foot, thick, thick * 0.8, material=wood)
    for post in (left, right):
        relief.capsule(post, post + back, thick, thick, material=wood)
    for part in np.linspace(0.2, 1, int(rng.integers(2, 8))):
        relief.capsule(
            left + back * part, right + back * part, thick * 0.7, thick * 0.7, material=wood
        )
    seat = np.array(
        [left, left + (size * 0.1, -size * 0.08), right + (size * 0.1, -size * 0.08), right]
    )
    relief.outline(seat + (0, size * 0.01), material=cloth, roundness_px=thick * 2, z=thick)
    stack.body(relief)


def _wheel(stack: Stack) -> None:
    """A rim with spokes; the spokes are a pixel wide."""
    rng = stack.rng
    for _ in range(int(rng.integers(1, 3))):
        middle, size = stack.place(0.4, 1.2)
        radius, squash = size / 2, rng.uniform(0.4, 1.0)
        turn = np.linspace(0, 2 * math.pi, int(rng.integers(10, 50)), endpoint=False)
        rim = np.stack([np.cos(turn) * radius, np.sin(turn) * radius * squash], -1)
        hub = np.stack([np.cos(turn + 0.4), np.sin(turn + 0.4) * squash], -1) * radius * 0.06
        spokes = np.stack([middle + hub, middle + rim], 1).astype(np.float32)
        tone = palette(rng, 1)[0]
        stack.over(
            *paint(rng, stack.side, _dense(spokes), tone, thickness_px=rng.uniform(0.5, 1.5))
        )
        relief = stack.relief()
        rubber = relief.add(Material.smooth(rng, stack.side, palette(rng, 1)[0]))
        ring = np.linspace(0, 2 * math.pi, 60)
        places = middle + np.stack([np.cos(ring), np.sin(ring) * squash], -1) * radius
        thick = radius * rng.uniform(0.02, 0.14)
        for start, end in zip(places[:-1], places[1:]):
            relief.capsule(start, end, thick, thick, material=rubber)
        relief.ellipsoid(middle, (radius * 0.1, radius * 0.1 * squash), material=rubber)
        stack.body(relief)


def _dense(lines: NDArray[np.float32], steps: int = 6) -> NDArray[np.float32]:
    part = np.linspace(0, 1, steps, dtype=np.float32)[None, :, None]
    return lines[:, :1] * (1 - part) + lines[:, 1:] * part


def _lattice(stack: Stack) -> None:
    """A net, fence, basket or grille, bent out of its plane."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(0.5, 1.5)
    pitch = size * log_uniform(rng, 0.02, 0.12)
    angles = np.array([0, math.pi / 2]) + rng.uniform(0, math.pi)
    if chance(rng, 0.3):
        angles = angles[0] + np.array([0, 1.05, 2.09])
    steps = np.linspace(-0.6, 0.6, 26) * size
    lines = []
    for angle in angles:
        for offset in np.arange(-size / 2, size / 2, pitch):
            start = toward(angle + math.pi / 2, offset)
            lines.append(start + np.stack([np.cos(angle) * steps, np.sin(angle) * steps], -1))
    points = (np.array(lines) + middle).astype(np.float32)
    sag = fractal(rng, side, side, coarsest=3, roughness=0.3) - 0.5
    inside = np.clip(points, 0, side - 1).astype(int)
    points += (sag[inside[..., 1], inside[..., 0]] * pitch * rng.uniform(0, 12))[..., None]
    colour, cover = paint(
        rng,
        side,
        points,
        palette(rng, 1)[0],
        thickness_px=max(0.5, pitch * rng.uniform(0.05, 0.35)),
    )
    if chance(rng, 0.7):
        mask = np.zeros((side, side), np.uint8)
        shape = rough_outline(rng, middle, size * 0.45, rough=0.2)
        cv2.fillPoly(mask, [shape.astype(np.int32)], 255, cv2.LINE_AA)
        cover = cover * from_bytes(mask)
    light = fractal(rng, side, side, coarsest=4, roughness=0.5)[..., None]
    stack.over(np.clip(colour * (0.55 + 0.9 * light), 0, 1).astype(np.float32), cover)


def _cables(stack: Stack) -> None:
    """A few long lines of very different thickness."""
    rng, side = stack.rng, stack.side
    for _ in range(int(rng.integers(1, 5))):
        count = int(rng.integers(1, 14))
        roots = rng.uniform(-0.05, 1.05, (count, 2)) * side
        angles = rng.uniform(0, 2 * math.pi) + rng.normal(0, 0.5, count)
        lengths = side * rng.uniform(0.3, 1.5, count)
        strands = grow(rng, roots, angles, lengths, curl=1.5, gravity=rng.uniform(0, 0.8), steps=30)
        thick = log_uniform(rng, 0.5, 7)
        colour, cover = paint(rng, side, strands, palette(rng, 1)[0], thickness_px=thick)
        stack.over(colour, cover)


def _fringe(stack: Stack) -> None:
    """Cords of wool, rope or straw that hang from an edge, side by side, with gaps between."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(0.6, 1.8)
    count, thick = int(rng.integers(40, 240)), side * log_uniform(rng, 0.003, 0.016)
    hang = math.pi / 2 + rng.normal(0, 0.5)
    top = middle - toward(hang, size * 0.4)
    edge = toward(hang - math.pi / 2, size * rng.uniform(0.15, 0.5))
    roots = top + rng.uniform(-1, 1, (count, 1)) * edge
    cords = grow(
        rng, roots, hang + rng.normal(0, rng.uniform(0.05, 0.3), count),
        size * rng.uniform(rng.uniform(0.3, 0.8), 1.0, count), steps=24,
        curl=rng.uniform(0.2, 1.2), gravity=rng.uniform(0, 0.8),
        frizz=rng.uniform(0, 0.08), waves=rng.uniform(0, 0.3),
    )  # fmt: skip
    cords = clumped(rng, cords, max(3, count // 6), rng.uniform(0, 0.6))
    colours = palette(rng, int(rng.integers(1, 7)))
    # Four sheets over each other; cords are darker at their rims, so that they look round and lit.
    for part in np.array_split(np.arange(count), 4):
        tones = colours[rng.integers(len(colours), size=len(part))]
        rims, cover = paint(rng, side, cords[part], tones * 0.5, thickness_px=thick, spread=0.1)
        cores, core = paint(rng, side, cords[part], tones, thickness_px=thick * 0.5, spread=0.1)
        colour = rims + (cores - rims) * blurred(core, thick * 0.2)[..., None]
        twist = 0.7 + 0.6 * fractal(rng, side, side, coarsest=side / thick / 4, roughness=0.5)
        stack.over(np.clip(colour * twist[..., None], 0, 1).astype(np.float32), cover)
    if chance(rng, 0.6):
        relief = stack.relief()
        cloth = relief.add(Material.cloth(rng, side, colours[0]))
        bar = size * rng.uniform(0.02, 0.25)
        relief.capsule(top - edge, top + edge, bar, bar, material=cloth)
        stack.body(relief)


def _box(stack: Stack) -> None:
    """A crate seen from a corner: three faces, three shades; sometimes a pile of them."""
    rng, side = stack.rng, stack.side
    for _ in range(int(rng.integers(1, 5))):
        middle, size = stack.place(0.2, 0.9)
        skin = surface(rng, side, side, palette(rng, 1)[0])
        a, b = toward(rng.uniform(-0.1, 0.6), size * 0.4), toward(rng.uniform(2.6, 3.2), size * 0.4)
        up = np.array([rng.normal(0, 0.03), -rng.uniform(0.2, 0.7)]) * size
        faces = ((a, up), (b, up), (a, b))
        shades = rng.permutation([0.45, 0.8, 1.15])
        for (u, v), shade in zip(faces, shades):
            corner = middle + (up if v is b else 0)
            _face(stack, skin * shade, np.array([corner, corner + u, corner + u + v, corner + v]))


def _face(stack: Stack, picture: Picture, corners: NDArray[Any]) -> None:
    mask = np.zeros((stack.side * 2,) * 2, np.uint8)
    cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_AA, 3)
    cover = cv2.resize(mask, (stack.side,) * 2, interpolation=cv2.INTER_AREA)
    stack.over(np.clip(picture, 0, 1), from_bytes(cover))


def _turned(stack: Stack) -> None:
    """A vase, lamp or bottle: a profile turned on a lathe, with handles."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(0.6, 1.5)
    down = np.linspace(-0.5, 0.5, 40)
    profile = np.full(40, rng.uniform(0.08, 0.2))
    for order in range(1, 6):
        profile += rng.normal(0, 0.07) / order * np.sin(order * 3.1 * (down + rng.uniform(0, 1)))
    profile = np.clip(profile, 0.02, 0.4) * size
    relief = stack.relief()
    clay = relief.add(Material.smooth(rng, side, palette(rng, 1)[0]))
    spine = middle + np.stack([np.zeros(40), down * size], -1)
    outline = np.concatenate([spine + np.stack([profile, 0 * down], -1),
                              (spine - np.stack([profile, 0 * down], -1))[::-1]])  # fmt: skip
    if chance(rng, 0.4):
        _handles(relief, clay, middle, size, float(profile.max()), size * rng.uniform(0.01, 0.03))
    relief.outline(outline, material=clay, roundness_px=float(profile.max()))
    stack.body(relief)


def _handles(relief: Any, clay: int, middle: Any, size: float, wide: float, thick: float) -> None:
    for hand in (-1, 1):
        turn = np.linspace(-1.4, 1.4, 14)
        bow = np.stack(
            [hand * (wide * 0.6 + np.cos(turn) * size * 0.15), np.sin(turn) * size * 0.2], -1
        )
        for start, end in zip(bow[:-1] + middle, bow[1:] + middle):
            relief.capsule(start, end, thick, thick, material=clay)


def _letters(stack: Stack) -> None:
    """Big letters cut from board: straight edges, counters that are holes."""
    rng, side = stack.rng, stack.side
    relief = stack.relief()
    for _ in range(int(rng.integers(1, 4))):
        mask = np.zeros((side, side), np.uint8)
        scale = side / 640 * rng.uniform(5, 18)
        text = "".join(rng.choice(list("ABDGOPQR0468&%HEMX"), int(rng.integers(1, 4))))
        at = int(rng.uniform(-0.05, 0.4) * side), int(rng.uniform(0.4, 1.0) * side)
        cv2.putText(
            mask,
            text,
            at,
            int(rng.integers(0, 4)),
            scale,
            255,
            int(scale * rng.uniform(1.5, 7)),
            16,
        )
        board = relief.add(Material.smooth(rng, side, palette(rng, 1)[0]))
        relief.inflate(
            mask, material=board, roundness_px=scale * rng.uniform(0.3, 3), z=rng.uniform(0, 30)
        )
    if (relief.cover > 0).any():
        stack.body(relief)


def _clutter(stack: Stack) -> None:
    """A machine of many parts: rods, plates, rings, knobs."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(0.5, 1.3)
    relief = stack.relief()
    parts = [relief.add(Material.smooth(rng, side, colour)) for colour in palette(rng, 4)]
    for _ in range(int(rng.integers(12, 45))):
        at = middle + rng.normal(0, size * 0.2, 2)
        part, z = parts[int(rng.integers(4))], rng.uniform(0, size * 0.2)
        kind = rng.integers(3)
        if kind == 0:
            end = at + toward(rng.choice([0, 1.57, 0.8]), size * rng.uniform(0.05, 0.5))
            thick = size * log_uniform(rng, 0.004, 0.06)
            relief.capsule(at, end, thick, thick, material=part, z=z)
        elif kind == 1:
            axes = tuple(size * log_uniform(rng, 0.01, 0.14) for _ in range(2))
            relief.ellipsoid(at, axes, material=part, z=z)
        else:
            corner = at + rng.uniform(0.03, 0.25, 2) * size
            square = np.array([at, (corner[0], at[1]), corner, (at[0], corner[1])])
            relief.outline(square, material=part, roundness_px=size * rng.uniform(0.003, 0.03), z=z)
    stack.body(relief)


# The things of a recipe, by name.
_THINGS: dict[str, Callable[[Stack], None]] = {
    "furniture": _furniture,
    "wheel": _wheel,
    "lattice": _lattice,
    "cables": _cables,
    "fringe": _fringe,
    "box": _box,
    "turned": _turned,
    "letters": _letters,
    "clutter": _clutter,
}
