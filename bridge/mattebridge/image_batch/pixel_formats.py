"""Pixel formats by name, and a picture converted to one size and format.

    gray rgb24 rgba bgr24 bgra            uint8
    gray16 rgb48 rgba64                   uint16, in the machine's own byte order
    grayf16 rgbf16 rgbaf16, ...f32        half and float

A change of format changes channels and sample type, never colour: code values stay encoded, light
stays linear, and alpha stays as it was stored (straight or premultiplied). Scaling averages the
samples as they are, in the finer of the two sample types, and weights straight colours by alpha.
Arrays are (H, W, C), top row first. No file is opened here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from mattebridge.color import HALF_MAX, LUMINANCE_WEIGHTS, Pixels
from mattebridge.errors import NonFiniteError
from mattebridge.image_io.samples import CODE_MAX, converted_samples

# The order of how finely the types divide 0..1: scaling is done in the finer one.
FINENESS = {"uint8": 0, "float16": 1, "uint16": 2, "float32": 3}
GREY_WEIGHTS = np.array([LUMINANCE_WEIGHTS], np.float32)
FITS = ("stretch", "pad", "crop")
FILTERS: Mapping[str, int] = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "area": cv2.INTER_AREA,
    "draft": cv2.INTER_AREA,
    "cubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


@dataclass(frozen=True)
class PixelFormat:
    """The layout of one pixel: `channels` is "Y", "RGB", "RGBA", "BGR" or "BGRA"."""

    name: str
    channels: str
    dtype: str

    @property
    def count(self) -> int:
        return len(self.channels)

    @property
    def pixel_bytes(self) -> int:
        return self.count * np.dtype(self.dtype).itemsize


FORMATS: Mapping[str, PixelFormat] = {
    form.name: form
    for form in (
        PixelFormat("gray", "Y", "uint8"),
        PixelFormat("rgb24", "RGB", "uint8"),
        PixelFormat("rgba", "RGBA", "uint8"),
        PixelFormat("bgr24", "BGR", "uint8"),
        PixelFormat("bgra", "BGRA", "uint8"),
        PixelFormat("gray16", "Y", "uint16"),
        PixelFormat("rgb48", "RGB", "uint16"),
        PixelFormat("rgba64", "RGBA", "uint16"),
        PixelFormat("grayf16", "Y", "float16"),
        PixelFormat("rgbf16", "RGB", "float16"),
        PixelFormat("rgbaf16", "RGBA", "float16"),
        PixelFormat("grayf32", "Y", "float32"),
        PixelFormat("rgbf32", "RGB", "float32"),
        PixelFormat("rgbaf32", "RGBA", "float32"),
    )
}


def native_format(channels: int, dtype: str) -> PixelFormat:
    """The format that holds a picture of 1, 3 or 4 channels as it is, in RGB order."""
    order = {1: "Y", 3: "RGB", 4: "RGBA"}[channels]
    return next(f for f in FORMATS.values() if (f.channels, f.dtype) == (order, dtype))


def loses_precision(dtype: str, form: PixelFormat) -> bool:
    """Whether samples of `dtype` are finer than those of `form`."""
    return FINENESS[dtype] > FINENESS[form.dtype]


def scaled_size(size: tuple[int, int], width: int | None, height: int | None) -> tuple[int, int]:
    """Width and height of a picture of `size`; a side that is not given keeps the aspect."""
    if width is not None and height is not None:
        return width, height
    if width is not None:
        return width, max(1, round(size[1] * width / size[0]))
    if height is not None:
        return max(1, round(size[0] * height / size[1])), height
    return size


def put(
    pixels: Pixels,
    row: Pixels,
    form: PixelFormat,
    *,
    alpha: str = "opaque",
    resample: str = "area",
    fit: str = "stretch",
) -> None:
    """Write a picture into `row`, at its size and in `form`.

    pixels: (H, W, 1|3|4), Y, RGB or RGBA, uint8, uint16, float16 or float32. row: (h, w, C) of the
    format's type. alpha: "opaque", "straight" or "premultiplied". fit: "stretch"; "pad" keeps the
    aspect with black, transparent borders; "crop" keeps it and cuts from the middle. Raises
    `NonFiniteError` for NaN that is to become a code value.
    """
    pixels = _with_channels(pixels, form.channels.replace("BGR", "RGB"))
    if pixels.shape[:2] == row.shape[:2]:
        return _store(pixels, row, form)
    if fit == "crop":
        pixels = _cropped(pixels, row.shape[1], row.shape[0])
    target = row
    if fit == "pad":
        row[...] = 0
        target = _inner(row, pixels.shape[1], pixels.shape[0])
    if FINENESS[pixels.dtype.name] < FINENESS[form.dtype]:
        pixels = _as_type(pixels, form.dtype)
    size = (target.shape[1], target.shape[0])
    straight = alpha == "straight" and pixels.shape[2] == 4
    _store(_scaled(pixels, size, FILTERS[resample], straight=straight), target, form)
    return None


def _store(pixels: Pixels, row: Pixels, form: PixelFormat) -> None:
    samples = _as_type(pixels, form.dtype)
    if form.channels.startswith("BGR"):
        swap = cv2.COLOR_RGB2BGR if form.count == 3 else cv2.COLOR_RGBA2BGRA
        samples = np.asarray(cv2.cvtColor(samples, swap))
    np.copyto(row, samples)


def _as_type(pixels: Pixels, dtype: str) -> Pixels:
    if dtype in CODE_MAX and pixels.dtype.kind == "f" and np.isnan(pixels.min()):
        count = int(np.isnan(pixels).sum())
        raise NonFiniteError(
            f"it holds NaN ({count} values), which {dtype} cannot; use a half or float pix_fmt",
            count=count,
        )
    return converted_samples(pixels, dtype)


def _with_channels(pixels: Pixels, wanted: str) -> Pixels:
    """Y, RGB or RGBA from any of them; alpha that is added is opaque."""
    if pixels.shape[2] == len(wanted):
        return pixels
    if wanted == "Y":
        return _grey(pixels[..., :3])
    colours = pixels[..., :3] if pixels.shape[2] > 1 else np.repeat(pixels, 3, axis=2)
    if wanted == "RGB":
        return np.ascontiguousarray(colours)
    white = CODE_MAX.get(pixels.dtype.name, 1.0)
    out = np.full((*pixels.shape[:2], 4), white, pixels.dtype)
    out[..., :3] = colours
    return out


def _grey(colours: Pixels) -> Pixels:
    source = np.ascontiguousarray(colours)
    if source.dtype == np.float16:
        # Weights sum to 1, so nothing leaves the range of half.
        light = cv2.transform(source.astype(np.float32), GREY_WEIGHTS)
        return np.asarray(light, np.float16).reshape(*colours.shape[:2], 1)
    grey = cv2.transform(source, GREY_WEIGHTS)
    return np.asarray(grey).reshape(*colours.shape[:2], 1)


def _cropped(pixels: Pixels, width: int, height: int) -> Pixels:
    """The largest part of a picture in the shape of width x height, from its middle."""
    high, wide = pixels.shape[:2]
    keep_wide = min(wide, max(1, round(high * width / height)))
    keep_high = min(high, max(1, round(wide * height / width)))
    left, top = (wide - keep_wide) // 2, (high - keep_high) // 2
    return np.ascontiguousarray(pixels[top : top + keep_high, left : left + keep_wide])


def _inner(row: Pixels, width: int, height: int) -> Pixels:
    """The part of `row` that a whole picture of width x height fills."""
    high, wide = row.shape[:2]
    inner_wide = min(wide, max(1, round(high * width / height)))
    inner_high = min(high, max(1, round(wide * height / width)))
    left, top = (wide - inner_wide) // 2, (high - inner_high) // 2
    return row[top : top + inner_high, left : left + inner_wide]


def _scaled(pixels: Pixels, size: tuple[int, int], how: int, *, straight: bool) -> Pixels:
    """Width x height `size`, in the samples' own type."""
    dtype = pixels.dtype.name
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    if straight and how != FILTERS["nearest"]:
        scaled = _scaled_by_coverage(pixels, size, how)
    elif dtype == "float16":
        scaled = cv2.resize(pixels.astype(np.float32), size, interpolation=how)
    else:
        scaled = cv2.resize(pixels, size, interpolation=how)
    scaled = np.asarray(scaled).reshape(size[1], size[0], pixels.shape[2])
    if pixels.shape[2] == 4 and scaled.dtype.kind == "f":
        # Cubic and lanczos overshoot; alpha is never below 0 or above 1.
        np.clip(scaled[..., 3], 0.0, 1.0, out=scaled[..., 3])
    return converted_samples(scaled, dtype)


def _scaled_by_coverage(pixels: Pixels, size: tuple[int, int], how: int) -> Pixels:
    """Straight RGBA, float32: transparent pixels give no colour to their neighbours."""
    values = converted_samples(pixels, "float32")
    weighted = np.concatenate([values[..., :3] * values[..., 3:], values[..., 3:]], axis=2)
    scaled = np.asarray(cv2.resize(weighted, size, interpolation=how))
    coverage = scaled[..., 3:]
    some = coverage > 1.0 / HALF_MAX
    scaled[..., :3] = np.where(some, scaled[..., :3] / np.where(some, coverage, 1.0), 0.0)
    return scaled
