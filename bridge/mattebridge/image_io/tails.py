"""Pictures whose file ends in zeros that are no picture: what an interrupted copy leaves.

A copy or a crash may leave a file of full length whose end was never written. Most compressions
notice it by themselves. These do not:

    uncompressed (DPX, TIFF, EXR)   the pixels are 0 from some place on, and that looks like black
    EXR piz, b44, b44a              the end of the last chunk decodes to something
    TIFF zip                        as well, and a hole anywhere does (`tiff`)

Black at the bottom of a picture is common (letterbox, mattes), so black alone is no damage. A row
that breaks off in the middle is: from one pixel on everything is 0, while the row above goes on, in
values that differ. A picture that was cut exactly between two rows cannot be told from a letterbox.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO, Optional

import numpy as np

from mattebridge.color import Pixels
from mattebridge.image_io import tiff

# More zeros than the end of a compressed chunk has: two blocks of b44.
_TAIL_BYTES = 28
_ZERO_TAILS = ("piz", "b44", "b44a")
# Rows of a chunk, of piz as of b44.
_PIZ_ROWS = 32
# A row that ends in fewer zeros than this may do so by chance.
_SHORTEST = 8
# Formats and compressions without any check of their own.
_RAW = ("none", "raw", "")


def is_unchecked(spec: Any, kind: str) -> bool:
    """Whether nothing but the pixels can tell that a file was cut."""
    name = spec.get_string_attribute("compression", "").lower()
    return kind == "dpx" or name in _RAW or name.startswith("b44")


def last_block(pixels: Pixels, spec: Any) -> Pixels:
    """The pixels that a file stores last: of a tiled one its last tile, else all."""
    if not spec.tile_width:
        return pixels
    top = (spec.height - 1) // spec.tile_height * spec.tile_height
    left = (spec.width - 1) // spec.tile_width * spec.tile_width
    return pixels[top:, left:]


def is_damaged(path: Path, spec: Any, kind: str) -> bool:
    """Whether compressed pixels are damaged as no decoder reports."""
    if kind == "tiff":
        with open(path, "rb") as stored:
            return not tiff.strips_are_whole(stored)
    return _ends_in_zeros(path, spec, kind)


def _ends_in_zeros(path: Path, spec: Any, kind: str) -> bool:
    """Whether a compressed EXR ends in zeros that no encoder writes."""
    name = spec.get_string_attribute("compression", "").partition(":")[0].lower()
    half = str(spec.format) == "half"
    # b44 stores float samples as they are, and then black is zeros.
    if kind != "openexr" or name not in _ZERO_TAILS or not (half or name == "piz"):
        return False
    with open(path, "rb") as stored:
        size = stored.seek(0, 2)
        stored.seek(max(0, size - _TAIL_BYTES))
        return not any(stored.read()) and not _last_chunk_is_raw(stored, size, spec)


def _last_chunk_is_raw(stored: BinaryIO, size: int, spec: Any) -> bool:
    """Whether an EXR's last chunk holds its samples as they are: where packing made it no smaller.

    A chunk is a line number, the number of its bytes and these; `size`: of the file, in bytes.
    """
    rows = (spec.height - 1) % _PIZ_ROWS + 1
    raw = rows * spec.width * spec.pixel_bytes(True)
    if size < raw + 4:
        return False
    stored.seek(size - raw - 4)
    return int.from_bytes(stored.read(4), "little") == raw


def row_broken_off(pixels: Pixels) -> Optional[int]:
    """The row from whose middle on a channel is 0, to the end; None in a whole picture.

    pixels: (H, W, C), top-down, as they are stored.
    """
    for channel in range(pixels.shape[2]):
        plane = pixels[..., channel]
        if plane[-1, -1]:
            continue
        row = _last_row_with_values(plane)
        if row is not None and row > 0 and _breaks_off(plane[row - 1], plane[row]):
            return row
    return None


def _last_row_with_values(plane: Pixels) -> Optional[int]:
    for row in range(len(plane) - 1, -1, -1):
        if plane[row].any():
            return row
    return None


def _breaks_off(above: Pixels, row: Pixels) -> bool:
    end = int(np.flatnonzero(row)[-1]) + 1
    rest = above[end:]
    return len(rest) >= _SHORTEST and bool(rest.all()) and bool((rest != rest[0]).any())
