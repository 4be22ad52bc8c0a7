"""Animals and plush toys with fur, and plants: subjects with thousands of small parts as edge."""

# ruff: noqa: RUF005 - `place + (x, y)` moves a point, it does not join lists.
from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import (
    Picture,
    chance,
    fractal,
    from_bytes,
    log_uniform,
    palette,
    surface,
    to_bytes,
)
from training.layers.relief import Material, Relief, rough_outline
from training.layers.stack import Stack, toward
from training.layers.strands import clumped, grow, inside_roots, outline_roots, paint


def animal(stack: Stack) -> None:
    """Body, head, ears, legs and tail, covered with fur."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(0.5, 1.5)
    colours = palette(rng, 3)
    relief = stack.relief()
    coat = relief.add(Material(surface(rng, side, side, colours[0])))
    other = relief.add(Material(surface(rng, side, side, colours[1])))
    dark = relief.add(Material(np.full((side, side, 3), 0.05, np.float32), 0.8))
    facing = float(rng.choice([-1, 1]))
    _body(relief, rng, middle, size, facing, coat, other)
    _face(relief, rng, middle + (facing * size * 0.27, -size * 0.2), size * 0.15, other, dark)
    lit = stack.body(relief)
    _fur(stack, relief, lit, size * log_uniform(rng, 0.015, 0.09))


def _body(
    relief: Relief, rng: Any, middle: Any, size: float, facing: float, coat: int, other: int
) -> None:
    across, down = np.array([facing * size, 0]), np.array([0, size])
    relief.ellipsoid(
        middle, (size * rng.uniform(0.24, 0.36), size * rng.uniform(0.15, 0.26)), material=coat,
        angle=rng.normal(0, 0.25),
    )  # fmt: skip
    for place in (-0.22, -0.14, 0.14, 0.22):
        hip = middle + across * place + down * 0.08
        knee = hip + toward(math.pi / 2 + rng.normal(0, 0.3), size * rng.uniform(0.1, 0.18))
        paw = knee + toward(math.pi / 2 + rng.normal(0, 0.25), size * rng.uniform(0.08, 0.18))
        z = size * 0.05 * rng.uniform(-1, 1)
        relief.capsule(hip, knee, size * 0.07, size * 0.045, material=coat, z=z)
        relief.capsule(knee, paw, size * 0.045, size * 0.035, material=other, z=z)
    tail, heading = middle - across * 0.27, math.pi / 2 * (1 + facing) + rng.normal(0, 0.8)
    for part in range(6):
        ahead = tail + toward(heading, size * 0.06)
        relief.capsule(tail, ahead, size * (0.05 - 0.005 * part), size * 0.04, material=coat)
        tail, heading = ahead, heading + rng.normal(0.1, 0.35)
    relief.capsule(
        middle + across * 0.2, middle + across * 0.27 - down * 0.18, size * 0.12, size * 0.1,
        material=coat, z=size * 0.04,
    )  # fmt: skip


def _face(relief: Relief, rng: Any, head: Any, radius: float, other: int, dark: int) -> None:
    z = radius * 0.8
    for side in (-1, 1):
        root = head + (side * radius * 0.6, -radius * 0.6)
        tip = root + toward(
            -math.pi / 2 + side * rng.uniform(0, 0.9), radius * rng.uniform(0.3, 1.3)
        )
        relief.capsule(
            root, tip, radius * 0.35, radius * rng.uniform(0.05, 0.3), material=other, z=z / 2
        )
    relief.ellipsoid(head, (radius, radius * rng.uniform(0.8, 1.0)), material=other, z=z)
    snout = head + (rng.uniform(-0.4, 0.4) * radius, radius * 0.3)
    relief.ellipsoid(snout, (radius * 0.4, radius * 0.32), material=other, z=z + radius * 0.75)
    eyes = (head + (side * radius * 0.4, -radius * 0.15) for side in (-1, 1))
    for dot, wide in ((snout - (0, radius * 0.1), 0.15), *((eye, 0.12) for eye in eyes)):
        relief.ellipsoid(dot, (radius * wide,) * 2, material=dark, z=z + radius * 1.1)


def _fur(stack: Stack, relief: Relief, lit: Picture, length: float) -> None:
    """Hair all over the body in the body's own lit colours, and longer at its edge."""
    rng = stack.rng
    area = float((relief.cover > 0.5).sum())
    count = int(np.clip(area / 14, 300, 6000))
    roots, angles = inside_roots(rng, relief.cover, count)
    if len(roots) == 0:
        return
    flow = fractal(rng, stack.side, stack.side, coarsest=4, roughness=0.4)
    combed = 0.5 * angles + 4 * _at(flow, roots) + rng.normal(0, 0.3, count)
    lengths = length * rng.uniform(0.4, 1.0, count)
    _grown(stack, lit, roots, combed, lengths)
    roots, angles = outline_roots(rng, relief.cover, int(np.clip(area / 30, 250, 4000)))
    if len(roots):
        lengths = length * rng.uniform(0.4, 1.4, len(roots))
        _grown(stack, lit, roots, angles + rng.normal(0, 0.5, len(roots)), lengths)


