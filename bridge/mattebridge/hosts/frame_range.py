"""Frame ranges as hosts have them: two numbers and a step, or text such as `1001-1010, 1-20x2`.

`--frames` of the command line takes more ways of writing a range (`image_io/frame_ranges.py`).
Standard library only.
"""

from __future__ import annotations

import re

from mattebridge.errors import UsageError

_PART = re.compile(r"(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?")


def frame_range(first: int, last: int, step: int = 1) -> list[int]:
    """The frames from first to last, both included. Raises `UsageError` where there are none."""
    if step < 1:
        raise UsageError(f"the step of a frame range must be 1 or more; got {step}")
    if last < first:
        raise UsageError(f"the frame range is empty: it goes from {first} to {last}")
    return list(range(first, last + 1, step))


def parse_frames(text: str) -> list[int]:
    """`1-10x2 20` or `-5--3`: the frames in order, each once. Raises `UsageError`."""
    frames: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        match = _PART.fullmatch(part)
        if match is None:
            raise UsageError(f"'{part}' is not a frame range such as 1001-1010 or 1-20x2")
        first, last, step = match.groups()
        frames.update(frame_range(int(first), int(first if last is None else last), int(step or 1)))
    return sorted(frames)
