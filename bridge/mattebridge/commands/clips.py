"""`mattebridge clips`: folders of clips, as CorridorKey users have them, through the daemon.

Each clip is a job of `mattebridge matte`, one after the other. A clip that cannot be matted is
reported and the others go on; a cancel, a lost daemon or a bug ends the run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import threading
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from mattebridge.commands.matte import add_running, cancel_on_signal, connect, private_daemon
from mattebridge.commands.options import (
    DEINTERLACE,
    INPUT_PARAMS,
    OUTPUT_PARAMS,
    add_clean_up,
    add_existing,
    add_keying,
    add_layers,
    add_pace,
    add_plate_alpha,
    make_job,
    path_to_write,
)
from mattebridge.commands.terminal import print_traceback, wants_traceback
from mattebridge.errors import Cancelled, MattebridgeError, UsageError, one_line
from mattebridge.hosts.settings_text import parse_settings
from mattebridge.shot.progress import make_progress
from mattebridge.wire.params import CLEAN_UP_NAMES, CLEAN_UP_OF_CLIPS, DEFAULTS

if TYPE_CHECKING:
    from mattebridge.clips import Clip, ClipStatus, ScanResult
    from mattebridge.shot.job import MatteJob
    from mattebridge.shot.progress import Progress
    from mattebridge.shot.summary import Summary

OUTPUTS = "alpha,foreground,premultiplied,comp"
# What a `corridorkey.toml` may say in place of the defaults.
IMPORTED = (*CLEAN_UP_NAMES, "outputs", "format")
# Gravest first: a bug, a cancel, a lost daemon, a failed frame, a wrong clip.
GRAVITY = (1, 4, 5, 3, 2)
# These end the run: the next clip would fare no better.
ENDING = (1, 4, 5)
EPILOG = """\
a clip is a folder with Input/ (pictures or one video) and, where there are, AlphaHint/ and
CleanPlate/; PATH is a folder of clips, one clip, or a video.

examples:
  mattebridge clips shots/ --model key
      every clip of shots/ with a CorridorKey checkpoint that was added as `key`;
      results in shots/CLIP/Output/alpha, fg, processed, comp
  mattebridge clips shots/ --model screen --layout classic -o keyed
      without a checkpoint, from green or blue screens; keyed/CLIP/Matte, FG, Processed, Comp
  mattebridge clips shots/ --model key --resume
      after an interruption: makes only what is missing or damaged
  mattebridge clips shots/ --list
      what would be matted, how far each clip is (raw, ready, complete, error, extracting), and
      what is skipped and why

exit status: that of `mattebridge matte`, the gravest of all clips; 2 also for a clip folder that
leaves open what is meant, and where there is no clip. Of --list: 2 for a clip that cannot be matted
as it is, 3 where frames failed in the last run or cannot be read.
"""


class _Default:
    """The value of an option that was not given; prints as the value."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __str__(self) -> str:
        return str(self.value)


