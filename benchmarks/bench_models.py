"""What a frame costs with the models that need no download: `twoplate` against `difference`.

Method: the first frame of the sample shot at the given sizes, scene-linear, goes through the engine
(alignment and exposure fit, model, finish, in one process), the models in turns. Seconds are the
best turn on two threads; processor seconds stand beside them, and the share of tiles of the frame
that the refiner of `twoplate` looked at.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np

MODELS = ("difference", "twoplate")
THREADS = 2


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--sizes", nargs="*", default=["960x540", "1920x1080"])
    options = parser.parse_args(arguments)
    # As the daemon's workers have it; torch reads it when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from mattebridge.engine import Engine
    from mattebridge.sample import render_frames

    torch.set_num_threads(THREADS)
    engine = Engine("cpu")
    print("| size | model | s a frame | against `difference` | processor s | tiles refined |")
    print("|---|---|---|---|---|---|")
    for size in options.sizes:
        width, height = map(int, size.split("x"))
        frame = next(iter(render_frames(frames=1, width=width, height=height)))
        turns: dict[str, list[tuple[float, float, Any]]] = {model: [] for model in MODELS}
        for _ in range(options.turns + 1):
            for model, taken in turns.items():
                taken.append(_timed(engine, frame, model))
        # The first turn loads the models.
        best = {model: min(taken[1:], key=lambda turn: turn[0]) for model, taken in turns.items()}
        for model, (wall, cpu, notes) in best.items():
            times = wall / best["difference"][0]
            print(
                f"| {size} | `{model}` | {wall:.2f} | {times:.2f}x | {cpu:.2f} "
                f"| {notes.get('refined_share', '-')} |",
                flush=True,
            )


def _timed(engine: Any, frame: Any, model: str) -> tuple[float, float, Any]:
    """Wall and processor seconds of one frame, and the model's notes."""
    from mattebridge.engine import RenderParams

    height, width = frame.plate.shape[:2]
    out = {
        "alpha": np.empty((height, width, 1), np.float32),
        "foreground": np.empty((height, width, 3), np.float32),
    }
    planes = {"plate": frame.plate, "clean_plate": frame.clean_plate}
    wall, cpu = time.perf_counter(), time.process_time()
    made = engine.matte(planes, RenderParams(colorspace="linear"), model=model, out=out)
    notes = made.notes.get("model", {})
    return time.perf_counter() - wall, time.process_time() - cpu, notes


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
