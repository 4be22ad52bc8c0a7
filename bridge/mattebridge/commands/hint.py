"""`mattebridge hint`: rough mattes of green- and blue-screen frames, for models that want a hint.

A hint is the matte of the model `screen`, made a little smaller and softer: it is the job of
`mattebridge matte` with that model, those settings, and alpha as its one output.
"""

from __future__ import annotations

import argparse
from typing import Any

from mattebridge.commands.matte import add_running, run_matte
from mattebridge.commands.options import (
    INPUT_PARAMS,
    add_existing,
    add_inputs,
    add_pace,
    path_to_write,
)
from mattebridge.wire.params import DEFAULTS

MODEL = "screen"
# Pixels at 960 wide: no fringe of the screen is left inside the hint, and no hard edge.
ERODE_PX, SOFTEN_PX = 2.0, 2.0
EPILOG = """\
examples:
  mattebridge hint plate.####.exr -o hints
      every frame of the sequence; EXR hints in hints/alpha/
  mattebridge hint take.mov -o hints --format png --set screen=blue
      frames of a video, as PNG; the screen is said to be blue
  mattebridge matte plate.####.exr --alpha-hint hints/alpha --model key -o mattes
      a model that was added and takes a hint

A plate without a green or blue screen is refused. exit status: that of `mattebridge matte`.
"""


def add_parser(commands: Any, reached: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge hint`."""
    command = commands.add_parser(
        "hint",
        parents=[reached],
        usage="mattebridge hint PLATE -o HINT [options]",
        help="make rough mattes from a green or blue screen",
        description="Make alpha hints from plates with a green or blue screen.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    given = (*INPUT_PARAMS, "settings")
    params = {name: value for name, value in DEFAULTS.items() if name not in given}
    job = {"outputs": "alpha", "model": MODEL, "frame_rate": None, "quantise": "round"}
    command.set_defaults(**params, **job, run=run_hint)
    add_inputs(command)
    _add_hint(command)
    add_pace(command)
    add_running(command)


def run_hint(options: argparse.Namespace) -> int:
    """`mattebridge hint`: the exit status is that of the job."""
    shape = [f"erode={options.erode}", f"soften={options.soften}"]
    return run_matte(argparse.Namespace(**{**vars(options), "settings": shape + options.settings}))


def _add_hint(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("hints")
    group.add_argument(
        "-o",
        "--output",
        metavar="HINT",
        type=path_to_write,
        required=True,
        help="folder; HINT/alpha/...",
    )
    group.add_argument(
        "--format", metavar="F", help="as of `mattebridge matte`: exr (default), png, png16, ..."
    )
    group.add_argument(
        "--erode",
        metavar="PX",
        type=float,
        default=ERODE_PX,
        help="how much smaller than the subject, in pixels at 960 wide (default: %(default)s)",
    )
    group.add_argument(
        "--soften",
        metavar="PX",
        type=float,
        default=SOFTEN_PX,
        help="blur, in pixels at 960 wide (default: %(default)s)",
    )
    group.add_argument(
        "--set",
        metavar="KEY=VALUE",
        dest="settings",
        action="append",
        default=[],
        help="another setting of the model `screen`, such as screen=blue or colour=#29a045",
    )
    add_existing(group, "hints that exist: refuse (default), keep what is good, or make them again")
