"""`python -m training.train --run DIR`: start a run, or resume it where it stopped.

A run is a folder. Called again with the same folder, training continues with the next step. A call
ends after `--minutes`, with everything saved. The length of the whole run is part of its plan:
`--steps`, or `--total-minutes`, from which the number of steps is worked out once their speed is
known; with neither the run is complete when the first call's minutes are over.
"""

# Only cheap imports at the top: every process that draws canvases imports this module again.
from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    from training.session import Session

    return Session(options.run, _changes(options), **_conditions(options)).run()


def _parser() -> argparse.ArgumentParser:
    from training.plan import PRESETS

    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--minutes", type=float, default=0.0, help="limit of this call; 0: none")
    plan = parser.add_argument_group("plan (of a new run; --steps and --total-minutes of any)")
    plan.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    plan.add_argument("--steps", type=int, help="steps of the whole run")
    plan.add_argument("--total-minutes", type=float, help="training time of the whole run")
    plan.add_argument("--seed", type=int)
    plan.add_argument("--batch", type=int)
    plan.add_argument("--canvas", type=int, help="shots are composed and keyed at this size")
    plan.add_argument("--crop", type=int, help="side of the crops that are trained on")
    plan.add_argument("--window", type=int, help="the refiner runs on this part of a crop")
    plan.add_argument("--pool", type=int, help="canvases held at a time")
    plan.add_argument("--warm", type=int, help="canvases drawn before the first step")
    plan.add_argument("--fresh", type=float, help="new canvases per step")
    plan.add_argument("--learning-rate", type=float)
    plan.add_argument(
        "--large", type=float, help="share of the groups cut from frames twice as large"
    )
    plan.add_argument(
        "--quarter-share", type=float, help="share of the steps with the coarse net at a quarter"
    )
    plan.add_argument("--eighth-share", type=float, help="share of the steps at an eighth")
    plan.add_argument("--network", choices=("correction", "gated"), help="version that is trained")
    plan.add_argument("--init", type=Path, help="weights to start from, e.g. RUN/best.safetensors")
    call = parser.add_argument_group("this call")
    call.add_argument("--device", help="cpu, cuda:0; by default CUDA where there is one")
    call.add_argument("--workers", type=int, default=1, help="processes that draw canvases")
    call.add_argument("--threads", type=int, default=0, help="torch threads on the CPU; 0: default")
    call.add_argument(
        "--no-wait",
        action="store_true",
        help="take new canvases as they are finished, instead of waiting for those of the plan: "
        "faster on a GPU, but the run cannot be reproduced",
    )
    call.add_argument(
        "--new-pool",
        action="store_true",
        help="start with new canvases instead of drawing those of the checkpoint again",
    )
    call.add_argument(
        "--small-state",
        action="store_true",
        help="save momentum and variance in half the bytes: a smaller state, but a resumed run is "
        "no longer bit-exact",
    )
    call.add_argument("--evaluate-minutes", type=float, default=20.0)
    call.add_argument("--per-kind", type=int, default=2, help="validation frames per kind, blend")
    call.add_argument(
        "--table",
        type=int,
        default=0,
        metavar="N",
        help="end the call with RUN/table.txt: the best weights beside the shipped ones and the "
        "keyer, on N frames per kind of the sets frozen and production; 0: no table",
    )
    call.add_argument("--table-side", type=int, help="long side of the table's frames; hd: 3 times")
    call.add_argument("--stop-after", type=int, help="end this call after so many steps")
    return parser


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the plan that the command line gives."""
    names = (
        "network",
        "large",
        "quarter_share",
        "eighth_share",
        "steps",
        "seed",
        "batch",
        "canvas",
        "crop",
        "window",
        "pool",
        "warm",
        "fresh",
        "learning_rate",
    )
    given = {name: getattr(options, name) for name in names}
    return {
        "preset": options.preset,
        "total_minutes": options.total_minutes,
        "init": options.init,
        **{name: value for name, value in given.items() if value is not None},
    }


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    names = ("minutes", "device", "workers", "threads", "no_wait", "new_pool", "evaluate_minutes")
    names = (*names, "per_kind", "stop_after", "small_state")
    side = {} if options.table_side is None else {"table_side": options.table_side}
    return {
        **{name: getattr(options, name) for name in names},
        "table_per_kind": options.table,
        **side,
    }


if __name__ == "__main__":
    # Threads that spin while they wait take cores from the other processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(main())
