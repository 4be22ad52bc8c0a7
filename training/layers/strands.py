"""Thousands of curved lines: hair, fur, grass, cables; drawn at twice the size, from half a pixel.

    roots, angles, lengths --grow--> (n, steps, 2) --paint--> colour and coverage of one sheet

Strands are grouped by shade, so that OpenCV draws hundreds in one call; the outer half of each is
drawn thinner than the inner one.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from training.layers.fields import Field, Picture, Rng, from_bytes

Points = NDArray[np.float32]

# Strands are drawn this many times larger, with coordinates of this many fractional bits.
_LARGER = 2
_PLACES = 3
_GROUPS = 14


def grow(
    rng: Rng,
    roots: NDArray[Any],
    angles: NDArray[Any],
    lengths: NDArray[Any],
    *,
    curl: float = 0.5,
    gravity: float = 0.0,
    frizz: float = 0.0,
    waves: float = 0.0,
    steps: int = 12,
) -> Points:
    """Lines from `roots` (n, 2) in directions `angles` (n,), (n, steps, 2).

    curl: radians a strand bends over its length. gravity: how fast it turns downward. frizz:
    random turns at each step. waves: amplitude in radians of a regular wave.
    """
    count = len(roots)
    stride = (np.asarray(lengths) / (steps - 1)).astype(np.float32)
    bend = rng.normal(0, curl, count) / steps
    phase, pace = rng.uniform(0, 7, count), rng.uniform(3, 9, count)
    heading = np.asarray(angles, np.float64).copy()
    points = np.empty((count, steps, 2), np.float32)
    points[:, 0] = roots
    for step in range(1, steps):
        heading += bend + rng.normal(0, 1, count) * frizz
        heading += gravity * np.cos(heading) * 1.5 / steps
        turn = heading + waves * np.sin(phase + pace * step / steps * 2)
        points[:, step, 0] = points[:, step - 1, 0] + np.cos(turn) * stride
        points[:, step, 1] = points[:, step - 1, 1] + np.sin(turn) * stride
    return points


def clumped(rng: Rng, strands: Points, locks: int, tightness: float) -> Points:
    """Strands pulled together into locks, more so toward their ends."""
    leaders = rng.integers(len(strands), size=max(1, locks))
    distance = np.square(strands[:, None, 0] - strands[None, leaders, 0]).sum(-1)
    leader = strands[leaders[np.argmin(distance, 1)]]
    pull = tightness * np.linspace(0, 1, strands.shape[1], dtype=np.float32)[None, :, None]
    return strands * (1 - pull) + leader * pull


def paint(
    rng: Rng,
    side: int,
    strands: Points,
    colours: NDArray[np.float32],
    *,
    thickness_px: float = 0.8,
    spread: float = 0.25,
) -> tuple[Picture, Field]:
    """Colour (side, side, 3) and coverage (side, side) of one sheet of strands.

    colours: (n, 3) or (3,). thickness_px: at the root, in pixels of the layer; at least
    0.5. spread: how much the shades of the strands differ.
    """
    count = len(strands)
    tones = np.broadcast_to(colours, (count, 3)) * rng.normal(1, spread, (count, 1))
    tones = np.clip(tones, 0.01, 0.99) * 255
    large = side * _LARGER
    colour = np.empty((large, large, 3), np.uint8)
    colour[:] = tones.mean(0)
    cover = np.zeros((large, large), np.uint8)
    fixed = np.round(strands * (_LARGER << _PLACES)).astype(np.int32)
    order = np.argsort(tones.sum(1) + rng.normal(0, 20, count))
    for group in np.array_split(order, min(_GROUPS, count)):
        _draw(colour, cover, fixed[group], tones[group].mean(0).tolist(), thickness_px)
    small = (side, side)
    return (
        from_bytes(cv2.resize(colour, small, interpolation=cv2.INTER_AREA)),
        from_bytes(cv2.resize(cover, small, interpolation=cv2.INTER_AREA)),
    )


def _draw(colour: Any, cover: Any, lines: Any, tone: list[float], thickness_px: float) -> None:
    middle = lines.shape[1] // 2
    wide = max(1, round(thickness_px * _LARGER))
    for part, width in ((lines[:, : middle + 1], wide), (lines[:, middle:], max(1, wide // 2))):
        run = list(part)
        cv2.polylines(colour, run, False, tone, width + 1, cv2.LINE_8, _PLACES)
        cv2.polylines(cover, run, False, 255, width, cv2.LINE_AA, _PLACES)


def outline_roots(
    rng: Rng, cover: Field, count: int, *, inward_px: float = 3
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Random places on the edge of a coverage, (n, 2), and the outward directions there, (n,)."""
    soft = cv2.GaussianBlur(cover, (0, 0), 4)
    gx, gy = cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    rows, columns = np.nonzero((cover > 0.5) & (np.hypot(gx, gy) > 0.15))
    if len(rows) == 0:
        return np.zeros((0, 2), np.float32), np.zeros(0)
    pick = rng.integers(len(rows), size=count)
    rows, columns = rows[pick], columns[pick]
    angles = np.arctan2(-gy[rows, columns], -gx[rows, columns])
    inward = -inward_px * np.stack([np.cos(angles), np.sin(angles)], -1)
    return (np.stack([columns, rows], -1) + inward).astype(np.float32), angles


def inside_roots(
    rng: Rng, cover: Field, count: int
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Random places inside a coverage and the directions away from its middle."""
    rows, columns = np.nonzero(cover > 0.6)
    if len(rows) == 0:
        return np.zeros((0, 2), np.float32), np.zeros(0)
    pick = rng.integers(len(rows), size=count)
    roots = np.stack([columns[pick], rows[pick]], -1).astype(np.float32)
    middle = np.array([columns.mean(), rows.mean()])
    return roots, np.arctan2(roots[:, 1] - middle[1], roots[:, 0] - middle[0])
