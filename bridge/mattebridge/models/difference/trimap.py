"""Which pixels are certainly subject, which are set, and where alpha has to be solved.

    evidence --> region (likelihood, with the neighbours) --> core --> edge width --> trimap

The region decides what a pixel alone cannot show: a patch of the subject that happens to match the
set, a shadow on a bare wall. Clear pixels decide for unclear ones near them, except across an edge
of the plate that the clean plate does not have: there a subject ends. The unknown band is as wide
as the edge is soft: narrow on a sharp outline, wide where motion or defocus spread it, and open
where the set shows through hair or a veil.

Method of the edge term: background cut (Sun et al. 2006), which removes the set's own edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Optional

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.models.difference.evidence import (
    Evidence,
    blurred,
    disc,
    length,
    slopes,
    widely_blurred,
)
from mattebridge.models.difference.smoothing import smoothed
from mattebridge.models.tasks import begin

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

Bytes = NDArray[np.uint8]
# Of each pixel and its right neighbour (h, w - 1), and its lower one (h - 1, w).
Edges = tuple[NDArray[np.float32], NDArray[np.float32]]

# How much a pixel's own evidence counts: of set, with the set's detail, of a shadow, with detail.
TRUST_SET, TRUST_SET_KEPT, TRUST_SHADOW, TRUST_SHADOW_KEPT = 0.4, 0.3, 0.2, 0.4
TRUST_LEAST = 0.02
# Links between neighbours: blur before slopes, and the step (a colour length) that separates them.
LINK_BLUR_PX, LINK_STEP = 0.8, 0.02
# Patches of the subject in the set's colour are filled up to about 10 pixels.
REGION_STRENGTH, REGION_ROUNDS = 100.0, 3
# Edge width: radii in which contrast and steepness are measured, its smoothing, its bounds.
CONTRAST_RADIUS_PX, STEEP_RADIUS_PX, WIDTH_BLUR_PX = 14, 5, 10.0
LEAST_STEEPNESS, WIDEST_PX, USUAL_PX = 0.003, 25.0, 5.0
# The band in edge widths: inwards (the core's outline lies on the outer foot of an edge), outwards.
INWARDS, OUTWARDS = 1.2, 0.6
LEAST_INWARDS_PX, LEAST_OUTWARDS_PX = 4.0, 4.0
# A pixel that is not clearly subject by itself is certain only this many bands inside the core.
DEEP_BANDS, CLEAR = 2.0, 1.3
# Around a pixel that shows the set unchanged, or through a veil: what covers the rest of a gap and
# its soft edge.
GAP_EDGE_PX, THROUGH_EDGE_PX = 3, 2
# The mean distance from the set, over a radius, from which on the subject is told apart by colour,
# and at which it is in full; how much wider the band is then, and how much deeper inside the core a
# pixel that is not clear is certain.
APART_RADIUS_PX, APART_FROM, APART_FULL = 8.0, 0.1, 0.3
WIDER_APART, DEEPER_APART = 1.0, 2.0
# Doubtful pixels outside the core stay unknown up to this many bands.
FAR_BANDS = 3.0
# An alpha hint: inside it likeness to the set counts this much; farther outside it than this share
# of the long side there is no subject.
HINT_INSIDE, HINT_TRUST, HINT_REACH = 0.2, 0.3, 0.05


@dataclass(frozen=True)
class Trimap:
    """Three masks (h, w), of which one is set at each pixel, and what the unknown ones are likely.

    likelihood: of subject, 0..1. depth: how far inside the subject a pixel lies, in widths of its
    edge; 0 where the set is seen.
    """

    subject: Mask
    empty: Mask
    unknown: Mask
    likelihood: FloatImage
    depth: FloatImage


def make_trimaps(
    plate: FloatImage,
    clean_plate: FloatImage,
    evidence: Evidence,
    edges: Edges,
    hint: Optional[FloatImage],
    outside: Optional[Mask],
    *,
    fill: float,
    bands: Sequence[float],
    speck_share: float,
    part_of: float = 1.0,
) -> list[Trimap]:
    """Trimaps at working size from pictures (h, w, 3), their evidence and their new edges.

    fill: strength of the region's smoothing, 1 as usual, 0 for none. bands: factors on the width of
    the unknown band, one for each trimap. speck_share: islands below this share of the frame are
    dropped. part_of: see `ModelInput`.
    """
    shown = _Hint.of(hint, part_of)
    of_steps = begin(_Steps.of, plate, clean_plate, evidence)
    of_gaps = begin(_gaps, evidence)
    likelihood = _region(evidence, edges, shown, outside, fill)
    core = _without_specks((likelihood > 0.5).astype(np.uint8), speck_share)
    outline = _Outline.of(core, of_steps.result(), of_gaps.result(), evidence)
    return [_with_band(evidence, shown, likelihood, outline, np.float32(band)) for band in bands]


@dataclass(frozen=True)
class _Outline:
    """The region of the subject, its edge's width, and the distances inside and away from it.

    apart: how well the subject nearby can be told from the set by colour, 0..1. gaps: what
    surrounds the set that is seen between strands.
    """

    core: Bytes
    width: FloatImage
    inside: FloatImage
    away: FloatImage
    apart: FloatImage
    gaps: Mask

    @classmethod
    def of(cls, core: Bytes, steps: _Steps, gaps: Mask, evidence: Evidence) -> _Outline:
        apart = begin(_told_apart, evidence, core)
        inside, away = (begin(_distance, mask) for mask in (core, 1 - core))
        width = _edge_width(steps, evidence, core)
        outline = cls(core, width, inside.result(), away.result(), apart.result(), gaps)
        if not core.any():
            outline.away[:] = np.inf
        return outline


def _distance(mask: Bytes) -> FloatImage:
    """How far each pixel of a mask is from what is not in it."""
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float32)


def _gaps(evidence: Evidence) -> Mask:
    """Between strands the set shows: whatever surrounds it, it is for the mixtures to tell."""
    gaps = cv2.dilate(evidence.same.astype(np.uint8), disc(GAP_EDGE_PX)) > 0
    gaps |= cv2.dilate(evidence.through.astype(np.uint8), disc(THROUGH_EDGE_PX)) > 0
    return np.asarray(gaps)


def _with_band(
    evidence: Evidence,
    shown: Optional[_Hint],
    likelihood: FloatImage,
    outline: _Outline,
    band: np.float32,
) -> Trimap:
    core, width, away, gaps = outline.core, outline.width, outline.away, outline.gaps
    inwards = np.maximum(1 + INWARDS * width, LEAST_INWARDS_PX) * band
    outwards = np.maximum(2 + OUTWARDS * width, LEAST_OUTWARDS_PX) * band
    inside = outline.inside / inwards
    # Where the subject's colours are far from the set's a mixture is told from a solid pixel: the
    # band may be wide there, and hair is solved. Where they are near, it must be narrow.
    apart = outline.apart
    deep = DEEP_BANDS * (1 + DEEPER_APART * apart)
    of_deeper = begin(_depth, evidence, core, inside, inwards, deep)
    depth = _depth(evidence, core, inside, inwards, DEEP_BANDS)
    deeper = of_deeper.result()
    subject = (depth > 1) & (deeper > 1 + WIDER_APART * apart) & ~gaps
    depth[gaps] = 0
    empty = ((evidence.distance < evidence.low) & (away > outwards)) | (away > FAR_BANDS * outwards)
    if shown is not None:
        empty |= shown.far
        subject &= ~shown.far
    return Trimap(subject, empty, ~(subject | empty), likelihood, depth)


def _told_apart(evidence: Evidence, core: Bytes) -> FloatImage:
    """How well the subject nearby can be told from the set by colour, 0..1."""
    own = core.astype(np.float32)
    of_near = begin(widely_blurred, own, APART_RADIUS_PX)
    mean = widely_blurred(own * evidence.distance, APART_RADIUS_PX)
    near = of_near.result()
    mean /= np.maximum(near, np.float32(1e-3))
    share = (mean - np.float32(APART_FROM)) / np.float32(APART_FULL - APART_FROM)
    return np.clip(share, 0, 1)


def _depth(
    evidence: Evidence,
    core: Bytes,
    inside: FloatImage,
    inwards: FloatImage,
    deep: FloatImage | float,
) -> FloatImage:
    """Distance, in bands, from what is not clearly subject: by itself, or `deep` bands inside."""
    clear = (core > 0) & ((evidence.distance > CLEAR * evidence.high) | (inside > deep))
    closed = cv2.morphologyEx(clear.astype(np.uint8), cv2.MORPH_CLOSE, disc(2))
    return np.asarray(_distance(np.asarray(closed, np.uint8)) / inwards, np.float32)


def new_edges(plate: FloatImage, clean_plate: FloatImage, light: FloatImage) -> Edges:
    """Steps of the plate that the (shaded) clean plate does not have, between each pixel and its
    right neighbour (h, w - 1) and the lower one (h - 1, w): colour lengths."""
    of_empty = begin(blurred, clean_plate, LINK_BLUR_PX)
    seen, empty, shade = blurred(plate, LINK_BLUR_PX), of_empty.result(), light[..., None]
    of_beside = begin(_new_step, seen, empty, shade, axis=1)
    below = _new_step(seen, empty, shade, axis=0)
    return of_beside.result(), below


def _new_step(seen: FloatImage, empty: FloatImage, shade: FloatImage, axis: int) -> FloatImage:
    to, since = ((slice(None),) * axis + (part,) for part in (slice(1, None), slice(-1)))
    seen, empty, shade = seen[to] - seen[since], empty[to] - empty[since], shade[to]
    if not seen.size:
        return np.zeros(seen.shape[:2], np.float32)
    return np.minimum(length(seen), length(seen - shade * empty))


def links(edges: Edges, step: float) -> Edges:
    """How closely neighbours belong together, 0..1, where an edge of `step` separates them."""
    beside, below = (np.exp(edge * np.float32(-1 / step)) for edge in edges)
    return beside, below


# --- the region -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Hint:
    """Where an alpha hint shows subject, and where it is far outside of it."""

    inside: Mask
    far: Mask

    @classmethod
    def of(cls, hint: Optional[FloatImage], part_of: float) -> Optional[_Hint]:
        """None without a hint, or with one that shows no subject."""
        if hint is None or not (hint >= 0.5).any():
            return None
        reach = max(2, int(HINT_REACH * part_of * max(hint.shape)))
        away = cv2.distanceTransform((hint < 0.1).astype(np.uint8), cv2.DIST_L2, 5)
        return cls(inside=hint >= 0.9, far=away > reach)


def _region(
    evidence: Evidence,
    edges: Edges,
    hint: Optional[_Hint],
    outside: Optional[Mask],
    fill: float,
) -> FloatImage:
    """Likelihood of subject 0..1: each pixel's own evidence, smoothed up to edges."""
    span = np.float32(evidence.high - evidence.low)
    value = np.clip((evidence.distance - np.float32(evidence.low)) / span, 0, 1)
    trust = np.abs(2 * value - 1) + np.float32(TRUST_LEAST)
    # On a bare wall a shadow may be a subject of the wall's hue: little trust. So may a patch that
    # matches the set; the set's detail, there or missing, tells.
    alike = evidence.distance < evidence.low
    trust = np.where(alike, TRUST_SET + TRUST_SET_KEPT * evidence.kept, trust)
    shaded = TRUST_SHADOW + TRUST_SHADOW_KEPT * np.maximum(evidence.kept, 0)
    trust = np.where(evidence.shadow, shaded, trust)
    value[evidence.shadow] = 0
    if hint is not None:
        alike = hint.inside & (value < 0.5)
        trust[alike] *= HINT_INSIDE
        value = np.where(alike, (value * trust + HINT_TRUST) / (trust + HINT_TRUST), value)
        trust[alike] += HINT_TRUST
        value[hint.far], trust[hint.far] = 0, 2
    if outside is not None:
        trust[outside] = 1e-3
    if fill <= 0:
        return value
    return smoothed(value, trust, links(edges, LINK_STEP), REGION_STRENGTH * fill, REGION_ROUNDS)


