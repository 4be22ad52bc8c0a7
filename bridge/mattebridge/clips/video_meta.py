"""`video_meta.json` in a clip's folder: what the video was that the clip was extracted from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from mattebridge.clips.contracts import VideoMetadata
from mattebridge.image_io.video_pictures import opened
from mattebridge.image_io.video_read import VideoInfo, is_video, probe

META_NAME = "video_meta.json"
NUMBERS = ("width", "height", "fps_num", "fps_den")
# Names of the numbers of ITU-T H.273; any other number counts as not reported.
_STANDARDS = {1: "bt709", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m"}
MATRICES = {0: "gbr", **_STANDARDS, 9: "bt2020nc"}
PRIMARIES = {**_STANDARDS, 9: "bt2020", 11: "smpte431", 12: "smpte432"}
TRANSFERS = {
    1: "bt709",
    6: "smpte170m",
    8: "linear",
    13: "iec61966-2-1",
    14: "bt2020-10",
    16: "smpte2084",
    18: "arib-std-b67",
}
TEXTS = ("filename", "pix_fmt", "codec_name")


def load_video_metadata(clip_root: str | Path) -> VideoMetadata | None:
    """What `video_meta.json` in a clip's folder says; None without one.

    A file that is damaged is not believed: the video in the clip's folder is read instead, and
    where there is none either, the result is None. Keys that are not known are kept in `extra`.
    """
    root = Path(clip_root)
    try:
        found = json.loads((root / META_NAME).read_text("utf-8"))
        return _from_json(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        video = next(_videos(root), None)
        return None if video is None else metadata_of(probe(video))


def metadata_of(info: VideoInfo) -> VideoMetadata:
    """The same of a video that was looked at."""
    rate, tags = Fraction(info.rate), _tags(info)
    return VideoMetadata(
        filename=info.path.name,
        width=info.width,
        height=info.height,
        fps_num=rate.numerator,
        fps_den=rate.denominator,
        pix_fmt=tags.pop("pix_fmt") or "",
        codec_name=info.codec,
        frame_count=info.frames,
        duration_s=info.seconds(info.frames) - info.seconds(0),
        has_audio=info.has_audio,
        **tags,
    )


def _tags(info: VideoInfo) -> dict[str, Any]:
    """Pixel format and colour tags of the stream, as FFmpeg calls them."""
    with opened(info.path) as source:
        context = source.streams[info.stream].codec_context
        return {
            "pix_fmt": context.pix_fmt,
            "color_space": MATRICES.get(int(context.colorspace)),
            "color_transfer": TRANSFERS.get(int(context.color_trc)),
            "color_primaries": PRIMARIES.get(int(context.color_primaries)),
        }


def _from_json(found: Mapping[str, Any]) -> VideoMetadata:
    known = {each.name for each in fields(VideoMetadata)} - {"extra"}
    given = {name: value for name, value in found.items() if name in known}
    if not all(type(given[name]) is int for name in NUMBERS):
        raise TypeError("numbers")
    if not all(isinstance(given[name], str) for name in TEXTS):
        raise TypeError("texts")
    extra = {name: value for name, value in found.items() if name not in known}
    return VideoMetadata(**given, extra=extra)


def _videos(root: Path) -> Iterator[Path]:
    """The videos that a clip may have been extracted from."""
    for place in (*root.glob("[Ii][Nn][Pp][Uu][Tt]*"), root):
        inside = sorted(place.iterdir()) if place.is_dir() else [place]
        yield from (path for path in inside if is_video(path))
