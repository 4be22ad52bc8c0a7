"""A plate + hint checkpoint with weights from a seed: its keys by rule, values of any size.

The keys and shapes are written out here once more, from the table of the network's parts, so that a
test can hold the network against them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
import torch

GRID = 16  # the position table of a square of 64
CHANNELS = (112, 224, 448, 896)
DEPTHS = (2, 3, 16, 3)

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def entries(grid: int = GRID) -> dict[str, tuple[int, ...]]:
    """The 367 entries of a checkpoint with their shapes, in order."""
    return dict([*_encoder(grid), *_decoder("alpha", 1), *_decoder("fg", 3), *_refiner()])


def _layer(name: str, *shape: int) -> Shapes:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _encoder(grid: int) -> Shapes:
    yield "encoder.model.pos_embed", (1, grid * grid, CHANNELS[0])
    yield from _layer("encoder.model.patch_embed.proj", CHANNELS[0], 4, 7, 7)
    widths = [CHANNELS[stage] for stage in range(4) for _ in range(DEPTHS[stage])]
    for number, out in enumerate(widths):
        width, name = widths[max(number - 1, 0)], f"encoder.model.blocks.{number}"
        yield from _layer(f"{name}.norm1", width)
        if width != out:
            yield from _layer(f"{name}.proj", out, width)
        yield from _layer(f"{name}.attn.qkv", 3 * out, width)
        yield from _layer(f"{name}.attn.proj", out, out)
        yield from _layer(f"{name}.norm2", out)
        yield from _layer(f"{name}.mlp.fc1", 4 * out, out)
        yield from _layer(f"{name}.mlp.fc2", out, 4 * out)


def _decoder(name: str, out: int) -> Shapes:
    for number in (4, 3, 2, 1):
        yield from _layer(f"{name}_decoder.linear_c{number}.proj", 256, CHANNELS[number - 1])
    yield f"{name}_decoder.linear_fuse.weight", (256, 1024, 1, 1)
    yield from _layer(f"{name}_decoder.bn", 256)
    yield f"{name}_decoder.bn.running_mean", (256,)
    yield f"{name}_decoder.bn.running_var", (256,)
    yield f"{name}_decoder.bn.num_batches_tracked", ()
    yield from _layer(f"{name}_decoder.classifier", out, 256, 1, 1)


def _refiner() -> Shapes:
    yield from _layer("refiner.stem.0", 64, 7, 3, 3)
    yield from _layer("refiner.stem.1", 64)
    for block in range(1, 5):
        for part in (1, 2):
            yield from _layer(f"refiner.res{block}.conv{part}", 64, 64, 3, 3)
            yield from _layer(f"refiner.res{block}.gn{part}", 64)
    yield from _layer("refiner.final", 4, 64, 1, 1)


@cache
@torch.inference_mode(False)
def seeded_state() -> dict[str, torch.Tensor]:
    """Values for every entry, which keep alpha away from 0 and 1; shared, so not to be changed."""
    generator = np.random.default_rng(17)
    return {name: _values(name, shape, generator) for name, shape in entries().items()}


def _values(name: str, shape: tuple[int, ...], generator: np.random.Generator) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    drawn = generator.standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(np.asarray(_scaled(name, shape, drawn), np.float32))


def _scaled(name: str, shape: tuple[int, ...], drawn: np.ndarray) -> np.ndarray:
    if name.endswith("running_var"):
        return 1 + 0.2 * np.tanh(drawn)
    if len(shape) == 1:
        return (1.0 if name.endswith("weight") else 0.0) + 0.1 * drawn
    if name.endswith("pos_embed"):
        return 0.3 * drawn
    spread = drawn * np.sqrt(2 / np.prod(shape[1:]))
    if name.endswith("classifier.weight"):
        return 0.35 * spread
    return 0.05 * spread if name == "refiner.final.weight" else spread


def flat_state(grid: int = 2, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    """Zeros for every entry, which take no memory; `changed` (dots as __) in their place."""
    state = {name: torch.zeros(()).expand(shape) for name, shape in entries(grid).items()}
    return state | {name.replace("__", "."): tensor for name, tensor in changed.items()}
