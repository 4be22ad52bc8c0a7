"""The validation set `frozen`: frames with ground truth that are never trained on.

Subjects and sets are drawn by `training.layers` with a recipe that is never edited
(`recipe.VALIDATION_2026`), so that figures of different days compare. Seeds are five numbers long
here and three in training, so training never draws a frame of this set. Kinds and blends are those
of `mattebridge_sample.composites.shoot`.

Plates are display-encoded float32 with 8-bit values; alpha is linear coverage; foreground straight.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge_sample.composites import Composite, composite
from mattebridge_sample.composites.shoot import (
    BLENDS,
    GRAIN_SIGMA,
    KINDS,
    NOISY_SIGMA,
    blended,
    eight_bit,
    grained,
    has_shadow,
    pulled_colours,
    shadows,
    shifted,
    through_jpeg,
)
from training import production
from training.layers.fields import Rng
from training.layers.recipe import VALIDATION_2026
from training.layers.sets import draw_set
from training.layers.subjects import draw_subject

Picture = NDArray[np.float32]
# Set, kind, number, blend, long side.
Wanted = tuple[str, str, int, str, int]

SIDE = 640
PER_KIND = 8
SETS = ("frozen", "quality")
# Those of `judge` during a run, and one more, which takes longer: `production`.
# First of five seed numbers; training's streams have three.
_SEED = 20_260


def frame(kind: str, number: int, blend: str, *, side: int = SIDE) -> Composite:
    """The `number`-th frame of a kind; the same arguments give the same pixels."""
    cv2.setNumThreads(0)
    rng = np.random.default_rng([_SEED, KINDS.index(kind), number, BLENDS.index(blend), 5])
    size = _frame_size(rng, side)
    premultiplied, alpha = _subject(rng, kind, number, size, side)
    clean = _set(rng, size, side)
    scale = side / 640
    if kind == "similar":
        clean = pulled_colours(clean, premultiplied, alpha)
    if kind == "motion":
        premultiplied, alpha = _moved(rng, premultiplied, alpha, scale)
    lit = clean
    if has_shadow(kind, number):
        cast, contact = shadows(rng, alpha, scale)
        # Not simplified: the pixels of this set are fixed to the bit.
        strength = 1 - (1 - cast) * (1 - contact)
        lit = clean * (1 - strength)[..., None]
    foreground = np.clip(premultiplied / np.maximum(alpha, 1e-3)[..., None], 0, 1)
    plate = blended(foreground, lit, alpha[..., None], blend)
    if kind == "drift":
        clean = _drifted(rng, clean, scale)
    sigma = NOISY_SIGMA if kind == "noisy" else GRAIN_SIGMA
    plate, clean = (grained(rng, picture, sigma) for picture in (plate, clean))
    if kind == "noisy" and number % 3 == 0:
        plate, clean = through_jpeg(plate), through_jpeg(clean)
    name = f"{kind}_{number:02d}_{blend}"
    return Composite(name, kind, blend, eight_bit(plate), eight_bit(clean), alpha, foreground)


def wanted(name: str, per_kind: int, *, side: int = SIDE) -> list[Wanted]:
    """The frames of a set: `per_kind` of each kind in each blend.

    `frozen` is the set of this module. `quality` are the frames of the project's quality tests,
    drawn by other code, so that nothing learned from the layers fits them by chance. `production`:
    see there; each frame in one blend.
    """
    if name == "production":
        numbers = range(per_kind)
        return [
            (name, kind, number, production.blend_of(kind, number), side)
            for kind in production.KINDS
            for number in numbers
        ]
    return [(name, k, n, b, side) for k in KINDS for n in range(per_kind) for b in BLENDS]


def drawn(one: Wanted) -> Composite:
    """One frame of a set."""
    name, kind, number, blend, side = one
    if name == "frozen":
        return frame(kind, number, blend, side=side)
    if name == "production":
        return production.frame(kind, number, side=side)
    return composite(kind, number, blend=blend, long_side=side)


def each(make: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> list[Any]:
    """The results of `make` for every job, run by `workers` processes."""
    if workers < 2:
        return [make(job) for job in jobs]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        return pool.map(make, jobs, chunksize=1)


# --- the parts of a frame -------------------------------------------------------------------------


def _frame_size(rng: Rng, side: int) -> tuple[int, int]:
    """Height and width; one in three stands upright."""
    short = int(side * rng.uniform(0.6, 0.85))
    return (side, short) if rng.random() < 0.33 else (short, side)


def _subject(
    rng: Rng, kind: str, number: int, size: tuple[int, int], side: int
) -> tuple[Picture, Picture]:
    """Premultiplied colour and alpha; some at 72 % of the size, at the bottom of the frame."""
    for _ in range(8):
        layer = draw_subject(rng, side, VALIDATION_2026).astype(np.float32) / 255
        alpha = layer[..., 3]
        if 0.03 < float(alpha.mean()) < 0.85:
            break
    sheet = np.dstack([layer[..., :3] * alpha[..., None], alpha])
    if number % 3 == 2 and kind in ("clean", "shadow", "drift"):
        small = cv2.resize(sheet, None, fx=0.72, fy=0.72, interpolation=cv2.INTER_AREA)
        sheet = np.zeros_like(sheet)
        left = (side - small.shape[1]) // 2
        sheet[side - small.shape[0] :, left : left + small.shape[1]] = small
    height, width = size
    top, left = side - height, (side - width) // 2
    sheet = np.ascontiguousarray(sheet[top:, left : left + width])
    return sheet[..., :3], np.ascontiguousarray(sheet[..., 3])


def _set(rng: Rng, size: tuple[int, int], side: int) -> Picture:
    for _ in range(4):
        picture, _ = draw_set(rng, side)
        if picture.mean() > 0.08:
            break
    return np.ascontiguousarray(picture[: size[0], : size[1]], np.float32)


def _moved(
    rng: Rng, premultiplied: Picture, alpha: Picture, scale: float
) -> tuple[Picture, Picture]:
    length, angle = rng.uniform(17, 26) * scale, rng.uniform(0, math.pi)
    reach = math.ceil(length / 2) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along = np.abs(x * math.cos(angle) + y * math.sin(angle))
    across = np.abs(-x * math.sin(angle) + y * math.cos(angle))
    kernel = np.clip(length / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)
    kernel = (kernel / kernel.sum()).astype(np.float32)
    border = cv2.BORDER_REPLICATE
    blurry = [cv2.filter2D(p, -1, kernel, borderType=border) for p in (premultiplied, alpha)]
    return blurry[0], np.clip(blurry[1], 0, 1)


def _drifted(rng: Rng, clean: Picture, scale: float) -> Picture:
    clean = clean ** rng.uniform(0.92, 1.08)
    clean = clean * (1 + rng.uniform(-0.07, 0.07)) * (1 + 0.02 * rng.standard_normal(3))
    return shifted(rng, clean.astype(np.float32), scale)


def regrained(picture: Picture, seed: int) -> Picture:
    """The picture with more grain on it, different for each seed."""
    return eight_bit(grained(np.random.default_rng([_SEED, seed]), picture, GRAIN_SIGMA))
