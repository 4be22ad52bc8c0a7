"""`mattebridge eval`: the figures of models on a set of frames whose true alpha is known."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from mattebridge.commands.options import path_to_write
from mattebridge.errors import UsageError

if TYPE_CHECKING:
    from mattebridge.engine.engine import Engine
    from mattebridge.evaluate.judge import DisplayMatte, Judged
    from mattebridge.evaluate.truth import LoadedFrame, TrueFrame

EPILOG = """\
examples:
  mattebridge eval --set shots
  mattebridge eval --set shots --model difference --model portrait -o eval.png
  mattebridge sample demo/shot && mattebridge eval --set demo/shot

A set is a folder of NAME_plate, NAME_clean, NAME_alpha and, for the colour, NAME_foreground; or it
has folders plate, clean_plate, alpha and foreground, as `mattebridge sample` makes them. The kind
of a frame is the first part of its name without digits; frames named by numbers are a shot, for
which the change of alpha from frame to frame is measured as well, and compared with that of
`difference` (dtSSD). A frame without a true alpha needs boxes: boxes.json in the set's folder is a
list of {"name": NAME, "sure_bg": [[x0, y0, x1, y1], ...], "sure_fg": [...]}.

Figures are means over frames, less is better: MAD, MSE, and MAD in the unknown region (true alpha
between 0 and 1) in thousandths; SAD, Grad and Conn by 1000: they grow with the size of the frames;
fg MSE, of the straight foreground where the true alpha is over 0.02, in thousandths; edge, mean
absolute error of foreground times alpha in the unknown region, in thousandths; islands, regions of
alpha over 0.1 apart from the largest; leak and missing, mean alpha in boxes of certain set and mean
of 1 - alpha in boxes of certain subject, in thousandths.
"""


def add_parser(commands: Any, shared: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge eval`."""
    command = commands.add_parser(
        "eval",
        parents=[shared],
        help="how good models are on frames whose true alpha is known",
        description="Matte a set of frames with known alpha, and print the usual figures by kind.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_eval)
    command.add_argument("--set", metavar="DIR", type=Path, required=True, help="the set's folder")
    command.add_argument(
        "--model",
        metavar="NAME",
        action="append",
        dest="models",
        help="see `mattebridge models`; may be given several times (default: default)",
    )
    command.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        type=path_to_write,
        help="draw the figures and some mattes",
    )
    command.add_argument("--json", action="store_true", help="figures by frame, for programs")
    command.add_argument("--device", default="cpu", metavar="D", help="cpu (default) or cuda:0")


def run_eval(options: argparse.Namespace) -> int:
    """`mattebridge eval`: frames go through the engine here, without a daemon."""
    from mattebridge.daemon.devices import check_named
    from mattebridge.evaluate.truth import SHOT, find_set

    picture: Optional[Path] = options.output
    if picture is not None and picture.suffix.lower() not in (".png", ".jpg"):
        raise UsageError(f"-o takes a .png or .jpg; got {picture.name}")
    frames = find_set(options.set)
    check_named(options.device, option="--device")
    from mattebridge.engine.engine import Engine
    from mattebridge.evaluate.judge import COMPARED_WITH, figures_table

    engine = Engine(options.device)
    names = [engine.registry.card(name).name for name in options.models or ["default"]]
    # Each frame is read once for all models; for the picture, one frame of each kind is kept.
    matted = dict.fromkeys(names)
    if any(frame.kind == SHOT for frame in frames):
        matted[COMPARED_WITH] = None
    everything: dict[str, list[Judged]] = {name: [] for name in matted}
    shown = _Shown(frames, len(set(names))) if picture is not None else None
    _judge_all(engine, frames, everything, shown)
    compared = everything.get(COMPARED_WITH, [])
    judged = {name: everything[name] for name in dict.fromkeys(names)}
    if options.json:
        _print_json(judged)
    else:
        others = {name: compared if name != COMPARED_WITH else [] for name in judged}
        tables = (figures_table(name, found, others[name]) for name, found in judged.items())
        print("\n\n".join(tables))
    if picture is not None and shown is not None:
        _draw(picture, options.set, judged, shown)
        print(f"mattebridge: drawn in {picture}", file=sys.stderr)
    return 0


