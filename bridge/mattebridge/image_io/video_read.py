"""Videos in: the pictures of a file by their position, each exactly the one that was asked for.

    probe:  the time stamp of every picture, in the order in which they are shown: from a mov's
            index where it has them, else by reading all packets once
    read:   seek back to a key frame -> decode forward to that time stamp -> RGB(A) -> upright

A position is an index into that list of time stamps: 0 is the first picture shown, whatever number
the container gives it, and pictures that an edit list hides do not count. In files of variable rate
a seek by frame number or by seconds may find another picture; a seek by time stamp does not.

Pictures come in the codec's own depth (8 bits as uint8, more as uint16), display-encoded, straight
alpha, top row first, upright (video_pictures.py). The rule that must not be broken: a position
gives its own picture or an error, never a neighbour.

PyAV is imported only inside functions: it is the optional extra `video`.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mattebridge.errors import FrameReadError, UsageError
from mattebridge.image_io.frame import Frame, FrameHeader, unreadable
from mattebridge.image_io.video_pictures import (
    Orientation,
    colorspace_of,
    has_alpha,
    is_wide,
    opened,
    orientation_of,
    pixels_of,
    siting_of,
    unread_colours,
)
from mattebridge.image_io.ycbcr import Siting

VIDEO_EXTENSIONS = (".mov", ".mp4", ".m4v", ".mkv", ".webm", ".avi", ".mxf")
INSTALL = "pip install 'mattebridge[video]'"
# Decoded pictures that are kept, for callers that read a little out of order.
KEPT_PICTURES = 8
# Further ahead than this, seeking is cheaper than decoding what lies between.
SEEK_AHEAD = 48
# Codecs without reordering, besides those that FFmpeg calls intra-only.
_IN_ORDER = ("png", "cfhd", "qtrle")


@dataclass(frozen=True)
class VideoInfo:
    """Everything about a video except its pictures.

    width, height: upright. times: of every picture, in ticks of `clock` seconds. rate: frames a
    second, the average one where the rate varies (`is_constant` is False). orientation: how stored
    pictures become upright. siting: where their chroma lies. dtype: "uint8" or "uint16".
    unknown_because: why the colour space is "unknown".
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
    unknown_because: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        return len(self.times)

    def seconds(self, index: int) -> float:
        """When a picture is shown; for an index beyond the last one, when that ends."""
        if index < self.frames:
            return float(self.times[index] * self.clock)
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
    except OSError as failure:
        raise unreadable(path, (failure.strerror or "no access").lower()) from failure
    return _probed(path, status.st_size, status.st_mtime_ns)


class VideoReader:
    """The pictures of one video, for any number of threads; reading in order is quickest."""

    def __init__(self, path: Path) -> None:
        self.info = probe(path)
        self._file: Any = None
        self._decoded: Iterator[Any] = iter(())
        self._next = 0
        self._kept: OrderedDict[int, Any] = OrderedDict()
        self._positions = {time: index for index, time in enumerate(self.info.times)}
        self._lock = threading.Lock()

    def frame(self, index: int) -> Frame:
        """One picture. Raises `FrameReadError` naming file and position."""
        if not 0 <= index < self.info.frames:
            raise unreadable(self.info.path, f"it has no picture {index}, only {self._range}")
        with self._lock, _translated(self.info.path, index):
            decoded = self._find(index)
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

    def _find(self, index: int) -> Any:
        if index in self._kept:
            return self._kept[index]
        if self._file is not None and self._next <= index < self._next + SEEK_AHEAD:
            # A damaged picture before this one is an error only for who asks for it.
            with contextlib.suppress(FrameReadError, OSError, ValueError):
                return self._onward(index)
        self._seek(index)
        return self._onward(index)

    def _onward(self, index: int) -> Any:
        # If decoding fails, the next call must seek.
        self._next = self.info.frames
        for decoded in self._decoded:
            position = self._positions[decoded.pts]
            if position > index or decoded.is_corrupt:
                break
            self._kept[position] = decoded
            while len(self._kept) > KEPT_PICTURES:
                self._kept.popitem(last=False)
            if position == index:
                self._next = position + 1
                return decoded
        raise _damaged(self.info.path, index)

    def _seek(self, index: int) -> None:
        if self._file is None:
            self._file = opened(self.info.path)
            self._file.streams.video[0].thread_type = "AUTO"
        stream = self._file.streams.video[0]
        self._file.seek(self.info.times[index], stream=stream, backward=True)
        self._decoded = self._shown(_decoded(self._file, stream))
        self._next = index

    def _shown(self, decoded: Iterator[Any]) -> Iterator[Any]:
        """Decoded pictures without those whose time stamp is not in the list."""
        return (picture for picture in decoded if picture.pts in self._positions)


