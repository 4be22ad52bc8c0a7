"""Uncompressed OpenEXR in numpy: the files that a host writes for the daemon and reads back.

No image library can be expected in a host's Python. An uncompressed, single-part scanline file with
increasing rows is an array with a header: every row is a block of a fixed size, one channel after
the other in the order of their names. The reader accepts exactly that and refuses everything else
(compressed, tiled, deep, multi-part, sub-sampled, integer channels) by name. Every number of the
header is checked against the size of the file before it is used, and the file is copied into
memory, not mapped: a mapped file that shrinks would crash the host.

The writer renames a finished file into place; a reader never sees half of one.

Source: the OpenEXR file layout document (openexr.com, "OpenEXR File Layout").
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from mattebridge.color import HALF_MAX, Pixels
from mattebridge.errors import FrameReadError, FrameWriteError
from mattebridge.hosts.exr_header import LONG_NAMES, MAGIC, WrongHeader, read_attributes, read_name
from mattebridge.whole_files import write_whole
from mattebridge.wire.planes import MAX_SIDE

Window = tuple[int, int, int, int]

COMPRESSIONS = ("none", "rle", "zips", "zip", "piz", "pxr24", "b44", "b44a", "dwaa", "dwab")
SAMPLE_TYPES = {1: np.dtype("<f2"), 2: np.dtype("<f4")}
# More than any picture has: a hostile header must not cause a large allocation.
MAX_CHANNELS = 256


@dataclass(frozen=True)
class ScratchImage:
    """One picture: planes by channel name, and where they lie.

    channels: name -> (H, W) float16 or float32, top row first, views of one buffer. data_window
    and display_window: x, y, width, height, y downward, as in the file.
    """

    channels: Mapping[str, Pixels]
    data_window: Window
    display_window: Window
    pixel_aspect: float = 1.0

    def plane(self, name: str, region: Window) -> Pixels:
        """One channel over a region, (H, W); black where the file has no pixels.

        Raises `FrameReadError` when the file does not hold the channel.
        """
        if name not in self.channels:
            raise FrameReadError(
                f"there is no channel {name!r}; there are: {', '.join(self.channels) or 'none'}"
            )
        return _cut(self.channels[name], self.data_window, region)

    def pixels(self, names: tuple[str, ...], region: Window) -> Pixels:
        """Several channels over a region as one (H, W, C) array."""
        return np.stack([self.plane(name, region) for name in names], axis=-1)


def read_exr(path: Union[str, Path]) -> ScratchImage:
    """The picture in an uncompressed EXR. Raises `FrameReadError` that says what is wrong with it.

    `details['other_layout']` is set where another reader may be able to read it.
    """
    try:
        with open(path, "rb") as stream:
            data = bytearray(os.fstat(stream.fileno()).st_size)
            got = stream.readinto(data)
    except OSError as error:
        raise FrameReadError(f"cannot read {path}: {error.strerror}") from error
    if got != len(data):
        raise FrameReadError(f"{path} changed while it was read")
    try:
        return _parse(data)
    except (WrongHeader, ValueError, struct.error, IndexError) as error:
        raise FrameReadError(f"{path} is not a scratch EXR: {error}", other_layout=True) from error


def _parse(data: bytearray) -> ScratchImage:
    attributes, start = read_attributes(data)
    channels = _channel_list(_attribute(attributes, "channels", "chlist"))
    compression = _attribute(attributes, "compression", "compression")[0]
    if compression != 0:
        known = COMPRESSIONS[compression] if compression < len(COMPRESSIONS) else compression
        raise WrongHeader(f"compression is {known}, not none")
    if _attribute(attributes, "lineOrder", "lineOrder")[0] != 0:
        raise WrongHeader("rows are not in increasing order")
    data_window = _window(_attribute(attributes, "dataWindow", "box2i"))
    display_window = _window(_attribute(attributes, "displayWindow", "box2i"))
    aspect = attributes.get("pixelAspectRatio", ("float", struct.pack("<f", 1.0)))[1]
    return ScratchImage(
        _planes(data, start, channels, data_window),
        data_window,
        display_window,
        struct.unpack("<f", aspect)[0],
    )


def _attribute(attributes: Mapping[str, tuple[str, bytes]], name: str, kind: str) -> bytes:
    found, value = attributes.get(name, ("", b""))
    if found != kind or not value:
        raise WrongHeader(f"the header has no {name}")
    return value


def _channel_list(value: bytes) -> list[tuple[str, Any]]:
    channels: list[tuple[str, Any]] = []
    at = 0
    while value[at] != 0:
        name, at = read_name(value, at)
        kind, _, x_step, y_step = struct.unpack_from("<iIii", value, at)
        at += 16
        if kind not in SAMPLE_TYPES:
            raise WrongHeader(f"channel {name!r} is not half or float")
        if (x_step, y_step) != (1, 1):
            raise WrongHeader(f"channel {name!r} is sub-sampled")
        channels.append((name, SAMPLE_TYPES[kind]))
        if len(channels) > MAX_CHANNELS:
            raise WrongHeader("too many channels")
    if not channels:
        raise WrongHeader("there are no channels")
    if len({name for name, _ in channels}) != len(channels):
        raise WrongHeader("two channels have the same name")
    return channels


def _window(value: bytes) -> Window:
    left, top, right, bottom = struct.unpack("<iiii", value)
    width, height = right - left + 1, bottom - top + 1
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise WrongHeader(f"a window of {width}x{height}")
    return left, top, width, height


def _planes(
    data: bytearray, start: int, channels: list[tuple[str, Any]], window: Window
) -> dict[str, Pixels]:
    _, top, width, height = window
    row_bytes = sum(dtype.itemsize for _, dtype in channels) * width
    block = 8 + row_bytes
    first = start + 8 * height
    if first + block * height != len(data):
        raise WrongHeader(
            f"{len(data)} bytes, not the {first + block * height} of {width}x{height} whole rows"
        )
    offsets = np.frombuffer(data, "<u8", height, start)
    if not np.array_equal(offsets, first + block * np.arange(height, dtype=np.uint64)):
        raise WrongHeader("its rows are not stored one after the other")
    heads = np.ndarray((height, 2), "<i4", data, first, (block, 4))
    if (heads[:, 0] != top + np.arange(height)).any() or (heads[:, 1] != row_bytes).any():
        raise WrongHeader("a row is not where it should be")
    planes, at = {}, first + 8
    for name, dtype in channels:
        planes[name] = np.ndarray((height, width), dtype, data, at, (block, dtype.itemsize))
        at += dtype.itemsize * width
    return planes


def _cut(plane: Pixels, window: Window, region: Window) -> Pixels:
    if window == region:
        return plane
    x, y, width, height = region
    left, top = max(x, window[0]), max(y, window[1])
    right = min(x + width, window[0] + window[2])
    bottom = min(y + height, window[1] + window[3])
    cut = np.zeros((height, width), plane.dtype)
    if right > left and bottom > top:
        cut[top - y : bottom - y, left - x : right - x] = plane[
            top - window[1] : bottom - window[1], left - window[0] : right - window[0]
        ]
    return cut


# ------------------------------------------------------------------------------------------ writing


def write_exr(
    path: Union[str, Path],
    channels: Mapping[str, Pixels],
    *,
    dtype: str = "float32",
    data_window: Optional[Window] = None,
    display_window: Optional[Window] = None,
    pixel_aspect: float = 1.0,
    texts: Optional[Mapping[str, str]] = None,
) -> int:
    """Write planes by channel name, (H, W) each, whole or not at all; the number of bytes.

    Raises `FrameWriteError` that names the folder and the size of the file.
    """
    names = sorted(channels)
    height, width = channels[names[0]].shape
    window = data_window or (0, 0, width, height)
    sample = np.dtype("<f2" if dtype == "float16" else "<f4")
    header = _header(names, sample, window, display_window or window, pixel_aspect, texts or {})
    block = 8 + sample.itemsize * width * len(names)
    first = len(header) + 8 * height
    data = bytearray(first + block * height)
    data[: len(header)] = header
    rows = np.arange(height)
    np.frombuffer(data, "<u8", height, len(header))[:] = first + block * rows
    heads: Pixels = np.ndarray((height, 2), "<i4", data, first, (block, 4))
    heads[:, 0], heads[:, 1] = window[1] + rows, block - 8
    at = first + 8
    for name in names:
        target: Pixels = np.ndarray((height, width), sample, data, at, (block, sample.itemsize))
        plane = channels[name]
        # A highlight above the half range becomes the brightest half value, not infinity.
        target[...] = np.clip(plane, -HALF_MAX, HALF_MAX) if sample.itemsize == 2 else plane
        at += sample.itemsize * width
    _write(Path(path), data)
    return len(data)


def _header(
    names: list[str],
    sample: Any,
    window: Window,
    display: Window,
    aspect: float,
    texts: Mapping[str, str],
) -> bytes:
    kind = 1 if sample.itemsize == 2 else 2
    listed = b"".join(_named(name) + struct.pack("<iIii", kind, 0, 1, 1) for name in names)
    fields = [
        ("channels", "chlist", listed + b"\0"),
        ("compression", "compression", b"\0"),
        ("dataWindow", "box2i", _box(window)),
        ("displayWindow", "box2i", _box(display)),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", aspect)),
        ("screenWindowCenter", "v2f", struct.pack("<ff", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
        *((name, "string", text.encode()) for name, text in sorted(texts.items())),
    ]
    # Names of 32 bytes and more need a flag that old readers do not know.
    longest = max(len(name.encode()) for name in [*names, *(field[0] for field in fields)])
    version = 2 | (LONG_NAMES if longest > 31 else 0)
    body = b"".join(
        _named(name) + _named(type_) + struct.pack("<i", len(value)) + value
        for name, type_, value in fields
    )
    return MAGIC + struct.pack("<I", version) + body + b"\0"


def _named(text: str) -> bytes:
    return text.encode() + b"\0"


def _box(window: Window) -> bytes:
    x, y, width, height = window
    return struct.pack("<iiii", x, y, x + width - 1, y + height - 1)


def _write(path: Path, data: bytearray) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise FrameWriteError(
            f"cannot write {path}: {error.strerror}; it needs {len(data) / 1e6:.0f} MB in "
            f"{path.parent}"
        ) from error
