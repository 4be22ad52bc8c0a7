"""A clip through the runner: how far reading, computing and writing overlap, and its memory.

    python -m benchmarks clips

Method. A clip of scene-linear half EXR (960x540) with hints, and the four outputs of the clip
pipeline (alpha, fg, processed as half EXR, comp as PNG). The daemon is replaced by a device of its
own: a fake that only waits, each frame for the same time, one after the other. The figure is the
time that the device alone needs over that of the whole clip, median of the turns; 1 would be a
pipeline that adds nothing. The device's time is given, since it decides: with a quicker one, the
processors that encode the files are the limit (the last column has their CPU time a frame).

Memory: 2,000 small frames (256x144) with a device that takes next to no time; the most that the
process held in the first tenth of the frames, and in the last.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from mattebridge.clips import ClipManifest, InferenceConfig, PipelineConfig, WriteConfig, load, scan
from mattebridge.clips.runner import job_for
from mattebridge.image_io import write_frame
from mattebridge.shot.run import run_job
from mattebridge.shot.summary import Summary

PICTURES = 4


def main(arguments: list[str]) -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device-ms", type=float, nargs="*", default=[1000.0, 500.0, 250.0])
    parser.add_argument("--small-frames", type=int, default=2000)
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="mb-bench-"))
    try:
        overlap(home, options)
        memory(home, options.small_frames)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def overlap(home: Path, options: argparse.Namespace) -> None:
    """The table of the overlap, a row for each time of the device."""
    manifest = make_clip(home / "clip", options.frames, 960, 540)
    print("| device, ms a frame | frames/s | share of the device alone | CPU ms a frame |")
    print("|---|---|---|---|")
    for device_ms in options.device_ms:
        walls, used = [], []
        for _ in range(options.turns):
            started, cpu = time.perf_counter(), time.process_time()
            matte(manifest, home / "out", device_ms / 1000)
            walls.append(time.perf_counter() - started)
            used.append(time.process_time() - cpu)
        wall = statistics.median(walls)
        share = options.frames * device_ms / 1000 / wall
        cpu_ms = 1000 * statistics.median(used) / options.frames
        rate = options.frames / wall
        print(f"| {device_ms:.0f} | {rate:.2f} | **{share:.2f}** | {cpu_ms:.0f} |", flush=True)


def memory(home: Path, frames: int) -> None:
    """The line about memory."""
    summary = matte(make_clip(home / "long", frames, 256, 144), home / "long_out", 0.001)
    held = [record.memory / (1 << 20) for record in summary.records]
    first, last = max(held[: frames // 10]), max(held[-frames // 10 :])
    print(
        f"\nmemory over {frames} frames: {first:.0f} MiB at most in the first tenth, {last:.0f} MiB"
        " in the last",
        flush=True,
    )


def make_clip(root: Path, frames: int, width: int, height: int) -> ClipManifest:
    """A clip of links to a few pictures with grain."""
    rng = np.random.default_rng(7)
    for folder in ("Input", "AlphaHint", "pictures"):
        (root / folder).mkdir(parents=True)
    hint = np.zeros((height, width, 1), np.uint8)
    hint[height // 4 :, width // 4 : width // 2] = 255
    write_frame(root / "pictures/hint.png", hint)
    for number in range(PICTURES):
        plate = 0.3 + 0.05 * rng.standard_normal((height, width, 3), dtype=np.float32)
        write_frame(root / f"pictures/{number}.exr", np.float16(np.abs(plate)))
    for number in range(1, frames + 1):
        plate_file = root / f"pictures/{number % PICTURES}.exr"
        (root / f"Input/a.{number:05d}.exr").symlink_to(plate_file)
        (root / f"AlphaHint/a.{number:05d}.png").symlink_to(root / "pictures/hint.png")
    (clip,) = scan(root).clips
    return load(clip)


def matte(manifest: ClipManifest, out: Path, device_s: float) -> Summary:
    """What `ClipRunner.run` does, with a device that waits."""
    shutil.rmtree(out, ignore_errors=True)
    config = PipelineConfig(inference=InferenceConfig(model="screen"), write=WriteConfig(out))
    summary = run_job(job_for(manifest, config), lambda: _Waiting(device_s))
    assert summary.exit_status == 0, summary.first_failure
    return summary


class _Waiting:
    """A client of a device that takes the same time for each frame, one after the other."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._free = seconds, 0.0
        self._lock = threading.Lock()

    def models(self, *_: Any, **_options: Any) -> list[dict[str, Any]]:
        return [{"name": "screen", "digest": "", "needs": ["plate"], "uses_alpha_hint": True}]

    def status(self, timeout_s: float = 1.0) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        pass

    def submit(self, plate: Any, clean_plate: Any = None, **options: Any) -> Any:
        with self._lock:
            self._free = ready = max(self._free, time.perf_counter()) + self._seconds
        foreground = np.asarray(plate, np.float32)
        alpha = np.asarray(options["alpha_hint"], np.float32) / 255
        planes = {
            "alpha": alpha,
            "foreground": foreground,
            "premultiplied": np.concatenate([foreground * alpha, alpha], axis=2),
        }

        def result(timeout_s: float | None = None) -> Any:
            time.sleep(max(0.0, ready - time.perf_counter()))
            return SimpleNamespace(**planes, error=None, degraded=(), notes={}, timings={})

        return SimpleNamespace(result=result, cancel=lambda: None)


if __name__ == "__main__":
    main(sys.argv[1:])
