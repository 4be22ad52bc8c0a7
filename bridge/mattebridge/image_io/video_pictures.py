"""Decoded pictures of PyAV as code values: what their tags mean, and which way up they are.

    VideoFrame --planes, tags--> ycbcr.to_rgb --display matrix--> (H, W, 3|4) codes, upright

YUV is read with the matrix and range of the tags; untagged matrices are Rec.601 up to 576 rows and
Rec.709 above. Chroma lies where the stream's tag says, else where its codec puts it: in the middle
(MPEG-1, JPEG), at the top left (DV), on the left column (all others). swscale is used only to
unpack, and for RGB of up to 8 bits. PyAV is imported only inside functions: it is the optional
extra `video`.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge.color import Pixels
from mattebridge.image_io import coded_colours, ycbcr
from mattebridge.image_io.coded_colours import BT2020_NUMBER, UNSPECIFIED, WIDE_PRIMARIES
from mattebridge.image_io.ycbcr import Layout, Siting

# Standard definition, which is Rec.601 where the file has no tag.
_SD_ROWS = 576
_SD_MATRIX, _HD_MATRIX, _UHD_MATRIX = 5, 1, 9
# Numbers of ISO 23091-2 (H.273) that are no matrix of fixed weights, by the names people know.
_UNREAD_MATRICES = {8: "YCgCo", 10: "BT.2020 constant luminance", 11: "SMPTE 2085"}
_UNREAD_MATRICES |= {12: "chroma-derived", 13: "chroma-derived", 14: "ICtCp", 15: "IPT-C2"}
_LIMITED, _FULL = 1, 2
_CENTRED_CODECS = ("mpeg1video", "mjpeg", "mjpegb", "ljpeg", "amv")
_TOP_LEFT_CODECS = ("dvvideo",)
_BY_SUBSAMPLING = {(1, 1): "444", (2, 1): "422", (2, 2): "420", (1, 2): "440"}
_BY_SUBSAMPLING |= {(4, 1): "411", (4, 4): "410"}
_WITH_ALPHA = (
    *("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya8", "ya16", "pal8"),
    *("vuya", "ayuv", "uyva"),
)
# Wider samples than this are floats.
_MOST_BITS = 16


def opened(path: Path, *args: Any, **options: Any) -> Any:
    """`av.open` of a file: a relative name with a colon is not taken for a protocol."""
    import av

    return av.open(os.path.abspath(path), *args, **options)


# ---------------------------------------------------------------------------------------- upright


@dataclass(frozen=True)
class Orientation:
    """How a stored picture becomes upright: rows and columns exchanged first, then flipped."""

    exchanged: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def applied(self, pixels: Pixels) -> Pixels:
        """The upright picture, C-contiguous."""
        turned = pixels.swapaxes(0, 1) if self.exchanged else pixels
        turned = turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        return np.ascontiguousarray(turned)


def orientation_of(decoded: Any) -> Optional[Orientation]:
    """From the display matrix; None for one that turns by another angle than 90 degrees.

    A point (x, y) of the stored picture is shown at (a x + c y, b x + d y); sizes are not changed
    by it here, since FFmpeg gives those as the pixel aspect.
    """
    matrix = next((s for s in decoded.side_data if s.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return Orientation()
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    if not (b or c):
        return Orientation(False, a < 0, d < 0) if a and d else Orientation()
    if not (a or d):
        return Orientation(True, c < 0, b < 0)
    return _nearly_square(a, b, c, d)


def _nearly_square(a: int, b: int, c: int, d: int) -> Optional[Orientation]:
    """Of a matrix with rounding errors, such as cos(90 degrees) in fixed point."""
    along, across = min(abs(a), abs(d)), min(abs(b), abs(c))
    if 1000 * max(abs(b), abs(c)) <= along:
        return Orientation(False, a < 0, d < 0)
    if 1000 * max(abs(a), abs(d)) <= across:
        return Orientation(True, c < 0, b < 0)
    return None


# ------------------------------------------------------------------------------------- its colours


def colorspace_of(first: Any) -> tuple[str, str]:
    """The space that the tags name, and why it is `unknown`; see `coded_colours.space_of`."""
    return coded_colours.space_of(primaries_of(first), int(first.color_trc))


def chromaticities_of(first: Any) -> Optional[tuple[float, ...]]:
    """x, y of red, green, blue and white as an EXR header has them; None for those of Rec.709."""
    wide = WIDE_PRIMARIES.get(primaries_of(first))
    return None if wide is None else wide[1]


def primaries_of(first: Any) -> int:
    """The number of the primaries; where only the matrix is tagged, BT.2020 by that."""
    primaries = int(first.color_primaries)
    if primaries in (0, UNSPECIFIED):
        wide = int(first.colorspace) in (_UHD_MATRIX, 10)
        return BT2020_NUMBER if wide and not first.format.is_rgb else UNSPECIFIED
    return primaries


def unread_colours(first: Any) -> str:
    """Why the colours of a file cannot be read, as the end of a message; "" where they can."""
    if first.format.name.startswith(("xyz", "yaf", "grayf")):
        return f"it holds pictures of the type {first.format.name}"
    name = _UNREAD_MATRICES.get(int(first.colorspace))
    if name is None or first.format.is_rgb:
        return ""
    return f"its colours are coded as {name}"


def has_alpha(pixel_format: str) -> bool:
    """Whether a pixel format of FFmpeg has alpha."""
    return pixel_format.startswith(_WITH_ALPHA)


def is_wide(decoded: Any) -> bool:
    """Whether codes have more than 8 bits."""
    return _bits(decoded) > 8


def siting_of(stream: Any) -> Siting:
    """Where chroma lies: the stream's tag, else what is usual for its codec.

    PyAV does not give the tag; the header of a Matroska file in memory has it.
    """
    tagged = _tagged_siting(stream)
    if tagged is not None:
        return tagged
    name = stream.codec_context.name
    if name in _CENTRED_CODECS:
        return ycbcr.CENTRE
    return ycbcr.TOP_LEFT if name in _TOP_LEFT_CODECS else ycbcr.LEFT


def _tagged_siting(stream: Any) -> Optional[Siting]:
    import av

    header = io.BytesIO()
    try:
        with av.open(header, "w", format="matroska") as copy:
            copy.add_stream_from_template(stream, opaque=True)
            copy.start_encoding()
    except (OSError, ValueError, TypeError):
        return None  # Matroska does not know the codec
    data = header.getvalue()
    at = data.find(b"\x55\xb7\x81")  # ChromaSitingHorz, and ChromaSitingVert behind it
    if at < 0 or data[at + 4 : at + 7] != b"\x55\xb8\x81":
        return None
    places = {1: 0.0, 2: 0.5}
    x, y = places.get(data[at + 3]), places.get(data[at + 7])
    return None if x is None or y is None else Siting(x, y)


# ---------------------------------------------------------------------------------------- pixels


def pixels_of(decoded: Any, siting: Siting, orientation: Orientation) -> Pixels:
    """(H, W, 3|4) uint8 or uint16, full range, upright. siting: where its chroma lies."""
    return orientation.applied(_codes(decoded, siting))


def _codes(decoded: Any, siting: Siting) -> Pixels:
    kind, bits = decoded.format, _bits(decoded)
    odd = kind.has_palette or kind.is_bayer or bits < 8 or _is_float(decoded)
    if odd or (kind.is_rgb and not _is_wide_planar(decoded)):
        return _unpacked_rgb(decoded)
    planes, layout = _planes(decoded), _layout(decoded, siting)
    if kind.is_rgb:
        return np.dstack([ycbcr.full_codes(plane, bits) for plane in planes])
    return ycbcr.to_rgb(planes, layout)


def _bits(decoded: Any) -> int:
    return max(int(part.bits) for part in decoded.format.components)


def _is_float(decoded: Any) -> bool:
    return _bits(decoded) > _MOST_BITS or "f16" in decoded.format.name


def _is_wide_planar(decoded: Any) -> bool:
    return decoded.format.name.startswith("gbr") and _bits(decoded) > 8


def _unpacked_rgb(decoded: Any) -> Pixels:
    wide, alpha = _bits(decoded) > 8, has_alpha(decoded.format.name)
    if wide and _bits(decoded) < _MOST_BITS and not decoded.format.is_bayer:
        # Packed RGB of 10 bits: unpacked without scaling, then scaled here.
        depth = f"{_bits(decoded)}le"
        return _codes(decoded.reformat(format=f"gbr{'a' if alpha else ''}p{depth}"), ycbcr.LEFT)
    names = {(False, False): "rgb24", (False, True): "rgba"}
    names |= {(True, False): "rgb48le", (True, True): "rgba64le"}
    wanted = names[wide, alpha]
    same = decoded.format.name == wanted
    pixels: Pixels = (decoded if same else decoded.reformat(format=wanted)).to_ndarray()
    return pixels


def _layout(decoded: Any, siting: Siting) -> Layout:
    across, down = _subsampling(decoded)
    return Layout(_bits(decoded), _is_full(decoded), _matrix(decoded), across, down, siting)


def _subsampling(decoded: Any) -> tuple[int, int]:
    if len(decoded.format.components) < 3:
        return 1, 1
    return 64 // decoded.format.chroma_width(64), 64 // decoded.format.chroma_height(64)


def _matrix(decoded: Any) -> int:
    tagged = int(decoded.colorspace)
    if tagged in ycbcr.WEIGHTS:
        return tagged
    if primaries_of(decoded) == BT2020_NUMBER:
        return _UHD_MATRIX
    return _SD_MATRIX if decoded.height <= _SD_ROWS else _HD_MATRIX


def _is_full(decoded: Any) -> bool:
    name, tagged = decoded.format.name, int(decoded.color_range)
    if name.startswith(("gray", "ya", "mono")):
        return tagged != _LIMITED
    return tagged == _FULL or name.startswith("yuvj")


def _planes(decoded: Any) -> list[Pixels]:
    """Codes of Y', Cb, Cr (or R, G, B) and alpha as (H, W), in the order of the components."""
    kind = decoded.format
    places = [part.plane for part in kind.components]
    if kind.name.startswith("ya"):
        pairs = _rows(decoded, 0, samples=2)
        return [pairs[:, 0::2], pairs[:, 1::2]]
    shifted = "msb" in kind.name
    if len(set(places)) < len(places) or shifted or _is_upside_down(decoded):
        return _planes(decoded.reformat(format=_planar(decoded)))
    return [_rows(decoded, place) for place in places]


