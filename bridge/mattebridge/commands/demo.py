"""`make demo`: from nothing to mattes, with a private daemon that is stopped afterwards.

    render the sample shot -> start a private daemon -> matte every frame through it (shot/run.py)
    -> check the files -> measure against the true alpha -> contact sheet -> stop the daemon

It runs the same code as a user's commands, with a daemon as of `matte --private`: one that is
already running is neither used nor stopped, and a demo that is killed leaves none.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from mattebridge.client import MatteClient
from mattebridge.color import srgb_encode
from mattebridge.daemon import private
from mattebridge.errors import FrameWriteError, MattebridgeError
from mattebridge.evaluate import metrics
from mattebridge.evaluate.metrics import Figures
from mattebridge.image_io import Encoding, read_frame, write_frame
from mattebridge.image_io.output_names import output_path
from mattebridge.report.contact_sheet import SheetRow, contact_sheet
from mattebridge.shot.job import MatteJob
from mattebridge.shot.progress import Progress, counter, make_progress
from mattebridge.shot.run import run_job
from mattebridge.wire.params import DEFAULT_OUTPUTS
from mattebridge_sample import SampleShot, render_shot

Array = NDArray[np.float32]

# Frames on the contact sheet, as shares of the shot.
SHOWN = (0.0, 0.38, 0.62, 1.0)
# Foreground, alpha and their product are each rounded to a half float on disk: to eleven bits, and
# near zero to the smallest step of a half float.
HALF_ROUNDING = 3 * 2.0**-11
HALF_LEAST = 2.0**-24


@dataclass(frozen=True)
class _Measured:
    """One frame measured against the truth: this matte, and a plain difference key."""

    ours: Figures
    key: Figures


def run_demo(
    directory: str | os.PathLike[str] = "demo",
    *,
    frames: int = 24,
    width: int = 960,
    height: int = 540,
    out: TextIO | None = None,
) -> int:
    """Render, matte, check and measure the sample shot in `directory`; an exit status.

    Writes shot/ (see `mattebridge_sample.render_shot`), matte/alpha, matte/foreground,
    matte/premultiplied and contact_sheet.png. An error is printed as one sentence.
    """
    out = out or sys.stdout
    folder = Path(directory)
    try:
        return _run(folder, frames, width, height, out)
    except MattebridgeError as error:
        print(f"demo: {error.message}", file=out, flush=True)
        return error.exit_status


def _run(folder: Path, frames: int, width: int, height: int, out: TextIO) -> int:
    def say(text: str = "") -> None:
        print(text, file=out, flush=True)

    began = time.monotonic()
    say(f"1/4  Rendering the sample shot: {frames} frames of {width}x{height}, scene-linear EXR")
    shot = render_shot(
        folder / "shot", frames=frames, width=width, height=height, on_frame=_counter(out)
    )
    job = MatteJob(
        plate=str(shot.plate),
        clean_plate=str(shot.clean_plate),
        output=folder / "matte",
        existing="overwrite",
    )
    say("2/4  Matting it with a daemon started for this demo. By hand that is:")
    say(f"       mattebridge matte {job.plate} \\")
    say(f"         --clean-plate {job.clean_plate} -o {job.output}")
    failure = _matte(job, make_progress("auto" if out.isatty() else "none", out))
    if failure is not None:
        say(f"demo: {failure[1]}")
        return failure[0]
    say("3/4  Checking the files and comparing them with the truth")
    figures = [_judge(shot, job.output, frame) for frame in shot.frames]
    for line in _table(figures):
        say(f"       {line}")
    sheet = folder / "contact_sheet.png"
    write_frame(
        sheet, _sheet(shot, job.output, figures), Encoding(colorspace="srgb", alpha="opaque")
    )
    say(f"4/4  Done in {time.monotonic() - began:.0f} s. Look at:")
    say(f"       {sheet}")
    for role in DEFAULT_OUTPUTS:
        say(f"       {job.output / role}{os.sep}")
    say("     premultiplied equals foreground x alpha to half precision in every frame")
    return 0


def _counter(out: TextIO) -> Callable[[int, int], None]:
    """Counts frames on one line of a terminal; elsewhere on a line for every quarter of them."""
    if out.isatty():
        return counter("     frames", out)

    def lines(done: int, total: int) -> None:
        if done % max(total // 4, 1) == 0:
            print(f"       {done}/{total}", file=out, flush=True)

    return lines


def _matte(job: MatteJob, progress: Progress) -> tuple[int, str] | None:
    """Run the job with a private daemon; its exit status and a sentence where it failed."""
    with private.private_instance() as instance:

        def connect() -> MatteClient:
            private.start(instance)
            return MatteClient.connect(instance, in_flight=2, name="demo")

        summary = run_job(job, connect, progress=progress)
    return (summary.exit_status, summary.text) if summary.exit_status else None


def _judge(shot: SampleShot, mattes: Path, frame: int) -> _Measured:
    """Check and measure one frame's files. Raises `FrameWriteError` where one is wrong."""
    alpha, foreground, premultiplied = (
        _matte_file(shot, mattes, role, frame) for role in DEFAULT_OUTPUTS
    )
    _check_product(alpha, foreground, premultiplied, frame)
    plate, clean_plate = (_encoded(_read(shot.file(r, frame))) for r in ("plate", "clean_plate"))
    true_alpha = _read(shot.file("alpha", frame))
    true_foreground = _encoded(_read(shot.file("foreground", frame)))
    key = metrics.difference_key(plate, clean_plate)
    return _Measured(
        metrics.measure(alpha, true_alpha, _encoded(foreground), true_foreground),
        metrics.measure(key, true_alpha, plate, true_foreground),
    )


