"""Y'CbCr planes of a codec <-> RGB code values: exact at every depth, chroma at its own place.

    to_rgb:    planes --chroma to full size--> Y' Cb Cr --matrix, range--> RGB codes
    from_rgb:  RGB codes --matrix, range--> Y' Cb Cr --chroma to its own size--> planes

A layout says what the codes mean: depth, range, matrix, and where a chroma sample lies among the
luma samples that share it. White of n bits in limited range is code 235 * 2^(n-8) and full range
ends at 2^n - 1 (Rec. ITU-T H.273), whatever the depth. swscale computes the wide ones as if white
were 256 * 2^(n-8) - 1 of 256 * 2^(n-8), and puts chroma without a tag in the middle, so that it is
not used here.

Chroma is resampled with Lanczos-3. Arrays are top row first; numpy and OpenCV only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mattebridge.color import Pixels
from mattebridge.image_io.samples import CODE_MAX

# By number of ISO 23091-2 (H.273): the weights of red and blue in luma.
WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_TAPS = 3  # lobes of the Lanczos window on each side


@dataclass(frozen=True)
class Siting:
    """Where the first chroma sample lies between the first and the last luma sample it is for.

    0 is on the first (left, top), 0.5 in the middle.
    """

    x: float = 0.0
    y: float = 0.5


LEFT, CENTRE, TOP_LEFT = Siting(), Siting(0.5, 0.5), Siting(0.0, 0.0)


@dataclass(frozen=True)
class Layout:
    """What the codes of a picture mean.

    bits: of a code. full_range: black is 0 and white the highest code. matrix: one of `WEIGHTS`.
    across, down: luma samples for one of chroma (2, 2 in 4:2:0).
    """

    bits: int
    full_range: bool
    matrix: int
    across: int = 1
    down: int = 1
    siting: Siting = LEFT

    @property
    def dtype(self) -> str:
        return "uint8" if self.bits == 8 else "uint16"


# --------------------------------------------------------------------------------------- to RGB


def to_rgb(planes: Sequence[Pixels], layout: Layout) -> Pixels:
    """(H, W, 3|4) uint8 (of 8 bits) or uint16: full range; a fourth plane is alpha.

    planes: Y', Cb, Cr and perhaps alpha as (H, W) codes, or Y' alone.
    """
    luma = planes[0].astype(np.float32)
    height, width = luma.shape
    if len(planes) < 3:
        chroma = [np.full_like(luma, 1 << (layout.bits - 1))] * 2
    else:
        chroma = [_enlarged(plane, layout)[:height, :width] for plane in planes[1:3]]
    codes = cv2.transform(cv2.merge([luma, *chroma]), _matrix_to_rgb(layout))
    rgb = _rounded(codes, layout.dtype)
    if len(planes) in (1, 3):
        return rgb
    return np.dstack([rgb, full_codes(planes[-1], layout.bits)])


def full_codes(codes: Pixels, bits: int) -> Pixels:
    """Codes of n bits in full range (RGB, alpha) as uint8 (of 8 bits) or uint16, rounded."""
    dtype = "uint8" if bits == 8 else "uint16"
    top = (1 << bits) - 1
    if top == CODE_MAX[dtype]:
        return codes
    wide = codes.astype(np.uint32) * np.uint32(CODE_MAX[dtype]) + np.uint32(top // 2)
    return (wide // np.uint32(top)).astype(dtype)


def _matrix_to_rgb(layout: Layout) -> NDArray[np.float32]:
    """(3, 4): R, G, B as codes of the output, from the codes of Y', Cb, Cr."""
    black, luma, middle, chroma = _range_of(layout)
    to_rgb_units = np.linalg.inv(_weights(layout.matrix))
    linear = to_rgb_units @ np.diag([1 / luma, 1 / chroma, 1 / chroma]) * CODE_MAX[layout.dtype]
    offset = -linear @ np.array([black, middle, middle])
    return np.column_stack([linear, offset]).astype(np.float32)