def _is_upside_down(decoded: Any) -> bool:
    return any(plane.line_size < 0 for plane in decoded.planes)


def _planar(decoded: Any) -> str:
    """The planar format with the same samples, for packed and half-packed ones."""
    kind, bits = decoded.format, _bits(decoded)
    if kind.is_rgb:
        return str(kind.name).replace("msb", "")
    alpha = "a" if has_alpha(kind.name) else ""
    depth = "" if bits == 8 else f"p{bits}le"
    return f"yuv{alpha}{_BY_SUBSAMPLING[_subsampling(decoded)]}{depth or 'p'}"


def _rows(decoded: Any, place: int, samples: int = 1) -> Pixels:
    """One plane as (height, width * samples), without the padding of its lines."""
    plane = decoded.planes[place]
    order = ">" if decoded.format.is_big_endian else "<"
    dtype = np.dtype("u1" if _bits(decoded) <= 8 else f"{order}u2")
    line, width = plane.line_size, plane.width * samples * dtype.itemsize
    stored = np.frombuffer(plane, np.uint8, count=line * plane.height)
    rows = stored.reshape(plane.height, line)[:, :width].view(dtype)
    native: Pixels = rows.astype(dtype.newbyteorder("="), copy=False)
    return native


# --------------------------------------------------------------------------------- the other way