def _read(path: Path) -> Array:
    return np.asarray(read_frame(path).pixels, np.float32)


def _matte_file(shot: SampleShot, mattes: Path, role: str, frame: int) -> Array:
    return _read(output_path(mattes, role, shot.file("plate", frame).stem, ".exr"))


def _encoded(linear: Array) -> Array:
    """sRGB-encoded, clipped to 0..1: the values that the figures are defined on."""
    return srgb_encode(np.clip(linear, 0, 1))


def _check_product(alpha: Array, foreground: Array, premultiplied: Array, frame: int) -> None:
    """Raise where premultiplied is not foreground * alpha, within the precision of half floats."""
    product = foreground * alpha
    allowed = HALF_ROUNDING * np.abs(product) + HALF_LEAST
    off = np.abs(premultiplied[..., :3] - product) - allowed
    if off.max() > 0 or not np.array_equal(premultiplied[..., 3:], alpha):
        y, x = np.unravel_index(int(off.max(-1).argmax()), off.shape[:2])
        raise FrameWriteError(
            f"frame {frame}: premultiplied is not foreground x alpha at column {x}, row {y}; "
            "this is a bug of mattebridge, please report it",
        )


def _table(figures: list[_Measured]) -> list[str]:
    """The figures as lines of text."""
    rows = (
        ("this matte", metrics.mean_figures([row.ours for row in figures])),
        ("plain difference key", metrics.mean_figures([row.key for row in figures])),
    )
    head = ("MAD e-3", "SAD /1000", "unknown e-3", "colour e-3")
    lines = [f"{'':22}" + "".join(f"{name:>13}" for name in head)]
    for name, mean in rows:
        values = (mean.mad, mean.sad, mean.band, mean.foreground or 0.0)
        lines.append(f"{name:22}" + "".join(f"{value:13.2f}" for value in values))
    count = f"{len(figures)} frames" if len(figures) > 1 else "one frame"
    return [*lines, f"Mean of {count} against the true alpha and foreground; less is better."]


def _sheet(shot: SampleShot, mattes: Path, figures: list[_Measured]) -> NDArray[np.uint8]:
    last = len(shot.frames) - 1
    rows = []
    for index in sorted({round(share * last) for share in SHOWN}):
        frame = shot.frames[index]
        alpha, foreground, premultiplied = (
            _matte_file(shot, mattes, role, frame) for role in DEFAULT_OUTPUTS
        )
        rows.append(
            SheetRow(
                label=f"{frame}   MAD {figures[index].ours.mad:.1f}e-3",
                plate=_read(shot.file("plate", frame)),
                clean_plate=_read(shot.file("clean_plate", frame)),
                alpha=alpha,
                foreground=foreground,
                premultiplied=premultiplied,
            )
        )
    return contact_sheet(rows, title="mattebridge: the sample shot")
