"""Small shots with a known set: somebody walks through, sways or stays; the camera may drift."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import srgb_decode, srgb_encode

Image = NDArray[np.float32]
MARGIN = 24


@dataclass(frozen=True)
class Shot:
    """Frames, the set behind each, and the subject's matte: (H, W, 3) scene-linear, (H, W) 0..1."""

    frames: list[Image]
    sets: list[Image]
    mattes: list[Image]

    def read(self, index: int) -> Image:
        """A new array each time, as from disk."""
        return self.frames[index].copy()

    @property
    def always_covered(self) -> NDArray[np.bool_]:
        return np.asarray(np.min(self.mattes, axis=0) > 0.5)


@cache
def shot(
    walk: str = "through",
    *,
    count: int = 17,
    height: int = 108,
    width: int = 192,
    coat: str = "pattern",
    drift_px: float = 0.0,
    grain: float = 0.008,
    flicker: float = 0.0,
    seed: int = 3,
) -> Shot:
    """walk: through, slowly, sways, stays. coat: pattern or plain. flicker: of the exposure."""
    rng = np.random.default_rng(seed)
    stage = 1.5 * _pattern(rng, height + 2 * MARGIN, width + 2 * MARGIN)
    subject = np.full((height, width, 3), (0.3, 0.08, 0.1), np.float32)
    if coat == "pattern":
        subject = _pattern(rng, height, width)
    frames, sets, mattes = [], [], []
    for index in range(count):
        time = index / (count - 1)
        seen = _through_camera(stage, drift_px * math.sin(4 * time), drift_px * math.cos(3 * time))
        centre = _centre(walk, time)
        matte = _figure(height, width, centre * width)
        moved = np.roll(subject, round((centre - 0.5) * width), axis=1)
        light = seen * (1 - matte[..., None]) + moved * matte[..., None]
        light *= 1 + flicker * math.sin(50 * time)
        noisy = srgb_encode(light) + grain * rng.standard_normal(light.shape, dtype=np.float32)
        frames.append(srgb_decode(noisy))
        sets.append(seen)
        mattes.append(matte)
    return Shot(frames, sets, mattes)


def display_error(one: Image, other: Image) -> Image:
    """(H, W): the largest channel difference as a display shows it."""
    return np.asarray(np.abs(srgb_encode(one) - srgb_encode(other)).max(axis=2))


def _centre(walk: str, time: float) -> float:
    return {
        "through": -0.25 + 1.5 * time,
        "slowly": 0.35 + 0.3 * time,
        "sways": 0.5 + 0.05 * math.sin(11 * time),
        "stays": 0.5,
    }[walk]


def _through_camera(stage: Image, x: float, y: float) -> Image:
    height, width = stage.shape[0] - 2 * MARGIN, stage.shape[1] - 2 * MARGIN
    matrix = np.array([[1, 0, x - MARGIN], [0, 1, y - MARGIN]], np.float64)
    seen = cv2.warpAffine(stage, matrix, (width, height), flags=cv2.INTER_CUBIC)
    return np.maximum(seen, 0).astype(np.float32)


def _figure(height: int, width: int, x: float) -> Image:
    matte = np.zeros((height, width), np.float32)
    parts = ((0.68, 0.1 * width, 0.45 * height), (0.2, 0.11 * height, 0.13 * height))
    for y, across, down in parts:
        centre = (round(x * 16), round(y * height * 16))
        axes = (round(across * 16), round(down * 16))
        cv2.ellipse(matte, centre, axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA, 4)
    return matte


def _pattern(rng: np.random.Generator, height: int, width: int) -> Image:
    """Soft clouds of colour with boxes in front: something to align by everywhere."""
    picture = np.zeros((height, width, 3), np.float32)
    for cell in (40, 12, 5):
        coarse = rng.random((height // cell + 3, width // cell + 3, 3), dtype=np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * (cell / 57)
    for _ in range(20):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        across, down = int(rng.integers(6, width // 5)), int(rng.integers(6, height // 4))
        colour = [float(value) for value in rng.random(3)]
        cv2.rectangle(picture, (x, y), (x + across, y + down), colour, -1)
    return np.clip(cv2.GaussianBlur(picture, (0, 0), 0.6), 0.02, 1)
