"""Moving pictures of types that are not read, and what to convert them to.

By the suffix, as videos are known: read as a still, such a file would lose all its pictures but
one.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import NamedTuple

from mattebridge.errors import UsageError


class _Conversion(NamedTuple):
    """what: the file is. command: of FFmpeg, for a file that is read; "" where it has none."""

    what: str
    command: str = ""


_STREAM = _Conversion(
    "an MPEG stream without an index", "ffmpeg -fflags +genpts -i {name} -c copy {stem}.mkv"
)
_PHONE = _Conversion("a phone's video", "ffmpeg -i {name} -c copy {stem}.mp4")
_OTHER = _Conversion("a video of another type", "ffmpeg -i {name} -c:v ffv1 {stem}.mkv")
_MOVING = _Conversion("an animation", "ffmpeg -i {name} -pix_fmt rgba {stem}.%04d.png")
_CAMERA = _Conversion("a camera's raw recording")
_CONVERSIONS: dict[str, _Conversion] = {
    **dict.fromkeys((".mts", ".m2ts", ".m2t", ".ts", ".mpg", ".mpeg", ".vob"), _STREAM),
    **dict.fromkeys((".3gp", ".3g2"), _PHONE),
    **dict.fromkeys((".flv", ".f4v", ".wmv", ".asf", ".ogv", ".rm", ".dv"), _OTHER),
    **dict.fromkeys((".y4m", ".ivf", ".nut", ".divx", ".m2v", ".h264", ".h265", ".hevc"), _OTHER),
    **dict.fromkeys((".gif", ".apng"), _MOVING),
    **dict.fromkeys((".r3d", ".braw", ".ari", ".crm"), _CAMERA),
}


def refuse_other_videos(path: Path) -> None:
    """Raise `UsageError` for moving pictures of a type that is not read, saying what to do."""
    known = _CONVERSIONS.get(path.suffix.lower())
    if known is None:
        return
    advice = "export it as EXR or ProRes from the camera maker's program"
    if known.command:
        name, stem = shlex.quote(str(path)), shlex.quote(path.stem)
        command = known.command.format(name=name, stem=stem)
        advice = f"convert it to mov, mkv or pictures, such as by {command}"
    raise UsageError(f"{path} is {known.what}, which is not read; {advice}")
