"""Writes pictures: EXR, TIFF, PNG, JPEG and DPX, whole or not at all.

    pixels --checked--> colour space, alpha and sample type of the file type --windows, layers-->
           --OpenImageIO (EXR, TIFF, DPX) or OpenCV (PNG, JPEG), in memory--> bytes --> whole_files

Equal frames give equal bytes: no date and no temporary name gets into a file. The encoders write to
memory, so that a full disk is found where the bytes are written, which is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Optional

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses

from mattebridge.color import Pixels, premultiply, srgb_decode, srgb_encode, to_float, unpremultiply
from mattebridge.errors import FrameWriteError
from mattebridge.image_io.colour_tags import OWN_TAG
from mattebridge.image_io.display_tags import (
    icc_profile,
    jpeg_segment,
    places_of,
    png_chunk,
    png_chunks,
)
from mattebridge.image_io.frame import DTYPES, OIIO_TYPES, PathLike, Window, overlap, shortened
from mattebridge.image_io.memory_file import memory_file
from mattebridge.image_io.metadata import as_description, our_texts, set_metadata
from mattebridge.image_io.picture_ends import is_whole
from mattebridge.image_io.samples import CODE_MAX, limited, of_ten_bits, quantised, rescaled
from mattebridge.version import __version__
from mattebridge.whole_files import replace_file

JPEG_QUALITY = 95
# The longest comment of a JPEG.
_JPEG_COMMENT_BYTES = 65_000
# OpenImageIO 3.2 reports this after every good TIFF.
_HARMLESS = ("failed TIFFWriteCustomDirectory() of the Exif data",)


@dataclass(frozen=True)
class Encoding:
    """What the pixels of a frame are, and how a file is to hold them.

    colorspace ("linear", "srgb", in an EXR also another, which is noted with its `interop_id` and
    not converted) and alpha ("opaque", "straight", "premultiplied"): of float
    pixels, which are converted to what the file type holds (see the package). Integer pixels for an
    integer file are code values and stay as they are.
    dtype: the sample type of the file; by default half for EXR, else that of the pixels where the
    file type has it, else the first that it has. truncate: code values are cut off instead of
    rounded, for comparing with programs that do so.
    compression: EXR "zip" (default), "zips", "none", "piz", "dwaa:45" ...; JPEG "95" or "95:444";
    TIFF "none", "lzw", "zip"; PNG "0" to "9", by default as the encoder is quickest.
    metadata: attributes as `FrameHeader` has them; PNG and JPEG hold only those of mattebridge.
    data_window, display_window: EXR only. With pixels of the size of the display window, the part
    inside the data window is stored; with pixels of the size of the data window, they are its
    pixels. layers: EXR only; planes beside the main ones, in the file's colour space, e.g.
    {"matte": (H, W, 1), "foreground": (H, W, 3)}.
    """

    colorspace: str = "linear"
    alpha: str = "premultiplied"
    dtype: Optional[str] = None
    compression: Optional[str] = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    pixel_aspect: float = 1.0
    data_window: Optional[Window] = None
    display_window: Optional[Window] = None
    layers: Mapping[str, Pixels] = field(default_factory=dict)
    truncate: bool = False
    interop_id: str = ""


_PREMULTIPLIED_LIGHT = Encoding()


def write_frame(path: PathLike, pixels: Pixels, encoding: Encoding = _PREMULTIPLIED_LIGHT) -> int:
    """Write one frame, whole or not at all; gives its size in bytes.

    path: its suffix chooses the file type, one of `EXTENSIONS`. pixels: (H, W), (H, W, 1),
    (H, W, 3) or (H, W, 4), top-down, uint8, uint16, float16 or float32; one channel is a matte,
    stored as it is without a colour curve (in an EXR as the channel A).
    Raises `FrameWriteError` naming the file and what to do.
    """
    return replace_file(Path(path), encode_frame(path, pixels, encoding))


def encode_frame(
    path: PathLike, pixels: Pixels, encoding: Encoding = _PREMULTIPLIED_LIGHT
) -> bytes:
    """The bytes that `write_frame` would write; of `path` only the name is used."""
    path = Path(path)
    kind = _FILE_TYPES.get(path.suffix.lower())
    if kind is None:
        raise _unwritable(path, f"unknown type '{path.suffix}'; use {', '.join(EXTENSIONS)}")
    pixels = _checked(path, pixels, kind)
    target = _Target(path, kind, _sample_type(path, kind, encoding.dtype, pixels), encoding)
    stored = _as_stored(pixels, target)
    if kind is _DPX:
        stored = of_ten_bits(stored, encoding.truncate)
    if kind.codec == "opencv":
        return _encoded_by_opencv(stored, target)
    return _encoded_by_oiio(stored, target)


def display_codes(
    pixels: Pixels, *, dtype: str, colorspace: str, alpha: str = "straight", truncate: bool = False
) -> Pixels:
    """Pixels as a display shows them: sRGB-encoded, straight alpha, "uint8" or "uint16" codes.

    What a PNG holds, and what videos are made from. Raises `FrameWriteError`.
    """
    path = Path("picture.png")
    encoding = Encoding(colorspace=colorspace, alpha=alpha, truncate=truncate)
    return _as_stored(_checked(path, pixels, _PNG), _Target(path, _PNG, dtype, encoding))


# --- file types -----------------------------------------------------------------------------------


class _FileType(NamedTuple):
    """What a file type can hold; `dtypes`: the first is its default."""

    name: str
    codec: str  # "oiio" or "opencv"
    dtypes: tuple[str, ...]
    has_alpha: bool = True
    is_tagged: bool = False  # holds either colour space and tells which

    def premultiplies(self, dtype: str) -> bool:
        """Whether colours of such samples are stored times alpha."""
        return dtype not in CODE_MAX and self.codec == "oiio"


_EXR = _FileType("openexr", "oiio", ("float16", "float32"), is_tagged=True)
_PNG = _FileType("png", "opencv", ("uint8", "uint16"))
_JPEG = _FileType("jpeg", "opencv", ("uint8",), has_alpha=False)
_TIFF = _FileType("tiff", "oiio", ("uint16", "uint8", "float32"))
_DPX = _FileType("dpx", "oiio", ("uint16",), has_alpha=False)
_FILE_TYPES = {
    ".exr": _EXR,
    ".png": _PNG,
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".dpx": _DPX,
}
EXTENSIONS = tuple(_FILE_TYPES)


class _Target(NamedTuple):
    """The file that is being made: `path` for its suffix and for messages."""

    path: Path
    kind: _FileType
    dtype: str
    encoding: Encoding


def _checked(path: Path, pixels: Pixels, kind: _FileType) -> Pixels:
    """The pixels as (H, W, 1|3|4)."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4) or not pixels.size:
        raise _unwritable(path, f"an array of shape {pixels.shape} is not a frame")
    if pixels.dtype.name not in OIIO_TYPES:
        raise _unwritable(path, f"samples of type {pixels.dtype} are not supported")
    if pixels.shape[2] == 4 and not kind.has_alpha:
        raise _unwritable(path, f"{path.suffix} holds no alpha; choose exr, png or tif")
    if pixels.dtype.kind == "f" and np.isnan(pixels.min()):
        raise _unwritable(path, "it holds NaN; see --nonfinite zero")
    return pixels


