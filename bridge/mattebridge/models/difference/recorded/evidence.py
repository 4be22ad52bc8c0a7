"""`difference/evidence.py` for a GPU: see there; tensors of the device, pictures (3, h, w)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.difference import evidence as by_host
from mattebridge.models.difference.recorded.linear import Filters
from mattebridge.models.difference.recorded.masks import (
    dilated,
    each_of,
    enough_of,
    middle_of,
    opened,
    ordered,
)


@dataclass(frozen=True)
class DeviceEvidence:
    """`Evidence` on the device; low, high and noise are tensors of one value."""

    distance: Tensor
    low: Tensor
    high: Tensor
    noise: Tensor
    shadow: Tensor
    light: Tensor
    kept: Tensor
    through: Tensor
    covered_by: Tensor
    covered_by_variance: Tensor
    same: Tensor


def gather(
    plate: Tensor,
    clean_plate: Tensor,
    outside: Optional[Tensor],
    filters: Filters,
    *,
    edge_tolerance: float,
    deepest_shadow: float,
    same_noises: Tensor,
) -> DeviceEvidence:
    """See `evidence.gather`; outside: (h, w) bool. same_noises: (1,)."""
    seen, empty = filters.blurred(torch.stack([plate, clean_plate]), by_host.BLUR_PX).unbind()
    steep = torch.hypot(*filters.slopes(empty)).mul_(edge_tolerance)
    plain = length((seen - empty).abs_().sub_(steep).clamp_(min=0))
    everywhere = torch.ones_like(plain, dtype=torch.bool)
    compared = everywhere if outside is None else ~outside
    plain = plain * compared
    noise = _quiet_level(plain, compared) + 0.001
    share, variance, fit, detail = _regression(seen, empty, noise, filters)
    light, shadow, residue = _shadow(seen, empty, steep, noise, deepest_shadow, filters)
    light = light.clamp(max=1)
    kept = light * (2 * share - light) / (2 * by_host.KEPT_NATS * variance)
    kept = kept.clamp_(-1, 1)
    shadow = shadow & (kept > by_host.KEPT_LEAST)
    through = (fit > by_host.THROUGH_FIT) & (share > by_host.THROUGH_SHARE)
    through = through & (detail > by_host.THROUGH_DETAIL) & ~shadow
    through = through & (share * share > by_host.THROUGH_SIGMAS**2 * variance)
    through = opened(through, by_host.THROUGH_OPEN_PX)
    low = (by_host.SET_NOISES * noise).clamp(min=by_host.SURE_SET)
    fine = filters.blurred(plate - clean_plate, by_host.SAME_BLUR_PX)
    fine = length(fine.abs_().sub_(steep).clamp_(min=0))
    return DeviceEvidence(
        distance=torch.where(shadow, torch.minimum(plain, residue), plain),
        low=low,
        high=(by_host.SUBJECT_NOISES * noise).clamp(min=by_host.SURE_SUBJECT),
        noise=noise,
        shadow=shadow,
        light=light,
        kept=kept,
        through=through,
        covered_by=(1 - share).clamp_(0, 1),
        covered_by_variance=variance,
        same=_same(fine, plain < low, kept, same_noises),
    )


def length(vectors: Tensor) -> Tensor:
    """Euclidean length over the three channels of (3, h, w)."""
    return dot(vectors, vectors).sqrt_()


def dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(-3)


def _quiet_level(distance: Tensor, compared: Tensor) -> Tensor:
    """`evidence.quiet_level` of the pixels that are compared."""
    chosen, count = enough_of(compared, by_host.QUIET_SAMPLE)
    quiet = (count * by_host.QUIET_SHARE).long().clamp(min=1).minimum(count)
    level = middle_of(ordered(distance, chosen), quiet)
    return level.clamp(max=by_host.LARGEST_NOISE)


def _same(fine: Tensor, alike: Tensor, kept: Tensor, noises: Tensor) -> Tensor:
    """`evidence._same`."""
    chosen, count = each_of(alike, by_host.SAME_EVERY)
    usual = middle_of(ordered(fine, chosen), count)
    limit = noises * usual.clamp(max=by_host.LARGEST_NOISE)
    close = fine < limit.clamp(min=by_host.SAME_LEAST)
    around = functional.avg_pool2d(_mirrored(close.float()), 3, 1, divisor_override=1)[0, 0]
    wide = opened(alike & (kept < by_host.SAME_KEPT), by_host.SAME_WIDE_PX).float()
    clear = dilated(wide, by_host.SAME_WIDE_PX + 1) == 0
    return close & (around >= by_host.SAME_COUNT) & clear


def _mirrored(plane: Tensor) -> Tensor:
    """(1, 1, h + 2, w + 2): with a pixel more on each side, mirrored; of one row with itself."""
    found = plane[None, None]
    for axis, side in ((-1, (1, 1, 0, 0)), (-2, (0, 0, 1, 1))):
        mode = "reflect" if plane.shape[axis] > 1 else "replicate"
        found = functional.pad(found, side, mode=mode)
    return found


def _shadow(
    seen: Tensor, empty: Tensor, steep: Tensor, noise: Tensor, deepest: float, filters: Filters
) -> tuple[Tensor, Tensor, Tensor]:
    """Light, shadow, and what less light does not explain: `evidence._light`, `_shadow`."""
    both = torch.stack([dot(seen, empty), dot(empty, empty)])
    together, alone = filters.blurred(both, by_host.SHADOW_RADIUS_PX).unbind()
    light = together / (alone + 1e-4)
    residue = length((seen - light * empty).abs_().sub_(steep).clamp_(min=0))
    residue = residue * by_host.SHADOW_RESIDUE_WEIGHT
    shadow = (light > 1 - deepest) & (light < 1)
    shadow = shadow & (residue < (2 * noise).clamp(min=by_host.SHADOW_RESIDUE))
    return light, shadow & (empty.amax(0) > by_host.DARK), residue


def _regression(
    seen: Tensor, empty: Tensor, noise: Tensor, filters: Filters
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`evidence._regression`."""
    pictures = torch.stack([seen, empty])
    seen, empty = (pictures - filters.blurred(pictures, by_host.DETAIL_RADIUS_PX)).unbind()
    products = torch.stack([dot(seen, seen), dot(empty, empty), dot(seen, empty)])
    of_seen, of_empty, both = filters.blurred(products, by_host.THROUGH_RADIUS_PX).unbind()
    of_empty, of_seen = of_empty.clamp(min=1e-6), of_seen.clamp(min=1e-9)
    slope = both / of_empty
    unexplained = (of_seen - both * slope).clamp_(min=0) / by_host.THROUGH_SAMPLES
    variance = (unexplained + 3 * noise * noise) / of_empty
    fit = both.clamp(min=0).square_() / (of_empty * of_seen)
    return slope, variance, fit, of_empty
