"""`mattebridge sample` and `demo`: a shot with known alpha, and how good the mattes of it are."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from mattebridge.commands.options import path_to_write, size
from mattebridge.errors import OutputExistsError


def add_parsers(commands: Any, shared: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge sample` and `demo`."""
    _add_sample(commands, shared)
    _add_demo(commands, shared)


def run_sample(options: argparse.Namespace) -> int:
    """`mattebridge sample`: render the sample shot."""
    from mattebridge.shot.progress import counter
    from mattebridge_sample import render_shot

    if options.existing == "error":
        _refuse_existing(options.directory)
    width, height = options.size
    shot = render_shot(
        options.directory,
        frames=options.frames,
        first_frame=options.first_frame,
        width=width,
        height=height,
        seed=options.seed,
        drift=options.drift,
        screen=options.screen,
        on_frame=counter("frames", sys.stdout),
    )
    print(f"mattebridge: {options.frames} frames in {options.directory}")
    means = "--model screen" if options.screen else f"--clean-plate {shot.clean_plate}"
    print(f"  mattebridge matte {shot.plate} {means} -o mattes")
    return 0


def _refuse_existing(directory: Path) -> None:
    for name in ("shot.json", "plate", "clean_plate", "truth"):
        path = directory / name
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise OutputExistsError(
                f"{path} exists already; use --existing overwrite to make the sample shot again, or"
                " another folder"
            )


def run_demo(options: argparse.Namespace) -> int:
    """`mattebridge demo`: what `make demo` runs."""
    from mattebridge.commands.demo import run_demo as run

    return int(run(options.directory))


def _add_sample(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "sample",
        parents=[shared],
        help="render the sample shot",
        description="Render a short shot with its clean plate, true alpha and true foreground.",
    )
    command.set_defaults(run=run_sample)
    command.add_argument("directory", metavar="DIR", type=path_to_write)
    command.add_argument(
        "--existing",
        choices=("error", "overwrite"),
        default="error",
        help="a sample shot that exists in DIR: refuse (default), or make it again",
    )
    command.add_argument("--frames", metavar="N", type=int, default=24, help="how many (24)")
    command.add_argument("--first-frame", metavar="F", type=int, default=1001, help="(1001)")
    command.add_argument("--size", metavar="WxH", type=size, default=(960, 540), help="(960x540)")
    command.add_argument("--seed", metavar="N", type=int, default=1, help="another shot (1)")
    command.add_argument(
        "--screen",
        choices=("green", "blue"),
        help="an uneven screen in place of the set, with its light on the subject",
    )
    command.add_argument(
        "--drift",
        action="store_true",
        help="a clean plate for each frame, as from a camera that was moved and reset",
    )


def _add_demo(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "demo",
        parents=[shared],
        help="sample shot, mattes, figures and a contact sheet in one go",
        description="Render the sample shot, matte it, and measure the mattes.",
    )
    command.set_defaults(run=run_demo)
    command.add_argument(
        "directory", metavar="DIR", type=path_to_write, nargs="?", default=Path("demo")
    )
