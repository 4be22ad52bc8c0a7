"""Grain in alpha: what a pixel differs by from its neighbours, no more than grain would make it.

    mean and slopes of the window --> what is left of its variance beside grain's own
    alpha --> toward the mean, as far as that is grain (Wiener), and never by more than a bound
          --> what is less than grain fades

An edge and a hair vary by much more than grain and stay as they are; a slope counts as none, for a
window's mean is the value of its middle there too. Toward opaque more is taken for grain: what
varies inside the subject is hardly ever transparency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# Of the window.
RADIUS_PX = 2
# How much of the noise's variance is taken for grain, where the mean of alpha is small and where it
# is opaque: what is keyed was averaged once before, and a small window tells its own variance only
# roughly. And by how much alpha is moved there at most: in strong grain, hair is not told from it.
SHARE, MOST, OPAQUE_FROM = (1.2, 4.0), (0.03, 0.1), 0.6
# Alpha below so many noises fades the more, the less it is: most of it is grain.
FAINT_NOISES = 1.8

_STEPS = np.arange(-RADIUS_PX, RADIUS_PX + 1, dtype=np.float32)
_SLOPE = _STEPS / np.square(_STEPS).sum()
_EVEN = np.full_like(_STEPS, 1 / len(_STEPS))
# Of a window, the variance of the steps along one axis; and the pixels over those that are left
# behind a mean and two slopes.
_ACROSS, _LEFT = np.square(_STEPS).mean(), len(_STEPS) ** 2 / (len(_STEPS) ** 2 - 3)


def without_grain(alpha: FloatImage, variance: FloatImage) -> FloatImage:
    """Alpha (h, W), not cut; variance (h, W): of its grain. The outer `RADIUS_PX` rows and columns
    know only a part of their neighbours."""
    alpha = np.clip(alpha, np.float32(-0.2), np.float32(1.2))
    side = (len(_STEPS), len(_STEPS))
    mean = cv2.blur(alpha, side)
    across = cv2.sepFilter2D(alpha, cv2.CV_32F, _SLOPE, _EVEN)
    down = cv2.sepFilter2D(alpha, cv2.CV_32F, _EVEN, _SLOPE)
    varies = cv2.sqrBoxFilter(alpha, cv2.CV_32F, side)
    varies -= mean * mean
    varies -= np.float32(_ACROSS) * (across * across + down * down)
    varies = np.maximum(np.float32(_LEFT) * varies, np.float32(1e-9))
    opaque = np.clip((mean - np.float32(OPAQUE_FROM)) / np.float32(1 - OPAQUE_FROM), 0, 1)
    share, most = (np.float32(low) + np.float32(high - low) * opaque for low, high in (SHARE, MOST))
    moved = np.minimum(share * variance / varies, 1) * (mean - alpha)
    np.clip(moved, -most, most, out=moved)
    alpha += moved
    alpha *= np.clip(alpha / (np.float32(FAINT_NOISES) * cv2.sqrt(variance)), 0, 1)
    return alpha
