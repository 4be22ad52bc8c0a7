"""Options that several commands share (inputs, outputs, keying, pace), and the job they describe.

The options of the render parameters are made from the table in `wire/params.py`, each in the group
that artists look for it. Nothing heavy is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional

from mattebridge.errors import UsageError
from mattebridge.hosts.settings_text import parse_settings
from mattebridge.whole_files import check_names
from mattebridge.wire.params import (
    CLEAN_UP_NAMES,
    INPUT_ROLES,
    NAMES,
    PARAMS,
    Param,
    RenderParams,
    is_space_name,
)

if TYPE_CHECKING:
    from mattebridge.shot.job import MatteJob

DEFAULT_MEMORY_MIB = 1024
# The render parameters by the group of their option, beside CLEAN_UP_NAMES; the rest are keying.
INPUT_PARAMS = ("colorspace", "plate_alpha")
# Other names of an option.
ALIASES = {"colorspace": ("--input-space",)}
OUTPUT_PARAMS = ("output_colorspace", "premultiply")
# Where a job has another default than a request, and so another help.
HELP_OF_A_JOB = {
    "colorspace": "of the plate: linear, srgb, or a name of `mattebridge colors` (default: what the"
    " file says, else EXR and float TIFF linear, 8- and 16-bit srgb)",
    "output_colorspace": "colours in EXR and float TIFF, named likewise (default: the plate's,"
    " where it is scene-linear, else linear)",
}
DEINTERLACE = "videos: make whole pictures of those that are marked as interlaced"


def add_inputs(command: argparse.ArgumentParser) -> None:
    """What a job reads: the plate and what belongs to it, frames, colour."""
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
        choices=("auto", "R", "G", "B", "A", "luma"),
        default="auto",
        help="which channel of hints and mattes (auto: the only one, else alpha, else grey; "
        "luma: of the colours)",
    )
    add_layers(group)
    group.add_argument("--deinterlace", action="store_true", help=DEINTERLACE)
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
        " first picture is otherwise frame 0",
    )
    group.add_argument(
        "--recursive",
        action="store_true",
        help="read a folder with all folders in it, matched by name; OUT has the same folders",
    )
    _add_params(group, INPUT_PARAMS)


def add_layers(group: Any) -> None:
    """`--layer`, `--clean-plate-layer` and `--hint-layer`, for the inputs of a job."""
    add_layer(group, "the plate's EXRs")
    group.add_argument("--clean-plate-layer", metavar="NAME", help="the same for the clean plate")
    group.add_argument("--hint-layer", metavar="NAME", help="the same for hints and mattes")


def add_plate_alpha(group: Any) -> None:
    """`--plate-alpha` alone, for a command that has its own way to say the colour space."""
    _add_params(group, ("plate_alpha",))


def add_layer(group: Any, of: str) -> None:
    """`--layer NAME`, for pictures that have several."""
    group.add_argument(
        "--layer",
        metavar="NAME",
        help=f"which layer or part of {of} (default: the unnamed one, or the only one)",
    )


def add_outputs(command: argparse.ArgumentParser) -> None:
    """What a job writes: kinds of output, formats, names, files that exist already."""
    group = command.add_argument_group("outputs")
    group.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        type=path_to_write,
        required=True,
        help="folder; OUT/alpha/... etc.",
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
        help="8- and 16-bit values: to the nearest, or truncated as some other programs do",
    )
    _add_params(group, OUTPUT_PARAMS)
    group.add_argument(
        "--keep-data-window",
        action="store_true",
        help="EXR: store the plate's data window only, not the whole frame",
    )
    add_existing(group, "output that exists: refuse (default), keep what is good, or make it again")


def add_existing(group: argparse._ArgumentGroup, policy: str) -> None:
    """What is done with files that exist; policy: the help of `--existing`."""
    group.add_argument(
        "--existing", choices=("error", "verify", "overwrite"), default="error", help=policy
    )
    group.add_argument(
        "--resume",
        dest="existing",
        action="store_const",
        const="verify",
        help="the same as --existing verify",
    )


def add_keying(command: argparse.ArgumentParser) -> None:
    """The model, and how it computes a matte."""
    group = command.add_argument_group("keying")
    group.add_argument("--model", default="default", help="see `mattebridge models`")
    elsewhere = ("settings", *INPUT_PARAMS, *OUTPUT_PARAMS, *CLEAN_UP_NAMES)
    _add_params(group, ["settings", *(name for name in NAMES if name not in elsewhere)])


def add_clean_up(
    command: argparse.ArgumentParser, defaults: Optional[Mapping[str, Any]] = None
) -> None:
    """What is done to a matte and its colours behind the model.

    defaults: by name, those of a command that has others than a request.
    """
    when = "off unless asked for, " if defaults is None else ""
    group = command.add_argument_group(
        "clean-up", f"{when}in this order (docs/colour.md); lengths in pixels"
    )
    _add_params(group, CLEAN_UP_NAMES, defaults)


def add_pace(command: argparse.ArgumentParser) -> None:
    """Time limits, frames in flight, memory."""
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
        help="limit for frames read ahead and waiting to be written (default: %(default)s)",
    )


def shared_again() -> argparse.ArgumentParser:
    """The shared options once more, to be given after an action too (`models list --json`).

    Where they are not given there, they leave alone what was given before the action.
    """
    again = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    again.add_argument("--instance", metavar="NAME", help=argparse.SUPPRESS)
    for option in ("--traceback", "--json"):
        again.add_argument(
            option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )
    return again


def make_job(options: argparse.Namespace) -> MatteJob:
    """The job that the options describe. Raises `UsageError`."""
    from mattebridge.shot.job import OF_THE_FILE, MatteJob
    from mattebridge.shot.outputs import parse_outputs
    from mattebridge.shot.videos import parse_rate

    given = {
        field.name: getattr(options, field.name)
        for field in fields(MatteJob)
        if hasattr(options, field.name)
    }
    params = {name: getattr(options, name) for name in NAMES}
    params["colorspace"] = options.colorspace or OF_THE_FILE
    params["settings"] = parse_settings(options.settings, where="--set")
    given.update(
        params=RenderParams(**params),
        outputs=parse_outputs(options.outputs),
        formats=options.format,
        offsets=parse_offsets(options.offset),
        frame_rate=parse_rate(options.frame_rate) if options.frame_rate else None,
        truncate=options.quantise == "truncate",
        deadline_s=options.deadline,
        timeout_s=options.timeout,
        max_bytes=options.memory << 20,
    )
    return MatteJob(**given)


def parse_offsets(given: Sequence[str]) -> dict[str, int]:
    """`["clean_plate=-1000"]` as numbers by input. Raises `UsageError`."""
    offsets = {}
    for text in given:
        name, _, number = text.partition("=")
        role = name.replace("-", "_")
        if role not in INPUT_ROLES or not re.fullmatch(r"[+-]?\d+", number):
            raise UsageError(
                f"--offset takes one of {', '.join(INPUT_ROLES)} =number, not '{text}'"
            )
        offsets[role] = int(number)
    return offsets


def size(text: str) -> tuple[int, int]:
    """`960x540` as width and height, for argparse."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 960x540")
    return int(match.group(1)), int(match.group(2))


