"""What the commands print: errors as one line, tracebacks where asked for, JSON for programs."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import stat
import sys
import traceback
from typing import Any, Optional, TextIO

from mattebridge.errors import one_line
from mattebridge.wire import oslayer


def ending_signals() -> list[int]:
    """SIGTERM, which a render queue sends, and SIGHUP, which the end of a terminal sends.

    On Windows SIGBREAK, which Ctrl-Break and the closing of a console send. Without those that this
    command was told to ignore, as by `nohup`.
    """
    others = {*oslayer.current().stop_signals()} - {signal.SIGINT, signal.SIGTERM}
    return [signal.SIGTERM, *(one for one in others if signal.getsignal(one) != signal.SIG_IGN)]


def drop_lost_terminal(number: int) -> None:
    """After SIGHUP the terminal is gone: what is printed from now on must not be an error.

    number: the signal that came; after others the terminal is still there.
    """
    if signal.Signals(number).name != "SIGHUP":
        return
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            # Not by `isatty`: it is False once the terminal is gone.
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)


def open_closed_streams() -> None:
    """Give standard streams that the caller closed (`>&-`) to nowhere.

    Without it the next file that is opened gets the number of a closed one, and what a library
    prints goes into that file.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
        setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def make_output_safe() -> None:
    """Let a file name that the terminal's encoding cannot show be printed escaped."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def wants_traceback(options: argparse.Namespace) -> bool:
    """Whether `--traceback` or MATTEBRIDGE_TRACEBACK asks for the traceback of an error."""
    return bool(options.traceback or os.environ.get("MATTEBRIDGE_TRACEBACK", "") not in ("", "0"))


def print_traceback(error: BaseException) -> None:
    """The traceback on standard error, every line behind a mark.

    Render queues take a line that begins with `openjd_` for a command, and the message of an error
    may hold such a line.
    """
    for part in traceback.format_exception(error):
        for line in part.splitlines():
            print(f"| {one_line(line)}" if line.strip() else "|", file=sys.stderr)


def with_class(error: BaseException) -> str:
    """The message of an unexpected error behind the name of its class."""
    return f"{type(error).__name__}: {error}"


def print_json(value: Any, stream: Optional[TextIO] = None) -> None:
    """A value as indented JSON."""
    import json

    json.dump(value, stream or sys.stdout, indent=2, default=str)
    (stream or sys.stdout).write("\n")
