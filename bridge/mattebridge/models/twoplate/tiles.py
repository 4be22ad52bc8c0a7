"""The refiner of `twoplate` only where it is needed: in tiles where something is unsure.

    coarse change --rows--> matte everywhere --unsure?--> tiles --> refiner --> put back
                                      `--sure------------------------------------> stays

Most of a frame is certainly set or certainly subject, by the coarse net and by the keyer, and the
coarse net does not doubt it. There the refiner, which computes every pixel and takes most of the
time, has nothing to decide. Tiles that touch are refined together, as a piece. A piece has as many
neighbours around it as influence the refiner, so that its result is that of the whole frame, within
rounding. Rows and pieces bound the memory and keep it in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.pytorch.threads import sigmoid
from mattebridge.models.twoplate.network import (
    REFINER_REACH,
    Change,
    Inputs,
    NetworkMatte,
    TwoPlate,
    coarse_alpha,
    each_plane,
    enlarged,
    is_unsure,
    twice,
)
from mattebridge.models.twoplate.resampling import all_smaller

# Side of a tile in groups of 2x2 pixels: smaller ones fit edges better, but have more neighbours.
TILE = 32
# A tile is refined if the coarse net gives some alpha in it this probability of being wrong: the
# highest of those that were tried at which frames are equal to frames that are refined everywhere.
DOUBTFUL = 0.05
# Tiles at a time, a square of them if possible: what fits in a cache; and where memory is short.
_TILES, _FEW_TILES = 16, 4
# One group more than the reach of the refiner, for the bilinear enlargement.
_MARGIN = REFINER_REACH + 1


def small_inputs_by_rows(network: TwoPlate, given: Inputs, factor: int) -> Tensor:
    """`small_inputs` of the whole frame, computed by rows."""
    height = given.plate.shape[2]
    rows = [slice(top, min(height, top + 2 * TILE)) for top in range(0, height, 2 * TILE)]
    planes = (network.to_shrink(_rows(given, part)) for part in rows)
    small = torch.cat([all_smaller(part, factor) for part in planes], 2)
    return network.looked_at(given, small)


def refined_in_tiles(
    network: TwoPlate,
    given: Inputs,
    change: Change,
    factor: int,
    checkpoint: Checkpoint,
    *,
    few: bool = False,
) -> tuple[NetworkMatte, float]:
    """The matte, clamped, its planes larger by parts of tiles; and the share of tiles refined.

    Sizes are multiples of the factor. In tiles where keyer and coarse net are sure of every pixel
    the coarse matte stands. few: a few tiles at a time, which takes less memory and more time.
    """
    half = enlarged(change, factor // 2)
    frame, busy = _unrefined(network, given, half)
    wanted = (busy | doubtful(half)).cpu().numpy()
    done, total = 0, int(wanted.sum())
    for piece in _pieces(wanted, _FEW_TILES if few else _TILES):
        checkpoint("refine", done, total)
        made = _refined(network, given, half, piece)
        for whole, part in zip(frame, made):
            whole[:, :, piece.rows(2), piece.columns(2)] = part
        done += piece.tiles
    return frame, total / wanted.size


def _unrefined(network: TwoPlate, given: Inputs, half: Change) -> tuple[NetworkMatte, Tensor]:
    """The matte of the coarse net alone, padded to whole tiles, and the tiles (rows, columns) in
    which it or the keyer's matte is unsure."""
    height, width = given.plate.shape[2:]
    grown = [length + -length % (2 * TILE) for length in (height, width)]
    frame = NetworkMatte(*(given.plate.new_zeros(1, channels, *grown) for channels in (1, 1, 3)))
    busy = []
    for top in range(0, height // 2, TILE):
        rows = slice(2 * top, min(height, 2 * (top + TILE)))
        part = _rows(given, rows)
        logit, colour = _enlarged_rows(half, top, part.plate.shape[2])
        made = _clamped(network.finished(part, logit, colour, None))
        for whole, strip in zip(frame, made):
            whole[:, :, rows, :width] = strip
        # The largest byte: torch takes thirty times as long for `any`.
        unsure = (is_unsure(made.alpha) | network.unsure(part)).view(torch.uint8).amax(2)[0, 0]
        unsure = functional.pad(unsure, (0, grown[1] - width))
        busy.append(unsure.reshape(-1, 2 * TILE).any(1))
    return frame, torch.stack(busy)


def doubtful(half: Change) -> Tensor:
    """The tiles (rows, columns) in which the coarse net doubts its own alpha somewhere."""
    doubt = sigmoid(half.doubt)
    bottom, right = (-length % TILE for length in doubt.shape[2:])
    doubt = functional.pad(doubt, (0, right, 0, bottom))
    return functional.max_pool2d(doubt, TILE)[0, 0] > DOUBTFUL


def _enlarged_rows(half: Change, top: int, height: int) -> tuple[Tensor, Tensor]:
    """Changes of logit and colour at full size, for `height` pixel rows from group `top` on."""
    above = min(top, 1)
    rows = slice(top - above, top + TILE + 1)
    return tuple(  # type: ignore[return-value]
        twice(plane[:, :, rows])[:, :, 2 * above : 2 * above + height]
        for plane in (half.logit, half.foreground)
    )


# --- tiles ----------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """A rectangle of tiles, ends left out."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def tiles(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)

    def rows(self, scale: int, margin: int = 0) -> slice:
        """Its rows in an image of `scale` pixels a group, with a margin of groups."""
        return slice((self.top * TILE - margin) * scale, (self.bottom * TILE + margin) * scale)

    def columns(self, scale: int, margin: int = 0) -> slice:
        """Its columns in the same way."""
        return slice((self.left * TILE - margin) * scale, (self.right * TILE + margin) * scale)


def _pieces(busy: NDArray[np.bool_], most: int) -> Iterator[_Piece]:
    """Pieces of at most so many tiles that cover each tile that is set once, and no other.

    The larger a piece, the smaller its surroundings, which are computed for nothing; so they are
    as near to squares as the tiles allow.
    """
    free, side = busy.copy(), math.isqrt(most)
    for top, left in np.argwhere(busy).tolist():
        if not free[top, left]:
            continue
        right = left + 1
        while right < min(left + side, busy.shape[1]) and free[top, right]:
            right += 1
        bottom, deepest = top + 1, min(top + most // (right - left), busy.shape[0])
        while bottom < deepest and free[bottom, left:right].all():
            bottom += 1
        free[top:bottom, left:right] = False
        yield _Piece(top, left, bottom, right)


def _refined(network: TwoPlate, given: Inputs, half: Change, piece: _Piece) -> NetworkMatte:
    """The refined matte of a piece."""
    around = _inputs_of(given, piece)
    farther = [_window(plane, piece, 1, _MARGIN) for plane in half]
    logit, colour = (_trimmed(twice(plane), 2) for plane in farther[:2])
    around_half = Change(*(_trimmed(plane, 1) for plane in farther))
    x = network.refiner_inputs(around, around_half, coarse_alpha(around, logit))
    answer = network.refiner.inner(x, _inside(half, piece))
    # Back to the tiles themselves.
    tiles = each_plane(around, lambda plane: _trimmed(plane, 2 * REFINER_REACH))
    logit, colour = (_trimmed(plane, 2 * REFINER_REACH) for plane in (logit, colour))
    fine = network.of_pixels(tiles, _trimmed(x, REFINER_REACH), answer)
    return _clamped(network.finished(tiles, logit, colour, fine))


def _clamped(matte: NetworkMatte) -> NetworkMatte:
    """`clamped`, in place."""
    matte.alpha.clamp_(0, 1)
    matte.foreground.clamp_(0, 1)
    return matte


def _inputs_of(given: Inputs, piece: _Piece) -> Inputs:
    """The inputs of the refiner; the planes that only the coarse net uses are left out."""
    nothing = torch.zeros((1, 1, 1, 1), device=given.plate.device)
    wide = given.wide_alpha
    return given._replace(
        plate=_window(given.plate, piece, 2, REFINER_REACH),
        clean_plate=_window(given.clean_plate, piece, 2, REFINER_REACH),
        keyed_alpha=_window(given.keyed_alpha, piece, 2, REFINER_REACH),
        keyed_foreground=_window(given.keyed_foreground, piece, 2, REFINER_REACH),
        alpha_hint=nothing,
        outside=nothing,
        wide_alpha=wide if wide.shape[2] == 1 else _window(wide, piece, 2, REFINER_REACH),
    )


def _window(plane: Tensor, piece: _Piece, scale: int, margin: int) -> Tensor:
    """A piece of a plane (1, C, H, W) with a margin of groups; the frame's edge is repeated."""
    lacking: list[int] = []
    for axis, wanted in ((3, piece.columns(scale, margin)), (2, piece.rows(scale, margin))):
        length = plane.shape[axis]
        lacking += [max(-wanted.start, 0), max(wanted.stop - length, 0)]
        first, last = max(wanted.start, 0), min(wanted.stop, length)
        plane = plane.narrow(axis, first, last - first)
    return functional.pad(plane, lacking, mode="replicate") if any(lacking) else plane


def _inside(half: Change, piece: _Piece) -> Optional[Tensor]:
    """1 where the groups of a piece and its surroundings are in the frame, (1, 1, h, w); None where
    all of them are."""
    spans = piece.rows(1, REFINER_REACH), piece.columns(1, REFINER_REACH)
    lengths = half.logit.shape[2:]
    if all(span.start >= 0 and span.stop <= length for span, length in zip(spans, lengths)):
        return None
    rows, columns = (
        ((places >= 0) & (places < length)).float()
        for span, length in zip(spans, lengths)
        for places in [torch.arange(span.start, span.stop, device=half.logit.device)]
    )
    return (rows[:, None] * columns)[None, None]


def _trimmed(planes: Tensor, margin: int) -> Tensor:
    return planes[:, :, margin:-margin, margin:-margin]


def _rows(given: Inputs, rows: slice) -> Inputs:
    """Some rows of every plane."""
    return each_plane(given, lambda plane: plane[:, :, rows])
