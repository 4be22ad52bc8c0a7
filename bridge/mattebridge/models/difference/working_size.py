"""Pictures at working size, at which most of a keyer's steps run, and back at the frame's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# The long side at most.
WORK_SIDE = 960


def size_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width at working size of an image of this shape."""
    height, width = shape[:2]
    scale = WORK_SIDE / max(height, width)
    if scale >= 1:
        return height, width
    return max(1, round(height * scale)), max(1, round(width * scale))


def shrunk(picture: FloatImage) -> FloatImage:
    """A picture (H, W) or (H, W, C) at working size; a smaller one is returned as it is."""
    height, width = size_of(picture.shape)
    if (height, width) == picture.shape[:2]:
        return picture
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def enlarged(picture: FloatImage, shape: tuple[int, ...]) -> FloatImage:
    """A smaller picture at the full size `shape`; one of that size is returned as it is."""
    if picture.shape[:2] == shape[:2]:
        return picture
    return cv2.resize(picture, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