def _sample_type(path: Path, kind: _FileType, wanted: Optional[str], pixels: Pixels) -> str:
    if wanted is not None:
        name = DTYPES.get(str(wanted)) or np.dtype(wanted).name
        if name == "float16" and kind is _TIFF:
            return "float32"  # OpenImageIO writes no half TIFF; float holds every half exactly
        if name not in kind.dtypes:
            raise _unwritable(path, f"{path.suffix} holds {' or '.join(kind.dtypes)}, not {name}")
        return name
    integer = pixels.dtype.kind == "u" and pixels.dtype.name in kind.dtypes
    return pixels.dtype.name if integer else kind.dtypes[0]


# --- colour and samples ---------------------------------------------------------------------------


def _as_stored(pixels: Pixels, target: _Target) -> Pixels:
    """Pixels in the colour space, alpha state and sample type of the file."""
    kind, dtype, encoding = target.kind, target.dtype, target.encoding
    is_named = encoding.colorspace not in ("linear", "srgb")
    if is_named and (kind is not _EXR or encoding.alpha == "straight"):
        raise _unwritable(
            target.path,
            f"only an EXR, and not straight colours, can be in '{encoding.colorspace}'; use linear"
            " or srgb",
        )
    if pixels.dtype.kind == "u" and dtype in CODE_MAX:
        return rescaled(pixels, dtype)
    if pixels.shape[2] > 1 and not is_named:
        convention = "srgb" if dtype in CODE_MAX else "linear"
        space = encoding.colorspace if kind.is_tagged else convention
        state = "premultiplied" if kind.premultiplies(dtype) else "straight"
        pixels = _converted(pixels, (encoding.colorspace, encoding.alpha), (space, state))
    if dtype in CODE_MAX:
        return quantised(pixels, dtype, encoding.truncate)
    return limited(pixels, dtype)


