"""One whole picture out of an interlaced one, by the filter bwdif of FFmpeg.

    picture before, picture, picture after --bwdif--> the picture at the time of its first field

The lines of the first field stay as they are. Those of the second are taken from the pictures
around where nothing moves, and between the lines of the first where something does, so a still
picture comes out as it went in. One picture gives one picture: frame numbers, times and sound
are not changed. A single picture has nothing around it and counts as still. Each picture is
filtered anew with its neighbours alone, so that it is the same whichever pictures were read before
it.

PyAV is imported only inside functions: it is the optional extra `video`.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Optional

# Field order out of the picture; pictures that are not marked as interlaced pass unchanged.
_OPTIONS = "mode=send_frame:parity=auto:deint=interlaced"


def deinterlaced(pictures: Sequence[Any], position: int) -> Optional[Any]:
    """The picture at `position`, whole; the others are those before and behind it, if there are.

    pictures: decoded, of one size and format. None for a format that bwdif does not take as it is:
    FFmpeg converts it first, which moves values.
    """
    made = _filtered(pictures)[position]
    return made if made.format.name == pictures[position].format.name else None


def _filtered(pictures: Sequence[Any]) -> list[Any]:
    import av

    first = pictures[0]
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=first.width, height=first.height, format=first.format, time_base=Fraction(1, 1)
    )
    filtered, sink = graph.add("bwdif", _OPTIONS), graph.add("buffersink")
    source.link_to(filtered)
    filtered.link_to(sink)
    graph.configure()
    for picture in (*pictures, None):
        graph.push(picture)
    return [graph.pull() for _ in pictures]