def _weights(matrix: int) -> NDArray[np.float64]:
    """(3, 3): Y' of 0..1 and Cb, Cr of -0.5..0.5 from R, G, B of 0..1."""
    red, blue = WEIGHTS[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    cb = (np.array([0.0, 0.0, 1.0]) - luma) / (2 * (1 - blue))
    cr = (np.array([1.0, 0.0, 0.0]) - luma) / (2 * (1 - red))
    return np.stack([luma, cb, cr])


def _range_of(layout: Layout) -> tuple[float, float, float, float]:
    """Code of black, codes from black to white, code of no chroma, codes of all chroma."""
    middle = float(1 << (layout.bits - 1))
    if layout.full_range:
        top = float((1 << layout.bits) - 1)
        return 0.0, top, middle, top
    step = float(1 << (layout.bits - 8))
    return 16 * step, 219 * step, middle, 224 * step


def _rounded(values: NDArray[np.float32], dtype: str, top: float = 0.0) -> Pixels:
    """Rounded to nearest, and clipped to what the codes can hold."""
    np.rint(values, out=values)
    np.clip(values, 0.0, top or CODE_MAX[dtype], out=values)
    return values.astype(dtype)


# ------------------------------------------------------------------------------------- from RGB


def from_rgb(codes: Pixels, layout: Layout) -> list[Pixels]:
    """Planes Y', Cb, Cr and, of four channels, alpha: (H, W) codes of the layout.

    codes: (H, W, 3|4) uint8 or uint16, full range. The size must fit the chroma.
    """
    top = CODE_MAX[codes.dtype.name]
    highest = float((1 << layout.bits) - 1)
    matrix = _matrix_from_rgb(layout, top)
    luma, cb, cr = cv2.split(cv2.transform(codes[..., :3].astype(np.float32), matrix))
    planes = [luma, _reduced(cb, layout), _reduced(cr, layout)]
    stored = [_rounded(np.ascontiguousarray(p), layout.dtype, highest) for p in planes]
    if codes.shape[2] == 4:
        stored.append(narrow_codes(codes[..., 3], layout.bits))
    return stored


def narrow_codes(codes: Pixels, bits: int) -> Pixels:
    """uint8 or uint16 codes as codes of n bits in full range, rounded: the inverse of `full_codes`.

    Gives uint8 for 8 bits, else uint16.
    """
    given, top = int(CODE_MAX[codes.dtype.name]), (1 << bits) - 1
    if given == top:
        return codes
    narrow = (codes.astype(np.uint32) * np.uint32(top) + np.uint32(given // 2)) // np.uint32(given)
    return narrow.astype(np.uint8 if bits == 8 else np.uint16)


def _matrix_from_rgb(layout: Layout, top: float) -> NDArray[np.float32]:
    """(3, 4): the codes of Y', Cb, Cr from codes of 0..top of R, G, B."""
    black, luma, middle, chroma = _range_of(layout)
    linear = np.diag([luma, chroma, chroma]) @ _weights(layout.matrix) / top
    return np.column_stack([linear, [black, middle, middle]]).astype(np.float32)


# ---------------------------------------------------------------------------------------- chroma


def _enlarged(plane: Pixels, layout: Layout) -> NDArray[np.float32]:
    """A plane of chroma with as many samples as luma, or some more at the right and bottom."""
    across, down, siting = layout.across, layout.down, layout.siting
    samples = plane.astype(np.float32)
    if across == down == 1:
        return samples
    height, width = samples.shape
    full = np.empty((height * down, width * across), np.float32)
    for row, along_y in enumerate(_phases(down, siting.y)):
        for column, along_x in enumerate(_phases(across, siting.x)):
            full[row::down, column::across] = _filtered(samples, along_x, along_y)
    return full


def _reduced(plane: Pixels, layout: Layout) -> NDArray[np.float32]:
    """A plane of chroma with one sample for `across` x `down` of luma, at its place."""
    samples = plane
    if layout.across > 1:
        kernel = _reducing(layout.across, layout.siting.x)
        samples = _filtered(samples, kernel, (1.0,))[:, :: layout.across]
    if layout.down > 1:
        kernel = _reducing(layout.down, layout.siting.y)
        samples = _filtered(np.ascontiguousarray(samples), (1.0,), kernel)[:: layout.down]
    return samples


_Kernel = tuple[float, ...]


def _filtered(samples: Pixels, along_x: _Kernel, along_y: _Kernel) -> NDArray[np.float32]:
    """Filtered in both directions; the sample in the middle of a kernel is that of the result."""
    if len(along_x) == len(along_y) == 1:
        return samples
    x, y = np.asarray(along_x, np.float32), np.asarray(along_y, np.float32)
    return cv2.sepFilter2D(samples, cv2.CV_32F, x, y, borderType=cv2.BORDER_REPLICATE)


@lru_cache(maxsize=32)
def _phases(factor: int, place: float) -> tuple[_Kernel, ...]:
    """By luma sample of a chroma sample's own: the kernel that gives chroma there."""
    if factor == 1:
        return ((1.0,),)
    first = place * (factor - 1)
    around = np.arange(-_TAPS, _TAPS + 1)
    phases = ((luma - first) / factor for luma in range(factor))
    return tuple(_kernel(around - phase) for phase in phases)


@lru_cache(maxsize=32)
def _reducing(factor: int, place: float) -> _Kernel:
    """The kernel that gives a chroma sample, around its first luma sample."""
    reach = _TAPS * factor + factor
    offsets = np.arange(-reach, reach + 1)
    return _kernel((offsets - place * (factor - 1)) / factor)


def _kernel(distances: NDArray[Any]) -> _Kernel:
    """Lanczos-3 at these distances; the sum is 1, so that even colours stay as they are."""
    inside = np.abs(distances) < _TAPS
    weights = np.where(inside, np.sinc(distances) * np.sinc(distances / _TAPS), 0.0)
    return tuple(float(weight) for weight in weights / weights.sum())
