"""Reads a picture: EXR, DPX, TIFF and JPEG through OpenImageIO, PNG through OpenCV.

    file --opened--> header --choose--> channels by name --decode--> upright --> display window

The rule that must not be broken: a file that is damaged or cut short is an error, never a picture.
The libraries do not report this reliably. OpenImageIO returns a full array for a damaged JPEG and
reports the damage only in `has_error`; its `ImageBuf` does the same for EXR; OpenCV gives a JPEG
with a hole without an error, and converts floats to 8 bits. What no library reports is looked for
in `jpeg` and `tails`. What a header promises is checked before anything is decoded.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses

from mattebridge.color import Pixels, luma, matte_is_in_colours, to_float
from mattebridge.image_io import colour_tags, jpeg, tails
from mattebridge.image_io.channels import Chosen, choose, too_many_channels
from mattebridge.image_io.frame import (
    DTYPES,
    MAX_CHANNELS,
    Frame,
    FrameHeader,
    PathLike,
    Window,
    damaged,
    overlap,
    shortened,
    unreadable,
)
from mattebridge.image_io.memory_file import memory_file
from mattebridge.image_io.metadata import carried_metadata, lost_metadata

# The channels of a grey picture that was saved as a colour JPEG differ by this much at most.
GREY_TOLERANCE = 0.02
# The list of channels in the header of an EXR: its name and type, then its size in bytes. An entry
# has at most 255 bytes of name and 17 others.
_CHANNEL_LIST = b"channels\0chlist\0"
_MAX_CHANNEL_LIST_BYTES = MAX_CHANNELS * 272
# How far into a file it is looked for: in one of several parts, the lists are behind one another.
_HEADER_BYTES, _HEADERS_BYTES = 1 << 16, 1 << 22
_MULTI_PART = 0x1000
_EXR_MAGIC = b"\x76\x2f\x31\x01"


def read_header(path: PathLike, *, layer: Optional[str] = None, matte: bool = False) -> FrameHeader:
    """Size, channels, type, colour and metadata of a frame; no pixels are decoded.

    layer, matte: as in `read_frame`. Raises `FrameReadError` when the file is missing, is not an
    image, has no such layer, or holds more than a picture has.
    """
    path = Path(path)
    with opened(path) as source:
        return _header(path, source, choose(path, source, layer, matte))


def read_frame(
    path: PathLike,
    *,
    layer: Optional[str] = None,
    matte: bool = False,
    window: str = "display",
    at_least: Optional[tuple[int, int]] = None,
) -> Frame:
    """A frame from disk, RGB(A) or a single channel.

    window: "display" gives the full display window, black and transparent where nothing is
    stored, without the pixels outside it (overscan); "data" gives the stored pixels only.
    layer: a named layer or part of an EXR, e.g. "foreground"; by default the unnamed one, else the
    only one in colour. matte: the picture is wanted for its coverage; an unnamed A, which is no
    picture beside colours, is then what is read.
    at_least: (width, height); for a preview. A JPEG is decoded at the half, quarter or eighth
    that is no smaller, in a third of the time; at hard colour edges that is not the average of
    the full picture. Other types come at full size.
    Raises `FrameReadError` naming the file; a damaged or truncated file is always an error.
    """
    path = Path(path)
    with opened(path) as source:
        chosen = choose(path, source, layer, matte)
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

    channel "auto": the only channel, else alpha, else a grey picture's value; where alpha is the
    same all over and the colours are not, their luma, float32. "R", "G", "B" and "A" name one;
    "luma" is that of the colours in any case.
    Raises `FrameReadError` where the choice would be a guess: a picture in colour without alpha.
    """
    return matte_of(read_frame(path, layer=layer, matte=True), path, channel=channel)


def is_matte_by_luma(frame: Frame) -> bool:
    """Whether the channel "auto" of a matte is the luma of its colours."""
    pixels = frame.pixels
    return pixels.shape[2] == 4 and matte_is_in_colours(pixels[..., :3], pixels[..., 3])


