"""The in-repository validation set: frames with truth that no training has seen, and never will.

Subjects and sets come from `training.frozen`, a copy of the layers that is not changed any more, so
that figures of different days compare. Seeds are five numbers long here and three in training, so
no frame of this set is one of training. Kinds, each in both blends (encoded values, light):

    clean     nothing but grain
    shadow    cast and contact shadow, only in the plate
    drift     the clean plate has another gamma, exposure and white balance, shifted by a pixel
    similar   the set's mean and deviation are the subject's: extreme on purpose, read apart
    noisy     four times the grain; every third through JPEG
    motion    straight motion blur; two in three with the shadow too

Everything is display-encoded float32, 8-bit values; alpha linear coverage; foreground straight.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge_sample import composites
from training.frozen import Rng
from training.frozen.sets import draw_set
from training.frozen.subjects import draw_subject

Picture = NDArray[np.float32]
# Set, kind, number, blend, long side.
Wanted = tuple[str, str, int, str, int]

KINDS = ("clean", "shadow", "drift", "similar", "noisy", "motion")
BLENDS = ("display", "linear")
SIDE = 640
PER_KIND = 8
SETS = ("frozen", "quality")
# First of five seed numbers; training's streams have three.
_SEED = 20_260
_GRAIN = 0.008


@dataclass(frozen=True)
class Frame:
    """One frame with its truth. plate, clean_plate, foreground (H, W, 3), alpha (H, W), float32."""

    name: str
    kind: str
    blend: str
    plate: Picture
    clean_plate: Picture
    alpha: Picture
    foreground: Picture


def frame(kind: str, number: int, blend: str, *, side: int = SIDE) -> Frame:
    """The `number`-th frame of a kind; the same arguments give the same pixels."""
    cv2.setNumThreads(0)
    rng = np.random.default_rng([_SEED, KINDS.index(kind), number, BLENDS.index(blend), 5])
    size = _frame_size(rng, side)
    premultiplied, alpha = _subject(rng, kind, number, size, side)
    clean = _set(rng, size, side)
    scale = side / 640
    if kind == "similar":
        clean = _recoloured(clean, premultiplied, alpha)
    if kind == "motion":
        premultiplied, alpha = _moved(rng, premultiplied, alpha, scale)
    lit = clean
    if kind == "shadow" or (kind == "motion" and number % 3 != 0):
        lit = clean * (1 - _shadow(rng, alpha, scale))[..., None]
    foreground = np.clip(premultiplied / np.maximum(alpha, 1e-3)[..., None], 0, 1)
    plate = _blended(foreground, lit, alpha[..., None], blend)
    if kind == "drift":
        clean = _drifted(rng, clean, scale)
    sigma = 0.035 if kind == "noisy" else _GRAIN
    plate, clean = (_grainy(rng, picture, sigma) for picture in (plate, clean))
    if kind == "noisy" and number % 3 == 0:
        plate, clean = _jpeg(plate), _jpeg(clean)
    name = f"{kind}_{number:02d}_{blend}"
    return Frame(name, kind, blend, _bytes(plate), _bytes(clean), alpha, foreground)


def wanted(name: str, per_kind: int, *, side: int = SIDE) -> list[Wanted]:
    """The frames of a set: `per_kind` of each kind in each blend.

    `frozen` is the set of this module; `quality` are the frames that the project's tests judge by:
    drawn by other code, so nothing that was learned here fits them by chance.
    """
    return [(name, k, n, b, side) for k in KINDS for n in range(per_kind) for b in BLENDS]


def drawn(one: Wanted) -> Frame:
    """One frame of a set."""
    name, kind, number, blend, side = one
    if name == "frozen":
        return frame(kind, number, blend, side=side)
    made = composites.composite(kind, number, blend=blend, long_side=side)
    values = (made.plate, made.clean_plate, made.alpha, made.foreground)
    return Frame(made.name, kind, blend, *values)


def each(make: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> list[Any]:
    """What `make` gives for every job, by that many processes."""
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
    """Premultiplied colour and alpha; every third plain one at 72 %, standing at the bottom."""
    for _ in range(8):
        layer = draw_subject(rng, side).astype(np.float32) / 255
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


def _recoloured(clean: Picture, premultiplied: Picture, alpha: Picture) -> Picture:
    inside = alpha > 0.5
    if not inside.any():
        return clean
    subject = premultiplied[inside] / alpha[inside][:, None]
    normal = (clean - clean.mean((0, 1))) / (clean.std((0, 1)) + 1e-3)
    return np.clip(normal * subject.std(0) * 0.9 + subject.mean(0), 0, 1).astype(np.float32)


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


def _shadow(rng: Rng, alpha: Picture, scale: float) -> Picture:
    """Strength 0..1 of cast and contact shadow together."""
    height, width = alpha.shape
    x = rng.uniform(20, 70) * rng.choice([-1, 1]) * scale
    y = rng.uniform(5, 40) * scale
    cast = np.float32([[1, 0.1, x - 0.05 * height], [0, 0.95, y + 0.05 * height]])
    contact = np.float32([[1, 0, 0], [0, 1, 4 * scale]])
    near, far = (cv2.warpAffine(alpha, matrix, (width, height)) for matrix in (contact, cast))
    far = cv2.GaussianBlur(far, (0, 0), rng.uniform(8, 22) * scale) * rng.uniform(0.3, 0.5)
    near = cv2.GaussianBlur(near, (0, 0), 5 * scale) * 0.25
    return 1 - (1 - far) * (1 - near)


def _drifted(rng: Rng, clean: Picture, scale: float) -> Picture:
    clean = clean ** rng.uniform(0.92, 1.08)
    clean = clean * (1 + rng.uniform(-0.07, 0.07)) * (1 + 0.02 * rng.standard_normal(3))
    dx, dy = rng.uniform(-1.4, 1.4, 2) * scale
    matrix = np.float32([[1, 0.0008, dx], [-0.0008, 1, dy]])
    moved = cv2.warpAffine(
        clean.astype(np.float32),
        matrix,
        (clean.shape[1], clean.shape[0]),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.clip(moved, 0, 1)


def _blended(foreground: Picture, background: Picture, alpha: Picture, blend: str) -> Picture:
    if blend == "display":
        return alpha * foreground + (1 - alpha) * background
    return encode(alpha * decode(foreground) + (1 - alpha) * decode(background))


def encode(x: Picture) -> Picture:
    """Linear light to sRGB."""
    x = np.maximum(x, 0)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055).astype(np.float32)


def decode(x: Picture) -> Picture:
    """sRGB to linear light."""
    x = np.maximum(x, 0)
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _grainy(rng: Rng, picture: Picture, sigma: float) -> Picture:
    level = 0.4 + 0.9 * np.sqrt(np.clip(picture, 0, 1))
    return picture + sigma * level * rng.standard_normal(picture.shape, dtype=np.float32)


def regrained(picture: Picture, seed: int) -> Picture:
    """The picture with more grain on it, another one for each seed."""
    return _bytes(_grainy(np.random.default_rng([_SEED, seed]), picture, _GRAIN))


def _jpeg(picture: Picture) -> Picture:
    raw = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    coded = cv2.imencode(".jpg", raw, [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    return cv2.imdecode(coded, cv2.IMREAD_COLOR).astype(np.float32) / 255


def _bytes(picture: Picture) -> Picture:
    return (np.round(np.clip(picture, 0, 1) * 255) / 255).astype(np.float32)
