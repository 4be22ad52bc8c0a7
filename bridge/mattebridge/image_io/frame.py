"""A frame as it lies on disk: pixels, windows, metadata, and the limits of what is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from mattebridge.errors import FrameReadError

Pixels = NDArray[Any]
PathLike = Union[str, Path]
Window = tuple[int, int, int, int]
# A header may claim any size; a larger one than this is damage, not a plate.
MAX_SIDE_PX = 65_536
MAX_PIXELS = 1 << 30
DTYPES = {"uint8": "uint8", "uint16": "uint16", "half": "float16", "float": "float32"}
OIIO_TYPES = {name: kind for kind, name in DTYPES.items()}


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


def overlap(data: Window, display: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where both windows meet: as slices of the display window and of the data window."""
    left, top = max(data[0], display[0]), max(data[1], display[1])
    right = max(left, min(data[0] + data[2], display[0] + display[2]))
    bottom = max(top, min(data[1] + data[3], display[1] + display[3]))

    def within(window: Window) -> tuple[slice, slice]:
        x, y = window[:2]
        return slice(top - y, bottom - y), slice(left - x, right - x)

    return within(display), within(data)


def unreadable(path: PathLike, why: str) -> FrameReadError:
    return FrameReadError(f"cannot read {path}: {why}", path=str(path), why=why)


def damaged(path: Path, reason: str) -> FrameReadError:
    said = f" ({shortened(reason)})" if reason else ""
    why = f"the file is damaged or cut short{said}; render or copy it again"
    return unreadable(path, why)


def shortened(reason: str) -> str:
    """A library's message as one line."""
    return " ".join(reason.split())[:200].rstrip(".") or "unknown reason"
