"""Colour curves and alpha arithmetic on tensors, for pixels on whatever device they are.

The same curves and rules as `mattebridge.color` has for arrays (described there); the curves
themselves, with their accuracy, are those of `models.pytorch.curves`.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from mattebridge.color import UNMIX_MIN_ALPHA, UNPREMULTIPLY_MIN_ALPHA
from mattebridge.engine.blocks import pointwise
from mattebridge.models.pytorch.curves import FLOAT_MAX as FLOAT_MAX
from mattebridge.models.pytorch.curves import decode
from mattebridge.models.pytorch.curves import decode_quick as decode_quick
from mattebridge.models.pytorch.curves import encode as encode
from mattebridge.models.pytorch.curves import encode_spent as encode_spent


def encoded(light: Tensor) -> Tensor:
    """Display-encoded values of scene-linear light, in new memory; float32 of any shape."""
    out = torch.empty_like(light)
    pointwise(encode, light, out)
    return out


def decoded(display: Tensor, out: Optional[Tensor] = None) -> Tensor:
    """Scene-linear light of display-encoded values, (...) float32, in `out` or new memory."""
    out = torch.empty_like(display) if out is None else out
    pointwise(decode, display, out)
    return out


def unmix(plate: Tensor, clean_plate: Tensor, alpha: Tensor) -> Tensor:
    """The subject's own light, premultiplied: see `color.unmix`. alpha: (H, W, 1)."""
    solid = (alpha >= UNMIX_MIN_ALPHA).to(alpha.dtype)
    light = plate * solid
    return light.sub_(clean_plate * ((1 - alpha) * solid))


def unpremultiply(premultiplied: Tensor, alpha: Tensor) -> Tensor:
    """Straight linear colour, left as it is where alpha is <= 0.00001 or >= 1. alpha: (H, W, 1)."""
    return premultiplied / divisor(alpha)


def divisor(alpha: Tensor) -> Tensor:
    """Alpha where premultiplied colour is divided by it, 1 elsewhere."""
    return torch.where(is_partial(alpha), alpha, 1.0)


def is_partial(alpha: Tensor) -> Tensor:
    """Where there is colour to recover and some of it is missing."""
    return (alpha > UNPREMULTIPLY_MIN_ALPHA) & (alpha < 1)
