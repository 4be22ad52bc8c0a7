"""Reads a picture: EXR, DPX and TIFF through OpenImageIO, PNG and JPEG through OpenCV.

    file --opened--> header --_choose--> channels by name --decode--> upright --> display window

The rule that must not be broken: a file that is damaged or cut short is an error, never a picture.
The libraries do not report this reliably. OpenImageIO returns a full array for a truncated JPEG and
reports the damage only in `has_error`; its `ImageBuf` does the same for EXR; OpenCV converts floats
to 8 bits without an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses

from mattebridge.color import Pixels, to_float
from mattebridge.image_io.frame import (
    DTYPES,
    MAX_PIXELS,
    MAX_SIDE_PX,
    Frame,
    FrameHeader,
    PathLike,
    Window,
    damaged,
    overlap,
    shortened,
    unreadable,
)
from mattebridge.image_io.metadata import carried_metadata

# The channels of a grey picture that was saved as a colour JPEG differ by this much at most.
GREY_TOLERANCE = 0.02
# What the names of channels mean, in lower case.
_ROLES = {"r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B"}
_ROLES |= {"a": "A", "alpha": "A", "y": "Y", "gray": "Y", "grey": "Y", "luminance": "Y"}
# A colour JPEG straight into RGB order, at the stored orientation; 0 before OpenCV 4.11.
_TO_RGB = int(getattr(cv2, "IMREAD_COLOR_RGB", 0)) and int(
    cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
)


def read_header(path: PathLike, *, layer: Optional[str] = None) -> FrameHeader:
    """Size, channels, type, colour and metadata of a frame; no pixels are decoded.

    layer: as in `read_frame`. Raises `FrameReadError` when the file is missing, is not an image, or
    has no such layer.
    """
    path = Path(path)
    with opened(path) as source:
        return _header(path, source, _choose(path, source, layer))


def read_frame(
    path: PathLike,
    *,
    layer: Optional[str] = None,
    window: str = "display",
    at_least: Optional[tuple[int, int]] = None,
) -> Frame:
    """A frame from disk, RGB(A) or a single channel.

    window: "display" gives the full display window, black and transparent where nothing is
    stored, without the pixels outside it (overscan); "data" gives the stored pixels only.
    layer: a named layer of an EXR, e.g. "foreground"; by default the unnamed one.
    at_least: (width, height); for a preview. A JPEG is decoded at the half, quarter or eighth
    that is no smaller, in a third of the time; at hard colour edges that is not the average of
    the full picture. Other types come at full size.
    Raises `FrameReadError` naming the file; a damaged or truncated file is always an error.
    """
    path = Path(path)
    with opened(path) as source:
        chosen = _choose(path, source, layer)
        header = _header(path, source, chosen)
        stored = _decoded(path, source, header, chosen, at_least)
    pixels = _upright(_as_colour(stored, chosen), _orientation(chosen.spec))
    if window == "display":
        pixels = _placed(pixels, header.data_window, header.display_window)
    return Frame(
        pixels=np.ascontiguousarray(pixels),
        colorspace=header.colorspace,
        alpha=_alpha_state(header, pixels),
        data_window=header.data_window,
        display_window=header.display_window,
        pixel_aspect=header.pixel_aspect,
        metadata=dict(header.metadata),
    )


def read_matte(path: PathLike, *, layer: Optional[str] = None, channel: str = "auto") -> Pixels:
    """A hint or matte as coverage: (H, W, 1) in the file's own type, over the display window.

    channel "auto": the only channel, else alpha, else a grey picture's value. "R", "G", "B" and "A"
    name one. Raises `FrameReadError` where the choice would be a guess: a picture in colour without
    alpha, or an alpha of 1 everywhere beside a picture.
    """
    return matte_of(read_frame(path, layer=layer), path, channel=channel)


def matte_of(frame: Frame, path: PathLike, *, channel: str = "auto") -> Pixels:
    """The matte in a frame that was read, as `read_matte` chooses it; path: for messages."""
    names = {1: "A", 3: "RGB", 4: "RGBA"}[frame.pixels.shape[2]]
    if channel == "auto":
        channel = _matte_channel(Path(path), frame.pixels)
    if channel not in names:
        raise unreadable(path, f"it has no channel {channel}, only {', '.join(names)}")
    index = names.index(channel)
    return np.ascontiguousarray(frame.pixels[..., index : index + 1])


# --- the file: opened, and which channels of it make the picture ----------------------------------


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """OpenImageIO's reader of a file. Raises `FrameReadError` where it cannot be opened."""
    try:
        if path.is_dir():
            raise unreadable(path, "it is a folder; name a file or a pattern (plate.####.exr)")
        if not path.stat().st_size:
            raise unreadable(path, "the file is empty; render or copy it again")
    except OSError as failure:
        raise unreadable(path, f"{(failure.strerror or 'no access').lower()}") from failure
    config = oiio.ImageSpec()
    # Without it OpenImageIO multiplies the encoded colours of a PNG by alpha while reading.
    config.attribute("oiio:UnassociatedAlpha", 1)
    source = oiio.ImageInput.open(str(path), config)
    if source is None:
        reason = oiio.geterror() or "it is not an image of a known type"
        raise unreadable(path, f"{shortened(reason)}; render or copy it again")
    try:
        yield source
    finally:
        source.close()


