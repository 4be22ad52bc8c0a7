"""What a matte becomes on disk: the kinds of output, their file formats, and the comp's background.

    alpha          1 channel, linear coverage
    foreground     RGB, straight
    premultiplied  RGBA, foreground * alpha and alpha (straight in PNG and integer TIFF)
    comp           RGB, the premultiplied picture over a colour or a checker
    error, refinement   1 channel, from models that give them
    layers         one EXR of premultiplied RGBA, matte.A and foreground.R, G, B

EXR and float TIFF hold scene-linear light, the 8- and 16-bit types the same light sRGB-encoded.
Nothing here knows the daemon.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge import color
from mattebridge.errors import UsageError
from mattebridge.image_io import FrameHeader, check_frame, write_frame

FloatImage = NDArray[np.float32]

OUTPUTS = ("alpha", "foreground", "premultiplied", "comp", "error", "refinement")
LAYERS = "layers"
DEFAULT_OUTPUTS = ("alpha", "foreground", "premultiplied")
# What the daemon must compute for each output.
NEEDED = {
    "comp": ("premultiplied",),
    LAYERS: ("premultiplied", "alpha", "foreground"),
}
CHECKER_PX = 32
# Two greys of linear light, dark enough to show a light fringe and light enough to show a dark one.
CHECKER = (0.12, 0.24)


@dataclass(frozen=True)
class OutputFormat:
    """A file format by the name that `--format` takes."""

    name: str
    suffix: str
    dtype: str
    compression: Optional[str] = None
    summary: str = ""

    @property
    def is_linear(self) -> bool:
        return self.dtype in ("half", "float")

    @property
    def has_alpha(self) -> bool:
        return self.suffix not in (".jpg", ".dpx")


_ALL = (
    OutputFormat("exr", ".exr", "half", "zip", "half, zip: the default"),
    OutputFormat("exr-zips", ".exr", "half", "zips", "half, zip by single rows"),
    OutputFormat("exr-none", ".exr", "half", "none", "half, uncompressed: fastest, biggest"),
    OutputFormat("exr-preview", ".exr", "half", "dwaa:45", "half, lossy colours, exact alpha"),
    OutputFormat("exr-float", ".exr", "float", "zip", "float, zip"),
    OutputFormat("png", ".png", "uint8", None, "8-bit sRGB, straight alpha"),
    OutputFormat("png16", ".png", "uint16", None, "16-bit sRGB, straight alpha"),
    OutputFormat("jpg", ".jpg", "uint8", "95", "8-bit sRGB, no alpha"),
    OutputFormat("jpg-444", ".jpg", "uint8", "95:444", "the same with full colour resolution"),
    OutputFormat("tiff8", ".tif", "uint8", "none", "8-bit sRGB, straight alpha"),
    OutputFormat("tiff16", ".tif", "uint16", "none", "16-bit sRGB, straight alpha"),
    OutputFormat("tiff-float", ".tif", "float", "none", "float, linear, premultiplied"),
    OutputFormat("dpx10", ".dpx", "uint16", None, "10-bit sRGB, no alpha"),
)
FORMATS: Mapping[str, OutputFormat] = {
    **{entry.name: entry for entry in _ALL},
    **{
        alias: entry
        for entry in _ALL
        for alias in {"tiff16": ("tif", "tiff"), "jpg": ("jpeg",), "dpx10": ("dpx",)}.get(
            entry.name, ()
        )
    },
}


def parse_outputs(text: str) -> tuple[str, ...]:
    """`alpha,comp` as names. Raises `UsageError` for one that does not exist."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
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
            raise UsageError(f"{found.name} holds no alpha; choose exr or png for premultiplied")
        if output == LAYERS and found.suffix != ".exr":
            raise UsageError(f"--layers writes EXR, not {found.name}")
    return formats


def needed_from_daemon(outputs: Iterable[str]) -> tuple[str, ...]:
    """The planes to ask for, each once: bytes that nobody wants cost most."""
    return tuple(
        dict.fromkeys(name for output in outputs for name in NEEDED.get(output, (output,)))
    )


# ---------------------------------------------------------------------------------- the background


@dataclass(frozen=True)
class Background:
    """What the comp stands over: a flat colour of linear light, or a checker."""

    text: str
    colours: tuple[tuple[float, float, float], ...]

    def render(self, height: int, width: int) -> FloatImage:
        """(height, width, 3) float32, linear."""
        palette = np.asarray(self.colours, np.float32)
        if len(palette) == 1:
            return np.broadcast_to(palette[0], (height, width, 3))
        rows = np.arange(height)[:, None] // CHECKER_PX
        columns = np.arange(width)[None, :] // CHECKER_PX
        squares: FloatImage = palette[(rows + columns) % 2]
        return squares


def parse_background(text: str) -> Background:
    """`checker`, `#rrggbb` (sRGB) or `0.18,0.18,0.18` (linear). Raises `UsageError`."""
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
    raise UsageError(f"no background '{text}'; say checker, '#204080', or linear 0.1,0.2,0.3")


# ------------------------------------------------------------------------------------ one output


def write_output(
    path: Path,
    output: str,
    matte: Any,
    *,
    form: OutputFormat,
    space: str,
    background: Background,
    header: FrameHeader,
    metadata: Mapping[str, Any],
    keep_data_window: bool = False,
) -> int:
    """Write one output of a finished frame and look whether it arrived; its size in bytes.

    matte: has `alpha` (H, W, 1), `foreground` (H, W, 3) and `premultiplied` (H, W, 4), float,
    colours in `space`. header: the plate's, for windows and pixel aspect. Raises `FrameWriteError`,
    and `FrameReadError` when what stands on disk is not what was written.
    """
    size = write_frame(
        path,
        picture_of(output, matte, background, space),
        colorspace=space,
        alpha="premultiplied",
        dtype=form.dtype,
        compression=form.compression,
        metadata=metadata,
        pixel_aspect=header.pixel_aspect,
        display_window=header.display_window,
        data_window=header.data_window if keep_data_window else None,
        layers={"matte": matte.alpha, "foreground": matte.foreground} if output == LAYERS else None,
    )
    check_frame(path, size_bytes=size, size_px=(header.width, header.height))
    return size


def picture_of(output: str, matte: Any, background: Background, space: str) -> NDArray[Any]:
    """The pixels of one output, in `space`."""
    if output == LAYERS:
        return np.asarray(matte.premultiplied)
    if output != "comp":
        return np.asarray(getattr(matte, output))
    premultiplied = np.asarray(matte.premultiplied, np.float32)
    light = np.ascontiguousarray(premultiplied[..., :3])
    if space == "srgb":
        light = color.srgb_decode(light)
    comp = color.over(light, premultiplied[..., 3:], background.render(*light.shape[:2]))
    return color.srgb_encode(comp) if space == "srgb" else comp