# ----------------------------------------------------------------------------------------- probing


class _Packets(NamedTuple):
    """Times of the pictures that are shown; how many have no time; how many are stored."""

    times: tuple[int, ...]
    untimed: int = 0
    stored: int = 0


@lru_cache(maxsize=64)
def _probed(path: Path, size: int, mtime_ns: int) -> VideoInfo:
    _require_av()
    with _translated(path), opened(path) as source:
        if not source.streams.video:
            raise unreadable(path, "it holds no video")
        stream = source.streams.video[0]
        packets = _packets(source, stream)
        if not packets.times or packets.untimed:
            raise unreadable(path, "its pictures have no time stamps; convert it to mov or mkv")
        _refuse_cut_short(path, stream, packets)
        source.seek(packets.times[0], stream=stream, backward=True)
        decoded = _decoded(source, stream)
        first = next((each for each in decoded if each.pts == packets.times[0]), None)
        if first is None:
            raise _damaged(path, 0)
        if unread_colours(first):
            raise unreadable(
                path, f"{unread_colours(first)}; convert it to Rec.709, such as ProRes"
            )
        return _info(path, source, stream, packets.times, first)


def _decoded(source: Any, stream: Any) -> Iterator[Any]:
    """Pictures from the file's position on, in the order in which they are shown."""
    if stream.metadata.get("alpha_mode") != "1":
        yield from source.decode(stream)
        return
    import av

    # FFmpeg's own VP8 and VP9 decoders drop alpha; libvpx decodes it.
    decoder: Any = av.CodecContext.create(
        f"libvpx{'' if stream.codec_context.name == 'vp8' else '-vp9'}", "r"
    )
    for packet in source.demux(stream):
        yield from decoder.decode(packet if packet.size else None)


def _packets(source: Any, stream: Any) -> _Packets:
    times = _indexed(source, stream)
    if times is not None:
        return _Packets(times, stored=stream.frames)
    return _read_through(source, stream)


def _indexed(source: Any, stream: Any) -> Optional[tuple[int, ...]]:
    """The times from the index of a mov, without reading the packets.

    Only for codecs that store pictures in the order in which they are shown, because the index has
    the times of decoding. None without such an index, or where the file ends before one of its
    pictures.
    """
    codec, entries = stream.codec_context.codec, stream.index_entries
    if "mov" not in source.format.name.split(",") or not (
        codec.intra_only or codec.name in _IN_ORDER
    ):
        return None
    if not stream.frames or len(entries) != stream.frames:
        return None
    if any(entry.pos + entry.size > source.size for entry in entries):
        return None
    return tuple(sorted({entry.timestamp for entry in entries if not entry.is_discard}))


def _read_through(source: Any, stream: Any) -> _Packets:
    times, untimed, count = set(), 0, 0
    for packet in source.demux(stream):
        count += bool(packet.size)
        if packet.pts is not None and not packet.is_discard:
            times.add(packet.pts)
        elif packet.size and packet.pts is None:
            untimed += 1
    return _Packets(tuple(sorted(times)), untimed, count)


def _refuse_cut_short(path: Path, stream: Any, packets: _Packets) -> None:
    """Raise where the file holds fewer pictures than its header states, as after a partial copy."""
    if packets.stored < stream.frames:
        why = f"its header states {stream.frames} pictures and it holds {packets.stored}"
        raise unreadable(path, f"{why}: it is cut short; render or copy it again")
    stated = _stated_duration_s(stream)
    if not stated or len(packets.times) < 2:
        return
    shown = float((packets.times[-1] - packets.times[0]) * stream.time_base)
    step = shown / (len(packets.times) - 1)
    if stated > shown + max(3 * step, 0.5):
        raise unreadable(
            path,
            f"its header states {stated:.2f} s and its pictures end after {shown + step:.2f} s:"
            " it is cut short; render or copy it again",
        )


def _stated_duration_s(stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    with contextlib.suppress(ValueError):
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return 0.0


def _info(path: Path, source: Any, stream: Any, times: tuple[int, ...], first: Any) -> VideoInfo:
    clock = Fraction(stream.time_base)
    rate, is_constant = _rate(stream, times, clock)
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
        times=times,
        clock=clock,
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
        metadata=_metadata(source, stream, rate),
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


def _metadata(source: Any, stream: Any, rate: Fraction) -> dict[str, Any]:
    """What the outputs get, under the names of EXR; `timecode` is that of the first picture."""
    carried: dict[str, Any] = {"FramesPerSecond": (rate.numerator, rate.denominator)}
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
