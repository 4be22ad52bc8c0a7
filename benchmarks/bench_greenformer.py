"""How much faster the plate + hint network runs than its plain forward, and how far it differs.

    python benchmarks/bench_greenformer.py
    python benchmarks/bench_greenformer.py --sizes 512 1024 --rounds 5

Method. The baseline is the plain eager forward (`Greenformer`, float32, as published); beside it
the same weights and input go through `FastGreenformer`, with the refiner on the whole frame, in
tiles by layers, and in tiles from the start again ("prefix"; only with `--prefix`, since it takes
several times as long). They take turns; what is compared is the median of the process's CPU time
over the rounds, with one thread, so that other load on the machine has little effect. Absolute
times depend on the machine, the ratios much less. Weights are generated: no checkpoint is needed.

`--check` ends with status 1 if the whole frame at 512 is not 1.3 times quicker than the plain
forward, or if any logit is off by more than 1e-5 of the largest.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fakes.generated_weights import plate_pair
from fakes.seeded_keyer import seeded_state
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.greenformer.fast import BY_LAYERS, BY_PREFIX, FULL_FRAME, FastGreenformer
from mattebridge.models.greenformer.network import Greenformer, network_input
from mattebridge.models.greenformer.recognise import network_from

GOAL, GOAL_SIZE = 1.3, 512
LARGEST_DIFFERENCE = 1e-5
PLAIN = "plain"


def main(arguments: list[str] | None = None) -> int:
    args = _arguments(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        with torch.inference_mode():
            return _run(args)
    finally:
        torch.set_num_threads(before)


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--prefix", action="store_true", help="the slowest way of tiles as well")
    parser.add_argument("--check", action="store_true", help="status 1 if a goal is missed")
    return parser.parse_args(arguments)


def _run(args: argparse.Namespace) -> int:
    print(f"torch {torch.__version__}, {args.threads} thread(s), CPU ms, median of {args.rounds}")
    print(f"{'':28}{'ms':>9}{'ratio':>8}  max |logit| off, of the largest")
    network, good = network_from(seeded_state()), True
    for size in args.sizes:
        ways = _ways(network, _input(size), prefix=args.prefix)
        median = _medians(ways, args.rounds)
        wanted = ways[PLAIN]()
        for name, way in ways.items():
            off = float((way() - wanted).abs().max() / wanted.abs().max())
            ratio = median[PLAIN] / median[name]
            print(f"{f'{size}, {name}':28}{median[name]:9.0f}{ratio:7.2f}x  {off:.1e}")
            good &= off <= LARGEST_DIFFERENCE
            good &= (size, name) != (GOAL_SIZE, FULL_FRAME) or ratio >= GOAL
    return 0 if good or not args.check else 1


def _input(size: int) -> Tensor:
    plate = plate_pair(size, size)[0]
    hint = (plate[:, :1] > 0.55).float()
    return network_input(plate, hint)


def _ways(network: Greenformer, x: Tensor, *, prefix: bool) -> dict[str, Callable[[], Tensor]]:
    """What is measured, by name; each gives the logits."""
    fast = FastGreenformer(network)

    def through(way: str) -> Callable[[], Tensor]:
        return lambda: fast(x, [way], 1.0, no_checkpoint).logits

    names = (FULL_FRAME, BY_LAYERS, *([BY_PREFIX] if prefix else []))
    return {PLAIN: lambda: network.logits(x), **{name: through(name) for name in names}}


def _medians(ways: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """CPU milliseconds by name; the ways take turns."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            start = time.process_time()
            way()
            spent[name].append((time.process_time() - start) * 1e3)
    return {name: statistics.median(values) for name, values in spent.items()}


if __name__ == "__main__":
    sys.exit(main())
