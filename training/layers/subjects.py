"""Which subject stands in front, and what becomes of it before it is kept as bytes."""

from __future__ import annotations

from typing import Callable

import numpy as np
from numpy.typing import NDArray

from training.layers import creatures, people, things, veils
from training.layers.fields import Rng, blurred, chance, fractal, to_bytes
from training.layers.optics import photographed
from training.layers.stack import Stack

# Shares of what is drawn; whole, solid subjects first.
_KINDS: tuple[tuple[float, Callable[[Stack], None]], ...] = (
    (0.38, people.person),
    (0.12, people.head_of_hair),
    (0.15, creatures.animal),
    (0.08, creatures.plant),
    (0.03, creatures.foliage),
    (0.13, things.thing),
    (0.05, things.blob),
    (0.03, veils.cloth),
    (0.015, veils.glass),
    (0.01, veils.smoke),
    (0.005, veils.drops),
)
# A second subject beside or over the first.
_SECOND = 0.14
_EMPTY, _EVERYWHERE = 0.025, 0.015


def draw_subject(rng: Rng, side: int) -> NDArray[np.uint8]:
    """Straight colour and alpha, (side, side, 4) uint8, display-encoded."""
    stack = Stack(rng, side)
    everywhere = chance(rng, _EVERYWHERE)
    if everywhere or not chance(rng, _EMPTY):
        _one(stack)
        if chance(rng, _SECOND):
            _one(stack)
    if everywhere:
        stack.under(np.float32(rng.uniform(0.1, 0.9, 3)), np.ones((side, side), np.float32))
    if chance(rng, 0.04):
        _fade(stack)
    sheet = np.concatenate([stack.premultiplied, stack.alpha[..., None]], -1)
    sheet = photographed(rng, np.ascontiguousarray(sheet, np.float32))
    stack.premultiplied, stack.alpha = sheet[..., :3], np.clip(sheet[..., 3], 0, 1)
    return np.concatenate([to_bytes(stack.straight()), to_bytes(stack.alpha)[..., None]], -1)


def _one(stack: Stack) -> None:
    shares = np.array([share for share, _ in _KINDS])
    draw = _KINDS[int(stack.rng.choice(len(_KINDS), p=shares / shares.sum()))][1]
    draw(stack)


def _fade(stack: Stack) -> None:
    """A soft-edged region becomes see-through."""
    field = fractal(stack.rng, stack.side, stack.side, coarsest=2, roughness=0.3)
    keep = 1 - blurred(np.clip((field - 0.55) * 5, 0, 1), 8) * stack.rng.uniform(0.3, 0.9)
    stack.alpha = stack.alpha * keep
    stack.premultiplied = stack.premultiplied * keep[..., None]
