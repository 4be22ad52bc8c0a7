"""A green or blue screen in place of the set, and its light on the subject.

The screen is what one meets on location: lit from one side, with broad folds, one seam, and light
that falls off toward the corners. Its light spills over the subject, most at her outline, where
she turns away from the camera and toward it.
"""

from __future__ import annotations

import cv2
import numpy as np

from mattebridge_sample.arrays import Array, vec
from mattebridge_sample.optics import Camera

# Scene-linear, at the brightest place.
COLOURS = {"green": (0.030, 0.40, 0.075), "blue": (0.018, 0.060, 0.42)}
# Light at the corners over that at the brightest place, where that is (shares of width, height),
# and its reach; depth and number of folds; place and darkness of the seam.
CORNER, CENTRE, REACH = 0.45, (0.36, 0.42), 0.42
FOLD, FOLDS, SEAM, SEAM_LEFT = 0.05, 9.0, 0.66, 0.8
# The screen's light on the subject: everywhere, and more at the outline over this radius at 540.
SPILL, EDGE_SPILL, EDGE_PX = 0.05, 0.18, 14.0


def make_wall(camera: Camera, margin: int, colour: str) -> Array:
    """The screen with `margin` pixels around the frame, (H, W, 3) scene-linear, without grain."""
    height, width = camera.height, camera.width
    rows, columns = np.mgrid[-margin : height + margin, -margin : width + margin].astype(np.float32)
    x, y = columns / width, rows / height
    away = np.square(x - CENTRE[0]) + np.square((y - CENTRE[1]) * height / width)
    light = CORNER + (1 - CORNER) * np.exp(-away / REACH**2)
    light *= 1 + FOLD * np.sin(FOLDS * x + 0.6 * np.sin(3 * y))
    across = np.abs(columns - SEAM * width - 0.02 * rows) / max(height / 540, 0.5)
    light *= 1 - (1 - SEAM_LEFT) * np.clip(1.5 - across, 0, 1)
    return np.asarray(light[..., None] * vec(COLOURS[colour]), np.float32)


def with_spill(foreground: Array, alpha: Array, wall: Array) -> Array:
    """The straight foreground (H, W, 3) as it is seen, with the light of the wall (H, W, 3)."""
    radius = EDGE_PX * len(wall) / 540
    inside = cv2.GaussianBlur(alpha[..., 0], (0, 0), radius)[..., None]
    share = SPILL + EDGE_SPILL * np.square(np.clip(1 - inside, 0, 1))
    lit = cv2.GaussianBlur(wall, (0, 0), 2 * radius)
    return np.asarray(np.where(alpha > 0, foreground + share * lit, 0), np.float32)
