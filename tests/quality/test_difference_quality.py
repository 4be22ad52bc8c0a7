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


def judged(model, frame: Composite) -> Result:
    match = match_clean_plate(frame.plate, frame.clean_plate, alignment="auto")
    given = ModelInput(
        plate=frame.plate,
        clean_plate=match.clean_plate,
        alpha_hint=None,
        outside=match.outside,
        scene_linear=frame.blend == "linear",
        settings=model.settings_schema.validate({}, model=model.name),
    )
    made = model.matte(given, no_checkpoint)
    key = difference_key(frame.plate, match.clean_plate)
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