def _grown(stack: Stack, lit: Picture, roots: Any, angles: Any, lengths: Any) -> None:
    rng = stack.rng
    strands = grow(
        rng, roots, angles, lengths, curl=0.7, gravity=rng.uniform(0, 0.8), frizz=0.06, steps=7
    )
    if chance(rng, 0.5):
        strands = clumped(rng, strands, len(strands) // 12, rng.uniform(0.2, 0.8))
    picture, cover = paint(
        rng, stack.side, strands, _at(lit, roots), thickness_px=rng.choice([0.5, 0.8, 1.2]),
        spread=rng.uniform(0.08, 0.3),
    )  # fmt: skip
    stack.over(picture, cover * rng.uniform(0.8, 1.0))


def _at(picture: NDArray[Any], places: NDArray[Any]) -> NDArray[Any]:
    side = len(picture) - 1
    x, y = (np.clip(places[:, axis].astype(int), 0, side) for axis in (0, 1))
    return picture[y, x]


# --- plants ---------------------------------------------------------------------------------------


def plant(stack: Stack) -> None:
    """Stems that branch, with leaves or needles; the set shows through everywhere."""
    rng = stack.rng
    middle, size = stack.place(0.5, 1.4)
    green = np.array([0.25, 0.42, 0.15], np.float32) * rng.uniform(0.5, 1.8)
    colours = np.clip(np.stack([green * rng.normal(1, 0.2, 3) for _ in range(6)]), 0.02, 0.95)
    if chance(rng, 0.35):
        colours = palette(rng, 6)
    ends = _branches(stack, middle + (0, size * 0.45), size, colours[0] * 0.6)
    draw = _needles if chance(rng, 0.25) else _leaves
    draw(stack, ends, size * rng.uniform(0.025, 0.11), colours)
    if chance(rng, 0.3):
        _pot(stack, middle + (0, size * 0.45), size * 0.16)


def _branches(stack: Stack, root: Any, size: float, colour: Any) -> NDArray[np.float64]:
    """Draw the stems; returns position and direction of the leaves, (n, 3)."""
    rng, side = stack.rng, stack.side
    large = 2
    cover = np.zeros((side * large,) * 2, np.uint8)
    ends: list[tuple[float, float, float]] = []
    queue = [
        (
            np.asarray(root, np.float64),
            -math.pi / 2 + rng.normal(0, 0.35),
            size * rng.uniform(0.25, 0.5),
            0,
        )
        for _ in range(int(rng.integers(1, 6)))
    ]
    split = rng.uniform(0.25, 0.8)
    while queue and len(ends) < 900:
        at, heading, length, level = queue.pop(0)
        width = max(1, round(size * 0.02 * 0.6**level))
        for _ in range(8):
            ahead = at + toward(heading, length / 8)
            _line(cover, at * large, ahead * large, width * large)
            heading += rng.normal(0, 0.12)
            at = ahead
            if level:
                ends.append((at[0], at[1], heading + rng.normal(0, 0.9)))
        if level < 3:
            queue += [
                (at, heading + rng.normal(0, split), length * rng.uniform(0.45, 0.8), level + 1)
                for _ in range(int(rng.integers(2, 4)))
            ]
    thin = from_bytes(cv2.resize(cover, (side, side), interpolation=cv2.INTER_AREA))
    stack.over(np.clip(colour, 0, 1).astype(np.float32), thin)
    return np.array(ends)


def _line(cover: Any, start: Any, end: Any, width: int) -> None:
    a, b = (tuple(int(v * 8) for v in point) for point in (start, end))
    cv2.line(cover, a, b, 255, width, cv2.LINE_AA, 3)


def _leaves(stack: Stack, ends: Any, length: float, colours: Any) -> None:
    rng, side = stack.rng, stack.side
    colour = np.zeros((side * 2, side * 2, 3), np.uint8)
    colour[:] = colours.mean(0) * 255
    cover = np.zeros((side * 2,) * 2, np.uint8)
    slim = rng.uniform(0.2, 0.6)
    run = np.linspace(0, 1, 9)
    width = np.sin(run**0.8 * math.pi)
    for x, y, heading in ends:
        reach = length * rng.uniform(0.5, 1.3) * 2
        squash = slim * rng.uniform(0.3, 1.0)
        forward, across = toward(heading, reach), toward(heading + math.pi / 2, reach * squash / 2)
        spine = np.array([x, y]) * 2 + run[:, None] * forward
        rim = np.concatenate(
            [spine + width[:, None] * across, (spine - width[:, None] * across)[::-1]]
        )
        fixed = np.round(rim * 8).astype(np.int32)
        tone = (
            np.clip(colours[int(rng.integers(len(colours)))] * rng.normal(1, 0.25), 0.02, 1) * 255
        )
        cv2.fillPoly(colour, [fixed], tone.tolist(), cv2.LINE_AA, 3)
        cv2.fillPoly(cover, [fixed], 255, cv2.LINE_AA, 3)
        half = np.round(np.concatenate([spine, (spine - width[:, None] * across)[::-1]]) * 8)
        cv2.fillPoly(colour, [half.astype(np.int32)], (tone * 0.75).tolist(), cv2.LINE_AA, 3)
    _lay(stack, colour, cover)


def _needles(stack: Stack, ends: Any, length: float, colours: Any) -> None:
    rng = stack.rng
    each = max(1, int(4500 / max(len(ends), 1)))
    roots = np.repeat(ends[:, :2], each, 0) + rng.normal(0, length * 0.1, (len(ends) * each, 2))
    angles = np.repeat(ends[:, 2], each) + rng.normal(0, 0.9, len(roots))
    strands = grow(
        rng, roots, angles, length * rng.uniform(0.4, 1.0, len(roots)), curl=0.3, steps=4
    )
    tones = colours[rng.integers(len(colours), size=len(roots))]
    stack.over(*paint(rng, stack.side, strands, tones, thickness_px=rng.uniform(0.5, 1.2)))


def _lay(stack: Stack, colour: Any, cover: Any) -> None:
    """A sheet drawn at twice the size, with uneven light on it."""
    rng, size = stack.rng, (stack.side, stack.side)
    picture = from_bytes(cv2.resize(colour, size, interpolation=cv2.INTER_AREA))
    light = fractal(rng, stack.side, stack.side, coarsest=5, roughness=0.6)[..., None]
    alpha = from_bytes(cv2.resize(cover, size, interpolation=cv2.INTER_AREA))
    stack.over(np.clip(picture * (0.6 + 0.8 * light), 0, 1).astype(np.float32), alpha)


def _pot(stack: Stack, middle: Any, size: float) -> None:
    relief = stack.relief()
    clay = relief.add(Material.smooth(stack.rng, stack.side, palette(stack.rng, 1)[0]))
    relief.capsule(middle, middle + (0, size * 0.8), size, size * 0.7, material=clay)
    stack.body(relief)


def foliage(stack: Stack) -> None:
    """Noise with a threshold: thickets, sponge, cloud edges; holes of all sizes."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(0.5, 1.3)
    mask = np.zeros((side, side), np.uint8)
    shape = rough_outline(rng, middle, size * 0.4)
    cv2.fillPoly(mask, [shape.astype(np.int32)], 255, cv2.LINE_AA)
    inside = cv2.GaussianBlur(from_bytes(mask), (0, 0), float(rng.uniform(5, 40)))
    field = fractal(
        rng, side, side, coarsest=log_uniform(rng, 6, 40), roughness=rng.uniform(0.45, 0.75)
    )
    level = np.clip((inside * 1.3 - field - 0.1) * log_uniform(rng, 3, 40), 0, 1).astype(np.float32)
    relief = stack.relief()
    moss = relief.add(
        Material(
            surface(rng, side, side, palette(rng, 1)[0]), 0.0, (1 - field) * rng.uniform(5, 40)
        )
    )
    relief.inflate(to_bytes(level), material=moss, roundness_px=size * 0.1)
    lit = relief.shade(rng, stack.light)
    stack.over(lit, level)
