"""What the things of the set are made of: colour, relief, gloss, and light of their own.

Every surface has a name, an entry in `PLAIN`, and often a painter that adds what is not plain.
A painter works on a `Patch`: all the points of the picture that show this surface.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.arrays import Array, vec
from mattebridge_sample.lights import outside
from mattebridge_sample.shapes import Solid
from mattebridge_sample.textures import brick, cell_noise, look_up, mix, noise_tile, oak, smoothstep
from mattebridge_sample.view import View
from mattebridge_sample.walls import WALLS

# Reflectance, gloss seen at right angles, roughness of the gloss.
PLAIN: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "floor": ((0.3, 0.17, 0.08), 0.045, 0.22),
    "ceiling": ((0.62, 0.60, 0.56), 0.0, 1.0),
    "wall_left": ((0.60, 0.57, 0.51), 0.0, 1.0),
    "wall_right": ((0.3, 0.2, 0.15), 0.0, 1.0),
    "wall_back": ((0.40, 0.37, 0.315), 0.0, 1.0),
    "reveal": ((0.66, 0.64, 0.60), 0.02, 0.5),
    "outside": ((0.0, 0.0, 0.0), 0.0, 1.0),
    "frame": ((0.060, 0.065, 0.062), 0.04, 0.35),
    "white": ((0.66, 0.64, 0.60), 0.04, 0.3),
    "brass": ((0.36, 0.22, 0.075), 0.35, 0.25),
    "black": ((0.012, 0.012, 0.012), 0.03, 0.5),
    "oak_top": ((0.2, 0.12, 0.06), 0.05, 0.18),
    "oak_front": ((0.15, 0.09, 0.05), 0.05, 0.18),
    "bookcase": ((0.085, 0.048, 0.026), 0.02, 0.4),
    "book_red": ((0.26, 0.035, 0.028), 0.03, 0.4),
    "book_blue": ((0.035, 0.085, 0.125), 0.03, 0.4),
    "book_cream": ((0.58, 0.50, 0.36), 0.03, 0.4),
    "glaze": ((0.085, 0.16, 0.155), 0.06, 0.12),
    "mug": ((0.62, 0.58, 0.50), 0.05, 0.15),
    "print_a": ((0.58, 0.54, 0.46), 0.045, 0.08),
    "print_b": ((0.58, 0.54, 0.46), 0.045, 0.08),
    "leather": ((0.22, 0.085, 0.030), 0.05, 0.35),
    "cushion": ((0.50, 0.30, 0.06), 0.0, 1.0),
    "pot": ((0.34, 0.15, 0.08), 0.02, 0.5),
    "leaf": ((0.055, 0.13, 0.030), 0.05, 0.35),
    "stem": ((0.09, 0.10, 0.035), 0.0, 1.0),
    "twig": ((0.22, 0.15, 0.085), 0.0, 1.0),
    "seed": ((0.46, 0.33, 0.17), 0.0, 1.0),
    "shade": ((0.6, 0.5, 0.36), 0.0, 1.0),
    "bulb": ((0.5, 0.4, 0.3), 0.0, 1.0),
    "door": ((0.16, 0.095, 0.055), 0.03, 0.4),
}
LAMP_GLOW = vec([1.0, 0.56, 0.22])
BULB_GLOW = vec([1.0, 0.52, 0.18])


@dataclass
class Surface:
    """All points of the picture: reflectance, gloss, roughness of the gloss, own light."""

    colour: Array
    gloss: Array
    rough: Array
    shine: Array


@dataclass
class Patch:
    """The points that show one surface, as in `View`, and what a painter may change of them."""

    p: Array  # (3, M) place
    n: Array  # (3, M) normal
    d: Array  # (3, M) direction from the eye
    thing: NDArray[np.int32]  # (M,)
    colour: Array
    gloss: Array
    shine: Array

    @property
    def facing(self) -> Array:
        """How squarely each point is seen, 0..1."""
        return np.asarray(np.abs((self.n * self.d).sum(0)), np.float32)


def dress(view: View, things: list[Solid], seed: int) -> Surface:
    """Colour, gloss and own light of every pixel; bends `view.normal` by the relief."""
    count = view.position.shape[1]
    surface = Surface(
        np.zeros((count, 3), np.float32),
        np.zeros(count, np.float32),
        np.ones(count, np.float32),
        np.zeros((count, 3), np.float32),
    )
    names = list(PLAIN)
    codes = {**{index: thing.surface for index, thing in enumerate(things)}, **WALLS}
    number = np.zeros(len(things) + 8, np.int32)
    for code, name in codes.items():
        number[code + 8] = names.index(name)
    shown = number[view.thing + 8]
    for name in names:
        index = np.flatnonzero(shown == names.index(name))
        if len(index):
            _paint(name, index, view, surface, things, seed)
    return surface


def _paint(
    name: str,
    index: NDArray[np.int64],
    view: View,
    surface: Surface,
    things: list[Solid],
    seed: int,
) -> None:
    plain, gloss, rough = PLAIN[name]
    patch = Patch(
        view.position[:, index],
        view.normal[:, index],
        view.direction[:, index],
        view.thing[index],
        np.repeat(vec([plain]), len(index), 0),
        np.full(len(index), gloss, np.float32),
        np.zeros((len(index), 3), np.float32),
    )
    if name in PAINTERS:
        PAINTERS[name](patch, things, seed)
    surface.colour[index], surface.gloss[index] = patch.colour, patch.gloss
    surface.shine[index], surface.rough[index] = patch.shine, rough
    view.normal[:, index] = patch.n


def _brick(patch: Patch, things: list[Solid], seed: int) -> None:
    span, rise, step = 5.4, 3.0, 0.004
    colour, height = brick(span, rise, 340, seed)
    u, v = (patch.p[2] - 1.5) / span, patch.p[1] / rise
    patch.colour = look_up(colour, u, v)
    here = look_up(height, u, v)
    bent = patch.n.copy()
    bent[2] -= 0.9 * (look_up(height, u + np.float32(step / span), v) - here) / step
    bent[1] -= 0.9 * (look_up(height, u, v + np.float32(step / rise)) - here) / step
    patch.n = vec(bent / np.sqrt((bent * bent).sum(0)))


def _floor(patch: Patch, things: list[Solid], seed: int) -> None:
    """Oak boards, worn, and a faded rug on them."""
    px, pz = patch.p[0], patch.p[2]
    worn = look_up(noise_tile(seed + 21, 256, 1.6), px / 3, pz / 3)
    x, z = (px + 0.70) / 1.15, (pz - 4.75) / 1.35
    edge = np.maximum(np.abs(x), np.abs(z))
    on = smoothstep(1.0, 0.985, edge)
    small = np.sin(x * 27 + 2 * np.sin(z * 9)) * np.sin(z * 27)
    pattern = 0.5 + 0.4 * (np.sin(x * 9) * np.sin(z * 9) + 0.6 * small) + 0.12 * worn
    rug = mix(vec([0.20, 0.055, 0.042]), vec([0.30, 0.20, 0.12]), smoothstep(0.45, 0.65, pattern))
    border = smoothstep(0.80, 0.82, edge) * smoothstep(0.95, 0.93, edge)
    rug = mix(rug, vec([0.055, 0.06, 0.085]), border)
    rug *= np.exp(0.22 * look_up(noise_tile(seed + 22, 256, 1.0), px / 0.5, pz / 0.5))[:, None]
    patch.colour = mix(oak(px, pz, seed + 20), rug, on)
    patch.gloss = vec(patch.gloss * np.exp(0.25 * worn) * (1 - on))


def _oak_top(patch: Patch, things: list[Solid], seed: int) -> None:
    x, y, z = patch.p
    patch.colour = oak(x + 0.9 * y, z, seed + 30, plank_m=0.23, length_m=9.0) * np.float32(0.62)


def _oak_front(patch: Patch, things: list[Solid], seed: int) -> None:
    _, y, z = patch.p
    colour = oak(y, z, seed + 31, plank_m=0.5, length_m=9.0) * np.float32(0.50)
    # Drawers: dark gaps.
    across = (z - 1.74) % 0.466
    upright = np.minimum(across, 0.466 - across)
    gap = np.minimum(upright, np.minimum(np.abs(y - 0.86), np.abs(y - 0.54)))
    patch.colour = vec(colour * (0.12 + 0.88 * smoothstep(0.0015, 0.005, gap))[:, None])


def _plaster(patch: Patch, things: list[Solid], seed: int) -> None:
    x, y, z = patch.p
    cloud = look_up(noise_tile(seed + 40, 512, 1.5), z / 2.3, (y + x) / 2.3)
    patch.colour *= np.exp(0.07 * cloud)[:, None]


def _panelled(patch: Patch, things: list[Solid], seed: int) -> None:
    """Plaster above, boards below, a rail between."""
    x, y, _ = patch.p
    above = smoothstep(0.93, 0.945, y)
    rail = smoothstep(0.035, 0.025, np.abs(y - 0.94))
    board = smoothstep(0.0, 0.012, np.minimum(x % 0.16, 0.16 - (x % 0.16)))
    colour = mix(vec([0.19, 0.15, 0.105]), patch.colour, above)
    colour = mix(colour, vec([0.42, 0.42, 0.38]), rail)
    colour *= (1 - 0.55 * (1 - board) * (1 - above) * (1 - rail))[:, None]
    cloud = look_up(noise_tile(seed + 40, 512, 1.5), x / 2.3, y / 2.3)
    patch.colour = vec(colour * np.exp(0.07 * cloud)[:, None])


def _bookcase(patch: Patch, things: list[Solid], seed: int) -> None:
    x, y, _ = patch.p
    shelf_height, width = 0.34, 0.030
    shelf = np.floor((y - 0.06) / shelf_height)
    up = (y - 0.06) - shelf * shelf_height
    shifted = x + 0.012 * np.sin(x * 61 + shelf * 2.1) + 0.009 * np.sin(x * 133 + shelf)
    book = np.floor(shifted / width)
    tall = 0.20 + 0.105 * cell_noise(book, shelf, 3)
    hue, tone = cell_noise(book // 2, shelf, 4), cell_noise(book, shelf, 5)
    there = (cell_noise(book // 5, shelf, 9) > 0.13) & (up < tall)
    backs = vec(
        [
            [0.30, 0.07, 0.04],
            [0.07, 0.11, 0.15],
            [0.45, 0.36, 0.22],
            [0.10, 0.14, 0.08],
            [0.36, 0.20, 0.06],
            [0.50, 0.47, 0.40],
        ]
    )
    colour = backs[np.minimum((hue * len(backs)).astype(int), len(backs) - 1)]
    place = shifted / width - book
    rounded = 0.45 + 0.55 * smoothstep(0.0, 0.22, np.minimum(place, 1 - place))
    colour = colour * ((0.55 + 0.8 * tone) * rounded)[:, None]
    colour = np.where(there[:, None], colour, vec([0.020, 0.015, 0.011]))
    wood = (up > shelf_height - 0.028) | (np.abs(x - 0.28) > 0.49) | (patch.n[2] > -0.5)
    patch.colour = vec(np.where(wood[:, None], patch.colour, colour))


def _print(patch: Patch, things: list[Solid], seed: int, art: Callable[..., Array]) -> None:
    """A framed print with a white margin; `art` gives the picture at -1..1 across and up."""
    for code in np.unique(patch.thing):
        here = patch.thing == code
        half = things[code].half
        local = things[code].local(patch.p[:, here])
        axis = 2 if half[2] > half[0] else 0
        a, b = local[axis] / half[axis], local[1] / half[1]
        inside = np.minimum((1 - np.abs(a)) * half[axis], (1 - np.abs(b)) * half[1])
        colour = mix(patch.colour[here], art(a, b), smoothstep(0.055, 0.058, inside))
        rim = smoothstep(0.020, 0.018, inside)
        patch.colour[here] = mix(colour, vec([0.022, 0.017, 0.013]), rim)


def _hills(a: Array, b: Array) -> Array:
    hill = smoothstep(-0.1, 0.1, vec(b + 0.25 * np.sin(3 * a + 1)))
    art = mix(vec([0.09, 0.12, 0.12]), vec([0.55, 0.36, 0.20]), hill)
    sun = smoothstep(0.24, 0.20, vec(np.hypot(a - 0.2, (b - 0.42) * 1.3)))
    return mix(art, vec([0.75, 0.62, 0.42]), sun)


def _waves(a: Array, b: Array) -> Array:
    wave = smoothstep(-0.06, 0.06, np.sin(5 * b + 2 * np.sin(2.2 * a)))
    return mix(vec([0.42, 0.33, 0.22]), vec([0.05, 0.10, 0.14]), wave)


def _window(patch: Patch, things: list[Solid], seed: int) -> None:
    patch.shine = outside(patch.d)


def _lamp_shade(patch: Patch, things: list[Solid], seed: int) -> None:
    low = smoothstep(1.46, 1.74, patch.p[1])
    patch.shine = ((2.6 - 1.5 * low) * (0.75 + 0.25 * patch.facing))[:, None] * LAMP_GLOW


def _bulb(patch: Patch, things: list[Solid], seed: int) -> None:
    patch.shine = (2.5 + 22 * patch.facing**6)[:, None] * BULB_GLOW


def _leather(patch: Patch, things: list[Solid], seed: int) -> None:
    x, y, z = patch.p
    grain = look_up(noise_tile(seed + 60, 256, 1.5), x / 0.5, (y + z) / 0.5)
    patch.colour *= np.exp(0.22 * grain)[:, None]


def _leaf(patch: Patch, things: list[Solid], seed: int) -> None:
    vein = look_up(noise_tile(seed + 61, 256, 1.6), patch.p[0] / 0.4, patch.p[1] / 0.4)
    patch.colour *= np.exp(0.35 * vein)[:, None]
    # Light comes through leaves that hang before the window.
    patch.shine = patch.colour * vec([0.40, 0.50, 0.18])


PAINTERS: dict[str, Callable[[Patch, list[Solid], int], None]] = {
    "floor": _floor,
    "ceiling": _plaster,
    "wall_left": _plaster,
    "wall_right": _brick,
    "wall_back": _panelled,
    "reveal": _plaster,
    "outside": _window,
    "oak_top": _oak_top,
    "oak_front": _oak_front,
    "bookcase": _bookcase,
    "print_a": lambda patch, things, seed: _print(patch, things, seed, _hills),
    "print_b": lambda patch, things, seed: _print(patch, things, seed, _waves),
    "leather": _leather,
    "leaf": _leaf,
    "shade": _lamp_shade,
    "bulb": _bulb,
}
