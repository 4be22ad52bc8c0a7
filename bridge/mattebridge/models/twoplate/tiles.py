"""The refiner of `twoplate` only where it is needed: in tiles where something is unsure.

    coarse change --rows--> matte everywhere --unsure?--> tiles --> refiner --> put back
                                      `--sure------------------------------------> stays

Most of a frame is certainly set or certainly subject, by the coarse net and by the keyer, and the
coarse net does not doubt it. There the refiner, which computes every pixel and takes most of the
time, has nothing to decide. A tile has as many neighbours around it as influence the refiner, so
that its result is that of the whole frame, within rounding. Rows and batches of tiles bound the
memory and keep it in the processor's cache.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.twoplate.network import (
    REFINER_REACH,
    Change,
    Inputs,
    NetworkMatte,
    TwoPlate,
    clamped,
    coarse_alpha,
    each_plane,
    enlarged,
    is_unsure,
    twice,
)

# Side of a tile in groups of 2x2 pixels: smaller ones fit edges better, but have more neighbours.
TILE = 32
# A tile is refined if the coarse net gives some alpha in it this probability of being wrong: the
# highest of those that were tried at which frames are equal to frames that are refined everywhere.
DOUBTFUL = 0.05
# Tiles at a time: what fits in a cache, and enough for a GPU; and where memory is short.
_CPU_TILES, _GPU_TILES, _FEW_TILES = 16, 512, 4
# One group more than the reach of the refiner, for the bilinear enlargement.
_MARGIN = REFINER_REACH + 1


def small_inputs_by_rows(network: TwoPlate, given: Inputs, factor: int) -> Tensor:
    """`small_inputs` of the whole frame, computed by rows."""
    height = given.plate.shape[2]
    rows = [slice(top, min(height, top + 2 * TILE)) for top in range(0, height, 2 * TILE)]
    planes = (network.to_shrink(_rows(given, part)) for part in rows)
    small = torch.cat([functional.avg_pool2d(part, factor) for part in planes], 2)
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
    """The matte, clamped, and the share of tiles that were refined.

    Sizes are multiples of the factor. In tiles where keyer and coarse net are sure of every pixel
    the coarse matte stands. few: a few tiles at a time, which takes less memory and more time.
    """
    height, width = given.plate.shape[2:]
    half = enlarged(change, factor // 2)
    frame, busy = _unrefined(network, given, half)
    corners = torch.nonzero(busy | doubtful(half))
    usual = _CPU_TILES if half.logit.device.type == "cpu" else _GPU_TILES
    batch = _FEW_TILES if few else usual
    for first in range(0, len(corners), batch):
        checkpoint("refine", first, len(corners))
        some = corners[first : first + batch]
        _put(frame, _refined(network, given, half, some), some)
    return NetworkMatte(*(p[:, :, :height, :width] for p in frame)), len(corners) / busy.numel()


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
        made = clamped(network.finished(part, logit, colour, None))
        for whole, strip in zip(frame, made):
            whole[:, :, rows, :width] = strip
        here = (is_unsure(made.alpha) | network.unsure(part)).any(2)[0, 0]
        here = functional.pad(here, (0, grown[1] - width))
        busy.append(here.reshape(-1, 2 * TILE).any(1))
    return frame, torch.stack(busy)


def doubtful(half: Change) -> Tensor:
    """The tiles (rows, columns) in which the coarse net doubts its own alpha somewhere."""
    doubt = torch.sigmoid(half.doubt)
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


def _refined(network: TwoPlate, given: Inputs, half: Change, corners: Tensor) -> NetworkMatte:
    """The refined matte of the tiles in these rows and columns, (N, 2): (N, C, 2 TILE, 2 TILE)."""
    around = _inputs_of_tiles(given, corners)
    around_half = Change(*(_windows(plane, corners, 1) for plane in half))
    logit = twice(around_half.logit)
    alpha = coarse_alpha(around, logit)
    x = _trimmed(network.refiner_inputs(around, around_half, alpha), 1)
    answer = network.refiner.inner(x, _inside(half, corners))
    # Back to the tiles themselves.
    tiles = each_plane(around, lambda plane: _trimmed(plane, 2 * _MARGIN))
    fine = network.of_pixels(tiles, _trimmed(x, REFINER_REACH), answer)
    colour = _trimmed(twice(around_half.foreground), 2 * _MARGIN)
    logit = _trimmed(logit, 2 * _MARGIN)
    return clamped(network.finished(tiles, logit, colour, fine))


def _inputs_of_tiles(given: Inputs, corners: Tensor) -> Inputs:
    """The inputs of the refiner; the planes that only the coarse net uses are left out."""
    nothing = torch.zeros((1, 1, 1, 1), device=given.plate.device)
    wide = given.wide_alpha
    return given._replace(
        plate=_windows(given.plate, corners, 2),
        clean_plate=_windows(given.clean_plate, corners, 2),
        keyed_alpha=_windows(given.keyed_alpha, corners, 2),
        keyed_foreground=_windows(given.keyed_foreground, corners, 2),
        alpha_hint=nothing,
        outside=nothing,
        wide_alpha=wide if wide.shape[2] == 1 else _windows(wide, corners, 2),
    )


def _windows(plane: Tensor, corners: Tensor, scale: int) -> Tensor:
    """The tiles of a plane (1, C, H, W) with their margins; the frame's edge is repeated."""
    if plane.device.type == "cpu":
        # Copies of rows, which a CPU does many times as fast as it looks up single pixels.
        return torch.stack([_window(plane[0], corner, scale) for corner in corners.tolist()])
    rows, columns = (
        (scale * at).add(_along(_MARGIN * scale, scale, at)).clamp(0, length - 1)
        for at, length in zip(_places(corners), plane.shape[2:])
    )
    return plane[0][:, rows[:, :, None], columns[:, None, :]].transpose(0, 1)


