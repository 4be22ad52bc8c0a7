"""The keys of each region, from the colours of the subject nearby.

    certain subject nearby: screen's channel = a * first + b * second + offset   (least squares)
    alpha = (key(field) - key(plate)) / (key(field) - offset),   key = screen's - a first - b second

    certain subject nearby: mean m, covariance S      v = inverse(S + prior) (m - field)   (Fisher)
    alpha = v . (plate - field) / v . (m - field)

With the weights of the first the subject's own colours have the key `offset` whatever their
brightness, so that what is left of the key is the screen between. The offset is the light of the
screen on the subject (spill), which adds to the key without being transparency. Blond hair wants
other weights than black or red hair, and they are taken here from what is certain: deep pixels
near, else sure ones farther off, else the usual half and half.

The second looks from the screen toward the subject, along the line in which the two are farthest
apart for the spread of the subject's colours. It has a third less grain, because it need not
subtract one noisy channel from another where a dark or bright subject is told without; but what it
did not see nearby, it takes for screen. So alpha is mostly the second, and near to opaque the
larger of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Union

import cv2
import numpy as np

from mattebridge.models.difference.working_size import enlarged
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
# Of the second: the spread of brightness, and of any colour, that the subject may have beyond what
# is seen of it, in shares of the screen's excess; and how much of the screen its mean may have.
BRIGHTNESS, COLOUR, MOST_SCREEN = 0.5, 0.08, 0.25
# Much larger than what divides it: the subject's mean is that of the screen.
LEAST_APART = 0.03
# How much the first counts, and from where to where the larger one takes over.
FIRST_COUNTS, OPAQUE = 0.3, (0.7, 0.95)
# Of light by encoded values, squared, over the light itself: nearly that of sRGB's curve.
SQUARED_SLOPE = 4.6
# The least of the screen's excess that is left over the offset.
LEAST_SPAN = 0.3
# Spill is between these shares of the key of the screen itself: more is screen that shows through,
# and less does not exist.
LEAST_OFFSET, MOST_OFFSET = -0.1, 0.25


@dataclass(frozen=True)
class Weights:
    """Of the first key (h, w, 3): of the two other channels, and the key of opaque subject. Of the
    second (h, w, 4): the line `v`, and the subject's place on it."""

    key: FloatImage
    line: FloatImage

    def of(self, place: Union[slice, tuple[slice, slice]]) -> Weights:
        """Those of some rows, or of rows and columns."""
        return Weights(self.key[place], self.line[place])

    def enlarged(self, shape: tuple[int, ...]) -> Weights:
        """Those of a larger picture."""
        return Weights(enlarged(self.key, shape), enlarged(self.line, shape))


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
    mean = found / found[..., :1]
    level = float(np.median(screen.excess(field)))
    behind = cv2.resize(field, small, interpolation=cv2.INTER_AREA)
    solved = _solved(mean, np.float32(PRIOR * level * level)), _line(mean, behind, level, screen)
    return Weights(
        *(cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR) for each in solved)
    )


def keyed(
    plate: FloatImage, field: FloatImage, weights: Weights, screen: Screen
) -> tuple[FloatImage, FloatImage]:
    """Alpha (H, W), not cut, and the share of the screen's light on opaque subject (H, W).

    All of one size, in the light that mixes.
    """
    own, (first, second) = screen.channel, screen.others
    by_first, by_second, offset = cv2.split(weights.key)

    def key(picture: FloatImage) -> FloatImage:
        others = by_first * picture[..., first] + by_second * picture[..., second]
        return np.asarray(picture[..., own] - others, np.float32)

    behind = key(field)
    offset = np.clip(offset, LEAST_OFFSET * behind, MOST_OFFSET * behind)
    least = np.maximum(LEAST_SPAN * screen.excess(field), np.float32(1e-3))
    alpha = (behind - key(plate)) / np.maximum(behind - offset, least)
    spill = np.clip(offset / np.maximum(behind, least), 0, 1)
    return _joined(alpha, _along_line(plate, field, weights.line, screen)), spill


def grain_of_alpha(
    plate: FloatImage,
    field: FloatImage,
    weights: Weights,
    screen: Screen,
    noise: float,
    *,
    in_light: bool,
) -> FloatImage:
    """(H, W): the variance of `keyed`'s alpha by the noise of one encoded pixel.

    in_light: the pictures are linear light, whose noise grows with it.
    """
    *parts, subject = cv2.split(weights.line)
    found = np.square(np.float32(noise) / _apart(subject, _on_line(field, parts, screen)))
    if not in_light:
        return found
    steps = _on_line(plate, [part * part for part in parts], screen)
    return np.asarray(found * np.float32(SQUARED_SLOPE) * np.maximum(steps, np.float32(0.01)))


