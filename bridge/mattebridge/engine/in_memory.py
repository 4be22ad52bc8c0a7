"""The steps of a colour space in main memory: sums by numpy, logarithms and powers by OpenCV.

    kernel(source, target)    float32 (N, 3), C-contiguous; target may be the source

OpenCV takes a logarithm or an exponential of floats in a third of torch's time, to 1.3e-7 of the
value, with the same bits wherever a value lies; so do numpy's sums, products and choices, which
are exact to the last bit. What OpenCV multiplies by a matrix is not: the last pixels that it is
given may be rounded otherwise, and are done again with others behind them.

`run` gives each of torch's threads its part of a block, and takes a part through all kernels, so
that what is in between stays in a core's cache. (Kernels have one thread of their own.)
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Callable

import numpy as np
import torch

from mattebridge.color import FloatImage
from mattebridge.models.tasks import begin
from mattebridge.ocio import hlg_curve, table
from mattebridge.ocio.chain import Cube, Mix
from mattebridge.ocio.hlg_curve import HlgCurve
from mattebridge.ocio.log_curve import LogCurve
from mattebridge.ocio.system_gain import WEIGHTS

Kernel = Callable[[FloatImage, FloatImage], None]

# The instructions of OpenCV and OpenColorIO take no more pixels at once.
_LAST_PIXELS = 64
# To give fewer to another thread takes longer than to convert them.
_LEAST_PIXELS = 8192
# A piece and what is in between stay in a core's own cache.
_PIECE_PIXELS = 24576
# Light of a log is within this in both signs: its curve stays within float32.
_MOST_LIGHT = 1e30
# The curve of sRGB (models/pytorch/curves.py).
_ENCODE_CUT, _DECODE_CUT = np.float32(0.0031308), np.float32(0.04045)
_LUMINANCE = np.array([WEIGHTS], np.float32)


def run(kernels: Sequence[Kernel], source: FloatImage, target: FloatImage) -> None:
    """Take pixels (N, 3) through some kernels, a part in each of torch's threads."""

    def piece(pixels: slice) -> None:
        given, here = source[pixels], target[pixels]
        for kernel in kernels:
            kernel(given, here)
            given = here

    _in_pieces(piece, len(source))


