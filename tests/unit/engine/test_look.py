"""What the host looks at of a plate on a GPU is what the frame's own steps have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fakes.grainy_pair import given
from fakes.matting_models import registry_of
from fakes.mostly_slow import mostly_slow
from fakes.pretended_cuda import CUDA, pretended_cuda
from mattebridge.engine.engine import Engine
from mattebridge.models.base import ModelInput, ModelOutput, SmallImages
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.keyer import DifferenceModel, Small
from mattebridge.models.pytorch.frames import Frame
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 120, 200


class Recorder(DifferenceModel):
    """Keeps what it was given, in main memory, with its small images made anew."""

    def __init__(self) -> None:
        super().__init__(DIFFERENCE)
        self.pairs: list[tuple[SmallImages | None, Small, Small]] = []

    def matte(self, given: ModelInput, checkpoint: Any) -> ModelOutput:
        frame = Frame.of(given)
        self.pairs.append((given.small, Small(frame, given.small), Small(frame)))
        return super().matte(given, checkpoint)


# A clean plate as it is, one darker, one that is moved, and light above what the keyer compares.
@pytest.mark.parametrize(
    ("gain", "shift", "light"),
    mostly_slow([(1.0, 0, 1.0), (0.8, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 60.0)], several=True),
)
def test_the_keyer_is_given_the_pictures_that_it_would_fetch(
    gain: float, shift: int, light: float
) -> None:
    pair = given(HEIGHT, WIDTH)
    assert pair.clean_plate is not None
    plate, clean = np.abs(pair.plate), np.abs(np.roll(pair.clean_plate, shift, 1))
    plate[5:9, 5:9] *= light
    hint = np.zeros((HEIGHT, WIDTH, 1), np.float32)
    hint[40:100, 60:120] = 1
    planes = {"plate": plate, "clean_plate": (gain * clean).astype(np.float32), "alpha_hint": hint}
    model = Recorder()
    with pretended_cuda():
        engine = Engine(str(CUDA), registry=registry_of(model))
        for _ in range(2):
            out = {"alpha": np.empty((HEIGHT, WIDTH, 1), np.float32)}
            params = RenderParams(colorspace="linear")
            engine.matte(planes, params, model="default", out=out, clean_plate_key="shot")
    (first, *_), (seen, used, fetched) = model.pairs
    assert first is None  # its clean plate was not looked at before
    assert seen is not None
    assert (used.plate is seen.plate) == (light == 1)
    assert used.brightest == fetched.brightest
    for name in ("plate", "clean_plate", "hint", "outside"):
        one, other = getattr(used, name), getattr(fetched, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert np.array_equal(one, torch.as_tensor(other).numpy()), name
