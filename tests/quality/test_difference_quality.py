"""The classical keyer against true alpha, on composites drawn here (see `composites`).

Figures are mean absolute alpha errors in thousandths. The bounds hold the engine where it is, with
a fifth to spare; they are far above what real footage shows, because a third of these subjects are
strands, veils and rods and every seventh set is dark. The `similar` kind is extreme on purpose.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from mattebridge.alignment import match_clean_plate
from mattebridge.models.base import ModelInput, no_checkpoint
from mattebridge.models.registry import Registry
from quality.composites import (
    BLENDS,
    KINDS,
    Composite,
    alpha_error,
    composite,
    difference_key,
    foreground_error,
    soft_error,
)

PER_KIND = 2
LONG_SIDE = 480


class Result(NamedTuple):
    """Errors of one frame, and those of the plain key on the same matched clean plate."""

    frame: Composite
    alpha: float
    soft: float
    foreground: float
    key: float
    key_soft: float


@pytest.fixture(scope="module")
def results() -> list[Result]:
    model = Registry().make("difference")
    return [
        judged(model, composite(kind, number, blend=blend, long_side=LONG_SIDE))
        for kind in KINDS
        for number in range(PER_KIND)
        for blend in BLENDS
    ]


def matched_input(model, plate: np.ndarray, frame: Composite) -> ModelInput:
    match = match_clean_plate(plate, frame.clean_plate, alignment="auto")
    return ModelInput(
        plate=plate,
        clean_plate=match.clean_plate,
        alpha_hint=None,
        outside=match.outside,
        scene_linear=frame.blend == "linear",
        settings=model.settings_schema.validate({}, model=model.name),
    )


def matted(model, plate: np.ndarray, frame: Composite) -> np.ndarray:
    return model.matte(matched_input(model, plate, frame), no_checkpoint).alpha


def judged(model, frame: Composite) -> Result:
    given = matched_input(model, frame.plate, frame)
    made = model.matte(given, no_checkpoint)
    key = difference_key(frame.plate, given.clean_plate)
    return Result(
        frame,
        alpha_error(made.alpha, frame.alpha),
        soft_error(made.alpha, frame.alpha),
        foreground_error(made.foreground, frame),
        alpha_error(key, frame.alpha),
        soft_error(key, frame.alpha),
    )


def mean(results: list[Result], field: str, **chosen: str) -> float:
    """Mean of one error over the frames whose kind or blend is as chosen."""
    values = [
        getattr(result, field)
        for result in results
        if all(getattr(result.frame, name) == value for name, value in chosen.items())
    ]
    return float(np.mean(values))


# Measured, with a fifth to spare.
LARGEST_BY_KIND = {
    "clean": 22.0,
    "shadow": 92.0,
    "drift": 50.0,
    "similar": 65.0,
    "noisy": 69.0,
    "motion": 23.0,
}
LARGEST_FOREGROUND = 7.4
# The goal is 2 on the sample shot; strands and veils of these composites are all edge.
LARGEST_CHANGE = 3.0
GRAIN = 0.008


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stays_within_its_bound_and_beats_the_plain_key(results, kind) -> None:
    assert mean(results, "alpha", kind=kind) < LARGEST_BY_KIND[kind]
    assert mean(results, "alpha", kind=kind) < 0.75 * mean(results, "key", kind=kind)


@pytest.mark.parametrize("blend", BLENDS)
def test_edges_are_better_than_the_plain_keys_in_both_blends(results, blend) -> None:
    assert mean(results, "soft", blend=blend) < 0.85 * mean(results, "key_soft", blend=blend)


def test_the_subjects_colour_is_found(results) -> None:
    assert mean(results, "foreground") < LARGEST_FOREGROUND


@pytest.mark.parametrize("blend", BLENDS)
def test_a_still_picture_with_fresh_grain_hardly_changes_its_matte(blend) -> None:
    model = Registry().make("difference")
    frame = composite("clean", 0, blend=blend, long_side=LONG_SIDE)
    alphas = []
    for seed in (1, 2):
        grain = np.random.default_rng(seed).normal(0, GRAIN, frame.plate.shape)
        plate = np.clip(frame.plate + grain, 0, 1).astype(np.float32)
        alphas.append(matted(model, plate, frame))
    assert np.abs(alphas[0] - alphas[1]).mean() * 1e3 < LARGEST_CHANGE
