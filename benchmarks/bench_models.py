"""The time of a frame with the models that need no download, against `difference`.

Method: the first frame of the sample shot at the given sizes, scene-linear, goes through the engine
(alignment and exposure fit, model, finish, in one process), the models in turns. Seconds are the
best turn on two threads; beside them are the processor seconds, the seconds of the network alone
(coarse network and refiner, without the keyer before them), and the share of the frame's tiles that
the refiner processed. `--screen green` times `screen`, with a clean plate, against `difference`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import numpy as np

MODELS = ("difference", "twoplate")
MODELS_OF_SCREENS = ("difference", "screen")
THREADS = 2


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sizes", nargs="*", default=["960x540", "1920x1080"])
    parser.add_argument("--screen", choices=("green", "blue"), help="time `screen` on such a shot")
    options = parser.parse_args(arguments)
    models = MODELS_OF_SCREENS if options.screen else MODELS
    # As in the daemon's workers; torch reads it when it is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from mattebridge.engine.engine import Engine
    from mattebridge_sample import render_frames

    torch.set_num_threads(THREADS)
    engine = Engine("cpu")
    print(
        "| size | model | s a frame | against `difference` | processor s | s of the network "
        "| tiles refined |"
    )
    print("|---|---|---|---|---|---|---|")
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        shot = render_frames(frames=1, width=width, height=height, screen=options.screen)
        frame = next(iter(shot))
        turns: dict[str, list[_Turn]] = {model: [] for model in models}
        for _ in range(options.turns + 1):
            for model, taken in turns.items():
                taken.append(_timed(engine, frame, model))
        # The first turn loads the models.
        best = {model: min(taken[1:], key=lambda turn: turn.wall) for model, taken in turns.items()}
        for model, turn in best.items():
            times = turn.wall / best["difference"].wall
            network = "-" if turn.network is None else f"{turn.network:.2f}"
            print(
                f"| {size} | `{model}` | {turn.wall:.2f} | {times:.2f}x | {turn.cpu:.2f} "
                f"| {network} | {turn.notes.get('refined_share', '-')} |",
                flush=True,
            )


class _Turn(NamedTuple):
    """Wall and processor seconds of one frame, wall seconds of the network, the model's notes."""

    wall: float
    cpu: float
    network: Optional[float]
    notes: Mapping[str, Any]


def _timed(engine: Any, frame: Any, model: str) -> _Turn:
    from mattebridge.wire.params import RenderParams

    height, width = frame.plate.shape[:2]
    out = {
        "alpha": np.empty((height, width, 1), np.float32),
        "foreground": np.empty((height, width, 3), np.float32),
    }
    planes = {"plate": frame.plate, "clean_plate": frame.clean_plate}
    begun: dict[str, float] = {}

    def checkpoint(stage: str, done: int = 0, total: int = 0) -> None:
        begun.setdefault(stage, time.perf_counter())

    params = RenderParams(colorspace="linear")
    wall, cpu = time.perf_counter(), time.process_time()
    made = engine.matte(planes, params, model=model, out=out, checkpoint=checkpoint)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    network = begun["finish"] - begun["coarse"] if "coarse" in begun else None
    return _Turn(wall, cpu, network, made.notes.get("model", {}))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
