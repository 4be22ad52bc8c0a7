"""The validation set `production`: what productions have and `frozen` has not. Never trained on.

    hd         1920 pixels long, hair as thin as in `frozen`'s 640
    green      a flat green screen, even; every second frame uneven, with its light on the subject
    blue       the same in blue
    lights     scene-linear, lamps and windows of the set up to twenty times as bright as white
    breathing  the clean plate a little larger and softer, as after a pull of focus

Most subjects have hair. Pixels never change: recipe and code are those of `frozen`, or here. Plates
are display-encoded float32, of 8 bits but for `lights`, whose values may be above 1; alpha is
linear coverage; foreground straight, without a screen's light.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.composites import Composite
from mattebridge_sample.composites.shoot import (
    GRAIN_SIGMA,
    blended,
    decode,
    eight_bit,
    encode,
    grained,
)
from training.layers.fields import Rng
from training.layers.recipe import PRODUCTION_2026
from training.layers.sets import draw_set
from training.layers.subjects import draw_subject

Picture = NDArray[np.float32]

KINDS = ("hd", "green", "blue", "lights", "breathing")
# First of five seed numbers; that of `frozen` is another.
_SEED = 20_261
# How much longer than the other frames those of `hd` are.
_HD = 3
_SCREENS = {"green": (0.17, 0.6, 0.26), "blue": (0.12, 0.23, 0.68)}
_BRIGHTEST = 20.0


def blend_of(kind: str, number: int) -> str:
    """In which values the `number`-th frame of a kind is mixed."""
    return "linear" if kind == "lights" or number % 2 else "display"


def frame(kind: str, number: int, *, side: int) -> Composite:
    """The `number`-th frame of a kind; side: of the frames that are not `hd`, in pixels."""
    cv2.setNumThreads(0)
    rng = np.random.default_rng([_SEED, KINDS.index(kind), number, side, 6])
    side = side * (_HD if kind == "hd" else 1)
    foreground, alpha = _subject(rng, side)
    height = int(side * rng.uniform(0.56, 0.75))
    foreground, alpha = foreground[side - height :], alpha[side - height :]
    blend = blend_of(kind, number)
    seen, clean, lit = foreground, _set(rng, kind, number, side)[:height], None
    if kind in _SCREENS and number % 2:
        seen = _with_spill(foreground, alpha, _SCREENS[kind])
    if kind == "lights":
        lit = decode(clean) * _lamps(clean)
        plate = encode(alpha[..., None] * decode(seen) + (1 - alpha[..., None]) * lit)
        clean = encode(lit)
    else:
        plate = blended(seen, clean, alpha[..., None], blend)
    if kind == "breathing":
        clean = _breathed(rng, clean)
    plate, clean = (grained(rng, picture, GRAIN_SIGMA) for picture in (plate, clean))
    finish = eight_bit if lit is None else _positive
    name = f"{kind}_{number:02d}_{blend}"
    return Composite(
        name, kind, blend, finish(plate), finish(clean), _whole(alpha), _whole(foreground)
    )


def _subject(rng: Rng, side: int) -> tuple[Picture, Picture]:
    """Straight colour and alpha, (side, side); neither an empty frame nor a full one."""
    for _ in range(8):
        layer = draw_subject(rng, side, PRODUCTION_2026).astype(np.float32) / 255
        if 0.03 < float(layer[..., 3].mean()) < 0.8:
            break
    return layer[..., :3], layer[..., 3]


def _set(rng: Rng, kind: str, number: int, side: int) -> Picture:
    if kind not in _SCREENS:
        for _ in range(4):
            picture, _ = draw_set(rng, side)
            if picture.mean() > 0.1:
                break
        return picture
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    light = np.ones((side, side), np.float32)
    if number % 2:
        light = 0.65 + 0.5 * np.exp(-((x - rng.uniform(0.2, 0.8)) ** 2 + (y - 0.4) ** 2) / 0.2)
    return np.clip(light[..., None] * np.float32(_SCREENS[kind]), 0, 1).astype(np.float32)


def _with_spill(foreground: Picture, alpha: Picture, colour: tuple[float, ...]) -> Picture:
    """The foreground with the screen's light on it, more of it at its outline."""
    rim = 1 - cv2.GaussianBlur(alpha, (0, 0), 0.02 * alpha.shape[1])
    much = 0.05 + 0.17 * np.clip(rim, 0, 1)
    return np.clip(foreground + much[..., None] * np.float32(colour), 0, 1).astype(np.float32)


def _lamps(clean: Picture) -> Picture:
    bright = np.clip((clean.max(2, keepdims=True) - 0.7) / 0.3, 0, 1)
    return np.asarray(1 + (_BRIGHTEST - 1) * bright**2, np.float32)


def _breathed(rng: Rng, clean: Picture) -> Picture:
    height, width = clean.shape[:2]
    zoom = 1 + rng.uniform(0.004, 0.01)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 0, zoom).astype(np.float32)
    larger = cv2.warpAffine(
        clean, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return cv2.GaussianBlur(np.clip(larger, 0, 1), (0, 0), 0.8)


def _positive(picture: Picture) -> Picture:
    return np.maximum(picture, 0).astype(np.float32)


def _whole(picture: Picture) -> Picture:
    return np.ascontiguousarray(picture, np.float32)