def _window(plane: Tensor, corner: list[int], scale: int) -> Tensor:
    """One tile of a plane (C, H, W)."""
    lacking: list[int] = []
    for axis, at in ((2, corner[1]), (1, corner[0])):
        first = (at * TILE - _MARGIN) * scale
        last, length = first + (TILE + 2 * _MARGIN) * scale, plane.shape[axis]
        lacking += [max(-first, 0), max(last - length, 0)]
        first, last = max(first, 0), min(last, length)
        plane = plane.narrow(axis, first, last - first)
    return functional.pad(plane[None], lacking, mode="replicate")[0] if any(lacking) else plane


def _places(corners: Tensor) -> tuple[Tensor, Tensor]:
    """Tops and lefts, (N, 1) each, in groups."""
    return corners[:, :1] * TILE, corners[:, 1:] * TILE


def _along(margin: int, scale: int, like: Tensor) -> Tensor:
    """The offsets of a tile's rows or columns from its corner, margins included."""
    return torch.arange(-margin, TILE * scale + margin, device=like.device)


def _inside(half: Change, corners: Tensor) -> Tensor:
    """1 where the groups of each tile and its surroundings are in the frame, (N, 1, S, S)."""
    rows, columns = (
        ((places >= 0) & (places < length)).float()
        for at, length in zip(_places(corners), half.logit.shape[2:])
        for places in [at + _along(REFINER_REACH, 1, at)]
    )
    return rows[:, None, :, None] * columns[:, None, None, :]


def _put(frame: NetworkMatte, tiles: NetworkMatte, corners: Tensor) -> None:
    """Write the tiles into the frame, whose sides are whole tiles."""
    side = 2 * TILE
    for whole, part in zip(frame, tiles):
        rows, columns = (length // side for length in whole.shape[2:])
        cells = whole.view(whole.shape[1], rows, side, columns, side)
        cells[:, corners[:, 0], :, corners[:, 1]] = part


def _trimmed(planes: Tensor, margin: int) -> Tensor:
    return planes[:, :, margin:-margin, margin:-margin]


def _rows(given: Inputs, rows: slice) -> Inputs:
    """Some rows of every plane."""
    return each_plane(given, lambda plane: plane[:, :, rows])
