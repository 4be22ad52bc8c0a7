"""What the commands print: one line an error, a traceback where asked for, JSON."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import traceback
from typing import Any, Optional, TextIO


def wants_traceback(options: argparse.Namespace) -> bool:
    return bool(options.traceback or os.environ.get("MATTEBRIDGE_TRACEBACK", "") not in ("", "0"))


def print_traceback(error: BaseException) -> None:
    # Behind a mark: to a queue, a line of an error's own that begins with `openjd_` is a command.
    for part in traceback.format_exception(error):
        for line in part.splitlines():
            print(f"| {one_line(line)}" if line.strip() else "|", file=sys.stderr)


def kind_and_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def one_line(text: str) -> str:
    from mattebridge.shot.progress import clean

    return clean(text)


def make_output_safe() -> None:
    # A file name that the terminal's encoding does not have must not end the job.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def print_json(value: Any, stream: Optional[TextIO] = None) -> None:
    import json

    json.dump(value, stream or sys.stdout, indent=2, default=str)
    (stream or sys.stdout).write("\n")
