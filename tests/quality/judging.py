"""What a model makes of the composites, and the figures that the tests of this folder bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mattebridge.checkpoint import no_checkpoint
from mattebridge.clean_plate.match import CleanPlateMatch, match_clean_plate
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


def judged_set(models: Sequence[MattingModel]) -> list[list[Result]]:
    """The errors of each loaded model on the set: two frames of each kind in each blend.

    Every frame is drawn once, and its clean plate matched once, for all of them.
    """
    frames = (
        composite(kind, number, blend=blend, long_side=LONG_SIDE)
        for kind in KINDS
        for number in range(PER_KIND)
        for blend in BLENDS
    )
    return [list(of_one) for of_one in zip(*(judged(models, frame) for frame in frames))]


def change_of_a_still(model: MattingModel, blend: str) -> float:
    """How much alpha changes, e-3, between two pictures that differ by fresh grain only."""
    frame = composite("clean", 0, blend=blend, long_side=LONG_SIDE)
    alphas = []
    for seed in (1, 2):
        grain = np.random.default_rng(seed).normal(0, GRAIN_SIGMA, frame.plate.shape)
        plate = np.clip(frame.plate + grain, 0, 1).astype(np.float32)
        given = model_input(model, frame, plate, matched(plate, frame))
        alphas.append(model.matte(given, no_checkpoint).alpha)
    return float(np.abs(alphas[0] - alphas[1]).mean() * 1e3)


def matched(plate: np.ndarray, frame: Composite) -> CleanPlateMatch:
    """The clean plate of a frame, fitted to a plate of it."""
    return match_clean_plate(plate, frame.clean_plate, alignment="auto")


def model_input(
    model: MattingModel, frame: Composite, plate: np.ndarray, match: CleanPlateMatch
) -> ModelInput:
    """What a model is given of a frame, with its own default settings."""
    return ModelInput(
        plate=plate,
        clean_plate=match.clean_plate,
        alpha_hint=None,
        outside=match.outside,
        scene_linear=frame.blend == "linear",
        settings=model.settings_schema.validate({}, model=model.name),
    )


def judged(models: Sequence[MattingModel], frame: Composite) -> list[Result]:
    """The errors of each model on one frame."""
    match = matched(frame.plate, frame)
    key = metrics.difference_key(frame.plate, match.clean_plate)
    results = []
    for model in models:
        made = model.matte(model_input(model, frame, frame.plate, match), no_checkpoint)
        results.append(
            Result(
                frame.kind,
                frame.blend,
                metrics.mad(made.alpha, frame.alpha),
                metrics.band_error(made.alpha, frame.alpha),
                metrics.foreground_mse(made.foreground, frame.foreground, frame.alpha),
                metrics.mad(key, frame.alpha),
                metrics.band_error(key, frame.alpha),
            )
        )
    return results


def mean(results: Sequence[Result], field: str, **chosen: str) -> float:
    """Mean of one error over the frames whose kind or blend is as chosen."""
    values = [
        getattr(result, field)
        for result in results
        if all(getattr(result, name) == value for name, value in chosen.items())
    ]
    return float(np.mean(values))
