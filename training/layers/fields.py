"""Noise, colours and surfaces: what the other modules draw with.

All pictures: (h, w, 3) float32, display-encoded, 0..1; fields: (h, w) float32, 0..1.
"""

from __future__ import annotations

import math
from typing import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Picture = NDArray[np.float32]
Field = NDArray[np.float32]

_LETTERS = "ABCDEFGHKLMNOPRSTUVXYZ0123456789&%#"


def log_uniform(rng: Rng, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def fractal(
    rng: Rng, height: int, width: int, *, coarsest: float = 3, roughness: float = 0.55
) -> Field:
    """Fractal noise, from `coarsest` cells across the field down to single pixels.

    Each octave has `roughness` times the amplitude of the one before: .35 clouds, .7 gravel.
    """
    total = np.zeros((height, width), np.float32)
    cells, amplitude, longest = coarsest, 1.0, max(height, width)
    while cells < longest * 0.7 and amplitude > 0.01:
        rows, columns = (max(2, round(cells * side / longest) + 1) for side in (height, width))
        grid = rng.standard_normal((rows, columns), dtype=np.float32) * amplitude
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        cells, amplitude = cells * 2.03, amplitude * roughness
    spread = float(total.std()) + 1e-6
    return np.clip(0.5 + (total - float(total.mean())) / (4.4 * spread), 0, 1)


def warped(rng: Rng, field: NDArray[np.float32], strength_px: float, coarsest: float = 4) -> Field:
    """The field (or picture) displaced by smooth noise."""
    height, width = field.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for axis in (x, y):
        axis += (
            strength_px * 2 * (fractal(rng, height, width, coarsest=coarsest, roughness=0.4) - 0.5)
        )
    return cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def palette(rng: Rng, count: int) -> NDArray[np.float32]:
    """Random colours of surfaces: mostly muted, a few saturated; (count, 3)."""
    value = rng.uniform(0.1, 0.95, (count, 1))
    hue = rng.uniform(0, 2 * math.pi, (count, 1))
    # Colours of one picture have similar hues more often than not.
    hue = np.where(rng.random((count, 1)) < 0.55, hue[0] + rng.normal(0, 0.35, (count, 1)), hue)
    saturation = rng.choice([0.04, 0.13, 0.3, 0.65], (count, 1), p=[0.32, 0.38, 0.22, 0.08])
    phase = np.array([[0, 2.094, 4.189]])
    colour = value * (1 + saturation * np.cos(hue - phase))
    return np.clip(colour, 0.015, 0.985).astype(np.float32)


def through_colours(field: Field, colours: NDArray[np.float32]) -> Picture:
    """A field mapped to a gradient: 0..1 runs through the colours in turn."""
    steps = np.linspace(0, len(colours) - 1, 1024)
    below = np.minimum(steps.astype(int), len(colours) - 2)
    part = (steps - below)[:, None]
    table = (colours[below] * (1 - part) + colours[below + 1] * part).astype(np.float32)
    return np.take(table, (field * 1023).astype(np.int32), axis=0)


def blurred(picture: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Gaussian blur; wide ones on a smaller copy."""
    if sigma < 0.25:
        return picture
    shrink = 1
    while sigma / shrink > 6:
        shrink *= 2
    if shrink == 1:
        return cv2.GaussianBlur(picture, (0, 0), sigma)
    height, width = picture.shape[:2]
    small = cv2.resize(
        picture, (max(2, width // shrink), max(2, height // shrink)), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (0, 0), sigma / shrink)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def to_bytes(picture: Picture) -> NDArray[np.uint8]:
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def from_bytes(picture: NDArray[np.uint8]) -> Picture:
    return picture.astype(np.float32) * np.float32(1 / 255)


# --- surfaces -------------------------------------------------------------------------------------


def surface(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    """A random surface of roughly this colour, unlit."""
    draw = _SURFACES[int(rng.integers(len(_SURFACES)))]
    picture = draw(rng, height, width, colour)
    if chance(rng, 0.5):
        dirt = fractal(rng, height, width, coarsest=4, roughness=0.6)
        picture = picture * (1 - rng.uniform(0.05, 0.3) * dirt[..., None])
    return np.clip(picture, 0, 1).astype(np.float32)


def _near(rng: Rng, colour: NDArray[np.float32], away: float) -> NDArray[np.float32]:
    """A mix of this colour and a random one, which has the share `away`."""
    other = palette(rng, 1)[0]
    return np.clip(colour * (1 - away) + other * away, 0.01, 0.99).astype(np.float32)


def _plain(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    grain = fractal(rng, height, width, coarsest=6, roughness=rng.uniform(0.5, 0.85)) - 0.5
    return colour * (1 + rng.uniform(0.03, 0.25) * grain)[..., None]


def _mottled(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    shades = np.stack([_near(rng, colour * f, 0.2) for f in (0.55, 0.85, 1.1, 1.3)])
    field = fractal(rng, height, width, coarsest=log_uniform(rng, 3, 20), roughness=0.65)
    return through_colours(field, np.clip(shades, 0, 1))


def _striped(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    count = int(rng.integers(2, 5))
    colours = np.stack([colour, *(_near(rng, colour, rng.uniform(0.3, 1)) for _ in range(count))])
    phase = _waves(rng, height, width, log_uniform(rng, 5, 60))
    return np.take(colours, np.floor(phase * len(colours)).astype(int) % len(colours), axis=0)


def _checked(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    pitch, angle = log_uniform(rng, 8, 60), rng.uniform(0, math.pi)
    other = _near(rng, colour, rng.uniform(0.4, 1))
    across = _waves(rng, height, width, pitch, angle) < rng.uniform(0.2, 0.6)
    down = _waves(rng, height, width, pitch, angle + math.pi / 2) < rng.uniform(0.2, 0.6)
    part = (across.astype(np.float32) + down) * 0.5
    return colour * (1 - part[..., None]) + other * part[..., None]


def _spotted(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    field = fractal(rng, height, width, coarsest=log_uniform(rng, 8, 40), roughness=0.3)
    edge = np.clip((field - rng.uniform(0.4, 0.65)) * rng.uniform(8, 40), 0, 1)[..., None]
    return colour * (1 - edge) + _near(rng, colour, rng.uniform(0.4, 1)) * edge


def _woven(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    pitch, angle = log_uniform(rng, 2.5, 9), rng.uniform(0, math.pi)
    thread = np.abs(_waves(rng, height, width, pitch, angle, 2) - 0.5)
    cross = np.abs(_waves(rng, height, width, pitch, angle + math.pi / 2, 2) - 0.5)
    weave = np.maximum(thread, cross) + 0.6 * fractal(
        rng, height, width, coarsest=10, roughness=0.8
    )
    return colour * (1 + rng.uniform(0.2, 0.6) * (weave - 0.6))[..., None]


def _grained(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    """Wood: stretched noise in darker and lighter shades."""
    small = fractal(rng, height, max(8, width // 24), coarsest=10, roughness=0.7)
    field = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    if chance(rng, 0.5):
        field = np.ascontiguousarray(cv2.resize(field.T, (width, height)))
    field = warped(rng, field, rng.uniform(2, 12))
    rings = 0.5 + 0.5 * np.sin(field * rng.uniform(8, 60))
    return colour * (0.75 + 0.25 * rings + 0.3 * (field - 0.5))[..., None]


def _marbled(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    field = fractal(rng, height, width, coarsest=4, roughness=0.6)
    vein = np.exp(-np.abs(field - 0.5) * rng.uniform(15, 60))[..., None]
    return colour * (0.85 + 0.3 * field[..., None]) * (1 - vein) + _near(rng, colour, 0.8) * vein


def _printed(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    """Overlapping shapes of a few colours: prints, patches, clutter."""
    picture = to_bytes(_plain(rng, height, width, colour))
    colours = np.stack([_near(rng, colour, rng.uniform(0.2, 1)) for _ in range(5)]) * 255
    largest = log_uniform(rng, 8, 60)
    for _ in range(int(rng.integers(20, 160))):
        centre = int(rng.integers(width)), int(rng.integers(height))
        axes = tuple(int(v) for v in 2 + largest * rng.random(2) ** 2)
        tone = (colours[int(rng.integers(5))] * rng.uniform(0.7, 1.2)).clip(0, 255).tolist()
        cv2.ellipse(picture, centre, axes, rng.uniform(0, 180), 0, 360, tone, -1, cv2.LINE_AA)
    return from_bytes(picture)


def _lettered(rng: Rng, height: int, width: int, colour: NDArray[np.float32]) -> Picture:
    picture = to_bytes(_plain(rng, height, width, colour))
    tone = (_near(rng, colour, 1.0) * 255).tolist()
    size = log_uniform(rng, 0.5, 3)
    for y in range(int(12 * size), height + 20, int(34 * size)):
        text = "".join(rng.choice(list(_LETTERS + "     "), 40))
        at = (int(rng.integers(-80, 10)), y)
        cv2.putText(picture, text, at, int(rng.integers(0, 5)), size, tone, int(1 + 2 * size), 16)
    return from_bytes(picture)


def _waves(
    rng: Rng, height: int, width: int, pitch: float, angle: float | None = None, bend_px: float = 6
) -> Field:
    """A saw-tooth 0..1 with a pitch in pixels, slightly bent."""
    if angle is None:
        angle = rng.uniform(0, math.pi)
    y = np.arange(height, dtype=np.float32)[:, None] * math.sin(angle)
    x = np.arange(width, dtype=np.float32)[None] * math.cos(angle)
    bend = bend_px * 2 * fractal(rng, height, width, coarsest=3, roughness=0.3)
    phase = (x + y + bend) / pitch
    return phase - np.floor(phase)


_SURFACES: tuple[Callable[[Rng, int, int, NDArray[np.float32]], Picture], ...] = (
    _plain,
    _plain,
    _plain,
    _mottled,
    _mottled,
    _striped,
    _checked,
    _spotted,
    _woven,
    _woven,
    _grained,
    _marbled,
    _printed,
    _lettered,
)