def frame_of(codes: Pixels, pixel_format: str, matrix: int) -> Any:
    """A frame to encode: (H, W, 3|4) uint8 or uint16 codes in a pixel format of an encoder.

    YUV gets this matrix, limited range and left-sited chroma, as all its codecs here have it.
    """
    from av import VideoFrame

    frame = VideoFrame(codes.shape[1], codes.shape[0], pixel_format)
    bits = _bits(frame)
    if not frame.format.is_rgb:
        across, down = _subsampling(frame)
        return _filled(frame, ycbcr.from_rgb(codes, Layout(bits, False, matrix, across, down)))
    if bits > 8:
        channels = range(len(frame.format.components))
        return _filled(frame, [ycbcr.narrow_codes(codes[..., each], bits) for each in channels])
    packed = VideoFrame.from_ndarray(
        np.ascontiguousarray(codes), format="rgba" if codes.shape[2] == 4 else "rgb24"
    )
    return packed.reformat(format=pixel_format)


def _filled(frame: Any, planes: list[Pixels]) -> Any:
    """A frame with these planes, in the order of its components."""
    for part, codes in zip(frame.format.components, planes):
        plane = frame.planes[part.plane]
        line = np.zeros((plane.height, plane.line_size // codes.itemsize), codes.dtype)
        line[:, : codes.shape[1]] = codes
        plane.update(line.tobytes())
    return frame
