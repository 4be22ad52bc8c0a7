"""A small network of `twoplate` with random weights, for tests of what is around it."""

from __future__ import annotations

from functools import lru_cache

import torch

from mattebridge.models.twoplate.network import TwoPlate


@lru_cache(maxsize=1)
def weights() -> dict[str, torch.Tensor]:
    """Its refiner does something, and it doubts a few tiles."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = TwoPlate((8, 8, 8), 8)
        torch.nn.init.normal_(network.refiner.leave.weight, 0, 0.05)
        with torch.no_grad():
            network.coarse.last[1].bias[-1] -= 6  # else it doubts every tile
    return network.state_dict()
