"""The state of a run on disk: enough to continue with the next step, in files of moderate size.

    RUN/state/  run.json  weights, average, momentum, variance (.safetensors)
    RUN/best.safetensors  RUN/log.csv  RUN/curve.png

A new state is written beside the old one and replaces it in two renames. A run that is killed
between them still finds one of the two.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from training.plan import Plan

_STATE, _NEW, _OLD = "state", "state.new", "state.old"


@dataclass
class Progress:
    """How far a run has got.

    samples: shots trained on. seconds: of training, without evaluation and saving. first_group and
    next_group: the groups that the pool held. best, best_step: the lowest validation score and its
    step. calls: how often the run was started or resumed.
    """

    step: int = 0
    samples: int = 0
    seconds: float = 0.0
    first_group: int = 0
    next_group: int = 0
    best: float = float("inf")
    best_step: int = 0
    calls: int = 0
    device: str = ""
    initial: str = ""
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Snapshot:
    """The complete state of a run; tensors by name, on the CPU."""

    plan: Plan
    progress: Progress
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    momentum: dict[str, Tensor]
    variance: dict[str, Tensor]
    optimiser_steps: dict[str, int]


def save(run: Path, snapshot: Snapshot, *, small: bool = False) -> None:
    """Save the state; the old one is kept until the new one is complete.

    small: momentum and variance in bfloat16, which is enough to continue, but not bit-exact.
    """
    new, old, place = run / _NEW, run / _OLD, run / _STATE
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    for name in ("weights", "average", "momentum", "variance"):
        tensors = {key: tensor.contiguous() for key, tensor in getattr(snapshot, name).items()}
        if small and name in ("momentum", "variance"):
            tensors = {key: tensor.bfloat16() for key, tensor in tensors.items()}
        safetensors.torch.save_file(tensors, new / f"{name}.safetensors")
    text = {
        "plan": snapshot.plan.as_dict(),
        "progress": asdict(snapshot.progress),
        "optimiser_steps": snapshot.optimiser_steps,
        "torch": torch.__version__,
    }
    (new / "run.json").write_text(json.dumps(text, indent=1), encoding="utf-8")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def load(run: Path) -> Snapshot | None:
    """The saved state of a run; None if there is none."""
    place = next(
        (run / name for name in (_STATE, _OLD) if (run / name / "run.json").exists()), None
    )
    if place is None:
        return None
    text: dict[str, Any] = json.loads((place / "run.json").read_text(encoding="utf-8"))
    tensors = {
        name: safetensors.torch.load_file(place / f"{name}.safetensors")
        for name in ("weights", "average", "momentum", "variance")
    }
    return Snapshot(
        plan=Plan.from_dict(text["plan"]),
        progress=Progress(**text["progress"]),
        optimiser_steps=text["optimiser_steps"],
        **tensors,
    )
