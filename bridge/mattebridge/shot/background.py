"""What is behind the subject in a comp: a checker, a colour, a picture or a sequence."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mattebridge import color
from mattebridge.color import FloatImage
from mattebridge.errors import UsageError

CHECKER_PX = 32
# Two greys of linear light, dark enough to show a light fringe and light enough to show a dark one.
CHECKER = (0.12, 0.24)
# `checker:128` is that of CorridorKey's pipeline: tiles of so many pixels, these sRGB values.
CHECKER_OF_CLIPS = (0.15, 0.55)


@dataclass(frozen=True)
class Background:
    """The background of a comp: a flat colour of linear light, a checker of two, or pictures.

    text: as it was given. pictures: the file, pattern, folder or video, in place of colours.
    encoded: the comp is mixed in sRGB-encoded values, as the published scripts do, and not in
    light. tile_px: side of a tile of the checker.
    """

    text: str
    colours: tuple[tuple[float, float, float], ...] = ()
    pictures: str = ""
    encoded: bool = False
    tile_px: int = CHECKER_PX

    def render(self, height: int, width: int) -> FloatImage:
        """(height, width, 3) float32, linear; for colours only."""
        palette = np.asarray(self.colours, np.float32)
        if len(palette) == 1:
            return np.broadcast_to(palette[0], (height, width, 3))
        rows = np.arange(height)[:, None] // self.tile_px
        columns = np.arange(width)[None, :] // self.tile_px
        squares: FloatImage = palette[(rows + columns) % 2]
        return squares


def parse_background(text: str) -> Background:
    """`checker`, `checker:128` (see above), `#rrggbb` (sRGB), `0.18,0.18,0.18` (linear), or
    pictures. Raises `UsageError`."""
    if text.startswith("encoded:"):
        return Background(text, parse_background(text.partition(":")[2]).colours, encoded=True)
    if text == "checker":
        return Background(text, tuple((grey, grey, grey) for grey in CHECKER))
    tiles = re.fullmatch(r"checker:([1-9]\d{0,4})", text)
    if tiles:
        greys = (
            float(grey) for grey in color.srgb_decode(np.asarray(CHECKER_OF_CLIPS, np.float32))
        )
        return Background(text, tuple((g, g, g) for g in greys), tile_px=int(tiles.group(1)))
    hexadecimal = re.fullmatch(r"#([0-9a-fA-F]{6})", text)
    if hexadecimal:
        codes = np.frombuffer(bytes.fromhex(hexadecimal.group(1)), np.uint8)
        red, green, blue = (float(value) for value in color.srgb_decode(codes))
        return Background(text, ((red, green, blue),))
    try:
        red, green, blue = (float(part) for part in text.split(","))
        if np.isfinite((red, green, blue)).all():
            return Background(text, ((red, green, blue),))
    except ValueError:
        pass
    if re.search(r"[./\\#%@$]", text):
        return Background(text, pictures=text)
    raise UsageError(
        f"no background '{text}'; give checker, '#204080', linear 0.1,0.2,0.3, a picture or a video"
    )


def fitted(picture: FloatImage, height: int, width: int) -> FloatImage:
    """A background picture at the size of the plate: scaled to cover it, the rest cut evenly."""
    import cv2

    have_height, have_width = picture.shape[:2]
    if (have_height, have_width) == (height, width):
        return picture
    scale = max(height / have_height, width / have_width)
    size = (max(width, round(have_width * scale)), max(height, round(have_height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    scaled = np.asarray(cv2.resize(picture, size, interpolation=method), np.float32)
    top, left = (size[1] - height) // 2, (size[0] - width) // 2
    return np.ascontiguousarray(scaled[top : top + height, left : left + width])
