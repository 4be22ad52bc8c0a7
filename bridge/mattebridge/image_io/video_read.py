"""Videos in: the pictures of a file by their position, each exactly the one that was asked for.

    probe:  the time stamp of every picture, in the order in which they are shown (video_times.py)
    read:   seek back to a key frame -> decode forward to that time stamp -> whole (deinterlace.py,
            on request) -> RGB(A) -> upright

A position is an index into that list of time stamps: 0 is the first picture shown, whatever number
the container gives it, and pictures that an edit list hides do not count. In files of variable rate
a seek by frame number or by seconds may find another picture; a seek by time stamp does not. Where
the time stamps are useless, pictures are counted from the first one on.

Pictures come in the codec's own depth (8 bits as uint8, more as uint16), display-encoded, straight
alpha, top row first, upright (video_pictures.py). The rule that must not be broken: a position
gives its own picture or an error, never a neighbour.

PyAV is imported only inside functions: it is the optional extra `video`.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import FrameReadError, UsageError
from mattebridge.image_io.deinterlace import deinterlaced
from mattebridge.image_io.frame import Frame, FrameHeader, unreadable
from mattebridge.image_io.video_pictures import (
    Orientation,
    chromaticities_of,
    colorspace_of,
    has_alpha,
    is_wide,
    opened,
    orientation_of,
    pixels_of,
    siting_of,
    unread_colours,
)
from mattebridge.image_io.video_times import (
    Timeline,
    decoded_pictures,
    refuse_cut_container,
    timeline,
)
from mattebridge.image_io.ycbcr import Siting

VIDEO_EXTENSIONS = (".mov", ".mp4", ".m4v", ".mkv", ".webm", ".avi", ".mxf")
INSTALL = "pip install 'mattebridge[video]'"
# Decoded pictures that are kept, for callers that read a little out of order.
KEPT_PICTURES = 8
# Further ahead than this, seeking is cheaper than decoding what lies between.
SEEK_AHEAD = 48
# A key frame may be shown behind pictures that are stored after it and need the one before it (an
# open group of pictures). These many pictures earlier is tried in turn; groups are rarely longer.
SEEK_BACK = (0, 1, 16, 300)


@dataclass(frozen=True)
class VideoInfo:
    """Everything about a video except its pictures.

    width, height: upright. times: of every picture, in ticks of `clock` seconds. rate: frames a
    second, the average one where the rate varies (`is_constant` is False). orientation: how stored
    pictures become upright. siting: where their chroma lies. dtype: "uint8" or "uint16".
    stream: the index of the stream. counted: `times` are positions among the decoded pictures.
    end: when the last picture ends, in ticks, where the file says it.
    interlaced: the first picture is marked so.
    unknown_because: why the colour space is "unknown". notes: what a user should know of the file.
    """

    path: Path
    width: int
    height: int
    times: tuple[int, ...]
    clock: Fraction
    rate: Fraction
    is_constant: bool
    dtype: str
    colorspace: str
    has_alpha: bool
    pixel_aspect: float
    orientation: Orientation
    siting: Siting
    codec: str
    has_audio: bool
    stream: int = 0
    counted: bool = False
    end: Optional[int] = None
    interlaced: bool = False
    unknown_because: str = ""
    notes: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return len(self.times)

    def seconds(self, index: int) -> float:
        """When a picture is shown; for an index beyond the last one, when that ends."""
        if index < self.frames:
            return float(self.times[index] * self.clock)
        if self.end is not None:
            return float(self.end * self.clock)
        return float(self.times[-1] * self.clock + 1 / self.rate)

    @property
    def header(self) -> FrameHeader:
        """The header that each of its pictures would have as a file."""
        window = (0, 0, self.width, self.height)
        return FrameHeader(
            path=self.path,
            width=self.width,
            height=self.height,
            channels=tuple("RGBA" if self.has_alpha else "RGB"),
            dtype=self.dtype,
            colorspace=self.colorspace,
            alpha="straight" if self.has_alpha else "opaque",
            data_window=window,
            display_window=window,
            pixel_aspect=self.pixel_aspect,
            metadata=self.metadata,
            unknown_because=self.unknown_because,
        )


def is_video(path: Path) -> bool:
    """Whether a file is a video, by its suffix."""
    return path.suffix.lower() in VIDEO_EXTENSIONS


def probe(path: Path) -> VideoInfo:
    """Everything about a video except its pictures; decodes one, and may read all packets once.

    Raises `FrameReadError` for a file that is damaged or unfinished, `UsageError` without PyAV.
    """
    try:
        status = path.stat()
        if not path.is_dir():
            with path.open("rb"):  # PyAV would call it unfinished where it may not be read
                pass
    except OSError as failure:
        raise unreadable(path, (failure.strerror or "no access").lower()) from failure
    return _probed(path, status.st_size, status.st_mtime_ns)


class VideoReader:
    """The pictures of one video, for any number of threads; reading in order is quickest.

    deinterlace: pictures that are marked as interlaced are made whole.
    """

    def __init__(self, path: Path, *, deinterlace: bool = False) -> None:
        self.info = probe(path)
        self._deinterlace = deinterlace
        self._file: Any = None
        self._decoded: Iterator[tuple[int, Any]] = iter(())
        self._next = 0
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._positions = {time: index for index, time in enumerate(self.info.times)}
        self._lock = threading.Lock()

    def frame(self, index: int) -> Frame:
        """One picture. Raises `FrameReadError` naming file and position."""
        if not 0 <= index < self.info.frames:
            raise unreadable(self.info.path, f"it has no picture {index}, only {self._range}")
        with self._lock, _translated(self.info.path, index):
            decoded = self._whole(index) if self._deinterlace else self._find(index)
        with _translated(self.info.path, index):
            pixels = pixels_of(decoded, self.info.siting, self.info.orientation)
        header = self.info.header
        return Frame(
            pixels=pixels,
            colorspace=header.colorspace,
            alpha=header.alpha,
            data_window=header.data_window,
            display_window=header.display_window,
            pixel_aspect=header.pixel_aspect,
            metadata=dict(header.metadata),
        )

    def close(self) -> None:
        """Close the file; the next picture opens it again."""
        with self._lock:
            self._kept.clear()
            self._decoded = iter(())
            if self._file is not None:
                self._file.close()
                self._file = None

    @property
    def _range(self) -> str:
        return f"0 to {self.info.frames - 1}"

    def _whole(self, index: int) -> Any:
        """A picture that is not interlaced any more, or never was."""
        asked = self._find(index)
        if not asked.interlaced_frame:
            return asked
        first, last = max(0, index - 1), min(index + 1, self.info.frames - 1)
        around = [self._find(each) for each in range(first, last + 1)]
        made = deinterlaced(around, index - first)
        if made is None:
            raise unreadable(
                self.info.path,
                f"pictures of the format {asked.format.name} cannot be deinterlaced here;"
                " convert it first, such as by ffmpeg -vf bwdif",
            )
        return made

    def _find(self, index: int) -> Any:
        if index in self._kept:
            return self._kept[index]
        ahead = self.info.frames if self.info.counted else SEEK_AHEAD
        if self._file is not None and self._next <= index < self._next + ahead:
            # A damaged picture before this one is an error only for a caller that asks for it.
            with contextlib.suppress(_NotReached, FrameReadError, OSError, ValueError):
                return self._onward(index)
        for back in (0,) if self.info.counted else SEEK_BACK:
            self._seek(index, back)
            with contextlib.suppress(_NotReached):
                return self._onward(index)
        raise _damaged(self.info.path, index)

    def _onward(self, index: int) -> Any:
        # If decoding fails, the next call must seek.
        self._next = self.info.frames
        for position, decoded in self._decoded:
            if position > index or decoded.is_corrupt:
                raise _NotReached
            self._kept[position] = decoded
            while len(self._kept) > KEPT_PICTURES:
                self._kept.popitem(last=False)
            if position == index:
                self._next = position + 1
                return decoded
        raise _damaged(self.info.path, index)

    def _seek(self, index: int, back: int = 0) -> None:
        """Go to the key frame before a picture, or before one that lies `back` pictures earlier."""
        info = self.info
        if info.counted and self._file is not None:
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = opened(info.path)
            self._file.streams[info.stream].thread_type = "AUTO"
        stream = self._file.streams[info.stream]
        if info.counted:
            self._decoded = enumerate(decoded_pictures(self._file, stream))
        else:
            self._file.seek(info.times[max(0, index - back)], stream=stream, backward=True)
            self._decoded = self._shown(decoded_pictures(self._file, stream))
        self._next = index

    def _shown(self, decoded: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        """Pictures with their positions, without those whose time stamp is not in the list."""
        for picture in decoded:
            position = self._positions.get(picture.pts)
            if position is not None:
                yield position, picture


# ----------------------------------------------------------------------------------------- probing


@lru_cache(maxsize=64)
def _probed(path: Path, size: int, mtime_ns: int) -> VideoInfo:
    _require_av()
    with _translated(path), opened(path) as source:
        refuse_cut_container(path, source)
        index, notes = _chosen(path)
        stream = source.streams[index]
        line = timeline(path, source, stream)
        first = _first(path, stream.index, line)
        unread = unread_colours(first)
        if unread:
            raise unreadable(path, f"{unread}; convert it to Rec.709, such as ProRes")
        return _info(path, source, stream, line, first, tuple(notes))


def _chosen(path: Path) -> tuple[int, list[str]]:
    """The index of the stream to read, which is no cover, and the note about the choice."""
    with opened(path) as source:
        return _chosen_of(path, source)


def _chosen_of(path: Path, source: Any) -> tuple[int, list[str]]:
    from av.stream import Disposition

    streams = list(source.streams.video)
    moving = [each for each in streams if not each.disposition & Disposition.attached_pic]
    if not moving:
        what = "no video, only a cover picture" if streams else "no video"
        raise unreadable(path, f"it holds {what}; give a video or pictures")
    if len(moving) == 1:
        return int(moving[0].index), []
    # A cover that is stored as a track of its own has one picture.
    pictures = Counter(packet.stream.index for packet in source.demux(*moving) if packet.size)
    chosen = next((each for each in moving if pictures[each.index] > 1), moving[0])
    what = f"{chosen.codec_context.name} {chosen.codec_context.width}x{chosen.codec_context.height}"
    place = moving.index(chosen) + 1
    return int(chosen.index), [
        f"it holds {len(moving)} videos; number {place} of them is taken ({what})"
    ]


def _first(path: Path, index: int, line: Timeline) -> Any:
    """The first picture, decoded."""
    with opened(path) as source:
        stream = source.streams[index]
        if not line.counted:
            source.seek(line.times[0], stream=stream, backward=True)
        for picture in decoded_pictures(source, stream):
            if line.counted or picture.pts == line.times[0]:
                return picture
    raise _damaged(path, 0)


def _info(
    path: Path, source: Any, stream: Any, line: Timeline, first: Any, notes: tuple[str, ...]
) -> VideoInfo:
    rate, is_constant = _rate(stream, line.times, line.clock)
    orientation = orientation_of(first)
    if orientation is None:
        raise unreadable(path, "it is turned by an odd angle; render it upright")
    width, height = first.width, first.height
    aspect = float(stream.sample_aspect_ratio or 1) or 1.0
    if orientation.exchanged:
        width, height, aspect = height, width, 1 / aspect
    colorspace, unknown_because = colorspace_of(first)
    return VideoInfo(
        path=path,
        width=width,
        height=height,
        stream=stream.index,
        times=line.times,
        clock=line.clock,
        counted=line.counted,
        end=line.end,
        rate=rate,
        is_constant=is_constant,
        dtype="uint16" if is_wide(first) else "uint8",
        colorspace=colorspace,
        unknown_because=unknown_because,
        has_alpha=has_alpha(first.format.name),
        pixel_aspect=aspect,
        orientation=orientation,
        siting=siting_of(stream),
        codec=stream.codec_context.name,
        has_audio=bool(source.streams.audio),
        interlaced=bool(first.interlaced_frame),
        notes=notes,
        metadata=_metadata(source, stream, rate, first),
    )


def _rate(stream: Any, times: tuple[int, ...], clock: Fraction) -> tuple[Fraction, bool]:
    """Frames a second, and whether every picture is shown when that rate says."""
    rate = stream.guessed_rate or stream.average_rate
    if len(times) < 2:
        return Fraction(rate or 24), True
    # Containers round times to their clock, Matroska to milliseconds.
    for candidate in (stream.guessed_rate, stream.average_rate, _mean_rate(times, clock)):
        if candidate and _fits(Fraction(candidate), times, clock):
            return Fraction(candidate), True
    return _mean_rate(times, clock), False


def _mean_rate(times: tuple[int, ...], clock: Fraction) -> Fraction:
    return Fraction(len(times) - 1) / ((times[-1] - times[0]) * clock)


def _fits(rate: Fraction, times: tuple[int, ...], clock: Fraction) -> bool:
    ticks = 1 / (rate * clock)
    return all(abs(time - times[0] - index * ticks) <= 1 for index, time in enumerate(times))


def _metadata(source: Any, stream: Any, rate: Fraction, first: Any) -> dict[str, Any]:
    """What the outputs get, under the names of EXR; `timecode` is that of the first picture."""
    carried: dict[str, Any] = {"FramesPerSecond": (rate.numerator, rate.denominator)}
    chromaticities = chromaticities_of(first)
    if chromaticities is not None:
        carried["chromaticities"] = chromaticities
    everywhere = {**source.metadata, **stream.metadata}
    for other in source.streams:
        everywhere.setdefault("timecode", other.metadata.get("timecode", ""))
    if everywhere.get("timecode"):
        carried["timecode"] = everywhere["timecode"]
    return carried


# ------------------------------------------------------------------------------------------ errors


def _require_av() -> None:
    try:
        import av  # noqa: F401 - only whether it is there
    except ImportError as failure:
        raise UsageError(f"reading videos needs PyAV: {INSTALL}") from failure


@contextlib.contextmanager
def _translated(path: Path, index: Optional[int] = None) -> Iterator[None]:
    """Failures of PyAV as `FrameReadError`; index: of the picture that is being read."""
    try:
        yield
    except FrameReadError:
        raise
    except (OSError, ValueError) as failure:
        if index is not None:
            raise _damaged(path, index) from failure
        reason = " ".join(str(failure).split())[:160]
        raise unreadable(
            path, f"it is not a finished video ({reason}); render or copy it again"
        ) from failure


def _damaged(path: Path, index: int) -> FrameReadError:
    return unreadable(path, f"picture {index} is damaged or missing; render or copy it again")


class _NotReached(Exception):
    """Decoding from here does not give the picture; from an earlier key frame it may."""