def add_parser(commands: Any, reached: argparse.ArgumentParser) -> None:
    """The grammar of `mattebridge clips`."""
    command = commands.add_parser(
        "clips",
        parents=[reached],
        usage="mattebridge clips PATH [--model NAME] [options]",
        help="matte folders of clips",
        description="Matte every clip of a folder: plate, alpha hint and clean plate by name.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    elsewhere = {name: DEFAULTS.get(name) for name in (*INPUT_PARAMS, *OUTPUT_PARAMS)}
    command.set_defaults(
        **elsewhere, plate="", output=Path(), offset=[], frame_rate=None, quantise="round"
    )
    command.set_defaults(run=run_clips)
    _add_clips(command)
    _add_results(command)
    add_keying(command)
    add_clean_up(command, CLEAN_UP_OF_CLIPS)
    add_pace(command)
    add_running(command)
    command.set_defaults(**{name: _Default(command.get_default(name)) for name in IMPORTED})


def _add_clips(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("clips")
    group.add_argument("path", metavar="PATH", type=Path, help="folder of clips, clip, or video")
    group.add_argument(
        "--list",
        action="store_true",
        help="say what would be matted, how far each clip is, and what is skipped; no more",
    )
    group.add_argument(
        "--check",
        action="store_true",
        help="read every frame with its hint and clean plate and say which cannot be; nothing is"
        " computed or written, and no daemon is needed",
    )
    group.add_argument(
        "--extract",
        action="store_true",
        help="write the pictures of videos to Frames/ and AlphaFrames/ of their clip, and matte"
        " those (default: videos are read as they are); nothing is written for a clip that is"
        " refused, nor with --check",
    )
    group.add_argument(
        "--reorganise",
        action="store_true",
        help="move a loose video take.mov to take/Input/take.mov (default: it stays where it is)",
    )
    group.add_argument(
        "--import-config",
        metavar="FILE",
        type=Path,
        help="take settings from a corridorkey.toml; options that are given here win",
    )
    group.add_argument("--frames", metavar="RANGE", help="of every clip: 1001-1100, 1001-1100x2")
    group.add_argument("--within", metavar="RANGE", help="leave out frames that are not in RANGE")
    group.add_argument(
        "--missing",
        choices=("error", "hold", "black"),
        default="error",
        help="a missing frame of an input: refuse the clip, hold the last earlier one, or take it"
        " for black (never a clean plate)",
    )
    group.add_argument(
        "--hint-channel",
        choices=("auto", "R", "G", "B", "A", "luma"),
        default="auto",
        help="which channel of hints (auto: the only one, else alpha, else grey)",
    )
    add_layers(group)
    add_plate_alpha(group)
    group.add_argument("--deinterlace", action="store_true", help=DEINTERLACE)
    group.add_argument(
        "--input-space",
        metavar="SPACE",
        dest="colorspace",
        help="of the plates: linear, srgb, or a name of `mattebridge colors` (default: what each"
        " file says, else by its type)",
    )


def _add_results(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("results")
    group.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        dest="results",
        type=path_to_write,
        help="folder; OUT/CLIP/... (default: Output/ in each clip)",
    )
    group.add_argument(
        "--layout",
        choices=("stages", "classic", "matte"),
        default="stages",
        help="folders: alpha, fg, processed, comp; Matte, FG, Processed, Comp; or those of"
        " `mattebridge matte` (default: %(default)s)",
    )
    group.add_argument(
        "--outputs", metavar="LIST", default=OUTPUTS, help="as of `matte` (default: %(default)s)"
    )
    group.add_argument(
        "--format", metavar="F", help="as of `mattebridge matte` (default: exr,comp=png)"
    )
    add_existing(
        group, "results that exist: refuse the clip (default), keep what is good, or make it again"
    )


def run_clips(options: argparse.Namespace) -> int:
    """`mattebridge clips`: the gravest exit status of the clips."""
    from mattebridge.clips import scan

    with cancel_on_signal() as cancelled:
        options = _settled(options)
        found = scan(options.path, reorganise=options.reorganise)
        listed = _print_found(options, found)
        if not found.clips:
            raise UsageError(f"{options.path} holds no clip; a clip is a folder with Input/ in it")
        if options.list:
            return _gravest([*listed, *_of_skipped(found)])
        with (
            private_daemon(options)
            if options.private and not options.check
            else contextlib.nullcontext(options) as chosen
        ):
            statuses = _run_all(chosen, found, cancelled)
    return _gravest([*statuses, *_of_skipped(found)])


def _of_skipped(found: ScanResult) -> list[int]:
    return [2 for path in found.skipped if path.is_clip]


def _gravest(statuses: Collection[int]) -> int:
    return next((status for status in GRAVITY if status in statuses), 0)


def _settled(options: argparse.Namespace) -> argparse.Namespace:
    """The options as they count: given, else imported, else the default.

    `wants_sharpen`: whether `--hint-sharpen` was given, and not a default.
    """
    settled = argparse.Namespace(**vars(options))
    settled.wants_sharpen = options.hint_sharpen is True
    imported: Mapping[str, Any] = {}
    if options.import_config is not None:
        from mattebridge.clips.corridorkey_toml import import_config

        file = import_config(options.import_config)
        imported = file.options
        given = parse_settings(options.settings, where="--set")
        settled.settings = [f"{name}={value}" for name, value in {**file.settings, **given}.items()]
        settled.background = imported.get("background")
        if file.left_out:
            _say(f"{options.import_config}: not taken: {', '.join(file.left_out)}")
    for name in IMPORTED:
        value = getattr(options, name)
        if isinstance(value, _Default):
            setattr(settled, name, imported.get(name, value.value))
    return settled


def _print_found(options: argparse.Namespace, found: ScanResult) -> list[int]:
    """The clips on standard output where they are asked for, what is skipped always.

    Gives the exit statuses of the clips that are listed.
    """
    statuses = []
    for clip in found.clips:
        if options.list:
            status = _status_of(options, clip)
            statuses.append(status.exit_status)
            print(one_line(_line_of(clip, status)), flush=True)
        for note in clip.notes:
            _say(f"{clip.name}: {note}")
    for path in found.skipped:
        _say(f"skipped {path.path}: {path.reason}")
    return statuses


def _status_of(options: argparse.Namespace, clip: Clip) -> ClipStatus:
    from mattebridge.clips import ClipLayers, state_of

    return state_of(
        clip,
        None if options.results is None else options.results / clip.name,
        layout=options.layout,
        layers=ClipLayers(options.layer, options.hint_layer, options.clean_plate_layer),
        input_space=options.colorspace or "",
    )


def _line_of(clip: Clip, status: ClipStatus) -> str:
    """`take: ready, 12 of 100 frames done: plate PATH, hint PATH`."""
    given = [("plate", clip.input_path), ("hint", clip.alpha_path)]
    given.append(("clean plate", clip.clean_plate_path))
    paths = ", ".join(f"{what} {path}" for what, path in given if path is not None)
    frames = f", {status.done} of {status.total} frames done" if status.total else ""
    detail = f" ({one_line(status.detail)})" if status.detail else ""
    return f"{clip.name}: {status.state}{frames}{detail}: {paths}"


def _say(text: str) -> None:
    print(f"mattebridge: {one_line(text)}", file=sys.stderr)


def _run_all(
    options: argparse.Namespace, found: ScanResult, cancelled: threading.Event
) -> list[int]:
    """The exit statuses of the clips that were begun; writes the report."""
    common = make_job(options)
    statuses: list[int] = []
    lines: list[str] = []
    for clip in found.clips:
        summary, status = _run_one(options, clip, common, cancelled)
        statuses.append(status)
        for record in summary.records if summary is not None else ():
            lines.append(json.dumps({"clip": clip.name, **record.as_dict()}, default=str))
        if status in ENDING:
            break
    if options.report is not None:
        from mattebridge.whole_files import replace_file

        replace_file(options.report, "".join(f"{line}\n" for line in lines).encode())
    return statuses


def _run_one(
    options: argparse.Namespace, clip: Clip, common: MatteJob, cancelled: threading.Event
) -> tuple[Optional[Summary], int]:
    """The summary of a clip, None for one that was refused, and its exit status."""
    from mattebridge.clips.job import job_of, with_hint_of_plate
    from mattebridge.clips.needs import check_inputs
    from mattebridge.shot.run import run_job

    progress = make_progress(options.progress)
    try:
        if cancelled.is_set():
            raise Cancelled("the job was cancelled; run it again with --resume")
        clip = with_hint_of_plate(clip, options.hint_layer)
        if options.wants_sharpen and clip.alpha_path is None:
            progress.note(f"{clip.name} has no hint: --hint-sharpen does nothing for it")
        if options.extract and not options.check:
            _refuse_videos(options, clip, common, cancelled)
            clip, common = _extracted(clip, common, cancelled)
        job = job_of(clip, common, layout=options.layout, output=options.results)
        summary = (
            _checked(job, progress, cancelled)
            if options.check
            else run_job(
                job,
                lambda: connect(options, name="clips", in_flight=job.in_flight),
                progress=progress,
                cancelled=cancelled,
                check=check_inputs,
            )
        )
    except MattebridgeError as error:
        progress.refuse(error.exit_status, error.message)
        _say(f"{clip.name}: {error.message}")
        return None, error.exit_status
    if summary.cause is not None and wants_traceback(options):
        print_traceback(summary.cause)
    if summary.exit_status:
        _say(f"{clip.name}: {summary.first_failure}")
    return summary, summary.exit_status


def _checked(job: MatteJob, progress: Progress, cancelled: threading.Event) -> Summary:
    from mattebridge.clips.checking import check_job

    return check_job(job, progress, cancelled)


def _refuse_videos(
    options: argparse.Namespace, clip: Clip, common: MatteJob, cancelled: threading.Event
) -> None:
    """Raise what is wrong with the job of a clip's videos, before there are pictures of them."""
    from mattebridge.clips.job import job_of
    from mattebridge.clips.needs import check_inputs
    from mattebridge.shot.run import refuse_job

    job = job_of(clip, common, layout=options.layout, output=options.results)
    if options.layout != "stages":
        # Results of pictures have other names than those of a video there, which may stand beside.
        job = replace(job, existing="overwrite")
    refuse_job(
        job,
        lambda: connect(options, name="clips", in_flight=job.in_flight),
        cancelled=cancelled,
        check=check_inputs,
    )


def _extracted(clip: Clip, common: MatteJob, cancelled: threading.Event) -> tuple[Clip, MatteJob]:
    """The clip with the pictures of its videos, and the job for these."""
    from mattebridge.clips.events import Teller
    from mattebridge.clips.extraction import extracted

    made = extracted(clip, Teller(None), deinterlace=common.deinterlace, cancelled=cancelled)
    # Pictures that were extracted are whole; a clip without videos is refused as ever.
    return made, replace(common, deinterlace=common.deinterlace and made == clip)
