"""The known pair of pictures with grain, as a model is given it."""

from __future__ import annotations

import dataclasses

import numpy as np

from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.known_pair import known_pair


def given(height: int, width: int, **others: object) -> ModelInput:
    """The known pair with some grain: a part of the tiles has nothing unsure in it."""
    rng = np.random.default_rng(height + width)
    plate, clean_plate = (
        (image.numpy() + 0.004 * rng.standard_normal((height, width, 3))).astype(np.float32)
        for image in known_pair(height, width)
    )
    frame = ModelInput(plate, clean_plate, None, None, False, {})
    return dataclasses.replace(frame, **others)  # type: ignore[arg-type]
