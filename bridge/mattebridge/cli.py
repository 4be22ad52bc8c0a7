"""The command line: `mattebridge matte | clean-plate | models | sample | demo | serve | ...`.

Each command imports what it needs when it runs, so that `--help` answers at once and never loads
torch or OpenCV. Errors are one sentence on standard error with the exit status of their class;
`--traceback` or MATTEBRIDGE_TRACEBACK=1 shows where they came from.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Optional, TextIO

from mattebridge import (
    clean_plate_command,
    evaluation_command,
    farm_command,
    install,
    models_command,
    plates_command,
    report_command,
)
from mattebridge.errors import Cancelled, ConnectionFailed, MattebridgeError, UsageError
from mattebridge.params import (
    ALIGNMENTS,
    COLORSPACES,
    FOREGROUNDS,
    NONFINITE_POLICIES,
    PLATE_ALPHAS,
)
from mattebridge.version import __version__

if TYPE_CHECKING:
    from mattebridge.batch import Summary
    from mattebridge.client import MatteClient
    from mattebridge.job import MatteJob
    from mattebridge.progress import Progress

# A cancelled job is gone this long after the signal, even with a read that hangs in the kernel.
CANCEL_LIMIT_S = 4.5
DEFAULT_MEMORY_MIB = 1024
# For the daemon of a command that is killed before it can stop it.
PRIVATE_IDLE_EXIT_S = 120.0

MATTE_EPILOG = """\
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

SERVE_EPILOG = """\
examples:
  mattebridge serve                 the daemon in this terminal; Ctrl-C stops it
  mattebridge serve --detach        in the background; returns when it accepts
  mattebridge serve --devices cuda:0,cuda:1
"""


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; the exit status."""
    _make_output_safe()
    given = _join_negative_frames(list(sys.argv[1:] if arguments is None else arguments))
    options = build_parser().parse_args(given)
    try:
        return int(options.run(options))
    except MattebridgeError as error:
        return _refuse(error, options)
    except KeyboardInterrupt:
        return _refuse(Cancelled("interrupted"), options)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        _print_traceback(error)
        print(f"mattebridge: a bug: {_one_line(_kind_and_words(error))}", file=sys.stderr)
        return 1


def _refuse(error: MattebridgeError, options: argparse.Namespace) -> int:
    if _wants_traceback(options):
        _print_traceback(error)
    print(f"mattebridge: {_one_line(str(error))}", file=sys.stderr)
    return error.exit_status


def _wants_traceback(options: argparse.Namespace) -> bool:
    return bool(options.traceback or os.environ.get("MATTEBRIDGE_TRACEBACK", "") not in ("", "0"))


def _print_traceback(error: BaseException) -> None:
    # Behind a mark: to a queue, a line of an error's own that begins with `openjd_` is a command.
    for part in traceback.format_exception(error):
        for line in part.splitlines():
            print(f"| {_one_line(line)}" if line.strip() else "|", file=sys.stderr)


def _kind_and_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _one_line(text: str) -> str:
    from mattebridge.progress import clean

    return clean(text)


def _make_output_safe() -> None:
    # A file name that the terminal's encoding does not have must not end the job.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _join_negative_frames(arguments: list[str]) -> list[str]:
    """`--frames -3--1` as `--frames=-3--1`: argparse takes a leading dash for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] in ("--frames", "--within") and re.match(r"-\d", argument):
            joined[-1] = f"{joined[-1]}={argument}"
        else:
            joined.append(argument)
    return joined


