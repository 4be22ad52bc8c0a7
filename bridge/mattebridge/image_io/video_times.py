"""When the pictures of a video are shown, and whether all of them are in the file.

    container ends where it says --> times of the packets, or of the index --> last one ends when
    (container_ends.py)              the header says --> Timeline

Times are taken from a mov's index where it has them, else by reading all packets once. A picture
may be held for long: what counts is when the last packet says that it ends. Two things make times
useless: a container without any for pictures that are stored out of order (AVI; Matroska and MXF
that count packets as they are stored), and two pictures at one time. Then pictures are counted as
they are decoded, which decodes the whole file once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mattebridge.errors import FrameReadError
from mattebridge.image_io.container_ends import why_not_whole
from mattebridge.image_io.frame import unreadable
from mattebridge.image_io.video_pictures import opened

# Codecs without reordering, besides those that FFmpeg calls intra-only.
_IN_ORDER = ("png", "cfhd", "qtrle", "ffv1")
# Codecs whose pictures never end in this many zeros: after a copy that stopped, the last one may.
_LAST_BYTE_IS_SET = ("h264", "hevc", "mjpeg", "png", "ffv1")
_ZERO_TAIL_BYTES = 16
# A stated end may lie this many usual pictures behind the last one: durations are rounded.
_SLACK_PICTURES = 1.5
# Pictures whose time is compared with that of the packets: more than any codec reorders.
_COMPARED = 24


@dataclass(frozen=True)
class Timeline:
    """times: of every picture, ascending, in ticks of `clock` seconds.

    counted: they are positions among the decoded pictures, because the file's times are useless.
    end: when the last one ends, where the file says it.
    """

    times: tuple[int, ...]
    clock: Fraction
    counted: bool = False
    end: Optional[int] = None


class Packets(NamedTuple):
    """What the packets of a stream say.

    times: of the pictures that are shown. end: of the last one, in ticks. untimed: without a time.
    stored: packets that hold something. shown: those that an edit list does not hide.
    tail: the last bytes of the last packet.
    """

    times: tuple[int, ...]
    end: int = 0
    untimed: int = 0
    stored: int = 0
    shown: int = 0
    tail: bytes = b""


def refuse_cut_container(path: Path, source: Any) -> None:
    """Raise `FrameReadError` for a file that ends before its container does."""
    why = why_not_whole(path, source.format.name)
    if why:
        raise _cut_short(path, why)


def timeline(path: Path, source: Any, stream: Any) -> Timeline:
    """The times of a video's pictures. Raises `FrameReadError` for a file that is not whole."""
    why = _beyond_the_end(source, stream)
    if why:
        raise _cut_short(path, why)
    times = indexed(source, stream)
    if times is not None:
        return Timeline(times, Fraction(stream.time_base))
    packets = read_through(source, stream)
    _refuse_cut_short(path, source, stream, packets)
    if not packets.stored:
        raise unreadable(path, "its video has no pictures; render or copy it again")
    if _has_useless_times(source, stream, packets) or not _agree(path, stream, packets.times):
        return _counted(path, source, stream, packets)
    end = packets.end if packets.end > packets.times[-1] else None
    return Timeline(packets.times, Fraction(stream.time_base), end=end)


def decoded_pictures(source: Any, stream: Any) -> Iterator[Any]:
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


def indexed(source: Any, stream: Any) -> Optional[tuple[int, ...]]:
    """The times from the index of a mov, without reading the packets.

    Only for codecs that store pictures in the order in which they are shown, because the index has
    the times of decoding. None without such an index.
    """
    entries = stream.index_entries
    if not _is_mov(source) or not _is_in_order(stream):
        return None
    if not stream.frames or len(entries) != stream.frames:
        return None
    times = [entry.timestamp for entry in entries if not entry.is_discard]
    return tuple(sorted(times)) if times and len(set(times)) == len(times) else None


def read_through(source: Any, stream: Any) -> Packets:
    """What the packets say, from reading them all."""
    times, end, untimed, stored, shown, tail = set(), 0, 0, 0, 0, b""
    for packet in source.demux(stream):
        stored += bool(packet.size)
        tail = bytes(memoryview(packet)[-_ZERO_TAIL_BYTES:]) if packet.size else tail
        if not packet.size or packet.is_discard:
            continue
        shown += 1
        if packet.pts is None:
            untimed += 1
            continue
        times.add(packet.pts)
        end = max(end, packet.pts + (packet.duration or 0))
    return Packets(tuple(sorted(times)), end, untimed, stored, shown, tail)


