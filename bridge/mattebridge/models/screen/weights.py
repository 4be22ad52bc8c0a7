"""The weights of the image-based key for each region, from the colours of the subject nearby.

    certain subject nearby: screen's channel = a * first + b * second + offset   (least squares)
    alpha = (key(field) - key(plate)) / (key(field) - offset),   key = screen's - a first - b second

With these weights the subject's own colours have the key `offset` whatever their brightness, so
that what is left of the key is the screen between. The offset is the light of the screen on the
subject (spill), which adds to the key without being transparency. Blond hair wants other weights
than black or red hair, and they are taken here from what is certain: deep pixels near, else sure
ones farther off, else the usual half and half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from mattebridge.models.screen.field import blurred
from mattebridge.models.screen.find import Screen
from mattebridge.models.screen.key import Key

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# Weights are found at this share of the working size: they change slowly.
SHARE = 4
# Reach (pixels of a frame of 640) and weight of deep pixels, of sure pixels, of all in the frame.
DEEP_PX, SURE_PX, SURE_COUNTS, FRAME_COUNTS = 14.0, 60.0, 0.1, 1e-3
# How much the usual weights count against those found, as a squared share of the screen's excess;
# the offset three times as much: it is small.
USUAL, PRIOR, OFFSET_PRIOR = 0.5, 0.12, 3.0
# The least of the screen's excess that is left over the offset.
LEAST_SPAN = 0.3
# Spill is between these shares of the key of the screen itself: more is screen that shows through,
# and less does not exist.
LEAST_OFFSET, MOST_OFFSET = -0.05, 0.25


@dataclass(frozen=True)
class Weights:
    """(h, w) each: of the two other channels, and the key of opaque subject."""

    first: FloatImage
    second: FloatImage
    offset: FloatImage

    def of(self, rows: slice) -> Weights:
        """Those of some rows."""
        return Weights(self.first[rows], self.second[rows], self.offset[rows])


def find_weights(light: FloatImage, field: FloatImage, key: Key, screen: Screen) -> Weights:
    """The weights for a plate and its field (h, w, 3) at working size, in the light that mixes."""
    height, width = key.sure.shape
    unit = max(height, width) / 640
    small = max(1, width // SHARE), max(1, height // SHARE)
    moments = _moments(light, screen)
    deep = _shrunk(moments * key.deep[..., None], small)
    sure = _shrunk(moments * key.sure[..., None], small)
    found = blurred(deep, DEEP_PX * unit / SHARE)
    found += blurred(sure, SURE_PX * unit / SHARE) * np.float32(SURE_COUNTS)
    found += sure.mean(axis=(0, 1)) * np.float32(FRAME_COUNTS) + np.float32(1e-12)
    level = float(np.median(screen.excess(field)))
    solved = _solved(found, np.float32(PRIOR * level * level))
    large = cv2.resize(solved, (width, height), interpolation=cv2.INTER_LINEAR)
    offset, first, second = (np.ascontiguousarray(plane) for plane in np.moveaxis(large, -1, 0))
    return Weights(first, second, offset)


def keyed(
    plate: FloatImage, field: FloatImage, weights: Weights, screen: Screen
) -> tuple[FloatImage, FloatImage]:
    """Alpha (H, W), not cut, and the share of the screen's light on opaque subject (H, W).

    All of one size, in the light that mixes.
    """
    first, second = screen.others

    def key(picture: FloatImage) -> FloatImage:
        others = weights.first * picture[..., first] + weights.second * picture[..., second]
        return np.asarray(picture[..., screen.channel] - others, np.float32)

    behind = key(field)
    offset = np.clip(weights.offset, LEAST_OFFSET * behind, MOST_OFFSET * behind)
    least = np.maximum(LEAST_SPAN * screen.excess(field), np.float32(1e-3))
    alpha = (behind - key(plate)) / np.maximum(behind - offset, least)
    return alpha, np.clip(offset / np.maximum(behind, least), 0, 1)


def at_least(plate: FloatImage, field: FloatImage, screen: Screen) -> FloatImage:
    """The alpha (H, W) that the brightness of the two other channels proves, whatever the subject.

    The screen is dark in them: a pixel that is bright there is covered, as far as no subject is
    brighter than white. Both pictures are of one size, in the light that mixes.
    """
    proofs = [
        (plate[..., other] - field[..., other]) / np.maximum(1 - field[..., other], np.float32(0.1))
        for other in screen.others
    ]
    return np.maximum(*proofs)


def _moments(light: FloatImage, screen: Screen) -> FloatImage:
    """(h, w, 9): what least squares sums up of each pixel."""
    first, second = (light[..., other] for other in screen.others)
    own, one = light[..., screen.channel], np.ones(light.shape[:2], np.float32)
    terms = (one, first, second)
    products = [terms[i] * terms[j] for i in range(3) for j in range(i, 3)]
    return np.stack([*products, *(term * own for term in terms)], axis=-1)


def _shrunk(moments: FloatImage, size: tuple[int, int]) -> FloatImage:
    # OpenCV shrinks up to four channels at a time.
    parts = [np.ascontiguousarray(moments[..., at : at + 3]) for at in (0, 3, 6)]
    return np.dstack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in parts])


def _solved(moments: FloatImage, prior: np.float32) -> FloatImage:
    """(h, w, 3): offset and weights that fit best, with the usual ones as a prior."""
    mean = moments / moments[..., :1]
    normal = np.empty((*mean.shape[:2], 3, 3), np.float32)
    places = [(i, j) for i in range(3) for j in range(i, 3)]
    for index, (i, j) in enumerate(places):
        normal[..., i, j] = normal[..., j, i] = mean[..., index]
    ridge = prior * np.array([OFFSET_PRIOR, 1, 1], np.float32)
    right = mean[..., 6:] + ridge * np.array([0, USUAL, USUAL], np.float32)
    return np.linalg.solve(normal + np.diag(ridge), right[..., None])[..., 0].astype(np.float32)
