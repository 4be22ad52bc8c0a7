"""A small network of `twoplate` with random weights, for tests of what is around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch

from mattebridge.models.twoplate.network import TwoPlate


def random_state(change: Callable[[TwoPlate], None]) -> dict[str, torch.Tensor]:
    """The state of one whose refiner does something, changed as a test needs it, with the same
    random numbers each time."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        network = TwoPlate((8, 8, 8), 8)
        torch.nn.init.normal_(network.refiner.leave.weight, 0, 0.05)
        change(network)
    return network.state_dict()


def _be_sure(network: TwoPlate) -> None:
    network.coarse.last[1].bias[-1] -= 6  # else it doubts every tile


@lru_cache(maxsize=1)
def weights() -> dict[str, torch.Tensor]:
    """Of one that doubts a few tiles."""
    return random_state(_be_sure)