class _Chosen(NamedTuple):
    """Which channels of which part of a file are the picture, in R, G, B, A order."""

    part: int
    spec: Any
    indices: tuple[int, ...]
    roles: str  # "RGB", "RGBA", "Y", "YA" or "A"
    layers: tuple[str, ...]


def _choose(path: Path, source: Any, layer: Optional[str]) -> _Chosen:
    parts = _parts(source)
    layers = sorted({name for spec in parts for name in _layers(spec)} - {""})
    for number, spec in enumerate(parts):
        found = _pick(spec, layer, alone=len(layers) == 1 and len(parts) == 1)
        if found:
            indices, roles = found
            _check_spec(path, spec, indices)
            source.seek_subimage(number, 0)
            return _Chosen(number, spec, indices, roles, tuple(layers))
    what = f"no layer '{layer}'" if layer else "no R, G, B or A channels outside of layers"
    have = ", ".join(layers or [name for spec in parts for name in spec.channelnames])
    raise unreadable(path, f"it has {what}; it holds: {have}")


def _parts(source: Any) -> list[Any]:
    specs: list[Any] = []
    while source.seek_subimage(len(specs), 0):
        specs.append(source.spec())
        # Pages of a TIFF and frames of an animation are separate pictures, not parts of one.
        if source.format_name() != "openexr":
            break
    return specs


def _pick(spec: Any, layer: Optional[str], alone: bool) -> Optional[tuple[tuple[int, ...], str]]:
    layers = _layers(spec)
    name = layer or ""
    if name and name not in layers and spec.getattribute("oiio:subimagename") == name:
        name = ""  # a part of a multi-part EXR named as the layer, with bare channel names
    if not layer and alone and "" not in layers:
        name = next(iter(layers))
    channels = layers.get(name, {})
    for roles in ("RGBA", "RGB", "YA", "Y", "A"):
        if all(role in channels for role in roles):
            return tuple(channels[role] for role in roles), roles
    if len(channels) == 1:
        return tuple(channels.values()), "A"
    return None


def _layers(spec: Any) -> dict[str, dict[str, int]]:
    """Layer -> channel role -> index, by the names in the file ("foreground.R", "A")."""
    layers: dict[str, dict[str, int]] = {}
    for index, name in enumerate(spec.channelnames):
        layer, _, channel = name.rpartition(".")
        role = _ROLES.get(channel.lower(), channel)
        layers.setdefault(layer, {}).setdefault(role, index)
    return layers


