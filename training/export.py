"""`python -m training.export RUN`: ship a run's best weights with the package.

Writes `data/twoplate.safetensors` (half precision) and `data/twoplate.json` into the package, after
which the registry offers `twoplate`. Do this only when the weights beat `difference`
(`python -m training.validate`), and update docs/model_card.md with it.

Of several weights the mean is shipped. Weights of runs that started from one another can be
averaged, and the mean is often better than each ("model soups", Wortsman et al. 2022).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

# No weights larger than this are shipped.
LARGEST_BYTES = 10_000_000


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from mattebridge.models.twoplate.card import DATA

    folder = options.out or DATA
    description = exported(options.weights, options.run, folder)
    print(json.dumps(description, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        default=[],
        help="weights to ship instead of RUN/best.safetensors; several are averaged",
    )
    parser.add_argument("--out", type=Path, help="folder to write to; by default the package's")
    return parser


def exported(weights: Sequence[Path], run: Path, folder: Path) -> dict[str, Any]:
    """Write the mean of `weights` (by default the run's best) and its description into `folder`.

    Returns the description.

    Raises `ModelError` where the weights do not fit, `ValueError` where they are too large.
    """
    import safetensors.torch

    from mattebridge.models.twoplate.card import DESCRIPTION, WEIGHTS
    from mattebridge.models.twoplate.model import describe_state
    from mattebridge.models.weights.file import digest_of

    state = mean_of(weights or [run / "best.safetensors"])
    facts = describe_state(state)
    halves = {name: tensor.half().contiguous() for name, tensor in state.items()}
    data = safetensors.torch.save(halves)
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"the weights take {len(data)} bytes, more than {LARGEST_BYTES}")
    description = {"digest": digest_of(data), "bytes": len(data), **facts, **_history(run, weights)}
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / WEIGHTS.name, data)
    # Last: the registry offers the model once there is a description.
    text = json.dumps(description, indent=1) + "\n"
    _replace(folder / DESCRIPTION.name, text.encode())
    return description


def mean_of(weights: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of every tensor, in single precision; the norms' batch counters are left out.

    Raises `ModelError` where shapes differ.
    """
    from mattebridge.errors import ModelError
    from mattebridge.models.weights.state_dict import read_state_dict

    states = [
        {
            name: tensor.float()
            for name, tensor in read_state_dict(path).items()
            if tensor.is_floating_point()
        }
        for path in weights
    ]
    shapes = [{name: tensor.shape for name, tensor in state.items()} for state in states]
    for path, found in zip(weights, shapes):
        if found != shapes[0]:
            raise ModelError(
                f"{path} and {weights[0]} are weights of different networks and cannot be averaged",
                reason="shape",
            )
    return {name: sum(state[name] for state in states) / len(states) for name in states[0]}


def _history(run: Path, weights: Sequence[Path]) -> dict[str, Any]:
    """Facts about the weights from the state of the run, for the model card."""
    notes = run / "state" / "run.json"
    if not notes.exists():
        return {}
    from training.canvases import GROUP

    recorded = json.loads(notes.read_text(encoding="utf-8"))
    plan, progress = recorded["plan"], recorded["progress"]
    judged = [row for row in progress["history"] if row["step"] == progress["best_step"]]
    # Weights given by hand were not evaluated by this run: no figures.
    steps = progress["step"] if weights else progress["best_step"]
    figures = {} if weights else (judged[-1] if judged else {})
    return {
        "seed": plan["seed"],
        "steps": steps,
        "samples": steps * plan["batch"],
        "canvases": progress["next_group"] * GROUP,
        "training_minutes": round(progress["seconds"] / 60, 1),
        "device": progress["device"],
        "initial": progress["initial"],
        "mean_of": max(1, len(weights)),
        "validation": {k: round(v, 2) for k, v in figures.items()},
    }


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


if __name__ == "__main__":
    raise SystemExit(main())
