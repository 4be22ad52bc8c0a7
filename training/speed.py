"""`python -m training.speed`: what a machine does a second, before its time is spent on training.

Prints layer pairs a second of the processes, and milliseconds of composing and of a step (on a CPU
those of its time that were spent here, whatever else was running).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    import torch

    from training.compose.shots import composed
    from training.plan import PRESETS
    from training.trainer import Trainer

    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    device = options.device or ("cuda:0" if torch.cuda.is_available() else "cpu")
    cuda = device.startswith("cuda")

    def now() -> float:
        if not cuda:
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    plan = PRESETS[options.preset]
    plan = replace(plan, steps=10_000, pool=options.pairs, warm=options.pairs, fresh=0)
    plan = replace(plan, batch=options.batch or plan.batch, refine_from=0.0)
    trainer = Trainer(plan, device=device, workers=options.workers)
    start = time.perf_counter()
    trainer.fill()
    print(f"layers: {options.pairs / (time.perf_counter() - start):.1f} pairs/s, with their start")
    for name, work in (
        ("composing", lambda step: composed(
            trainer._pool, 1, step, count=plan.batch, canvas=plan.canvas, crop=plan.crop
        )),
        ("whole step", lambda _: trainer.step()),
    ):  # fmt: skip
        work(0)
        start = now()
        for step in range(options.steps):
            work(step)
        spent = (now() - start) / options.steps
        print(f"{name}: {spent * 1e3:.0f} ms, {plan.batch / spent:.1f} shots/s", flush=True)
    if cuda:
        print(f"peak memory: {torch.cuda.max_memory_allocated() / 1e9:.1f} GB")
    trainer.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.speed", description=__doc__)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--device")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=4)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
