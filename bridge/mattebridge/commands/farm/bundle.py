"""The files of a submitted job: the templates in farm/, filled in, each whole or absent."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Optional

from mattebridge.commands.farm.submission import Submission
from mattebridge.errors import UsageError

PACKAGE = Path(__file__).resolve().parents[2]
TEMPLATE = "template.yaml"
MORE_OPTIONS = "            # Further options of `mattebridge matte`, one per line.\n"
CHUNK_LIMIT = "          timeout: 3600\n"
GPU = """\
      # One daemon per GPU. Remove this for models that need no GPU.
      amounts:
        - name: amount.worker.gpu
          min: 1
"""


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


# What other queues are given, where it can hold the job.
FILES: dict[str, Callable[[Submission], str]] = {
    "deadline10.txt": fill_deadline10,
    "opencue.py": fill_opencue,
    "royalrender.cfg": fill_royalrender,
}


def _fill(text: str, submission: Submission, matte: str, name: str) -> str:
    from mattebridge.image_io.frame_ranges import frame_ranges

    values = {
        "@MATTE@": matte,
        "@NAME@": name,
        "@FRAMES@": frame_ranges(submission.frames),
        "@CHUNK@": str(submission.chunk),
    }
    return re.sub(r"@[A-Z]+@", lambda found: values[found.group()], text)


def _template(path: str) -> str:
    return (farm_folder() / path).read_text("utf-8")