def _is_mov(source: Any) -> bool:
    return "mov" in source.format.name.split(",")


def _is_in_order(stream: Any) -> bool:
    codec = stream.codec_context.codec
    return bool(codec.intra_only) or codec.name in _IN_ORDER


# --- whether it is whole --------------------------------------------------------------------------


def _cut_short(path: Path, why: str) -> FrameReadError:
    return unreadable(path, f"{why}: it is cut short; render or copy it again")


def _beyond_the_end(source: Any, stream: Any) -> str:
    """Of a mov whose index names pictures behind the end of the file, as after a partial copy."""
    if not _is_mov(source):
        return ""
    missing = sum(entry.pos + entry.size > source.size for entry in stream.index_entries)
    return f"its index has {missing} pictures behind the end of the file" if missing else ""


def _refuse_cut_short(path: Path, source: Any, stream: Any, packets: Packets) -> None:
    """Raise where the file holds less than its header states."""
    if packets.stored < stream.frames and not _is_avi(source):
        why = f"its header states {stream.frames} pictures and it holds {packets.stored}"
        raise _cut_short(path, why)
    if stream.codec_context.name in _LAST_BYTE_IS_SET and not any(packets.tail) and packets.tail:
        raise _cut_short(path, "its last picture ends in zeros")
    stated = _stated_end_s(source, stream)
    if not stated or len(packets.times) < 2 or (_is_mov(source) and stream.frames):
        return
    gaps = sorted(after - one for one, after in zip(packets.times, packets.times[1:]))
    usual = gaps[len(gaps) // 2]
    ended = max(packets.end, packets.times[-1] + usual)
    if stated / stream.time_base > ended + max(_SLACK_PICTURES * usual, 2):
        ended_s = float(ended * stream.time_base)
        raise _cut_short(
            path, f"its header states {float(stated):.2f} s and its pictures end at {ended_s:.2f} s"
        )


def _stated_end_s(source: Any, stream: Any) -> Fraction:
    """When the video ends by its header, 0 where that does not state it."""
    if stream.duration:
        return (stream.duration + (stream.start_time or 0)) * Fraction(stream.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")
    minutes, _, seconds = rest.partition(":")
    with contextlib.suppress(ValueError):
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds.strip())
    alone = len(source.streams) == 1 and source.duration
    return Fraction(source.duration, 1_000_000) if alone else Fraction(0)


# --- times that cannot be trusted -----------------------------------------------------------------


def _is_avi(source: Any) -> bool:
    return "avi" in source.format.name.split(",")


def _has_useless_times(source: Any, stream: Any, packets: Packets) -> bool:
    out_of_order = _is_avi(source) and not _is_in_order(stream)
    return out_of_order or bool(packets.untimed) or packets.shown != len(packets.times)


def _agree(path: Path, stream: Any, times: tuple[int, ...]) -> bool:
    """Whether the first pictures come out at these times, for codecs that store out of order.

    Some containers number packets as they are stored, and pictures then have each other's time.
    """
    if _is_in_order(stream):
        return True
    with opened(path) as again:
        pictures = decoded_pictures(again, again.streams[stream.index])
        shown = (picture.pts for picture in pictures if picture.pts is None or picture.pts in times)
        return tuple(islice(shown, _COMPARED)) == times[:_COMPARED]


def _counted(path: Path, source: Any, stream: Any, packets: Packets) -> Timeline:
    """Positions of the pictures that the decoder gives, none of which may be lost."""
    rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise unreadable(
            path, "its pictures have no times and it states no rate; convert it to mov"
        )
    with opened(path) as again:
        video = again.streams[stream.index]
        video.thread_type = "AUTO"
        count = sum(not picture.is_corrupt for picture in decoded_pictures(again, video))
    if count != packets.stored:
        raise unreadable(
            path,
            f"its pictures have no usable times and {count} of {packets.stored} can be decoded;"
            " convert it to mov or mkv, or render or copy it again",
        )
    return Timeline(tuple(range(count)), 1 / Fraction(rate), counted=True)
