"""The samples of a raw plane as float32 values that can be computed with: finite and straight.

Everything here is pointwise: see `blocks`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

from mattebridge.engine.blocks import pointwise, row_blocks
from mattebridge.engine.channels import copy_channels, count_below
from mattebridge.engine.light import FLOAT_MAX, divisor, is_partial
from mattebridge.engine.space import code_of, light_of
from mattebridge.ocio.space import ColorSpace, Curve

# What the samples of whole numbers are fractions of.
_MAXIMUM = {torch.uint8: 255.0, torch.uint16: 65535.0}


def picture_of(raw: Tensor, known: Sequence[Tensor] = ()) -> Tensor:
    """The colours of a plane (H, W, 3|4) in any sample type: (H, W, 3) float32 in new memory.

    known: pictures of before. Where one of them has the same bits, it is the result, and must not
    be written to: in main memory, where blocks are compared while they are in the processor's
    cache, that takes a third of the time.
    """
    known = [each for each in known if each.shape[:2] == raw.shape[:2]]
    out: Optional[Tensor] = None
    for rows in row_blocks(raw):
        if known and raw.device.type == "cpu":
            block = torch.empty((*raw[rows].shape[:2], 3), dtype=torch.float32)
            _read_colours(raw[rows], block)
            last, known = known[0], [each for each in known if _same_bits(each[rows], block)]
            if not known:
                out = _new_picture(raw)
                out[: rows.start].copy_(last[: rows.start])
                out[rows].copy_(block)
        else:
            out = _new_picture(raw) if out is None else out
            _read_colours(raw[rows], out[rows])
    return known[0] if out is None else out


def _new_picture(raw: Tensor) -> Tensor:
    return torch.empty((*raw.shape[:2], 3), dtype=torch.float32, device=raw.device)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def _read_colours(source: Tensor, target: Tensor) -> None:
    if source.device.type == "cpu" and source.dtype == torch.float32 and source.shape[2] == 4:
        import cv2

        # It leaves out a channel in less time than numpy.
        cv2.cvtColor(source.numpy(), cv2.COLOR_BGRA2BGR, dst=target.numpy())
    else:
        copy_channels(_floats(source)[..., :3], target)


def plane_of(raw: Tensor, channel: int) -> Tensor:
    """One channel of a plane: (H, W) float32 in new memory."""
    out = torch.empty(raw.shape[:2], dtype=torch.float32, device=raw.device)
    pointwise(lambda source, target: target.copy_(_floats(source)), raw[..., channel], out)
    return out


def plate_alpha_of(raw: Tensor, plate_alpha: str) -> Optional[Tensor]:
    """The alpha (H, W) float32 of a plate, where it counts: see `straight`; else None."""
    return plane_of(raw, 3) if raw.shape[2] == 4 and plate_alpha != "opaque" else None


def _floats(samples: Tensor) -> Tensor:
    """float32 values; whole numbers are fractions of their maximum."""
    values = samples.to(torch.float32)
    maximum = _MAXIMUM.get(samples.dtype)
    return values if maximum is None else values.div_(maximum)


def is_finite(values: tuple[float, float]) -> bool:
    """Whether the lowest and highest value of an image say that all of it is finite."""
    return all(map(math.isfinite, values))


def made_finite(values: Tensor) -> int:
    """Set NaN and infinities to 0 in place; how many there were."""
    count = int(values.numel() - torch.count_nonzero(torch.isfinite(values)))
    pointwise(lambda part: part.nan_to_num_(0.0, 0.0, 0.0), values)
    return count


def negatives(values: Tensor, lowest: float) -> int:
    """How many values are below 0."""
    return count_below(values, 0) if lowest < 0 else 0


def straight(rgb: Tensor, alpha: Optional[Tensor], plate_alpha: str, space: ColorSpace) -> Tensor:
    """Colour divided by its alpha in linear light, in place, where there is an edge.

    rgb: (H, W, 3), alpha: (H, W), or None where it does not count; both finite.
    """
    if alpha is not None and plate_alpha == "premultiplied":
        if space.curve is Curve.NONE:
            pointwise(_straighten_light, rgb, alpha[..., None])
        else:
            step = functools.partial(_straighten_encoded, space=space)
            if space.curve is Curve.WHOLE:
                step(rgb, alpha[..., None])
            else:
                pointwise(step, rgb, alpha[..., None])
    return rgb


def _straighten_light(rgb: Tensor, alpha: Tensor) -> None:
    rgb.div_(divisor(alpha)).clamp_(-FLOAT_MAX, FLOAT_MAX)


def _straighten_encoded(rgb: Tensor, alpha: Tensor, *, space: ColorSpace) -> None:
    light = light_of(rgb, space)
    _straighten_light(light, alpha)
    # Elsewhere the colours keep their bits.
    rgb.copy_(torch.where(is_partial(alpha), code_of(light, space), rgb))
