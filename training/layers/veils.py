"""Subjects that one can see through: cloth, lace, glass, smoke, and clouds of small drops."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from training.layers.fields import (
    Field,
    blurred,
    chance,
    fractal,
    from_bytes,
    log_uniform,
    palette,
    surface,
    warped,
)
from training.layers.relief import rough_outline
from training.layers.stack import Stack


def cloth(stack: Stack) -> None:
    """A hanging veil or flag, more opaque where folds lie behind each other."""
    rng, side = stack.rng, stack.side
    inside = _patch(stack, 0.5, 1.6, soft_px=rng.choice([0.6, 0.6, 8.0]))
    angle, pitch = rng.normal(0, 0.5), side * log_uniform(rng, 0.02, 0.25)
    x = np.arange(side, dtype=np.float32)[None] * math.cos(angle)
    y = np.arange(side, dtype=np.float32)[:, None] * math.sin(angle)
    bend = fractal(rng, side, side, coarsest=3, roughness=0.5) * pitch * rng.uniform(1, 5)
    fold = np.sin((x + y + bend) * 2 * math.pi / pitch)
    slope = np.abs(np.cos((x + y + bend) * 2 * math.pi / pitch))
    through = 1 - rng.uniform(0.12, 0.75)
    alpha = 1 - through ** (0.6 + 1.6 * slope * rng.uniform(0.2, 1))
    if chance(rng, 0.35):
        alpha = alpha * _lace(stack)
    tint = surface(rng, side, side, palette(rng, 1)[0])
    light = 0.85 + 0.25 * fold * math.copysign(1, stack.light.direction[0])
    stack.over(
        np.clip(tint * light[..., None], 0, 1).astype(np.float32),
        (alpha * inside).astype(np.float32),
    )


def _lace(stack: Stack) -> Field:
    """Threads with holes in a repeated pattern, a few pixels wide."""
    rng, side = stack.rng, stack.side
    tile = int(rng.integers(8, 40))
    small = fractal(rng, tile, tile, coarsest=3, roughness=0.5)
    small = np.block([[small, small[:, ::-1]], [small[::-1], small[::-1, ::-1]]])
    times = -(-side // len(small))
    whole = warped(rng, np.tile(small, (times, times))[:side, :side].astype(np.float32), 6)
    return np.clip((whole - rng.uniform(0.3, 0.55)) * log_uniform(rng, 4, 20) + 0.5, 0, 1)


def glass(stack: Stack) -> None:
    """A bottle, tumbler or pane: clear in the middle, dense at its rim, with highlights."""
    rng, side = stack.rng, stack.side
    inside = _patch(stack, 0.3, 1.0, soft_px=0.6)
    solid = (inside > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(cv2.copyMakeBorder(solid, 1, 1, 1, 1, 0), cv2.DIST_L2, 5)[
        1:-1, 1:-1
    ]
    depth = depth / (float(depth.max()) + 1e-6)
    rim = np.exp(-depth * rng.uniform(4, 25))
    alpha = rng.uniform(0.03, 0.35) + rng.uniform(0.3, 0.9) * rim
    if chance(rng, 0.4):
        level = np.clip((np.arange(side)[:, None] / side - rng.uniform(0.3, 0.7)) * side, 0, 1)
        alpha = np.maximum(alpha, level * rng.uniform(0.2, 0.8))
    tint = palette(rng, 2)
    shade = fractal(rng, side, side, coarsest=3, roughness=0.4)[..., None]
    colour = tint[0] * (0.5 + 0.8 * shade) * (1 - rim[..., None] * rng.uniform(0, 0.8))
    stack.over(
        np.clip(colour, 0, 1).astype(np.float32), (np.clip(alpha, 0, 1) * inside).astype(np.float32)
    )
    _highlights(stack, inside)


def _highlights(stack: Stack, inside: Field) -> None:
    rng, side = stack.rng, stack.side
    mask = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(2, 9))):
        start = rng.uniform(0.1, 0.9, 2) * side
        end = start + rng.normal(0, 0.2, 2) * side * (0.2, 1)
        ends = [tuple(int(v) for v in point) for point in (start, end)]
        cv2.line(mask, *ends, int(rng.integers(60, 256)), int(rng.integers(1, 16)), cv2.LINE_AA)
    shine = blurred(from_bytes(mask), float(rng.uniform(0.6, 3)))
    stack.over(np.float32([1.0, 0.99, 0.97]), (shine * inside).astype(np.float32))


def smoke(stack: Stack) -> None:
    """Smoke, steam or dust, without edges."""
    rng, side = stack.rng, stack.side
    inside = _patch(stack, 0.5, 1.5, soft_px=side * rng.uniform(0.03, 0.1))
    field = fractal(
        rng, side, side, coarsest=log_uniform(rng, 2, 8), roughness=rng.uniform(0.4, 0.6)
    )
    field = warped(rng, field, rng.uniform(5, 50))
    dense = np.clip((field - rng.uniform(0.2, 0.5)) * rng.uniform(1, 3), 0, 1) * rng.uniform(
        0.4, 1.0
    )
    tone = (
        np.float32([1, 1, 1]) * rng.uniform(0.1, 0.95) * rng.normal(1, 0.05, 3).astype(np.float32)
    )
    light = fractal(rng, side, side, coarsest=3, roughness=0.5)[..., None]
    stack.over(
        np.clip(tone * (0.6 + 0.6 * light), 0, 1).astype(np.float32),
        (dense * inside).astype(np.float32),
    )


def drops(stack: Stack) -> None:
    """Confetti, snow, sparks, spray: hundreds of small things, some out of focus."""
    rng, side = stack.rng, stack.side
    for _ in range(int(rng.integers(1, 4))):
        mask = np.zeros((side * 2,) * 2, np.uint8)
        colour = np.zeros((side * 2, side * 2, 3), np.uint8)
        largest = log_uniform(rng, 2, 16)
        tones = palette(rng, 5)
        colour[:] = tones.mean(0) * 255
        for _ in range(int(rng.integers(30, 500))):
            at = tuple(int(v) for v in rng.uniform(0, side * 16, 2))
            axes = tuple(int(v) for v in (1 + largest * rng.random(2)) * 8)
            angle = float(rng.uniform(0, 180))
            tone = (tones[int(rng.integers(5))] * 255).tolist()
            cv2.ellipse(mask, at, axes, angle, 0, 360, 255, -1, cv2.LINE_AA, 3)
            cv2.ellipse(colour, at, axes, angle, 0, 360, tone, -1, cv2.LINE_AA, 3)
        size, soft = (side, side), float(rng.choice([0.4, 1.5, 4.0]))
        cover = blurred(from_bytes(cv2.resize(mask, size, interpolation=cv2.INTER_AREA)), soft)
        picture = blurred(from_bytes(cv2.resize(colour, size, interpolation=cv2.INTER_AREA)), soft)
        stack.over(np.clip(picture, 0, 1), np.clip(cover * rng.uniform(0.5, 1), 0, 1))


def _patch(stack: Stack, smallest: float, largest: float, soft_px: Any) -> Field:
    """The region of the subject: a rounded outline or a hanging rectangle, (side, side), 0..1."""
    rng, side = stack.rng, stack.side
    middle, size = stack.place(smallest, largest)
    mask = np.zeros((side * 2,) * 2, np.uint8)
    shape = rough_outline(rng, middle, size * 0.4, rough=rng.uniform(0.05, 0.4))
    if chance(rng, 0.4):
        half = size * rng.uniform(0.15, 0.5, 2)
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
        shape = middle + corners + rng.normal(0, size * 0.03, (4, 2))
    cv2.fillPoly(mask, [np.round(shape * 16).astype(np.int32)], 255, cv2.LINE_AA, 3)
    cover = from_bytes(cv2.resize(mask, (side, side), interpolation=cv2.INTER_AREA))
    return np.clip(blurred(cover, float(soft_px)), 0, 1)
