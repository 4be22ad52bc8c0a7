"""What a run is: everything that decides its weights, written down once and kept with its state."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from training.canvases import CANVAS, GROUP


@dataclass(frozen=True)
class Plan:
    """The settings of one run; two runs of the same plan on the same kind of device are the same.

    steps: optimiser steps in all, 0 while not known (it is measured from the time to be spent).
    batch, crop: shots a step, and their side, cut from canvases of side `canvas`. window: the side
    of what the refiner sees of a crop. twin_share: of a step's shots that are twins of another of
    them, or have one. pool: canvases held. warm: canvases drawn before the first step. fresh: new
    canvases a step; all three are drawn in groups. quarter_share: of the steps that look at a
    quarter, as for large frames.
    """

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
    quarter_share: float = 0.3
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

    @property
    def twins(self) -> int:
        """Pairs of twins in a step."""
        return int(self.batch * self.twin_share / 2)

    @property
    def warm_groups(self) -> int:
        return max(1, -(-min(self.warm, self.pool) // GROUP))

    def fresh_groups(self, step: int) -> int:
        """How many new groups come after a step, so that `fresh` canvases a step do on average."""
        before, after = (int(steps * self.fresh / GROUP) for steps in (step, step + 1))
        return after - before

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
        batch=48,
        crop=384,
        window=224,
        pool=16_000,
        warm=960,
        fresh=8.0,
        learning_rate=2e-3,
        warm_up=300,
        ema=0.999,
    ),
}


def planned(changes: dict[str, Any]) -> Plan:
    """The plan of a new run: a preset (`changes["preset"]`) with the fields that were given."""
    plan = PRESETS[changes["preset"]]
    fields = {k: v for k, v in changes.items() if k in plan.as_dict() and k != "preset"}
    return replace(plan, **fields)