def matte_of(frame: Frame, path: PathLike, *, channel: str = "auto") -> Pixels:
    """The matte in a frame that was read, as `read_matte` chooses it; path: for messages."""
    names = {1: "A", 3: "RGB", 4: "RGBA"}[frame.pixels.shape[2]]
    by_luma = channel == "luma" or (channel == "auto" and is_matte_by_luma(frame))
    if by_luma and len(names) > 1:
        return luma(frame.pixels[..., :3])[..., None]
    if channel in ("auto", "luma"):
        channel = _matte_channel(Path(path), frame.pixels)
    if channel not in names:
        raise unreadable(path, f"it has no channel {channel}, only {', '.join(names)}")
    index = names.index(channel)
    return np.ascontiguousarray(frame.pixels[..., index : index + 1])


# --- the file, opened -----------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """OpenImageIO's reader of a file. Raises `FrameReadError` where it cannot be opened."""
    try:
        if path.is_dir():
            raise unreadable(path, "it is a folder; name a file or a pattern (plate.####.exr)")
        if not path.stat().st_size:
            raise unreadable(path, "the file is empty; render or copy it again")
        _check_channel_list(path)
    except OSError as failure:
        raise unreadable(path, f"{(failure.strerror or 'no access').lower()}") from failure
    with contextlib.ExitStack() as stack:
        source = _opened_at(path, path)
        if source.format_name() == "jpeg" and str(source.spec().format) != "uint8":
            # A photo with a gain map (Ultra HDR), which OpenImageIO applies: without what is
            # behind its first picture it is a JPEG like any other, as every viewer shows it.
            source.close()
            stored = stack.enter_context(memory_file(_first_jpeg(path)))
            source = _opened_at(path, stored)
        stack.callback(source.close)
        yield source


def _opened_at(path: Path, stored: Path) -> Any:
    """OpenImageIO's reader of the file `stored`; path: for messages."""
    config = oiio.ImageSpec()
    # Without it OpenImageIO multiplies the encoded colours of a PNG by alpha while reading.
    config.attribute("oiio:UnassociatedAlpha", 1)
    source = oiio.ImageInput.open(str(stored), config)
    if source is None:
        reason = oiio.geterror() or "it is not an image of a known type"
        raise unreadable(path, f"{shortened(reason)}; render or copy it again")
    return source


def _check_channel_list(path: Path) -> None:
    """Refuse an EXR with many thousand channels, whose header alone takes minutes to open."""
    with open(path, "rb") as stored:
        start = stored.read(8)
        if len(start) < 8 or not start.startswith(_EXR_MAGIC):
            return
        several = int.from_bytes(start[4:], "little") & _MULTI_PART
        start += stored.read(_HEADERS_BYTES if several else _HEADER_BYTES)
    at, end = start.find(_CHANNEL_LIST), len(start) - len(_CHANNEL_LIST) - 4
    while 0 <= at <= end:
        at += len(_CHANNEL_LIST)
        (size,) = struct.unpack_from("<i", start, at)
        if size > _MAX_CHANNEL_LIST_BYTES:
            raise unreadable(path, too_many_channels(f"a list of {size} bytes of them"))
        at = start.find(_CHANNEL_LIST, at)


# --- the header -----------------------------------------------------------------------------------


