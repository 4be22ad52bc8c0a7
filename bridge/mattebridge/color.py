"""Colour curves and alpha arithmetic on arrays, in float32.

Two spaces exist here: `linear` (scene-linear light, Rec.709/sRGB primaries) and `srgb` (the same
light behind the piecewise sRGB curve of IEC 61966-2-1). The curve is never a 2.2 power and is never
clamped: above 1 it continues, so highlights survive a round trip, and below 0 its straight foot
continues (`encode(-0.1) = -1.292`), which keeps small negatives (grain, filter lobes) as they are
and makes both directions inverse to each other on the whole axis. NaN stays NaN.

Alpha is linear coverage 0..1 and never goes through a curve. Light mixes linearly, so products
with alpha are taken in linear light; callers encode afterwards.

Images are (..., C); alpha is (H, W) or (H, W, 1) for an image (H, W, C). Accuracy: float32 input
to 1e-6 (relative above 1, absolute below); uint8, uint16 and half go through tables made in float64
and are exact to the rounding of float32. numpy only; runs on Python 3.9.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Callable, Optional, Union

import numpy as np

# An image or a plane of any sample type, one that has been decoded, and (H, W) yes or no.
# Without numpy.typing: importing it would take hosts longer than importing this file.
Pixels = np.ndarray[Any, Any]
FloatImage = np.ndarray[Any, np.dtype[np.float32]]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

# The largest finite value of a half float.
HALF_MAX = 65504.0
# Rec.709, the primaries of every picture here: on light this gives luminance, on encoded values
# luma.
LUMINANCE_WEIGHTS = (0.2126, 0.7152, 0.0722)
# Below this much coverage an unmixed colour is noise divided by nearly nothing: it is 0 instead.
UNMIX_MIN_ALPHA = 1.0 / 1024.0
# Straight colour is recovered only between these: at 0 there is no colour to recover (and hosts
# send alpha 0 with an opaque plate), at 1 nothing changes.
UNPREMULTIPLY_MIN_ALPHA = 0.00001

_ENCODE_CUT = 0.0031308
_DECODE_CUT = 0.04045
# The offset 0.055 is taken as this minus 1, and decoding divides: white stays exactly 1.
_GAIN = np.float32(1.055)
# A strip of this many values and its temporaries stay in a core's cache.
_STRIP_VALUES = 96 * 1024


def srgb_encode(linear: Pixels, out: Optional[FloatImage] = None) -> FloatImage:
    """Display-encoded values of scene-linear light; integers count as fractions of their maximum.

    `out` may be `linear` itself.
    """
    return _through(linear, out, _encode_strip, "encode")


def srgb_decode(encoded: Pixels, out: Optional[FloatImage] = None) -> FloatImage:
    """Scene-linear light of display-encoded values; integers count as fractions of their maximum.

    `out` may be `encoded` itself.
    """
    return _through(encoded, out, _decode_strip, "decode")


def converted(pixels: Pixels, space: str, wanted: str) -> Pixels:
    """Colours of one space in another, each `linear` or `srgb`; in the same one, the array itself.

    Decoded or encoded they are float32, as from `srgb_decode` and `srgb_encode`.
    """
    if space == wanted:
        return pixels
    return srgb_encode(pixels) if wanted == "srgb" else srgb_decode(pixels)


def to_float(pixels: Pixels, out: Optional[FloatImage] = None) -> FloatImage:
    """A float32 copy; uint8 and uint16 are divided by 255 and 65535."""
    out = np.empty(pixels.shape, np.float32) if out is None else out
    if pixels.dtype.kind == "u":
        np.divide(pixels, np.float32(np.iinfo(pixels.dtype).max), out=out, casting="same_kind")
    else:
        np.copyto(out, pixels, casting="same_kind")
    return out


def premultiply(straight: FloatImage, alpha: FloatImage) -> FloatImage:
    """Straight linear colour times coverage: the light that the subject itself sends."""
    return straight * _as_plane(alpha, straight)


def unpremultiply(premultiplied: FloatImage, alpha: FloatImage) -> FloatImage:
    """Straight linear colour; values stay as they are where alpha is <= 0.00001 or >= 1."""
    plane = _as_plane(alpha, premultiplied)
    partial = (plane > UNPREMULTIPLY_MIN_ALPHA) & (plane < 1.0)
    divisor: FloatImage = np.where(partial, plane, np.float32(1.0))
    return premultiplied / divisor


def over(premultiplied: FloatImage, alpha: FloatImage, background: FloatImage) -> FloatImage:
    """The comp in linear light: `premultiplied + (1 - alpha) * background`."""
    plane = _as_plane(alpha, premultiplied)
    return premultiplied + (np.float32(1.0) - plane) * background


def unmix(plate: FloatImage, clean_plate: FloatImage, alpha: FloatImage) -> FloatImage:
    """The subject's own light, premultiplied: `plate - (1 - alpha) * clean_plate`, linear.

    Exact where alpha >= 1/1024: `over(unmix(...), alpha, clean_plate)` is the plate to float
    precision, so values may be negative or above 1. Below that it is 0.
    """
    plane = _as_plane(alpha, plate)
    # Both factors are 0 where there is too little alpha: quicker than a choice, and never inf * 0.
    solid = (plane >= np.float32(UNMIX_MIN_ALPHA)).astype(np.float32)
    light = plate * solid
    light -= clean_plate * ((np.float32(1.0) - plane) * solid)
    return light


def matte_is_in_colours(colours: Union[Pixels, Sequence[Pixels]], alpha: Pixels) -> bool:
    """Whether a picture's colours, not its alpha, are the matte that an artist means by it.

    A black-and-white matte is often saved with an alpha of 1 everywhere, which as a hint would
    cover the whole frame. So: alpha has one value all over the picture, and the colours do not. An
    alpha of 0 everywhere is a matte all the same: that of a roto over a plate, in a frame where its
    shape is outside. colours: (H, W, 3) or three planes of (H, W); alpha: (H, W) or (H, W, 1), in
    any sample type.
    """
    if not alpha.size or not alpha.flat[0] or not _has_one_value(alpha):
        return False
    if isinstance(colours, np.ndarray):
        colours = [colours[..., i] for i in range(3)]
    return not all(_has_one_value(plane) for plane in colours)


def _has_one_value(plane: Pixels) -> bool:
    return bool((plane == plane.flat[0]).all())


def luma(colours: Pixels) -> FloatImage:
    """The value of colours as they stand, (H, W) float32 of (H, W, 3); the plugin has it, too."""
    red, green, blue = (to_float(colours[..., i]) for i in range(3))
    weights = [np.float32(weight) for weight in LUMINANCE_WEIGHTS]
    return weights[0] * red + weights[1] * green + weights[2] * blue


def largest_channel(picture: FloatImage) -> FloatImage:
    """The largest channel (...) of colours (..., 3), in a tenth of the time of numpy's own maximum
    over a short axis."""
    return np.maximum(np.maximum(picture[..., 0], picture[..., 1]), picture[..., 2])


def strips(height: int, values_per_row: int) -> Iterator[slice]:
    """Slices of rows small enough that work on them stays in the cache."""
    rows = max(1, _STRIP_VALUES // max(1, values_per_row))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def _as_plane(alpha: FloatImage, image: FloatImage) -> FloatImage:
    return alpha[..., None] if alpha.ndim == image.ndim - 1 else alpha


def _through(
    pixels: Pixels,
    out: Optional[FloatImage],
    curve: Callable[[FloatImage, FloatImage], None],
    direction: str,
) -> FloatImage:
    pixels = np.asarray(pixels)
    out = np.empty(pixels.shape, np.float32) if out is None else out
    if pixels.dtype in (np.uint8, np.uint16, np.float16):
        index = pixels if pixels.dtype.kind == "u" else pixels.view(np.uint16)
        return np.take(_table(pixels.dtype.char, direction), index, out=out, mode="clip")
    if pixels.ndim == 0:
        pixels, target = pixels.reshape(1), out.reshape(1)
    else:
        target = out
    # NaN stays NaN and what is too large becomes infinity, as in any float product: no warning.
    with np.errstate(over="ignore", invalid="ignore"):
        for rows in strips(len(pixels), pixels[:1].size):
            curve(pixels[rows].astype(np.float32, copy=False), target[rows])
    return out


def _encode_strip(x: FloatImage, out: FloatImage) -> None:
    foot = x <= np.float32(_ENCODE_CUT)
    low = x * np.float32(12.92)
    # The power sees nothing below the cut: negative and zero bases leave its vectorised path. NaN
    # passes np.maximum.
    np.power(np.maximum(x, np.float32(_ENCODE_CUT)), np.float32(1.0 / 2.4), out=out)
    out *= _GAIN
    out -= _GAIN - np.float32(1.0)
    np.copyto(out, low, where=foot)


def _decode_strip(x: FloatImage, out: FloatImage) -> None:
    foot = x <= np.float32(_DECODE_CUT)
    low = x * np.float32(1.0 / 12.92)
    base = np.maximum(x, np.float32(0.0))
    base += np.float32(0.055)
    base /= _GAIN
    np.power(base, np.float32(2.4), out=out)
    np.copyto(out, low, where=foot)


@lru_cache(maxsize=6)
def _table(dtype_char: str, direction: str) -> FloatImage:
    """Every value of an 8- or 16-bit type through the curve, computed in float64."""
    dtype = np.dtype(dtype_char)
    bits = np.arange(2 ** (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}")
    if dtype.kind == "u":
        x = bits / np.float64(np.iinfo(dtype).max)
    else:
        x = bits.view(np.float16).astype(np.float64)
    with np.errstate(invalid="ignore"):
        if direction == "encode":
            curve = 1.055 * np.maximum(x, 0.0) ** (1.0 / 2.4) - 0.055
            values = np.where(x <= _ENCODE_CUT, 12.92 * x, curve)
        else:
            curve = ((np.maximum(x, 0.0) + 0.055) / 1.055) ** 2.4
            values = np.where(x <= _DECODE_CUT, x / 12.92, curve)
    table = values.astype(np.float32)
    table.flags.writeable = False
    return table
