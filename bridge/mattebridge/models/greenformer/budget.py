"""What fits: the size of the network's square, and the way of its refiner, by free memory.

The needs are for each pixel of the square; all parts of the network grow with its area. They are
measured peaks on the CPU in float32, rounded up; half precision needs less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch

from mattebridge.models.greenformer.fast import BY_LAYERS, BY_PREFIX, FULL_FRAME
from mattebridge.wire import oslayer

# Those that are offered, from the best.
SIZES = (2048, 1536, 1024, 512)
CPU_SIZE = 512
# The encoder and the decoders, before the refiner starts.
CORE_BYTES_PER_PIXEL = 760
REFINER_BYTES_PER_PIXEL = {FULL_FRAME: 1100, BY_LAYERS: 900}
# Of tiles, whatever the square.
TILE_BYTES = 400 << 20
# What may be used of the memory that is free: libraries need some beyond the tensors.
SHARE = 0.8
# The ways of the refiner by its setting, in the order in which they are tried.
WAYS = {
    "auto": (FULL_FRAME, BY_LAYERS, BY_PREFIX),
    "full_frame": (FULL_FRAME,),
    "tiled": (BY_LAYERS, BY_PREFIX),
    "off": (),
}


def free_bytes(device: torch.device) -> Optional[int]:
    """The memory that a device has left; None where that is not known."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    layer = oslayer.find() if device.type == "cpu" else None
    return None if layer is None else layer.available_memory_bytes()


def size_for(device: torch.device) -> int:
    """The largest size whose need fits; the smallest on the CPU, and where nothing is known."""
    free = free_bytes(device) if device.type == "cuda" else None
    if free is None:
        return CPU_SIZE
    return next((size for size in SIZES if _need(size, BY_LAYERS) <= SHARE * free), SIZES[-1])


def ways_for(refiner: str, size: int, device: torch.device) -> Sequence[str]:
    """The ways of the refiner to try; the last one is tried whether it fits or not."""
    ways, free = WAYS[refiner], free_bytes(device)
    if free is None or not ways:
        return ways
    fitting = [way for way in ways if _need(size, way) <= SHARE * free]
    return fitting or ways[-1:]


def _need(size: int, way: str) -> int:
    refiner = REFINER_BYTES_PER_PIXEL.get(way)
    pixels = size * size
    if refiner is None:
        return CORE_BYTES_PER_PIXEL * pixels + TILE_BYTES
    return max(CORE_BYTES_PER_PIXEL, refiner) * pixels + TILE_BYTES
