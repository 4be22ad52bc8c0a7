"""Frames on disk <-> arrays: EXR, PNG, JPEG, TIFF and DPX, read and written so that nothing lies.

    read:   file -> OpenImageIO (EXR, DPX, TIFF) or OpenCV (PNG, JPEG) -> channels by NAME
            -> data window placed in the display window -> Frame, in the file's own sample type
    write:  array -> colour and alpha as the file type wants them -> encoded in memory
            -> temporary name in the same folder, fsync, rename (whole_files.py)

Arrays are (height, width, channels), top row first, RGB order. A file type has one colour
convention: EXR, float and half TIFF hold scene-linear light with premultiplied alpha; PNG, JPEG,
8/16-bit TIFF and DPX hold sRGB-encoded pixels with straight alpha (a tag in the file may say
otherwise when reading). A matte of one channel is linear coverage everywhere and meets no curve.

The rule that must not be broken: a file that is damaged or cut short is an error, never a picture.
The libraries do not help there. OpenImageIO hands out a full array for a truncated JPEG and says so
only in `has_error`; its `ImageBuf` does so for EXR; OpenCV squeezes floats to 8 bits in silence.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional, Union

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses
from numpy.typing import NDArray

from mattebridge import color
from mattebridge.errors import FrameReadError, FrameWriteError
from mattebridge.samples import CODE_MAX, limited, quantised, rescaled
from mattebridge.version import __version__
from mattebridge.whole_files import replace_file, sweep_temporaries

__all__ = [
    "EXTENSIONS",
    "Attribute",
    "Frame",
    "FrameHeader",
    "check_frame",
    "display_codes",
    "encode_frame",
    "matte_of",
    "read_frame",
    "read_header",
    "read_matte",
    "sweep_temporaries",
    "write_frame",
]

Pixels = NDArray[Any]
PathLike = Union[str, Path]
Window = tuple[int, int, int, int]

# A header may claim any size; a larger one than this is damage, not a plate.
MAX_SIDE_PX = 65_536
MAX_PIXELS = 1 << 30
JPEG_QUALITY = 95
# Colours of a grey picture saved as a colour JPEG differ by this much at most.
GREY_TOLERANCE = 0.02

_DTYPES = {"uint8": "uint8", "uint16": "uint16", "half": "float16", "float": "float32"}
_OIIO_TYPES = {name: kind for kind, name in _DTYPES.items()}


class Attribute(NamedTuple):
    """A value of the file's header that is no plain number or text; `kind` is OpenImageIO's."""

    value: Any
    kind: str


@dataclass(frozen=True)
class FrameHeader:
    """What a file says about itself, without its pixels.

    width and height are those of the display window. `channels` are those that `read_frame` would
    give (names of the file), `layers` every named layer. `colorspace` is "linear", "srgb", or
    "unknown" where the file type or its tag does not settle it (DPX, log footage).
    """

    path: Path
    width: int
    height: int
    channels: tuple[str, ...]
    dtype: str
    colorspace: str
    alpha: str
    data_window: Window
    display_window: Window
    pixel_aspect: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Memory that the frame takes once read."""
        return self.width * self.height * len(self.channels) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Frame:
    """One picture as it stands on disk.

    pixels: (H, W, C), C = 1 (A or any single channel), 3 (RGB) or 4 (RGBA), top-down, in the
    file's own type: uint8, uint16, float16 or float32. colorspace: "linear", "srgb" or "unknown".
    alpha: "opaque" (there is none), "straight" or "premultiplied". Windows are x, y, w, h.
    """

    pixels: Pixels
    colorspace: str
    alpha: str
    data_window: Window
    display_window: Window
    pixel_aspect: float
    metadata: dict[str, Any]


# ---------------------------------------------------------------------------------------- reading


def read_header(path: PathLike, *, layer: Optional[str] = None) -> FrameHeader:
    """Size, channels, type, colour and metadata of a frame; no pixels are decoded.

    Raises `FrameReadError` when the file is missing, no image, or holds no such layer.
    """
    path = Path(path)
    with _opened(path) as source:
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
    stored, without what lies outside it (overscan); "data" gives the stored pixels only.
    layer: a named layer of an EXR, e.g. "foreground"; by default the unnamed one.
    at_least: (width, height); for a quick look. A JPEG is decoded at the half, quarter or eighth
    that is no smaller, in a third of the time; at hard colour edges that is not the average of
    the full picture. Other types come at full size.
    Raises `FrameReadError` naming the file; a damaged or truncated file is always an error.
    """
    path = Path(path)
    with _opened(path) as source:
        chosen = _choose(path, source, layer)
        header = _header(path, source, chosen)
        if source.format_name() in ("png", "jpeg"):
            shrink = _jpeg_shrink(source, header, at_least)
            flags = _opencv_flags(source.format_name(), header, shrink)
            stored = _decode_with_opencv(path, flags)
        else:
            stored = _decode(path, source, chosen)
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

    channel "auto": the only channel, else alpha, else a grey picture's value. "R", "G", "B", "A"
    take that one. Raises `FrameReadError` where the choice would be a guess: a coloured picture
    without alpha, or an all-white alpha beside a picture.
    """
    return matte_of(read_frame(path, layer=layer), path, channel=channel)


