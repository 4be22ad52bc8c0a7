"""`mattebridge farm submit`: a shot as a job for render queues, in the files that each one takes.

    DIR/template.yaml             the Open Job Description job, with the options of this shot
    DIR/parameters.json           its values, for `openjd run`
    DIR/parameter_values.json     its values, for AWS Deadline Cloud
    DIR/deadline10.txt            the arguments for `deadlinecommand`
    DIR/opencue.py                a script that submits to OpenCue
    DIR/royalrender.cfg           the command line for Royal Render

All of them call `mattebridge matte`; their templates are in farm/. The job is checked as `matte`
checks it before anything is written. Then it is handed to the queue whose tool is installed; where
there is none, instructions are printed.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

from mattebridge.commands.farm.bundle import write_bundle
from mattebridge.commands.farm.queues import QUEUES, chosen_queue, hand_over, print_instructions
from mattebridge.commands.farm.submission import describe
from mattebridge.commands.options import (
    add_clean_up,
    add_inputs,
    add_keying,
    add_outputs,
    add_pace,
    path_to_write,
)
from mattebridge.errors import one_line

DEFAULT_CHUNK = 20
DEFAULT_CHUNK_LIMIT_S = 3600
EPILOG = """\
examples:
  mattebridge farm submit plate.####.exr --clean-plate clean.exr -o mattes
      writes the job to mattes/farm/ and hands it to the queue whose tool is installed here
  mattebridge farm submit plate.####.exr --clean-plate clean.exr -o mattes \\
      --frames 1001-1100x2 --chunk 10 --queue none
  mattebridge farm submit plate.####.exr --clean-plate clean.exr -o mattes --queue openjd
      runs the job here and now, as a farm would
  mattebridge farm submit 'P:\\sh010\\plate.####.exr' -o 'P:\\sh010\\mattes' --map 'P:\\=/mnt/shots'
      from Windows, for workers that see drive P: as /mnt/shots

docs/farm.md has a page on each queue, and the exit statuses.
"""


def add_parser(commands: Any, shared: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge farm`; `submit` takes the options of `matte` as well."""
    farm = commands.add_parser(
        "farm", parents=[shared], help="hand a shot to a render queue", description="Render farms."
    )
    actions = farm.add_subparsers(title="actions", metavar="ACTION", required=True)
    matting = argparse.ArgumentParser(add_help=False)
    for add in (add_inputs, add_outputs, add_keying, add_clean_up, add_pace):
        add(matting)
    command = actions.add_parser(
        "submit",
        parents=[matting],
        usage="mattebridge farm submit PLATE [--clean-plate CLEAN] -o OUT [options]",
        help="write a shot as a job, and hand it over where a queue's tool is installed",
        description="Write a shot as a job for a render queue, and hand it over.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_submit, matting=matting)
    command.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS
    )
    _add_farm(command)


def _add_farm(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("farm")
    group.add_argument(
        "--to", metavar="DIR", type=path_to_write, help="the job's files (default: OUT/farm)"
    )
    group.add_argument("--name", metavar="NAME", help="of the job (default: that of the plate)")
    group.add_argument(
        "--queue",
        choices=("auto", *QUEUES, "none"),
        default="auto",
        help="the queue to hand the job to (default: the one whose tool is installed)",
    )
    group.add_argument(
        "--chunk",
        metavar="N",
        type=_count,
        default=DEFAULT_CHUNK,
        help="frames a task (default: %(default)s)",
    )
    group.add_argument(
        "--chunk-limit",
        metavar="S",
        type=_count,
        default=DEFAULT_CHUNK_LIMIT_S,
        help="a task that takes longer is cancelled (default: %(default)s)",
    )
    group.add_argument(
        "--instance",
        metavar="NAME",
        help="the daemon that tasks share (default: one for this job on each host)",
    )
    group.add_argument("--cpu", action="store_true", help="ask for no GPU")
    group.add_argument(
        "--map",
        metavar="FROM=TO",
        action="append",
        default=[],
        help="a folder here and where the workers see it: 'P:\\=/mnt/shots'; or a file of path"
        " mapping rules of Open Job Description; may be given several times",
    )
    group.add_argument(
        "--unchecked", action="store_true", help="do not look for the frames on this machine"
    )


def _count(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1")
    return int(text)


def run_submit(options: argparse.Namespace) -> int:
    """`mattebridge farm submit`: 0 when the job is written, and handed over where asked."""
    submission = describe(options)
    queue = chosen_queue(options.queue)
    refused = write_bundle(submission, needed=QUEUES[queue].file if queue else None)
    print(f"mattebridge: {len(submission.frames)} frames, {submission.chunk} a task, written to")
    print(f"  {submission.folder}")
    for name, reason in refused.items():
        print(f"  without {name}: {one_line(reason)}")
    if queue is None:
        print_instructions(submission.folder, refused)
        return 0
    command = QUEUES[queue].command(submission.folder)
    print(f"handing it to {QUEUES[queue].title}: {command[0]}", flush=True)
    hand_over(queue, command)
    return 0
