"""A picture of a shot for the eye: plate, clean plate, alpha, foreground, over a checker.

One row for each frame shown. Light is display-encoded as it is, and what is brighter than white is
clipped: the sheet shows mattes, it does not grade.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import srgb_encode

Pixels = NDArray[Any]
Picture = NDArray[np.uint8]

TITLES = ("plate", "clean plate", "alpha", "foreground", "over checker")
PAPER = (30, 30, 32)
INK = (214, 214, 212)
FAINT = (140, 140, 142)
GAP_PX = 10
HEAD_PX = 40
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Linear greys of the checker: dark enough to show a light fringe, light enough to show a dark one.
CHECKER = (0.12, 0.26)
CHECKER_PX = 24


@dataclass(frozen=True)
class SheetRow:
    """One frame: scene-linear float pixels, top row first.

    plate, clean_plate, foreground: (H, W, 3); alpha: (H, W) or (H, W, 1); premultiplied:
    (H, W, 4), or None to have it made from foreground and alpha.
    """

    label: str
    plate: Pixels
    clean_plate: Pixels
    alpha: Pixels
    foreground: Pixels
    premultiplied: Pixels | None = None


def contact_sheet(
    rows: Sequence[SheetRow], *, cell_width: int = 384, title: str = "", footer: str = ""
) -> Picture:
    """The sheet as (H, W, 3) uint8 RGB, display-encoded; needs at least one row.

    Every picture is `cell_width` pixels wide and keeps its shape. `title` stands above the column
    names, `footer` below the last row.
    """
    cells = [_cells(row, cell_width) for row in rows]
    heights = [max(cell.shape[0] for cell in line) for line in cells]
    top = HEAD_PX + (HEAD_PX if title else 0)
    width = GAP_PX + len(TITLES) * (cell_width + GAP_PX)
    height = top + sum(tall + GAP_PX for tall in heights) + (HEAD_PX if footer else 0)
    sheet = np.full((height, width, 3), PAPER, np.uint8)
    if title:
        _write(sheet, title, (GAP_PX, HEAD_PX - 12), 0.62, INK)
    for column, name in enumerate(TITLES):
        _write(sheet, name, (GAP_PX + column * (cell_width + GAP_PX), top - 12), 0.5, FAINT)
    y = top
    for row, line, tall in zip(rows, cells, heights):
        for column, cell in enumerate(line):
            x = GAP_PX + column * (cell_width + GAP_PX)
            sheet[y : y + cell.shape[0], x : x + cell_width] = cell
        _tag(sheet, row.label, (GAP_PX, y + line[0].shape[0]))
        y += tall + GAP_PX
    if footer:
        _write(sheet, footer, (GAP_PX, y + HEAD_PX - 16), 0.5, FAINT)
    return sheet


def _cells(row: SheetRow, width: int) -> list[Picture]:
    alpha = np.asarray(row.alpha, np.float32).reshape(*row.plate.shape[:2], 1)
    rgba = row.premultiplied
    if rgba is None:
        rgba = np.concatenate([row.foreground * alpha, alpha], -1)
    over = rgba[..., :3] + (1 - rgba[..., 3:]) * checker(*row.plate.shape[:2])
    flat = np.repeat(np.clip(alpha, 0, 1), 3, -1)
    return [
        display(_shrink(row.plate, width)),
        display(_shrink(row.clean_plate, width)),
        # Alpha is no light: shown as it is.
        _as_bytes(_shrink(flat, width)),
        display(_shrink(row.foreground, width)),
        display(_shrink(over, width)),
    ]


def checker(height: int, width: int) -> NDArray[np.float32]:
    """A checker (H, W, 1) of two linear greys; its squares grow with the picture."""
    side = max(4, round(CHECKER_PX * width / 960))
    y, x = np.mgrid[0:height, 0:width] // side
    return np.where((x + y) % 2 == 0, *CHECKER).astype(np.float32)[..., None]


def display(linear: Pixels) -> Picture:
    """Scene-linear light (H, W, 3) as the bytes a screen shows."""
    light = np.nan_to_num(np.asarray(linear, np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return _as_bytes(srgb_encode(np.clip(light, 0, 1)))


def _as_bytes(encoded: Pixels) -> Picture:
    return (np.clip(encoded, 0, 1) * 255 + 0.5).astype(np.uint8)


def _shrink(image: Pixels, width: int) -> Pixels:
    """Light is averaged as light, after what a screen cannot show is cut off."""
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shown = np.clip(np.asarray(image, np.float32), 0, 1)
    way = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(shown, (width, height), interpolation=way))


def _write(
    sheet: Picture, text: str, at: tuple[int, int], size: float, ink: tuple[int, ...]
) -> None:
    cv2.putText(sheet, text, at, FONT, size, ink, 1, cv2.LINE_AA)


def _tag(sheet: Picture, text: str, corner: tuple[int, int]) -> None:
    """A small dark label in the lower left corner of a picture."""
    (width, height), _ = cv2.getTextSize(text, FONT, 0.42, 1)
    x, y = corner
    box = sheet[max(y - height - 12, 0) : y, x : x + width + 14]
    box[:] = (box * 0.35).astype(np.uint8)
    _write(sheet, text, (x + 7, y - 6), 0.42, INK)
