"""An 8K frame through a BackgroundMattingV2 network in the memory that its card speaks of."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fakes.places import BRIDGE, TESTS
from mattebridge.models.background_matting.card import REFINE_BYTES_PER_PIXEL

HEIGHT, WIDTH = 4320, 7680
# Two float pictures in, alpha and foreground out.
PLANES_BYTES_PER_PIXEL = 2 * 12 + 4 + 12
# Interpreter, torch and weights.
BASE_BYTES = 1 << 30

PROGRAM = f"""
import resource
import numpy as np
import torch
from fakes.generated_weights import generated_state
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.background_matting.card import card_of
from mattebridge.models.background_matting.model import BackgroundMattingModel
from mattebridge.models.background_matting.networks import make_network
from mattebridge.models.base import ModelInput
from mattebridge.models.weights.file import WeightsRecord

settings = dict([("class", "MattingRefine"), ("backbone", "mobilenetv2"), ("kernel", 3)])
card = card_of(WeightsRecord("large", "/", "sha256:0", "background_matting", settings))
with torch.device("meta"):
    shapes = make_network("MattingRefine", "mobilenetv2").state_dict()
model = BackgroundMattingModel(card, lambda: generated_state(shapes))
model.load("cpu")
clean_plate = np.full(({HEIGHT}, {WIDTH}, 3), 0.3, np.float32)
plate = clean_plate.copy()
plate[1000:, 2000:5000] = 0.8
made = model.matte(ModelInput(plate, clean_plate, None, None, False, dict()), no_checkpoint)
assert made.alpha.shape == ({HEIGHT}, {WIDTH})
assert 0 < made.notes["refined_pixels"] <= 320_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_an_8k_frame_stays_within_what_its_card_says() -> None:
    paths = [BRIDGE, TESTS]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    allowed = HEIGHT * WIDTH * (PLANES_BYTES_PER_PIXEL + REFINE_BYTES_PER_PIXEL) + BASE_BYTES
    assert int(done.stdout) < allowed
