"""Random values for the shots of a batch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


class Dice:
    """Random values for one batch: one per shot, or noise for every pixel."""

    def __init__(self, seed: int, step: int, count: int, device: str | torch.device) -> None:
        self.rng = np.random.default_rng([seed, step, 99])
        self.count = count
        self.device = torch.device(device)
        self._noise = torch.Generator(self.device)
        self._noise.manual_seed(int(self.rng.integers(2**62)))

    def tensor(self, values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)

    def uniform(self, low: float, high: float, *, of: int = 1) -> Tensor:
        """(N, of, 1, 1)."""
        return self._shaped(self.rng.uniform(low, high, (self.count, of)))

    def normal(self, sigma: float, *, of: int = 1) -> Tensor:
        return self._shaped(self.rng.normal(0, sigma, (self.count, of)))

    def log_uniform(self, low: float, high: float, *, of: int = 1) -> Tensor:
        return self._shaped(
            np.exp(self.rng.uniform(math.log(low), math.log(high), (self.count, of)))
        )

    def chance(self, probability: float | np.ndarray) -> Tensor:
        """1 or 0 per shot, (N, 1, 1, 1)."""
        return self._shaped((self.rng.random((self.count, 1)) < probability).astype(np.float32))

    def some(self, probability: float) -> Tensor | None:
        """The indices of a random part of the shots; None if it is empty."""
        chosen = np.nonzero(self.rng.random(self.count) < probability)[0]
        return torch.from_numpy(chosen).to(self.device) if len(chosen) else None

    def once(self, probability: float) -> bool:
        """One decision for the whole batch."""
        return bool(self.rng.random() < probability)

    def noise(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal noise."""
        return torch.randn(shape, generator=self._noise, device=self.device)

    def sub(self, count: int) -> Dice:
        """Dice for a part of the batch, with the same generators."""
        other = object.__new__(Dice)
        other.rng, other.count = self.rng, count
        other.device, other._noise = self.device, self._noise
        return other

    def _shaped(self, values: np.ndarray) -> Tensor:
        return self.tensor(values)[:, :, None, None]
