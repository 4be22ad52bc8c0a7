"""Grain removed from alpha, so that alpha does not change where nothing moves.

    grain of the plate / |F - B| ------> what grain alone would make alpha vary by
    alpha, mean and variance of 3x3 ---> the mean where it varies by no more than that,
                                         alpha itself where it varies by much more

Where alpha is 0 or 1, at edges, and on strands that are stronger than the grain it stays as it is.
What is taken from alpha is added to the colour, so that the grain is in the foreground, where it
belongs, and the composite keeps it.

Method: filtering by local statistics (Lee 1980), with the noise of every pixel known.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.twoplate.network import SURE, NetworkMatte, pull

# The variance that grain gives to alpha, relative to that of a projection onto F - B: the network
# is steeper where it is unsure.
_GAIN = 8.0
# Below this |F - B|**2 the colours are too near to tell anything.
_LEAST_APART = 1e-4
# A larger deviation is not taken for grain.
_MOST = 0.1
# Pixels at a time: they stay in a processor's cache.
_AT_ONCE = 1 << 14
# Rows that hold so many pixels are enough to tell the noise.
_MEASURED = 400_000


def without_grain(
    matte: NetworkMatte,
    clean_plate: Tensor,
    noise: float | Tensor,
    *,
    at_once: int | None = _AT_ONCE,
) -> NetworkMatte:
    """The matte of one frame with a steadier alpha, and the colour that goes with it; both 0..1.

    matte: alpha (1, 1, H, W) and straight foreground (1, 3, H, W), 0..1. clean_plate: of that size
    at least. noise: standard deviation of one channel of one pixel between plate and clean plate,
    display-encoded. at_once: pixels at a time; None: all, for a graph of any size.
    """
    alpha = matte.alpha[0, 0].clone(memory_format=torch.contiguous_format)
    foreground = matte.foreground[0].clone(memory_format=torch.contiguous_format)
    near = functional.pad(matte.alpha, (1, 1, 1, 1), mode="replicate")[0, 0]
    rows, columns = torch.nonzero((alpha > 0) & (alpha < 1), as_tuple=True)
    parts = [(rows, columns)]
    if at_once is not None:
        parts = list(zip(torch.split(rows, at_once), torch.split(columns, at_once)))
    for y, x in parts:
        around = y * near.shape[1] + x
        seen = torch.stack(
            [
                near.reshape(-1)[around + (down * near.shape[1] + right)]
                for down in range(3)
                for right in range(3)
            ]
        )
        colour = matte.foreground[0, :, y, x]
        made = _steadied(seen, colour, colour - clean_plate[0, :, y, x], noise)
        alpha[y, x], foreground[:, y, x] = made
    return NetworkMatte(matte.logit, alpha[None, None], foreground[None])


def rows_between(alpha: Tensor) -> int:
    """Of the rows of a frame (H, W), each of how many is enough to tell its noise."""
    return max(1, alpha.numel() // _MEASURED)


def without_grain_at_once(
    alpha: Tensor, foreground: Tensor, clean_plate: Tensor, noise: float | Tensor
) -> tuple[Tensor, Tensor]:
    """`without_grain` of a whole frame without a look at the picture, as a GPU does it.

    alpha (H, W), foreground and clean_plate (H, W, 3), 0..1; gives alpha and foreground.
    """
    height, width = alpha.shape
    near = functional.pad(alpha[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    seen = torch.stack(
        [
            near[down : down + height, right : right + width]
            for down in range(3)
            for right in range(3)
        ]
    )
    colour = foreground.permute(2, 0, 1)
    apart = colour - clean_plate.permute(2, 0, 1)
    steady, changed = _steadied(seen, colour, apart, noise)
    soft = (alpha > 0) & (alpha < 1)
    made = torch.where(soft, changed, colour).permute(1, 2, 0)
    return torch.where(soft, steady, alpha), made.contiguous()


def _steadied(
    seen: Tensor, foreground: Tensor, apart: Tensor, noise: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Alpha (...) and colour (3, ...) of pixels from the alphas around them (9, ...) and F - B."""
    distance = apart.square().sum(0).clamp_min(_LEAST_APART)
    grain = (_GAIN * noise**2 / distance).clamp_max(_MOST**2)
    alpha, mean = seen[4], seen.mean(0)
    variance = (seen - mean).square().mean(0)
    grainy = grain.minimum(variance) / variance.clamp_min(1e-12)
    # Where alpha is nearly 0 or 1 it changes little.
    soft = (alpha.minimum(1 - alpha) / SURE).clamp_max(1)
    steady = alpha + soft * grainy * (mean - alpha)
    return steady, (foreground + pull(steady) * (alpha - steady) * apart).clamp(0, 1)
