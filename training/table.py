"""`python -m training.table OUT --model RUN/best.safetensors`: models side by side.

The table is written to OUT/table.txt. Beside the given models: `twoplate`, as shipped, and
`difference`. Every frame of the sets
goes through the engine with each of them; the frames are none that is trained on. Also used by
`python -m training.train --table`.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mattebridge.evaluate.metrics import Figures
    from training.through_engine import ThroughEngine
    from training.validation import Wanted

BESIDE = ("twoplate", "difference")
SETS = ("frozen", "production")
FILE = "table.txt"
# Columns: name, and the figure it shows.
_COLUMNS = (
    ("mad", "mad"),
    ("soft", "band"),
    ("grad", "gradient"),
    ("fg", "foreground"),
    ("soft prem", "soft_premultiplied"),
)


@dataclass(frozen=True)
class Judged:
    """A model's figures of one frame."""

    set_name: str
    kind: str
    frame: str
    model: str
    figures: Figures


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    start = time.monotonic()
    jobs = wanted(options.set or SETS, options.per_kind, side=options.side)
    models = (*options.model, *BESIDE)
    text = as_text(judged(jobs, models, options.workers))
    print(text)
    write(options.out, text)
    print(f"{len(jobs)} frames, {time.monotonic() - start:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.table", description=__doc__)
    parser.add_argument("out", type=Path, help="folder that table.txt is written to")
    parser.add_argument(
        "--model", action="append", default=[], help="a name or weights; repeatable"
    )
    parser.add_argument("--set", action="append", choices=("frozen", "production", "quality"))
    parser.add_argument("--per-kind", type=int, default=2)
    parser.add_argument("--side", type=int, default=640, help="long side; of hd three times that")
    parser.add_argument("--workers", type=int, default=0, help="processes that judge")
    return parser


def wanted(sets: Sequence[str], per_kind: int, *, side: int) -> list[Wanted]:
    """The frames of some sets, the large ones first, so that no process is left with one."""
    from training import validation

    jobs = [job for name in sets for job in validation.wanted(name, per_kind, side=side)]
    return sorted(jobs, key=lambda job: job[1] != "hd")


def judged(jobs: Sequence[Wanted], models: Sequence[str], workers: int) -> list[Judged]:
    """The figures of every model on every frame, by `workers` processes of one thread each."""
    from training import validation

    rows = validation.each(_judged, [(job, tuple(models)) for job in jobs], workers)
    return [row for of_one in rows for row in of_one]


def _judged(given: tuple[Wanted, tuple[str, ...]]) -> list[Judged]:
    import torch

    from training import judge, validation

    job, models = given
    frame = validation.drawn(job)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = []
        for model in models:
            made = _loaded(model).matte(frame)
            figures = judge.measured(frame, made["alpha"], made["foreground"])
            rows.append(Judged(job[0], job[1], frame.name, model, figures))
        return rows
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=4)
def _loaded(model: str) -> ThroughEngine:
    from training.through_engine import ThroughEngine

    return ThroughEngine(model)


def as_text(rows: Sequence[Judged]) -> str:
    """For every set a block with a line for each kind and one for all: every figure of every model,
    the models in the order of the heading. Errors of alpha in thousandths; less is better."""
    models = list(dict.fromkeys(row.model for row in rows))
    names = [Path(model).stem for model in models]
    lines = [f"models, in the order of the columns: {', '.join(names)}"]
    for set_name in dict.fromkeys(row.set_name for row in rows):
        here = [row for row in rows if row.set_name == set_name]
        kinds = list(dict.fromkeys(row.kind for row in here))
        wide = 9 * len(models)
        lines += ["", set_name.ljust(18) + "".join(f" | {name:^{wide}}" for name, _ in _COLUMNS)]
        for name, group in [
            *((kind, [row for row in here if row.kind == kind]) for kind in kinds),
            ("all", here),
        ]:
            lines.append(_line(name, group, models))
    return "\n".join(lines)


def _line(name: str, rows: Sequence[Judged], models: Sequence[str]) -> str:
    from mattebridge.evaluate.metrics import mean_figures

    of_model = [
        mean_figures([row.figures for row in rows if row.model == model]).as_dict()
        for model in models
    ]
    cells = [
        "".join(("-" if v is None else f"{v:.2f}").rjust(9) for v in (m[key] for m in of_model))
        for _, key in _COLUMNS
    ]
    label = f"{name} ({len(rows) // len(models)})".ljust(18)
    return label + "".join(f" | {cell}" for cell in cells)


def write(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    # Threads that spin while they wait take cores from the other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(main())
