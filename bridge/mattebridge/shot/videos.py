"""The videos of a job: planned before the first frame, filled in frame order, whole or absent.

    frame threads:  matte --> code values --> wait for the turn --> encode --> next turn
    main thread:    when every frame is in: close and rename all

Frames end in any order and a video takes them in one, so each frame waits for its turn, behind all
gates. The earliest frame never waits, so the others always come to their turn. The rule that must
not be broken: no video is made of a shot in which a frame failed, since every later frame would be
shown at a wrong time. A video that cannot be written, as on a full disk, is given up alone: its
space is free again, and the others are made to the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Optional

from numpy.typing import NDArray

from mattebridge.errors import FrameWriteError, InputsError, MattebridgeError, UsageError
from mattebridge.image_io import FrameHeader, timecodes
from mattebridge.image_io.coded_colours import primaries_named
from mattebridge.image_io.sequences import FrameFiles, VideoPicture
from mattebridge.image_io.video_read import probe
from mattebridge.image_io.video_write import (
    VideoTimes,
    VideoWriter,
    check_size,
    check_sound,
    open_video,
    require,
)
from mattebridge.shot.gates import POLL_S
from mattebridge.shot.outputs import COLOURS, OutputFormat

Codes = NDArray[Any]

# For a sequence without a rate of its own.
DEFAULT_RATE = Fraction(24)
# Rates that are fractions and that people write as decimals.
_DECIMALS = {"23.976": (24000, 1001), "23.98": (24000, 1001), "29.97": (30000, 1001)}
_DECIMALS |= {"47.952": (48000, 1001), "59.94": (60000, 1001), "119.88": (120000, 1001)}


@dataclass(frozen=True)
class VideoPlan:
    """One video to be made.

    times: its rate and clock. primaries: the number for the tag, that of the plate. ticks: by
    frame, when it is shown; None for a constant rate. audio: the file that the sound is copied
    from, and from which second to which.
    """

    output: str
    path: Path
    form: OutputFormat
    width: int
    height: int
    times: VideoTimes
    pixel_aspect: float = 1.0
    primaries: int = 1
    ticks: Optional[Mapping[int, int]] = None
    timecode: str = ""
    audio: Optional[tuple[Path, float, float]] = None


def parse_rate(text: str) -> Fraction:
    """`24`, `30000/1001`, or a usual decimal such as 29.97. Raises `UsageError`."""
    try:
        rate = Fraction(*_DECIMALS[text]) if text in _DECIMALS else Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise UsageError(f"'{text}' is not a frame rate; give 24, 30000/1001 or 29.97")
    return rate


def plan_videos(
    paths: Mapping[str, Path],
    formats: Mapping[str, OutputFormat],
    plate: FrameFiles,
    headers: Mapping[int, FrameHeader],
    *,
    rate: Optional[Fraction] = None,
    audio: bool = True,
) -> list[VideoPlan]:
    """The videos of a job, checked without writing anything.

    paths: by output. headers: of the plate, by frame, in the order of the video. rate: by default
    that of the plate. Raises `UsageError` for a codec that is missing or does not take the size or
    the sound, and `InputsError` for frames of several sizes.
    """
    if not paths or not headers:
        return []
    first = next(iter(headers.values()))
    _refuse_mixed_sizes(headers)
    times, ticks = _times(plate, list(headers), first, rate)
    plans = []
    for output, path in paths.items():
        form = formats[output]
        assert form.video is not None
        require(form.video)
        check_size(form.video, first.width, first.height)
        sound = _audio(plate, list(headers)) if audio and output in COLOURS else None
        if sound is not None:
            check_sound(form.video, sound[0])
        plans.append(
            VideoPlan(
                output=output,
                path=path,
                form=form,
                width=first.width,
                height=first.height,
                times=times,
                ticks=ticks,
                pixel_aspect=first.pixel_aspect,
                primaries=primaries_named(first.metadata.get("chromaticities")),
                timecode=_timecode(first),
                audio=sound,
            )
        )
    return plans


def video_notes(files: FrameFiles, *, deinterlace: bool = False) -> list[str]:
    """What a user should know of an input that is a video, such as that it is interlaced."""
    if files.video is None:
        return []
    info = probe(files.video)
    notes = list(info.notes)
    if info.interlaced and not deinterlace:
        notes.append(
            "it is interlaced, and both fields of a picture are read as one;"
            " --deinterlace makes whole pictures of the first fields"
        )
    if deinterlace and not info.interlaced:
        notes.append(
            "its first picture is not marked as interlaced, and --deinterlace changes only those"
            " that are"
        )
    return [f"{files.video}: {note}" for note in notes]


def refuse_without_video(inputs: Iterable[FrameFiles]) -> None:
    """Raise `UsageError` for `--deinterlace` of pictures, which have no mark of their fields."""
    if all(files.video is None for files in inputs):
        raise UsageError(
            "--deinterlace is for videos, and the inputs are pictures;"
            " deinterlace them before, or leave it out"
        )


def _refuse_mixed_sizes(headers: Mapping[int, FrameHeader]) -> None:
    sizes: dict[tuple[int, int], int] = {}
    for frame, header in headers.items():
        sizes.setdefault((header.width, header.height), frame)
    if len(sizes) > 1:
        (one, frame), (two, other) = list(sizes.items())[:2]
        raise InputsError(
            f"a video has one size, and frame {frame} is {one[0]}x{one[1]} but frame {other}"
            f" {two[0]}x{two[1]}; choose an image format, or --frames of one size",
            field="plate",
        )


def _times(
    plate: FrameFiles, frames: Sequence[int], first: FrameHeader, rate: Optional[Fraction]
) -> tuple[VideoTimes, Optional[dict[int, int]]]:
    if rate is not None:
        return VideoTimes(rate), None
    if plate.video is None:
        return VideoTimes(_rate_of(first)), None
    info = probe(plate.video)
    indices = [_index(plate, frame) for frame in frames]
    if info.is_constant or not _are_successive(indices):
        return VideoTimes(info.rate), None
    start = info.times[indices[0]]
    ticks = {frame: info.times[index] - start for frame, index in zip(frames, indices)}
    return VideoTimes(info.rate, info.clock), ticks


def _rate_of(first: FrameHeader) -> Fraction:
    rate = first.metadata.get("FramesPerSecond")
    if isinstance(rate, tuple) and len(rate) == 2 and rate[0] > 0 and rate[1] > 0:
        return Fraction(int(rate[0]), int(rate[1]))
    return DEFAULT_RATE


def _index(plate: FrameFiles, frame: int) -> int:
    source = plate.files.get(frame)
    return source.index if isinstance(source, VideoPicture) else -1


def _are_successive(indices: Sequence[int]) -> bool:
    return list(indices) == list(range(indices[0], indices[0] + len(indices)))


def _audio(plate: FrameFiles, frames: Sequence[int]) -> Optional[tuple[Path, float, float]]:
    """The sound of these frames, if they follow each other in the video."""
    if plate.video is None:
        return None
    info, indices = probe(plate.video), [_index(plate, frame) for frame in frames]
    if not info.has_audio or not _are_successive(indices):
        return None
    return plate.video, info.seconds(indices[0]), info.seconds(indices[-1] + 1)


def _timecode(first: FrameHeader) -> str:
    packed = first.metadata.get("smpte:TimeCode")
    return timecodes.unpack(int(packed[0])) if isinstance(packed, tuple) else ""


class VideoSinks:
    """The videos of a running job. One lock orders the frames, and they are encoded under it.

    order: the frames as they are to be shown. texts: metadata. leave_if_stopped: raises `Cancelled`
    when the job was stopped. alone: the job makes nothing else. note: takes a sentence for the
    artist. `given_up` is the error of the frame for which no video is made, `failed` holds by
    output why a video could not be written.
    """

    def __init__(
        self,
        plans: Sequence[VideoPlan],
        order: Sequence[int],
        texts: Mapping[str, str],
        leave_if_stopped: Callable[[], None],
        *,
        alone: bool = True,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.outputs = tuple(plan.output for plan in plans)
        self.given_up: Optional[MattebridgeError] = None
        self.failed: dict[str, FrameWriteError] = {}
        self._plans = {plan.output: plan for plan in plans}
        self._writers: dict[str, VideoWriter] = {}
        self._order = list(order)
        self._turn = 0
        self._texts = texts
        self._leave_if_stopped = leave_if_stopped
        self._alone, self._note = alone, note
        self._changed = threading.Condition()

    def put(self, frame: int, codes: Mapping[str, Codes]) -> None:
        """Encode a frame once all earlier ones are in.

        Raises `FrameWriteError` where nothing is left that the job can make.
        """
        with self._changed:
            while self.given_up is None and self._order[self._turn] != frame:
                self._changed.wait(POLL_S)
                self._leave_if_stopped()
            if self.given_up is None:
                for output, pixels in codes.items():
                    self._add(output, pixels, frame)
                self._turn += 1
                self._changed.notify_all()
                if self._alone and len(self.failed) == len(self.outputs):
                    raise next(iter(self.failed.values()))

    def give_up(self, why: MattebridgeError) -> None:
        """A frame has failed: leave no video."""
        with self._changed:
            self.given_up = self.given_up or why
            self._changed.notify_all()
            self._discard()

    def close(self) -> dict[Path, int]:
        """Close every video and give it its name; sizes in bytes by path.

        Those that cannot be finished are in `failed`.
        """
        with self._changed:
            sizes = {}
            while self._writers:
                output, writer = self._writers.popitem()
                try:
                    sizes[self._plans[output].path] = writer.close()
                except FrameWriteError as failure:
                    self._fail(output, failure)
            return sizes

    def discard(self) -> None:
        """Remove every video that is not closed."""
        with self._changed:
            self._discard()

    def _add(self, output: str, pixels: Codes, frame: int) -> None:
        if output in self.failed:
            return
        ticks = self._plans[output].ticks
        try:
            self._writer(output).add(pixels, None if ticks is None else ticks[frame])
        except FrameWriteError as failure:
            self._fail(output, failure)

    def _fail(self, output: str, failure: FrameWriteError) -> None:
        """Give one video up and free its space."""
        writer = self._writers.pop(output, None)
        if writer is not None:
            writer.discard()
        self.failed[output] = failure
        if len(self.outputs) > len(self.failed) or not self._alone:
            self._note(f"{failure.message}; the {output} video is given up, the others go on")

    def _discard(self) -> None:
        while self._writers:
            self._writers.popitem()[1].discard()

    def _writer(self, output: str) -> VideoWriter:
        if output not in self._writers:
            self._writers[output] = self._open(self._plans[output])
        return self._writers[output]

    def _open(self, plan: VideoPlan) -> VideoWriter:
        assert plan.form.video is not None
        texts = dict(self._texts)
        if plan.timecode:
            texts["timecode"] = plan.timecode
        return open_video(
            plan.path,
            plan.form.video,
            width=plan.width,
            height=plan.height,
            times=plan.times,
            alpha=plan.output == "premultiplied",
            pixel_aspect=plan.pixel_aspect,
            primaries=plan.primaries,
            metadata=texts,
            audio=plan.audio,
        )
