"""`python -m training.train --run DIR`: begin a run, or go on with it where it stopped.

A run is a folder. Called again with the same folder, training goes on with the very next step; a
call ends after `--minutes`, having written everything down. How long the whole run is stands in its
plan: `--steps`, or `--total-minutes`, from which the steps are worked out once their time is known.
"""

# Only what is cheap is imported up here: the canvas processes import this module once more.
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
    parser.add_argument("--minutes", type=float, default=0.0, help="end this call after; 0: never")
    plan = parser.add_argument_group("plan (of a new run; --steps and --total-minutes of any)")
    plan.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    plan.add_argument("--steps", type=int, help="steps of the whole run")
    plan.add_argument("--total-minutes", type=float, help="training time of the whole run")
    plan.add_argument("--seed", type=int)
    plan.add_argument("--batch", type=int)
    plan.add_argument("--canvas", type=int, help="shots are composed and keyed at this size")
    plan.add_argument("--crop", type=int, help="and trained on at this one")
    plan.add_argument("--window", type=int, help="side of what the refiner sees of a crop")
    plan.add_argument("--pool", type=int, help="canvases held at a time")
    plan.add_argument("--warm", type=int, help="canvases drawn before the first step")
    plan.add_argument("--fresh", type=float, help="new canvases a step")
    plan.add_argument("--learning-rate", type=float)
    plan.add_argument("--init", type=Path, help="weights to start from, e.g. RUN/best.safetensors")
    call = parser.add_argument_group("this call")
    call.add_argument("--device", help="cpu, cuda:0; by default CUDA where there is one")
    call.add_argument("--workers", type=int, default=1, help="processes that draw canvases")
    call.add_argument("--threads", type=int, default=0, help="of torch on the CPU; 0: its default")
    call.add_argument(
        "--no-wait",
        action="store_true",
        help="take new canvases as they come, instead of waiting for those of the plan: quicker "
        "on a GPU, but two runs are no longer the same",
    )
    call.add_argument(
        "--new-pool",
        action="store_true",
        help="start with new canvases instead of drawing those of the checkpoint again",
    )
    call.add_argument(
        "--small-state",
        action="store_true",
        help="keep momentum and variance in half the bytes: easier to carry about, but the run "
        "after a restart is no longer the same to the bit",
    )
    call.add_argument("--evaluate-minutes", type=float, default=20.0)
    call.add_argument("--per-kind", type=int, default=2, help="validation frames a kind and blend")
    call.add_argument("--stop-after", type=int, help="end this call after so many steps")
    return parser


def _changes(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the plan; None where it says nothing."""
    names = (
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
    return {
        name: getattr(options, name) for name in (*names, "per_kind", "stop_after", "small_state")
    }


if __name__ == "__main__":
    # Threads that spin while they wait take the cores from the processes beside them.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    raise SystemExit(main())