def _without_specks(core: Bytes, share: float) -> Bytes:
    _count, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= share * core.size
    kept[0] = False
    return kept[labels].astype(np.uint8)


# --- the width of edges ---------------------------------------------------------------------------


class _Steps(NamedTuple):
    """Where the plate steps from set to subject: how far, and in how many pixels, (h, w) each."""

    contrast: FloatImage
    width: FloatImage

    @classmethod
    def of(cls, plate: FloatImage, clean_plate: FloatImage, evidence: Evidence) -> _Steps:
        """Contrast over steepness: a step of contrast c that rises by g a pixel is c / g wide. Only
        slopes that the clean plate does not have count."""
        of_plate = begin(_slope, plate)
        new = _slope(plate - clean_plate)
        contrast = cv2.GaussianBlur(evidence.distance, (0, 0), 1.5)
        side = 2 * CONTRAST_RADIUS_PX + 1
        contrast = cv2.dilate(contrast, np.ones((side, side), np.uint8))
        steepness = cv2.dilate(cv2.min(of_plate.result(), new), disc(STEEP_RADIUS_PX))
        width = np.minimum(contrast / np.maximum(steepness, LEAST_STEEPNESS), 40.0)
        return cls(np.asarray(contrast, np.float32), width)


def _slope(picture: FloatImage) -> FloatImage:
    """How steep a picture is per pixel, as a colour length."""
    x, y = (length(slope) for slope in slopes(blurred(picture, 1.0)))
    # Not cv2.magnitude: it rounds differently with the alignment of its arrays.
    return np.asarray(cv2.sqrt(x * x + y * y), np.float32)


def _edge_width(steps: _Steps, evidence: Evidence, core: Bytes) -> FloatImage:
    """The width in pixels of the transition from set to subject, at and near the core's outline."""
    outline = cv2.morphologyEx(core, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
    weight = (outline & (steps.contrast > evidence.high)).astype(np.float32)
    of_total = begin(widely_blurred, weight, WIDTH_BLUR_PX)
    mean = widely_blurred(weight * steps.width, WIDTH_BLUR_PX)
    total = of_total.result()
    mean /= np.maximum(total, 1e-6)
    return np.where(total > 1e-4, np.minimum(mean, WIDEST_PX), USUAL_PX).astype(np.float32)
