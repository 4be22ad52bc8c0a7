"""What a run is: everything that decides its weights, written down once and kept with its state."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Plan:
    """The settings of one run; two runs of the same plan on the same kind of device are the same.

    steps: optimiser steps in all, 0 while not known (it is measured from the time to be spent).
    refine_from: share of the steps after which the refiner takes part. pool: layer pairs held.
    warm: pairs drawn before the first step. fresh: new pairs a step.
    """

    seed: int = 1
    steps: int = 0
    batch: int = 8
    canvas: int = 512
    crop: int = 256
    pool: int = 400
    warm: int = 64
    fresh: int = 1
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warm_up: int = 100
    last_share: float = 0.01
    refine_from: float = 0.3
    quarter_share: float = 0.2
    ema: float = 0.998
    widths: tuple[int, ...] = ()

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, then a cosine to the end."""
        # Before the length is known only the warm-up runs.
        total = max(self.steps, 10 * self.warm_up)
        ramp = min(1.0, (step + 1) / self.warm_up)
        part = min(1.0, step / total)
        low = self.last_share
        return self.learning_rate * ramp * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part)))

    def refines(self, step: int) -> bool:
        return step >= self.refine_from * max(self.steps, 10 * self.warm_up)

    def decay(self, step: int) -> float:
        """Of the moving average: short at first, so that it does not remember the beginning."""
        return min(self.ema, 1 - 1 / (0.2 * step + 2))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Plan:
        return cls(**{**values, "widths": tuple(values.get("widths", ()))})

    def lasting(self, steps: int) -> Plan:
        return replace(self, steps=steps)


# For two cores over hours, and for a datacentre GPU with 16 cores over minutes.
PRESETS = {
    "cpu": Plan(),
    "gpu": Plan(
        batch=64,
        crop=512,
        pool=16_000,
        warm=384,
        fresh=2,
        warm_up=300,
        refine_from=0.0,
        ema=0.999,
    ),
}
