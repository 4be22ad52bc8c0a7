"""The classical keyer: what differs from the clean plate is the subject. No weights.

    difference --> shadow test --> core --> trimap --> spread colour --> projection --> foreground

A pixel belongs to the subject as far as light of the subject's colour, mixed over the clean plate,
explains it. Where the difference is clear the answer is 0 or 1; in the band between, alpha is the
projection of `plate - clean_plate` onto `colour - clean_plate`, with the colour spread outwards
from the sure subject, steadied by a guided filter. Noise sets its own thresholds; a pixel of the
set's colour but darker is a shadow and stays with the set.

All pixel sizes scale with the frame (`scale` = long side / 800, at least 1). Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import srgb_decode
from mattebridge.models.base import Checkpoint, MattingModel, ModelCard, ModelInput, ModelOutput

if TYPE_CHECKING:
    FloatImage = NDArray[np.float32]
    Mask = NDArray[np.bool_]

# The long side at which radii are what the settings say.
REFERENCE_SIDE = 800
# Difference thresholds, display-encoded: never below these, and this far above the noise.
SURE_SET, SURE_SUBJECT = 0.03, 0.11
SET_NOISES, SUBJECT_NOISES = 4, 10
QUIET_SHARE = 0.3  # of the frame that is set for certain: where noise is measured
# A shadow keeps the set's colour and takes between nothing and 55 % of its light.
SHADOW_DARKEST, SHADOW_COLOUR, SHADOW_NEEDS_LIGHT = 0.45, 0.03, 0.12
SPECK_SHARE = 0.0002
SPREAD_SIGMAS = (1.0, 3.0, 9.0, 27.0)  # at quarter size
LEAST_WEIGHT = 0.02
RAMP = 0.15  # the difference at which a pixel without a usable colour counts as subject
BRIGHTEST = 4.0  # encoded; what is brighter differs by being there
LARGEST = 3e37  # a tenth of what float32 holds, so that dividing by alpha stays finite


class DifferenceModel(MattingModel):
    """See the module; the card holds settings and ranges."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground of one frame. See `MattingModel.matte`."""
        assert given.clean_plate is not None
        plate = np.minimum(given.plate, BRIGHTEST)
        clean_plate = np.minimum(given.clean_plate, BRIGHTEST)
        settings = given.settings
        scale = max(1.0, max(plate.shape[:2]) / REFERENCE_SIDE)
        checkpoint("difference")
        evidence = _difference(plate, clean_plate, scale, settings)
        checkpoint("trimap")
        trimap = _trimap(evidence, scale, settings)
        degraded: tuple[str, ...] = ()
        if not trimap.subject.any():
            ramp = np.where(trimap.unknown, np.clip(evidence.distance / RAMP, 0, 1), 0)
            return ModelOutput(ramp.astype(np.float32), given.plate.copy())
        if not trimap.set.any():
            degraded = ("no_set_visible",)
        checkpoint("alpha")
        colour = _spread(plate, trimap.subject)
        alpha = _project(plate, clean_plate, colour, evidence, trimap, given.scene_linear)
        checkpoint("foreground")
        return ModelOutput(alpha, _foreground(given, colour, alpha), degraded=degraded)


# --- the difference -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Evidence:
    """How far each pixel is from the set, and where the thresholds lie."""

    distance: FloatImage
    low: float
    high: float


