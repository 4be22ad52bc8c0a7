"""Errors of a network and of the keyer on the validation frames, and their table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from mattebridge.clean_plate.match import match_clean_plate
from mattebridge.evaluate.metrics import Figures, mean_figures, measure
from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.grain import without_grain
from mattebridge.models.twoplate.model import grain_of
from mattebridge.models.twoplate.network import Inputs, NetworkMatte, TwoPlate, clamped
from mattebridge.models.twoplate.start import Start
from mattebridge.models.twoplate.strands import with_strands
from mattebridge_sample.composites import Composite
from mattebridge_sample.composites.shoot import BLENDS, KINDS
from training import validation
from training.canvases import seen_in_production

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
    """A frame, and the network's inputs of it after alignment and exposure fit; wide: for a version
    that takes the keyer's wider band. None of it depends on the network, so it is made once.

    seen: plate and clean plate as the network is given them.
    """

    frame: Composite
    seen: Frame
    narrow: Inputs
    wide: Inputs

    @property
    def keyed_alpha(self) -> Any:
        """The keyer's alpha, (H, W)."""
        return self.narrow.keyed_alpha[0, 0].numpy()


@torch.inference_mode()
def prepared(frame: Composite) -> Prepared:
    """The frame after alignment, exposure fit and keyer."""
    match = match_clean_plate(frame.plate, frame.clean_plate, alignment="auto", match_exposure=True)
    given = _given(frame, match.clean_plate, match.outside)
    seen = seen_in_production(given, wide=True)
    narrow = seen._replace(start=Start(seen.start.keyed))
    return Prepared(frame, seen.calm.frame, narrow.inputs(), seen.inputs())


def _given(frame: Composite, clean_plate: Any, outside: Any) -> ModelInput:
    return ModelInput(
        plate=frame.plate,
        clean_plate=clean_plate,
        alpha_hint=None,
        outside=outside,
        scene_linear=frame.blend == "linear",
        settings={},
    )


def prepared_sets(per_kind: int, *, workers: int = 0) -> dict[str, list[Prepared]]:
    """Both validation sets, ready for the network; drawn and aligned by `workers` processes."""
    sets = {name: validation.wanted(name, per_kind) for name in validation.SETS}
    jobs = [one for wanted in sets.values() for one in wanted]
    made = validation.each(_prepared_one, jobs, workers)
    by_set = {name: [p for job, p in zip(jobs, made) if job[0] == name] for name in sets}
    return {name: frames for name, frames in by_set.items() if frames}


def _prepared_one(job: validation.Wanted) -> Prepared:
    return prepared(validation.drawn(job))


def prepared_stills(
    frames: Sequence[Prepared], *, workers: int = 0
) -> list[tuple[Prepared, Prepared]]:
    """The frames of kind `clean`, each twice with different grain, ready for the network."""
    plain = [one.frame for one in frames if one.frame.kind == "clean"]
    return validation.each(_prepared_still, plain, workers)


def _prepared_still(frame: Composite) -> tuple[Prepared, Prepared]:
    first, second = (
        prepared(replace(frame, plate=validation.regrained(frame.plate, seed))) for seed in (1, 2)
    )
    return first, second


@torch.no_grad()
def change(network: TwoPlate, stills: Sequence[tuple[Prepared, Prepared]]) -> float:
    """Mean change of alpha, in thousandths, between two frames of a still picture."""
    network.eval()
    return _mean_change([(alpha_of(network, a), alpha_of(network, b)) for a, b in stills])


def keyer_change(stills: Sequence[tuple[Prepared, Prepared]]) -> float:
    """The same for the keyer."""
    return _mean_change([(a.keyed_alpha, b.keyed_alpha) for a, b in stills])


def _mean_change(alphas: Sequence[tuple[Any, Any]]) -> float:
    return float(np.mean([np.abs(first - second).mean() * 1e3 for first, second in alphas]))


@torch.no_grad()
def errors(network: TwoPlate, frames: Sequence[Prepared]) -> dict[str, float]:
    """Mean absolute error of alpha, in thousandths: by kind, of all, and of all but `similar`."""
    network.eval()
    return _by_kind(frames, [alpha_of(network, one) for one in frames])


def keyer_errors(frames: Sequence[Prepared]) -> dict[str, float]:
    """The same for the keyer."""
    return _by_kind(frames, [one.keyed_alpha for one in frames])


def _by_kind(frames: Sequence[Prepared], alphas: Sequence[Any]) -> dict[str, float]:
    by_kind: dict[str, list[float]] = {}
    for one, alpha in zip(frames, alphas):
        away = np.abs(alpha - one.frame.alpha).mean() * 1e3
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
    given = Inputs(
        *(plane.to(device) for plane in (one.wide if network.takes_wide else one.narrow))
    )
    factor = network.factor_for(*one.frame.plate.shape[:2])
    _, matte = network(given, factor)
    matte = clamped(NetworkMatte(*(plane.float() for plane in matte)))
    if network.strands_put_back:
        matte = with_strands(matte, given, factor)
    noise = grain_of(one.seen, matte.alpha[0, 0].cpu())
    return without_grain(matte, given.clean_plate, noise).alpha[0, 0].cpu().numpy()


@dataclass(frozen=True)
class Row:
    """The model's and the keyer's figures of a frame."""

    frame: Composite
    figures: Figures
    keyer: Figures


def table(rows: Sequence[Row]) -> str:
    """Figures by kind, by blend, of all frames, and of all but the kind `similar`.

    The last two columns: the keyer's mad, and the share of frames on which the model's is lower.
    """
    kinds = dict.fromkeys((*KINDS, *(row.frame.kind for row in rows)))
    groups = [(kind, [r for r in rows if r.frame.kind == kind]) for kind in kinds]
    groups += [(blend, [r for r in rows if r.frame.blend == blend]) for blend in BLENDS]
    groups.append(("all", list(rows)))
    groups.append(("without similar", [r for r in rows if r.frame.kind != "similar"]))
    names = [*(name for name, _ in _COLUMNS), "keyer", "better"]
    lines = ["kind".ljust(22) + "".join(name.rjust(9) for name in names)]
    lines += [_line(f"{name} ({len(group)})", group) for name, group in groups if group]
    return "\n".join(lines)


def _line(name: str, group: Sequence[Row]) -> str:
    means = mean_figures([row.figures for row in group]).as_dict()
    keyer = mean_figures([row.keyer for row in group]).mad
    better = float(np.mean([row.figures.mad < row.keyer.mad for row in group]))
    cells = [*(means[key] for _, key in _COLUMNS), keyer, better]
    return name.ljust(22) + "".join(("-" if v is None else f"{v:.3f}").rjust(9) for v in cells)


def measured(frame: Composite, alpha: Any, foreground: Any) -> Figures:
    return measure(alpha, frame.alpha, np.clip(foreground, 0, 1), frame.foreground)
