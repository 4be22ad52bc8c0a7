"""The network as it is run: the published numbers in less time, and in the memory there is.

    encoder (float32 or half) --> folded decoders --> coarse logits, float32 --> refiner, float32

The refiner works on the whole frame where that fits, else in tiles (`tiles`), in the order of
`WAYS`. On the CPU its maps are laid out channels last, which halves its time there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.greenformer.decoder import FoldedDecoders, enlarged
from mattebridge.models.greenformer.encoder import Encoder
from mattebridge.models.greenformer.network import Greenformer
from mattebridge.models.greenformer.refiner import Refiner
from mattebridge.models.greenformer.tiles import (
    refined_by_layers,
    refined_by_prefix,
    refined_whole,
)
from mattebridge.models.memory import is_exhausted
from mattebridge.models.pytorch.threads import in_one_way, sigmoid

FULL_FRAME, BY_LAYERS, BY_PREFIX, OFF = "full_frame", "tiled_layers", "tiled_prefix", "off"
# From the quickest, which needs the most memory, to the slowest.
WAYS = (FULL_FRAME, BY_LAYERS, BY_PREFIX)
# Position tables that are kept, by size: those that are offered.
MOST_TABLES = 4


class Made(NamedTuple):
    """The result of one frame: logits (1, 4, S, S) float32, alpha first, and the way taken."""

    logits: Tensor
    way: str


class FastGreenformer:
    """A network with its weights, in one precision; it keeps the position tables of a few sizes."""

    def __init__(self, network: Greenformer, dtype: torch.dtype = torch.float32) -> None:
        """dtype: of the encoder's blocks and the decoders' large layers; the rest is float32."""
        self.dtype = dtype
        self._encoder = network.encoder
        if dtype != torch.float32:
            self._encoder = _with_half_blocks(network, dtype)
        self._decoders = FoldedDecoders(network.alpha_decoder, network.fg_decoder, dtype)
        self._refiner = network.refiner
        self._tables: dict[int, Tensor] = {}

    @property
    def memory_bytes(self) -> int:
        """Of what this one adds to the network: half weights, folded decoders, tables."""
        blocks = self._encoder.model.blocks.parameters() if self.dtype != torch.float32 else ()
        held = (*blocks, *self._tables.values())
        return self._decoders.memory_bytes + sum(int(tensor.nbytes) for tensor in held)

    def __call__(
        self, x: Tensor, ways: Sequence[str], scale: float, checkpoint: Checkpoint
    ) -> Made:
        """The logits of `network_input`.

        ways: of the refiner, from the first that is tried to the last; none: without it.
        """
        maps = self._encoder(x, self._table(x.shape[-1]), checkpoint)
        checkpoint("decoders")
        logits = enlarged(self._decoders(maps), x.shape[-2:]).contiguous()
        del maps
        if not ways or not scale:
            return Made(logits, OFF)
        seen = torch.cat([x[:, :3], sigmoid(logits)], dim=1)
        way, change = _refined(self._refiner, seen, ways, checkpoint)
        return Made(logits.add_(change, alpha=scale), way)

    def _table(self, size: int) -> Tensor:
        if size not in self._tables:
            if len(self._tables) == MOST_TABLES:
                del self._tables[next(iter(self._tables))]
            # In main memory until it is interpolated: a checkpoint's own has 117 MB.
            table = self._encoder.model.table_for(size)
            self._tables[size] = table.to(self._refiner.final.weight.device)
        return self._tables[size]


def on_device(network: Greenformer, device: torch.device) -> Greenformer:
    """The network on a device, but its table of positions, of which little is needed at a time."""
    table = network.encoder.model.pos_embed
    network.encoder.model.pos_embed = torch.nn.Parameter(torch.empty(0), requires_grad=False)
    network = in_one_way(network.to(device))
    network.encoder.model.pos_embed = table
    return network


def _with_half_blocks(network: Greenformer, dtype: torch.dtype) -> Encoder:
    """The encoder with its blocks in another type; patch layer and table are shared."""
    encoder = copy.copy(network.encoder)
    encoder._modules = dict(encoder._modules)
    model = copy.copy(encoder.model)
    model._modules = {**model._modules, "blocks": copy.deepcopy(model.blocks).to(dtype)}
    encoder._modules["model"] = model
    return encoder


def _refined(
    refiner: Refiner, seen: Tensor, ways: Sequence[str], checkpoint: Checkpoint
) -> tuple[str, Tensor]:
    """The way that was possible, and the change of the logits; the error of the last one."""
    if seen.device.type == "cpu":
        seen = seen.to(memory_format=torch.channels_last)
    for way in ways[:-1]:
        try:
            return way, REFINE[way](refiner, seen, checkpoint)
        except RuntimeError as error:
            if not is_exhausted(error):
                raise
    return ways[-1], REFINE[ways[-1]](refiner, seen, checkpoint)


REFINE = {
    FULL_FRAME: refined_whole,
    BY_LAYERS: refined_by_layers,
    BY_PREFIX: refined_by_prefix,
}