def _converted(pixels: Pixels, given: tuple[str, str], wanted: tuple[str, str]) -> Pixels:
    """Pixels in another (colour space, alpha state); alpha is multiplied in linear light."""
    (space, state), (to_space, to_state) = given, wanted
    multiplies = pixels.shape[2] == 4 and {state, to_state} == {"straight", "premultiplied"}
    if space == to_space and not multiplies:
        return pixels
    values = to_float(pixels)
    colours = np.ascontiguousarray(values[..., :3])
    if space == "srgb":
        colours = srgb_decode(colours, out=colours)
    if multiplies:
        change = premultiply if to_state == "premultiplied" else unpremultiply
        colours = change(colours, values[..., 3])
    if to_space == "srgb":
        colours = srgb_encode(colours)
    values[..., :3] = colours
    return values


# --- OpenImageIO: EXR, TIFF, DPX ------------------------------------------------------------------


def _encoded_by_oiio(pixels: Pixels, target: _Target) -> bytes:
    kind, encoding = target.kind, target.encoding
    names = _channel_names(pixels)
    if encoding.layers:
        pixels, names = _with_layers(pixels, target)
    windows = (encoding.data_window, encoding.display_window) if kind is _EXR else (None, None)
    pixels, data, display = _windowed(target.path, pixels, *windows)
    spec = _spec_of(pixels, names, data, display, target)
    encoded = _through_memory(target.path, _writer(np.ascontiguousarray(pixels), spec, target))
    if not is_whole(encoded, kind.name):
        raise _unwritable(
            target.path,
            "there was no room to encode it; free some memory, and space in the folder of temporary"
            " files, then run again with --resume",
        )
    return _without_scratch_name(encoded, target.path) if kind is _DPX else encoded


def _channel_names(pixels: Pixels) -> list[str]:
    # A matte is named A: lossy EXR compression leaves a channel of that name exact.
    return {1: ["A"], 3: ["R", "G", "B"], 4: ["R", "G", "B", "A"]}[pixels.shape[2]]


def _with_layers(main: Pixels, target: _Target) -> tuple[Pixels, list[str]]:
    if target.kind is not _EXR:
        raise _unwritable(target.path, "layers need an EXR")
    planes, names = [main], _channel_names(main)
    for layer, given in target.encoding.layers.items():
        plane = _checked(target.path, given, target.kind)
        if plane.shape[:2] != main.shape[:2]:
            raise _unwritable(target.path, f"layer '{layer}' has another size than the picture")
        planes.append(limited(plane, target.dtype))
        names += [f"{layer}.{channel}" for channel in _channel_names(plane)]
    return np.concatenate(planes, axis=2), names


