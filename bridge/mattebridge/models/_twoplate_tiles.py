"""The refiner of `twoplate` only where it is needed: in tiles where something is unsure.

    coarse change --rows--> matte everywhere --unsure?--> tiles --> refiner --> put back
                                      `--sure------------------------------------> stays

Most of a frame is certainly set or certainly subject, by the coarse net and by the keyer, and the
coarse net does not doubt it. There the refiner, which sees every pixel and takes most of the time,
has nothing to decide. A tile comes with as many neighbours as the refiner can see, so what it
gives is what the refiner gives of the whole frame, to rounding. Rows and batches of tiles bound the
memory and keep it in the processor's cache.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.base import Checkpoint
from mattebridge.models.twoplate import (
    REFINER_REACH,
    SURE,
    Change,
    Inputs,
    Matte,
    TwoPlate,
    clamped,
    closed,
    enlarged,
    finished,
    opened,
    refiner_inputs,
    small_inputs,
    twice,
)

# Side of a tile in groups of 2x2 pixels: smaller ones fit edges better, but have more neighbours.
TILE = 32
# A tile with a place whose alpha is wrong with this probability, by the coarse net's own word, is
# looked at again. Chosen on the validation sets: lower ones cost time and gain nothing.
DOUBTFUL = 0.5
# Tiles at a time: what fits in a cache, and enough for a GPU.
_CPU_TILES, _GPU_TILES = 16, 512
# One group more than the refiner sees, for what is enlarged.
_MARGIN = REFINER_REACH + 1

# Left top corner of a tile, in groups.
Corner = tuple[int, int]


def small_inputs_by_rows(given: Inputs, factor: int) -> Tensor:
    """What `small_inputs` gives for the whole frame."""
    height = given.plate.shape[2]
    rows = [slice(top, min(height, top + 2 * TILE)) for top in range(0, height, 2 * TILE)]
    return torch.cat([small_inputs(_rows(given, part), factor) for part in rows], 2)


def refined_in_tiles(
    network: TwoPlate, given: Inputs, change: Change, factor: int, checkpoint: Checkpoint
) -> tuple[Matte, float]:
    """The matte, clamped, and the share of tiles that were refined.

    Sizes are multiples of the factor. In tiles where keyer and coarse net are sure of every pixel
    the coarse matte stands.
    """
    half = enlarged(change, factor // 2)
    matte, busy = _unrefined(given, half)
    corners = [(int(y) * TILE, int(x) * TILE) for y, x in torch.nonzero(busy)]
    batch = _CPU_TILES if half.logit.device.type == "cpu" else _GPU_TILES
    for first in range(0, len(corners), batch):
        checkpoint("refine", first, len(corners))
        some = corners[first : first + batch]
        _put(matte, _refined(network, given, half, some), some)
    return matte, len(corners) / max(1, busy.numel())


def _unrefined(given: Inputs, half: Change) -> tuple[Matte, Tensor]:
    """The matte that the coarse net alone gives, and which tiles (rows, columns) are unsure."""
    made, busy = [], []
    for top in range(0, half.logit.shape[2], TILE):
        part = _rows(given, slice(2 * top, 2 * (top + TILE)))
        logit, colour = _enlarged_rows(half, top, part.plate.shape[2])
        matte = clamped(finished(part, closed(part.keyed_alpha) + logit, colour, None))
        made.append(matte)
        unsure = _unsure(matte.alpha) | _unsure(part.keyed_alpha)
        pad = -unsure.shape[3] % (2 * TILE)
        columns = functional.pad(unsure.any(2)[0, 0], (0, pad)).reshape(-1, 2 * TILE)
        busy.append(columns.any(1))
    return Matte(*(torch.cat(planes, 2) for planes in zip(*made))), torch.stack(busy) | _doubtful(
        half
    )


def _doubtful(half: Change) -> Tensor:
    """The tiles (rows, columns) in which the coarse net doubts its own alpha somewhere."""
    doubt = torch.sigmoid(half.doubt)
    bottom, right = (-length % TILE for length in doubt.shape[2:])
    doubt = functional.pad(doubt, (0, right, 0, bottom))
    return functional.max_pool2d(doubt, TILE)[0, 0] > DOUBTFUL


def _unsure(alpha: Tensor) -> Tensor:
    return (alpha > SURE) & (alpha < 1 - SURE)


def _enlarged_rows(half: Change, top: int, height: int) -> tuple[Tensor, Tensor]:
    """Changes of logit and colour at full size, for `height` pixel rows from group `top` on."""
    above = min(top, 1)
    rows = slice(top - above, top + TILE + 1)
    return tuple(  # type: ignore[return-value]
        twice(plane[:, :, rows])[:, :, 2 * above : 2 * above + height]
        for plane in (half.logit, half.foreground)
    )


# --- tiles ----------------------------------------------------------------------------------------


def _refined(network: TwoPlate, given: Inputs, half: Change, corners: list[Corner]) -> Matte:
    """The refined matte of some tiles, (len(corners), C, 2 * TILE, 2 * TILE)."""
    around = _inputs_of_tiles(given, corners)
    around_half = Change(*(_windows(plane, corners, 1) for plane in half))
    logit = closed(around.keyed_alpha) + twice(around_half.logit)
    x = refiner_inputs(around, around_half, opened(logit))
    inside = _inside(half, corners)
    fine = functional.pixel_shuffle(network.refiner.inner(_trimmed(x, 1), inside), 2).float()
    # Back to the tiles themselves.
    tiles = Inputs(*(p if p.shape[2] == 1 else _trimmed(p, 2 * _MARGIN) for p in around))
    colour = _trimmed(twice(around_half.foreground), 2 * _MARGIN)
    logit = network.refiner.added(_trimmed(logit, 2 * _MARGIN), fine)
    return clamped(finished(tiles, logit, colour, fine[:, 1:]))


def _inputs_of_tiles(given: Inputs, corners: list[Corner]) -> Inputs:
    """What the refiner is told of; the planes that only the coarse net looks at stay away."""
    nothing = torch.zeros((1, 1, 1, 1), device=given.plate.device)
    return given._replace(
        plate=_windows(given.plate, corners, 2),
        clean_plate=_windows(given.clean_plate, corners, 2),
        keyed_alpha=_windows(given.keyed_alpha, corners, 2),
        keyed_foreground=_windows(given.keyed_foreground, corners, 2),
        alpha_hint=nothing,
        outside=nothing,
    )


def _windows(plane: Tensor, corners: list[Corner], scale: int) -> Tensor:
    """The tiles of a plane (1, C, H, W) with their margins; the frame's edge is repeated."""
    size, margin = TILE * scale, _MARGIN * scale
    height, width = plane.shape[2:]
    cut = []
    for corner in corners:
        (top, above, below), (left, before, behind) = (
            _overhang(place * scale - margin, size + 2 * margin, length)
            for place, length in zip(corner, (height, width))
        )
        bottom = top + size + 2 * margin - above - below
        right = left + size + 2 * margin - before - behind
        part = plane[:, :, top:bottom, left:right]
        if above or below or before or behind:
            part = functional.pad(part, (before, behind, above, below), mode="replicate")
        cut.append(part)
    return torch.cat(cut)


