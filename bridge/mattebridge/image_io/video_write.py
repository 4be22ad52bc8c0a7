"""Videos out: frames in order into one file that is whole or absent.

    add(pixels) --quantise--> RGB(A) codes --reformat--> codec --> .take.mov.<host>-<pid>.tmp
    close() --> count the frames in the file --> fsync, rename

Pixels are code values as a display shows them: sRGB-encoded, straight alpha, top row first. A matte
of one channel becomes three equal ones, without a curve. YUV is written as Rec.709, limited range,
with tags on the stream and on every frame (the ProRes encoder ignores those of the stream). No
container has a tag for straight alpha; it is always straight here.

A video that is not closed leaves no file: a half-written one under the final name would look like a
short take. The rule that must not be broken: a file under the final name has been opened again and
holds every frame that was added.

PyAV is needed for all formats but `mp4v`, which OpenCV writes where PyAV is missing. PyAV is
imported only inside functions: it is the optional extra `video`.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np

from mattebridge.color import Pixels
from mattebridge.errors import FrameReadError, FrameWriteError, UsageError
from mattebridge.image_io.samples import rescaled
from mattebridge.image_io.video_pictures import frame_of, opened
from mattebridge.whole_files import GrowingFile, write_error

INSTALL = "pip install 'mattebridge[video]'"
# Rec.709 in the numbers of ISO 23001-8, and for RGB codecs the sRGB curve with no matrix.
_BT709, _SRGB_CURVE, _RGB_MATRIX = 1, 13, 0
_LIMITED, _FULL = 1, 2
# The finest clock that MPEG-4 part 2 can hold.
_MPEG4_CLOCK = 65_535


@dataclass(frozen=True)
class VideoFormat:
    """A codec in a container, by the name that `--format` takes.

    plain, with_alpha: pixel formats for three and four channels; with_alpha is empty where the
    codec has no alpha. depth: bits of the code values that are encoded. even: width and height must
    be even.
    """

    name: str
    suffix: str
    container: str
    codec: str
    plain: str
    with_alpha: str = ""
    depth: int = 8
    even: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    summary: str = ""

    @property
    def has_alpha(self) -> bool:
        return bool(self.with_alpha)

    @property
    def dtype(self) -> str:
        return "uint8" if self.depth == 8 else "uint16"


# Texts under their own names, and colour tags: neither is written by default.
_MOV_OPTIONS = {"movflags": "+use_metadata_tags+write_colr"}
_CONTAINER_OPTIONS = {"mov": _MOV_OPTIONS, "mp4": _MOV_OPTIONS}
_QUIET = {"x265-params": "log-level=error"}
_ALL = (
    VideoFormat(
        "h264", ".mp4", "mp4", "libx264", "yuv420p", even=True, options={"crf": "16"},
        summary="H.264, 8-bit 4:2:0",
    ),
    VideoFormat(
        "h264-444", ".mp4", "mp4", "libx264", "yuv444p10le", depth=10, options={"crf": "14"},
        summary="H.264, 10-bit 4:4:4",
    ),
    VideoFormat(
        "h265", ".mp4", "mp4", "libx265", "yuv420p10le", depth=10, even=True,
        options={"crf": "18", **_QUIET}, summary="H.265, 10-bit 4:2:0",
    ),
    VideoFormat(
        "prores4444", ".mov", "mov", "prores_ks", "yuv444p10le", "yuva444p10le", 10,
        options={"profile": "4444", "alpha_bits": "16"}, summary="ProRes 4444 with alpha",
    ),
    VideoFormat(
        "prores422hq", ".mov", "mov", "prores_ks", "yuv422p10le", depth=10, even=True,
        options={"profile": "hq"}, summary="ProRes 422 HQ",
    ),
    VideoFormat(
        "ffv1", ".mkv", "matroska", "ffv1", "bgr0", "bgra", summary="lossless 8-bit with alpha"
    ),
    VideoFormat(
        "ffv1-16", ".mkv", "matroska", "ffv1", "gbrp16le", "gbrap16le", 16,
        summary="lossless 16-bit with alpha",
    ),
    VideoFormat(
        "qtrle", ".mov", "mov", "qtrle", "rgb24", "argb",
        summary="lossless 8-bit with alpha, fastest and biggest",
    ),
    VideoFormat("png-mov", ".mov", "mov", "png", "rgb24", "rgba", summary="lossless 8-bit"),
    VideoFormat(
        "cineform", ".mov", "mov", "cfhd", "gbrp12le", "gbrap12le", 12,
        summary="CineForm 12-bit with alpha",
    ),
    VideoFormat(
        "dnxhr", ".mov", "mov", "dnxhd", "yuv422p10le", depth=10, even=True,
        options={"profile": "dnxhr_hqx"}, summary="DNxHR HQX",
    ),
    VideoFormat(
        "dnxhr-444", ".mov", "mov", "dnxhd", "yuv444p10le", depth=10,
        options={"profile": "dnxhr_444"}, summary="DNxHR 444",
    ),
    VideoFormat(
        "vp9", ".webm", "webm", "libvpx-vp9", "yuv420p", "yuva420p", even=True,
        options={"crf": "18", "b": "0"}, summary="VP9 with alpha",
    ),
    VideoFormat(
        "mp4v", ".mp4", "mp4", "mpeg4", "yuv420p", even=True, options={"q": "3"},
        summary="MPEG-4 part 2, a preview that everything plays",
    ),
)  # fmt: skip
VIDEO_FORMATS: Mapping[str, VideoFormat] = {entry.name: entry for entry in _ALL}


@dataclass(frozen=True)
class VideoTimes:
    """When frames are shown: at a rate, or (variable rate) at the ticks of a clock.

    rate: frames a second as a fraction: 29.97 is 30000/1001. clock: seconds per tick, for the ticks
    given to `add`; None where frames follow at the rate.
    """

    rate: Fraction
    clock: Optional[Fraction] = None


# ------------------------------------------------------------------------------- what is possible


def require(form: VideoFormat) -> None:
    """Raise `UsageError` for a format that cannot be written here, naming those that can."""
    av = _av_or_none()
    if av is None:
        if form.name != "mp4v":
            raise UsageError(f"{form.name} needs PyAV: {INSTALL} (mp4v is written without it)")
        return
    if not _has_encoder(av, form.codec):
        names = ", ".join(name for name in VIDEO_FORMATS if is_present(VIDEO_FORMATS[name]))
        raise UsageError(
            f"this PyAV has no encoder {form.codec} for {form.name}; it can write: {names}"
        )


def is_present(form: VideoFormat) -> bool:
    """Whether the format can be written here."""
    av = _av_or_none()
    return form.name == "mp4v" if av is None else _has_encoder(av, form.codec)


def check_size(form: VideoFormat, width: int, height: int) -> None:
    """Raise `UsageError` for a size that the codec refuses or, worse, cuts off."""
    if form.even and (width % 2 or height % 2):
        raise UsageError(
            f"{form.name} takes even sizes only and the plate is {width}x{height};"
            " choose prores4444, ffv1 or h264-444, or crop the plate"
        )
    if form.codec == "dnxhd" and (width < 256 or height < 120):
        raise UsageError(f"{form.name} needs at least 256x120 and the plate is {width}x{height}")


def check_sound(form: VideoFormat, source: Path) -> None:
    """Raise `UsageError` for sound that the container cannot hold."""
    require(form)
    import av

    with opened(source) as given, av.open(io.BytesIO(), "w", format=form.container) as probe:
        _add_sound(probe, given, form, source)


def open_video(
    path: Path,
    form: VideoFormat,
    *,
    width: int,
    height: int,
    times: VideoTimes,
    alpha: bool = False,
    pixel_aspect: float = 1.0,
    primaries: int = _BT709,
    metadata: Optional[Mapping[str, str]] = None,
    audio: Optional[Sequence[Any]] = None,
) -> VideoWriter:
    """A writer that is given frames in order; `close` puts the video under `path`.

    alpha: frames have four channels. primaries: the number of ISO 23091-2 for the tag. metadata:
    texts for the container ("timecode" makes a timecode track). audio: `(video, start_s, end_s)`,
    whose sound between those times is copied.
    Raises `UsageError` for what the format cannot hold, `FrameWriteError` for a folder that cannot
    be written to.
    """
    require(form)
    check_size(form, width, height)
    if alpha and not form.has_alpha:
        raise UsageError(f"{form.name} holds no alpha; choose prores4444, ffv1 or qtrle")
    target = GrowingFile(path)
    try:
        if _av_or_none() is None:
            return _OpenCvWriter(target, form, width, height, times)
        texts = dict(metadata or {})
        given = _Given(width, height, times, alpha, pixel_aspect, primaries, texts, audio)
        return _AvWriter(target, form, given)
    except BaseException:
        target.discard()
        raise


class VideoWriter:
    """Writes frames in order into one video; `close` or `discard` must be called at the end."""

    def __init__(self, target: GrowingFile, form: VideoFormat, size: tuple[int, int]) -> None:
        self.path = target.path
        self.frames = 0
        self._target, self._form, self._size = target, form, size

    def add(self, codes: Pixels, tick: Optional[int] = None) -> None:
        """Add one frame: (H, W, 1|3|4) uint8 or uint16 code values; tick: when it is shown."""
        width, height = self._size
        if codes.shape[:2] != (height, width):
            found = f"{codes.shape[1]}x{codes.shape[0]}"
            raise FrameWriteError(
                f"cannot write {self.path}: frame {self.frames + 1} is {found} and the video"
                f" {width}x{height}; write an image format for plates of several sizes",
                path=str(self.path),
            )
        with self._translated():
            self._add(_in_depth(codes, self._form), tick)
        self.frames += 1

    def close(self) -> int:
        """Finish the file, count its frames and give it its name; its size in bytes."""
        with self._discarded_on_error(), self._translated():
            self._finish()
            found = _count_frames(self._target.temporary)
            if found != self.frames:
                raise FrameWriteError(
                    f"cannot write {self.path}: {found} of {self.frames} frames are in the file",
                    path=str(self.path),
                )
            return self._target.commit()

    def discard(self) -> None:
        """Leave nothing on disk."""
        with contextlib.suppress(Exception):
            self._abandon()
        self._target.discard()

    def _add(self, codes: Pixels, tick: Optional[int]) -> None:
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError

    def _abandon(self) -> None:
        raise NotImplementedError

    @contextlib.contextmanager
    def _discarded_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.discard()
            raise

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Failures of PyAV, which are OSErrors and ValueErrors, as `FrameWriteError`."""
        try:
            yield
        except FrameWriteError:
            raise
        except FrameReadError as damaged:
            raise FrameWriteError(f"written, but {damaged.message}") from damaged
        except OSError as failure:
            raise write_error(self.path, failure) from failure
        except ValueError as failure:
            raise FrameWriteError(
                f"cannot write {self.path}: the encoder refused it ({failure})", path=str(self.path)
            ) from failure


