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

    from mattebridge.engine.engine import Engine
    from mattebridge.wire.params import RenderParams
    from mattebridge_sample.composites import Composite, shoot
    from training import judge, validation

    if options.write:
        return _write_set(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    engine = Engine(options.device, registry=_registry(options.model))
    name = options.model if not Path(options.model).is_file() else _CANDIDATE

    def matte(frame: Composite, plate: Any, model: str = name) -> dict[str, Any]:
        """Alpha and display-encoded foreground; frames blended in light are passed as linear."""
        linear = frame.blend == "linear"
        planes = {"plate": plate, "clean_plate": frame.clean_plate}
        if linear:
            planes = {role: shoot.decode(picture) for role, picture in planes.items()}
        size = plate.shape[:2]
        out = {
            "alpha": np.zeros((*size, 1), np.float32),
            "foreground": np.zeros((*size, 3), np.float32),
        }
        params = RenderParams(colorspace="linear" if linear else "srgb", output_colorspace="srgb")
        engine.matte(planes, params, model=model, out=out)
        return out

    rows, spent, changes = [], [], []
    jobs = validation.wanted(options.set, options.per_kind, side=options.side)
    for number, frame in enumerate(validation.each(validation.drawn, jobs, options.workers)):
        start = time.process_time()
        out = matte(frame, frame.plate)
        spent.append(time.process_time() - start)
        figures = judge.measured(frame, out["alpha"], out["foreground"])
        first = out if name == _KEYER else matte(frame, frame.plate, _KEYER)
        keyer = judge.measured(frame, first["alpha"], first["foreground"])
        rows.append(judge.Row(frame, figures, keyer))
        if frame.kind == "clean":
            # The same picture twice with fresh grain: how much does alpha change?
            first, second = (
                matte(frame, validation.regrained(frame.plate, seed))["alpha"] for seed in (1, 2)
            )
            changes.append(float(np.abs(first - second).mean() * 1e3))
        if options.save:
            _save(Path(options.save), number, frame, out)
    print(f"{options.model} on {options.set}, {len(rows)} frames of {options.side}")
    print(judge.table(rows))
    print(f"change of alpha from frame to frame, still picture: {np.mean(changes):.2f} e-3")
    print(f"CPU seconds a frame, alignment included: {np.median(spent):.2f}")
    return 0


_CANDIDATE = "candidate"
_KEYER = "difference"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.validate", description=__doc__)
    parser.add_argument("--model", default="difference")
    parser.add_argument("--set", choices=("frozen", "quality"), default="frozen")
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


def _registry(model: str) -> Any:
    """The usual models; a weights file is added under the name `candidate`."""
    from mattebridge.models.entry import Entry
    from mattebridge.models.registry import Registry, built_in

    if not Path(model).is_file():
        return Registry(built_in)
    from mattebridge.models.twoplate.card import card_of
    from mattebridge.models.twoplate.model import TwoPlateModel
    from mattebridge.models.weights.state_dict import read_state_dict

    def candidate() -> Mapping[str, Entry]:
        def make(card: Any) -> TwoPlateModel:
            return TwoPlateModel(card, lambda: read_state_dict(model))

        return {_CANDIDATE: Entry(card_of("candidate", name=_CANDIDATE), make)}

    return Registry(built_in, candidate)


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
