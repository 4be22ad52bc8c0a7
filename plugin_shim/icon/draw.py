"""Draw the plugin's icon: a subject, half as filmed and half as its matte.

    python plugin_shim/icon/draw.py        # writes the .svg and the .png beside this file

Both are made from the same shapes. A host looks for them in the bundle's Resources, under the
plugin's identifier. The PNG is drawn with four times as many samples in each direction as it has
pixels, and averaged. numpy and the standard library only.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

NAME = "org.mattebridge.MatteBridge"
SIZE = 128
SAMPLES = 4
CORNER = 22.0
# The head is a circle, the shoulders an ellipse that the lower edge cuts.
HEAD = (64.0, 47.0, 23.0)
SHOULDERS = (64.0, 122.0, 45.0, 46.0)
# From the top to the bottom edge: left of it the plate, right of it the matte.
CUT = (74.0, 54.0)
LINE = 3.0
SET, SUBJECT, BLACK, WHITE, EDGE = "#2d5f73", "#f2a35e", "#101418", "#ffffff", "#e8edf0"

Mask = npt.NDArray[np.bool_]


def svg() -> str:
    """The icon as text."""
    (x, y, r), (sx, sy, rx, ry) = HEAD, SHOULDERS
    top, bottom = CUT

    def half(points: str, behind: str, front: str, name: str) -> str:
        return f"""\
  <clipPath id="{name}"><polygon points="{points}"/></clipPath>
  <g clip-path="url(#{name})"><g clip-path="url(#card)">
    <rect width="{SIZE}" height="{SIZE}" fill="{behind}"/>
    <circle cx="{x:g}" cy="{y:g}" r="{r:g}" fill="{front}"/>
    <ellipse cx="{sx:g}" cy="{sy:g}" rx="{rx:g}" ry="{ry:g}" fill="{front}"/>
  </g></g>
"""

    left = f"0,0 {top:g},0 {bottom:g},{SIZE} 0,{SIZE}"
    right = f"{top:g},0 {SIZE},0 {SIZE},{SIZE} {bottom:g},{SIZE}"
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{SIZE}" height="{SIZE}" viewBox="0 0 {SIZE} {SIZE}">
  <clipPath id="card"><rect width="{SIZE}" height="{SIZE}" rx="{CORNER:g}"/></clipPath>
{half(left, SET, SUBJECT, "plate")}{half(right, BLACK, WHITE, "matte")}\
  <line x1="{top:g}" y1="0" x2="{bottom:g}" y2="{SIZE}" stroke="{EDGE}" stroke-width="{LINE:g}"/>
</svg>
"""


def pixels() -> npt.NDArray[np.uint8]:
    """(SIZE, SIZE, 4), sRGB-encoded, straight alpha, top row first."""
    at = (np.arange(SIZE * SAMPLES) + 0.5) / SAMPLES
    x, y = np.meshgrid(at, at)
    colours = np.where(_is_right(x, y), *_halves(_subject(x, y)))
    colours = np.where(_on_line(x, y)[..., None], _rgb(EDGE), colours)
    inside = _in_card(x, y)[..., None].astype(float)
    samples = np.concatenate([colours * inside, inside], axis=-1)
    mean = samples.reshape(SIZE, SAMPLES, SIZE, SAMPLES, 4).mean(axis=(1, 3))
    mean[..., :3] /= np.maximum(mean[..., 3:], 1e-6)
    return np.rint(mean * 255).astype(np.uint8)


def _subject(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Mask:
    (hx, hy, r), (sx, sy, rx, ry) = HEAD, SHOULDERS
    head: Mask = np.hypot(x - hx, y - hy) < r
    return head | (np.hypot((x - sx) / rx, (y - sy) / ry) < 1)


def _halves(subject: Mask) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The matte and the plate."""
    mask = subject[..., None]
    return np.where(mask, _rgb(WHITE), _rgb(BLACK)), np.where(mask, _rgb(SUBJECT), _rgb(SET))


def _behind_cut(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """How far right of the cut, square to it."""
    slope = (CUT[1] - CUT[0]) / SIZE
    return (x - CUT[0] - slope * y) / np.hypot(1, slope)


def _is_right(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Mask:
    return (_behind_cut(x, y) > 0)[..., None]


def _on_line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Mask:
    return np.abs(_behind_cut(x, y)) < LINE / 2


def _in_card(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Mask:
    """Inside the square with round corners."""
    centre = SIZE / 2
    over_x, over_y = (np.maximum(np.abs(v - centre) - (centre - CORNER), 0) for v in (x, y))
    return np.hypot(over_x, over_y) < CORNER


def _rgb(text: str) -> npt.NDArray[np.float64]:
    return np.array([int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def png(image: npt.NDArray[np.uint8]) -> bytes:
    """An RGBA picture as a PNG file."""
    height, width = image.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    (here / f"{NAME}.svg").write_text(svg(), "utf-8")
    (here / f"{NAME}.png").write_bytes(png(pixels()))