def matte_of(frame: Frame, path: PathLike, *, channel: str = "auto") -> Pixels:
    """The matte that a picture holds, as `read_matte` chooses it; path: its name in errors."""
    names = {1: "A", 3: "RGB", 4: "RGBA"}[frame.pixels.shape[2]]
    if channel == "auto":
        channel = _matte_channel(Path(path), frame.pixels)
    if channel not in names:
        raise _unreadable(path, f"it has no channel {channel}, only {', '.join(names)}")
    index = names.index(channel)
    return np.ascontiguousarray(frame.pixels[..., index : index + 1])


class _Chosen(NamedTuple):
    """Which channels of which part of a file make the picture, in R, G, B, A order."""

    part: int
    spec: Any
    indices: tuple[int, ...]
    roles: str  # "RGB", "RGBA", "Y", "YA" or "A"
    layers: tuple[str, ...]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """OpenImageIO's reader on `path`; foreign failures become sentences."""
    try:
        if path.is_dir():
            raise _unreadable(path, "it is a folder; name a file or a pattern (plate.####.exr)")
        if not path.stat().st_size:
            raise _unreadable(path, "the file is empty; render or copy it again")
    except OSError as failure:
        raise _unreadable(path, f"{(failure.strerror or 'no access').lower()}") from failure
    config = oiio.ImageSpec()
    # Otherwise OpenImageIO multiplies PNG colours by alpha, in encoded values, while reading.
    config.attribute("oiio:UnassociatedAlpha", 1)
    source = oiio.ImageInput.open(str(path), config)
    if source is None:
        reason = oiio.geterror() or "it is not an image of a known type"
        raise _unreadable(path, f"{_short(reason)}; render or copy it again")
    try:
        yield source
    finally:
        source.close()


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
    what = f"no layer '{layer}'" if layer else "no R, G, B or A channels of its own"
    have = ", ".join(layers or [name for spec in parts for name in spec.channelnames])
    raise _unreadable(path, f"it has {what}; it holds: {have}")


def _parts(source: Any) -> list[Any]:
    specs: list[Any] = []
    while source.seek_subimage(len(specs), 0):
        specs.append(source.spec())
        # Pages of a TIFF and frames of an animation are other pictures, not parts of this one.
        if source.format_name() != "openexr":
            break
    return specs


def _layers(spec: Any) -> dict[str, dict[str, int]]:
    """Layer -> channel role -> index, by the names in the file ("foreground.R", "A")."""
    layers: dict[str, dict[str, int]] = {}
    for index, name in enumerate(spec.channelnames):
        layer, _, channel = name.rpartition(".")
        role = _ROLES.get(channel.lower(), channel)
        layers.setdefault(layer, {}).setdefault(role, index)
    return layers


_ROLES = {"r": "R", "red": "R", "g": "G", "green": "G", "b": "B", "blue": "B"}
_ROLES |= {"a": "A", "alpha": "A", "y": "Y", "gray": "Y", "grey": "Y", "luminance": "Y"}


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


def _check_spec(path: Path, spec: Any, indices: Sequence[int]) -> None:
    if spec.deep:
        raise _unreadable(path, "it holds deep samples; flatten it first")
    if str(spec.format) not in _DTYPES:
        raise _unreadable(path, f"samples of type {spec.format} are no picture")
    sides = (spec.width, spec.height, spec.full_width, spec.full_height)
    if max(sides) > MAX_SIDE_PX or spec.full_width * spec.full_height > MAX_PIXELS:
        raise _unreadable(path, f"{spec.full_width}x{spec.full_height} is over the size limit")


