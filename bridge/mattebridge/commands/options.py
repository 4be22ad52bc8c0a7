"""Options that several commands share: inputs, outputs, keying, pace; and the job they describe.

Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mattebridge.errors import UsageError
from mattebridge.wire.params import (
    ALIGNMENTS,
    COLORSPACES,
    FOREGROUNDS,
    NONFINITE_POLICIES,
    PLATE_ALPHAS,
)

if TYPE_CHECKING:
    from mattebridge.shot.job import MatteJob

DEFAULT_MEMORY_MIB = 1024


def shared_again() -> argparse.ArgumentParser:
    """The shared options behind an action, too; unsaid, they do not undo those before it."""
    again = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    again.add_argument("--instance", metavar="NAME", help=argparse.SUPPRESS)
    for option in ("--traceback", "--json"):
        again.add_argument(
            option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return again


def add_inputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "inputs", "each a file, folder or video, or a pattern: plate.####.exr, %04d, @@@@, $F4"
    )
    group.add_argument("plate", metavar="PLATE", help="the filmed frames")
    group.add_argument("--clean-plate", metavar="P", help="the same shot without the subject")
    group.add_argument("--alpha-hint", metavar="P", help="a rough matte")
    group.add_argument("--garbage-matte", metavar="P", help="where it is white, alpha is 0")
    group.add_argument("--core-matte", metavar="P", help="where it is white, alpha is 1")
    group.add_argument(
        "--hint-channel",
        choices=("auto", "R", "G", "B", "A"),
        default="auto",
        help="which channel of hints and mattes (auto: the only one, else alpha, else grey)",
    )
    group.add_argument(
        "--frames",
        metavar="RANGE",
        help="1001-1100, 1001-1100x2, 1001,1005-1010; openjd:1-9:2 or nuke:'1-10x2 20'",
    )
    group.add_argument("--within", metavar="RANGE", help="leave out frames that are not in RANGE")
    group.add_argument(
        "--missing",
        choices=("error", "hold", "black"),
        default="error",
        help="a missing frame of an input: refuse, hold the last earlier one, or take it for black"
        " (never a clean plate)",
    )
    group.add_argument(
        "--offset",
        metavar="INPUT=N",
        action="append",
        default=[],
        help="move an input's frame numbers: clean_plate=-1000; plate=1001 for a video, whose"
        " first picture is else frame 0",
    )
    group.add_argument(
        "--recursive",
        action="store_true",
        help="take a folder with all folders in it, matched by name; OUT has the same folders",
    )
    group.add_argument(
        "--colorspace",
        choices=COLORSPACES,
        help="of the plate (default: EXR and float TIFF linear, 8- and 16-bit srgb)",
    )
    group.add_argument(
        "--plate-alpha",
        choices=PLATE_ALPHAS,
        default="opaque",
        help="what the plate's alpha means (default: nothing, the plate is opaque)",
    )


def add_outputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("outputs")
    group.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="folder; OUT/alpha/... etc."
    )
    group.add_argument(
        "--outputs",
        metavar="LIST",
        default="alpha,foreground,premultiplied",
        help="out of alpha, foreground, premultiplied, comp, error, refinement"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--layers",
        action="store_true",
        help="one EXR of premultiplied RGBA, matte.A and foreground.R/G/B in place of three",
    )
    group.add_argument(
        "--format",
        metavar="F",
        help="exr (half), exr-float, exr-zips, exr-none, exr-preview, png, png16, jpg, jpg-444,"
        " jpg-75, tiff8, tiff16, tiff-float, dpx10; videos: h264, h264-444, h265, prores4444,"
        " prores422hq, ffv1, ffv1-16, qtrle, png-mov, cineform, dnxhr, dnxhr-444, vp9, mp4v;"
        " by output: exr,comp=h264 (default: exr)",
    )
    group.add_argument(
        "--preset",
        choices=("background-matting",),
        help="folders, names and formats of the published BackgroundMattingV2 scripts",
    )
    group.add_argument(
        "--numbering",
        choices=("source", "image_sequences"),
        default="source",
        help="names of frames: the plate's own, or 00000 and on",
    )
    group.add_argument(
        "--background",
        metavar="B",
        help="under the comp: checker, '#rrggbb', linear 0.1,0.2,0.3, or a picture, sequence or"
        " video (default: checker)",
    )
    group.add_argument(
        "--frame-rate",
        metavar="R",
        help="of videos: 24, 30000/1001, 29.97 (default: the plate's, else 24)",
    )
    group.add_argument(
        "--no-audio",
        dest="audio",
        action="store_false",
        help="leave out the plate's sound in videos of foreground, premultiplied and comp",
    )
    group.add_argument(
        "--quantise",
        choices=("round", "truncate"),
        default="round",
        help="8- and 16-bit values: to the nearest, or cut as some other programs do",
    )
    group.add_argument(
        "--output-colorspace",
        choices=COLORSPACES,
        help="colours in EXR and float TIFF (default: linear)",
    )
    group.add_argument(
        "--keep-data-window",
        action="store_true",
        help="EXR: store the plate's data window only, not the whole frame",
    )
    group.add_argument(
        "--existing",
        choices=("error", "verify", "overwrite"),
        default="error",
        help="output that is there: refuse (default), keep what is good, or make again",
    )
    group.add_argument(
        "--resume",
        dest="existing",
        action="store_const",
        const="verify",
        help="the same as --existing verify",
    )


def add_keying(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("keying")
    group.add_argument("--model", default="default", help="see `mattebridge models`")
    group.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting of the model; may be given several times",
    )
    group.add_argument(
        "--foreground",
        choices=FOREGROUNDS,
        default="model",
        help="colour from the model, unmixed from the clean plate, or the plate's own",
    )
    group.add_argument(
        "--alignment", choices=ALIGNMENTS, help="of the clean plate (default: as the model wants)"
    )
    group.add_argument(
        "--match-exposure",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fit the clean plate's exposure to the plate (default: where alignment is auto)",
    )
    group.add_argument(
        "--nonfinite",
        choices=NONFINITE_POLICIES,
        default="error",
        help="NaN and infinity in a plate: refuse the frame, or take them for black",
    )
    group.add_argument(
        "--exact", action="store_true", help="no fast paths: the model's plain arithmetic"
    )


def add_pace(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("pace")
    group.add_argument(
        "--timeout", metavar="S", type=seconds, default=600.0, help="longest wait for one frame"
    )
    group.add_argument(
        "--deadline", metavar="S", type=seconds, help="the daemon drops a frame after this long"
    )
    group.add_argument(
        "--in-flight",
        metavar="N",
        type=int,
        choices=range(1, 9),
        default=2,
        help="frames at the daemon at once, 1 to 8 (default: 2; one more than there are GPUs)",
    )
    group.add_argument(
        "--memory",
        metavar="MIB",
        type=int,
        default=DEFAULT_MEMORY_MIB,
        help="frames read ahead and waiting to be written stay below this (default: %(default)s)",
    )


def size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; say 960x540")
    return int(match.group(1)), int(match.group(2))


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no time in seconds")
    return value


def make_job(options: argparse.Namespace) -> MatteJob:
    """The job that the options describe. Raises `UsageError`."""
    from mattebridge.shot.job import MatteJob
    from mattebridge.shot.outputs import parse_outputs
    from mattebridge.shot.videos import parse_rate

    same = (
        "plate clean_plate alpha_hint garbage_matte core_matte hint_channel frames within missing"
        " recursive colorspace plate_alpha output layers background preset numbering audio"
        " output_colorspace keep_data_window existing model foreground alignment match_exposure"
        " nonfinite exact in_flight"
    )
    return MatteJob(
        **{name: getattr(options, name) for name in same.split()},
        outputs=parse_outputs(options.outputs),
        formats=options.format,
        offsets=parse_offsets(options.offset),
        frame_rate=parse_rate(options.frame_rate) if options.frame_rate else None,
        truncate=options.quantise == "truncate",
        settings=parse_settings(options.settings),
        deadline_s=options.deadline,
        timeout_s=options.timeout,
        max_bytes=options.memory << 20,
    )


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """`["gain=1.5", "fast=true"]` as typed values. Raises `UsageError`."""
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes key=value, not '{text}'")
        settings[name] = _typed(value)
    return settings


def parse_offsets(given: Sequence[str]) -> dict[str, int]:
    """`["clean_plate=-1000"]` as numbers by input. Raises `UsageError`."""
    from mattebridge.shot.job import ROLES

    offsets = {}
    for text in given:
        name, _, number = text.partition("=")
        role = name.replace("-", "_")
        if role not in ROLES or not re.fullmatch(r"[+-]?\d+", number):
            raise UsageError(f"--offset takes one of {', '.join(ROLES)} =number, not '{text}'")
        offsets[role] = int(number)
    return offsets


def _typed(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
