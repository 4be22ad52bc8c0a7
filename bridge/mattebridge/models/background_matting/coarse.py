"""Backbone, context and decoder on the small pair, made fast: nothing is computed that is not used.

Compared with the plain forward:

- batch norms are folded into the convolutions, activations are stored channels last;
- the first convolution is linear, so it is computed for plate and clean plate separately, and the
  clean plate's part is kept while the small clean plate stays the same;
- the pooled branch of the context is the same everywhere: its part of the projection becomes a
  bias instead of a map;
- of the decoder's last convolution only alpha, residual and error are computed everywhere; the 32
  hidden features, six times as many, only in the windows that the refiner uses.

All but that last convolution may be computed in half precision; it takes the plates themselves, and
its results are refined and returned, so it stays in float32.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional

from mattebridge.models.background_matting.decoder import HIDDEN, upsample_and_join
from mattebridge.models.background_matting.networks import MattingBase
from mattebridge.models.background_matting.resize import Enlargement, axis_windows, windows
from mattebridge.models.pytorch.fold import folded
from mattebridge.models.pytorch.threads import dilation_on, in_one_way
from mattebridge.models.pytorch.weights import weights_bytes

VISIBLE = slice(0, 5)  # alpha, residual, error
# Rows of the decoder's last step at a time where it works at full size.
BAND_ROWS = 64


class _LastCleanPlate(NamedTuple):
    small: Tensor
    first: Tensor


class CoarsePass:
    """A network's backbone, context and decoder on (1, 3, h, w) plates, channels last.

    Keeps buffers between frames, so that it does one frame at a time.
    """

    def __init__(self, network: MattingBase, dtype: torch.dtype = torch.float32) -> None:
        network = in_one_way(folded(network))
        last = network.decoder.conv4
        self._all = _part(last, slice(None))
        self._visible, self._hidden = _part(last, VISIBLE), _part(last, HIDDEN)
        self._dtype = dtype
        if dtype != torch.float32:
            # Only now, so that the folded weights are rounded once.
            network = network.to(dtype)
        self._weights_bytes = weights_bytes(network)
        self.backbone, self.decoder = network.backbone, network.decoder
        *self._local, self._pooled = network.aspp.convs
        project = network.aspp.project[0]
        assert isinstance(project, nn.Conv2d)
        assert project.bias is not None
        self._project = (project.weight, project.bias)
        first = self.backbone.first_conv
        self._first_plate = _channels_last(first.weight[:, :3])
        self._first_clean = _channels_last(first.weight[:, 3:])
        self._held: Optional[_LastCleanPlate] = None
        self._joined = torch.empty(0)

    @property
    def device(self) -> torch.device:
        return self._visible[0].device

    @property
    def memory_bytes(self) -> int:
        """The memory of weights, the held clean plate and the kept buffer."""
        held = sum(int(tensor.nbytes) for tensor in self._held or ())
        return self._weights_bytes + held + int(self._joined.nbytes)

    def whole(self, plate: Tensor, clean_plate: Tensor) -> CoarseMaps:
        """The maps of the small pair, from which the refiner takes what it needs."""
        pair, half = self._to_half_size(plate, clean_plate, self._held_part(clean_plate))
        height, width = pair.shape[-2:]
        grown = functional.interpolate(half, size=(height, width), mode="bilinear")
        joined = self._joined_buffer(height, width, grown.shape[1] + pair.shape[1])
        joined[1:-1, 1:-1, : grown.shape[1]] = _rows_first(grown)
        joined[1:-1, 1:-1, grown.shape[1] :] = _rows_first(pair)
        return CoarseMaps(joined, _convolved(joined[None], *self._visible)[0], self._hidden)

    def at_once(self, plate: Tensor, clean_plate: Tensor, *, hidden: bool) -> Tensor:
        """(1, 5, h, w): alpha, residual, error; with `hidden` (1, 37, h, w), unclamped all.

        In one fixed list of steps, without a look at the data, and nothing is kept.
        """
        pair, half = self._to_half_size(plate, clean_plate, self._clean_part(clean_plate))
        weight, bias = self._all if hidden else self._visible
        return functional.conv2d(upsample_and_join(half, pair), weight, bias, padding=1)

    def in_bands(self, plate: Tensor, clean_plate: Tensor) -> Tensor:
        """(h, w, 5): alpha, residual and error; the last step is never in memory as a whole."""
        pair, half = self._to_half_size(plate, clean_plate, self._held_part(clean_plate))
        height, width = pair.shape[-2:]
        grown = Enlargement(_rows_first(half).contiguous(), height, width)
        bands = [
            self._band(grown, _rows_first(pair), top, min(top + BAND_ROWS, height))
            for top in range(0, height, BAND_ROWS)
        ]
        return torch.cat(bands)

    def _band(self, grown: Enlargement, pair: Tensor, top: int, bottom: int) -> Tensor:
        height = pair.shape[0]
        # One row more on both sides for the 3x3 convolution; zeros beyond the frame.
        above, below = max(top - 1, 0), min(bottom + 1, height)
        seen = torch.cat([grown.rows(above, below), pair[above:below]], dim=2)
        border = (0, 0, 1, 1, int(top == 0), int(bottom == height))
        return _convolved(functional.pad(seen, border)[None], *self._visible)[0]

    def _to_half_size(
        self, plate: Tensor, clean_plate: Tensor, clean_part: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Both small plates as one map of six channels, and the decoder's map, float32 both."""
        first = self.backbone.first_conv
        seen = plate.to(self._dtype)
        x = functional.conv2d(seen, self._first_plate, first.bias, first.stride, first.padding)
        pair = _channels_last(torch.cat([plate, clean_plate], dim=1))
        maps = self.backbone.after_first_conv(pair, x.add_(clean_part))
        return pair, self.decoder.to_half_size(self._context(maps[-1]), maps).float()

    def _held_part(self, clean_plate: Tensor) -> Tensor:
        held = self._held
        if held is None or not _equal(held.small, clean_plate):
            held = _LastCleanPlate(clean_plate.clone(), self._clean_part(clean_plate))
            self._held = held
        return held.first

    def _clean_part(self, clean_plate: Tensor) -> Tensor:
        conv, seen = self.backbone.first_conv, clean_plate.to(self._dtype)
        return functional.conv2d(seen, self._first_clean, None, conv.stride, conv.padding)

    def _context(self, x: Tensor) -> Tensor:
        local = torch.cat([branch(x) for branch in self._local], dim=1)
        (weight, bias), split = self._project, local.shape[1]
        everywhere = weight[:, split:].flatten(1) @ self._pooled(x).flatten()
        bias, dilation = bias + everywhere, dilation_on(local.device)
        return functional.conv2d(local, weight[:, :split], bias, dilation=dilation).relu_()

    def _joined_buffer(self, height: int, width: int, channels: int) -> Tensor:
        """(height + 2, width + 2, channels) whose border is zero and stays so."""
        size = (height + 2, width + 2, channels)
        if self._joined.shape != size:
            self._joined = self._visible[0].new_zeros(size)
        return self._joined


