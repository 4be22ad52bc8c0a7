"""A quick check that a picture on disk is whole: its length, its header, its last rows.

PNG, JPEG           the bytes that end the file
EXR, TIFF, DPX      the last rows decoded; a tiled file as a whole, and one that ends in zeros
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge.color import Pixels
from mattebridge.image_io import tails
from mattebridge.image_io.frame import PathLike, damaged, unreadable
from mattebridge.image_io.read import opened


def check_frame(
    path: PathLike,
    *,
    size_bytes: Optional[int] = None,
    size_px: Optional[tuple[int, int]] = None,
) -> None:
    """Raise `FrameReadError`, saying what is wrong, unless the frame is whole.

    size_bytes: the length that the file must have. size_px: (width, height) that the display window
    must have. Takes 3 ms for an HD EXR, where decoding takes 44.
    """
    path = Path(path)
    try:
        length = path.stat().st_size
    except OSError as failure:
        raise unreadable(path, (failure.strerror or "no access").lower()) from failure
    if size_bytes is not None and length != size_bytes:
        raise damaged(path, f"{length} bytes instead of {size_bytes}")
    with opened(path) as source:
        spec = source.spec()
        if size_px is not None and (spec.full_width, spec.full_height) != tuple(size_px):
            found = f"{spec.full_width}x{spec.full_height}"
            raise unreadable(path, f"it is {found} instead of {size_px[0]}x{size_px[1]}")
        if source.format_name() in ("png", "jpeg"):
            _check_ending(path, length)
        else:
            _check_last_rows(path, source, spec)


def _check_ending(path: Path, length: int) -> None:
    with open(path, "rb") as stored:
        stored.seek(max(0, length - 12))
        ending = stored.read()
    if not (ending.endswith(b"IEND\xaeB`\x82") or ending.endswith(b"\xff\xd9")):
        raise damaged(path, "its end is missing")


def _check_last_rows(path: Path, source: Any, spec: Any) -> None:
    rows = None if spec.tile_width else _rows(path, source, spec, spec.height - 1)
    kind = source.format_name()
    if rows is None or (tails.is_unchecked(spec, kind) and not rows[-1, -1].all()):
        rows = _rows(path, source, spec, 0)
        if tails.row_broken_off(tails.last_block(rows, spec)) is not None:
            raise damaged(path, "a part of it is zeros")
    if tails.is_damaged(path, spec, kind):
        raise damaged(path, "a part of it is zeros")


def _rows(path: Path, source: Any, spec: Any, first: int) -> Pixels:
    """The rows from `first` on, counted from the top."""
    if first:
        begin, end = spec.y + first, spec.y + spec.height
        rows = source.read_scanlines(begin, end, 0, 0, spec.nchannels, spec.format)
    else:
        rows = source.read_image(0, 0, 0, spec.nchannels, spec.format)
    if source.has_error or rows is None:
        raise damaged(path, source.geterror())
    return np.asarray(rows).reshape(-1, spec.width, spec.nchannels)
