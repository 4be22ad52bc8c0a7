"""A whole shot: frames/s of `mattebridge matte` on the sample, files in and files out.

Method: the sample shot (960x540 scene-linear half EXR) is rendered once; then the command mattes
it through a daemon that is already warm: alpha, foreground and premultiplied as half EXR (ZIP).
Frames/s are those of the command itself, start-up included, best and median of the turns; beside
them the daemon's own median time for a frame, the limit if reading and writing overlapped fully.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.daemon import running
from mattebridge_sample import render_shot


def main(arguments: list[str]) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--models", nargs="*", default=["difference", "twoplate"])
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="mb-bench-"))
    try:
        render_shot(home / "shot", frames=options.frames)
        print("| shot | model | frames/s, best | median | daemon alone, ms a frame |")
        print("|---|---|---|---|---|")
        for model in options.models:
            _measure(home, model, options)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _measure(home: Path, model: str, options: argparse.Namespace) -> None:
    with running() as (client, _process):
        seconds = [_matte(home, str(client.folder), turn, model) for turn in range(options.turns)]
        daemon_ms = client.status()["timings"]["render_ms"]
    rates = [options.frames / taken for taken in seconds]
    print(
        f"| {options.frames} frames 960x540 | `{model}` | **{max(rates):.2f}** "
        f"| {statistics.median(rates):.2f} | {daemon_ms:.0f} |",
        flush=True,
    )


def _matte(home: Path, instance: str, turn: int, model: str) -> float:
    command = [
        sys.executable,
        "-m",
        "mattebridge",
        "matte",
        str(home / "shot/plate/plate.####.exr"),
    ]
    command += ["--clean-plate", str(home / "shot/clean_plate/clean_plate.exr")]
    command += ["-o", str(home / f"{model}{turn}"), "--model", model]
    command += ["--instance", instance, "--progress", "none"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(sys.argv[1:])