def _check_spec(path: Path, spec: Any, indices: Sequence[int]) -> None:
    if spec.deep:
        raise unreadable(path, "it holds deep samples; flatten it first")
    if str(spec.format) not in DTYPES:
        raise unreadable(path, f"its samples are of type {spec.format}, which is not supported")
    sides = (spec.width, spec.height, spec.full_width, spec.full_height)
    if max(sides) > MAX_SIDE_PX or spec.full_width * spec.full_height > MAX_PIXELS:
        raise unreadable(path, f"{spec.full_width}x{spec.full_height} is over the size limit")


# --- the header -----------------------------------------------------------------------------------


def _header(path: Path, source: Any, chosen: _Chosen) -> FrameHeader:
    spec, kind = chosen.spec, source.format_name()
    turned = _orientation(spec) >= 5
    data = (spec.x, spec.y, spec.width, spec.height)
    display = (spec.full_x, spec.full_y, spec.full_width, spec.full_height)
    if turned:
        data, display = (_swapped(window) for window in (data, display))
    aspect = float(spec.get_float_attribute("PixelAspectRatio", 1.0)) or 1.0
    dtype = DTYPES[str(spec.format)]
    return FrameHeader(
        path=path,
        width=display[2],
        height=display[3],
        channels=tuple("RRRA" if chosen.roles == "YA" else chosen.roles),
        dtype=dtype,
        colorspace=_colorspace(spec, kind, dtype),
        alpha=_association(spec, kind, chosen.roles),
        data_window=data,
        display_window=display,
        pixel_aspect=1.0 / aspect if turned else aspect,
        metadata=carried_metadata(spec, kind),
        layers=chosen.layers,
    )


def _orientation(spec: Any) -> int:
    """EXIF's 1..8: how the stored picture is turned; EXR and DPX are taken as stored."""
    return int(spec.get_int_attribute("Orientation", 1)) if _is_photo(spec) else 1


def _is_photo(spec: Any) -> bool:
    return str(spec.format) in ("uint8", "uint16") and not spec.get_int_attribute("dpx:Version")


def _swapped(window: Window) -> Window:
    x, y, width, height = window
    return y, x, height, width


def _colorspace(spec: Any, kind: str, dtype: str) -> str:
    """By the tag where there is one, else by the convention of the file type."""
    tag = spec.get_string_attribute("oiio:ColorSpace").lower()
    if kind == "dpx":
        return "unknown"  # log or display: the fields of DPX headers are seldom right
    if tag.startswith(("lin", "acescg", "scene_linear")):
        return "linear"
    if tag.startswith(("srgb", "g22_rec709")):
        return "srgb"
    if tag:
        return "unknown"
    return "linear" if dtype.startswith("float") else "srgb"


def _association(spec: Any, kind: str, roles: str) -> str:
    if not roles.endswith("A") or len(roles) == 1:
        return "opaque"
    if kind == "tiff":
        return "straight" if spec.get_int_attribute("oiio:UnassociatedAlpha") else "premultiplied"
    return "premultiplied" if kind == "openexr" else "straight"


# --- the pixels -----------------------------------------------------------------------------------


def _decoded(
    path: Path,
    source: Any,
    header: FrameHeader,
    chosen: _Chosen,
    at_least: Optional[tuple[int, int]],
) -> Pixels:
    """The chosen channels, (h, w, C), as they are stored."""
    kind = source.format_name()
    if kind not in ("png", "jpeg"):
        return _decoded_by_oiio(path, source, chosen)
    shrink = _jpeg_shrink(header, at_least) if kind == "jpeg" and at_least else 1
    return _decoded_by_opencv(path, _opencv_flags(kind, header, shrink))


def _jpeg_shrink(header: FrameHeader, at_least: tuple[int, int]) -> int:
    """1, 2, 4 or 8: how much smaller a JPEG may be decoded."""
    ratio = min(header.width / at_least[0], header.height / at_least[1])
    return next((shrink for shrink in (8, 4, 2) if ratio >= shrink), 1)


