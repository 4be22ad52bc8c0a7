"""`python -m training.contact OUT.png`: a contact sheet of composed shots with the keyer's alpha.

Each shot is a row of seven pictures: plate, clean plate, alpha, the keyer's alpha, its alpha with a
wider band, foreground where alpha is above 0.01, alpha hint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_CELL = 160
_ACROSS = 2


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    cv2.imwrite(str(options.out), sheet(options.groups, options.seed, options.size))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.contact", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--groups", type=int, default=2, help="groups of fifteen canvases")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=512)
    return parser


def sheet(groups: int, seed: int, size: int) -> NDArray[np.uint8]:
    """The contact sheet, BGR."""
    import torch

    from training.canvases import Drawing, draw_group, unpacked

    rows: list[NDArray[np.uint8]] = []
    for number in range(groups):
        made = draw_group(seed, number, Drawing(size, wide=True))
        shots = unpacked(torch.from_numpy(made.planes), torch.from_numpy(made.flags))
        seen = shots.foreground * (shots.alpha > 0.01)
        planes = (
            *(shots.plate, shots.clean_plate, shots.alpha, shots.keyed_alpha),
            *(shots.wide_alpha, seen),
        )
        cells = [
            torch.broadcast_to(p, seen.shape).permute(0, 2, 3, 1).numpy()
            for p in (*planes, shots.alpha_hint)
        ]
        rows += [_row([cell[shot] for cell in cells]) for shot in range(len(seen))]
    rows += [np.zeros_like(rows[0])] * (-len(rows) % _ACROSS)
    return np.vstack([np.hstack(rows[at : at + _ACROSS]) for at in range(0, len(rows), _ACROSS)])


def _row(pictures: list[NDArray[np.float32]]) -> NDArray[np.uint8]:
    small = [cv2.resize(p, (_CELL, _CELL), interpolation=cv2.INTER_AREA) for p in pictures]
    line = np.hstack(small)[..., ::-1]
    return np.round(np.clip(line, 0, 1) * 255).astype(np.uint8)


if __name__ == "__main__":
    raise SystemExit(main())