def seconds(text: str) -> float:
    """A time in seconds above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a time in seconds above 0")
    return value


def space(text: str) -> str:
    """The name of a colour space, for argparse; the daemon knows which there are."""
    name = text.strip()
    if not is_space_name(name):
        raise argparse.ArgumentTypeError(f"'{text}' is not the name of a colour space")
    return name


def _add_params(
    group: Any, names: Sequence[str], defaults: Optional[Mapping[str, Any]] = None
) -> None:
    own = defaults or {}
    rows = {each.name: replace(each, default=own.get(each.name, each.default)) for each in PARAMS}
    for name in names:
        options = (rows[name].option, *ALIASES.get(name, ()))
        group.add_argument(*options, help=_help(rows[name]), **_option_of(rows[name]))


def _option_of(param: Param) -> dict[str, Any]:
    """The keywords of `add_argument` for a parameter, by its kind."""
    if param.kind == "choice":
        return {"choices": param.choices, "default": param.default}
    if param.kind in ("whole", "number"):
        return {"type": _within(param), "metavar": "N", "default": param.default}
    if param.kind == "space":
        return {"type": space, "metavar": "SPACE", "default": param.default}
    if param.kind == "map":
        return {"dest": param.name, "metavar": "KEY=VALUE", "action": "append", "default": []}
    if param.unset or param.default:
        return {"action": argparse.BooleanOptionalAction, "default": param.default}
    return {"action": "store_true"}


def path_to_write(text: str) -> Path:
    """A file or folder that a command writes, for argparse: what the system takes for another
    one is refused at once."""
    path = Path(text)
    try:
        check_names([path])
    except UsageError as error:
        raise argparse.ArgumentTypeError(error.message) from error
    return path


def _within(param: Param) -> Callable[[str], float]:
    """Reads a number in the range of a parameter, for argparse."""

    def read(text: str) -> float:
        try:
            value = int(text) if param.kind == "whole" else float(text)
        except ValueError:
            value = math.nan
        if param.lowest <= value <= param.highest:
            return value
        kind = "whole number" if param.kind == "whole" else "number"
        raise argparse.ArgumentTypeError(f"'{text}' is not a {kind} from {param.range}")

    return read


def _help(param: Param) -> str:
    if param.name in HELP_OF_A_JOB:
        return HELP_OF_A_JOB[param.name]
    if param.kind == "map":
        return f"{param.help}; may be given several times"
    default = "" if param.kind == "flag" and not param.unset else param.unset or param.default
    return param.help if default in ("", None) else f"{param.help} (default: {default})"
