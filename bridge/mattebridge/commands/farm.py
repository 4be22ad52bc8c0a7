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
import hashlib
import json
import ntpath
import os
import posixpath
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from mattebridge.commands.options import (
    add_clean_up,
    add_inputs,
    add_keying,
    add_outputs,
    add_pace,
    make_job,
    path_to_write,
)
from mattebridge.commands.path_map import Rule, is_of_windows, map_path, read_rules
from mattebridge.errors import FrameError, UsageError, one_line
from mattebridge.wire.params import INPUT_ROLES

PACKAGE = Path(__file__).resolve().parents[1]
DEFAULT_CHUNK = 20
DEFAULT_CHUNK_LIMIT_S = 3600
SUBMIT_LIMIT_S = 300.0
# Options that are parameters of the template, and those that it sets; all others are text in it.
IN_TEMPLATE = ("clean_plate", "alpha_hint", "output", "model")
OF_THE_TASK = ("frames", "within", "existing")
MORE_OPTIONS = "            # Further options of `mattebridge matte`, one per line.\n"
CHUNK_LIMIT = "          timeout: 3600\n"
GPU = """\
      # One daemon per GPU. Remove this for models that need no GPU.
      amounts:
        - name: amount.worker.gpu
          min: 1
"""

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


@dataclass(frozen=True)
class Submission:
    """A job, as the files for the queues are filled in from it.

    values: the parameters of the template. matte: the whole command after `mattebridge`, without
    the frames of a task. more: its options that the template has no parameter for.
    """

    name: str
    folder: Path
    values: dict[str, Any]
    matte: Sequence[str]
    more: Sequence[str]
    frames: Sequence[int]
    chunk: int
    chunk_limit_s: int
    cpu: bool


def run_submit(options: argparse.Namespace) -> int:
    """`mattebridge farm submit`: 0 when the job is written, and handed over where asked."""
    submission = describe(options)
    queue = _chosen_queue(options.queue)
    refused = write_bundle(submission, needed=QUEUES[queue].file if queue else None)
    print(f"mattebridge: {len(submission.frames)} frames, {submission.chunk} a task, written to")
    print(f"  {submission.folder}")
    for name, reason in refused.items():
        print(f"  without {name}: {one_line(reason)}")
    if queue is None:
        _print_instructions(submission.folder, refused)
        return 0
    command = QUEUES[queue].command(submission.folder)
    print(f"handing it to {QUEUES[queue].title}: {command[0]}", flush=True)
    _hand_over(queue, command)
    return 0


# ------------------------------------------------------------------------------- what the job is


def describe(options: argparse.Namespace) -> Submission:
    """The job that the options describe, with its frames checked. Raises `UsageError`."""
    if options.existing == "error":
        # A task that is tried again must accept what it made the first time.
        options.existing = "verify"
    _make_absolute(options)
    folder = str(options.to or options.output / "farm")
    there = _as_the_workers_see(options, read_rules(options.map))
    frames = _checked_frames(options) if not options.unchecked else _named_frames(options)
    vars(options).update(there)
    name = options.name or _default_name(options.plate)
    shared = ["--no-spawn", f"--instance={options.instance}"] if options.instance else ["--private"]
    overwrite = ["--existing=overwrite"] if options.existing == "overwrite" else []
    return Submission(
        name=name,
        folder=Path(_here(folder)),
        values={
            "JobName": name,
            "Frames": _ranges(frames, ":"),
            "Plate": options.plate,
            "CleanPlate": options.clean_plate or "",
            "AlphaHint": options.alpha_hint or "",
            "Output": str(options.output),
            "Model": options.model,
            "ChunkSize": options.chunk,
            "Instance": options.instance or _instance(name, options.output),
        },
        matte=[
            "matte",
            options.plate,
            *matte_arguments(options, leave_out=OF_THE_TASK),
            f"--existing={options.existing}",
            *shared,
        ],
        more=[*matte_arguments(options, leave_out=OF_THE_TASK + IN_TEMPLATE), *overwrite],
        frames=frames,
        chunk=options.chunk,
        chunk_limit_s=options.chunk_limit,
        cpu=options.cpu,
    )