class _Shown:
    """The middle frame with a true alpha of each kind, with the alpha of every model asked for."""

    def __init__(self, frames: Sequence[TrueFrame], models: int) -> None:
        """models: how many of the mattes, which come first, are drawn."""
        self._models = models
        by_kind: dict[str, list[str]] = {}
        for frame in frames:
            if "alpha" in frame.files:
                by_kind.setdefault(frame.kind, []).append(frame.name)
        self._names = {names[len(names) // 2] for names in by_kind.values()}
        self.pictures: dict[str, Any] = {}

    def keep(self, frame: TrueFrame, truth: LoadedFrame, mattes: Sequence[DisplayMatte]) -> None:
        from mattebridge.color import converted

        if frame.name not in self._names:
            return
        pair = [
            converted(image, truth.colorspace, "srgb") for image in (truth.plate, truth.clean_plate)
        ]
        alphas = [made.alpha for made in mattes[: self._models]]
        self.pictures[frame.name] = (*pair, [truth.alpha, *alphas])


def _judge_all(
    engine: Engine,
    frames: Sequence[TrueFrame],
    judged: dict[str, list[Judged]],
    shown: Optional[_Shown],
) -> None:
    from mattebridge.evaluate.judge import judge, matte, with_change
    from mattebridge.evaluate.truth import SHOT, read
    from mattebridge.shot.progress import counter

    count = counter("frames", sys.stderr)
    before: Optional[tuple[LoadedFrame, list[DisplayMatte]]] = None
    for done, frame in enumerate(frames, 1):
        truth = read(frame)
        mattes = [matte(engine, name, truth) for name in judged]
        for number, (name, made) in enumerate(zip(judged, mattes)):
            one = judge(frame, made, truth)
            if before is not None and frame.kind == SHOT:
                earlier, others = before
                one = with_change(one, made, others[number], truth.alpha, earlier.alpha)
            judged[name].append(one)
        if shown is not None:
            shown.keep(frame, truth, mattes)
        before = (truth, mattes)
        count(done, len(frames))


def _print_json(judged: dict[str, list[Judged]]) -> None:
    import json

    rows = {
        name: [{"frame": one.frame.name, "kind": one.frame.kind, **_known(one)} for one in results]
        for name, results in judged.items()
    }
    print(json.dumps(rows, indent=1))


def _known(one: Judged) -> dict[str, Any]:
    """The figures of a frame; those that it cannot have, without boxes or a shot, are left out."""
    optional = ("leak", "missing", "change", "dtssd")
    figures = one.as_dict().items()
    return {name: value for name, value in figures if value is not None or name not in optional}


def _draw(path: Path, folder: Path, judged: dict[str, list[Judged]], shown: _Shown) -> None:
    from mattebridge.evaluate.sheet import EvaluationRow, evaluation_sheet
    from mattebridge.image_io import Encoding, write_frame

    errors: dict[str, list[str]] = {}
    for results in judged.values():
        for one in results:
            if one.figures is not None:
                errors.setdefault(one.frame.name, []).append(f"{one.figures.mad:.1f}")
    rows = [
        EvaluationRow(f"{name}: MAD {', '.join(errors[name])} e-3", plate, clean_plate, alphas)
        for name, (plate, clean_plate, alphas) in shown.pictures.items()
    ]
    count = len(next(iter(judged.values())))
    title = f"{folder.name or folder}: {count} frame{'s' if count > 1 else ''}"
    sheet = evaluation_sheet(title, judged, rows)
    write_frame(path, sheet, Encoding(colorspace="srgb", alpha="opaque"))
