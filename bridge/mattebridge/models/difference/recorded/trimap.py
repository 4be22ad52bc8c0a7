"""`difference/trimap.py` for a GPU: see there; tensors of the device, pictures (3, h, w)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor

from mattebridge.models.difference import trimap as by_host
from mattebridge.models.difference.recorded.evidence import DeviceEvidence, length
from mattebridge.models.difference.recorded.linear import Filters
from mattebridge.models.difference.recorded.masks import (
    closed,
    dilated,
    distances,
    highest,
    without_specks,
)
from mattebridge.models.difference.smoothing import smoothed_at_once


@dataclass(frozen=True)
class DeviceTrimap:
    """`Trimap` on the device; settled: whether all regions were measured (`without_specks`)."""

    subject: Tensor
    empty: Tensor
    unknown: Tensor
    likelihood: Tensor
    depth: Tensor
    settled: Tensor


def make_trimap(
    plate: Tensor,
    clean_plate: Tensor,
    evidence: DeviceEvidence,
    edges: tuple[Tensor, Tensor],
    hint: Optional[Tensor],
    outside: Optional[Tensor],
    filters: Filters,
    *,
    fill: float,
    band: float,
    speck_share: float,
    part_of: float,
    rounds: int,
) -> DeviceTrimap:
    """See `trimap.make_trimaps`. rounds: see `without_specks`."""
    shown = None if hint is None else _Hint.of(hint, part_of)
    contrast, steps = _steps(plate, clean_plate, evidence, filters)
    gaps = dilated(evidence.same.float(), by_host.GAP_EDGE_PX) > 0
    gaps = gaps | (dilated(evidence.through.float(), by_host.THROUGH_EDGE_PX) > 0)
    likelihood = _region(evidence, edges, shown, outside, fill)
    core, settled = without_specks(likelihood > 0.5, speck_share * likelihood.numel(), rounds)
    width = _edge_width(contrast, steps, evidence, core, filters)
    inside, away = distances(torch.stack([core, ~core])).unbind()
    away = torch.where(core.any(), away, torch.inf)
    inwards = (1 + by_host.INWARDS * width).clamp_(min=by_host.LEAST_INWARDS_PX) * band
    outwards = (2 + by_host.OUTWARDS * width).clamp_(min=by_host.LEAST_OUTWARDS_PX) * band
    apart = _told_apart(evidence, core, filters)
    inside = inside / inwards
    clear = evidence.distance > by_host.CLEAR * evidence.high
    deeper = by_host.DEEP_BANDS * (1 + by_host.DEEPER_APART * apart)
    certain = torch.stack([closed(core & (clear | (inside > deep)), 2)
                           for deep in (by_host.DEEP_BANDS, deeper)])  # fmt: skip
    depth, deeper = (distances(certain) / inwards).unbind()
    subject = (depth > 1) & (deeper > 1 + by_host.WIDER_APART * apart) & ~gaps
    depth = depth.masked_fill(gaps, 0)
    empty = (evidence.distance < evidence.low) & (away > outwards)
    empty = empty | (away > by_host.FAR_BANDS * outwards)
    if shown is not None:
        empty, subject = empty | shown.far, subject & ~shown.far
    return DeviceTrimap(subject, empty, ~(subject | empty), likelihood, depth, settled)


def new_edges(
    plate: Tensor, clean_plate: Tensor, light: Tensor, filters: Filters
) -> tuple[Tensor, Tensor]:
    """See `trimap.new_edges`."""
    pictures = torch.stack([plate, clean_plate])
    seen, empty = filters.blurred(pictures, by_host.LINK_BLUR_PX).unbind()
    beside, below = (
        torch.minimum(
            length(seen.diff(dim=axis)),
            length(seen.diff(dim=axis) - light.narrow(axis, 1, light.shape[axis] - 1)
                   * empty.diff(dim=axis)),
        )
        for axis in (-1, -2)
    )  # fmt: skip
    return beside, below


def links(edges: tuple[Tensor, Tensor], step: float) -> tuple[Tensor, Tensor]:
    """See `trimap.links`."""
    beside, below = (torch.exp(edge * (-1 / step)) for edge in edges)
    return beside, below


@dataclass(frozen=True)
class _Hint:
    """`trimap._Hint`; nothing of one that shows no subject."""

    inside: Tensor
    far: Tensor

    @classmethod
    def of(cls, hint: Tensor, part_of: float) -> _Hint:
        reach = max(2, int(by_host.HINT_REACH * part_of * max(hint.shape)))
        shows = (hint >= 0.5).any()
        away = distances((hint < 0.1)[None])[0]
        return cls((hint >= 0.9) & shows, (away > reach) & shows)


def _region(
    evidence: DeviceEvidence,
    edges: tuple[Tensor, Tensor],
    hint: Optional[_Hint],
    outside: Optional[Tensor],
    fill: float,
) -> Tensor:
    """`trimap._region`."""
    span = evidence.high - evidence.low
    value = ((evidence.distance - evidence.low) / span).clamp_(0, 1)
    trust = (2 * value - 1).abs_() + by_host.TRUST_LEAST
    alike = evidence.distance < evidence.low
    trust = torch.where(alike, by_host.TRUST_SET + by_host.TRUST_SET_KEPT * evidence.kept, trust)
    shaded = by_host.TRUST_SHADOW + by_host.TRUST_SHADOW_KEPT * evidence.kept.clamp(min=0)
    trust = torch.where(evidence.shadow, shaded, trust)
    value = value.masked_fill(evidence.shadow, 0)
    if hint is not None:
        alike = hint.inside & (value < 0.5)
        less, more = trust * by_host.HINT_INSIDE, by_host.HINT_TRUST
        value = torch.where(alike, (value * less + more) / (less + more), value)
        trust = torch.where(alike, less + more, trust)
        value, trust = value.masked_fill(hint.far, 0), trust.masked_fill(hint.far, 2)
    if outside is not None:
        trust = trust.masked_fill(outside, 1e-3)
    if fill <= 0:
        return value
    between = links(edges, by_host.LINK_STEP)
    strength, rounds = by_host.REGION_STRENGTH * fill, by_host.REGION_ROUNDS
    return smoothed_at_once(value, trust, between, strength, rounds)


def _told_apart(evidence: DeviceEvidence, core: Tensor, filters: Filters) -> Tensor:
    """`trimap._told_apart`."""
    own = core.float()
    both = torch.stack([own, own * evidence.distance])
    near, mean = filters.widely_blurred(both, by_host.APART_RADIUS_PX).unbind()
    mean = mean / near.clamp(min=1e-3)
    share = (mean - by_host.APART_FROM) / (by_host.APART_FULL - by_host.APART_FROM)
    return share.clamp_(0, 1)


def _steps(
    plate: Tensor, clean_plate: Tensor, evidence: DeviceEvidence, filters: Filters
) -> tuple[Tensor, Tensor]:
    """`trimap._Steps`."""
    pictures = torch.stack([plate, plate - clean_plate])
    x, y = filters.slopes(pictures, 1.0)
    steep = torch.hypot(length(x), length(y)).amin(0)
    contrast = filters.blurred_mirrored(evidence.distance, 1.5)
    # A square is as large as its rows and its columns.
    reach = by_host.CONTRAST_RADIUS_PX
    contrast = highest(highest(contrast, reach, 0), 0, reach)
    steep = dilated(steep, by_host.STEEP_RADIUS_PX)
    width = contrast / steep.clamp(min=by_host.LEAST_STEEPNESS)
    return contrast, width.clamp_(max=40)


def _edge_width(
    contrast: Tensor, steps: Tensor, evidence: DeviceEvidence, core: Tensor, filters: Filters
) -> Tensor:
    """`trimap._edge_width`."""
    own = core.float()
    outline = highest(own, 1, 1) + highest(-own, 1, 1) > 0
    weight = (outline & (contrast > evidence.high)).float()
    both = torch.stack([weight, weight * steps])
    total, mean = filters.widely_blurred(both, by_host.WIDTH_BLUR_PX).unbind()
    mean = (mean / total.clamp(min=1e-6)).clamp_(max=by_host.WIDEST_PX)
    return torch.where(total > 1e-4, mean, by_host.USUAL_PX)
