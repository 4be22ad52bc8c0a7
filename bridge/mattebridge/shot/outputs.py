"""What is written of a matte: the kinds of output, their file formats, published presets.

    alpha          1 channel, linear coverage
    foreground     RGB, straight
    premultiplied  RGBA, foreground * alpha and alpha; where a format holds straight alpha (PNG,
                   integer TIFF, videos): foreground and alpha, 0 where alpha is 0
    comp           RGB, the premultiplied picture over a background (see background.py)
    error, refinement   1 channel, from models that give them
    layers         one EXR of premultiplied RGBA, matte.A and foreground.R, G, B

EXR and float TIFF hold scene-linear light, the 8- and 16-bit types and videos the same light
sRGB-encoded. Names and choices only: pictures.py makes the pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Optional

from mattebridge.errors import UsageError
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoFormat
from mattebridge.shot.background import Background
from mattebridge.wire.params import DEFAULT_OUTPUTS, EXTRA_OUTPUTS

OUTPUTS = (*DEFAULT_OUTPUTS, "comp", *EXTRA_OUTPUTS)
COLOURS = ("foreground", "premultiplied", "comp")
LAYERS = "layers"
# Names of the published scripts; their `com` is straight RGBA, or a comp in a video.
PUBLISHED = {
    "com": "premultiplied",
    "pha": "alpha",
    "fgr": "foreground",
    "err": "error",
    "ref": "refinement",
}
# What the daemon must compute for each output.
NEEDED = {
    "comp": ("premultiplied",),
    LAYERS: ("premultiplied", "alpha", "foreground"),
}
STRAIGHT = ("alpha", "foreground")


@dataclass(frozen=True)
class OutputFormat:
    """A file format by its name in `--format`. video: for one file of all frames, else None."""

    name: str
    suffix: str
    dtype: str
    compression: Optional[str] = None
    summary: str = ""
    video: Optional[VideoFormat] = None

    @property
    def is_linear(self) -> bool:
        return self.dtype in ("half", "float")

    @property
    def has_alpha(self) -> bool:
        if self.video is not None:
            return self.video.has_alpha
        return self.suffix not in (".jpg", ".dpx")


_IMAGES = (
    OutputFormat("exr", ".exr", "half", "zip", "half, zip: the default"),
    OutputFormat("exr-zips", ".exr", "half", "zips", "half, zip by single rows"),
    OutputFormat("exr-none", ".exr", "half", "none", "half, uncompressed: fastest, biggest"),
    OutputFormat("exr-preview", ".exr", "half", "dwaa:45", "half, lossy colours, exact alpha"),
    OutputFormat("exr-float", ".exr", "float", "zip", "float, zip"),
    OutputFormat("png", ".png", "uint8", None, "8-bit sRGB, straight alpha"),
    OutputFormat("png16", ".png", "uint16", None, "16-bit sRGB, straight alpha"),
    OutputFormat("jpg", ".jpg", "uint8", "95", "8-bit sRGB, no alpha"),
    OutputFormat("jpg-444", ".jpg", "uint8", "95:444", "the same with full colour resolution"),
    OutputFormat("jpg-75", ".jpg", "uint8", "75", "smaller, as the published scripts have it"),
    OutputFormat("tiff8", ".tif", "uint8", "none", "8-bit sRGB, straight alpha"),
    OutputFormat("tiff16", ".tif", "uint16", "none", "16-bit sRGB, straight alpha"),
    OutputFormat("tiff-float", ".tif", "float", "none", "float, linear, premultiplied"),
    OutputFormat("dpx10", ".dpx", "uint16", None, "10-bit sRGB, no alpha"),
)
_VIDEOS = tuple(
    OutputFormat(video.name, video.suffix, video.dtype, None, video.summary, video)
    for video in VIDEO_FORMATS.values()
)
_ALIASES = {"tif": "tiff16", "tiff": "tiff16", "jpeg": "jpg", "dpx": "dpx10", "hevc": "h265"}
FORMATS: Mapping[str, OutputFormat] = {
    **{entry.name: entry for entry in (*_IMAGES, *_VIDEOS)},
    **{
        alias: next(entry for entry in (*_IMAGES, *_VIDEOS) if entry.name == name)
        for alias, name in _ALIASES.items()
    },
}


@dataclass(frozen=True)
class Preset:
    """How the scripts of a publication name and store their results.

    folders: by output, the folder (or the name of the video). image_formats, video_formats: as in
    `--format`, for frames and for a video. recursive: folders are read with all folders in them.
    video_frames: the name of a frame of a video by its number, where it is not the video's own.
    """

    name: str
    folders: Mapping[str, str]
    image_formats: str
    video_formats: str
    background: str
    recursive: bool = True
    video_frames: str = ""


def _of_clips(name: str, folders: str, video_frames: str) -> Preset:
    """Folders of a clip pipeline, for alpha, foreground, premultiplied and comp."""
    outputs = ("alpha", "foreground", "premultiplied", "comp", *EXTRA_OUTPUTS)
    named = dict(zip(outputs, (*folders.split(), *EXTRA_OUTPUTS)))
    formats = "exr,comp=png"
    return Preset(name, named, formats, formats, "checker:128", False, video_frames)


PRESETS = {
    # The scripts of BackgroundMattingV2: composites PNG with straight alpha, all else JPEG; from a
    # video one mp4 an output, where `com` is a comp over green, mixed in encoded values.
    "background-matting": Preset(
        name="background-matting",
        folders={"alpha": "pha", "foreground": "fgr", "premultiplied": "com", "comp": "com"}
        | {"error": "err", "refinement": "ref"},
        image_formats="jpg-75,premultiplied=png",
        video_formats="mp4v",
        background="encoded:#78ff9b",
    ),
    "stages": _of_clips("stages", "alpha fg processed comp", "frame_{:06d}"),
    "classic": _of_clips("classic", "Matte FG Processed Comp", "{:05d}"),
}


# Ways to pack an EXR beside those above, by the name behind `exr-`, or `exr-float-`.
EXR_CODECS = ("none", "rle", "zips", "zip", "piz", "pxr24", "dwaa", "dwab")
LOSSY_CODECS = ("dwaa", "dwab")


def find_format(name: str) -> Optional[OutputFormat]:
    """The format of a name of `FORMATS`, or an EXR by its codec: `exr-piz`, `exr-float-rle`."""
    name = name.lower()
    if name in FORMATS:
        return FORMATS[name]
    kind, _, codec = name.rpartition("-")
    dtype = {"exr": "half", "exr-float": "float"}.get(kind)
    if dtype is None or codec not in EXR_CODECS:
        return None
    return OutputFormat(name, ".exr", dtype, codec, f"{dtype}, {codec}")


def parse_outputs(text: str) -> tuple[str, ...]:
    """The names in `alpha,comp`. Raises `UsageError` for one that does not exist."""
    given = (name.strip() for name in text.split(",") if name.strip())
    names = tuple(dict.fromkeys(PUBLISHED.get(name, name) for name in given))
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown or not names:
        what = f"no output '{unknown[0]}'" if unknown else "no output given"
        raise UsageError(f"{what}; --outputs takes {', '.join(OUTPUTS)}")
    return names


def parse_formats(text: str, outputs: Collection[str]) -> dict[str, OutputFormat]:
    """The format of each output from `exr`, or `exr,comp=jpg`. Raises `UsageError`."""
    chosen: dict[str, OutputFormat] = {}
    default = FORMATS["exr"]
    for item in filter(None, (part.strip() for part in text.split(","))):
        output, equals, name = item.rpartition("=")
        output = PUBLISHED.get(output, output)
        found = find_format(name)
        if found is None:
            raise UsageError(f"no format '{name}'; --format takes {', '.join(FORMATS)}")
        if not equals:
            default = found
        elif output in (*OUTPUTS, LAYERS):
            chosen[output] = found
        else:
            raise UsageError(f"--format {item}: no output '{output}'")
    formats = {output: chosen.get(output, default) for output in outputs}
    for output, found in formats.items():
        if output == "premultiplied" and not found.has_alpha:
            others = "prores4444 or ffv1" if found.video else "exr or png"
            raise UsageError(f"{found.name} holds no alpha; choose {others} for premultiplied")
        if output == "alpha" and found.compression in LOSSY_CODECS:
            raise UsageError(f"{found.name} is lossy; choose exr or png for alpha")
        if output == LAYERS and found.suffix != ".exr":
            raise UsageError(f"--layers writes EXR, not {found.name}")
    return formats


def is_straight(output: str, form: OutputFormat) -> bool:
    """Whether an output holds foreground and alpha side by side, not their product."""
    return output == "premultiplied" and not form.is_linear


def needed_from_daemon(
    formats: Mapping[str, OutputFormat], background: Optional[Background] = None
) -> tuple[str, ...]:
    """The planes to ask the daemon for, each once: a plane that is not written costs most."""
    needed: list[str] = []
    for output, form in formats.items():
        encoded = output == "comp" and background is not None and background.encoded
        straight = encoded or is_straight(output, form)
        needed += STRAIGHT if straight else NEEDED.get(output, (output,))
    return tuple(dict.fromkeys(needed))
