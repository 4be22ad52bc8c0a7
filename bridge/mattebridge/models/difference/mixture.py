"""Alpha and subject colour of the unknown pixels, as mixtures of the set with likely colours.

    palette of the sure subject --> near colours per pixel --> explanations --> their weighted mean

Every unknown pixel is explained in several ways: only set; only subject, in one of the colours
found nearby; a mixture of the set behind it and one of those colours; a veil whose coverage follows
from the set's visible detail. Each explanation has a cost (how badly it fits, how rare its colour
is here, how unlikely it is by the region), and its weight is the larger the lower its cost.

Colours are compared display-encoded. Mixtures are computed in the light of the request's colour
space, with differences scaled back to encoded ones, so that one noise level is right for both.

Method: after Bayesian matting (Chuang et al. 2001) with a known background.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import srgb_decode, srgb_encode
from mattebridge.models.difference.evidence import Evidence
from mattebridge.models.difference.trimap import Trimap

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

Index = NDArray[np.int64]

# Colours of the subject are spread at a quarter of the working size.
PALETTE_SHARE = 4
# Clusters of the subject's colours, pixels they are found among, rounds in which they settle.
COLOURS, SAMPLES, SETTLING_ROUNDS = 8, 20_000, 3
# Radii over which a colour is looked for, and the least weight at which it is found there.
SPREAD_PX, COLOUR_PX, LEAST_WEIGHT = (1.0, 3.0, 9.0, 27.0), (0.5, 1.5, 4.5, 13.5), 0.02
# How much the subject's own colour varies about a colour of the palette.
VARIATION = 0.04
# Noise of one pixel's difference, encoded: at least, and what compression adds to any.
LEAST_NOISE, CODING_NOISE = 0.004, 0.006
# Costs, in nats: bonus of the two pure explanations, weight of the region's likelihood, ceiling of
# a disagreement with the visible detail, cost of a veil, whose colour is not in the palette.
PURE_SUBJECT, PURE_SET, REGION_WEIGHT, DETAIL_CEILING, VEIL_COST = 1.0, 1.0, 2.0, 6.0, 3.0
SURE_REGION = 0.005
# What a mixture costs for each width of the edge that it lies inside the subject, from the second
# number on.
DEPTH_WEIGHT, DEPTH_FREE = 3.0, 0.5
# Spread of distances that still count as set, over the noise.
SET_SPREAD = 0.015
# Added to the squared colour distance: keeps alpha steady where a colour is near that of the set.
STEADY = 0.002
# Variance of alpha at which a pixel's own answer and its neighbours' count the same.
DOUBT = 0.05
# Encoded values above this are cut: they tell nothing more, and float32 stays finite.
BRIGHTEST = 4.0
# Pixels at a time: they fit into one core's cache, and a frame can be cancelled after each part.
CHUNK = 32_768


@dataclass(frozen=True)
class Mixtures:
    """Of the unknown pixels, in the order of `np.nonzero`: alpha (N,), the subject's straight
    colour display-encoded (N, 3), and trust 0..1 in that alpha (N,)."""

    alpha: FloatImage
    colour: FloatImage
    trust: FloatImage


@dataclass(frozen=True)
class Palette:
    """Colours of the sure subject, at a quarter of working size.

    mean: (h, w, 3), the mean colour of the subject nearby. colours: (h, w, 3) each, the mean of one
    cluster of its colours nearby. shares: (h, w) each, the share of the subject nearby that has it.
    """

    mean: FloatImage
    colours: tuple[FloatImage, ...]
    shares: tuple[FloatImage, ...]


def make_palette(plate: FloatImage, subject: Mask) -> Palette:
    """The palette of a plate (h, w, 3) at working size; `subject` holds at least one pixel."""
    height, width = subject.shape
    small = max(1, width // PALETTE_SHARE), max(1, height // PALETTE_SHARE)
    weight = cv2.resize(subject.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    light = cv2.resize(plate * subject[..., None], small, interpolation=cv2.INTER_AREA)
    colour = light / np.maximum(weight, 1e-6)[..., None]
    far = light.sum((0, 1)) / max(float(weight.sum()), 1e-6)
    mean = _spread(light, _blurred(weight, SPREAD_PX), far, SPREAD_PX)
    centres = _clusters(colour[weight > 0.5])
    if not len(centres):
        return Palette(mean, (), ())
    nearest = np.stack([np.square(colour - centre).sum(axis=2) for centre in centres]).argmin(0)
    colours, shares = [], []
    all_near = _blurred(weight, COLOUR_PX)
    for index, centre in enumerate(centres):
        own = weight * (nearest == index)
        near = _blurred(own, COLOUR_PX)
        colours.append(_spread(colour * own[..., None], near, centre, COLOUR_PX))
        shares.append(_share(own, near, weight, all_near))
    return Palette(mean, tuple(colours), tuple(shares))


def solve(
    plate: FloatImage,
    clean_plate: FloatImage,
    unknown: Mask,
    palette: Palette,
    evidence: Evidence,
    trimap: Trimap,
    noise: float,
    scene_linear: bool,
) -> Iterator[tuple[slice, Mixtures]]:
    """Mixtures of the unknown pixels of full-size pictures, chunk by chunk.

    plate, clean_plate: (H, W, 3) display-encoded. unknown: (H, W). evidence, trimap: at working
    size. noise: standard deviation of one pixel's difference, encoded.
    """
    rows, columns = np.nonzero(unknown)
    lift = _Lift(unknown.shape)
    for start in range(0, len(rows), CHUNK):
        part = slice(start, min(start + CHUNK, len(rows)))
        y, x = rows[part], columns[part]
        at = lift.places(y, x)
        pixels = _Pixels(plate[y, x], clean_plate[y, x], scene_linear)
        yield part, _explained(pixels, at, palette, evidence, trimap, noise)


class _Lift:
    """Bilinear look-up of small maps at full-size pixels, by shares of the frame."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def places(self, y: Index, x: Index) -> FloatImage:
        """(N, 2): x and y of the pixel centres as shares of the frame."""
        height, width = self.shape
        return np.stack([(x + 0.5) / width, (y + 0.5) / height], axis=1).astype(np.float32)


