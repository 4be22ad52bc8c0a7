"""`python -m training.export RUN`: ship a run's best weights with the package.

Writes `data/twoplate.safetensors` (half precision) and `data/twoplate.json` into the package, from
when on the registry offers `twoplate`. Do so only once it beats `difference`
(`python -m training.validate`), and write docs/model_card.md with it.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

# No weights larger than this are shipped.
LARGEST_BYTES = 10_000_000


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from mattebridge.models import twoplate_card

    weights = options.weights or options.run / "best.safetensors"
    folder = options.out or twoplate_card.DATA
    description = exported(weights, options.run, folder)
    print(json.dumps(description, indent=1))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.export", description=__doc__)
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--weights", type=Path, help="other weights than RUN/best.safetensors")
    parser.add_argument("--out", type=Path, help="folder to write to; by default the package's")
    return parser


def exported(weights: Path, run: Path, folder: Path) -> dict[str, Any]:
    """Write weights and description into `folder`; the description.

    Raises `ModelError` where the weights do not fit, `ValueError` where they are too large.
    """
    import safetensors.torch

    from mattebridge.models.twoplate_card import DESCRIPTION, WEIGHTS
    from mattebridge.models.twoplate_model import describe_state
    from mattebridge.models.weights import read_state_dict
    from mattebridge.models.weights_file import digest_of

    state = read_state_dict(weights)
    facts = describe_state(state)
    halves = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }
    data = safetensors.torch.save(halves)
    if len(data) > LARGEST_BYTES:
        raise ValueError(f"the weights take {len(data)} bytes, more than {LARGEST_BYTES}")
    description = {"digest": digest_of(data), "bytes": len(data), **facts, **_history(run)}
    folder.mkdir(parents=True, exist_ok=True)
    _replace(folder / WEIGHTS.name, data)
    # The description makes the registry offer the model: last.
    text = json.dumps(description, indent=1) + "\n"
    _replace(folder / DESCRIPTION.name, text.encode())
    return description


def _history(run: Path) -> dict[str, Any]:
    """What the run's own notes say of the weights: where they come from, for the model card."""
    notes = run / "state" / "run.json"
    if not notes.exists():
        return {}
    from training.canvases import GROUP

    told = json.loads(notes.read_text(encoding="utf-8"))
    plan, progress = told["plan"], told["progress"]
    judged = [row for row in progress["history"] if row["step"] == progress["best_step"]]
    return {
        "seed": plan["seed"],
        "steps": progress["best_step"],
        "samples": progress["best_step"] * plan["batch"],
        "canvases": progress["next_group"] * GROUP,
        "training_minutes": round(progress["seconds"] / 60, 1),
        "device": progress["device"],
        "initial": progress["initial"],
        "validation": {k: round(v, 2) for k, v in (judged[-1] if judged else {}).items()},
    }


def _replace(path: Path, data: bytes) -> None:
    part = path.with_name(path.name + ".part")
    part.write_bytes(data)
    os.replace(part, path)


if __name__ == "__main__":
    raise SystemExit(main())
