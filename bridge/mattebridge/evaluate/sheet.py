"""A picture of an evaluation: bars of the error by kind, and below them mattes beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.evaluate.judge import Judged, groups, mean_of
from mattebridge.report.contact_sheet import FAINT, FONT, GAP_PX, HEAD_PX, INK, PAPER

Picture = NDArray[np.uint8]

CELL_PX = 300
LABEL_PX = 200
BAR_PX = 14
# One for each model; told apart also by those who see no red or green.
COLOURS = ((86, 156, 214), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0))


@dataclass(frozen=True)
class SheetRow:
    """One frame: plate, clean plate and alphas, display-encoded 0..1, true alpha first."""

    label: str
    plate: Any
    clean_plate: Any
    alphas: Sequence[Any]


def evaluation_sheet(
    title: str, judged: Mapping[str, Sequence[Judged]], rows: Sequence[SheetRow]
) -> Picture:
    """(H, W, 3) uint8 RGB; `judged` by model, each row's alphas in that order behind the truth."""
    width = GAP_PX + (len(judged) + 3) * (CELL_PX + GAP_PX)
    parts = [_bars(title, judged, width)]
    heads = ("plate", "clean plate", "true alpha", *judged)
    parts.append(_line(width, [(GAP_PX + n * (CELL_PX + GAP_PX), h) for n, h in enumerate(heads)]))
    parts += [_row(row, width) for row in rows]
    return np.concatenate(parts)


def _bars(title: str, judged: Mapping[str, Sequence[Judged]], width: int) -> Picture:
    """Mean absolute error of alpha by kind, a bar for each model."""
    kinds = list(groups(next(iter(judged.values()))))
    means = {m: {k: mean_of(g).mad for k, g in groups(j).items()} for m, j in judged.items()}
    largest = max(max(by_kind.values()) for by_kind in means.values()) or 1.0
    tall = len(judged) * BAR_PX + GAP_PX
    sheet = np.full((2 * HEAD_PX + len(kinds) * tall + GAP_PX, width, 3), PAPER, np.uint8)
    _write(sheet, title, (GAP_PX, HEAD_PX - 12), 0.62, INK)
    x = GAP_PX
    for number, model in enumerate(judged):
        name = f"{model}: mean absolute error of alpha, e-3"
        _write(sheet, name, (x, 2 * HEAD_PX - 16), 0.45, _colour(number))
        x += cv2.getTextSize(name, FONT, 0.45, 1)[0][0] + 3 * GAP_PX
    room = width - LABEL_PX - 10 * GAP_PX
    for place, kind in enumerate(kinds):
        top = 2 * HEAD_PX + place * tall
        _write(sheet, kind, (GAP_PX, top + tall // 2), 0.45, INK)
        for number, by_kind in enumerate(means.values()):
            y = top + number * BAR_PX
            end = LABEL_PX + max(1, round(room * by_kind[kind] / largest))
            sheet[y + 1 : y + BAR_PX - 1, LABEL_PX:end] = _colour(number)
            _write(sheet, f"{by_kind[kind]:.1f}", (end + 6, y + BAR_PX - 3), 0.4, FAINT)
    return sheet


def _row(row: SheetRow, width: int) -> Picture:
    cells = [_cell(picture) for picture in (row.plate, row.clean_plate, *row.alphas)]
    tall = cells[0].shape[0]
    sheet = np.full((tall + HEAD_PX, width, 3), PAPER, np.uint8)
    for number, cell in enumerate(cells):
        x = GAP_PX + number * (CELL_PX + GAP_PX)
        sheet[:tall, x : x + CELL_PX] = cell
    _write(sheet, row.label, (GAP_PX, tall + 20), 0.45, INK)
    return sheet


def _cell(picture: Any) -> Picture:
    values = np.clip(np.asarray(picture, np.float32), 0, 1)
    height = max(1, round(values.shape[0] * CELL_PX / values.shape[1]))
    way = cv2.INTER_AREA if values.shape[1] > CELL_PX else cv2.INTER_LINEAR
    small = cv2.resize(values, (CELL_PX, height), interpolation=way)
    small = small if small.ndim == 3 else small[..., None]
    return np.asarray(np.broadcast_to(small * 255 + 0.5, (height, CELL_PX, 3)), np.uint8)


def _line(width: int, texts: Sequence[tuple[int, str]]) -> Picture:
    sheet = np.full((HEAD_PX, width, 3), PAPER, np.uint8)
    for x, text in texts:
        _write(sheet, text, (x, HEAD_PX - 12), 0.5, FAINT)
    return sheet


def _colour(number: int) -> tuple[int, int, int]:
    return COLOURS[number % len(COLOURS)]


def _write(sheet: Picture, text: str, at: tuple[int, int], size: float, ink: Any) -> None:
    cv2.putText(sheet, text, at, FONT, size, ink, 1, cv2.LINE_AA)
