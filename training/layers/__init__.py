"""Subjects with alpha, and sets to put behind them, drawn procedurally: no photograph is used.

`draw_pair(seed, number, side)` draws one of each. The same arguments give the same pixels whatever
was drawn before, so layers can be drawn again from two numbers.

    recipe     which subjects, and how often: in training, in the validation set
    fields     noise, palettes, surfaces (cloth, wood, skin, print ...)
    relief     solid bodies as height fields: shading, occlusion, cast light
    strands    hair, fur, grass, cables: thousands of curved lines
    people, creatures, things, veils      the kinds of subjects
    stack, subjects                       a subject put together
    sets       backgrounds
    optics     defocus and motion blur, on premultiplied colour
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import Rng, chance
from training.layers.recipe import TRAINING, Recipe
from training.layers.sets import draw_set, flat_screen
from training.layers.subjects import draw_subject

Bytes = NDArray[np.uint8]

# Windows are cut from layers when they are composed: 640 leaves room around a canvas of 512.
SIDE = 640
# Sets with a lower mean are too dark to be useful; another one is drawn.
DARKEST_MEAN = 0.07
# Spawn keys of the two streams of one pair.
_SUBJECT, _SET = 0, 1


@dataclass(frozen=True)
class LayerPair:
    """A subject and a set of the same square size, display-encoded, top row first.

    subject: (S, S, 4) uint8, straight RGB and alpha. background: (S, S, 3) uint8. is_screen: the
    set is a green or blue screen.
    """

    subject: Bytes
    background: Bytes
    is_screen: bool


def draw_pair(seed: int, number: int, side: int = SIDE, recipe: Recipe = TRAINING) -> LayerPair:
    """The `number`-th pair of a seed."""
    # OpenCV's threads would compete with the other processes that draw.
    cv2.setNumThreads(0)
    subject = draw_subject(_stream(seed, number, _SUBJECT), side, recipe)
    background, is_screen = _bright_enough(_stream(seed, number, _SET), side, recipe)
    return LayerPair(subject, background, is_screen)


def _stream(seed: int, number: int, which: int) -> Rng:
    return np.random.default_rng([seed, number, which])


def _bright_enough(rng: Rng, side: int, recipe: Recipe) -> tuple[Bytes, bool]:
    flat = bool(recipe.screens) and chance(rng, recipe.screens)
    for _ in range(4):
        picture, is_screen = (flat_screen(rng, side), True) if flat else draw_set(rng, side)
        if picture.mean() > DARKEST_MEAN:
            break
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8), is_screen