def _header(path: Path, source: Any, chosen: _Chosen) -> FrameHeader:
    spec, kind = chosen.spec, source.format_name()
    turned = _orientation(spec) >= 5
    data = (spec.x, spec.y, spec.width, spec.height)
    display = (spec.full_x, spec.full_y, spec.full_width, spec.full_height)
    if turned:
        data, display = (_swapped(window) for window in (data, display))
    aspect = float(spec.get_float_attribute("PixelAspectRatio", 1.0)) or 1.0
    dtype = _DTYPES[str(spec.format)]
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
        metadata=_metadata(spec, kind),
        layers=chosen.layers,
    )


def _swapped(window: Window) -> Window:
    x, y, width, height = window
    return y, x, height, width


def _colorspace(spec: Any, kind: str, dtype: str) -> str:
    """By the tag where there is one, else by the convention of the file type."""
    tag = spec.get_string_attribute("oiio:ColorSpace").lower()
    if kind == "dpx":
        return "unknown"  # log or display: the header's fields are seldom true
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


def _alpha_state(header: FrameHeader, pixels: Pixels) -> str:
    # A palette PNG may turn out to have alpha, or none, only once it is decoded.
    if pixels.shape[2] < 4:
        return "opaque"
    return "straight" if header.alpha == "opaque" else header.alpha


def _orientation(spec: Any) -> int:
    """EXIF's 1..8: how the stored rows are to be turned; EXR and DPX are taken as stored."""
    return int(spec.get_int_attribute("Orientation", 1)) if _is_photo(spec) else 1


def _is_photo(spec: Any) -> bool:
    return str(spec.format) in ("uint8", "uint16") and not spec.get_int_attribute("dpx:Version")


def _decode(path: Path, source: Any, chosen: _Chosen) -> Pixels:
    first, end = min(chosen.indices), max(chosen.indices) + 1
    # An explicit channel range: the default of -1 reads one channel and says nothing.
    pixels = source.read_image(chosen.part, 0, first, end, chosen.spec.format)
    failed = source.has_error  # before geterror, which clears it
    reason = source.geterror() if failed else ""
    if failed or pixels is None:
        raise _damaged(path, reason)
    order = [index - first for index in chosen.indices]
    if order == list(range(end - first)):
        return np.asarray(pixels)
    return np.asarray(pixels)[..., order]


def _jpeg_shrink(source: Any, header: FrameHeader, at_least: Optional[tuple[int, int]]) -> int:
    """1, 2, 4 or 8: how much smaller a JPEG may be decoded."""
    if at_least is None or source.format_name() != "jpeg":
        return 1
    ratio = min(header.width / at_least[0], header.height / at_least[1])
    return next((shrink for shrink in (8, 4, 2) if ratio >= shrink), 1)


def _decode_with_opencv(path: Path, flags: int) -> Pixels:
    try:
        data = path.read_bytes()
    except OSError as failure:
        raise _unreadable(path, (failure.strerror or "no access").lower()) from failure
    if not _ends_well(data):
        raise _damaged(path, "its end is missing")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise _damaged(path, "")
    if pixels.ndim == 2:
        return pixels[..., None]
    if flags == _TO_RGB:
        return np.asarray(pixels)
    swap = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, swap))


# A colour JPEG straight into RGB order, at the stored orientation; 0 before OpenCV 4.11.
_TO_RGB = int(getattr(cv2, "IMREAD_COLOR_RGB", 0)) and int(
    cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
)


def _opencv_flags(kind: str, header: FrameHeader, shrink: int) -> int:
    grey = len(header.channels) == 1
    if shrink > 1:
        name = f"IMREAD_REDUCED_{'GRAYSCALE' if grey else 'COLOR'}_{shrink}"
        return int(getattr(cv2, name) | cv2.IMREAD_IGNORE_ORIENTATION)
    if kind == "jpeg" and not grey and _TO_RGB:
        return _TO_RGB
    # UNCHANGED: keeps 16 bits and alpha, and leaves the orientation tag to us.
    return int(cv2.IMREAD_UNCHANGED)


def _ends_well(data: bytes) -> bool:
    """Whether a PNG has its last chunk and a JPEG the end of its last scan."""
    if data.startswith(b"\x89PNG"):
        return data.rfind(b"IEND") > 0
    end = data.rfind(b"\xff\xd9")
    return end > 0 and data.find(b"\xff\xda", end) < 0


def _as_colour(stored: Pixels, chosen: _Chosen) -> Pixels:
    """(H, W, 1|3|4): grey with alpha becomes RGBA, since no two-channel layout exists here."""
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
    inside, stored = _overlap(data, display)
    canvas[inside] = pixels[stored]
    return canvas


