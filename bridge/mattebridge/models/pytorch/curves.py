"""The piecewise sRGB curve (IEC 61966-2-1) on tensors, continued above 1 and below 0.

White stays exactly 1. Accuracy: within 1e-6 of the curve (absolute below 1, relative above; 2e-6
beyond 10,000).

A power is taken as `exp(log(x) * p)`: torch computes both with the same bits at any place of an
array, and in half the time of `pow`. The choice between the curve and its straight foot is a
minimum, which a CPU does ten times as fast as `where`.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

FLOAT_MAX = float(np.finfo(np.float32).max)

_ENCODE_CUT = 0.0031308
_DECODE_CUT = 0.04045
# As in `color`: the offset is this minus 1 in float32, so that white stays exactly 1.
_GAIN = float(np.float32(1.055))
# Both sum up to exactly 1. A product takes half the time of a quotient.
_SLOPE = float(1 / np.float32(1.055))
_OFFSET = float(np.float32(1) - np.float32(_SLOPE))
_LOG_GAIN = torch.tensor(float(np.log(_GAIN)))
_LOG_OF_GAIN_BACK = torch.tensor(-2.4 * float(np.log(_GAIN)))
# Above every value of the decoded curve that is compared with it.
_OUT_OF_THE_WAY = FLOAT_MAX


def encode(light: Tensor, out: Tensor) -> None:
    """Write display-encoded values of scene-linear light into `out`; float32 of any shape."""
    torch.clamp(light, min=_ENCODE_CUT, out=out)
    out.log_().mul_(1 / 2.4).exp_().mul_(_GAIN).sub_(_GAIN - 1)
    # Below the cut the foot is under the curve's value there, above the cut it is over the curve.
    torch.minimum(out, light * 12.92, out=out)


def encode_spent(light: Tensor, out: Tensor) -> None:
    """As `encode`, in two steps less; overwrites `light`. White is 1 to float precision."""
    torch.clamp(light, min=_ENCODE_CUT, out=out)
    # A constant and a multiple of a tensor are added in one step.
    torch.add(_LOG_GAIN, out.log_(), alpha=1 / 2.4, out=out).exp_().sub_(_GAIN - 1)
    torch.minimum(out, light.mul_(12.92), out=out)


def decode(display: Tensor, out: Tensor) -> None:
    """Write scene-linear light of display-encoded values into `out`; float32 of any shape."""
    base = torch.clamp(display, min=_DECODE_CUT).mul_(_SLOPE).add_(_OFFSET)
    # base**0.4 * base * base: a smaller power enlarges the rounding of the logarithm less.
    torch.log(base, out=out).mul_(0.4).exp_().mul_(base).mul_(base)
    # The foot is under the curve on both sides: above the cut it is lifted over it.
    foot = functional.threshold(-display, -_DECODE_CUT, -_OUT_OF_THE_WAY, inplace=True)
    torch.minimum(out, foot.mul_(-1 / 12.92), out=out)


def decode_quick(display: Tensor, out: Tensor) -> None:
    """As `decode` in four steps less; to 1e-6 up to 4 and 3e-6 beyond. Black stays exactly 0."""
    torch.clamp(display, min=_DECODE_CUT, out=out)
    _power_of_2_4(out)
    # Up to the cut this is exactly 0, to which the straight foot is added.
    out.sub_(_light_at_cut(out.device))
    out.add_(display.clamp(max=_DECODE_CUT), alpha=1 / 12.92)


def _power_of_2_4(display: Tensor) -> None:
    torch.add(_LOG_OF_GAIN_BACK, display.add_(0.055).log_(), alpha=2.4, out=display).exp_()


@lru_cache(maxsize=16)
def _light_at_cut(device: torch.device) -> float:
    """What a device's own exponential gives there."""
    display = torch.full((64,), _DECODE_CUT, device=device)
    _power_of_2_4(display)
    return float(display[0])


def encoded(light: Tensor) -> Tensor:
    """Display-encoded values of a few pixels, in new memory."""
    out = torch.empty_like(light)
    encode(light, out)
    return out


def decoded(display: Tensor) -> Tensor:
    """Scene-linear light of a few pixels, in new memory."""
    out = torch.empty_like(display)
    decode(display, out)
    return out


def all_decoded(*display: Tensor) -> tuple[Tensor, ...]:
    """`decoded` of images of one shape, in the steps of one: on a GPU few steps are what counts."""
    return decoded(torch.stack(display)).unbind()
