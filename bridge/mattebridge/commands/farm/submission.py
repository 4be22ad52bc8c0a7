"""What a submitted job is: the options of `farm submit`, checked, and as its tasks take them."""

from __future__ import annotations

import argparse
import hashlib
import ntpath
import os
import posixpath
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mattebridge.commands.farm.path_map import Rule, is_of_windows, map_path, read_rules
from mattebridge.commands.options import make_job
from mattebridge.errors import UsageError, one_line
from mattebridge.wire.params import INPUT_ROLES

# Options that are parameters of the template, and those that it sets; all others are text in it.
IN_TEMPLATE = ("clean_plate", "alpha_hint", "output", "model")
OF_THE_TASK = ("frames", "within", "existing")


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


def describe(options: argparse.Namespace) -> Submission:
    """The job that the options describe, with its frames checked. Raises `UsageError`."""
    from mattebridge.image_io.frame_ranges import frame_ranges

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
            "Frames": frame_ranges(frames, ":"),
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
    from mattebridge.shot.preflight import preflight

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