def _windowed(
    path: Path, pixels: Pixels, data: Optional[Window], display: Optional[Window]
) -> tuple[Pixels, Window, Window]:
    """The pixels that are stored, their data window and the display window."""
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


def _spec_of(
    pixels: Pixels, names: Sequence[str], data: Window, display: Window, target: _Target
) -> Any:
    height, width, count = pixels.shape
    spec = oiio.ImageSpec(width, height, count, OIIO_TYPES[target.dtype])
    spec.channelnames = tuple(names)
    spec.x, spec.y = data[:2]
    spec.full_x, spec.full_y, spec.full_width, spec.full_height = display
    encoding = target.encoding
    # Without a date here OpenImageIO writes the time of day, and equal frames become unequal files.
    spec.attribute("DateTime", "")
    set_metadata(spec, encoding.metadata)
    spec.attribute("Software", f"mattebridge {__version__}")
    spec.attribute("PixelAspectRatio", float(encoding.pixel_aspect))
    describe = {"openexr": _describe_exr, "tiff": _describe_tiff, "dpx": _describe_dpx}
    describe[target.kind.name](spec, target)
    return spec


def _describe_exr(spec: Any, target: _Target) -> None:
    spec.attribute("compression", target.encoding.compression or "zip")
    space = target.encoding.colorspace
    if space == "srgb":
        spec.attribute("oiio:ColorSpace", "srgb_rec709_scene")
    elif space != "linear":
        spec.attribute("oiio:ColorSpace", target.encoding.interop_id or space)
        spec.attribute(OWN_TAG, space)


def _describe_tiff(spec: Any, target: _Target) -> None:
    if target.dtype in CODE_MAX and spec.nchannels > 1:
        profile = np.frombuffer(icc_profile(places_of(target.encoding.metadata)), np.uint8)
        spec.attribute("ICCProfile", oiio.TypeDesc(f"uint8[{len(profile)}]"), profile)
    description = as_description(our_texts(target.encoding.metadata))
    if description:
        spec.attribute("ImageDescription", description)
    spec.attribute("compression", target.encoding.compression or "none")
    spec.attribute("oiio:UnassociatedAlpha", int(not target.kind.premultiplies(target.dtype)))


def _describe_dpx(spec: Any, target: _Target) -> None:
    spec.attribute("oiio:BitsPerSample", 10)
    rate = target.encoding.metadata.get("FramesPerSecond")
    if isinstance(rate, tuple) and len(rate) == 2 and rate[1]:
        spec.attribute("dpx:FrameRate", rate[0] / rate[1])
        spec.attribute("dpx:TemporalFrameRate", rate[0] / rate[1])


def _writer(pixels: Pixels, spec: Any, target: _Target) -> Callable[[str], None]:
    """A function that writes the file under a name."""
    kind = target.kind.name

    def write(name: str) -> None:
        # By the name of the format: OpenImageIO would not know it from that of the file.
        output = oiio.ImageOutput.create(kind)
        if output is None:
            raise _unwritable(target.path, f"this OpenImageIO writes no {kind} files")
        written = output.open(name, spec) and output.write_image(pixels) and not output.has_error
        closed = output.close() and written
        reason = output.geterror()
        if not closed or (reason and reason not in _HARMLESS):
            raise _unwritable(target.path, f"the encoder refused it ({shortened(reason)})")

    return write


def _through_memory(path: Path, write: Callable[[str], None]) -> bytes:
    """What `write(name)` writes, by way of `memory_file`."""
    try:
        with memory_file() as memory:
            write(str(memory))
            return memory.read_bytes()
    except OSError as failure:
        raise _unwritable(path, f"no memory to encode it ({failure.strerror})") from failure


