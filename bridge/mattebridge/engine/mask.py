"""Masks on a frame's device: made larger, made smaller, softened, cleared of small islands.

Lengths mean what they do in OpenCV: the ellipse is that of `getStructuringElement`, and a blur has
the sigma that `GaussianBlur` takes for its size. All is computed on the device, sums in a fixed
order, but for the islands: those are exact whatever finds them, and their masks go through main
memory.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def dilated(mask: Tensor, radius_px: int) -> Tensor:
    """The mask, (H, W) bool, larger by an ellipse of `2 * radius_px + 1`, in new memory.

    Outside of the frame nothing is set.
    """
    height, width = mask.shape
    result, grown, reached = mask.clone(), mask.clone(), 0
    for row, reach in _half_ellipse(radius_px):
        for step in range(reached + 1, min(reach, width - 1) + 1):
            grown[:, step:] |= mask[:, :-step]
            grown[:, :-step] |= mask[:, step:]
        reached = max(reached, reach)
        if row == 0:
            result |= grown
        elif row < height:
            result[row:] |= grown[:-row]
            result[:-row] |= grown[row:]
    return result


def eroded(mask: Tensor, radius_px: int) -> Tensor:
    """The mask, (H, W) bool, smaller by an ellipse; not at the frame's border."""
    return dilated(~mask, radius_px).logical_not_()


def softened(mask: Tensor, radius_px: int) -> Tensor:
    """The mask as float32 0..1, blurred by a Gaussian of `2 * radius_px + 1` pixels.

    Its sigma is OpenCV's for that size, `0.3 * (radius_px - 1) + 0.8`; the frame is mirrored at its
    border, without the border's own pixel.
    """
    soft = mask.to(torch.float32)
    if radius_px == 0:
        return soft
    return _blurred(_blurred(soft, radius_px, 0), radius_px, 1).clamp_(0, 1)


def islands(mask: Tensor, smallest_area: int) -> tuple[Tensor, int]:
    """The 8-connected islands of a mask that have at least so many pixels; how many have fewer."""
    import cv2

    codes = mask.to("cpu", torch.uint8).numpy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(codes, connectivity=8)
    kept = torch.from_numpy(stats[:, cv2.CC_STAT_AREA] >= smallest_area)
    kept[0] = False  # what belongs to none
    return kept[torch.from_numpy(labels).long()].to(mask.device), count - 1 - int(kept.sum())


def connected_to(mask: Tensor, cores: Tensor) -> Tensor:
    """The 8-connected islands of a mask that hold a pixel of `cores`, which lies in the mask."""
    import cv2

    codes = mask.to("cpu", torch.uint8).numpy()
    count, found = cv2.connectedComponents(codes, connectivity=8)
    labels = torch.from_numpy(found).long()
    kept = torch.zeros(count, dtype=torch.bool)
    kept[labels[cores.cpu()]] = True
    kept[0] = False
    return kept[labels].to(mask.device)


@lru_cache(maxsize=64)
def _half_ellipse(radius: int) -> list[tuple[int, int]]:
    """Rows of the ellipse from its end to its middle: the distance, and how far it reaches there.

    As OpenCV's, which rounds half to even, as Python does.
    """
    reach = [round(math.sqrt(radius * radius - row * row)) for row in range(radius + 1)]
    return [(row, reach[row]) for row in range(radius, -1, -1)]


def _blurred(image: Tensor, radius: int, axis: int) -> Tensor:
    """A Gaussian along one axis: the middle, then the pairs from the inside outwards."""
    length = image.shape[axis]
    padded = image.index_select(axis, _mirrored(length, radius).to(image.device))
    weights = _gaussian(radius)
    result = padded.narrow(axis, radius, length) * weights[0]
    for step in range(1, radius + 1):
        pair = padded.narrow(axis, radius - step, length) + padded.narrow(
            axis, radius + step, length
        )
        result.add_(pair, alpha=weights[step])
    return result


def _mirrored(length: int, radius: int) -> Tensor:
    """The places of a row that is continued by its mirror image on both sides."""
    places = torch.arange(-radius, length + radius)
    if length == 1:
        return torch.zeros_like(places)
    period = 2 * (length - 1)
    return (places % period - (length - 1)).abs().neg_() + (length - 1)


@lru_cache(maxsize=64)
def _gaussian(radius: int) -> list[float]:
    """The weights from the middle outwards; with their mirror image they add up to 1."""
    sigma = 0.3 * (radius - 1) + 0.8
    weights = [math.exp(-(step * step) / (2 * sigma * sigma)) for step in range(radius + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return [weight / total for weight in weights]
