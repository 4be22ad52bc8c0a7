"""Interlaced videos: the lines of two moments in one picture, and the mark that says so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 25


def interlaced(frame: av.VideoFrame, order: str = "tff") -> av.VideoFrame:
    """The same picture with the mark of an interlaced one; order: `tff` or `bff`."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, RATE)
    )
    mark, sink = graph.add("setfield", order), graph.add("buffersink")
    source.link_to(mark)
    mark.link_to(sink)
    graph.configure()
    graph.push(frame)
    return graph.pull()


def write_interlaced(
    path: Path,
    moments: list[np.ndarray],
    *,
    order: str = "tff",
    codec: str = "ffv1",
    pixel_format: str = "yuv422p10le",
) -> Path:
    """Moments 0 and 1 as the first picture, 2 and 3 as the second; each (H, W, 3) uint8.

    order: whether the top (`tff`) or the bottom lines (`bff`) are of the earlier moment.
    """
    options = {"flags": "+ildct+ilme"} if codec == "mpeg2video" else {}
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=RATE, options=options)
        stream.height, stream.width = moments[0].shape[:2]
        stream.pix_fmt = pixel_format
        if codec == "mpeg2video":
            stream.bit_rate = 20_000_000
        for index, (early, late) in enumerate(zip(moments[::2], moments[1::2])):
            woven = np.array(early)
            first_late = 1 if order == "tff" else 0
            woven[first_late::2] = late[first_late::2]
            frame = av.VideoFrame.from_ndarray(woven, format="rgb24")
            frame = interlaced(frame.reformat(format=pixel_format), order)
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return path