def _opencv_flags(kind: str, header: FrameHeader, shrink: int) -> int:
    grey = len(header.channels) == 1
    if shrink > 1:
        name = f"IMREAD_REDUCED_{'GRAYSCALE' if grey else 'COLOR'}_{shrink}"
        return int(getattr(cv2, name) | cv2.IMREAD_IGNORE_ORIENTATION)
    if kind == "jpeg" and not grey and _TO_RGB:
        return _TO_RGB
    # UNCHANGED keeps 16 bits and alpha, and does not apply the orientation.
    return int(cv2.IMREAD_UNCHANGED)


def _decoded_by_opencv(path: Path, flags: int) -> Pixels:
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise unreadable(path, (failure.strerror or "no access").lower()) from failure
    if not _ends_well(data):
        raise damaged(path, "its end is missing")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise damaged(path, "")
    if pixels.ndim == 2:
        return pixels[..., None]
    if flags == _TO_RGB:
        return np.asarray(pixels)
    swap = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, swap))


def _ends_well(data: bytes) -> bool:
    """Whether a PNG has its last chunk and a JPEG the end of its last scan."""
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") > 0
    end = data.rfind(b"\xff\xd9")
    return end > 0 and data.find(b"\xff\xda", end) < 0


def _decoded_by_oiio(path: Path, source: Any, chosen: _Chosen) -> Pixels:
    first, end = min(chosen.indices), max(chosen.indices) + 1
    # An explicit channel range: the default of -1 reads one channel, without an error.
    pixels = source.read_image(chosen.part, 0, first, end, chosen.spec.format)
    failed = source.has_error  # before geterror, which clears it
    reason = source.geterror() if failed else ""
    if failed or pixels is None:
        raise damaged(path, reason)
    order = [index - first for index in chosen.indices]
    if order == list(range(end - first)):
        return np.asarray(pixels)
    return np.asarray(pixels)[..., order]


def _as_colour(stored: Pixels, chosen: _Chosen) -> Pixels:
    """(H, W, 1|3|4): grey with alpha becomes RGBA; a `Frame` never has two channels."""
    if stored.shape[2] == 2:
        return stored[..., [0, 0, 0, 1]]
    return stored


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    if orientation in (2, 4):
        pixels = pixels[:, ::-1] if orientation == 2 else pixels[::-1]
    elif orientation in (3, 6, 8):
        pixels = np.rot90(pixels, {3: 2, 6: 3, 8: 1}[orientation])
    elif orientation in (5, 7):
        pixels = pixels.swapaxes(0, 1)
        pixels = pixels[::-1, ::-1] if orientation == 7 else pixels
    return pixels


def _placed(pixels: Pixels, data: Window, display: Window) -> Pixels:
    """The data window inside the display window; 0 (black, transparent) around it."""
    if data == display:
        return pixels
    canvas = np.zeros((display[3], display[2], pixels.shape[2]), pixels.dtype)
    inside, stored = overlap(data, display)
    canvas[inside] = pixels[stored]
    return canvas


def _alpha_state(header: FrameHeader, pixels: Pixels) -> str:
    # Only decoding tells whether a palette PNG has alpha.
    if pixels.shape[2] < 4:
        return "opaque"
    return "straight" if header.alpha == "opaque" else header.alpha


# --- mattes ---------------------------------------------------------------------------------------


def _matte_channel(path: Path, pixels: Pixels) -> str:
    if pixels.shape[2] == 1:
        return "A"
    colours = to_float(pixels[..., :3])
    if pixels.shape[2] == 4:
        alpha = to_float(pixels[..., 3])
        if alpha.min() < 1.0 or np.ptp(colours) == 0:
            return "A"
        raise unreadable(path, "its alpha is 1 everywhere; choose --hint-channel R or A")
    if np.ptp(colours, axis=2).max() > GREY_TOLERANCE:
        raise unreadable(path, "it is in colour, without alpha; choose --hint-channel R, G or B")
    return "G"
