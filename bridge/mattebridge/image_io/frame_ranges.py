"""Frame numbers as text: read as people and queues write them, and written for both.

parse_frames:   1001-1100x2         --> which frames
format_frames:  frames              --> 1001-1010, 1015   for people
frame_ranges:   frames              --> 1-9x2,20          for programs
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

from mattebridge.errors import UsageError

# A range with more frames than this (11 hours at 24 frames/s) is a typing error.
MAX_FRAMES = 1_000_000


def parse_frames(text: str) -> list[int]:
    """Sorted frame numbers of a range as artists and queues write it.

    `1001-1100`, `1001-1100x2` (every second), `1-20y3` (all but every third), lists with commas,
    negative numbers. A prefix chooses another grammar, in which the same text may mean other
    frames: `openjd:1-9:2` and `nuke:1-10x2 20`. Raises `UsageError`.
    """
    grammar, _, body = text.partition(":")
    if grammar not in ("openjd", "nuke"):
        grammar, body = "", text
    chosen = _GRAMMARS[grammar]
    items = list(chosen.items(body))
    frames: set[int] = set()
    for item in items:
        match = chosen.item.fullmatch(item)
        if match is None:
            raise UsageError(f"frames '{text}': '{item}' is not a frame or range; {chosen.example}")
        frames.update(expand(text, **match.groupdict()))
        if len(frames) > MAX_FRAMES:
            raise UsageError(f"frames '{text}' are more than {MAX_FRAMES}; is a digit too many?")
    if not frames:
        raise UsageError(f"frames '{text}' contain no frame; {chosen.example}")
    return sorted(frames)


@dataclass(frozen=True)
class _Grammar:
    item: re.Pattern[str]
    separator: str
    example: str

    def items(self, body: str) -> Iterator[str]:
        if body.strip():
            yield from re.split(self.separator, body.strip())


_RANGE = r"(?P<first>-?\d+)(?:-(?P<last>-?\d+)"
_GRAMMARS = {
    "": _Grammar(
        re.compile(_RANGE + r"(?:(?P<mode>[xy])(?P<step>\d+))?)?"),
        ",",
        "write 1001-1100, 1001-1100x2 or 1001,1005-1010, without blanks",
    ),
    "openjd": _Grammar(
        re.compile(_RANGE + r"(?::(?P<step>-?\d+))?)?"), r"\s*,\s*", "write openjd:1-9:2,20"
    ),
    "nuke": _Grammar(
        re.compile(_RANGE + r"(?:x(?P<step>\d+))?)?"), r"[\s,]+", "write nuke:1-10x2 20"
    ),
}


def expand(
    text: str,
    first: str,
    last: Optional[str],
    step: Optional[str] = None,
    mode: Optional[str] = None,
) -> Iterable[int]:
    """The frames from first to last; mode y: those that a step leaves out. Raises `UsageError`.

    text: what was asked for, for the message. All numbers are in digits, as they were written.
    """
    start, end = int(first), int(first if last is None else last)
    stride = int(step) if step else 0
    if step and (stride == 0 or (stride < 0 and end > start)):
        raise UsageError(f"frames '{text}': a step of {stride} does not lead from {start} to {end}")
    count = abs(end - start) + 1
    if count > MAX_FRAMES:
        raise UsageError(f"frames '{text}' are more than {MAX_FRAMES}; is a digit too many?")
    direction = 1 if end >= start else -1
    every = range(start, end + direction, direction * (abs(stride) or 1))
    if mode != "y":
        return every
    left_out = set(every)
    return (n for n in range(start, end + direction, direction) if n not in left_out)


def format_frames(frames: Collection[int]) -> str:
    """Frames for people to read: `1001-1010, 1015`."""
    runs: list[list[int]] = []
    for number in sorted(frames):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return shown_runs(runs)


def shown_runs(runs: Iterable[Sequence[int]]) -> str:
    """Pairs of first and last frame for people to read; what comes after twenty is left out."""
    shown = [f"{first}-{last}" if last > first else f"{first}" for first, last in runs]
    return ", ".join(shown[:20]) + (", ..." if len(shown) > 20 else "")


def frame_ranges(frames: Collection[int], step_mark: str = "x") -> str:
    """Frames for programs to read: `1-9x2,20`.

    step_mark is "x" for `parse_frames` and most queues, and ":" for Open Job Description, which
    refuses ranges that overlap; these never do.
    """
    numbers = sorted(set(frames))
    ranges, at = [], 0
    while at < len(numbers):
        end = at + 1
        step = numbers[end] - numbers[at] if end < len(numbers) else 1
        while end < len(numbers) and numbers[end] - numbers[end - 1] == step:
            end += 1
        if end - at == 1 or (step > 1 and end - at == 2):
            ranges.append(str(numbers[at]))
            end = at + 1
        else:
            by = f"{step_mark}{step}" if step > 1 else ""
            ranges.append(f"{numbers[at]}-{numbers[end - 1]}{by}")
        at = end
    return ",".join(ranges)
