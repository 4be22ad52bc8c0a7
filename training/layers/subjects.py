"""One subject: its kinds by a recipe, the blur of the camera, and its conversion to bytes."""

from __future__ import annotations

from typing import Callable

import numpy as np
from numpy.typing import NDArray

from training.layers import creatures, people, things, veils
from training.layers.fields import Rng, blurred, chance, fractal, to_bytes
from training.layers.optics import photographed
from training.layers.recipe import Recipe
from training.layers.stack import Stack

# The kinds of a recipe, by name.
_KINDS: dict[str, Callable[[Stack], None]] = {
    "person": people.person,
    "head_of_hair": people.head_of_hair,
    "animal": creatures.animal,
    "plant": creatures.plant,
    "foliage": creatures.foliage,
    "thing": things.thing,
    "blob": things.blob,
    "cloth": veils.cloth,
    "glass": veils.glass,
    "smoke": veils.smoke,
    "drops": veils.drops,
}
# Probability of a second subject beside or over the first.
_SECOND = 0.14
# Probabilities of a layer without a subject, and of one that is opaque everywhere.
_EMPTY, _EVERYWHERE = 0.025, 0.015


def draw_subject(rng: Rng, side: int, recipe: Recipe) -> NDArray[np.uint8]:
    """A subject of a recipe: straight RGB and alpha, (side, side, 4) uint8, display-encoded."""
    stack = Stack(rng, side, recipe)
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
    sheet = photographed(rng, np.ascontiguousarray(sheet, np.float32), recipe.swung)
    stack.premultiplied, stack.alpha = sheet[..., :3], np.clip(sheet[..., 3], 0, 1)
    return np.concatenate([to_bytes(stack.straight()), to_bytes(stack.alpha)[..., None]], -1)


def _one(stack: Stack) -> None:
    shares, names = zip(*stack.recipe.kinds)
    probabilities = np.array(shares) / np.sum(shares)
    _KINDS[names[int(stack.rng.choice(len(names), p=probabilities))]](stack)


def _fade(stack: Stack) -> None:
    """Make a soft-edged region of the subject semi-transparent."""
    field = fractal(stack.rng, stack.side, stack.side, coarsest=2, roughness=0.3)
    keep = 1 - blurred(np.clip((field - 0.55) * 5, 0, 1), 8) * stack.rng.uniform(0.3, 0.9)
    stack.alpha = stack.alpha * keep
    stack.premultiplied = stack.premultiplied * keep[..., None]
