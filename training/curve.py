"""The log of a run, and its loss curve as a picture, drawn with OpenCV."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE = (1200, 640)
_MARGIN = (90, 40, 60, 60)
_COLOURS = ((200, 90, 30), (30, 90, 220), (40, 150, 40), (160, 40, 160))


def append(path: Path, row: dict[str, float]) -> None:
    """Append a line to the log; all lines must have the columns of the first."""
    begun = path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(row), extrasaction="ignore")
        if not begun:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def read(path: Path) -> list[dict[str, float]]:
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def cut(path: Path, step: int) -> None:
    """Drop the lines after `step`: a run that was killed repeats those steps."""
    rows = read(path)
    kept = [row for row in rows if row["step"] <= step]
    if len(kept) < len(rows):
        path.unlink()
        for row in kept:
            append(path, row)


def draw(path: Path, log: Path, history: Sequence[dict[str, float]]) -> None:
    """The loss (smoothed) over the steps, and below it the error on the validation set."""
    rows = read(log)
    loss = [(row["step"], row["loss"]) for row in rows]
    judged = [
        ([(row["step"], row[name]) for row in history if name in row], name)
        for name in ("all", "without_similar", "quality")
    ]
    upper = _chart([(loss, "loss")])
    lower = _chart([series for series in judged if series[0]])
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.vstack([upper, lower]))


def _chart(series: Sequence[tuple[list[tuple[float, float]], str]]) -> NDArray[np.uint8]:
    """A line chart with a logarithmic vertical axis."""
    width, height = _SIZE
    picture = np.full((height, width, 3), 255, np.uint8)
    points = [point for line, _ in series for point in line if point[1] > 0]
    if len(points) < 2:
        _text(picture, "no data yet", (width // 2 - 60, height // 2))
        return picture
    right = max(x for x, _ in points) or 1.0
    low, high = (math.log(f(y for _, y in points)) for f in (min, max))
    high = max(high, low + 0.1)
    _grid(picture, low, high, right)
    for number, (line, name) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        at = np.array(
            [_place(x, math.log(y), right, low, high) for x, y in line if y > 0], np.int32
        )
        cv2.polylines(picture, [at], False, colour, 2, cv2.LINE_AA)
        label = f"{name} {line[-1][1]:.4g}" if line else name
        _text(picture, label, (width - 330, 40 + 28 * number), colour)
    return picture


def _grid(picture: NDArray[np.uint8], low: float, high: float, right: float) -> None:
    for part in np.linspace(0, 1, 6):
        value = low + (high - low) * part
        start, end = (_place(x, value, right, low, high) for x in (0.0, right))
        cv2.line(picture, start, end, (225, 225, 225), 1)
        _text(picture, f"{math.exp(value):.4g}", (8, start[1] + 5))
        below = _place(right * part, low, right, low, high)
        _text(picture, f"{right * part:.0f}", (below[0] - 20, below[1] + 26))


def _place(x: float, y: float, right: float, low: float, high: float) -> tuple[int, int]:
    width, height = _SIZE
    left, top, edge, bottom = _MARGIN
    across = left + (width - left - edge) * x / right
    down = height - bottom - (height - top - bottom) * (y - low) / (high - low)
    return round(across), round(down)


def _text(
    picture: NDArray[np.uint8],
    text: str,
    at: tuple[int, int],
    colour: tuple[int, int, int] = (60, 60, 60),
) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, 1, cv2.LINE_AA)
