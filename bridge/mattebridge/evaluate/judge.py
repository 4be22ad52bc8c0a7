"""How good a model is on frames whose true alpha is known: figures by kind, as a table.

    TrueFrame --truth.read--> LoadedFrame --matte--> DisplayMatte --judge--> Judged --> table

Frames go through the engine as a request of a user does, alignment included, in the colour space of
their files: light where they are EXR, display-encoded where they are PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge.color import FloatImage
from mattebridge.engine.engine import Engine
from mattebridge.evaluate.metrics import Figures, mean_figures, measure
from mattebridge.evaluate.truth import LoadedFrame, TrueFrame
from mattebridge.wire.params import RenderParams

# A kind in which no model can be expected to see everything is left out of a second mean.
APART = "similar"
COLUMNS = (
    ("MAD e-3", "mad"),
    ("SAD", "sad"),
    ("MSE e-3", "mse"),
    ("Grad", "gradient"),
    ("Conn", "connectivity"),
    ("fg MSE e-3", "foreground"),
    ("unknown e-3", "band"),
)
# A pixel is still where its true alpha changes by less than this from one frame to the next.
STILL = 1 / 255


@dataclass(frozen=True)
class DisplayMatte:
    """A model's result: alpha (H, W, 1), foreground (H, W, 3) straight, display-encoded 0..1."""

    alpha: FloatImage
    foreground: FloatImage


@dataclass(frozen=True)
class Judged:
    """The figures of one frame.

    change: of alpha since the frame before, where the true alpha is still, in thousandths; None for
    the first frame, and for frames that are not a shot.
    """

    frame: TrueFrame
    figures: Figures
    change: Optional[float] = None


def matte(engine: Engine, model: str, frame: LoadedFrame) -> DisplayMatte:
    """Matte a frame with a model, as for a request with its defaults."""
    planes: dict[str, Any] = {
        "plate": np.ascontiguousarray(frame.plate),
        "clean_plate": np.ascontiguousarray(frame.clean_plate),
    }
    if frame.alpha_hint is not None:
        planes["alpha_hint"] = frame.alpha_hint
    size = frame.plate.shape[:2]
    out = {
        "alpha": np.empty((*size, 1), np.float32),
        "foreground": np.empty((*size, 3), np.float32),
    }
    params = RenderParams(colorspace=frame.colorspace, output_colorspace="srgb")
    engine.matte(planes, params, model=model, out=out)
    return DisplayMatte(out["alpha"], np.clip(out["foreground"], 0, 1))


def judge(frame: TrueFrame, made: DisplayMatte, truth: LoadedFrame) -> Judged:
    """The figures of one frame."""
    figures = measure(made.alpha, truth.alpha, made.foreground, truth.foreground)
    return Judged(frame, figures)


def change_where_still(
    alpha: FloatImage, before: FloatImage, truth: FloatImage, truth_before: FloatImage
) -> Optional[float]:
    """Mean change of alpha, e-3, where the true one is still; None where it is nowhere."""
    still: NDArray[np.bool_] = np.abs(truth - truth_before) < STILL
    if not still.any():
        return None
    return float(np.abs(alpha - before)[still].mean(dtype=np.float64) * 1e3)


# --- the table ------------------------------------------------------------------------------------


def groups(judged: Sequence[Judged]) -> dict[str, list[Judged]]:
    """The frames by kind in the order of the set, then all, then all without the kind `APART`."""
    by_kind: dict[str, list[Judged]] = {}
    for one in judged:
        by_kind.setdefault(one.frame.kind, []).append(one)
    if len(by_kind) > 1:
        rest = [one for one in judged if one.frame.kind != APART]
        by_kind["all"] = list(judged)
        if APART in by_kind and rest:
            by_kind[f"all but {APART}"] = rest
    return by_kind


def mean_of(group: Sequence[Judged]) -> Figures:
    """The mean figures of some frames."""
    return mean_figures([one.figures for one in group])


def mean_change(judged: Sequence[Judged]) -> Optional[float]:
    """Mean change of alpha from frame to frame where nothing moves, e-3; None without a shot."""
    changes = [one.change for one in judged if one.change is not None]
    return float(np.mean(changes)) if changes else None


def figures_table(model: str, judged: Sequence[Judged]) -> str:
    """The figures of one model as lines of text, one for each kind."""
    lines = [model[:21].ljust(22) + "".join(title.rjust(12) for title, _ in COLUMNS)]
    for name, group in groups(judged).items():
        figures = mean_of(group).as_dict()
        cells = ("-" if figures[key] is None else f"{figures[key]:.3f}" for _, key in COLUMNS)
        lines.append(f"{name} ({len(group)})".ljust(22) + "".join(cell.rjust(12) for cell in cells))
    change = mean_change(judged)
    if change is not None:
        lines.append(f"alpha changes by {change:.2f}e-3 from frame to frame where nothing moves")
    return "\n".join(lines)
