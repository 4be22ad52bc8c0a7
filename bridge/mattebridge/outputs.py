"""What a matte becomes on disk: the kinds of output, their formats, presets, the comp's background.

    alpha          1 channel, linear coverage
    foreground     RGB, straight
    premultiplied  RGBA, foreground * alpha and alpha; where a format holds straight alpha (PNG,
                   integer TIFF, videos) the foreground and alpha, 0 where alpha is 0
    comp           RGB, the premultiplied picture over a colour, a checker, a picture or a video
    error, refinement   1 channel, from models that give them
    layers         one EXR of premultiplied RGBA, matte.A and foreground.R, G, B

EXR and float TIFF hold scene-linear light, the 8- and 16-bit types and videos the same light
sRGB-encoded. Nothing here knows the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge import color
from mattebridge.errors import UsageError
from mattebridge.image_io import FrameHeader, check_frame, display_codes, write_frame
from mattebridge.video_out import VIDEO_FORMATS, VideoFormat

FloatImage = NDArray[np.float32]

OUTPUTS = ("alpha", "foreground", "premultiplied", "comp", "error", "refinement")
COLOURS = ("foreground", "premultiplied", "comp")
LAYERS = "layers"
DEFAULT_OUTPUTS = ("alpha", "foreground", "premultiplied")
# The words of the published scripts; their `com` is straight RGBA, or a comp in a video.
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
CHECKER_PX = 32
# Two greys of linear light, dark enough to show a light fringe and light enough to show a dark one.
CHECKER = (0.12, 0.24)


@dataclass(frozen=True)
class OutputFormat:
    """A file format by the name that `--format` takes; `video` where it is one file for all."""

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
    """A published way of naming and storing results, as a whole.

    folders: by output, the folder (or the name of the video). formats: as `--format` takes them,
    for pictures and for the pictures of a video. recursive: folders are taken with all in them.
    """

    name: str
    folders: Mapping[str, str]
    image_formats: str
    video_formats: str
    background: str
    recursive: bool = True


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
    )
}


def parse_outputs(text: str) -> tuple[str, ...]:
    """`alpha,comp` as names. Raises `UsageError` for one that does not exist."""
    given = (name.strip() for name in text.split(",") if name.strip())
    names = tuple(dict.fromkeys(PUBLISHED.get(name, name) for name in given))
    unknown = [name for name in names if name not in OUTPUTS]
    if unknown or not names:
        what = f"no output '{unknown[0]}'" if unknown else "no output named"
        raise UsageError(f"{what}; --outputs takes {', '.join(OUTPUTS)}")
    return names


def parse_formats(text: str, outputs: Collection[str]) -> dict[str, OutputFormat]:
    """The format of each output from `exr`, or `exr,comp=jpg`. Raises `UsageError`."""
    chosen: dict[str, OutputFormat] = {}
    default = FORMATS["exr"]
    for item in filter(None, (part.strip() for part in text.split(","))):
        output, equals, name = item.rpartition("=")
        output = PUBLISHED.get(output, output)
        found = FORMATS.get(name.lower())
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
        if output == LAYERS and found.suffix != ".exr":
            raise UsageError(f"--layers writes EXR, not {found.name}")
    return formats


def is_straight(output: str, form: OutputFormat) -> bool:
    """Whether an output is foreground and alpha side by side, without a product."""
    return output == "premultiplied" and not form.is_linear


def needed_from_daemon(
    formats: Mapping[str, OutputFormat], background: Optional[Background] = None
) -> tuple[str, ...]:
    """The planes to ask for, each once: bytes that nobody wants cost most."""
    needed: list[str] = []
    for output, form in formats.items():
        encoded = output == "comp" and background is not None and background.encoded
        straight = encoded or is_straight(output, form)
        needed += STRAIGHT if straight else NEEDED.get(output, (output,))
    return tuple(dict.fromkeys(needed))


# ---------------------------------------------------------------------------------- the background


@dataclass(frozen=True)
class Background:
    """What the comp stands over: a flat colour of linear light, a checker, or pictures.

    pictures: the file, pattern, folder or video, in place of colours. encoded: the comp is mixed
    in sRGB-encoded values, as the published scripts do, and not in light.
    """

    text: str
    colours: tuple[tuple[float, float, float], ...] = ()
    pictures: str = ""
    encoded: bool = False

    def render(self, height: int, width: int) -> FloatImage:
        """(height, width, 3) float32, linear; not for pictures."""
        palette = np.asarray(self.colours, np.float32)
        if len(palette) == 1:
            return np.broadcast_to(palette[0], (height, width, 3))
        rows = np.arange(height)[:, None] // CHECKER_PX
        columns = np.arange(width)[None, :] // CHECKER_PX
        squares: FloatImage = palette[(rows + columns) % 2]
        return squares


def parse_background(text: str) -> Background:
    """`checker`, `#rrggbb` (sRGB), `0.18,0.18,0.18` (linear), or pictures. Raises `UsageError`."""
    if text.startswith("encoded:"):
        return Background(text, parse_background(text.partition(":")[2]).colours, encoded=True)
    if text == "checker":
        return Background(text, tuple((grey, grey, grey) for grey in CHECKER))
    hexadecimal = re.fullmatch(r"#([0-9a-fA-F]{6})", text)
    if hexadecimal:
        codes = np.frombuffer(bytes.fromhex(hexadecimal.group(1)), np.uint8)
        red, green, blue = (float(value) for value in color.srgb_decode(codes))
        return Background(text, ((red, green, blue),))
    try:
        red, green, blue = (float(part) for part in text.split(","))
        if np.isfinite((red, green, blue)).all():
            return Background(text, ((red, green, blue),))
    except ValueError:
        pass
    if re.search(r"[./\\#%@$]", text):
        return Background(text, pictures=text)
    raise UsageError(
        f"no background '{text}'; say checker, '#204080', linear 0.1,0.2,0.3, or a picture or video"
    )


def fitted(picture: FloatImage, height: int, width: int) -> FloatImage:
    """A background picture at the size of the plate: scaled to cover it, the rest cut evenly."""
    import cv2

    have_height, have_width = picture.shape[:2]
    if (have_height, have_width) == (height, width):
        return picture
    scale = max(height / have_height, width / have_width)
    size = (max(width, round(have_width * scale)), max(height, round(have_height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(picture, size, interpolation=method), np.float32)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])


# ------------------------------------------------------------------------------------ one output


@dataclass(frozen=True)
class Finish:
    """How results become pictures: what is the same for all frames of a job.

    space: of the colours in a matte. truncate: code values are cut instead of rounded.
    """

    space: str
    background: Background
    keep_data_window: bool = False
    truncate: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write_output(
    path: Path,
    output: str,
    matte: Any,
    *,
    form: OutputFormat,
    finish: Finish,
    header: FrameHeader,
    backdrop: Optional[FloatImage] = None,
) -> int:
    """Write one output of a finished frame and look whether it arrived; its size in bytes.

    matte: has `alpha` (H, W, 1), `foreground` (H, W, 3) and `premultiplied` (H, W, 4), float, as
    far as they are needed. header: the plate's, for windows, pixel aspect and metadata. backdrop:
    the background's picture, linear. Raises `FrameWriteError`, and `FrameReadError` when what
    stands on disk is not what was written.
    """
    size = write_frame(
        path,
        picture_of(output, matte, form, finish, backdrop),
        colorspace=finish.space,
        alpha="premultiplied",
        dtype=form.dtype,
        compression=form.compression,
        metadata={**header.metadata, **finish.metadata},
        pixel_aspect=header.pixel_aspect,
        display_window=header.display_window,
        data_window=header.data_window if finish.keep_data_window else None,
        layers={"matte": matte.alpha, "foreground": matte.foreground} if output == LAYERS else None,
        truncate=finish.truncate,
    )
    check_frame(path, size_bytes=size, size_px=(header.width, header.height))
    return size


def video_codes(
    output: str,
    matte: Any,
    *,
    form: OutputFormat,
    finish: Finish,
    backdrop: Optional[FloatImage] = None,
) -> NDArray[Any]:
    """Code values of one output for a video: sRGB-encoded, straight alpha."""
    picture = picture_of(output, matte, form, finish, backdrop)
    if picture.dtype.kind == "u":
        return picture
    return display_codes(
        picture, dtype=form.dtype, colorspace=finish.space, truncate=finish.truncate
    )


def picture_of(
    output: str,
    matte: Any,
    form: OutputFormat,
    finish: Finish,
    backdrop: Optional[FloatImage] = None,
) -> NDArray[Any]:
    """The pixels of one output: floats in `finish.space`, or codes where alpha is straight."""
    if output == LAYERS:
        return np.asarray(matte.premultiplied)
    if is_straight(output, form):
        return _straight_codes(matte, form.dtype, finish)
    if output != "comp":
        return np.asarray(getattr(matte, output))
    if finish.background.encoded:
        return _comp_in_codes(matte, finish)
    premultiplied = np.asarray(matte.premultiplied, np.float32)
    light = np.ascontiguousarray(premultiplied[..., :3])
    if finish.space == "srgb":
        light = color.srgb_decode(light)
    behind = finish.background.render(*light.shape[:2]) if backdrop is None else backdrop
    comp = color.over(light, premultiplied[..., 3:], fitted(behind, *light.shape[:2]))
    return color.srgb_encode(comp) if finish.space == "srgb" else comp


def _straight_codes(matte: Any, dtype: str, finish: Finish) -> NDArray[Any]:
    """Foreground and alpha as (H, W, 4) codes; black where there is no coverage at all."""
    alpha = np.asarray(matte.alpha)
    codes = np.empty((*alpha.shape[:2], 4), dtype)
    for part, plane in ((slice(0, 3), np.asarray(matte.foreground)), (slice(3, 4), alpha)):
        codes[..., part] = display_codes(
            plane, dtype=dtype, colorspace=finish.space, truncate=finish.truncate
        )
    codes[..., :3][alpha[..., 0] <= 0] = 0
    return codes


def _comp_in_codes(matte: Any, finish: Finish) -> NDArray[Any]:
    """foreground * alpha + background * (1 - alpha) in encoded values, in the space of the job."""
    foreground = np.asarray(matte.foreground, np.float32)
    if finish.space == "linear":
        foreground = color.srgb_encode(foreground)
    behind = color.srgb_encode(np.asarray(finish.background.colours[:1], np.float32))
    alpha = np.asarray(matte.alpha, np.float32)
    comp = foreground * alpha + behind * (np.float32(1.0) - alpha)
    return color.srgb_decode(comp) if finish.space == "linear" else comp