# --------------------------------------------------------------------------------------- with PyAV


@dataclass(frozen=True)
class _Given:
    """The arguments of `open_video`."""

    width: int
    height: int
    times: VideoTimes
    alpha: bool
    pixel_aspect: float
    primaries: int
    metadata: Mapping[str, str]
    audio: Optional[Sequence[Any]]


class _AvWriter(VideoWriter):
    def __init__(self, target: GrowingFile, form: VideoFormat, given: _Given) -> None:
        super().__init__(target, form, (given.width, given.height))
        self._given = given
        self._pixel_format = form.with_alpha if given.alpha else form.plain
        self._is_rgb = not self._pixel_format.startswith("yuv")
        self._clock = given.times.clock or 1 / given.times.rate
        if form.codec == "mpeg4" and self._clock.denominator > _MPEG4_CLOCK:
            raise UsageError(
                f"{form.name} cannot hold the times of this variable-rate video; choose h264"
            )
        # Bit-exact: without random ids and dates, so that equal frames are equal files.
        self._file = opened(
            target.temporary,
            "w",
            format=form.container,
            options={"fflags": "+bitexact", **_CONTAINER_OPTIONS.get(form.container, {})},
        )
        self._stream = self._add_stream()
        self._has_packets = False
        self._file.metadata.update(given.metadata)
        self._audio = _Audio(self._file, given.audio, form) if given.audio else None

    def _add_stream(self) -> Any:
        given = self._given
        stream: Any = self._file.add_stream(
            self._form.codec, rate=given.times.rate, options=dict(self._form.options)
        )
        stream.width, stream.height = given.width, given.height
        stream.pix_fmt = self._pixel_format
        if given.times.clock is not None:
            stream.time_base = given.times.clock
            stream.codec_context.time_base = given.times.clock
        aspect = Fraction(given.pixel_aspect).limit_denominator(1000)
        if aspect != 1:
            stream.codec_context.sample_aspect_ratio = aspect
        if self._form.codec == "libx265":
            stream.codec_context.codec_tag = "hvc1"  # the only one that QuickTime plays
        self._tag(stream.codec_context)
        return stream

    def _tag(self, target: Any) -> None:
        """Tag the stream or a frame with its colour space and range."""
        target.color_primaries = self._given.primaries
        target.color_trc = _SRGB_CURVE if self._is_rgb else _BT709
        target.colorspace = _RGB_MATRIX if self._is_rgb else _BT709
        target.color_range = _FULL if self._is_rgb else _LIMITED

    def _add(self, codes: Pixels, tick: Optional[int]) -> None:
        frame = self._converted(codes)
        self._tag(frame)
        frame.time_base = self._clock
        frame.pts = self.frames if tick is None else tick
        if self._audio is not None:
            self._audio.copy_until(float(frame.pts * self._clock))
        packets = self._stream.encode(frame)
        self._has_packets = self._has_packets or bool(packets)
        self._file.mux(packets)

    def _converted(self, codes: Pixels) -> Any:
        return frame_of(codes, self._pixel_format, _BT709)

    def _finish(self) -> None:
        packets = self._stream.encode(None)
        if self._form.codec == "libx265" and not self._has_packets:
            _set_decoding_times(packets)
        self._file.mux(packets)
        if self._audio is not None:
            self._audio.copy_until(None)
            self._audio.close()
        self._file.close()

    def _abandon(self) -> None:
        if self._audio is not None:
            self._audio.close()
        self._file.close()


