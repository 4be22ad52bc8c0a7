"""What a model makes of the composites, and the figures that the tests of this folder bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mattebridge.checkpoint import no_checkpoint
from mattebridge.clean_plate.match import match_clean_plate
from mattebridge.evaluate import metrics
from mattebridge.models.base import MattingModel, ModelInput
from mattebridge_sample.composites import Composite, composite
from mattebridge_sample.composites.shoot import BLENDS, GRAIN_SIGMA, KINDS

PER_KIND = 2
LONG_SIDE = 480


class Result(NamedTuple):
    """Errors of one frame, e-3, and those of the plain key on the same matched clean plate."""

    kind: str
    blend: str
    alpha: float
    soft: float
    foreground: float
    key: float
    key_soft: float


def judged_set(model: MattingModel) -> list[Result]:
    """The errors of a loaded model on the set: two frames of each kind in each blend."""
    return [
        judged(model, composite(kind, number, blend=blend, long_side=LONG_SIDE))
        for kind in KINDS
        for number in range(PER_KIND)
        for blend in BLENDS
    ]


def change_of_a_still(model: MattingModel, blend: str) -> float:
    """How much alpha changes, e-3, between two pictures that differ by fresh grain only."""
    frame = composite("clean", 0, blend=blend, long_side=LONG_SIDE)
    alphas = []
    for seed in (1, 2):
        grain = np.random.default_rng(seed).normal(0, GRAIN_SIGMA, frame.plate.shape)
        plate = np.clip(frame.plate + grain, 0, 1).astype(np.float32)
        alphas.append(model.matte(matched_input(model, plate, frame), no_checkpoint).alpha)
    return float(np.abs(alphas[0] - alphas[1]).mean() * 1e3)


def matched_input(model: MattingModel, plate: np.ndarray, frame: Composite) -> ModelInput:
    match = match_clean_plate(plate, frame.clean_plate, alignment="auto")
    return ModelInput(
        plate=plate,
        clean_plate=match.clean_plate,
        alpha_hint=None,
        outside=match.outside,
        scene_linear=frame.blend == "linear",
        settings=model.settings_schema.validate({}, model=model.name),
    )


def judged(model: MattingModel, frame: Composite) -> Result:
    given = matched_input(model, frame.plate, frame)
    made = model.matte(given, no_checkpoint)
    key = metrics.difference_key(frame.plate, given.clean_plate)
    return Result(
        frame.kind,
        frame.blend,
        metrics.mad(made.alpha, frame.alpha),
        metrics.band_error(made.alpha, frame.alpha),
        metrics.foreground_mse(made.foreground, frame.foreground, frame.alpha),
        metrics.mad(key, frame.alpha),
        metrics.band_error(key, frame.alpha),
    )


def mean(results: Sequence[Result], field: str, **chosen: str) -> float:
    """Mean of one error over the frames whose kind or blend is as chosen."""
    values = [
        getattr(result, field)
        for result in results
        if all(getattr(result, name) == value for name, value in chosen.items())
    ]
    return float(np.mean(values))
