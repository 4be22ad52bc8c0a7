"""What a colour space costs: HD frames of `background_matting` in several, against `linear`.

Method: one plate pair of light goes through the engine in each colour space, converted to it
before, with the published MobileNetV2 network (generated weights, clean plate held, foreground
`model`, results in the plate's space), in turns, in one process. Compared is the median over the
rounds, of the process's CPU time, on which other load on the machine has little effect, and of the
time that passes. Generated weights give noise as alpha, with six soft pixels in ten; in its place
is the matte of a disc, a quarter of the frame, with six in a hundred. The looks are a 3-D table of
33 and a camera's log. `--host` asks for `premultiplied` alone, as the plugin does.

The goals, on two cores: `ACEScg` at most 1.05 of `linear`, a cube at most 1.2.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

SPACES = ("linear", "srgb", "ACEScg", "ARRI LogC3 (EI800)", "Rec.2100-HLG - Display")
CUBES = ("look linear", "look tetrahedral")
HEIGHT, WIDTH = 1080, 1920


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--host", action="store_true")
    options = parser.parse_args(arguments)
    # As in the daemon's workers; torch reads it when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(options.threads)
    channels = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    if options.host:
        channels = {"premultiplied": 4}
    with tempfile.TemporaryDirectory() as folder:
        runs = _runs(Path(folder), channels)
        taken: dict[str, list[tuple[float, float]]] = {space: [] for space in runs}
        for _ in range(options.rounds + 1):
            for space, run in runs.items():
                taken[space].append(_seconds(run))
    # The first round loads the model and measures the spaces.
    medians = {
        space: [statistics.median(times) for times in zip(*pairs[1:])]
        for space, pairs in taken.items()
    }
    print("| colour space | CPU s | against `linear` | s | against `linear` |")
    print("|---|---|---|---|---|")
    for space, (cpu_s, wall_s) in medians.items():
        of_cpu, of_wall = (a / b for a, b in zip((cpu_s, wall_s), medians["linear"]))
        print(f"| {space} | {cpu_s:.2f} | {of_cpu:.3f} | {wall_s:.2f} | {of_wall:.3f} |")


def _runs(folder: Path, channels: dict[str, int]) -> dict[str, Callable[[], None]]:
    """What renders a frame, by colour space."""
    from fakes.cube_config import cube_config
    from mattebridge.ocio.config import Config
    from mattebridge.ocio.space import Spaces

    pair, runs = _pair(), {}
    for names, spaces in ((SPACES, Spaces()), (CUBES, Spaces(Config(cube_config(folder))))):
        engine = _engine(spaces)
        for name in names:
            runs[name] = partial(_render, engine, _in_space(engine, pair, name), name, channels)
    return runs


def _engine(spaces: Any) -> Any:
    from fakes.generated_weights import generated_state
    from fakes.matting_models import registry_of
    from mattebridge.checkpoint import no_checkpoint
    from mattebridge.engine.engine import Engine
    from mattebridge.models.background_matting.card import FAMILY, card_of
    from mattebridge.models.background_matting.model import BackgroundMattingModel
    from mattebridge.models.background_matting.networks import MattingRefine
    from mattebridge.models.weights.file import WeightsRecord

    settings = {"class": "MattingRefine", "backbone": "mobilenetv2"}
    record = WeightsRecord("generated", "", "sha256:0", FAMILY, settings, "MIT")
    state = generated_state(MattingRefine("mobilenetv2").state_dict())

    class OfADisc(BackgroundMattingModel):
        def matte(self, given: Any, checkpoint: Any = no_checkpoint) -> Any:
            return replace(super().matte(given, checkpoint), alpha=disc.clone())

    disc = _disc()
    model = OfADisc(card_of(record), lambda: dict(state))
    return Engine(registry=registry_of(model), spaces=spaces)


def _disc() -> Any:
    """Alpha (H, W) float32: 1 in a disc, and an edge of 26 pixels."""
    import torch

    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    distance = ((y - HEIGHT / 2) ** 2 + (x - WIDTH / 2) ** 2).sqrt()
    return ((400 - distance) / 50 + 0.5).clamp(0, 1)


def _pair() -> dict[str, np.ndarray]:
    from fakes.generated_weights import plate_pair
    from mattebridge.color import srgb_decode

    images = (image[0].permute(1, 2, 0).numpy() for image in plate_pair(HEIGHT, WIDTH))
    return dict(zip(("plate", "clean_plate"), (srgb_decode(np.asarray(i)) for i in images)))


def _in_space(engine: Any, pair: dict[str, np.ndarray], space: str) -> dict[str, np.ndarray]:
    return {role: engine.spaces.converted(light, "linear", space) for role, light in pair.items()}


def _render(engine: Any, planes: Any, space: str, channels: dict[str, int]) -> None:
    from mattebridge.wire.params import RenderParams

    out = {role: np.empty((HEIGHT, WIDTH, n), np.float32) for role, n in channels.items()}
    params = RenderParams(colorspace=space, alignment="off")
    engine.matte(planes, params, model="default", out=out, clean_plate_key=space)


def _seconds(run: Callable[[], None]) -> tuple[float, float]:
    """CPU time and time of one frame."""
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu_s, time.perf_counter() - wall_s


if __name__ == "__main__":
    main(sys.argv[1:])
