"""A contact sheet: plate, clean plate, alpha, foreground and comp, one row for each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mattebridge.color import Pixels
from mattebridge.report.drawing import (
    FAINT,
    GAP_PX,
    HEAD_PX,
    INK,
    Picture,
    as_bytes,
    blank,
    checker,
    display,
    shrunk,
    text_size,
    write_text,
)

TITLES = ("plate", "clean plate", "alpha", "foreground", "over checker")


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

    Every picture is `cell_width` pixels wide and keeps its shape. `title` is above the names of the
    columns, `footer` below the last row.
    """
    cells = [_cells(row, cell_width) for row in rows]
    heights = [max(cell.shape[0] for cell in line) for line in cells]
    top = HEAD_PX + (HEAD_PX if title else 0)
    height = top + sum(tall + GAP_PX for tall in heights) + (HEAD_PX if footer else 0)
    sheet = blank(height, GAP_PX + len(TITLES) * (cell_width + GAP_PX))
    if title:
        write_text(sheet, title, (GAP_PX, HEAD_PX - 12), 0.62, INK)
    for column, name in enumerate(TITLES):
        write_text(sheet, name, (GAP_PX + column * (cell_width + GAP_PX), top - 12), 0.5, FAINT)
    y = top
    for row, line, tall in zip(rows, cells, heights):
        for column, cell in enumerate(line):
            x = GAP_PX + column * (cell_width + GAP_PX)
            sheet[y : y + cell.shape[0], x : x + cell_width] = cell
        _tag(sheet, row.label, (GAP_PX, y + line[0].shape[0]))
        y += tall + GAP_PX
    if footer:
        write_text(sheet, footer, (GAP_PX, y + HEAD_PX - 16), 0.5, FAINT)
    return sheet


def _cells(row: SheetRow, width: int) -> list[Picture]:
    alpha = np.asarray(row.alpha, np.float32).reshape(*row.plate.shape[:2], 1)
    rgba = row.premultiplied
    if rgba is None:
        rgba = np.concatenate([row.foreground * alpha, alpha], -1)
    over = rgba[..., :3] + (1 - rgba[..., 3:]) * checker(*row.plate.shape[:2])
    flat = np.repeat(np.clip(alpha, 0, 1), 3, -1)
    return [
        display(shrunk(row.plate, width)),
        display(shrunk(row.clean_plate, width)),
        # Alpha is coverage, not light: it is not encoded.
        as_bytes(shrunk(flat, width)),
        display(shrunk(row.foreground, width)),
        display(shrunk(over, width)),
    ]


def _tag(sheet: Picture, text: str, corner: tuple[int, int]) -> None:
    """A small dark label in the lower left corner of a picture."""
    width, height = text_size(text, 0.42)
    x, y = corner
    box = sheet[max(y - height - 12, 0) : y, x : x + width + 14]
    box[:] = (box * 0.35).astype(np.uint8)
    write_text(sheet, text, (x + 7, y - 6), 0.42, INK)
