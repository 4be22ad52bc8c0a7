"""`python -m training.validate --model NAME|WEIGHTS`: a model's errors on the validation set, with
the keyer's error on the same frames.

The frames go through the engine, alignment included, as a user's frames do. A model is one of
`mattebridge models`, or a weights file of twoplate such as RUN/best.safetensors.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def main() -> int:
    options = _parser().parse_args()
    import numpy as np
    import torch

    from training import judge, validation
    from training.through_engine import ThroughEngine

    if options.write:
        return _write_set(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    model = ThroughEngine(options.model, options.device)
    keyer = model if options.model == _KEYER else ThroughEngine(_KEYER, options.device)

    rows, spent, changes = [], [], []
    jobs = validation.wanted(options.set, options.per_kind, side=options.side)
    for number, frame in enumerate(validation.each(validation.drawn, jobs, options.workers)):
        start = time.process_time()
        out = model.matte(frame)
        spent.append(time.process_time() - start)
        figures = judge.measured(frame, out["alpha"], out["foreground"])
        first = out if keyer is model else keyer.matte(frame)
        rows.append(
            judge.Row(frame, figures, judge.measured(frame, first["alpha"], first["foreground"]))
        )
        if frame.kind == "clean":
            # The same picture twice with fresh grain: how much does alpha change?
            first, second = (
                model.matte(frame, validation.regrained(frame.plate, seed))["alpha"]
                for seed in (1, 2)
            )
            changes.append(float(np.abs(first - second).mean() * 1e3))
        if options.save:
            _save(Path(options.save), number, frame, out)
    print(f"{options.model} on {options.set}, {len(rows)} frames of {options.side}")
    print(judge.table(rows))
    if changes:
        print(f"change of alpha from frame to frame, still picture: {np.mean(changes):.2f} e-3")
    print(f"CPU seconds a frame, alignment included: {np.median(spent):.2f}")
    return 0


_KEYER = "difference"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.validate", description=__doc__)
    parser.add_argument("--model", default="difference")
    parser.add_argument("--set", choices=("frozen", "quality", "production"), default="frozen")
    parser.add_argument("--per-kind", type=int, default=8, help="frames of each kind and blend")
    parser.add_argument("--side", type=int, default=640, help="long side in pixels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw the frames")
    parser.add_argument("--save", help="folder for plate, alpha and truth of every frame")
    parser.add_argument(
        "--write", help="only write the set into this folder, as `mattebridge eval --set` takes it"
    )
    return parser


def _write_set(options: argparse.Namespace) -> int:
    """The set as files: PNG where the blend is of display values, EXR where it is of light."""
    from mattebridge.image_io import Encoding, write_frame
    from mattebridge_sample.composites import shoot
    from training import validation

    folder = Path(options.write)
    jobs = validation.wanted(options.set, options.per_kind, side=options.side)
    for frame in validation.each(validation.drawn, jobs, options.workers):
        for role, picture in (("plate", frame.plate), ("clean", frame.clean_plate)):
            path = folder / f"{frame.name}_{role}"
            if frame.blend == "linear":
                light = shoot.decode(picture)
                write_frame(
                    path.with_suffix(".exr"), light, Encoding(dtype="float32", alpha="opaque")
                )
            else:
                write_frame(
                    path.with_suffix(".png"), picture, Encoding(colorspace="srgb", alpha="opaque")
                )
        truth = folder / frame.name
        write_frame(f"{truth}_alpha.png", frame.alpha, Encoding(dtype="uint16"))
        write_frame(
            f"{truth}_foreground.png",
            frame.foreground,
            Encoding(dtype="uint16", colorspace="srgb", alpha="opaque"),
        )
    print(f"{len(jobs)} frames of the set {options.set} in {folder}")
    return 0


def _save(folder: Path, number: int, frame: Any, out: Mapping[str, Any]) -> None:
    """Plate, clean plate, found and true alpha side by side."""
    import cv2
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    alphas = (
        np.repeat(a.reshape(*frame.alpha.shape, 1), 3, 2) for a in (out["alpha"], frame.alpha)
    )
    strip = np.hstack([frame.plate, frame.clean_plate, *alphas])
    picture = np.round(np.clip(strip[..., ::-1], 0, 1) * 255).astype(np.uint8)
    cv2.imwrite(str(folder / f"{number:03d}_{frame.name}.png"), picture)


if __name__ == "__main__":
    # Threads that spin while they wait take cores from the other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(main())