def _without_scratch_name(encoded: bytes, path: Path) -> bytes:
    """A DPX with its own file name at byte 36, where the encoder put that of the memory."""
    name = path.name.encode()[:99]
    return encoded[:36] + name.ljust(100, b"\0") + encoded[136:]


# --- OpenCV: PNG, JPEG ----------------------------------------------------------------------------


def _encoded_by_opencv(pixels: Pixels, target: _Target) -> bytes:
    has_colours = pixels.shape[2] > 1
    if not has_colours:
        swapped = pixels[..., 0]
    else:
        swap = cv2.COLOR_RGBA2BGRA if pixels.shape[2] == 4 else cv2.COLOR_RGB2BGR
        swapped = np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels), swap))
    options = _jpeg_options(target) if target.kind is _JPEG else _png_options(target)
    try:
        done, encoded = cv2.imencode(target.path.suffix.lower(), swapped, options)
    except cv2.error as failure:
        raise _unwritable(target.path, f"the encoder refused it ({failure.err})") from failure
    if not done:
        raise _unwritable(target.path, "the encoder refused it")
    if target.kind is _JPEG:
        return _jpeg_with_segments(encoded.tobytes(), target.encoding, has_colours)
    return _png_with_chunks(encoded.tobytes(), target.encoding, has_colours)


def _png_options(target: _Target) -> list[int]:
    # None by default: with any level, OpenCV leaves its fast strategy, and files are larger.
    wanted = target.encoding.compression
    if wanted is None:
        return []
    if len(wanted) != 1 or not wanted.isdigit():
        raise _unwritable(target.path, f"'{wanted}' is not a PNG compression; use 0 to 9")
    return [cv2.IMWRITE_PNG_COMPRESSION, int(wanted)]


def _jpeg_options(target: _Target) -> list[int]:
    wanted = target.encoding.compression or str(JPEG_QUALITY)
    quality, _, sampling = wanted.partition(":")
    if not quality.isdigit() or sampling not in ("", "420", "444"):
        raise _unwritable(target.path, f"'{wanted}' is not a JPEG quality; use 95 or 95:444")
    factors = (
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
        if sampling == "444"
        else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
    )
    return [cv2.IMWRITE_JPEG_QUALITY, int(quality), cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]


def _jpeg_with_segments(encoded: bytes, encoding: Encoding, has_colours: bool) -> bytes:
    """The JPEG with its colours' profile and mattebridge's comment, which OpenCV does not write."""
    comment = as_description(our_texts(encoding.metadata)).encode()[:_JPEG_COMMENT_BYTES]
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment if comment else b""
    if has_colours:
        segment = jpeg_segment(icc_profile(places_of(encoding.metadata))) + segment
    # Behind the JFIF marker, which must come first.
    start = 4 + int.from_bytes(encoded[4:6], "big")
    return encoded[:start] + segment + encoded[start:]


def _png_with_chunks(encoded: bytes, encoding: Encoding, has_colours: bool) -> bytes:
    """The PNG with colour tags, texts and the pixel aspect, which OpenCV does not write."""
    chunks = list(png_chunks(places_of(encoding.metadata))) if has_colours else []
    chunks += [
        png_chunk(b"tEXt", name.encode() + b"\0" + text.encode("ascii", "backslashreplace"))
        for name, text in our_texts(encoding.metadata).items()
    ]
    if encoding.pixel_aspect != 1.0:
        # Pixels per unit along x and y: where pixels are wide, there are fewer along x.
        density = (round(1000 / encoding.pixel_aspect), 1000)
        chunks.append(png_chunk(b"pHYs", b"".join(n.to_bytes(4, "big") for n in density) + b"\0"))
    # Behind the header, which is always 33 bytes long.
    return encoded[:33] + b"".join(chunks) + encoded[33:]


# --- errors ---------------------------------------------------------------------------------------


def _unwritable(path: Path, why: str) -> FrameWriteError:
    return FrameWriteError(f"cannot write {path}: {why}", path=str(path))
