"""The settings of a run that decide its weights; saved with its state."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mattebridge.models.twoplate.versions import VERSIONS
from training.canvases import CANVAS, GROUP, Drawing
from training.compose.shots import MOST_MOVED


@dataclass(frozen=True)
class Plan:
    """The settings of one run; two runs of the same plan on the same kind of device are equal.

    network: the version that is trained, a name of `twoplate.versions`.
    steps: optimiser steps in all, 0 until known (with --total-minutes they are measured).
    batch, crop: shots per step and their side; they are cut from canvases of side `canvas`.
    window: side of the part of a crop that the refiner runs on. twin_share: share of a step's
    shots that belong to a pair of twins. pool: canvases held. warm: canvases drawn before the first
    step. fresh: new canvases per step; all three are drawn in whole groups. large: share of the
    groups that are parts of frames of twice the size. quarter_share, eighth_share: shares of the
    steps in which the coarse net runs at a quarter and at an eighth of the size, as for HD and UHD.
    """

    network: str = "correction"
    seed: int = 1
    steps: int = 0
    batch: int = 8
    canvas: int = CANVAS
    crop: int = 320
    window: int = 160
    twin_share: float = 0.5
    pool: int = 1_200
    warm: int = 240
    fresh: float = 1.0
    learning_rate: float = 1.5e-3
    weight_decay: float = 1e-4
    warm_up: int = 60
    last_share: float = 0.01
    large: float = 0.0
    quarter_share: float = 0.3
    eighth_share: float = 0.0
    ema: float = 0.998
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        largest = int(self.canvas * (1 - MOST_MOVED))
        if self.twins and self.crop > largest:
            raise ValueError(
                f"crops of {self.crop} leave no room in canvases of {self.canvas} for the second "
                f"of two twins, whose subject may have moved - use crops of at most {largest}"
            )

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then a cosine to the end."""
        # While the number of steps is not known (it is measured during the warm-up), ten times the
        # warm-up stands for it.
        total = max(self.steps, 10 * self.warm_up)
        ramp = min(1.0, (step + 1) / self.warm_up)
        part = min(1.0, step / total)
        low = self.last_share
        return self.learning_rate * ramp * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part)))

    def factor(self, step: int) -> int:
        """How many times smaller the coarse net's picture is in a step."""
        drawn = np.random.default_rng([self.seed, step, 7]).random()
        if drawn < self.quarter_share:
            return 4
        return 8 if drawn < self.quarter_share + self.eighth_share else 2

    @property
    def drawing(self) -> Drawing:
        """How the canvases of the run are drawn."""
        return Drawing(self.canvas, VERSIONS[self.network].takes_wide, self.large)

    @property
    def twins(self) -> int:
        """Pairs of twins in a step."""
        return int(self.batch * self.twin_share / 2)

    @property
    def warm_groups(self) -> int:
        return max(1, -(-min(self.warm, self.pool) // GROUP))

    def fresh_groups(self, step: int) -> int:
        """New groups to take after a step: on average `fresh` canvases per step."""
        before, after = (int(steps * self.fresh / GROUP) for steps in (step, step + 1))
        return after - before

    def decay(self, step: int) -> float:
        """Decay of the weights' moving average: low at first, to forget the initial weights."""
        return min(self.ema, 1 - 1 / (0.2 * step + 2))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        return cls(**{**values, "widths": tuple(values.get("widths", ()))})

    def lasting(self, steps: int) -> Plan:
        return replace(self, steps=steps)


# For two cores over hours, and for a datacentre GPU with 16 cores over minutes.
_NEXT = Plan(network="gated", quarter_share=0.4, eighth_share=0.2)
PRESETS = {
    "cpu": replace(_NEXT, canvas=640, crop=320, window=160, pool=600, large=0.15),
    "gpu": replace(
        _NEXT,
        canvas=1024,
        batch=32,
        crop=512,
        window=256,
        pool=2_000,
        warm=210,
        fresh=2.0,
        large=0.15,
        learning_rate=2e-3,
        warm_up=200,
        ema=0.999,
    ),
}


def planned(changes: dict[str, Any]) -> Plan:
    """The plan of a new run: a preset (`changes["preset"]`) with the fields that were given."""
    plan = PRESETS[changes["preset"]]
    fields = {k: v for k, v in changes.items() if k in plan.as_dict() and k != "preset"}
    return replace(plan, **fields)
