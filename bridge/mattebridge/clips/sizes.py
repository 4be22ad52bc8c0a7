"""Whether the plates of a clip are of one size: a clip is one shot."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from mattebridge.errors import InputsError
from mattebridge.image_io import FrameHeader
from mattebridge.shot.plan import Plan


def refuse_other_sizes(
    headers: Iterable[tuple[int, Optional[FrameHeader]]], clip: str = ""
) -> None:
    """Raise `InputsError` for the first plate that is of another size than those before it.

    headers: of the plates, by frame, in order; None for one that cannot be read, which is said when
    its turn comes. clip: its name, for the message.
    """
    first: Optional[FrameHeader] = None
    for frame, header in headers:
        if header is None:
            continue
        first = first or header
        if (header.width, header.height) != (first.width, first.height):
            whose = f"clip {clip}: " if clip else ""
            raise InputsError(
                f"{whose}frame {frame} is {header.width}x{header.height} and the frames before it"
                f" {first.width}x{first.height}; bring them to one size",
                field="plate",
                frame=frame,
            )


def refuse_sizes_of(plan: Plan) -> None:
    """Raise the same for the frames of a plan."""
    refuse_other_sizes((task.frame, task.header) for task in plan.tasks)
