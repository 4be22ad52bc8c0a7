"""`python -m training.speed`: measure a machine before training on it.

Prints the canvases per second of the drawing processes, and the milliseconds of cropping and of a
whole step (on a CPU the CPU time of this process, whatever else is running).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    import torch

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
    plan = replace(plan, steps=10_000, pool=options.canvases, warm=options.canvases, fresh=0.0)
    plan = replace(plan, batch=options.batch or plan.batch, crop=options.crop or plan.crop)
    trainer = Trainer(plan, device=device, workers=options.workers)
    start = time.perf_counter()
    trainer.fill()
    pace = trainer.pool.held / (time.perf_counter() - start)
    print(f"drawing: {pace:.1f} canvases/s, start of the processes included", flush=True)
    for name, work in (("cropping", trainer.shots), ("whole step", trainer.step)):
        work()
        start = now()
        for _ in range(options.steps):
            work()
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
    parser.add_argument("--crop", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--canvases", type=int, default=24)
    parser.add_argument("--steps", type=int, default=4)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