def _looked_up(picture: FloatImage, at: FloatImage) -> FloatImage:
    """Values of a small map at (N, 2) places: (N,) or (3, N)."""
    height, width = picture.shape[:2]
    rows = -(-len(at) // 128)  # remap limits a picture's sides: the places are folded
    grid = np.zeros((rows * 128, 2), np.float32)
    grid[: len(at)] = at * np.array([width, height], np.float32) - np.float32(0.5)
    grid = np.asarray(grid.reshape(rows, 128, 2))
    found = cv2.remap(picture, grid, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if picture.ndim == 2:
        return np.asarray(found.reshape(-1)[: len(at)], np.float32)
    return np.ascontiguousarray(found.reshape(-1, 3)[: len(at)].T)


# --- the palette ----------------------------------------------------------------------------------


def _blurred(weight: FloatImage, radii: tuple[float, ...]) -> list[FloatImage]:
    """A weight as it is found over each of some radii."""
    return [cv2.GaussianBlur(weight, (0, 0), radius) for radius in radii]


def _spread(
    light: FloatImage, weights: list[FloatImage], far: FloatImage, radii: tuple[float, ...]
) -> FloatImage:
    """A weighted colour spread outwards: from the smallest radius that has any, else `far`.

    weights: its weight over each radius.
    """
    found = np.empty_like(light)
    found[:] = far
    for radius, near in zip(reversed(radii), reversed(weights)):
        mixed = cv2.GaussianBlur(light, (0, 0), radius)
        here = near > LEAST_WEIGHT
        found[here] = mixed[here] / near[here, None]
    return found


def _share(
    own: FloatImage, owns: list[FloatImage], weight: FloatImage, weights: list[FloatImage]
) -> FloatImage:
    """The share of the subject nearby that has this colour; owns, weights: over each radius."""
    found = np.full_like(own, float(own.sum()) / max(float(weight.sum()), 1e-6))
    for mixed, near in zip(reversed(owns), reversed(weights)):
        here = near > LEAST_WEIGHT
        found[here] = mixed[here] / near[here]
    return found


def _clusters(colours: FloatImage) -> FloatImage:
    """Up to `COLOURS` centres of (N, 3) colours; none where there are too few pixels.

    The widest group is split across its longest axis, again and again; then k-means refines all.
    Nothing is random, so that grain moves the centres as little as the colours: the matte of a
    subject that does not move does not flicker with the palette.
    """
    sample = np.ascontiguousarray(colours[:: max(1, len(colours) // SAMPLES)], np.float32)
    if len(sample) < 2 * COLOURS:
        return np.zeros((0, 3), np.float32)
    labels = np.zeros(len(sample), np.int32)
    groups = [_Group.of(sample)]
    while len(groups) < COLOURS:
        widest = max(range(len(groups)), key=lambda index: groups[index].spread)
        members = np.flatnonzero(labels == widest)
        apart = groups[widest].beyond_middle(sample[members])
        if not apart.any() or apart.all():
            break
        labels[members[apart]] = len(groups)
        groups[widest] = _Group.of(sample[members[~apart]])
        groups.append(_Group.of(sample[members[apart]]))
    stop = (cv2.TERM_CRITERIA_COUNT, SETTLING_ROUNDS, 0)
    start = labels[:, None].copy()
    count, given = len(groups), cv2.KMEANS_USE_INITIAL_LABELS
    _, _, centres = cv2.kmeans(sample, count, start, stop, 1, given)
    return np.asarray(centres, np.float32)


@dataclass(frozen=True)
class _Group:
    """Colours (N, 3): their mean, their spread around it, and the axis of the largest spread."""

    middle: FloatImage
    spread: float
    axis: FloatImage

    @classmethod
    def of(cls, colours: FloatImage) -> _Group:
        middle = colours.mean(axis=0)
        away = (colours - middle).astype(np.float64)
        values, axes = np.linalg.eigh(away.T @ away)
        return cls(middle, float(values.sum()), axes[:, -1].astype(np.float32))

    def beyond_middle(self, colours: FloatImage) -> Mask:
        return np.asarray((colours - self.middle) @ self.axis > 0)


# --- explanations ---------------------------------------------------------------------------------


class _Pixels:
    """Some pixels as (3, N) planes, in the light in which they mix, and the scale to encoded."""

    def __init__(self, plate: FloatImage, clean_plate: FloatImage, scene_linear: bool) -> None:
        seen = np.ascontiguousarray(np.minimum(plate, BRIGHTEST).T)
        empty = np.ascontiguousarray(np.minimum(clean_plate, BRIGHTEST).T)
        self.scene_linear = scene_linear
        self.scale = np.float32(1)
        if scene_linear:
            # 1 / the slope of the decoding curve, midway: from linear to encoded differences.
            middle = np.maximum((seen + empty) * np.float32(0.5), np.float32(0.04045))
            slope = np.float32(2.4 / 1.055) * ((middle + np.float32(0.055)) / 1.055) ** 1.4
            self.scale = 1 / slope
        self.empty = self.mixing(empty)
        # White, or the pixel's own value where it has light above white.
        self.ceiling = self.mixing(np.maximum(seen, np.float32(1)))
        self.difference = self.mixing(seen) - self.empty

    def mixing(self, encoded: FloatImage) -> FloatImage:
        if not self.scene_linear:
            return encoded
        return srgb_decode(encoded) * self.scale

    def encoded(self, mixing: FloatImage) -> FloatImage:
        if not self.scene_linear:
            return mixing
        return srgb_encode(np.maximum(mixing / self.scale, 0))


class _Costs:
    """The explanations of some pixels, added one by one."""

    def __init__(self) -> None:
        self.costs: list[FloatImage] = []
        self.alphas: list[FloatImage] = []
        self.colours: list[FloatImage] = []

    def add(self, cost: FloatImage, alpha: FloatImage, colour: FloatImage) -> None:
        self.costs.append(cost)
        self.alphas.append(alpha)
        self.colours.append(colour)

    def weighed(self) -> tuple[FloatImage, FloatImage, FloatImage]:
        """Mean alpha, its variance, and the mean colour of the subject."""
        costs, alphas = np.stack(self.costs), np.stack(self.alphas)
        costs -= costs.min(axis=0)
        weights = np.exp(-costs)
        weights /= weights.sum(axis=0)
        alpha = (weights * alphas).sum(axis=0)
        variance = np.maximum((weights * alphas * alphas).sum(axis=0) - alpha * alpha, 0)
        weights *= alphas + np.float32(1e-4)
        weights /= weights.sum(axis=0)
        colour = np.zeros_like(self.colours[0])
        for weight, one in zip(weights, self.colours):
            colour += weight * one
        return alpha, variance, colour


def _explained(
    pixels: _Pixels,
    at: FloatImage,
    palette: Palette,
    evidence: Evidence,
    trimap: Trimap,
    noise: float,
) -> Mixtures:
    likely = np.clip(_looked_up(trimap.likelihood, at), SURE_REGION, 1 - SURE_REGION)
    weight = np.float32(REGION_WEIGHT)
    for_subject, for_set = weight * np.log(likely), weight * np.log(1 - likely)
    detail = _Detail(evidence, at)
    squared = (pixels.difference * pixels.difference).sum(axis=0)
    ones, zeros = np.ones_like(squared), np.zeros_like(squared)
    inside = np.float32(DEPTH_WEIGHT) * np.maximum(
        _looked_up(trimap.depth, at) - np.float32(DEPTH_FREE), 0
    )
    found = _Costs()
    encoded_mean = _looked_up(palette.mean, at)
    mean = pixels.mixing(encoded_mean)
    near = [(mean, np.log(np.float32(0.3 + LEAST_WEIGHT)) * ones)]
    for colour, share in zip(palette.colours, palette.shares):
        rarity = np.log(np.maximum(_looked_up(share, at), 0) + np.float32(LEAST_WEIGHT))
        near.append((pixels.mixing(_looked_up(colour, at)), rarity))
    for colour, rarity in near:
        towards = colour - pixels.empty
        reach = (towards * towards).sum(axis=0)
        along = (pixels.difference * towards).sum(axis=0)
        alpha = np.clip(along / (reach + np.float32(STEADY)), 0, 1)
        left = squared - 2 * alpha * along + alpha * alpha * reach
        cost = _misfit(left, alpha, noise) - rarity + detail.cost(alpha)
        found.add(cost + inside, alpha, colour)
        left = squared - 2 * along + reach
        cost = _misfit(left, ones, noise) - rarity + detail.cost(ones)
        found.add(cost - PURE_SUBJECT - for_subject, ones, colour)
    apart = _looked_up(evidence.distance, at) / np.float32(SET_SPREAD + evidence.noise)
    cost = np.float32(0.5) * np.square(apart) + detail.cost(zeros)
    found.add(cost - np.float32(PURE_SET) - for_set, zeros, mean)
    _add_veil(found, pixels, detail, noise)
    alpha, variance, colour = found.weighed()
    towards = colour - pixels.empty
    reach = (towards * towards).sum(axis=0)
    variance += (noise**2 + alpha * alpha * VARIATION**2) / (reach + np.float32(1e-4))
    trust = DOUBT / (variance + DOUBT)
    return Mixtures(
        alpha.astype(np.float32),
        np.ascontiguousarray(pixels.encoded(colour).T, np.float32),
        trust.astype(np.float32),
    )


def _misfit(left: FloatImage, alpha: FloatImage, noise: float) -> FloatImage:
    """Negative log likelihood of a squared residue; the subject's colour varies with its alpha."""
    variance = alpha * alpha * np.float32(VARIATION**2) + np.float32(noise**2)
    return np.maximum(left, 0) / (2 * variance) + 1.5 * np.log(variance / np.float32(noise**2))


class _Detail:
    """The coverage of some pixels that follows from the set's visible detail."""

    def __init__(self, evidence: Evidence, at: FloatImage) -> None:
        self.coverage = _looked_up(evidence.covered_by, at)
        self.variance = _looked_up(evidence.covered_by_variance, at) + np.float32(0.01)
        self.through = _looked_up(evidence.through.astype(np.float32), at) > 0.5

    def cost(self, alpha: FloatImage) -> FloatImage:
        off = np.square(alpha - self.coverage) / (2 * self.variance)
        return np.minimum(off, np.float32(DETAIL_CEILING))


def _add_veil(found: _Costs, pixels: _Pixels, detail: _Detail, noise: float) -> None:
    """Add the explanation by a veil of any colour, whose coverage follows from the set's detail."""
    if not detail.through.any():
        return
    alpha = np.maximum(detail.coverage, np.float32(0.05))
    colour = np.asarray(pixels.empty + pixels.difference / alpha, np.float32)
    np.clip(colour, 0, pixels.ceiling, out=colour)
    # What a colour between black and the ceiling does not explain is left over.
    left = np.square(pixels.difference - alpha * (colour - pixels.empty)).sum(axis=0)
    unseen = VEIL_COST + 1.5 * np.log(1 + np.float32((VARIATION / noise) ** 2))
    cost = unseen + left / np.float32(2 * noise**2)
    found.add(np.where(detail.through, cost, np.float32(60)), alpha, colour)
