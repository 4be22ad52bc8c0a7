"""Samples of one type as another: code values and floats, rounded and limited in one way.

Code values (uint8, uint16) are fractions of their maximum; nothing here meets a colour curve.
Arrays of any shape; numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mattebridge import color

Pixels = NDArray[Any]

HALF_MAX = 65504.0
CODE_MAX = {"uint8": 255.0, "uint16": 65535.0}


def converted_samples(pixels: Pixels, dtype: str) -> Pixels:
    """Pixels as uint8, uint16, float16 or float32; the same array where nothing changes.

    Light above 1 and below 0 is clipped on the way to code values. NaN must not be among floats
    that become code values.
    """
    if pixels.dtype.name == dtype:
        return pixels
    if dtype not in CODE_MAX:
        return limited(pixels, dtype)
    return rescaled(pixels, dtype) if pixels.dtype.kind == "u" else quantised(pixels, dtype)


def rescaled(codes: Pixels, dtype: str) -> Pixels:
    """uint8 <-> uint16, rounded to nearest; 255 and 65535 are the same white."""
    if codes.dtype.name == dtype:
        return codes
    if dtype == "uint16":
        return codes.astype(np.uint16) * np.uint16(257)
    return ((codes.astype(np.uint32) + 128) // 257).astype(np.uint8)


def quantised(values: Pixels, dtype: str, truncate: bool = False) -> Pixels:
    """Code values, rounded to nearest; outside 0..1 is clipped (a bare cast would wrap around).

    truncate: cut instead, as some other programs do; only for comparing with them.
    """
    scaled = np.clip(values, 0.0, 1.0, dtype=np.float32)
    scaled *= np.float32(CODE_MAX[dtype])
    if not truncate:
        scaled += np.float32(0.5)
    codes: Pixels = scaled.astype(dtype)
    return codes


def limited(values: Pixels, dtype: str) -> Pixels:
    """Float samples; light beyond the range of half becomes its largest value, not infinity."""
    if values.dtype.kind == "u":
        values = color.to_float(values)
    if dtype == "float16":
        inside: Pixels = np.clip(values, -HALF_MAX, HALF_MAX)
        return inside.astype(dtype, copy=False)
    return values.astype(dtype, copy=False)
