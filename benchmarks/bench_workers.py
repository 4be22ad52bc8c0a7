"""Workers on one queue: frames a second of two and four of them against one.

Method: a daemon with one, two and four workers in turn. Each frame (240x135, RGBA float) takes a
device of fixed time: 0.25 s of waiting in place of a model, which the processors of this machine do
not slow down. So many frames are in flight that each worker has one and one waits. All workers have
started before; the best of the rounds is given.
Second row: the same wait, and behind it the `difference` model on the processors that all workers
share, which limit it on a small machine.
Goal: 2 workers >= 1.9 x, 4 workers >= 3.6 x the rate of one (first row).
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from benchmarks.daemon import running
from mattebridge.client import MatteClient

WAIT_S = 0.25
COUNTS = (1, 2, 4)
CASES = {
    "a wait of 0.25 s": ("bridge_probe", f"bridge_probe,probe=sleep:{WAIT_S}"),
    "the wait, then difference": ("difference", f"model=sleep:{WAIT_S}"),
}


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=10, help="for each worker and round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    print("| a frame is | 1 worker, frames/s | 2 workers | 4 workers |")
    print("|---|---|---|---|")
    for name, (model, hooks) in CASES.items():
        rates = [_rate(count, model, hooks, options.frames, options.rounds) for count in COUNTS]
        ratios = [f"**{rate / rates[0]:.2f} x**" for rate in rates[1:]]
        print(f"| {name} | {rates[0]:.2f} | {' | '.join(ratios)} |", flush=True)


def _rate(workers: int, model: str, hooks: str, frames: int, rounds: int) -> float:
    devices = ",".join(f"cpu:{index}" for index in range(workers))
    with running(
        devices=devices,
        in_flight=workers + 1,
        MATTEBRIDGE_TEST_HOOKS=hooks,
        MATTEBRIDGE_DEFAULT_MODEL="difference",
    ) as (client, _process):
        client.load_model("difference")  # on all of them: every worker runs
        return max(_one_round(client, model, workers, frames * workers) for _ in range(rounds))


def _one_round(client: MatteClient, model: str, workers: int, frames: int) -> float:
    clean_plate = np.random.default_rng(1).random((135, 240, 4), np.float32)
    plate = clean_plate.copy()
    plate[40:100, 60:120] = 0.5

    def submit(frame: int):
        return client.submit(plate, clean_plate, frame=frame, model=model, outputs=("alpha",))

    started = time.perf_counter()
    handles = [submit(frame) for frame in range(min(frames, workers + 1))]
    for frame in range(len(handles), frames + len(handles)):
        handles.pop(0).result()
        if frame < frames:
            handles.append(submit(frame))
    return frames / (time.perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1:])