def _header(path: Path, source: Any, chosen: Chosen) -> FrameHeader:
    spec, kind = chosen.spec, source.format_name()
    turned = _orientation(spec) >= 5
    data = (spec.x, spec.y, spec.width, spec.height)
    display = (spec.full_x, spec.full_y, spec.full_width, spec.full_height)
    if turned:
        data, display = (_swapped(window) for window in (data, display))
    aspect = float(spec.get_float_attribute("PixelAspectRatio", 1.0)) or 1.0
    dtype = DTYPES[str(spec.format)]
    tag = colour_tags.tag_of(path, spec, kind, dtype)
    return FrameHeader(
        path=path,
        width=display[2],
        height=display[3],
        channels=tuple("RRRA" if chosen.roles == "YA" else chosen.roles),
        dtype=dtype,
        colorspace=tag.space,
        unknown_because=tag.unknown_because,
        unread_tag=tag.unread,
        alpha=_association(spec, kind, chosen.roles),
        data_window=data,
        display_window=display,
        pixel_aspect=1.0 / aspect if turned else aspect,
        metadata=carried_metadata(spec, kind),
        lost_metadata=lost_metadata(spec),
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
    chosen: Chosen,
    at_least: Optional[tuple[int, int]],
) -> Pixels:
    """The chosen channels, (h, w, C), as they are stored."""
    kind = source.format_name()
    if kind == "png":
        return _decoded_png(path)
    if kind == "jpeg":
        return _decoded_jpeg(path, source, header, chosen, at_least)
    pixels = _decoded_by_oiio(path, source, chosen)
    if tails.is_damaged(path, chosen.spec, kind) or (
        tails.is_unchecked(chosen.spec, kind)
        and tails.row_broken_off(tails.last_block(pixels, chosen.spec)) is not None
    ):
        raise damaged(path, "a part of it is zeros")
    return pixels


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise unreadable(path, (failure.strerror or "no access").lower()) from failure


def _decoded_png(path: Path) -> Pixels:
    data = _bytes_of(path)
    if data.rfind(b"IEND") <= 0:
        raise damaged(path, "its end is missing")
    # UNCHANGED keeps 16 bits and alpha, and does not apply the orientation.
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise damaged(path, "")
    if pixels.ndim == 2:
        return pixels[..., None]
    swap = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(pixels, swap))


def _first_jpeg(path: Path) -> bytes:
    """The first picture of a JPEG file, to its end marker."""
    data = _bytes_of(path)
    end = jpeg.end_of_picture(data)
    if end is None:
        raise damaged(path, "its end is missing")
    return data[:end]


def _decoded_jpeg(
    path: Path,
    source: Any,
    header: FrameHeader,
    chosen: Chosen,
    at_least: Optional[tuple[int, int]],
) -> Pixels:
    data = _first_jpeg(path)
    shrink = _jpeg_shrink(header, at_least) if at_least else 1
    if shrink > 1 and jpeg.is_one_scan(data):
        pixels = _shrunk_jpeg(path, data, header, shrink)
    else:
        pixels = _decoded_by_oiio(path, source, chosen)
    if jpeg.has_data_left_over(data):
        raise damaged(path, "the picture is complete before its data ends")
    return pixels


def _jpeg_shrink(header: FrameHeader, at_least: tuple[int, int]) -> int:
    """1, 2, 4 or 8: how much smaller a JPEG may be decoded."""
    ratio = min(header.width / at_least[0], header.height / at_least[1])
    return next((shrink for shrink in (8, 4, 2) if ratio >= shrink), 1)


def _shrunk_jpeg(path: Path, data: bytes, header: FrameHeader, shrink: int) -> Pixels:
    kind = "GRAYSCALE" if len(header.channels) == 1 else "COLOR"
    pixels = jpeg.shrunk(data, int(getattr(cv2, f"IMREAD_REDUCED_{kind}_{shrink}")))
    if pixels is None:
        raise damaged(path, "its data ends before the picture")
    return pixels[..., None] if pixels.ndim == 2 else np.asarray(pixels[..., ::-1])


def _decoded_by_oiio(path: Path, source: Any, chosen: Chosen) -> Pixels:
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


def _as_colour(stored: Pixels, chosen: Chosen) -> Pixels:
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
    if pixels.shape[2] == 4:
        return "A"
    if np.ptp(to_float(pixels), axis=2).max() > GREY_TOLERANCE:
        raise unreadable(
            path, "it is in colour, without alpha; choose --hint-channel R, G, B or luma"
        )
    return "G"