def _in_pieces(piece: Callable[[slice], None], pixels: int) -> None:
    """Call a function for all pixels, piece by piece, and a part of them in each thread of torch's.

    Pieces end where the widest instructions do, so that each pixel has its bits.
    """

    def part(first: int, end: int) -> None:
        for start in range(first, end, _PIECE_PIXELS):
            piece(slice(start, min(start + _PIECE_PIXELS, end)))

    count = torch.get_num_threads()
    size = -(-pixels // (count * _LAST_PIXELS)) * _LAST_PIXELS
    if count == 1 or size < _LEAST_PIXELS:
        part(0, pixels)
        return
    ends = [(first, min(first + size, pixels)) for first in range(size, pixels, size)]
    waiting = [begin(part, *each) for each in ends]
    part(0, size)
    for each in waiting:
        each.result()


class _Rooms(threading.local):
    """Memory of each thread for what is in between, kept from kernel to kernel."""

    memory = np.empty(0, np.float32)

    def take(self, count: int, size: int) -> list[FloatImage]:
        """So many arrays (size,), of any content."""
        if len(self.memory) < count * size:
            self.memory = np.empty(count * size, np.float32)
        return [self.memory[i * size : (i + 1) * size] for i in range(count)]


_rooms = _Rooms()


# --- display values -------------------------------------------------------------------------------


def encode(light: FloatImage, target: FloatImage) -> None:
    """Display-encoded values of light, as `curves.encode_spent` has them."""
    import cv2

    flat, out = light.reshape(-1), target.reshape(-1)
    base, power = _rooms.take(2, len(flat))
    np.maximum(flat, _ENCODE_CUT, out=base)
    cv2.log(base, power)
    power *= np.float32(1 / 2.4)
    power += np.float32(np.log(1.055))
    cv2.exp(power, base)
    base -= np.float32(0.055)
    # Below the cut the foot is under the curve's value there, above the cut it is over the curve.
    np.multiply(flat, np.float32(12.92), out=power)
    np.minimum(base, power, out=out)


def decode(display: FloatImage, target: FloatImage) -> None:
    """Light of display-encoded values, as `curves.decode_quick` has it; black stays exactly 0."""
    flat, out = display.reshape(-1), target.reshape(-1)
    base, power = _rooms.take(2, len(flat))
    np.maximum(flat, _DECODE_CUT, out=base)
    _power_of_2_4(base, power)
    # Up to the cut this is exactly 0, to which the straight foot is added.
    power -= _light_at_cut()
    np.minimum(flat, _DECODE_CUT, out=base)
    base *= np.float32(1 / 12.92)
    np.add(power, base, out=out)


def _power_of_2_4(base: FloatImage, out: FloatImage) -> None:
    import cv2

    base += np.float32(0.055)
    cv2.log(base, out)
    np.multiply(out, np.float32(2.4), out=base)
    base += np.float32(-2.4 * np.log(1.055))
    cv2.exp(base, out)


@lru_cache(maxsize=1)
def _light_at_cut() -> np.float32:
    found = np.empty(_LAST_PIXELS, np.float32)
    _power_of_2_4(np.full(_LAST_PIXELS, _DECODE_CUT), found)
    return np.float32(found[0])


# --- curves ---------------------------------------------------------------------------------------


def of_log(log: LogCurve) -> Kernel:
    """Light of a camera's log."""
    import cv2

    rate, intercept = np.float32(log.rate), np.float32(np.log(log.gain))
    cut, highest = np.float32(log.cut), np.float32(log.highest)
    slope, constant = np.float32(log.slope), np.float32(log.offset - log.slope * log.cut)

    def kernel(source: FloatImage, target: FloatImage) -> None:
        flat, out = source.reshape(-1), target.reshape(-1)
        foot, power = _rooms.take(2, len(flat))
        np.minimum(flat, cut, out=foot)
        foot *= slope
        foot += constant
        np.clip(flat, cut, highest, out=power)
        power *= rate
        power += intercept
        cv2.exp(power, out)
        out += foot

    return kernel


def to_log(log: LogCurve) -> Kernel:
    """A camera's log of light."""
    import cv2

    cut = np.float32(log.light_at_cut)
    # What is added to a logarithm is a factor inside it; of both constants at once.
    constant = -np.log(log.gain) / log.rate - log.light_at_cut / log.slope
    factor = np.float32(np.exp(constant * log.rate))
    offset = np.float32(-log.offset * float(factor))
    rate_back, slope_back = np.float32(1 / log.rate), np.float32(1 / log.slope)
    least, most = np.float32(-_MOST_LIGHT), np.float32(_MOST_LIGHT)

    def kernel(source: FloatImage, target: FloatImage) -> None:
        flat, out = source.reshape(-1), target.reshape(-1)
        foot, power = _rooms.take(2, len(flat))
        np.clip(flat, least, cut, out=foot)
        foot *= slope_back
        np.clip(flat, cut, most, out=power)
        power *= factor
        power += offset
        cv2.log(power, out)
        out *= rate_back
        out += foot

    return kernel


def of_hlg(curve: HlgCurve) -> Kernel:
    """Scene light of HLG's code values."""
    import cv2

    rate = np.float32(1 / hlg_curve.A)
    intercept = np.float32(np.log(curve.gain / 12) - hlg_curve.C / hlg_curve.A)
    middle, highest = np.float32(0.5), np.float32(hlg_curve.HIGHEST)
    square = np.float32(curve.gain / 3)
    at_middle = _of_one(cv2.exp, middle * rate + intercept)

    def below(low: FloatImage) -> None:
        low *= low
        low *= square

    def above(power: FloatImage, found: FloatImage) -> None:
        power *= rate
        power += intercept
        cv2.exp(power, found)

    return _in_halves(middle, highest, at_middle, below, above)


def to_hlg(curve: HlgCurve) -> Kernel:
    """HLG's code values of scene light."""
    import cv2

    middle, most = np.float32(curve.gain / 12), np.float32(curve.most_light)
    factor, offset = np.float32(12 / curve.gain), np.float32(-hlg_curve.B)
    root, rate = np.float32(3 / curve.gain), np.float32(hlg_curve.A)
    at_middle = rate * _of_one(cv2.log, middle * factor + offset)

    def below(low: FloatImage) -> None:
        low *= root
        np.sqrt(low, out=low)

    def above(power: FloatImage, found: FloatImage) -> None:
        power *= factor
        power += offset
        cv2.log(power, found)
        found *= rate

    return _in_halves(middle, most, at_middle, below, above)


def _in_halves(
    middle: np.float32,
    highest: np.float32,
    at_middle: np.float32,
    below: Callable[[FloatImage], None],
    above: Callable[[FloatImage, FloatImage], None],
) -> Kernel:
    """A curve of one form up to `middle` and of another from there to `highest`, in both signs.

    below: computes the first in place. above: writes the second, whose value at the middle is
    `at_middle`, into its second argument, and may overwrite the first.
    """

    def kernel(source: FloatImage, target: FloatImage) -> None:
        flat, out = source.reshape(-1), target.reshape(-1)
        is_signed = flat.min() < 0
        found, low, power, *room = _rooms.take(4 if is_signed else 3, len(flat))
        size = np.abs(flat, out=room[0]) if is_signed else flat
        np.minimum(size, middle, out=low)
        below(low)
        np.clip(size, middle, highest, out=power)
        above(power, found)
        # Up to the middle this is exactly 0.
        found -= at_middle
        if is_signed:
            found += low
            np.copysign(found, flat, out=out)
        else:
            np.add(found, low, out=out)

    return kernel


def _of_one(function: Callable[[FloatImage, FloatImage], object], value: np.float32) -> np.float32:
    """What a function of OpenCV makes of one value among others."""
    found = np.empty(_LAST_PIXELS, np.float32)
    function(np.full(_LAST_PIXELS, value, np.float32), found)
    return np.float32(found[0])


def through_table(at: FloatImage) -> Kernel:
    """Values through a table: (2, 2^19) by the bits of floats, a value and its slope."""
    values, slopes = at

    def kernel(source: FloatImage, target: FloatImage) -> None:
        bits = source.reshape(-1).view(np.uint32)
        keys = (bits >> np.uint32(table.SHIFT)).astype(np.intp)
        low, beyond = _rooms.take(2, len(bits))
        np.copyto(beyond, bits & np.uint32((1 << table.SHIFT) - 1), casting="unsafe")
        # No key is out of range; without `clip` numpy would look, in memory of its own.
        np.take(slopes, keys, out=low, mode="clip")
        beyond *= low
        np.take(values, keys, out=low, mode="clip")
        np.add(low, beyond, out=target.reshape(-1))

    return kernel


def by_channel(kernels: Sequence[Kernel]) -> Kernel:
    """A kernel for each channel."""

    def kernel(source: FloatImage, target: FloatImage) -> None:
        for channel, each in enumerate(kernels):
            values = np.ascontiguousarray(source[:, channel])
            each(values, values)
            target[:, channel] = values

    return kernel


# --- all channels of a pixel ----------------------------------------------------------------------


def mixing(mix: Mix, is_moderate: bool = False) -> Kernel:
    """Colours times a matrix. is_moderate: whether they are known to be far below what float32 can
    hold."""
    weights = mix.weights

    def kernel(source: FloatImage, target: FloatImage) -> None:
        # Products beyond float32 would give infinity less infinity.
        most = table.LARGEST
        if not (is_moderate or (source.min() >= -most and source.max() <= most)):
            source = np.clip(source, -most, most)
        _mix(source, weights, target)

    return kernel


def _mix(source: FloatImage, weights: FloatImage, target: FloatImage) -> None:
    import cv2

    last = _last_of(source)
    cv2.transform(source[None], weights, dst=target[None])
    again = cv2.transform(last[None], weights).reshape(len(last), -1)
    target[-_LAST_PIXELS:] = again[:-_LAST_PIXELS]


def times_power(exponent: float, darkest: float, *, is_bounded: bool = False) -> Kernel:
    """Colours times a power of their own luminance: HLG's system gain.

    is_bounded: whether the product cannot be beyond what float32 holds, or is cut by what follows.
    """
    import cv2

    power, least, most = np.float32(exponent), np.float32(darkest), np.float32(table.LARGEST)

    def kernel(source: FloatImage, target: FloatImage) -> None:
        size = len(source)
        luminance, factor, *_ = _rooms.take(5, size)
        factors = _rooms.memory[2 * size : 5 * size].reshape(1, -1, 3)
        _mix(source, _LUMINANCE, luminance.reshape(-1, 1))
        np.abs(luminance, out=luminance)
        np.clip(luminance, least, most, out=luminance)
        cv2.log(luminance, factor)
        factor *= power
        cv2.exp(factor, luminance)
        cv2.cvtColor(luminance[None], cv2.COLOR_GRAY2BGR, factors)
        np.multiply(source, factors[0], out=target)
        if not is_bounded:
            np.clip(target, -most, most, out=target)

    return kernel


def cube_kernel(cube: Cube) -> Kernel:
    """A 3-D table, by OpenColorIO's own arithmetic."""

    def kernel(source: FloatImage, target: FloatImage) -> None:
        if source is not target:
            np.copyto(target, source)
        last = _last_of(target)
        cube.run(target)
        cube.run(last)
        target[-_LAST_PIXELS:] = last[:-_LAST_PIXELS]

    return kernel


def _last_of(pixels: FloatImage) -> FloatImage:
    """The last ones of pixels (N, 3), with as many others behind them."""
    return np.concatenate([pixels[-_LAST_PIXELS:], np.zeros((_LAST_PIXELS, 3), np.float32)])


def times(light: FloatImage, alpha: FloatImage) -> FloatImage:
    """Colours (H, W, 3) times a plane (H, W), in new memory."""
    import cv2

    product: FloatImage = cv2.cvtColor(alpha, cv2.COLOR_GRAY2BGR)
    product *= light
    return product


def where_covered(colour: FloatImage, alpha: FloatImage, black: FloatImage) -> FloatImage:
    """Colours (H, W, 3) where a plane (H, W) is above 0, and those of `black` elsewhere, in new
    memory."""
    import cv2

    product = black.copy()
    cv2.copyTo(colour, (alpha > 0).view(np.uint8), product)
    return product


# --- in one go ------------------------------------------------------------------------------------


def show(
    kernels: Sequence[Kernel], source: FloatImage, target: FloatImage, *, looks: bool
) -> tuple[float, float]:
    """Pixels (N, 3) by way of light as display values from 0 up, in `target`.

    looks: whether the least and the greatest value of the light are wanted, else both are 0.
    """
    ranges: list[tuple[float, float]] = []

    def piece(pixels: slice) -> None:
        given, here = source[pixels], target[pixels]
        for kernel in kernels:
            kernel(given, here)
            given = here
        low = -1.0
        if looks:
            low, high = float(given.min()), float(given.max())
            ranges.append((low, high))
        encode(given, here)
        if low < 0:
            np.maximum(here, 0, out=here)

    _in_pieces(piece, len(source))
    if not looks:
        return 0.0, 0.0
    lowest, highest = zip(*ranges)
    return min(lowest), max(highest)
