"""A picture of an evaluation: bars of the error by kind, and below them alphas beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mattebridge.color import Pixels
from mattebridge.evaluate.judge import Judged, groups, mean_of
from mattebridge.report.drawing import (
    FAINT,
    GAP_PX,
    HEAD_PX,
    INK,
    Ink,
    Picture,
    as_bytes,
    blank,
    shrunk,
    text_size,
    write_text,
)

CELL_PX = 300
LABEL_PX = 200
BAR_PX = 14
# One for each model; chosen so that colour-blind people can tell them apart.
COLOURS: tuple[Ink, ...] = (
    (86, 156, 214),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
)


@dataclass(frozen=True)
class EvaluationRow:
    """One frame: plate, clean plate and alphas, display-encoded 0..1, the true alpha first."""

    label: str
    plate: Pixels
    clean_plate: Pixels
    alphas: Sequence[Pixels]


def evaluation_sheet(
    title: str, judged: Mapping[str, Sequence[Judged]], rows: Sequence[EvaluationRow]
) -> Picture:
    """(H, W, 3) uint8 RGB; `judged` by model, the alphas of a row in that order after the truth."""
    width = GAP_PX + (len(judged) + 3) * (CELL_PX + GAP_PX)
    heads = ("plate", "clean plate", "true alpha", *judged)
    parts = [_bars(title, judged, width), _heads(heads, width)]
    return np.concatenate([*parts, *(_row(row, width) for row in rows)])


def _bars(title: str, judged: Mapping[str, Sequence[Judged]], width: int) -> Picture:
    """Mean absolute error of alpha by kind, a bar for each model."""
    means = {model: _means(frames) for model, frames in judged.items()}
    kinds = list(next(iter(means.values())))
    largest = max((mean for by_kind in means.values() for mean in by_kind.values()), default=1.0)
    largest = largest or 1.0
    tall = len(judged) * BAR_PX + GAP_PX
    sheet = blank(2 * HEAD_PX + len(kinds) * tall + GAP_PX, width)
    write_text(sheet, title, (GAP_PX, HEAD_PX - 12), 0.62, INK)
    x = GAP_PX
    for number, model in enumerate(judged):
        name = f"{model}: mean absolute error of alpha, e-3"
        write_text(sheet, name, (x, 2 * HEAD_PX - 16), 0.45, _colour(number))
        x += text_size(name, 0.45)[0] + 3 * GAP_PX
    longest = width - LABEL_PX - 10 * GAP_PX
    for place, kind in enumerate(kinds):
        top = 2 * HEAD_PX + place * tall
        write_text(sheet, kind, (GAP_PX, top + tall // 2), 0.45, INK)
        for number, by_kind in enumerate(means.values()):
            y = top + number * BAR_PX
            end = LABEL_PX + max(1, round(longest * by_kind[kind] / largest))
            sheet[y + 1 : y + BAR_PX - 1, LABEL_PX:end] = _colour(number)
            write_text(sheet, f"{by_kind[kind]:.1f}", (end + 6, y + BAR_PX - 3), 0.4, FAINT)
    return sheet


def _means(judged: Sequence[Judged]) -> dict[str, float]:
    """Mean absolute error of alpha by kind, of kinds with a true alpha."""
    means = {kind: mean_of(group) for kind, group in groups(judged).items()}
    return {kind: figures.mad for kind, figures in means.items() if figures is not None}


def _colour(number: int) -> Ink:
    return COLOURS[number % len(COLOURS)]


def _heads(heads: Sequence[str], width: int) -> Picture:
    sheet = blank(HEAD_PX, width)
    for number, text in enumerate(heads):
        write_text(sheet, text, (GAP_PX + number * (CELL_PX + GAP_PX), HEAD_PX - 12), 0.5, FAINT)
    return sheet


def _row(row: EvaluationRow, width: int) -> Picture:
    cells = [_cell(picture) for picture in (row.plate, row.clean_plate, *row.alphas)]
    tall = cells[0].shape[0]
    sheet = blank(tall + HEAD_PX, width)
    for number, cell in enumerate(cells):
        x = GAP_PX + number * (CELL_PX + GAP_PX)
        sheet[:tall, x : x + CELL_PX] = cell
    write_text(sheet, row.label, (GAP_PX, tall + 20), 0.45, INK)
    return sheet


def _cell(picture: Pixels) -> Picture:
    small = shrunk(picture, CELL_PX)
    return as_bytes(small if small.ndim == 3 else small[..., None].repeat(3, 2))
