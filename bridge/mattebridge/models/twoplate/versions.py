"""The versions of the network, told by the names of their weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mattebridge.models.twoplate.gated import GatedTwoPlate
from mattebridge.models.twoplate.network import REFINER_WIDTH, WIDTHS, TwoPlate

VERSIONS: dict[str, type[TwoPlate]] = {one.version: one for one in (TwoPlate, GatedTwoPlate)}


def version_of(state: Mapping[str, Tensor]) -> str:
    """The version that weights are of; `correction` where nothing speaks for another."""
    return GatedTwoPlate.version if "refiner.gates.weight" in state else TwoPlate.version


def from_state(state: Mapping[str, Tensor]) -> TwoPlate:
    """An empty network of the version and shape that the weights have, on the meta device."""
    stages = 0
    while f"coarse.down.{stages}.0.weight" in state:
        stages += 1
    widths = tuple(len(state[f"coarse.down.{stage}.0.weight"]) for stage in range(stages))
    refiner = state.get("refiner.enter.weight")
    with torch.device("meta"):
        return VERSIONS[version_of(state)](
            widths or WIDTHS, REFINER_WIDTH if refiner is None else len(refiner)
        )
