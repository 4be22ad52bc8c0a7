"""What a colour space costs: HD frames of `background_matting` in several, against `linear`.

Method: one plate pair of light goes through the engine in each colour space, converted to it
before, with the published MobileNetV2 network (generated weights, clean plate held, foreground
`model`, results in the plate's space), in turns, in one process. Compared is the median of the
process's CPU time over the rounds, with one thread, so that other load on the machine has little
effect. The goals: `ACEScg` at most 1.05 of `linear`, HLG at most 1.2.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SPACES = ("linear", "srgb", "ACEScg", "ARRI LogC3 (EI800)", "Rec.2100-HLG - Display")
HEIGHT, WIDTH = 1080, 1920


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    # As in the daemon's workers; torch reads it when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(options.threads)
    engine, pair = _engine(), _pair()
    planes = {space: _in_space(engine, pair, space) for space in SPACES}
    taken: dict[str, list[float]] = {space: [] for space in SPACES}
    for _ in range(options.rounds + 1):
        for space in SPACES:
            taken[space].append(_cpu_s(engine, planes[space], space))
    # The first round loads the model and measures the spaces.
    medians = {space: statistics.median(times[1:]) for space, times in taken.items()}
    print("| colour space | CPU s a frame | against `linear` |\n|---|---|---|")
    for space, seconds in medians.items():
        print(f"| {space} | {seconds:.2f} | {seconds / medians['linear']:.3f} |", flush=True)


def _engine() -> Any:
    from fakes.generated_weights import generated_state
    from fakes.matting_models import registry_of
    from mattebridge.engine.engine import Engine
    from mattebridge.models.background_matting.card import FAMILY, card_of
    from mattebridge.models.background_matting.model import BackgroundMattingModel
    from mattebridge.models.background_matting.networks import MattingRefine
    from mattebridge.models.weights.file import WeightsRecord

    settings = {"class": "MattingRefine", "backbone": "mobilenetv2"}
    record = WeightsRecord("generated", "", "sha256:0", FAMILY, settings, "MIT")
    state = generated_state(MattingRefine("mobilenetv2").state_dict())
    model = BackgroundMattingModel(card_of(record), lambda: dict(state))
    return Engine(registry=registry_of(model))


def _pair() -> dict[str, np.ndarray]:
    from fakes.generated_weights import plate_pair
    from mattebridge.color import srgb_decode

    images = (image[0].permute(1, 2, 0).numpy() for image in plate_pair(HEIGHT, WIDTH))
    return dict(zip(("plate", "clean_plate"), (srgb_decode(np.asarray(i)) for i in images)))


def _in_space(engine: Any, pair: dict[str, np.ndarray], space: str) -> dict[str, np.ndarray]:
    return {role: engine.spaces.converted(light, "linear", space) for role, light in pair.items()}


def _cpu_s(engine: Any, planes: dict[str, np.ndarray], space: str) -> float:
    from mattebridge.wire.params import RenderParams

    channels = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    out = {role: np.empty((HEIGHT, WIDTH, n), np.float32) for role, n in channels.items()}
    started = time.process_time()
    params = RenderParams(colorspace=space, alignment="off")
    engine.matte(planes, params, model="default", out=out, clean_plate_key=space)
    return time.process_time() - started


if __name__ == "__main__":
    main(sys.argv[1:])
