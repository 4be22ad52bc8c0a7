"""What a network makes of validation frames, and the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mattebridge.alignment import match_clean_plate
from mattebridge.metrics import Figures, mean_figures, measure
from mattebridge.models.twoplate import TwoPlate, clamped, factor_for, inputs_of
from training import validation
from training.validation import KINDS, Frame

# Columns of the table: name, and the figure it shows.
_COLUMNS = (
    ("sad", "sad"),
    ("mad", "mad"),
    ("mse", "mse"),
    ("grad", "gradient"),
    ("conn", "connectivity"),
    ("band", "band"),
    ("fg", "foreground"),
    ("prem", "premultiplied"),
)


@dataclass(frozen=True)
class Prepared:
    """A frame with its clean plate as the engine's front end gives it; kept, it never changes."""

    frame: Frame
    clean_plate: Any
    outside: Any


def prepared(frame: Frame) -> Prepared:
    """The frame after alignment and exposure fit."""
    match = match_clean_plate(frame.plate, frame.clean_plate, alignment="auto", match_exposure=True)
    return Prepared(frame, match.clean_plate, match.outside)


def prepared_sets(per_kind: int, *, workers: int = 0) -> dict[str, list[Prepared]]:
    """Both validation sets, ready for the network; drawn and matched by that many processes."""
    sets = {name: validation.wanted(name, per_kind) for name in validation.SETS}
    jobs = [one for wanted in sets.values() for one in wanted]
    made = validation.each(_prepared_one, jobs, workers)
    by_set = {name: [p for job, p in zip(jobs, made) if job[0] == name] for name in sets}
    return {name: frames for name, frames in by_set.items() if frames}


def _prepared_one(job: validation.Wanted) -> Prepared:
    return prepared(validation.drawn(job))


@torch.no_grad()
def errors(network: TwoPlate, frames: Sequence[Prepared]) -> dict[str, float]:
    """Mean absolute error of alpha, e-3, by kind, over all, and without the similar kind."""
    network.eval()
    by_kind: dict[str, list[float]] = {}
    for one in frames:
        away = np.abs(alpha_of(network, one) - one.frame.alpha).mean() * 1e3
        by_kind.setdefault(one.frame.kind, []).append(float(away))
    means = {kind: float(np.mean(values)) for kind, values in by_kind.items()}
    every = [value for values in by_kind.values() for value in values]
    plain = [value for kind, values in by_kind.items() if kind != "similar" for value in values]
    return {
        **means,
        "all": float(np.mean(every)),
        "without_similar": float(np.mean(plain or every)),
    }


def alpha_of(network: TwoPlate, one: Prepared) -> Any:
    """The network's alpha of a prepared frame, (H, W) float32."""
    device = next(network.parameters()).device
    plate, clean = (
        torch.from_numpy(np.ascontiguousarray(p)).to(device).permute(2, 0, 1)[None].clamp(0, 1)
        for p in (one.frame.plate, one.clean_plate)
    )
    outside = None
    if one.outside is not None:
        outside = torch.from_numpy(one.outside.astype(np.float32)).to(device)[None, None]
    given = inputs_of(plate, clean, None, outside, scene_linear=one.frame.blend == "linear")
    _, matte = network(given, factor_for(*one.frame.plate.shape[:2]))
    return clamped(matte).alpha[0, 0].float().cpu().numpy()


def table(rows: Sequence[tuple[Frame, Figures]]) -> str:
    """By kind, by blend, all, and all without the similar kind."""
    groups = [(kind, [f for frame, f in rows if frame.kind == kind]) for kind in KINDS]
    groups += [
        (blend, [f for frame, f in rows if frame.blend == blend]) for blend in ("display", "linear")
    ]
    groups.append(("all", [f for _, f in rows]))
    groups.append(("without similar", [f for frame, f in rows if frame.kind != "similar"]))
    lines = ["kind".ljust(22) + "".join(name.rjust(9) for name, _ in _COLUMNS)]
    lines += [_line(f"{name} ({len(group)})", group) for name, group in groups if group]
    return "\n".join(lines)


def _line(name: str, group: Sequence[Figures]) -> str:
    means = mean_figures(list(group)).as_dict()
    cells = (means[key] for _, key in _COLUMNS)
    return name.ljust(22) + "".join(("-" if v is None else f"{v:.3f}").rjust(9) for v in cells)


def measured(frame: Frame, alpha: Any, foreground: Any) -> Figures:
    return measure(alpha, frame.alpha, np.clip(foreground, 0, 1), frame.foreground)
