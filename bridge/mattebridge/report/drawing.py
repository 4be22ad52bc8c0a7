"""What sheets and pages are drawn with: light as bytes of a screen, a checker, text on dark paper.

Pictures are (H, W, 3) uint8, RGB, display-encoded, top row first. Scene-linear light is only
encoded, and what is brighter than white is clipped: a sheet shows mattes, it does not grade.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import FloatImage, Pixels, srgb_encode

Picture = NDArray[np.uint8]
Ink = tuple[int, int, int]

PAPER: Ink = (30, 30, 32)
INK: Ink = (214, 214, 212)
FAINT: Ink = (140, 140, 142)
GAP_PX = 10
HEAD_PX = 40
FONT = cv2.FONT_HERSHEY_SIMPLEX
# Linear greys of the checker: dark enough to show a light fringe, light enough to show a dark one.
CHECKER = (0.12, 0.26)
CHECKER_PX = 24


def display(linear: Pixels) -> Picture:
    """Scene-linear light as the bytes of a screen; no number is black."""
    light = np.nan_to_num(np.asarray(linear, np.float32), nan=0.0, posinf=1.0, neginf=0.0)
    return as_bytes(srgb_encode(np.clip(light, 0, 1)))


def as_bytes(encoded: Pixels) -> Picture:
    """Values 0..1 as bytes, unchanged otherwise: for alpha, and for what is encoded already."""
    return (np.clip(encoded, 0, 1) * 255 + 0.5).astype(np.uint8)


def shrunk(image: Pixels, width: int) -> FloatImage:
    """An image, clipped to 0..1, at this width and in its own shape; (H, W) of a single channel.

    Light is averaged as light, after what a screen cannot show is clipped.
    """
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shown = np.clip(np.asarray(image, np.float32), 0, 1)
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(shown, (width, height), interpolation=method))


def checker(height: int, width: int) -> FloatImage:
    """A checker (H, W, 1) of two linear greys; its squares grow with the picture."""
    side = max(4, round(CHECKER_PX * width / 960))
    y, x = np.mgrid[0:height, 0:width] // side
    return np.where((x + y) % 2 == 0, *CHECKER).astype(np.float32)[..., None]


def blank(height: int, width: int) -> Picture:
    """A sheet with nothing on it."""
    return np.full((height, width, 3), PAPER, np.uint8)


def write_text(sheet: Picture, text: str, at: tuple[int, int], size: float, ink: Ink) -> None:
    """Draw one line of text; `at` is the left end of its base line, x and y."""
    cv2.putText(sheet, text, at, FONT, size, ink, 1, cv2.LINE_AA)


def text_size(text: str, size: float) -> tuple[int, int]:
    """Width and height in pixels of a line of text."""
    (width, height), _ = cv2.getTextSize(text, FONT, size, 1)
    return width, height
