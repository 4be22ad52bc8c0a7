"""Figures over the frames of a shot, as inline SVG: one line, a grid, a mark for each failed frame.

A chart of more frames than it has points keeps the lowest and the highest of each column, so no
peak is lost. Its figures are given as text too.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Optional

# Points of a line: more than a screen has columns would not be seen.
CHART_POINTS = 480
CHART_WIDTH, CHART_HEIGHT = 640, 170
MARGIN_LEFT, MARGIN_RIGHT, MARGIN_TOP, MARGIN_BOTTOM = 62, 14, 12, 26


def chart(
    title: str,
    unit: str,
    frames: Sequence[int],
    values: Sequence[Optional[float]],
    failed: Sequence[int],
) -> str:
    """A chart of one value for each frame, None where it is not known; "" where none is.

    failed: the frames to mark.
    """
    known = [value for value in values if value is not None]
    if not known:
        return ""
    top = _round_up(max(known))
    across, down = _scales(frames, top)
    drawn = f'<path class="line" d="{_path(frames, values, across, down)}"/>'
    marks = "".join(
        f'<line class="failed" x1="{across(f):.1f}" x2="{across(f):.1f}" y1="{MARGIN_TOP}"'
        f' y2="{down(0):.1f}"><title>frame {f} failed</title></line>'
        for f in failed[:CHART_POINTS]
    )
    summary = _summary(values, frames, unit)
    return (
        f'<figure class="chart"><figcaption><b>{escape(title)}</b>, {escape(unit)}</figcaption>'
        f'<svg viewBox="0 0 {CHART_WIDTH} {CHART_HEIGHT}" role="img"'
        f' aria-label="{escape(f"{title}, frame by frame: {summary}")}">'
        f"{_grid(frames, top, across, down)}{drawn}{marks}</svg>"
        f'<p class="summary">{escape(summary)}</p></figure>'
    )


def _scales(
    frames: Sequence[int], top: float
) -> tuple[Callable[[float], float], Callable[[float], float]]:
    first, span = frames[0], max(1, frames[-1] - frames[0])
    wide = CHART_WIDTH - MARGIN_LEFT - MARGIN_RIGHT
    high = CHART_HEIGHT - MARGIN_TOP - MARGIN_BOTTOM
    return (
        lambda frame: MARGIN_LEFT + wide * (frame - first) / span,
        lambda value: MARGIN_TOP + high * (1 - value / top),
    )


def _round_up(value: float) -> float:
    """The next larger 1, 2 or 5 times a power of ten, for a scale that is easy to read."""
    step = 1e-6
    while True:
        for digit in (1, 2, 5):
            if value <= digit * step:
                return digit * step
        step *= 10


def _grid(
    frames: Sequence[int],
    top: float,
    across: Callable[[float], float],
    down: Callable[[float], float],
) -> str:
    right, parts = CHART_WIDTH - MARGIN_RIGHT, []
    for share in (0.0, 0.5, 1.0):
        y = down(share * top)
        parts.append(
            f'<line class="grid" x1="{MARGIN_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{MARGIN_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">'
            f"{share * top:,.6g}</text>"
        )
    anchors = {0: "start", len(frames) - 1: "end"}
    for place in sorted({0, len(frames) // 2, len(frames) - 1}):
        parts.append(
            f'<text x="{across(frames[place]):.1f}" y="{CHART_HEIGHT - 6}"'
            f' text-anchor="{anchors.get(place, "middle")}">{frames[place]}</text>'
        )
    return "".join(parts)


def _path(
    frames: Sequence[int],
    values: Sequence[Optional[float]],
    across: Callable[[float], float],
    down: Callable[[float], float],
) -> str:
    """The line as an SVG path, with a gap where values are not known."""
    points, moved = [], False
    for group in _columns(list(zip(frames, values))):
        known = [(frame, value) for frame, value in group if value is not None]
        if not known:
            moved = False
            continue
        ends = {min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])}
        for frame, value in sorted(ends):
            points.append(f"{'L' if moved else 'M'}{across(frame):.1f} {down(value):.1f}")
            moved = True
    # A lone point is drawn as a dot by its round cap.
    return " ".join(points) + (" h0" if len(points) == 1 else "")


def _columns(points: list[Any]) -> Iterable[list[Any]]:
    size = max(1, -(-2 * len(points) // CHART_POINTS))
    size = 1 if len(points) <= CHART_POINTS else size
    return (points[start : start + size] for start in range(0, len(points), size))


def _summary(values: Sequence[Optional[float]], frames: Sequence[int], unit: str) -> str:
    known = [(value, frame) for value, frame in zip(values, frames) if value is not None]
    middle = statistics.median(value for value, _ in known)
    most, frame = max(known)
    return f"median {_figure_text(middle)} {unit}, most {_figure_text(most)} at frame {frame}"


def _figure_text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
