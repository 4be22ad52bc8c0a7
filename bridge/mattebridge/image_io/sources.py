"""Any picture of an input, whether it is a file or a picture of a video.

    Source = a path, or a position in a video --> FrameHeader | Frame | matte

Code that reads pictures need not know which of the two it reads. Videos stay open between pictures,
so that the next one is cheap; `close` closes them.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

from mattebridge.color import Pixels
from mattebridge.image_io import read, timecodes
from mattebridge.image_io.frame import Frame, FrameHeader, unreadable
from mattebridge.image_io.sequences import Source, VideoPicture
from mattebridge.image_io.video_read import VideoReader, probe


def read_header(source: Source, *, layer: Optional[str] = None, matte: bool = False) -> FrameHeader:
    """Size, channels, type, colour and metadata of a picture. Raises `FrameReadError`.

    layer, matte: as in `image_io.read_frame`.
    """
    if isinstance(source, VideoPicture):
        _refuse_layer(source, layer)
        header = probe(source.path).header
        return replace(header, metadata=_metadata_at(header, source.index))
    return read.read_header(source, layer=layer, matte=matte)


def _refuse_layer(source: VideoPicture, layer: Optional[str]) -> None:
    if layer:
        raise unreadable(source.path, f"a video has no layers; leave out layer '{layer}'")


def path_of(source: Source) -> Path:
    """The file that a picture is in."""
    return source.path if isinstance(source, VideoPicture) else source


class Pictures:
    """Reads the pictures of a job; any number of threads may use it at once.

    deinterlace: pictures of videos that are marked as interlaced are made whole.
    """

    def __init__(self, *, deinterlace: bool = False) -> None:
        self._deinterlace = deinterlace
        self._readers: dict[Path, VideoReader] = {}
        self._lock = threading.Lock()

    def frame(self, source: Source, *, layer: Optional[str] = None, matte: bool = False) -> Frame:
        """One picture, RGB(A) or a single channel, by the rules of `image_io.read_frame`."""
        if not isinstance(source, VideoPicture):
            return read.read_frame(source, layer=layer, matte=matte)
        _refuse_layer(source, layer)
        frame = self._reader(source.path).frame(source.index)
        header = read_header(source)
        return replace(frame, metadata=dict(header.metadata))

    def matte(
        self, source: Source, *, layer: Optional[str] = None, channel: str = "auto"
    ) -> Pixels:
        """A hint or matte as (H, W, 1), by the rules of `image_io.read_matte`."""
        frame = self.frame(source, layer=layer, matte=True)
        return read.matte_of(frame, path_of(source), channel=channel)

    def close(self) -> None:
        """Close the videos."""
        with self._lock:
            readers, self._readers = list(self._readers.values()), {}
        for reader in readers:
            reader.close()

    def _reader(self, path: Path) -> VideoReader:
        with self._lock:
            if path not in self._readers:
                self._readers[path] = VideoReader(path, deinterlace=self._deinterlace)
            return self._readers[path]


def _metadata_at(header: FrameHeader, index: int) -> dict[str, Any]:
    """The video's metadata for one of its pictures, whose timecode is packed as in an EXR."""
    carried = dict(header.metadata)
    text = carried.pop("timecode", None)
    if text:
        rate = Fraction(*carried["FramesPerSecond"])
        packed = timecodes.pack(timecodes.later(text, index, rate))
        if packed is not None:
            carried["smpte:TimeCode"] = packed
    return carried
