"""Sets for composites: room, town, foliage, planks and a lit screen, drawn from random numbers."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from mattebridge_sample.composites.shoot import Image, Rng, to_bytes


def draw_set(rng: Rng, height: int, width: int) -> Image:
    """A set (H, W, 3), display-encoded 0..1; every kind of it is as likely as it is listed."""
    make = _SETS[int(rng.integers(len(_SETS)))]
    return make(rng, height, width)


def _room(rng: Rng, height: int, width: int) -> Image:
    """Wall and floor with boxes, frames and lamps."""
    picture = texture(rng, height, width, 0.25)
    horizon = int(height * rng.uniform(0.5, 0.85))
    picture[horizon:] = texture(rng, height, width, 0.5)[horizon:]
    for _ in range(int(rng.integers(12, 40))):
        size = np.exp(rng.uniform(np.log(0.03), np.log(0.3), 2)) * (height, width)
        y, x = (int(v) for v in rng.uniform(-0.1, 1.0, 2) * (height, width))
        box = picture[max(y, 0) : max(y + int(size[0]), 0), max(x, 0) : max(x + int(size[1]), 0)]
        if box.shape[0] < 4 or box.shape[1] < 4:
            continue
        shade = np.linspace(1, rng.uniform(0.6, 1.1), box.shape[1], dtype=np.float32)[None, :, None]
        fill = texture(rng, box.shape[0], box.shape[1], rng.choice([0.1, 0.5, 1.0]))
        box[:] = fill * shade
        if rng.random() < 0.4:
            box[:2], box[-2:], box[:, :2], box[:, -2:] = (box.mean((0, 1)) * 0.5,) * 4
    for _ in range(int(rng.integers(0, 4))):
        centre = tuple(int(v) for v in rng.uniform(0, 1, 2) * (width, horizon))
        cv2.circle(picture, centre, int(width * rng.uniform(0.005, 0.03)), (1.0, 0.97, 0.9), -1)
    return _soften(rng, _uneven_light(rng, picture))


def _town(rng: Rng, height: int, width: int) -> Image:
    """Sky with clouds over rows of houses with windows."""
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = (
        np.array([0.35, 0.55, 0.85], np.float32) * (1 - down)
        + np.array([0.85, 0.88, 0.92], np.float32) * down
    )
    cloud = _noise(rng, height, width, 1.6)[..., None] ** 2 * rng.uniform(0.2, 0.8)
    picture = (sky * (1 - cloud) + cloud * 0.95).astype(np.float32)
    base = int(height * rng.uniform(0.25, 0.5))
    for row in range(3):
        x = -int(rng.integers(0, 60))
        while x < width:
            w, top = (
                int(width * rng.uniform(0.08, 0.25)),
                base + int(height * rng.uniform(-0.1, 0.15)),
            )
            house = picture[max(top, 0) :, max(x, 0) : x + w]
            if house.shape[1] > 6 and house.shape[0] > 6:
                house[:] = texture(rng, house.shape[0], house.shape[1], 0.4)
                _windows(rng, house)
            x += w
        base += int(height * rng.uniform(0.12, 0.25)) * (row + 1)
    return _soften(rng, _uneven_light(rng, picture, 0.2))


def _windows(rng: Rng, house: Image) -> None:
    pitch, size = int(rng.integers(14, 34)), float(rng.uniform(0.3, 0.6))
    colour = palette(rng, 1)[0]
    for y in range(pitch // 2, house.shape[0] - pitch, pitch):
        for x in range(pitch // 3, house.shape[1] - pitch // 2, pitch):
            house[y : y + int(pitch * size), x : x + int(pitch * size * 0.8)] = colour


def _foliage(rng: Rng, height: int, width: int) -> Image:
    """Hundreds of overlapping leaves of related colours."""
    picture = to_bytes(texture(rng, height, width))
    colours = palette(rng, 5) * 255
    for _ in range(int(rng.integers(300, 1500))):
        centre = tuple(int(v) for v in rng.uniform(0, 1, 2) * (width, height))
        axes = tuple(int(v) for v in np.exp(rng.uniform(np.log(3), np.log(45), 2)) * width / 640)
        colour = colours[int(rng.integers(5))] * rng.uniform(0.6, 1.25)
        angle = float(rng.uniform(0, 360))
        cv2.ellipse(picture, centre, axes, angle, 0, 360, colour.tolist(), -1, cv2.LINE_AA)
    grain = 0.75 + 0.5 * _noise(rng, height, width, 1.0)[..., None]
    return _soften(rng, _uneven_light(rng, np.clip(picture / np.float32(255) * grain, 0, 1)))


def _planks(rng: Rng, height: int, width: int) -> Image:
    """Boards or bricks, each of its own shade and grain."""
    grain = texture(rng, height, width, 0.6)
    pitch_y, pitch_x = int(rng.integers(14, 70)), int(rng.integers(40, 400))
    shades = rng.uniform(0.7, 1.3, (height // pitch_y + 1, width // pitch_x + 2))
    y, x = np.arange(height)[:, None], np.arange(width)[None]
    row = y // pitch_y
    column = (x + (row % 2) * pitch_x // 2) // pitch_x
    joint = (y % pitch_y < 2) | ((x + (row % 2) * pitch_x // 2) % pitch_x < 2)
    shade = np.where(joint, rng.uniform(0.3, 0.9), shades[row, column]).astype(np.float32)
    return _soften(rng, _uneven_light(rng, np.clip(grain * shade[..., None], 0, 1)))


def _screen(rng: Rng, height: int, width: int) -> Image:
    """A green, blue or grey screen, unevenly lit."""
    colours = np.array([[0.15, 0.6, 0.25], [0.12, 0.25, 0.7], [0.5, 0.5, 0.5]], np.float32)
    flat = np.ones((height, width, 3), np.float32) * colours[int(rng.integers(3))]
    return _uneven_light(
        rng, flat * (0.97 + 0.03 * _noise(rng, height, width, 1.2)[..., None]), 0.7
    )


_SETS: tuple[Callable[[Rng, int, int], Image], ...] = (
    _room,
    _room,
    _town,
    _town,
    _foliage,
    _planks,
    _screen,
)


def texture(rng: Rng, height: int, width: int, contrast: float = 1.0) -> Image:
    """Fractal noise through two to four colours of one palette."""
    colours = palette(rng, int(rng.integers(2, 5)))
    colours = colours.mean(0) + (colours - colours.mean(0)) * contrast
    field = _noise(rng, height, width, rng.uniform(0.9, 1.7)) * (len(colours) - 1)
    index = np.minimum(field.astype(int), len(colours) - 2)
    part = (field - index)[..., None]
    return np.clip(colours[index] * (1 - part) + colours[index + 1] * part, 0, 1).astype(np.float32)


def _noise(rng: Rng, height: int, width: int, slope: float) -> Image:
    """Random field with a 1/f^slope amplitude spectrum, scaled to 0..1."""
    fy = np.fft.fftfreq(height)[:, None] * height
    fx = np.fft.rfftfreq(width)[None] * width
    amplitude = 1 / np.maximum(np.hypot(fx, fy), 1) ** slope
    phases = np.exp(2j * np.pi * rng.random(amplitude.shape))
    field = np.fft.irfft2(amplitude * phases, s=(height, width))
    low, high = np.percentile(field, [1, 99])
    return np.clip((field - low) / max(high - low, 1e-9), 0, 1).astype(np.float32)


def palette(rng: Rng, count: int) -> Image:
    """Colours as surfaces have them: mostly muted, a few saturated, light and dark ones."""
    value = rng.uniform(0.08, 0.92, (count, 1))
    tint = rng.standard_normal((count, 3)) * rng.choice(
        [0.05, 0.12, 0.3], (count, 1), p=[0.4, 0.4, 0.2]
    )
    return np.clip(value * (1 + tint), 0.02, 0.97).astype(np.float32)


def _uneven_light(rng: Rng, picture: Image, strength: float = 0.35) -> Image:
    field = _noise(rng, picture.shape[0], picture.shape[1], 2.4)
    return np.clip(picture * (1 + strength * (field - 0.5))[..., None], 0, 1).astype(np.float32)


def _soften(rng: Rng, picture: Image) -> Image:
    """Sharp, slightly soft or defocused."""
    sigma = (
        rng.choice([0.5, 0.8, 1.2, 3.0], p=[0.35, 0.3, 0.2, 0.15]) * max(picture.shape[:2]) / 640
    )
    return cv2.GaussianBlur(picture, (0, 0), float(sigma))
