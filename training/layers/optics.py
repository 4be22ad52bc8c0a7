"""Defocus and motion blur of a subject, on premultiplied colour."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import Field, Rng, chance, fractal, log_uniform

# Premultiplied RGBA, (h, w, 4) float32.
Sheet = NDArray[np.float32]


# A strong motion blur of a part, in pixels of a picture of 640.
_SWUNG_PX = (30.0, 90.0)


def photographed(rng: Rng, sheet: Sheet, swung: float = 0.0) -> Sheet:
    """The subject with a camera's blur: always slightly soft, sometimes moving or defocused.

    swung: probability that a part is strongly blurred by its motion, as a swung arm is.
    """
    if swung and chance(rng, swung):
        length = log_uniform(rng, *_SWUNG_PX) * len(sheet) / 640
        sheet = _moved(rng, sheet, length, of_a_part=True)
    elif chance(rng, 0.18):
        sheet = moved(rng, sheet)
    if chance(rng, 0.22):
        return defocused(rng, sheet)
    return cv2.GaussianBlur(sheet, (0, 0), float(rng.uniform(0.3, 0.7)))


def defocused(rng: Rng, sheet: Sheet) -> Sheet:
    """Defocused by a disc, as in lenses, or by a Gaussian; sometimes only a part."""
    radius = log_uniform(rng, 0.6, 9)
    if chance(rng, 0.6):
        blurry = cv2.filter2D(sheet, -1, _disc(radius), borderType=cv2.BORDER_REPLICATE)
    else:
        blurry = cv2.GaussianBlur(sheet, (0, 0), radius * 0.6)
    if chance(rng, 0.3):
        part = _ramp(rng, len(sheet))[..., None]
        return sheet * (1 - part) + blurry * part
    return blurry


def _disc(radius: float) -> NDArray[np.float32]:
    reach = math.ceil(radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return disc / disc.sum()


def moved(rng: Rng, sheet: Sheet) -> Sheet:
    """Motion blur along a curved path, with rotation and zoom; in 30 % of the cases of a part."""
    return _moved(rng, sheet, log_uniform(rng, 3, 36))


def _moved(rng: Rng, sheet: Sheet, length: float, *, of_a_part: bool = False) -> Sheet:
    side = len(sheet)
    heading, bend = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.7)
    turn, near = rng.normal(0, 0.3) * length / side, rng.normal(0, 0.3) * length / side
    steps = int(np.clip(length / 1.6, 4, 20 if not of_a_part else 60))
    total = np.zeros_like(sheet)
    local = of_a_part or chance(rng, 0.3)
    pivot = rng.uniform(0.3, 0.7, 2) * side
    for time in np.linspace(-0.5, 0.5, steps):
        angle = heading + bend * time
        away = np.array([math.cos(angle), math.sin(angle)]) * length * time
        matrix = cv2.getRotationMatrix2D(
            (float(pivot[0]), float(pivot[1])), math.degrees(turn * time * 2), 1 + near * time
        )
        matrix[:, 2] += away
        total += cv2.warpAffine(
            sheet, matrix.astype(np.float32), (side, side), borderMode=cv2.BORDER_REPLICATE
        )
    blurry = _along(total / steps, heading, length / steps)
    if not local:
        return blurry
    part = _ramp(rng, side)[..., None]
    return sheet * (1 - part) + blurry * part


def _along(sheet: Sheet, angle: float, length: float) -> Sheet:
    """A short straight blur that closes the gaps between the steps of a path."""
    reach = max(1, math.ceil(length))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = -x * math.sin(angle) + y * math.cos(angle)
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    return cv2.filter2D(sheet, -1, kernel, borderType=cv2.BORDER_REPLICATE)


def _ramp(rng: Rng, side: int) -> Field:
    """A random mask: 0 in one region, 1 in another, smooth between."""
    field = fractal(rng, side, side, coarsest=2, roughness=0.2)
    return np.clip((field - 0.35) * 4, 0, 1)
