"""Writes pictures: EXR, TIFF, PNG, JPEG and DPX, whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses

from mattebridge import color
from mattebridge.errors import FrameWriteError
from mattebridge.image_io.frame import (
    DTYPES,
    OIIO_TYPES,
    PathLike,
    Pixels,
    Window,
    overlap,
    shortened,
)
from mattebridge.image_io.metadata import as_description, our_texts, set_metadata
from mattebridge.image_io.samples import CODE_MAX, limited, quantised, rescaled
from mattebridge.version import __version__
from mattebridge.whole_files import replace_file

JPEG_QUALITY = 95


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
    if pixels.dtype.name not in OIIO_TYPES:
        raise _unwritable(path, f"samples of type {pixels.dtype} are no pixels")
    if pixels.shape[2] == 4 and not kind.has_alpha:
        raise _unwritable(path, f"{path.suffix} holds no alpha; choose exr, png or tif")
    if pixels.dtype.kind == "f" and np.isnan(pixels.min()):
        raise _unwritable(path, "it holds NaN; see --nonfinite zero")
    return pixels


def _sample_type(path: Path, kind: _Kind, wanted: Optional[str], pixels: Pixels) -> str:
    if wanted is not None:
        name = DTYPES.get(str(wanted)) or np.dtype(wanted).name
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
        inside, _ = overlap(data, display)
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
    spec = oiio.ImageSpec(width, height, count, OIIO_TYPES[job.dtype])
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
            raise _unwritable(job.path, f"the encoder refused it ({shortened(reason)})")

    encoded = _through_memory(job.path, write)
    return _without_scratch_name(encoded, job.path) if kind == "dpx" else encoded


# OpenImageIO 3.2 says this after every good TIFF.
_HARMLESS = ("failed TIFFWriteCustomDirectory() of the Exif data",)


def _describe(spec: Any, kind: str, job: _Encoding) -> None:
    # An absent date would become the time of writing, and equal frames unequal files.
    spec.attribute("DateTime", "")
    set_metadata(spec, job.metadata)
    spec.attribute("Software", f"mattebridge {__version__}")
    spec.attribute("PixelAspectRatio", float(job.pixel_aspect))
    if kind == "openexr":
        spec.attribute("compression", job.compression or "zip")
        if job.colorspace == "srgb":
            spec.attribute("oiio:ColorSpace", "srgb_rec709_scene")
    elif kind == "tiff":
        description = as_description(our_texts(job.metadata))
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
    texts = our_texts(job.metadata)
    if encoded.startswith(b"\xff\xd8"):
        told = as_description(texts).encode()[:_JPEG_TEXT]
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
