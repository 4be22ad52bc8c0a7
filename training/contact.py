"""`python -m training.contact OUT.png`: look at what the composer makes.

Each shot in a row of five: plate, clean plate, alpha, foreground where it is seen, alpha hint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_CELL = 200
_ACROSS = 2


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    cv2.imwrite(str(options.out), sheet(options.shots, options.pairs, options.seed, options.size))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.contact", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shots", type=int, default=24)
    parser.add_argument("--pairs", type=int, default=24, help="layer pairs to compose them from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    return parser


def sheet(shots: int, pairs: int, seed: int, size: int) -> NDArray[np.uint8]:
    """The contact sheet, BGR."""
    import torch

    from training.compose.shots import composed
    from training.farm import LayerFarm
    from training.pool import LayerPool

    pool = LayerPool(pairs)
    with LayerFarm(seed) as farm:
        pool.refill(farm, 0, pairs)
    rows: list[NDArray[np.uint8]] = []
    for step in range(-(-shots // 8)):
        made = composed(pool, seed, step, count=8, canvas=size, crop=size)
        seen = made.foreground * (made.alpha > 0.01)
        planes = (made.plate, made.clean_plate, made.alpha, seen, made.alpha_hint)
        cells = [torch.broadcast_to(p, made.plate.shape).permute(0, 2, 3, 1) for p in planes]
        rows += [_row([cell[shot].numpy() for cell in cells]) for shot in range(8)]
    rows = rows[:shots] + [np.zeros_like(rows[0])] * (-shots % _ACROSS)
    return np.vstack([np.hstack(rows[at : at + _ACROSS]) for at in range(0, len(rows), _ACROSS)])


def _row(pictures: list[NDArray[np.float32]]) -> NDArray[np.uint8]:
    small = [cv2.resize(p, (_CELL, _CELL), interpolation=cv2.INTER_AREA) for p in pictures]
    line = np.hstack(small)[..., ::-1]
    return np.round(np.clip(line, 0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())