# --------------------------------------------------------------------------------------- the parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without a screenful of usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"mattebridge: {_one_line(message)}; see `{self.prog} --help`\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line; imports nothing heavy."""
    parser = _Parser(
        prog="mattebridge",
        description="Alpha, foreground and premultiplied RGBA from a plate and a clean plate.",
        epilog="`mattebridge COMMAND --help` says more, with examples.",
    )
    parser.add_argument("--version", action="version", version=f"mattebridge {__version__}")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--traceback", action="store_true", help="show where an error came from")
    reached = argparse.ArgumentParser(add_help=False, parents=[shared])
    reached.add_argument(
        "--instance", metavar="NAME", help="which daemon: a name, or the path of its runtime folder"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_matte(commands, reached)
    clean_plate_command.add_parser(commands, shared)
    _add_sample(commands, shared)
    _add_demo(commands, shared)
    _add_serve(commands, reached)
    _add_status(commands, reached)
    _add_stop(commands, reached)
    models_command.add_parser(commands, reached)
    plates_command.add_parser(commands, reached)
    report_command.add_parser(commands, shared)
    evaluation_command.add_parser(commands, shared)
    install.add_parser(commands, shared)
    groups = (_add_inputs, _add_outputs, _add_keying, _add_pace)
    farm_command.add_parser(commands, shared, groups, make_job)
    return parser


def _add_matte(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "matte",
        parents=[reached],
        usage="mattebridge matte PLATE [--clean-plate CLEAN] -o OUT [options]",
        help="matte frames or whole shots",
        description="Matte a picture, a folder, a sequence or a video.",
        epilog=MATTE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_matte)
    _add_inputs(command)
    _add_outputs(command)
    _add_keying(command)
    _add_pace(command)
    _add_running(command)


def _add_inputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group(
        "inputs", "each a file, folder or video, or a pattern: plate.####.exr, %04d, @@@@, $F4"
    )
    group.add_argument("plate", metavar="PLATE", help="the filmed frames")
    group.add_argument("--clean-plate", metavar="P", help="the same shot without the subject")
    group.add_argument("--alpha-hint", metavar="P", help="a rough matte")
    group.add_argument("--garbage-matte", metavar="P", help="where it is white, alpha is 0")
    group.add_argument("--core-matte", metavar="P", help="where it is white, alpha is 1")
    group.add_argument(
        "--hint-channel",
        choices=("auto", "R", "G", "B", "A"),
        default="auto",
        help="which channel of hints and mattes (auto: the only one, else alpha, else grey)",
    )
    group.add_argument(
        "--frames",
        metavar="RANGE",
        help="1001-1100, 1001-1100x2, 1001,1005-1010; openjd:1-9:2 or nuke:'1-10x2 20'",
    )
    group.add_argument("--within", metavar="RANGE", help="leave out frames that are not in RANGE")
    group.add_argument(
        "--missing",
        choices=("error", "hold", "black"),
        default="error",
        help="a missing frame of an input: refuse, hold the last earlier one, or take it for black"
        " (never a clean plate)",
    )
    group.add_argument(
        "--offset",
        metavar="INPUT=N",
        action="append",
        default=[],
        help="move an input's frame numbers: clean_plate=-1000; plate=1001 for a video, whose"
        " first picture is else frame 0",
    )
    group.add_argument(
        "--recursive",
        action="store_true",
        help="take a folder with all folders in it, matched by name; OUT has the same folders",
    )
    group.add_argument(
        "--colorspace",
        choices=COLORSPACES,
        help="of the plate (default: EXR and float TIFF linear, 8- and 16-bit srgb)",
    )
    group.add_argument(
        "--plate-alpha",
        choices=PLATE_ALPHAS,
        default="opaque",
        help="what the plate's alpha means (default: nothing, the plate is opaque)",
    )


def _add_outputs(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("outputs")
    group.add_argument(
        "-o", "--output", metavar="OUT", type=Path, required=True, help="folder; OUT/alpha/... etc."
    )
    group.add_argument(
        "--outputs",
        metavar="LIST",
        default="alpha,foreground,premultiplied",
        help="out of alpha, foreground, premultiplied, comp, error, refinement"
        " (default: %(default)s)",
    )
    group.add_argument(
        "--layers",
        action="store_true",
        help="one EXR of premultiplied RGBA, matte.A and foreground.R/G/B in place of three",
    )
    group.add_argument(
        "--format",
        metavar="F",
        help="exr (half), exr-float, exr-zips, exr-none, exr-preview, png, png16, jpg, jpg-444,"
        " jpg-75, tiff8, tiff16, tiff-float, dpx10; videos: h264, h264-444, h265, prores4444,"
        " prores422hq, ffv1, ffv1-16, qtrle, png-mov, cineform, dnxhr, dnxhr-444, vp9, mp4v;"
        " by output: exr,comp=h264 (default: exr)",
    )
    group.add_argument(
        "--preset",
        choices=("background-matting",),
        help="folders, names and formats of the published BackgroundMattingV2 scripts",
    )
    group.add_argument(
        "--numbering",
        choices=("source", "image_sequences"),
        default="source",
        help="names of frames: the plate's own, or 00000 and on",
    )
    group.add_argument(
        "--background",
        metavar="B",
        help="under the comp: checker, '#rrggbb', linear 0.1,0.2,0.3, or a picture, sequence or"
        " video (default: checker)",
    )
    group.add_argument(
        "--frame-rate",
        metavar="R",
        help="of videos: 24, 30000/1001, 29.97 (default: the plate's, else 24)",
    )
    group.add_argument(
        "--no-audio",
        dest="audio",
        action="store_false",
        help="leave out the plate's sound in videos of foreground, premultiplied and comp",
    )
    group.add_argument(
        "--quantise",
        choices=("round", "truncate"),
        default="round",
        help="8- and 16-bit values: to the nearest, or cut as some other programs do",
    )
    group.add_argument(
        "--output-colorspace",
        choices=COLORSPACES,
        help="colours in EXR and float TIFF (default: linear)",
    )
    group.add_argument(
        "--keep-data-window",
        action="store_true",
        help="EXR: store the plate's data window only, not the whole frame",
    )
    group.add_argument(
        "--existing",
        choices=("error", "verify", "overwrite"),
        default="error",
        help="output that is there: refuse (default), keep what is good, or make again",
    )
    group.add_argument(
        "--resume",
        dest="existing",
        action="store_const",
        const="verify",
        help="the same as --existing verify",
    )


def _add_keying(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("keying")
    group.add_argument("--model", default="default", help="see `mattebridge models`")
    group.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting of the model; may be given several times",
    )
    group.add_argument(
        "--foreground",
        choices=FOREGROUNDS,
        default="model",
        help="colour from the model, unmixed from the clean plate, or the plate's own",
    )
    group.add_argument(
        "--alignment", choices=ALIGNMENTS, help="of the clean plate (default: as the model wants)"
    )
    group.add_argument(
        "--match-exposure",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="fit the clean plate's exposure to the plate (default: where alignment is auto)",
    )
    group.add_argument(
        "--nonfinite",
        choices=NONFINITE_POLICIES,
        default="error",
        help="NaN and infinity in a plate: refuse the frame, or take them for black",
    )
    group.add_argument(
        "--exact", action="store_true", help="no fast paths: the model's plain arithmetic"
    )


def _add_pace(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("pace")
    group.add_argument(
        "--timeout", metavar="S", type=_seconds, default=600.0, help="longest wait for one frame"
    )
    group.add_argument(
        "--deadline", metavar="S", type=_seconds, help="the daemon drops a frame after this long"
    )
    group.add_argument(
        "--in-flight",
        metavar="N",
        type=int,
        choices=range(1, 9),
        default=2,
        help="frames at the daemon at once, 1 to 8 (default: 2; one more than there are GPUs)",
    )
    group.add_argument(
        "--memory",
        metavar="MIB",
        type=int,
        default=DEFAULT_MEMORY_MIB,
        help="frames read ahead and waiting to be written stay below this (default: %(default)s)",
    )


def _add_running(command: argparse.ArgumentParser) -> None:
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
        choices=("auto", "bar", "plain", "json", "openjd", "deadline", "none"),
        default="auto",
        help="auto: a bar on a terminal, a line a frame elsewhere",
    )
    group.add_argument("--report", metavar="FILE", type=Path, help="write a JSON line a frame here")


def _add_sample(commands: Any, shared: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "sample",
        parents=[shared],
        help="render the sample shot",
        description="Render a short shot with its clean plate, true alpha and true foreground.",
    )
    command.set_defaults(run=run_sample)
    command.add_argument("directory", metavar="DIR", type=Path)
    command.add_argument("--frames", metavar="N", type=int, default=24, help="how many (24)")
    command.add_argument("--first-frame", metavar="F", type=int, default=1001, help="(1001)")
    command.add_argument("--size", metavar="WxH", type=_size, default=(960, 540), help="(960x540)")
    command.add_argument("--seed", metavar="N", type=int, default=1, help="another shot (1)")
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
        description="Render the sample shot, matte it, and say how good the mattes are.",
    )
    command.set_defaults(run=run_demo)
    command.add_argument("directory", metavar="DIR", type=Path, nargs="?", default=Path("demo"))


def _add_serve(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "serve",
        parents=[reached],
        help="run the daemon",
        description="Run the daemon that holds the models and serves frames.",
        epilog=SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_serve)
    command.add_argument("--detach", action="store_true", help="in the background")
    command.add_argument(
        "--devices", default="auto", metavar="D", help="cpu, cuda:0,cuda:1 or auto (default)"
    )
    command.add_argument(
        "--idle-exit", metavar="S", type=_seconds, help="stop after S seconds without work"
    )
    command.add_argument(
        "--progress",
        choices=("plain", "openjd"),
        default="plain",
        help="openjd: tell an Open Job Description session which instance its tasks use",
    )
    # A start by a client: an idle limit of its own, and nothing is remembered.
    command.add_argument("--auto", action="store_true", help=argparse.SUPPRESS)


def _add_status(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "status",
        parents=[reached],
        help="what the daemon is doing",
        description="State, workers, queue, sessions, frames, timings and memory of the daemon.",
    )
    command.set_defaults(run=run_status)
    command.add_argument("--json", action="store_true", help="everything, for programs")


def _add_stop(commands: Any, reached: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "stop",
        parents=[reached],
        help="stop the daemon",
        description="Let the daemon finish its frames and stop. No daemon is a success too.",
    )
    command.set_defaults(run=run_stop)
    command.add_argument(
        "--if-unused", action="store_true", help="leave it running while others use it"
    )


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; say 960x540")
    return int(match.group(1)), int(match.group(2))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no time in seconds")
    return value


# -------------------------------------------------------------------------------------------- matte


def run_matte(options: argparse.Namespace) -> int:
    """`mattebridge matte`: the exit status is that of the job."""
    from mattebridge.progress import make_progress

    progress = make_progress(options.progress)
    # First of all: a queue may cancel while we are still importing.
    with _cancel_on_signal() as cancelled:
        try:
            summary = _matte(options, progress, cancelled)
        except MattebridgeError as error:
            progress.refuse(error.exit_status, error.message)
            raise
        except Exception as error:
            progress.refuse(1, f"a bug: {_kind_and_words(error)}")
            raise
    if options.report is not None:
        from mattebridge.batch import write_report

        write_report(options.report, summary.records)
    _say_failure(summary, options)
    return summary.exit_status


def _matte(options: argparse.Namespace, progress: Progress, cancelled: threading.Event) -> Summary:
    job = make_job(options)
    from mattebridge.batch import run_job

    with _private_daemon(options) if options.private else contextlib.nullcontext(options) as chosen:
        return run_job(
            job,
            lambda: _connect(chosen, name="matte", in_flight=job.in_flight),
            progress=progress,
            cancelled=cancelled,
        )


@contextlib.contextmanager
def _private_daemon(options: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The options with an instance of this command's own, of which nothing is left afterwards."""
    if options.no_spawn or options.instance:
        raise UsageError("--private starts a daemon of its own; leave out --no-spawn, --instance")
    from mattebridge import transport
    from mattebridge.daemon import control

    folder = transport.runtime_folder(f"private-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        yield argparse.Namespace(**{**vars(options), "instance": str(folder)})
    finally:
        with contextlib.suppress(MattebridgeError):
            control.stop(str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def make_job(options: argparse.Namespace) -> MatteJob:
    """The job that the options describe. Raises `UsageError`."""
    from mattebridge.job import MatteJob
    from mattebridge.outputs import parse_outputs
    from mattebridge.video_outputs import parse_rate

    same = (
        "plate clean_plate alpha_hint garbage_matte core_matte hint_channel frames within missing"
        " recursive colorspace plate_alpha output layers background preset numbering audio"
        " output_colorspace keep_data_window existing model foreground alignment match_exposure"
        " nonfinite exact in_flight"
    )
    return MatteJob(
        **{name: getattr(options, name) for name in same.split()},
        outputs=parse_outputs(options.outputs),
        formats=options.format,
        offsets=parse_offsets(options.offset),
        frame_rate=parse_rate(options.frame_rate) if options.frame_rate else None,
        truncate=options.quantise == "truncate",
        settings=parse_settings(options.settings),
        deadline_s=options.deadline,
        timeout_s=options.timeout,
        max_bytes=options.memory << 20,
    )


def parse_settings(given: Sequence[str]) -> dict[str, Any]:
    """`["gain=1.5", "fast=true"]` as typed values. Raises `UsageError`."""
    settings: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes key=value, not '{text}'")
        settings[name] = _typed(value)
    return settings


def parse_offsets(given: Sequence[str]) -> dict[str, int]:
    """`["clean_plate=-1000"]` as numbers by input. Raises `UsageError`."""
    from mattebridge.job import ROLES

    offsets = {}
    for text in given:
        name, _, number = text.partition("=")
        role = name.replace("-", "_")
        if role not in ROLES or not re.fullmatch(r"[+-]?\d+", number):
            raise UsageError(f"--offset takes one of {', '.join(ROLES)} =number, not '{text}'")
        offsets[role] = int(number)
    return offsets


def _typed(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _connect(options: argparse.Namespace, *, name: str, in_flight: int) -> MatteClient:
    from mattebridge.client import MatteClient

    if options.private:
        from mattebridge.daemon import control

        control.serve(options.instance, detach=True, auto=True, idle_exit_s=PRIVATE_IDLE_EXIT_S)
    return MatteClient.connect(
        options.instance,
        start=not options.no_spawn,
        # We are the command line of the package with the daemon half; a host never passes this.
        daemon_python=sys.executable,
        in_flight=in_flight,
        name=name,
        host="mattebridge",
    )


def _say_failure(summary: Summary, options: argparse.Namespace) -> None:
    if not summary.exit_status:
        return
    if summary.cause is not None and _wants_traceback(options):
        _print_traceback(summary.cause)
    print(f"mattebridge: {_one_line(summary.first_failure)}", file=sys.stderr)


@contextlib.contextmanager
def _cancel_on_signal() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; further signals change nothing."""
    cancelled = threading.Event()

    def on_signal(number: int, frame: Any) -> None:
        if not cancelled.is_set():
            cancelled.set()
            threading.Thread(target=_leave_in_time, daemon=True).start()

    ended = threading.Event()
    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }

    def _leave_in_time() -> None:
        if not ended.wait(CANCEL_LIMIT_S):
            _leave_now()

    try:
        yield cancelled
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_now() -> None:
    """For a read or write that hangs in the kernel: no temporaries, exit status 4."""
    from mattebridge.whole_files import remove_open_temporaries

    remove_open_temporaries()
    print("mattebridge: cancelled; something did not let go in time", file=sys.stderr, flush=True)
    os._exit(Cancelled.exit_status)


# ------------------------------------------------------------------------------- the other commands


def run_sample(options: argparse.Namespace) -> int:
    """`mattebridge sample`: render the sample shot."""
    from mattebridge.progress import counter
    from mattebridge.sample import render_shot

    width, height = options.size
    shot = render_shot(
        options.directory,
        frames=options.frames,
        first_frame=options.first_frame,
        width=width,
        height=height,
        seed=options.seed,
        drift=options.drift,
        on_frame=counter("frames", sys.stdout),
    )
    print(f"mattebridge: {options.frames} frames in {options.directory}")
    print(f"  mattebridge matte {shot.plate} --clean-plate {shot.clean_plate} -o mattes")
    return 0


def run_demo(options: argparse.Namespace) -> int:
    """`mattebridge demo`: what `make demo` runs."""
    from mattebridge.demo import run_demo as run

    return int(run(options.directory))


def run_serve(options: argparse.Namespace) -> int:
    """`mattebridge serve`: the daemon, or its start in the background."""
    from mattebridge.daemon import control

    try:
        status = control.serve(
            options.instance,
            detach=options.detach,
            devices=options.devices,
            idle_exit_s=options.idle_exit,
            auto=options.auto,
        )
    except MattebridgeError as error:
        if options.progress == "openjd":
            print(f"openjd_fail: {_one_line(error.message)}", flush=True)
        raise
    if options.detach and status == 0 and not options.auto:
        _say_where_it_serves(options)
    return status


def _say_where_it_serves(options: argparse.Namespace) -> None:
    from mattebridge.transport import DEFAULT_INSTANCE, runtime_folder

    if options.progress == "openjd":
        named = options.instance or os.environ.get("MATTEBRIDGE_INSTANCE") or DEFAULT_INSTANCE
        print(f"openjd_env: MATTEBRIDGE_INSTANCE={_one_line(named)}")
    print(f"mattebridge: the daemon accepts in {runtime_folder(options.instance)}")


def run_status(options: argparse.Namespace) -> int:
    """`mattebridge status`: a table, or JSON."""
    from mattebridge.client import MatteClient

    try:
        with MatteClient.connect(options.instance, name="status") as client:
            status = client.status()
    except ConnectionFailed:
        if options.json:
            _print_json({"state": "not running"})
        raise
    if options.json:
        _print_json({key: value for key, value in status.items() if key not in ("op", "id")})
    else:
        from mattebridge.status_text import status_table

        print(status_table(status))
    return 0


def run_stop(options: argparse.Namespace) -> int:
    """`mattebridge stop`: 0 also when none runs, or when it is left to others."""
    from mattebridge.daemon import control

    if options.if_unused:
        said = _one_line(control.leave(options.instance))
    else:
        said = control.stop(options.instance).value
    print(f"mattebridge: {said}")
    return 0


def _print_json(value: Any, stream: Optional[TextIO] = None) -> None:
    import json

    json.dump(value, stream or sys.stdout, indent=2, default=str)
    (stream or sys.stdout).write("\n")


if __name__ == "__main__":
    sys.exit(main())