def _overhang(start: int, size: int, length: int) -> tuple[int, int, int]:
    """Where a window begins inside of 0..length, and what of it lies before and behind that."""
    return max(0, start), max(0, -start), max(0, start + size - length)


def _inside(half: Change, corners: list[Corner]) -> Tensor | None:
    """1 where the groups that the refiner sees of each tile lie in the frame, (N, 1, S, S); None
    where all of them do."""
    reach, (height, width) = REFINER_REACH, half.logit.shape[2:]
    if all(
        reach <= top <= height - TILE - reach and reach <= left <= width - TILE - reach
        for top, left in corners
    ):
        return None
    device = half.logit.device
    line = torch.arange(-reach, TILE + reach, device=device)
    tops, lefts = torch.tensor(corners, device=device).T[:, :, None]
    rows, columns = tops + line, lefts + line
    within = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None
    ]
    return within[:, None].float()


def _put(matte: Matte, tiles: Matte, corners: list[Corner]) -> None:
    """The tiles into the frame; what hangs over its edge is left out."""
    for whole, parts in zip(matte, tiles):
        for part, (top, left) in zip(parts, corners):
            place = whole[0, :, 2 * top : 2 * (top + TILE), 2 * left : 2 * (left + TILE)]
            place.copy_(part[:, : place.shape[1], : place.shape[2]])


def _trimmed(planes: Tensor, margin: int) -> Tensor:
    return planes[:, :, margin:-margin, margin:-margin]


def _rows(given: Inputs, rows: slice) -> Inputs:
    """Some rows of every plane; flags are a single pixel, and stay."""
    return Inputs(*(p if p.shape[2] == 1 else p[:, :, rows] for p in given))
