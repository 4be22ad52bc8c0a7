"""Composites with known alpha, drawn from code: the set that guards the quality of the mattes.

Every frame is a procedural subject (`subjects`: figure, plush animal, head of hair, plant, wicker
ball, tassels) over a procedural set (`sets`: room, town, foliage, planks, lit screen), with what a
shoot adds (`shoot`, which has the kinds and blends). Everything is seeded by kind, number and
blend; needs numpy and OpenCV only. It is not in the installed package.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from mattebridge_sample.composites.sets import draw_set
from mattebridge_sample.composites.shoot import (
    BLENDS,
    GRAIN_SIGMA,
    KINDS,
    NOISY_SIGMA,
    Image,
    Rng,
    blended,
    eight_bit,
    grained,
    has_shadow,
    pulled_colours,
    shadows,
    shifted,
    through_jpeg,
)
from mattebridge_sample.composites.subjects import draw_subject


@dataclass(frozen=True)
class Composite:
    """One frame with its truth: float32 0..1, display-encoded RGB of 8 bits, top row first.

    plate, clean_plate, foreground: (H, W, 3), the foreground straight; alpha: (H, W), coverage.
    """

    name: str
    kind: str
    blend: str
    plate: Image
    clean_plate: Image
    alpha: Image
    foreground: Image


def composite(kind: str, number: int, *, blend: str = "display", long_side: int = 640) -> Composite:
    """The `number`-th frame of a kind; the same arguments always give the same pixels."""
    rng = np.random.default_rng([KINDS.index(kind), number, BLENDS.index(blend), 20])
    height, width = _frame_size(rng, long_side)
    scale = long_side / 640
    clean = draw_set(rng, height, width)
    premultiplied, alpha = draw_subject(rng, height, width)
    if kind == "similar":
        clean = pulled_colours(clean, premultiplied, alpha)
    if kind == "motion":
        premultiplied, alpha = _motion_blur(rng, premultiplied, alpha, scale)
    lit = clean
    if has_shadow(kind, number):
        cast, contact = shadows(rng, alpha, scale)
        lit = clean * ((1 - cast) * (1 - contact))[..., None]
    foreground = np.asarray(premultiplied / np.maximum(alpha, 1e-3)[..., None], np.float32)
    plate = blended(foreground, lit, alpha[..., None], blend)
    if kind == "drift":
        clean = _drift(rng, clean, scale)
    sigma = NOISY_SIGMA if kind == "noisy" else GRAIN_SIGMA
    plate, clean = grained(rng, plate, sigma), grained(rng, clean, sigma)
    if kind == "noisy" and number % 3 == 0:
        plate, clean = through_jpeg(plate), through_jpeg(clean)
    return Composite(
        name=f"{kind}_{number:02d}_{blend}",
        kind=kind,
        blend=blend,
        plate=eight_bit(plate),
        clean_plate=eight_bit(clean),
        alpha=alpha,
        foreground=np.clip(foreground, 0, 1),
    )


def _frame_size(rng: Rng, long_side: int) -> tuple[int, int]:
    """Height and width; three frames in ten are upright."""
    short = int(long_side * rng.uniform(0.62, 0.86))
    return (long_side, short) if rng.random() < 0.3 else (short, long_side)


def _drift(rng: Rng, picture: Image, scale: float) -> Image:
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.92, 1.08)
    balance = rng.uniform(0.93, 1.07) * (1 + 0.02 * rng.standard_normal(3))
    # float32: OpenCV 5.0 ignores the border mode when it warps float64.
    return shifted(rng, (picture * balance).astype(np.float32), scale)


def _motion_blur(rng: Rng, premultiplied: Image, alpha: Image, scale: float) -> tuple[Image, Image]:
    length = rng.uniform(17, 26) * scale
    angle = rng.uniform(0, math.pi)
    side = int(length) // 2 * 2 + 3
    kernel = np.zeros((side, side), np.uint8)
    centre = np.array([side // 2, side // 2])
    half = length / 2 * np.array([math.cos(angle), math.sin(angle)])
    ends = [tuple(int(v) for v in np.round((centre + s * half) * 16)) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / kernel.sum()
    border = cv2.BORDER_REPLICATE
    return (
        cv2.filter2D(premultiplied, -1, weights, borderType=border),
        np.clip(cv2.filter2D(alpha, -1, weights, borderType=border), 0, 1),
    )