def _overlap(data: Window, display: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where both windows meet: as slices of the display window and of the data window."""
    left, top = max(data[0], display[0]), max(data[1], display[1])
    right = max(left, min(data[0] + data[2], display[0] + display[2]))
    bottom = max(top, min(data[1] + data[3], display[1] + display[3]))

    def within(window: Window) -> tuple[slice, slice]:
        x, y = window[:2]
        return slice(top - y, bottom - y), slice(left - x, right - x)

    return within(display), within(data)


def _matte_channel(path: Path, pixels: Pixels) -> str:
    if pixels.shape[2] == 1:
        return "A"
    colours = color.to_float(pixels[..., :3])
    if pixels.shape[2] == 4:
        alpha = color.to_float(pixels[..., 3])
        if alpha.min() < 1.0 or np.ptp(colours) == 0:
            return "A"
        raise _unreadable(path, "its alpha is white all over; say --hint-channel R or A")
    if np.ptp(colours, axis=2).max() > GREY_TOLERANCE:
        raise _unreadable(path, "it is in colour, without alpha; say --hint-channel R, G or B")
    return "G"


def _unreadable(path: PathLike, why: str) -> FrameReadError:
    return FrameReadError(f"cannot read {path}: {why}", path=str(path), why=why)


def _damaged(path: Path, reason: str) -> FrameReadError:
    said = f" ({_short(reason)})" if reason else ""
    why = f"the file is damaged or cut short{said}; render or copy it again"
    return _unreadable(path, why)


def _short(reason: str) -> str:
    """A library's message as one line."""
    return " ".join(reason.split())[:200].rstrip(".") or "unknown reason"


# --------------------------------------------------------------------------------------- metadata

# Structure of the file itself, and what this module carries in fields of its own.
_NOT_CARRIED = {
    "compression",
    "planarconfig",
    "orientation",
    "pixelaspectratio",
    "colorinteropid",
    "screenwindowcenter",
    "screenwindowwidth",
    "name",
    "view",
    "type",
    "chunkcount",
    "version",
    "software",
    "resolutionunit",
    "xresolution",
    "yresolution",
    "iccprofile",
    "nuke/node_hash",
}
_NOT_CARRIED_PREFIXES = ("oiio:", "openexr:", "tiff:", "jpeg:", "png:", "dpx:", "exif:", "icc")
# Values whose type their Python form does not show; any other is an `Attribute`.
_KNOWN_KINDS = {
    "smpte:TimeCode": "timecode",
    "smpte:KeyCode": "keycode",
    "FramesPerSecond": "rational",
    "chromaticities": "float[8]",
}


def _metadata(spec: Any, kind: str) -> dict[str, Any]:
    """What is worth carrying to the outputs: timecode, frame rate, camera, capture date, ..."""
    carried: dict[str, Any] = {}
    for entry in spec.extra_attribs:
        name = entry.name
        if name.lower() in _NOT_CARRIED or name.lower().startswith(_NOT_CARRIED_PREFIXES):
            continue
        plain = isinstance(entry.value, (str, int, float))
        if plain or _KNOWN_KINDS.get(name) == str(entry.type):
            carried[name] = entry.value
        elif isinstance(entry.value, tuple):
            carried[name] = Attribute(entry.value, str(entry.type))
    tag = spec.get_string_attribute("oiio:ColorSpace")
    if tag and kind == "openexr":
        carried["oiio:ColorSpace"] = tag
    rate = _dpx_rate(spec) if kind == "dpx" else None
    if rate is not None:
        carried["FramesPerSecond"] = rate
    return carried


def _dpx_rate(spec: Any) -> Optional[tuple[int, int]]:
    """Frames a second as the fraction that is meant: a DPX has it as a float only."""
    for name in ("dpx:FrameRate", "dpx:TemporalFrameRate"):
        rate = float(spec.get_float_attribute(name, 0.0))
        for numerator, denominator in ((round(rate), 1), (round(rate * 1.001) * 1000, 1001)):
            if numerator > 0 and abs(rate - numerator / denominator) < 0.002:
                return numerator, denominator
    return None


def _set_metadata(spec: Any, metadata: Mapping[str, Any]) -> None:
    for name, value in metadata.items():
        if isinstance(value, Attribute):
            spec.attribute(name, oiio.TypeDesc(value.kind), value.value)
        elif name in _KNOWN_KINDS:
            spec.attribute(name, oiio.TypeDesc(_KNOWN_KINDS[name]), tuple(value))
        else:
            spec.attribute(name, value)


# ---------------------------------------------------------------------------------------- writing


def write_frame(
    path: PathLike,
    pixels: Pixels,
    *,
    colorspace: str = "linear",
    alpha: str = "premultiplied",
    dtype: Optional[str] = None,
    compression: Optional[str] = None,
    metadata: Optional[Mapping[str, Any]] = None,
    pixel_aspect: float = 1.0,
    data_window: Optional[Window] = None,
    display_window: Optional[Window] = None,
    layers: Optional[Mapping[str, Pixels]] = None,
    truncate: bool = False,
) -> int:
    """Write one frame, whole or not at all; gives its size in bytes.

    pixels: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), top-down, uint8, uint16, float16 or float32;
    `colorspace` and `alpha` ("opaque", "straight", "premultiplied") say what float pixels hold, and
    they are brought to what the file type holds (see the module). Integer pixels going into an
    integer file are code values and stay as they are.
    The suffix chooses the type: .exr (half unless dtype="float32"; a matte is a channel named A),
    .png, .jpg, .jpeg, .tif, .tiff, .dpx. compression: EXR "zip" (default), "zips", "none", "piz",
    "dwaa:45" ...; JPEG "95" or "95:444"; TIFF "none", "lzw", "zip".
    EXR alone knows windows and layers. data_window with pixels of the display window: only that
    part is stored; with pixels of its own size: they are stored there. layers: named planes beside
    the main ones, e.g. {"matte": (H, W, 1), "foreground": (H, W, 3)}, in the file's colour space.
    truncate: code values are cut instead of rounded, for comparing with programs that do so.
    Raises `FrameWriteError` naming the file and what to do.
    """
    path = Path(path)
    data = encode_frame(
        path,
        pixels,
        colorspace=colorspace,
        alpha=alpha,
        dtype=dtype,
        compression=compression,
        metadata=metadata,
        pixel_aspect=pixel_aspect,
        data_window=data_window,
        display_window=display_window,
        layers=layers,
        truncate=truncate,
    )
    return replace_file(path, data)


def encode_frame(
    path: PathLike,
    pixels: Pixels,
    *,
    colorspace: str = "linear",
    alpha: str = "premultiplied",
    dtype: Optional[str] = None,
    compression: Optional[str] = None,
    metadata: Optional[Mapping[str, Any]] = None,
    pixel_aspect: float = 1.0,
    data_window: Optional[Window] = None,
    display_window: Optional[Window] = None,
    layers: Optional[Mapping[str, Pixels]] = None,
    truncate: bool = False,
) -> bytes:
    """The bytes that `write_frame` would put under `path`, which is only looked at for its name."""
    path = Path(path)
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise _unwritable(path, f"unknown type '{path.suffix}'; use {', '.join(EXTENSIONS)}")
    pixels = _checked(path, pixels, kind)
    dtype = _sample_type(path, kind, dtype, pixels)
    stored = _as_stored(path, pixels, kind, dtype, colorspace, alpha, truncate)
    job = _Encoding(
        path=path,
        dtype=dtype,
        compression=compression,
        straight=not _is_premultiplied(kind, dtype),
        colorspace=colorspace if kind.tagged else "srgb",
        metadata=metadata or {},
        pixel_aspect=pixel_aspect,
    )
    if kind.codec == "opencv":
        return _encode_with_opencv(stored, job)
    if layers:
        stored, names = _with_layers(path, stored, layers, kind, dtype)
    else:
        names = _channel_names(stored)
    if kind is not _EXR:
        data_window = display_window = None
    stored, data, display = _windowed(path, stored, data_window, display_window)
    return _encode(kind.name, stored, names, data, display, job)


class _Kind(NamedTuple):
    """What a file type can hold."""

    name: str
    codec: str  # "oiio" or "opencv"
    dtypes: tuple[str, ...]
    has_alpha: bool = True
    tagged: bool = False  # holds either colour space and says which


class _Encoding(NamedTuple):
    path: Path
    dtype: str
    compression: Optional[str]
    straight: bool
    colorspace: str
    metadata: Mapping[str, Any]
    pixel_aspect: float


_EXR = _Kind("openexr", "oiio", ("float16", "float32"), tagged=True)
_PNG = _Kind("png", "opencv", ("uint8", "uint16"))
_JPEG = _Kind("jpeg", "opencv", ("uint8",), has_alpha=False)
_TIFF = _Kind("tiff", "oiio", ("uint16", "uint8", "float32"))
_DPX = _Kind("dpx", "oiio", ("uint16",), has_alpha=False)
_KINDS = {
    ".exr": _EXR,
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".dpx": _DPX,
}
EXTENSIONS = tuple(_KINDS)


def _checked(path: Path, pixels: Pixels, kind: _Kind) -> Pixels:
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise _unwritable(path, f"an array of shape {pixels.shape} is no frame")
    if pixels.dtype.name not in _OIIO_TYPES:
        raise _unwritable(path, f"samples of type {pixels.dtype} are no pixels")
    if pixels.shape[2] == 4 and not kind.has_alpha:
        raise _unwritable(path, f"{path.suffix} holds no alpha; choose exr, png or tif")
    if pixels.dtype.kind == "f" and np.isnan(pixels.min()):
        raise _unwritable(path, "it holds NaN; see --nonfinite zero")
    return pixels


def _sample_type(path: Path, kind: _Kind, wanted: Optional[str], pixels: Pixels) -> str:
    if wanted is not None:
        name = _DTYPES.get(str(wanted)) or np.dtype(wanted).name
        if name == "float16" and kind is _TIFF:
            return "float32"  # OpenImageIO writes no half TIFF; float holds every half exactly
        if name not in kind.dtypes:
            raise _unwritable(path, f"{path.suffix} holds {' or '.join(kind.dtypes)}, not {name}")
        return name
    integer = pixels.dtype.kind == "u" and pixels.dtype.name in kind.dtypes
    return pixels.dtype.name if integer else kind.dtypes[0]


def _is_premultiplied(kind: _Kind, dtype: str) -> bool:
    return dtype not in CODE_MAX and kind.codec == "oiio"


def _as_stored(
    path: Path,
    pixels: Pixels,
    kind: _Kind,
    dtype: str,
    colorspace: str,
    alpha: str,
    truncate: bool = False,
) -> Pixels:
    """Pixels in the colour space, alpha state and sample type of the file."""
    if colorspace not in ("linear", "srgb"):
        raise _unwritable(path, f"unknown colour space '{colorspace}'; use linear or srgb")
    if pixels.dtype.kind == "u" and dtype in CODE_MAX:
        return rescaled(pixels, dtype)
    if pixels.shape[2] > 1:
        space = colorspace if kind.tagged else "srgb" if dtype in CODE_MAX else "linear"
        state = "premultiplied" if _is_premultiplied(kind, dtype) else "straight"
        pixels = _converted(pixels, (colorspace, alpha), (space, state))
    if dtype in CODE_MAX:
        return quantised(pixels, dtype, truncate)
    return limited(pixels, dtype)


def display_codes(
    pixels: Pixels, *, dtype: str, colorspace: str, alpha: str = "straight", truncate: bool = False
) -> Pixels:
    """Pixels as a display shows them: sRGB-encoded, straight alpha, "uint8" or "uint16" codes.

    What a PNG holds and what a video is made of. Raises `FrameWriteError`.
    """
    path = Path("picture.png")
    return _as_stored(path, _checked(path, pixels, _PNG), _PNG, dtype, colorspace, alpha, truncate)


def _converted(pixels: Pixels, given: tuple[str, str], wanted: tuple[str, str]) -> Pixels:
    """Colour space and alpha state changed; products with alpha are taken in linear light."""
    (space, state), (to_space, to_state) = given, wanted
    multiplies = pixels.shape[2] == 4 and {state, to_state} == {"straight", "premultiplied"}
    if space == to_space and not multiplies:
        return pixels
    values = color.to_float(pixels)
    colours = np.ascontiguousarray(values[..., :3])
    if space == "srgb":
        colours = color.srgb_decode(colours, out=colours)
    if multiplies:
        change = color.premultiply if to_state == "premultiplied" else color.unpremultiply
        colours = change(colours, values[..., 3])
    if to_space == "srgb":
        colours = color.srgb_encode(colours)
    values[..., :3] = colours
    return values


def _channel_names(pixels: Pixels) -> list[str]:
    # A matte is named A: lossy EXR compression leaves a channel of that name exact.
    return {1: ["A"], 3: ["R", "G", "B"], 4: ["R", "G", "B", "A"]}[pixels.shape[2]]


def _with_layers(
    path: Path, main: Pixels, layers: Mapping[str, Pixels], kind: _Kind, dtype: str
) -> tuple[Pixels, list[str]]:
    if kind is not _EXR:
        raise _unwritable(path, "layers need an EXR")
    planes, names = [main], _channel_names(main)
    for layer, given in layers.items():
        plane = _checked(path, given, kind)
        if plane.shape[:2] != main.shape[:2]:
            raise _unwritable(path, f"layer '{layer}' is of another size than the picture")
        planes.append(limited(plane, dtype))
        names += [f"{layer}.{channel}" for channel in _channel_names(plane)]
    return np.concatenate(planes, axis=2), names


def _windowed(
    path: Path, pixels: Pixels, data: Optional[Window], display: Optional[Window]
) -> tuple[Pixels, Window, Window]:
    height, width = pixels.shape[:2]
    display = display or (0, 0, width, height)
    if data is None:
        data = display
    elif (width, height) == display[2:]:
        inside, _ = _overlap(data, display)
        pixels = pixels[inside]
        data = (display[0] + inside[1].start, display[1] + inside[0].start, *pixels.shape[1::-1])
    if pixels.shape[:2] != data[3:1:-1] or not pixels.size:
        raise _unwritable(path, f"{width}x{height} pixels fit neither data nor display window")
    return pixels, data, display


def _encode(
    kind: str,
    pixels: Pixels,
    names: Sequence[str],
    data: Window,
    display: Window,
    job: _Encoding,
) -> bytes:
    """The file's bytes through OpenImageIO, written to memory: a full disk cannot mislead it."""
    height, width, count = pixels.shape
    spec = oiio.ImageSpec(width, height, count, _OIIO_TYPES[job.dtype])
    spec.channelnames = tuple(names)
    spec.x, spec.y = data[:2]
    spec.full_x, spec.full_y, spec.full_width, spec.full_height = display
    _describe(spec, kind, job)
    pixels = np.ascontiguousarray(pixels)

    def write(name: str) -> None:
        # The type by its own name: OpenImageIO would not find it from a temporary one.
        target = oiio.ImageOutput.create(kind)
        if target is None:
            raise _unwritable(job.path, f"this OpenImageIO writes no {kind} files")
        written = target.open(name, spec) and target.write_image(pixels) and not target.has_error
        closed = target.close() and written
        reason = target.geterror()
        if not closed or (reason and reason not in _HARMLESS):
            raise _unwritable(job.path, f"the encoder refused it ({_short(reason)})")

    encoded = _through_memory(job.path, write)
    return _without_scratch_name(encoded, job.path) if kind == "dpx" else encoded


# OpenImageIO 3.2 says this after every good TIFF.
_HARMLESS = ("failed TIFFWriteCustomDirectory() of the Exif data",)


def _describe(spec: Any, kind: str, job: _Encoding) -> None:
    # An absent date would become the time of writing, and equal frames unequal files.
    spec.attribute("DateTime", "")
    _set_metadata(spec, job.metadata)
    spec.attribute("Software", f"mattebridge {__version__}")
    spec.attribute("PixelAspectRatio", float(job.pixel_aspect))
    if kind == "openexr":
        spec.attribute("compression", job.compression or "zip")
        if job.colorspace == "srgb":
            spec.attribute("oiio:ColorSpace", "srgb_rec709_scene")
    elif kind == "tiff":
        description = _as_description(_our_texts(job.metadata))
        if description:
            spec.attribute("ImageDescription", description)
        spec.attribute("compression", job.compression or "none")
        spec.attribute("oiio:UnassociatedAlpha", int(job.straight))
    else:
        spec.attribute("oiio:BitsPerSample", 10)
        rate = job.metadata.get("FramesPerSecond")
        if isinstance(rate, tuple) and len(rate) == 2 and rate[1]:
            spec.attribute("dpx:FrameRate", rate[0] / rate[1])
            spec.attribute("dpx:TemporalFrameRate", rate[0] / rate[1])


def _through_memory(path: Path, write: Callable[[str], None]) -> bytes:
    """What `write(name)` writes into an anonymous file; elsewhere than on Linux a temporary one."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("mattebridge-encode", os.MFD_CLOEXEC)
        name = f"/proc/self/fd/{descriptor}"
    else:
        descriptor, name = tempfile.mkstemp(prefix="mattebridge-")
    try:
        write(name)
        with open(name, "rb") as encoded:
            return encoded.read()
    except OSError as failure:
        raise _unwritable(path, f"no memory to encode it ({failure.strerror})") from failure
    finally:
        os.close(descriptor)
        if not name.startswith("/proc/"):
            os.unlink(name)


def _without_scratch_name(encoded: bytes, path: Path) -> bytes:
    """A DPX header holds the file's name at byte 36; ours was that of the scratch memory."""
    name = path.name.encode()[:99]
    return encoded[:36] + name.ljust(100, b"\0") + encoded[136:]


def _encode_with_opencv(pixels: Pixels, job: _Encoding) -> bytes:
    if pixels.shape[2] == 1:
        swapped = pixels[..., 0]
    else:
        swap = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        swapped = np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), swap))
    # No level for PNG: any explicit one leaves OpenCV's fast strategy, slower and bigger.
    options = _jpeg_options(job) if job.path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        done, encoded = cv2.imencode(job.path.suffix.lower(), swapped, options)
    except cv2.error as failure:
        raise _unwritable(job.path, f"the encoder refused it ({failure.err})") from failure
    if not done:
        raise _unwritable(job.path, "the encoder refused it")
    return _with_texts(encoded.tobytes(), job)


