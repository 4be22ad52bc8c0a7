"""Weights and a plate pair made from a rule, so that golden outputs need no checkpoint.

`tests/golden/background_matting/*.npz` hold what the published networks gave for exactly these.
Every entry of a state dict takes its values from its own name: PCG64 seeded by the name's CRC-32.
"""

from __future__ import annotations

import zlib
from functools import cache

import numpy as np
import torch

# Factors that keep the sums of a deep network in range and alpha away from its clamps:
# (beginning of the name, end of the name, factor).
SCALED = (
    ("backbone.", "bn3.weight", 0.3),
    ("decoder.", "conv4.weight", 0.15),
    ("decoder.", "conv4.bias", 0.05),
    ("refiner.", "conv4.weight", 0.3),
    ("refiner.", "conv4.bias", 0.05),
)
# What is then added to single entries: alpha in the middle, some error everywhere.
RAISED = {"decoder.conv4.bias": {0: 0.5, 4: 0.25}, "refiner.conv4.bias": {0: 0.5}}


def generated_state(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Values for every entry of `state`, by name and shape alone; shared, so not to be changed."""
    return {name: _generated(name, tuple(tensor.shape)) for name, tensor in state.items()}


@cache
@torch.inference_mode(False)
def _generated(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    values = _drawn(name, shape)
    for beginning, end, factor in SCALED:
        if name.startswith(beginning) and name.endswith(end):
            values = factor * values
    for index, amount in RAISED.get(name, {}).items():
        values[index] += amount
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def _drawn(name: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode("utf-8"))))
    if name.endswith("running_var"):
        return 0.75 + 0.5 * rng.random(shape)
    noise = rng.standard_normal(shape)
    if name.endswith("running_mean"):
        return 0.05 * noise
    if len(shape) > 1:
        return noise * np.sqrt(2.0 / np.prod(shape[1:]))
    return (1.0 if name.endswith("weight") else 0.0) + 0.1 * noise


def plate_pair(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A soft blob over smooth colour ramps, and the ramps alone: RGB 0..1, (1, 3, H, W) each."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    u, v = (x + 0.5) / width, (y + 0.5) / height
    ripples = np.sin(6 * np.pi * u) * np.cos(4 * np.pi * v)
    clean = np.stack([0.25 + 0.5 * u, 0.65 - 0.4 * v, 0.3 + 0.2 * ripples])
    radius = np.sqrt(((u - 0.45) / 0.22) ** 2 + ((v - 0.55) / 0.33) ** 2)
    alpha = np.clip((1.15 - radius) / 0.3, 0, 1)
    stripes = np.abs(np.sin(20 * u + 13 * v))
    subject = np.stack([0.8 - 0.3 * v, 0.35 + 0.3 * u, 0.2 + 0.3 * stripes])
    plate = alpha * subject + (1 - alpha) * clean
    return _batch_of_one(plate), _batch_of_one(clean)


def _batch_of_one(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.astype(np.float32))[None]
