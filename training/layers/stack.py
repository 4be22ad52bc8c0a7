"""The picture in which a subject is built up: premultiplied colour and alpha.

A sheet is a picture with a coverage that is laid over it, or under it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.layers.fields import Field, Picture, Rng, log_uniform
from training.layers.recipe import Recipe
from training.layers.relief import Light, Relief


@dataclass
class Stack:
    """A subject being drawn; all its parts share the random generator, the recipe and the light."""

    rng: Rng
    side: int
    recipe: Recipe

    def __post_init__(self) -> None:
        self.premultiplied = np.zeros((self.side, self.side, 3), np.float32)
        self.alpha = np.zeros((self.side, self.side), np.float32)
        self.light = Light.random(self.rng)

    def over(self, colour: Picture | NDArray[np.float32], cover: Field) -> None:
        """Lay a sheet on top: straight colour (h, w, 3) or (3,), coverage (h, w)."""
        cover3 = cover[..., None]
        self.premultiplied = colour * cover3 + self.premultiplied * (1 - cover3)
        self.alpha = cover + self.alpha * (1 - cover)

    def under(self, colour: Picture | NDArray[np.float32], cover: Field) -> None:
        """Lay a sheet below all that is there."""
        seen = cover * (1 - self.alpha)
        self.premultiplied = self.premultiplied + colour * seen[..., None]
        self.alpha = self.alpha + seen

    def relief(self) -> Relief:
        return Relief(self.side)

    def body(self, relief: Relief, albedo: Picture | None = None) -> Picture:
        """Light a body and lay it on top; returns its lit colours, for hair that grows on it."""
        lit = relief.shade(self.rng, self.light, albedo)
        self.over(lit, relief.cover)
        return lit

    def place(
        self, smallest: float = 0.3, largest: float = 1.1
    ) -> tuple[NDArray[np.float64], float]:
        """A random middle (x, y) and size in pixels; large subjects may extend beyond the frame."""
        size = self.side * log_uniform(self.rng, smallest, largest)
        room = 0.5 - min(0.4, size / self.side * 0.35)
        middle = self.side * (0.5 + self.rng.uniform(-room, room, 2))
        return middle, size

    def straight(self) -> Picture:
        """Straight colours; where alpha is 0, the mean of the subject."""
        total = float(self.alpha.sum())
        mean = self.premultiplied.sum((0, 1)) / max(total, 1e-6)
        alpha = self.alpha[..., None]
        return np.where(alpha > 1e-3, self.premultiplied / np.maximum(alpha, 1e-3), mean)


def toward(angle: float, length: float) -> NDArray[np.float64]:
    """The vector of that length: angle 0 points right, a quarter turn down."""
    return np.array([math.cos(angle), math.sin(angle)]) * length