def _set_decoding_times(packets: Sequence[Any]) -> None:
    """Set when the packets of a whole video are decoded, in ticks, by when they are shown.

    x265 gives those of a video that is shorter than its own delay from memory that was never set.
    """
    shown = sorted(packet.pts for packet in packets)
    early = max((at - packet.pts for at, packet in zip(shown, packets)), default=0)
    for at, packet in zip(shown, packets):
        packet.dts = at - early


class _Audio:
    """The sound of another video, copied packet by packet beside the frames."""

    def __init__(self, target: Any, given: Sequence[Any], form: VideoFormat) -> None:
        source, self._start_s, self._end_s = given
        self._source = opened(source)
        self._target = target
        try:
            self._streams = _add_sound(target, self._source, form, source)
        except UsageError:
            self.close()
            raise
        self._packets = self._wanted()
        self._next: Optional[Any] = next(self._packets, None)

    def copy_until(self, seconds: Optional[float]) -> None:
        """Copy the sound before a time of the new video; None: all that is left."""
        while self._next is not None and (seconds is None or self._at(self._next) < seconds):
            packet, self._next = self._next, None
            self._copy(packet)
            self._next = next(self._packets, None)

    def _wanted(self) -> Iterator[Any]:
        if not self._streams:
            return
        for packet in self._source.demux(*self._source.streams.audio):
            if packet.pts is None:
                continue
            at = float(packet.pts * packet.time_base)
            if at >= self._end_s:
                return
            if at >= self._start_s or at < 0 == self._start_s:
                yield packet

    def _at(self, packet: Any) -> float:
        return float(packet.pts * packet.time_base) - self._start_s

    def _copy(self, packet: Any) -> None:
        shift = round(self._start_s / packet.time_base)
        stream = self._streams[packet.stream.index]
        packet.pts -= shift
        if packet.dts is not None:
            packet.dts -= shift
        packet.stream = stream
        self._target.mux(packet)

    def close(self) -> None:
        self._source.close()