def _with_texts(encoded: bytes, job: _Encoding) -> bytes:
    """A PNG or JPEG with our own metadata and the pixel aspect, which OpenCV leaves out."""
    texts = _our_texts(job.metadata)
    if encoded.startswith(b"\xff\xd8"):
        told = _as_description(texts).encode()[:_JPEG_TEXT]
        segment = b"\xff\xfe" + (len(told) + 2).to_bytes(2, "big") + told if told else b""
        # Behind the JFIF marker, which must come first.
        start = 4 + int.from_bytes(encoded[4:6], "big")
        return encoded[:start] + segment + encoded[start:]
    chunks = [
        _png_chunk(b"tEXt", name.encode() + b"\0" + text.encode("ascii", "backslashreplace"))
        for name, text in texts.items()
    ]
    if job.pixel_aspect != 1.0:
        # Pixels along x and y in one unit: wide pixels are fewer along x.
        density = (round(1000 / job.pixel_aspect), 1000)
        chunks.append(_png_chunk(b"pHYs", b"".join(n.to_bytes(4, "big") for n in density) + b"\0"))
    # Behind the header, which is always 33 bytes long.
    return encoded[:33] + b"".join(chunks) + encoded[33:]


# The longest comment of a JPEG.
_JPEG_TEXT = 65_000


