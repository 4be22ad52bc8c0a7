"""Sample types converted into one another: code values and floats, with one way of rounding.

Code values (uint8, uint16) are fractions of their maximum; no colour curve is applied here. Arrays
of any shape; numpy only.
"""

from __future__ import annotations

import numpy as np

from mattebridge.color import HALF_MAX, Pixels, to_float

CODE_MAX = {"uint8": 255.0, "uint16": 65535.0}


def converted_samples(pixels: Pixels, dtype: str) -> Pixels:
    """Pixels as uint8, uint16, float16 or float32; the same array where nothing changes.

    Values outside 0..1 are clipped when they become code values; NaN must not be among those.
    """
    if pixels.dtype.name == dtype:
        return pixels
    if dtype not in CODE_MAX:
        return limited(pixels, dtype)
    return rescaled(pixels, dtype) if pixels.dtype.kind == "u" else quantised(pixels, dtype)


def rescaled(codes: Pixels, dtype: str) -> Pixels:
    """uint8 <-> uint16, rounded to nearest; 255 becomes 65535 and the other way round."""
    if codes.dtype.name == dtype:
        return codes
    if dtype == "uint16":
        return codes.astype(np.uint16) * np.uint16(257)
    return ((codes.astype(np.uint32) + 128) // 257).astype(np.uint8)


def quantised(values: Pixels, dtype: str, truncate: bool = False) -> Pixels:
    """Floats as code values, rounded to nearest; outside 0..1 they are clipped.

    truncate: cut off instead of rounded, as some other programs do; for comparing with them.
    """
    scaled = np.clip(values, 0.0, 1.0, dtype=np.float32)
    scaled *= np.float32(CODE_MAX[dtype])
    if not truncate:
        scaled += np.float32(0.5)
    codes: Pixels = scaled.astype(dtype)
    return codes


def of_ten_bits(codes: Pixels, truncate: bool = False) -> Pixels:
    """uint16 codes as 10 bits can hold them: the nearest ones, which encoders that cut off the
    lowest six bits leave as they are."""
    tens = (codes.astype(np.uint32) * 1023 + (0 if truncate else 32767)) // 65535
    return (tens << 6 | tens >> 4).astype(np.uint16)


def limited(values: Pixels, dtype: str) -> Pixels:
    """Samples as floats; what half cannot hold becomes its largest value, not infinity."""
    if values.dtype.kind == "u":
        values = to_float(values)
    if dtype == "float16":
        inside: Pixels = np.clip(values, -HALF_MAX, HALF_MAX)
        return inside.astype(dtype, copy=False)
    return values.astype(dtype, copy=False)