def _add_sound(target: Any, given: Any, form: VideoFormat, source: Path) -> dict[int, Any]:
    """A stream in `target` for every audio stream of `given`, by the index of that."""
    streams = {}
    for stream in given.streams.audio:
        try:
            streams[stream.index] = target.add_stream_from_template(stream)
        except (OSError, ValueError) as failure:
            raise UsageError(
                f"{form.suffix[1:]} cannot hold the {stream.codec_context.name} sound of {source};"
                " choose prores4444 or ffv1, or use --no-audio"
            ) from failure
    return streams


# -------------------------------------------------------------------------------------- without it


class _OpenCvWriter(VideoWriter):
    """`mp4v` where PyAV is missing: a preview without colour tags and without sound.

    OpenCV reports a frame of another size, a missing folder or a full disk only in the values that
    its calls return.
    """

    def __init__(
        self, target: GrowingFile, form: VideoFormat, width: int, height: int, times: VideoTimes
    ) -> None:
        super().__init__(target, form, (width, height))
        if times.clock is not None:
            raise UsageError(f"{form.name} without PyAV has one rate only: {INSTALL}")
        # OpenCV chooses the container by the suffix, and the temporary's own is another one.
        self._scratch = target.temporary.with_name(f"{target.temporary.name}.mp4")
        target.also(self._scratch)
        code = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
        self._writer = cv2.VideoWriter(
            os.path.abspath(self._scratch), cv2.CAP_FFMPEG, code, float(times.rate), (width, height)
        )
        if not self._writer.isOpened():
            raise FrameWriteError(f"cannot write {self.path}: this OpenCV writes no mp4v")

    def _add(self, codes: Pixels, tick: Optional[int]) -> None:
        if not self._writer.write(np.ascontiguousarray(codes[..., 2::-1])):
            raise FrameWriteError(
                f"cannot write {self.path}: frame {self.frames + 1} was refused; is the disk full?",
                path=str(self.path),
            )

    def _finish(self) -> None:
        self._writer.release()
        os.replace(self._scratch, self._target.temporary)

    def _abandon(self) -> None:
        self._writer.release()


# ----------------------------------------------------------------------------------------- helpers


def _in_depth(codes: Pixels, form: VideoFormat) -> Pixels:
    """Three or four channels, with the number of bits that the codec is given."""
    if codes.shape[2] == 1:
        codes = np.repeat(codes, 3, axis=2)
    return rescaled(codes, form.dtype)


def _count_frames(path: Path) -> int:
    """Frames in a file that was just written, as a reader counts them."""
    if _av_or_none() is None:
        capture = cv2.VideoCapture(os.path.abspath(path))
        try:
            return int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        finally:
            capture.release()
    with opened(path) as source:
        stream = source.streams.video[0]
        return sum(packet.pts is not None for packet in source.demux(stream))


def _av_or_none() -> Any:
    try:
        import av
    except ImportError:
        return None
    return av


def _has_encoder(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except ValueError:
        return False
    return True
