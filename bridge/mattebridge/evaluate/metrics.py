"""How good a matte is, against a known alpha and foreground: the usual figures of the field.

Alphas are (H, W) or (H, W, 1), foregrounds (H, W, 3), straight, all float 0..1 and in the same
colour space (the published figures are of display-encoded images: encode and clip first). SAD,
Grad and Conn grow with the size of the frame: compare them only at the same size. Figures marked
e-3 are given times 1000, as the tables of the field print them; SAD, Grad and Conn are divided by
1000 for the same reason.

Definitions: Rhemann et al., "A perceptually motivated online benchmark for image matting", CVPR
2009 (SAD, MSE, gradient, connectivity), in the form that later papers use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import FloatImage, Pixels

# Left, top, right, bottom.
Box = tuple[int, int, int, int]

GRADIENT_SIGMA_PX = 1.4
# The radius of the Gaussian, in sigmas.
GRADIENT_REACH = 4.0
CONNECTIVITY_STEP = 0.1
# Less than this above its connected level, a pixel still counts as connected.
CONNECTIVITY_SLACK = 0.15
# The unknown region: certainly neither set nor subject.
BAND = (0.01, 0.99)
# Foreground colours are compared where the true alpha is over this.
LEAST_ALPHA = 0.02
# An island is a region above this that is not the largest one.
ISLAND_ALPHA = 0.1


@dataclass(frozen=True)
class Figures:
    """All figures of one frame; less is better. Those of colour are None where none was given.

    sad: /1000. mad, mse: e-3. gradient, connectivity: /1000. band: MAD e-3 in the unknown region.
    foreground: mean square e-3 where the true alpha is over 0.02. premultiplied: mean absolute e-3.
    soft_premultiplied: the same in the unknown region alone.
    """

    sad: float
    mad: float
    mse: float
    gradient: float
    connectivity: float
    band: float
    foreground: float | None = None
    premultiplied: float | None = None
    soft_premultiplied: float | None = None

    def as_dict(self) -> dict[str, float | None]:
        """The figures by name, in order."""
        return asdict(self)


def measure(
    alpha: Pixels,
    true_alpha: Pixels,
    foreground: Pixels | None = None,
    true_foreground: Pixels | None = None,
) -> Figures:
    """Every figure of one frame."""
    colour: dict[str, float] = {}
    if foreground is not None and true_foreground is not None:
        colour["foreground"] = foreground_mse(foreground, true_foreground, true_alpha)
        pair = (alpha, foreground, true_alpha, true_foreground)
        colour["premultiplied"] = premultiplied_error(*pair)
        colour["soft_premultiplied"] = soft_premultiplied_error(*pair)
    return Figures(
        sad=sad(alpha, true_alpha),
        mad=mad(alpha, true_alpha),
        mse=mse(alpha, true_alpha),
        gradient=gradient_error(alpha, true_alpha),
        connectivity=connectivity_error(alpha, true_alpha),
        band=band_error(alpha, true_alpha),
        **colour,
    )


def mean_figures(rows: list[Figures]) -> Figures:
    """The mean of each figure over frames; a figure that some frame lacks is None."""
    means: dict[str, Any] = {}
    for name in asdict(rows[0]):
        values = [getattr(row, name) for row in rows]
        means[name] = None if None in values else float(np.mean(values))
    return Figures(**means)


def sad(alpha: Pixels, true_alpha: Pixels) -> float:
    """Sum of absolute differences, /1000."""
    return float(np.abs(_difference(alpha, true_alpha)).sum() / 1000)


def mad(alpha: Pixels, true_alpha: Pixels) -> float:
    """Mean absolute difference, e-3."""
    return float(np.abs(_difference(alpha, true_alpha)).mean() * 1000)


def mse(alpha: Pixels, true_alpha: Pixels) -> float:
    """Mean squared difference, e-3."""
    return float((_difference(alpha, true_alpha) ** 2).mean() * 1000)


def band_error(alpha: Pixels, true_alpha: Pixels) -> float:
    """Mean absolute difference where the true alpha is between 0 and 1, e-3; 0 if it never is."""
    band = _band(true_alpha)
    if not band.any():
        return 0.0
    return float(np.abs(_difference(alpha, true_alpha))[band].mean() * 1000)


def _band(true_alpha: Pixels) -> NDArray[np.bool_]:
    truth = _plane(true_alpha)
    return np.asarray((truth > BAND[0]) & (truth < BAND[1]))


def gradient_error(alpha: Pixels, true_alpha: Pixels) -> float:
    """Squared difference of the gradients (Gaussian derivatives), summed, /1000: edges and hair."""
    return float(((_gradient(alpha) - _gradient(true_alpha)) ** 2).sum() / 1000)


def _gradient(alpha: Pixels) -> Pixels:
    """Magnitude of the first Gaussian derivatives; borders mirrored, the edge pixel twice."""
    reach = int(GRADIENT_REACH * GRADIENT_SIGMA_PX + 0.5)
    x = np.arange(-reach, reach + 1, dtype=np.float64)
    bell = np.exp(-0.5 * (x / GRADIENT_SIGMA_PX) ** 2)
    bell /= bell.sum()
    ramp = bell * x / GRADIENT_SIGMA_PX**2
    plane = _plane(alpha)
    across = cv2.sepFilter2D(plane, cv2.CV_64F, ramp, bell, borderType=cv2.BORDER_REFLECT)
    down = cv2.sepFilter2D(plane, cv2.CV_64F, bell, ramp, borderType=cv2.BORDER_REFLECT)
    return np.hypot(across, down)


def connectivity_error(alpha: Pixels, true_alpha: Pixels) -> float:
    """What is separated from the main body or wrongly joined to it, summed, /1000.

    For rising levels the largest 4-connected region that both alphas share is found; a pixel is
    connected up to the last level at which it belonged to it; what is above that is its error.
    """
    found, truth = _plane(alpha), _plane(true_alpha)
    levels = np.arange(0, 1 + CONNECTIVITY_STEP, CONNECTIVITY_STEP)
    last = np.full(found.shape, -1.0)
    for below, level in zip(levels[:-1], levels[1:]):
        largest = _largest_region((found >= level) & (truth >= level))
        last[(last == -1) & ~largest] = below
    last[last == -1] = 1
    return float(np.abs(_connected(found, last) - _connected(truth, last)).sum() / 1000)


def _connected(alpha: Pixels, last: Pixels) -> Pixels:
    above = alpha - last
    return 1 - above * (above >= CONNECTIVITY_SLACK)


def _largest_region(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=4
    )
    if count < 2:
        return np.zeros(mask.shape, bool)
    return np.asarray(labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])))


def foreground_mse(foreground: Pixels, true_foreground: Pixels, true_alpha: Pixels) -> float:
    """Mean squared colour difference where the subject is visible, e-3; 0 if it never is."""
    seen = _plane(true_alpha) > LEAST_ALPHA
    if not seen.any():
        return 0.0
    away = foreground.astype(np.float64) - true_foreground.astype(np.float64)
    return float((away[seen] ** 2).mean() * 1000)


def premultiplied_error(
    alpha: Pixels, foreground: Pixels, true_alpha: Pixels, true_foreground: Pixels
) -> float:
    """Mean absolute difference of foreground * alpha, e-3: what a comp shows."""
    away = _premultiplied_difference(alpha, foreground, true_alpha, true_foreground)
    return float(away.mean() * 1000)


def soft_premultiplied_error(
    alpha: Pixels, foreground: Pixels, true_alpha: Pixels, true_foreground: Pixels
) -> float:
    """The same where the true alpha is between 0 and 1: the fringe. 0 if it never is."""
    band = _band(true_alpha)
    if not band.any():
        return 0.0
    away = _premultiplied_difference(alpha, foreground, true_alpha, true_foreground)
    return float(away[band].mean() * 1000)


def _premultiplied_difference(
    alpha: Pixels, foreground: Pixels, true_alpha: Pixels, true_foreground: Pixels
) -> Pixels:
    found = foreground * _plane(alpha)[..., None]
    truth = true_foreground * _plane(true_alpha)[..., None]
    return np.abs(found - truth).mean(axis=2)


# --- without a true alpha, and over time ----------------------------------------------------------


def islands(alpha: Pixels) -> int:
    """How many 8-connected regions of alpha over 0.1 there are apart from the largest."""
    over = (_plane(alpha) > ISLAND_ALPHA).astype(np.uint8)
    return max(cv2.connectedComponents(over, connectivity=8)[0] - 2, 0)


def mean_in_boxes(alpha: Pixels, boxes: Sequence[Box]) -> float:
    """Mean alpha in the boxes taken together, e-3; each is (x0, y0, x1, y1), ends left out."""
    inside = np.zeros(alpha.shape[:2], bool)
    for left, top, right, bottom in boxes:
        inside[top:bottom, left:right] = True
    return float(_plane(alpha)[inside].mean() * 1000)


def temporal_error(alpha: Pixels, before: Pixels, true_alpha: Pixels, true_before: Pixels) -> float:
    """dtSSD of two consecutive frames, e-3: how far alpha changes otherwise than the true one.

    Root mean square, over the frame, of the change of alpha less the change of the true alpha.
    Method: Erofeev et al., "Perceptually motivated benchmark for video matting", BMVC 2015.
    """
    away = _difference(alpha, true_alpha) - _difference(before, true_before)
    return float(np.sqrt((away**2).mean()) * 1000)


# --- to compare with ------------------------------------------------------------------------------


def difference_key(plate: Pixels, clean_plate: Pixels) -> FloatImage:
    """Alpha (H, W) of the plain difference key that every compositor knows, to compare with.

    plate, clean_plate: (H, W, 3), display-encoded 0..1. Both a little blurred, the largest channel
    difference through a smooth step from 0.04 to 0.16. Its foreground is the plate.
    """
    soft = [
        cv2.GaussianBlur(np.asarray(image, np.float32), (0, 0), 0.7)
        for image in (plate, clean_plate)
    ]
    t = np.clip((np.abs(soft[0] - soft[1]).max(-1) - 0.04) / 0.12, 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _difference(alpha: Pixels, true_alpha: Pixels) -> Pixels:
    return _plane(alpha) - _plane(true_alpha)


def _plane(alpha: Pixels) -> Pixels:
    """(H, W) float64 from (H, W) or (H, W, 1)."""
    return np.asarray(alpha[..., 0] if alpha.ndim == 3 else alpha, np.float64)
