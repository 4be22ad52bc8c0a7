"""A frame as it is stored on disk: its header, its pixels, the limits of what is read, the errors.

Windows are (x, y, width, height), y downward, as in EXR: the display window is the picture, the
data window the part of it (or beyond it, overscan) that the file stores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np

from mattebridge.color import Pixels
from mattebridge.errors import FrameReadError

PathLike = Union[str, Path]
Window = tuple[int, int, int, int]
# A damaged header may give any size; a larger one than this is refused.
MAX_SIDE_PX = 65_536
MAX_PIXELS = 1 << 30
# More than any renderer writes; each costs OpenEXR time that grows with their square.
MAX_CHANNELS = 1024
# A file that becomes more than so many bytes of pixels, and than so many times its own size, is no
# picture: 8K in half has 260 MB, and noise, which every shot has, packs to a half.
UNPACKING_BYTES = 1 << 30
MAX_UNPACKING = 64
# OpenImageIO's names of sample types -> numpy's.
DTYPES = {"uint8": "uint8", "uint16": "uint16", "half": "float16", "float": "float32"}
OIIO_TYPES = {name: kind for kind, name in DTYPES.items()}


class Attribute(NamedTuple):
    """A header value that is not a plain number or text; `kind` is OpenImageIO's type name."""

    value: Any
    kind: str


@dataclass(frozen=True)
class FrameHeader:
    """What is known of a frame from its header, without its pixels.

    width and height are those of the display window. channels: those that `read_frame` would give.
    dtype: "uint8", "uint16", "float16" or "float32". colorspace: "linear", "srgb",
    a name that OpenColorIO configs have (see `colour_tags`), or "unknown" where neither the file
    type nor a tag tells it (DPX, log footage). alpha: "opaque" (there is
    none), "straight" or "premultiplied". layers: the names of all layers of the file.
    lost_metadata: the names of attributes that no output can get, such as text that is not UTF-8.
    unknown_because: what follows the file's name in a message, where `colorspace` is "unknown" for
    another reason than a missing tag. unread_tag: what the file has, such as an ICC profile, that
    is none of those known here; `colorspace` is then what such files usually are.
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
    lost_metadata: tuple[str, ...] = ()
    unknown_because: str = ""
    unread_tag: str = ""

    @property
    def size_bytes(self) -> int:
        """Memory that the frame takes once read."""
        return self.width * self.height * len(self.channels) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Frame:
    """One picture as it is stored.

    pixels: (H, W, C), C = 1 (A or any single channel), 3 (RGB) or 4 (RGBA), top-down, in the
    file's own type: uint8, uint16, float16 or float32. colorspace, alpha: as in `FrameHeader`.
    """

    pixels: Pixels
    colorspace: str
    alpha: str
    data_window: Window
    display_window: Window
    pixel_aspect: float
    metadata: dict[str, Any]

    @property
    def rgb(self) -> Pixels:
        """(H, W, 3): the colours without alpha, a single channel three times; a view."""
        if self.pixels.shape[2] == 1:
            return np.broadcast_to(self.pixels, (*self.pixels.shape[:2], 3))
        return self.pixels[..., :3]


def overlap(data: Window, display: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where both windows overlap: as slices of the display window and of the data window."""
    left, top = max(data[0], display[0]), max(data[1], display[1])
    right = max(left, min(data[0] + data[2], display[0] + display[2]))
    bottom = max(top, min(data[1] + data[3], display[1] + display[3]))

    def within(window: Window) -> tuple[slice, slice]:
        x, y = window[:2]
        return slice(top - y, bottom - y), slice(left - x, right - x)

    return within(display), within(data)


def unreadable(path: PathLike, why: str) -> FrameReadError:
    """The error of a file that cannot be read; `why` alone is in its details, too."""
    return FrameReadError(f"cannot read {path}: {why}", path=str(path), why=why)


def damaged(path: Path, reason: str) -> FrameReadError:
    """The error of a file that is not whole; `reason` is the library's message, which may be ""."""
    detail = f" ({shortened(reason)})" if reason else ""
    return unreadable(path, f"the file is damaged or cut short{detail}; render or copy it again")


def shortened(reason: str) -> str:
    """A library's message as one line without a full stop, at most 200 characters."""
    return " ".join(reason.split())[:200].rstrip(".") or "unknown reason"
