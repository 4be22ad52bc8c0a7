"""A frame that is asked for again: another despill strength, and the very same request.

Method: one HD frame (1920x1080 RGBA float, scene-linear; alpha, foreground and premultiplied back)
through a warm daemon whose worker has one thread. In each turn a plate with other grain is matted;
then the despill strength is changed, then the same is asked for again. CPU time is that of the
worker's process, as the kernel counts it in ticks of 10 ms, so that other programs on the machine
do not count; ratios are against the first frame of the same turn, the median of the turns.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import Any

import numpy as np

from benchmarks.daemon import running
from mattebridge.client import MatteClient

HEIGHT, WIDTH = 1080, 1920
# What the first frame, one with another despill strength and one that is the same again report.
REUSED = (None, "matte", "result")


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--models", nargs="*", default=["difference", "twoplate"])
    options = parser.parse_args(arguments)
    print("| model | frame, CPU ms | other despill | the same again |")
    print("|---|---|---|---|")
    threads = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}
    with running(keeps_frames=True, **threads) as (client, _process):
        for model in options.models:
            _measure(client, model, options.turns)


def _measure(client: MatteClient, model: str, turns: int) -> None:
    _turn(client, model, 0)  # the model is loaded, its buffers are made
    times = [_turn(client, model, seed) for seed in range(1, turns + 1)]
    first = statistics.median(turn[0] for turn in times)
    ratios = [statistics.median(turn[n] / turn[0] for turn in times) for n in (1, 2)]
    print(f"| `{model}` | {first:.0f} | {ratios[0]:.3f} | {ratios[1]:.3f} |", flush=True)


def _turn(client: MatteClient, model: str, seed: int) -> list[float]:
    plate, clean_plate = _pair(seed)
    strengths, times = (0.0, 0.5, 0.5), []
    for strength, reused in zip(strengths, REUSED):
        asked: dict[str, Any] = {"model": model, "despill_strength": strength}
        before = _cpu_ms(client)
        matte = client.matte(plate, clean_plate, colorspace="linear", **asked)
        times.append(_cpu_ms(client) - before)
        if matte.notes.get("reused") != reused:
            raise SystemExit(f"reused is {matte.notes.get('reused')}, not {reused}")
    return times


def _cpu_ms(client: MatteClient) -> float:
    """CPU time of the one worker so far."""
    with open(f"/proc/{client.status()['workers'][0]['pid']}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def _pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A soft subject in front of a textured set, with grain; RGBA."""
    random = np.random.default_rng(11)
    tiles = random.uniform(0.05, 0.6, (HEIGHT // 20, WIDTH // 20, 3)).astype(np.float32)
    clean_plate = tiles.repeat(20, axis=0).repeat(20, axis=1)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    away = np.hypot((x - WIDTH * 0.5) / (WIDTH * 0.18), (y - HEIGHT * 0.6) / (HEIGHT * 0.4))
    alpha = np.clip((1.05 - away) / 0.1, 0, 1)[..., None]
    plate = clean_plate * (1 - alpha) + np.float32([0.2, 0.5, 0.15]) * alpha
    grain = np.random.default_rng(seed).normal(0, 0.003, plate.shape).astype(np.float32)
    return _opaque(np.abs(plate + grain)), _opaque(clean_plate)


def _opaque(colour: np.ndarray) -> np.ndarray:
    return np.concatenate([colour, np.ones((HEIGHT, WIDTH, 1), np.float32)], axis=2)


if __name__ == "__main__":
    main(sys.argv[1:])