def _checked_frames(options: argparse.Namespace) -> list[int]:
    """The frames, checked as `matte` checks them before the first one."""
    from mattebridge.shot.plan import preflight

    plan = preflight(make_job(options))
    if plan.videos and len(plan.tasks) > options.chunk:
        video = plan.videos[0].path.name
        raise UsageError(
            f"{video} is one file, and every task would overwrite it; choose a --format of single"
            f" frames, or one task for all frames: --chunk {len(plan.tasks)}"
        )
    bad = [task for task in plan.tasks if task.problem is not None]
    for task in bad[:5]:
        print(f"note: frame {task.frame} will fail: {one_line(str(task.problem))}", file=sys.stderr)
    return [task.frame for task in plan.tasks]


def _named_frames(options: argparse.Namespace) -> list[int]:
    from mattebridge.image_io.frame_ranges import parse_frames

    if options.frames is None:
        raise UsageError("--unchecked looks at no file: give the frames, as --frames 1001-1100")
    frames = set(parse_frames(options.frames))
    if options.within is not None:
        frames &= set(parse_frames(options.within))
    if not frames:
        raise UsageError(f"no frame of {options.frames} lies within {options.within}")
    return sorted(frames)


def _make_absolute(options: argparse.Namespace) -> None:
    """Make every path absolute: the tasks run in another folder, or on another machine."""
    for name in _paths(options):
        given = getattr(options, name)
        setattr(options, name, type(given)(_absolute(str(given))))


def _absolute(path: str) -> str:
    if is_of_windows(path):
        return ntpath.normpath(path)
    return posixpath.normpath(path) if path.startswith("/") else os.path.abspath(path)


def _paths(options: argparse.Namespace) -> list[str]:
    """The options that name files."""
    from mattebridge.shot.background import parse_background

    names = [name for name in (*INPUT_ROLES, "output") if getattr(options, name)]
    pictures = options.background and parse_background(options.background).pictures
    return [*names, "background"] if pictures else names


def _as_the_workers_see(options: argparse.Namespace, rules: Sequence[Rule]) -> dict[str, Any]:
    """The paths as the workers find them, by option.

    Raises `UsageError` for one of Windows for which there is no rule: the workers run Linux.
    """
    found: dict[str, Any] = {}
    for name in _paths(options):
        given = getattr(options, name)
        path = map_path(str(given), rules) or str(given)
        if is_of_windows(path):
            raise UsageError(
                f"{path} is a Windows path, and the workers of this job run Linux: say where they"
                " see that folder, as --map 'P:\\=/mnt/shots'"
            )
        found[name] = type(given)(path)
    return found


def _here(path: str) -> str:
    """The folder of the job's files, which is on this machine. Raises `UsageError`."""
    if is_of_windows(path) and not os.path.isabs(path):
        raise UsageError(
            f"{path} is no folder of this machine: say with --to where the job's files go"
        )
    return os.path.abspath(path)


def _ranges(frames: Sequence[int], mark: str) -> str:
    from mattebridge.image_io.frame_ranges import frame_ranges

    return frame_ranges(frames, mark)


def matte_arguments(options: argparse.Namespace, *, leave_out: Sequence[str]) -> list[str]:
    """The options of `matte` that differ from their defaults, as arguments."""
    found: list[str] = []
    for action in options.matting._actions:
        value = getattr(options, action.dest)
        wanted = action.option_strings and action.dest not in leave_out
        if wanted and value != action.default:
            found += _spelled(action, value)
    return found


def _spelled(action: argparse.Action, value: Any) -> list[str]:
    option = next(each for each in action.option_strings if each.startswith("--"))
    if isinstance(action, argparse.BooleanOptionalAction):
        return [option if value else f"--no-{option[2:]}"]
    if action.nargs == 0:
        return [option] if value == action.const else []
    values = value if isinstance(value, list) else [value]
    return [f"{option}={each}" for each in values]


def _default_name(plate: str) -> str:
    stem = re.split(r"[#@%$]", Path(plate).name)[0] or Path(plate).parent.name
    return (re.sub(r"[._ -]*\d*$", "", Path(stem).stem) or "shot") + " mattes"


def _instance(name: str, output: Path) -> str:
    """The instance that the tasks of a job share on a host: a valid name, unique to the shot."""
    digest = hashlib.sha256(f"{name}\0{output}".encode("utf-8", "surrogateescape")).hexdigest()
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] + f"-{digest[:8]}"


# ------------------------------------------------------------------------------------- the files


