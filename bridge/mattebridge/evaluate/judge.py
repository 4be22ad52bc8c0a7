"""How good a model is on frames whose true alpha is known: figures by kind, as a table.

    TrueFrame --truth.read--> LoadedFrame --matte--> DisplayMatte --judge--> Judged --> table

Frames go through the engine as a request of a user does, alignment included, in the colour space of
their files: light where they are EXR, display-encoded where they are PNG.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from mattebridge.color import FloatImage
from mattebridge.engine.engine import Engine
from mattebridge.evaluate import metrics
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
    ("edge e-3", "soft_premultiplied"),
    ("islands", "islands"),
)
# Only where a set has boxes.
BOX_COLUMNS = (("leak e-3", "leak"), ("missing e-3", "missing"))
# The model that a shot's dtSSD is compared with.
COMPARED_WITH = "difference"
# A pixel is still where its true alpha changes by less than this from one frame to the next.
STILL = 1 / 255


@dataclass(frozen=True)
class DisplayMatte:
    """A model's result: alpha (H, W, 1), foreground (H, W, 3) straight, display-encoded 0..1."""

    alpha: FloatImage
    foreground: FloatImage


@dataclass(frozen=True)
class Judged:
    """What is measured of one frame's matte; less is better.

    figures: against the true alpha; None for a frame without one. islands: regions of alpha over
    0.1 apart from the largest. leak, missing: mean alpha in boxes of certain set, mean of 1 - alpha
    in boxes of certain subject, in thousandths; None without such boxes. change: of alpha since the
    frame before, where the true alpha is still, in thousandths; dtssd: how far alpha changes
    otherwise than the true one, e-3. Both are None for the first frame, and for frames that are not
    a shot.
    """

    frame: TrueFrame
    figures: Optional[Figures]
    islands: int
    leak: Optional[float] = None
    missing: Optional[float] = None
    change: Optional[float] = None
    dtssd: Optional[float] = None

    def as_dict(self) -> dict[str, Any]:
        """Every figure by name, in order; those against a true alpha only where there is one."""
        known = {} if self.figures is None else self.figures.as_dict()
        own = ("islands", "leak", "missing", "change", "dtssd")
        return {**known, **{name: getattr(self, name) for name in own}}


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
    figures = None
    if truth.alpha is not None:
        figures = measure(made.alpha, truth.alpha, made.foreground, truth.foreground)
    boxes, leak, missing = frame.boxes, None, None
    if boxes is not None and boxes.of_set:
        leak = metrics.mean_in_boxes(made.alpha, boxes.of_set)
    if boxes is not None and boxes.of_subject:
        missing = metrics.mean_in_boxes(1 - made.alpha, boxes.of_subject)
    return Judged(frame, figures, metrics.islands(made.alpha), leak, missing)


def with_change(
    judged: Judged,
    made: DisplayMatte,
    before: DisplayMatte,
    truth: Optional[FloatImage],
    truth_before: Optional[FloatImage],
) -> Judged:
    """The same with what changed since the frame before; unchanged without their true alphas."""
    if truth is None or truth_before is None:
        return judged
    alphas = (made.alpha, before.alpha, truth, truth_before)
    return replace(
        judged, change=change_where_still(*alphas), dtssd=metrics.temporal_error(*alphas)
    )


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


def mean_of(group: Sequence[Judged]) -> Optional[Figures]:
    """The mean figures of the frames that have a true alpha; None where none has."""
    figures = [one.figures for one in group if one.figures is not None]
    return mean_figures(figures) if figures else None


def mean_by_name(group: Sequence[Judged], name: str) -> Optional[float]:
    """The mean of one figure over the frames that have it; None where none has."""
    values = [one.as_dict().get(name) for one in group]
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def figures_table(model: str, judged: Sequence[Judged], compared: Sequence[Judged] = ()) -> str:
    """The figures of one model as lines of text, one for each kind.

    compared: the same frames by `COMPARED_WITH`, for what is said of a shot.
    """
    has_boxes = any(one.frame.boxes is not None for one in judged)
    columns = (*COLUMNS, *(BOX_COLUMNS if has_boxes else ()))
    lines = [model[:21].ljust(22) + "".join(title.rjust(12) for title, _ in columns)]
    for name, group in groups(judged).items():
        values = [mean_by_name(group, key) for _, key in columns]
        cells = ("-" if value is None else f"{value:.3f}" for value in values)
        lines.append(f"{name} ({len(group)})".ljust(22) + "".join(cell.rjust(12) for cell in cells))
    return "\n".join([*lines, *_lines_of_a_shot(judged, compared)])


def _lines_of_a_shot(judged: Sequence[Judged], compared: Sequence[Judged]) -> list[str]:
    change, dtssd = mean_by_name(judged, "change"), mean_by_name(judged, "dtssd")
    lines = []
    if change is not None:
        lines.append(f"alpha changes by {change:.2f}e-3 from frame to frame where nothing moves")
    if dtssd is not None:
        line = f"dtSSD {dtssd:.2f}e-3: how far alpha changes otherwise than the true one"
        other = mean_by_name(compared, "dtssd")
        if other:
            line += f"; {dtssd / other:.2f} times that of {COMPARED_WITH}, {other:.2f}e-3"
        lines.append(line)
    return lines