class CoarseMaps:
    """The results of the small pair, channels last, and hidden features where they are asked for.

    coarse: (h, w, 4), alpha 0..1 and the unclamped residual. error: (h, w), 0..1.
    """

    def __init__(self, joined: Tensor, visible: Tensor, hidden: tuple[Tensor, Tensor]) -> None:
        self._joined = joined
        self._hidden = hidden
        self._hidden_map: Optional[Tensor] = None
        self.error = visible[..., 4].clamp(0, 1)
        self.coarse = visible[..., :4].contiguous()
        self.coarse[..., 0].clamp_(0, 1)

    @property
    def size(self) -> tuple[int, int]:
        return self.coarse.shape[0], self.coarse.shape[1]

    def make_all_hidden(self) -> None:
        """Compute the hidden features everywhere: cheaper where windows overlap a lot."""
        self._hidden_map = _convolved(self._joined[None], *self._hidden)[0].relu_()

    def feature_windows(
        self, top: Tensor, left: Tensor, side: int, height: int, width: int
    ) -> Tensor:
        """(T, side, side, 36): hidden, alpha, residual of an enlargement to (height, width).

        top, left: (T,) first row and column of each window; zero outside the enlargement.
        """
        first_row, down = axis_windows(top, side, height, self.size[0])
        first_column, across = axis_windows(left, side, width, self.size[1])
        at = (first_row, first_column)
        rows, columns = down.shape[2], across.shape[2]
        small = torch.cat(
            [self._hidden_windows(*at, rows, columns), windows(self.coarse, *at, rows, columns)],
            dim=3,
        )
        tall = torch.bmm(down, small.flatten(2)).view(-1, side, columns, small.shape[3])
        return across[:, None] @ tall

    def _hidden_windows(self, top: Tensor, left: Tensor, rows: int, columns: int) -> Tensor:
        if self._hidden_map is not None:
            return windows(self._hidden_map, top, left, rows, columns)
        # The border of the joined map shifts it by one: the same start includes the neighbours.
        seen = windows(self._joined, top, left, rows + 2, columns + 2)
        return _convolved(seen, *self._hidden).relu_()


def _convolved(images: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
    """(T, h - 2, w - 2, outputs) from (T, h, w, inputs) by an unpadded 3x3 convolution."""
    result = functional.conv2d(images.permute(0, 3, 1, 2), weight, bias)
    return result.permute(0, 2, 3, 1)


def _part(conv: nn.Conv2d, outputs: slice) -> tuple[Tensor, Tensor]:
    """Weight and bias of some outputs of a convolution."""
    assert conv.bias is not None
    return _channels_last(conv.weight[outputs]), conv.bias[outputs]


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _rows_first(x: Tensor) -> Tensor:
    """(h, w, C) of a batch of one."""
    return x[0].permute(1, 2, 0)


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)