def farm_folder() -> Path:
    """The templates: in the repository, or beside an installed package."""
    places = [PACKAGE.parents[1] / "farm"]
    places += [parent / "share" / "mattebridge" / "farm" for parent in PACKAGE.parents]
    for folder in places:
        if (folder / "openjd" / "template.yaml").is_file():
            return folder
    raise UsageError("the templates for farms are not part of this installation of mattebridge")


def write_bundle(submission: Submission, *, needed: Optional[str] = None) -> dict[str, str]:
    """The files of the job, each whole or absent; those that cannot hold it, and why.

    Such a file of an earlier job is removed. Raises `UsageError` where the template, or the file
    that is `needed`, cannot hold it.
    """
    from mattebridge.whole_files import replace_file

    texts = {TEMPLATE: fill_template(submission), **_values(submission)}
    refused: dict[str, str] = {}
    for name, fill in FILES.items():
        try:
            texts[name] = fill(submission)
        except UsageError as reason:
            if name == needed:
                raise
            refused[name] = reason.message
    for name in refused:
        (submission.folder / name).unlink(missing_ok=True)
    for name, text in texts.items():
        replace_file(submission.folder / name, text.encode("utf-8", "surrogateescape"))
    return refused


def _values(submission: Submission) -> dict[str, str]:
    """The files of the template's values."""
    values = submission.values
    listed = [{"name": name, "value": value} for name, value in values.items()]
    return {
        "parameters.json": _json(values),
        "parameter_values.json": _json({"parameterValues": listed}),
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def fill_template(submission: Submission) -> str:
    """The Open Job Description template with this job's options, limits and needs."""
    text = _template("openjd/template.yaml")
    for word in [*submission.more, *map(str, submission.values.values())]:
        if "{{" in word or "\n" in word:
            raise UsageError(
                f"an Open Job Description job cannot hold {word!r}: double braces and line breaks"
                " mean something there"
            )
    # A JSON string is a YAML string.
    lines = "".join(f"            - {json.dumps(word)}\n" for word in submission.more)
    text = _once(text, MORE_OPTIONS, lines or MORE_OPTIONS)
    text = _once(text, CHUNK_LIMIT, CHUNK_LIMIT.replace("3600", str(submission.chunk_limit_s)))
    return _once(text, GPU, "") if submission.cpu else text


def _once(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise UsageError(
            "farm/openjd/template.yaml was changed: take it from the installation again"
        )
    return text.replace(old, new)


def fill_deadline10(submission: Submission) -> str:
    """The arguments of `deadlinecommand`, one a line and nothing else: its quote is <QUOTE>."""
    _refuse_marks("Deadline 10", [*submission.matte, submission.name])
    quoted = [f"<QUOTE>{word}<QUOTE>" if " " in word else word for word in submission.matte]
    lines = _template("deadline10/submit.txt").splitlines(keepends=True)
    arguments = "".join(line for line in lines if not line.startswith("#"))
    return _fill(arguments, submission, " ".join(quoted), submission.name)


def fill_opencue(submission: Submission) -> str:
    """A script that submits the job with pyoutline; the command is for a POSIX shell."""
    command = shlex.join(["mattebridge", *submission.matte])
    matte, name = (json.dumps(text)[1:-1] for text in (command, submission.name))
    return _fill(_template("opencue/submit.py"), submission, matte, name)


def fill_royalrender(submission: Submission) -> str:
    """A command line for a render configuration, an option a line."""
    _refuse_marks("Royal Render", submission.matte)
    lines = "\n".join(f'"{word}"' if " " in word else word for word in submission.matte)
    return _fill(_template("royalrender/mattebridge.cfg"), submission, lines, submission.name)


def _refuse_marks(queue: str, words: Sequence[str]) -> None:
    for word in words:
        if re.search(r"[\n\"<>]", word):
            raise UsageError(f"{queue} cannot take {word!r}: it has a quote, < or > in it")


TEMPLATE = "template.yaml"
# What other queues are given, where it can hold the job.
FILES: dict[str, Callable[[Submission], str]] = {
    "deadline10.txt": fill_deadline10,
    "opencue.py": fill_opencue,
    "royalrender.cfg": fill_royalrender,
}


def _fill(text: str, submission: Submission, matte: str, name: str) -> str:
    values = {
        "@MATTE@": matte,
        "@NAME@": name,
        "@FRAMES@": _ranges(submission.frames, "x"),
        "@CHUNK@": str(submission.chunk),
    }
    return re.sub(r"@[A-Z]+@", lambda found: values[found.group()], text)


def _template(path: str) -> str:
    return (farm_folder() / path).read_text("utf-8")


# ------------------------------------------------------------------------------------ handing over


@dataclass(frozen=True)
class Queue:
    """A queue, its tool, and the command that hands it the job's file; by_hand: for a user."""

    title: str
    file: str
    tool: str
    command: Callable[[Path], list[str]]
    by_hand: str


def _deadline10_arguments(folder: Path) -> list[str]:
    return (folder / "deadline10.txt").read_text("utf-8", "surrogateescape").split("\n")[:-1]


def _python_beside(tool: str) -> str:
    """The interpreter of an installed script: it has what the script imports."""
    found = shutil.which(tool)
    beside = Path(found).parent / "python3" if found else Path("python3")
    return str(beside) if beside.is_file() else "python3"


QUEUES = {
    "openjd": Queue(
        "this machine",
        TEMPLATE,
        "openjd",
        lambda folder: [
            "openjd",
            "run",
            str(folder / "template.yaml"),
            "--step=Matte",
            f"--job-param=file://{folder / 'parameters.json'}",
        ],
        "openjd run {folder}/template.yaml --step Matte -p file://{folder}/parameters.json",
    ),
    "deadline-cloud": Queue(
        "AWS Deadline Cloud",
        TEMPLATE,
        "deadline",
        lambda folder: ["deadline", "bundle", "submit", str(folder), "--yes"],
        "deadline bundle submit {folder}",
    ),
    "deadline10": Queue(
        "Deadline 10",
        "deadline10.txt",
        "deadlinecommand",
        lambda folder: ["deadlinecommand", *_deadline10_arguments(folder)],
        "deadlinecommand, with the lines of {folder}/deadline10.txt as its arguments",
    ),
    "opencue": Queue(
        "OpenCue",
        "opencue.py",
        "pycuerun",
        lambda folder: [_python_beside("pycuerun"), str(folder / "opencue.py")],
        "python3 {folder}/opencue.py, where pyoutline is installed",
    ),
    "royalrender": Queue(
        "Royal Render",
        "royalrender.cfg",
        "",
        lambda folder: [],
        "put the command line of {folder}/royalrender.cfg into a render configuration",
    ),
}


def _chosen_queue(wanted: str) -> Optional[str]:
    """The queue to hand the job to, or None. Raises `UsageError` where it is not clear which."""
    if wanted == "none":
        return None
    if wanted != "auto":
        queue = QUEUES[wanted]
        if not queue.tool:
            raise UsageError(
                f"{queue.title} has no tool that takes a job; use --queue none and "
                + queue.by_hand.format(folder="DIR")
            )
        if shutil.which(queue.tool) is None:
            raise UsageError(
                f"`{queue.tool}`, the tool of {queue.title}, is not installed here; use --queue "
                "none to write the job's files only, and submit them on a machine that has it"
            )
        return wanted
    # openjd runs the job on this machine, so it is never chosen by default.
    found = [
        name
        for name, queue in QUEUES.items()
        if name != "openjd" and queue.tool and shutil.which(queue.tool)
    ]
    if len(found) > 1:
        raise UsageError("the tools of several queues are installed here; choose one with --queue:"
                         f" {', '.join(found)}")  # fmt: skip
    return found[0] if found else None


def _print_instructions(folder: Path, refused: Mapping[str, str]) -> None:
    print("The job was not handed over. To do so:")
    for queue in QUEUES.values():
        if queue.file in refused:
            continue
        words = queue.by_hand.format(folder=shlex.quote(str(folder)))
        print(f"  {queue.title + ':':<20} {words}")


def _hand_over(name: str, command: Sequence[str]) -> None:
    """Run the queue's tool; its output goes to the terminal.

    Raises `UsageError` when the tool refuses the job, `FrameError` when it ran the job and that
    failed.
    """
    try:
        limit_s = None if name == "openjd" else SUBMIT_LIMIT_S
        done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=limit_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"{command[0]} could not be run: {error}") from error
    if done.returncode and name == "openjd":
        raise FrameError("the job failed; the message of its first failure is printed above")
    if done.returncode:
        raise UsageError(
            f"{QUEUES[name].title} did not take the job: {command[0]} ended with exit status"
            f" {done.returncode}"
        )