def _along_line(
    plate: FloatImage, field: FloatImage, line: FloatImage, screen: Screen
) -> FloatImage:
    """Alpha (H, W) of the second key."""
    *parts, subject = cv2.split(line)
    behind = _on_line(field, parts, screen)
    shown = _on_line(plate, parts, screen)
    return np.asarray((shown - behind) / _apart(subject, behind), np.float32)


def _on_line(picture: FloatImage, parts: Sequence[FloatImage], screen: Screen) -> FloatImage:
    channels = (screen.channel, *screen.others)
    products = (part * picture[..., channel] for part, channel in zip(parts, channels))
    return np.asarray(sum(products), np.float32)


def _apart(subject: FloatImage, behind: FloatImage) -> FloatImage:
    return np.maximum(subject - behind, np.float32(LEAST_APART))


def _joined(first: FloatImage, second: FloatImage) -> FloatImage:
    """Mostly the second; the larger of the two where the first is near to opaque."""
    mean = second + np.float32(FIRST_COUNTS) * (first - second)
    low, high = OPAQUE
    opaque = np.clip((first - np.float32(low)) / np.float32(high - low), 0, 1)
    opaque *= opaque * (3 - 2 * opaque)
    return np.asarray(mean + opaque * (np.maximum(first, second) - mean), np.float32)


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
    """(h, w, 10): what least squares and a covariance sum up of each pixel."""
    first, second = (light[..., other] for other in screen.others)
    own, one = light[..., screen.channel], np.ones(light.shape[:2], np.float32)
    terms = (one, first, second, own)
    return np.stack([terms[i] * terms[j] for i, j in _PAIRS], axis=-1)


# The products of one and the three channels (two others, the screen's), in the order of moments.
_PAIRS = [(i, j) for j in range(4) for i in range(j + 1)]
_AT = {pair: index for index, pair in enumerate(_PAIRS)}


def _shrunk(moments: FloatImage, size: tuple[int, int]) -> FloatImage:
    # OpenCV shrinks up to four channels at a time.
    parts = [np.ascontiguousarray(moments[..., at : at + 4]) for at in (0, 4, 8)]
    return np.dstack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in parts])


def _solved(mean: FloatImage, prior: np.float32) -> FloatImage:
    """(h, w, 3): weights and offset that fit best, with the usual ones as a prior."""
    normal = np.empty((*mean.shape[:2], 3, 3), np.float32)
    for i in range(3):
        for j in range(i, 3):
            normal[..., i, j] = normal[..., j, i] = mean[..., _AT[i, j]]
    ridge = prior * np.array([OFFSET_PRIOR, 1, 1], np.float32)
    right = mean[..., [_AT[i, 3] for i in range(3)]]
    right = right + ridge * np.array([0, USUAL, USUAL], np.float32)
    found = np.linalg.solve(normal + np.diag(ridge), right[..., None])[..., 0]
    return np.ascontiguousarray(found[..., [1, 2, 0]], np.float32)


def _line(mean: FloatImage, behind: FloatImage, level: float, screen: Screen) -> FloatImage:
    """(h, w, 4): from the screen toward the subject, (screen's channel, the two others), of length
    1, and the subject's mean along it."""
    order = (3, 1, 2)
    colour = mean[..., [_AT[0, i] for i in order]].astype(np.float64)
    spread = np.empty((*mean.shape[:2], 3, 3))
    for i in range(3):
        for j in range(3):
            at = _AT[min(order[i], order[j]), max(order[i], order[j])]
            spread[..., i, j] = mean[..., at] - colour[..., i] * colour[..., j]
    spread += level**2 * (BRIGHTNESS**2 / 3 + COLOUR**2 * np.eye(3))
    empty = behind[..., [screen.channel, *screen.others]]
    # Of the screen's light on the subject, only so much is the subject's.
    excess = np.array([1.0, -0.5, -0.5])
    share = (colour @ excess) / np.maximum(empty @ excess, 1e-3)
    beyond = np.clip((1 - MOST_SCREEN) / np.maximum(1 - share, 0.05), 1, 4)
    apart = (colour - empty) * beyond[..., None]
    line = np.linalg.solve(spread, apart[..., None])[..., 0]
    line /= np.maximum(np.linalg.norm(line, axis=-1, keepdims=True), 1e-9)
    subject = (line * (empty + apart)).sum(axis=-1)
    return np.dstack([line, subject]).astype(np.float32)
