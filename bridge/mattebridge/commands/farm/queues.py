"""The queues that a job can be handed to, and how each of them takes it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from mattebridge.commands.farm.bundle import TEMPLATE
from mattebridge.errors import FrameError, UsageError

SUBMIT_LIMIT_S = 300.0


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


def chosen_queue(wanted: str) -> Optional[str]:
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


def print_instructions(folder: Path, refused: Mapping[str, str]) -> None:
    print("The job was not handed over. To do so:")
    for queue in QUEUES.values():
        if queue.file in refused:
            continue
        words = queue.by_hand.format(folder=shlex.quote(str(folder)))
        print(f"  {queue.title + ':':<20} {words}")


def hand_over(name: str, command: Sequence[str]) -> None:
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
