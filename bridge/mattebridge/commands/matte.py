"""`mattebridge matte`: frames and whole shots through the daemon.

The options become a `MatteJob`, `shot/run.py` runs it, and the exit status is that of the job. A
signal cancels the job; a job that does not end in time then is ended here.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mattebridge.commands.options import (
    add_clean_up,
    add_inputs,
    add_keying,
    add_outputs,
    add_pace,
    make_job,
    path_to_write,
)
from mattebridge.commands.terminal import (
    drop_lost_terminal,
    ending_signals,
    print_traceback,
    wants_traceback,
    with_class,
)
from mattebridge.errors import Cancelled, MattebridgeError, UsageError, one_line
from mattebridge.shot.progress import MODES, make_progress

if TYPE_CHECKING:
    from mattebridge.client import MatteClient
    from mattebridge.shot.progress import Progress
    from mattebridge.shot.summary import Summary

# A cancelled job has ended this long after the signal, even if a read hangs in the kernel.
CANCEL_LIMIT_S = 4.5
EPILOG = """\
examples:
  mattebridge matte plate.####.exr --clean-plate clean.exr -o mattes
      every frame of the sequence; EXR alpha, foreground and premultiplied below mattes/
  mattebridge matte plates/ --clean-plate clean.%04d.exr --frames 1001-1024 \\
      --outputs alpha,comp --format exr,comp=jpg -o mattes
      a folder of frames, a clean plate for each frame, a comp over a checker as JPEG
  mattebridge matte take.png --clean-plate empty.png --alpha-hint rough.png -o out --format png
      one picture
  mattebridge matte take.mov --clean-plate empty.png -o out --outputs alpha,premultiplied \\
      --format exr,premultiplied=prores4444
      a video; alpha as EXR pictures, and one ProRes 4444 with alpha
  mattebridge matte plate.####.exr --clean-plate clean.exr -o mattes --resume
      after an interruption: makes only what is missing or damaged

exit status: 0 every frame is on disk and was checked; 2 wrong options or inputs; 3 some frames
failed; 4 cancelled; 5 no daemon; 1 a bug.
"""


def add_parser(commands: Any, reached: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge matte`."""
    command = commands.add_parser(
        "matte",
        parents=[reached],
        usage="mattebridge matte PLATE [--clean-plate CLEAN] -o OUT [options]",
        help="matte frames or whole shots",
        description="Matte a picture, a folder, a sequence or a video.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_matte)
    add_inputs(command)
    add_outputs(command)
    add_keying(command)
    add_clean_up(command)
    add_pace(command)
    add_running(command)


def run_matte(options: argparse.Namespace) -> int:
    """`mattebridge matte`: the exit status is that of the job."""
    progress = make_progress(options.progress)
    # Before anything else: a queue may cancel while the imports are still running.
    with cancel_on_signal() as cancelled:
        try:
            summary = _matte(options, progress, cancelled)
        except MattebridgeError as error:
            progress.refuse(error.exit_status, error.message)
            raise
        except Exception as error:
            progress.refuse(1, f"a bug: {with_class(error)}")
            raise
    if options.report is not None:
        from mattebridge.shot.summary import write_report

        write_report(options.report, summary.records)
    _print_failure(summary, options)
    return summary.exit_status


def add_running(command: argparse.ArgumentParser) -> None:
    """The daemon that is used, and what is reported."""
    group = command.add_argument_group("running")
    group.add_argument(
        "--no-spawn", action="store_true", help="do not start a daemon when none runs"
    )
    group.add_argument(
        "--private",
        action="store_true",
        help="a daemon for this command alone, stopped at its end: for queues that keep none",
    )
    group.add_argument(
        "--progress",
        choices=MODES,
        default="auto",
        help="auto: a bar on a terminal, a line a frame elsewhere",
    )
    group.add_argument(
        "--report", metavar="FILE", type=path_to_write, help="write a JSON line a frame here"
    )


@contextlib.contextmanager
def cancel_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and the `ending_signals` set; further signals change nothing."""
    cancelled, ended = threading.Event(), threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        drop_lost_terminal(number)
        if not cancelled.is_set():
            cancelled.set()
            threading.Thread(target=_exit_when_overdue, args=(ended,), daemon=True).start()

    numbers = [signal.SIGINT, *ending_signals()]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield cancelled
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _exit_when_overdue(ended: threading.Event) -> None:
    """End the process when the job has not ended in time: no temporary files, exit status 4."""
    if ended.wait(CANCEL_LIMIT_S):
        return
    from mattebridge.whole_files import remove_open_temporaries

    remove_open_temporaries()
    print(
        f"mattebridge: cancelled; a read or write did not end within {CANCEL_LIMIT_S} s",
        file=sys.stderr,
        flush=True,
    )
    os._exit(Cancelled.exit_status)


def _matte(options: argparse.Namespace, progress: Progress, cancelled: threading.Event) -> Summary:
    job = make_job(options)
    from mattebridge.shot.run import run_job

    with private_daemon(options) if options.private else contextlib.nullcontext(options) as chosen:
        return run_job(
            job,
            lambda: connect(chosen, name="matte", in_flight=job.in_flight),
            progress=progress,
            cancelled=cancelled,
        )


@contextlib.contextmanager
def private_daemon(options: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The options with a new instance for this command; it is stopped and removed afterwards."""
    if options.no_spawn or options.instance:
        raise UsageError("--private starts a new daemon; leave out --no-spawn and --instance")
    from mattebridge.daemon.private import private_instance

    with private_instance() as instance:
        yield argparse.Namespace(**{**vars(options), "instance": instance})


def connect(options: argparse.Namespace, *, name: str, in_flight: int) -> MatteClient:
    from mattebridge.client import MatteClient

    if options.private:
        from mattebridge.daemon import private

        private.start(options.instance)
    return MatteClient.connect(
        options.instance,
        start=not options.no_spawn,
        # The daemon runs in the environment of this command; a host does not give this.
        daemon_python=sys.executable,
        in_flight=in_flight,
        name=name,
        host="mattebridge",
    )


def _print_failure(summary: Summary, options: argparse.Namespace) -> None:
    if not summary.exit_status:
        return
    if summary.cause is not None and wants_traceback(options):
        print_traceback(summary.cause)
    print(f"mattebridge: {one_line(summary.first_failure)}", file=sys.stderr)