def _our_texts(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(text) for name, text in metadata.items() if name.startswith("mattebridge:")}


def _as_description(texts: Mapping[str, str]) -> str:
    """Our texts as the one that a JPEG or TIFF holds."""
    named = {name.partition(":")[2]: text for name, text in texts.items()}
    return f"mattebridge: {json.dumps(named, sort_keys=True)}" if named else ""


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    length, check = len(body), zlib.crc32(kind + body)
    return length.to_bytes(4, "big") + kind + body + check.to_bytes(4, "big")


def _jpeg_options(job: _Encoding) -> list[int]:
    quality, _, sampling = (job.compression or str(JPEG_QUALITY)).partition(":")
    if not quality.isdigit() or sampling not in ("", "420", "444"):
        raise _unwritable(job.path, f"no JPEG quality '{job.compression}'; say 95 or 95:444")
    factors = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        if sampling == "444"
        else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    )
    return [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]


def _unwritable(path: Path, why: str) -> FrameWriteError:
    return FrameWriteError(f"cannot write {path}: {why}", path=str(path))


# --------------------------------------------------------------------------------------- checking


def check_frame(
    path: PathLike,
    *,
    size_bytes: Optional[int] = None,
    size_px: Optional[tuple[int, int]] = None,
) -> None:
    """A cheap test that a frame on disk is whole: its length, header, and last rows.

    Costs 3 ms for an HD EXR where decoding costs 44. size_px is (width, height) of the display
    window. Raises `FrameReadError` saying what is wrong.
    """
    path = Path(path)
    try:
        length = path.stat().st_size
    except OSError as failure:
        raise _unreadable(path, (failure.strerror or "no access").lower()) from failure
    if size_bytes is not None and length != size_bytes:
        raise _damaged(path, f"{length} bytes instead of {size_bytes}")
    with _opened(path) as source:
        spec = source.spec()
        if size_px is not None and (spec.full_width, spec.full_height) != tuple(size_px):
            found = f"{spec.full_width}x{spec.full_height}"
            raise _unreadable(path, f"it is {found} instead of {size_px[0]}x{size_px[1]}")
        if source.format_name() in ("png", "jpeg"):
            _check_ending(path, length)
        else:
            _check_last_rows(path, source, spec)


def _check_ending(path: Path, length: int) -> None:
    with open(path, "rb") as stored:
        stored.seek(max(0, length - 12))
        ending = stored.read()
    if not (ending.endswith(b"IEND\xaeB`\x82") or ending.endswith(b"\xff\xd9")):
        raise _damaged(path, "its end is missing")


def _check_last_rows(path: Path, source: Any, spec: Any) -> None:
    end = spec.y + spec.height
    if spec.tile_width:
        rows = source.read_image(0, 0, 0, spec.nchannels, spec.format)
    else:
        rows = source.read_scanlines(end - 1, end, 0, 0, spec.nchannels, spec.format)
    if source.has_error or rows is None:
        raise _damaged(path, source.geterror())