def _difference(plate: FloatImage, clean: FloatImage, scale: float, settings: Any) -> _Evidence:
    sigma = 1.2 * scale
    plate = cv2.GaussianBlur(plate, (0, 0), sigma)
    clean = cv2.GaussianBlur(clean, (0, 0), sigma)
    # What a shift of `edge_tolerance` pixels between the two would explain is no difference.
    slope_x = cv2.Sobel(clean, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(clean, cv2.CV_32F, 0, 1, scale=1 / 8)
    tolerance = cv2.magnitude(slope_x.reshape(-1, 3), slope_y.reshape(-1, 3)).reshape(clean.shape)
    tolerance *= np.float32(settings["edge_tolerance"])
    distance = _length(_beyond(plate - clean, tolerance))
    noise = _quiet_level(distance) + 0.001
    low, high = max(SURE_SET, SET_NOISES * noise), max(SURE_SUBJECT, SUBJECT_NOISES * noise)
    if settings["shadow"]:
        distance = _without_shadow(plate, clean, tolerance, distance)
    return _Evidence(distance, low, high)


def _beyond(difference: FloatImage, tolerance: FloatImage) -> FloatImage:
    excess = np.abs(difference, out=difference)
    excess -= tolerance
    return np.maximum(excess, 0, out=excess)


def _length(vectors: FloatImage) -> FloatImage:
    return np.sqrt(np.einsum("hwc,hwc->hw", vectors, vectors))


def _quiet_level(distance: FloatImage) -> float:
    """The median of the smallest differences: noise, and what alignment left."""
    sample = np.sort(distance.ravel()[:: max(1, distance.size // 200_000)])
    quiet = sample[: max(1, int(sample.size * QUIET_SHARE))]
    return float(np.median(quiet))


def _without_shadow(
    plate: FloatImage, clean: FloatImage, tolerance: FloatImage, distance: FloatImage
) -> FloatImage:
    """Differences that darkening the set explains count as what is left after it."""
    light = np.einsum("hwc,hwc->hw", clean, clean) + np.float32(1e-4)
    share = np.einsum("hwc,hwc->hw", plate, clean) / light
    left = _length(_beyond(plate - share[..., None] * clean, tolerance)) * np.float32(1.5)
    shadow = (share > SHADOW_DARKEST) & (share < 1) & (left < SHADOW_COLOUR)
    shadow &= clean.max(axis=2) > SHADOW_NEEDS_LIGHT
    return np.where(shadow, np.minimum(distance, left), distance)


# --- the trimap -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Trimap:
    """Three masks that share out the frame."""

    subject: Mask
    set: Mask
    unknown: Mask


def _trimap(evidence: _Evidence, scale: float, settings: Any) -> _Trimap:
    core = (evidence.distance > evidence.high).astype(np.uint8)
    core = cv2.morphologyEx(core, cv2.MORPH_OPEN, _disc(scale))
    core = cv2.morphologyEx(core, cv2.MORPH_CLOSE, _disc(4 * scale))
    still = evidence.distance < evidence.low
    core = _without_specks(_filled(core, still, settings["hole_fill"]))
    band = float(settings["band"]) * scale
    inside = cv2.distanceTransform(core, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - core, cv2.DIST_L2, 5)
    subject = inside > band
    if not core.any():
        outside = np.full(core.shape, np.inf, np.float32)
    empty = (still & (outside > band)) | (outside > 2 * band)
    return _Trimap(subject, empty, ~(subject | empty))


def _disc(radius: float) -> NDArray[np.uint8]:
    side = 2 * int(radius) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _filled(core: NDArray[np.uint8], still: Mask, share: float) -> NDArray[np.uint8]:
    """The core with its inner holes closed, as far as they do not show the set itself."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - core, connectivity=4)
    height, width = core.shape
    left, top = stats[:, cv2.CC_STAT_LEFT], stats[:, cv2.CC_STAT_TOP]
    right = left + stats[:, cv2.CC_STAT_WIDTH]
    bottom = top + stats[:, cv2.CC_STAT_HEIGHT]
    area = stats[:, cv2.CC_STAT_AREA]
    shows_set = np.bincount(labels[still], minlength=count)
    inner = (left > 0) & (top > 0) & (right < width) & (bottom < height)
    closed = inner & (area < share * core.size) & (shows_set < 0.6 * area)
    closed[0] = False  # the core itself
    return core | closed[labels].astype(np.uint8)


def _without_specks(core: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _count, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= SPECK_SHARE * core.size
    kept[0] = False
    return kept[labels].astype(np.uint8)


# --- colour, alpha, foreground --------------------------------------------------------------------


def _spread(plate: FloatImage, subject: Mask) -> FloatImage:
    """The sure subject's colours, carried outwards from the nearest of them."""
    height, width = subject.shape
    small = (max(1, width // 4), max(1, height // 4))
    weight = cv2.resize(subject.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(plate * subject[..., None], small, interpolation=cv2.INTER_AREA)
    mean = plate[subject].mean(axis=0, dtype=np.float64).astype(np.float32)
    found = np.broadcast_to(mean, colour.shape).copy()
    missing = np.ones(weight.shape, bool)
    for sigma in SPREAD_SIGMAS:
        near = cv2.GaussianBlur(weight, (0, 0), sigma)
        mixed = cv2.GaussianBlur(colour, (0, 0), sigma)
        here = missing & (near > LEAST_WEIGHT)
        found[here] = mixed[here] / near[here, None]
        missing &= ~here
    spread = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.where(subject[..., None], plate, spread)


def _project(
    plate: FloatImage,
    clean: FloatImage,
    colour: FloatImage,
    evidence: _Evidence,
    trimap: _Trimap,
    scene_linear: bool,
) -> FloatImage:
    """Alpha: known pixels as they are, the others by projection and a guided filter."""
    unknown = trimap.unknown
    seen, back, front = plate[unknown], clean[unknown], colour[unknown]
    if scene_linear:
        seen, back, front = srgb_decode(seen), srgb_decode(back), srgb_decode(front)
    towards = front - back
    reach = np.einsum("nc,nc->n", towards, towards)
    share = np.einsum("nc,nc->n", seen - back, towards) / (reach + np.float32(0.004))
    trust = reach / (reach + np.float32(0.02))
    ramp = np.clip(evidence.distance[unknown] / RAMP, 0, 1)
    raw = trimap.subject.astype(np.float32)
    raw[unknown] = trust * np.clip(share, 0, 1) + (1 - trust) * ramp
    steady = _guided(plate.mean(axis=2), raw, 2, 1e-3)
    alpha = raw
    alpha[unknown] = np.clip(0.5 * raw[unknown] + 0.5 * steady[unknown], 0, 1)
    return alpha


def _guided(guide: FloatImage, target: FloatImage, radius: int, epsilon: float) -> FloatImage:
    """He, Sun and Tang's guided filter with a grey guide."""
    size = (2 * radius + 1, 2 * radius + 1)
    mean_guide, mean_target = cv2.blur(guide, size), cv2.blur(target, size)
    variance = cv2.blur(guide * guide, size) - mean_guide * mean_guide
    slope = (cv2.blur(guide * target, size) - mean_guide * mean_target) / (variance + epsilon)
    offset = mean_target - slope * mean_guide
    return cv2.blur(slope, size) * guide + cv2.blur(offset, size)


def _foreground(given: ModelInput, colour: FloatImage, alpha: FloatImage) -> FloatImage:
    """Unmixed where there is enough of it, the spread colour where there is little."""
    assert given.clean_plate is not None
    weight = np.clip((alpha - 0.3) / 0.5, 0, 1)[..., None]
    behind = (1 - alpha)[..., None] * given.clean_plate
    light = np.clip(given.plate - behind, 0, LARGEST)
    unmixed = light / np.maximum(alpha, 0.1)[..., None]
    ceiling = np.maximum(1, given.plate.max(axis=2, keepdims=True))
    return weight * np.minimum(unmixed, ceiling) + (1 - weight) * colour
