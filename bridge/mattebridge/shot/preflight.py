"""The checks before a shot is rendered, and the plan that they leave.

    MatteJob (what was asked) --preflight--> Plan

Preflight opens headers only. It refuses a job that cannot succeed (a missing frame, an output that
exists already) before a daemon is started and a frame is rendered.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import numpy as np

from mattebridge.errors import OutputExistsError, SequenceError, UsageError
from mattebridge.image_io import EXTENSIONS
from mattebridge.image_io.frame_ranges import parse_frames
from mattebridge.image_io.matching import FrameInputs, match_frames
from mattebridge.image_io.output_names import output_path, refuse_collisions
from mattebridge.image_io.sequences import FrameFiles, Source, find_frames
from mattebridge.image_io.sources import path_of
from mattebridge.ocio.space import Spaces
from mattebridge.shot.background import Background, parse_background
from mattebridge.shot.job import MAY_BE_BLACK, NUMBERINGS, PUBLISHED_DIGITS, MatteJob
from mattebridge.shot.ledger import Ledger, ledger_path, sequence_name
from mattebridge.shot.notes import notes_on
from mattebridge.shot.outputs import (
    COLOURS,
    LAYERS,
    PRESETS,
    OutputFormat,
    Preset,
    needed_from_daemon,
    parse_formats,
)
from mattebridge.shot.plan import Plan, asked_space, output_dtype
from mattebridge.shot.tasks import frame_tasks
from mattebridge.shot.videos import plan_videos, refuse_without_video
from mattebridge.whole_files import can_write, check_names
from mattebridge.wire import oslayer
from mattebridge.wire.params import INPUT_ROLES, OUTPUT_CHANNELS


def preflight(job: MatteJob, *, writes: bool = True) -> Plan:
    """Check everything that the job needs, without rendering and without a daemon.

    writes: False where nothing of the job will be written: its folder may then be read-only.
    Raises `UsageError` (`SequenceError`, `OutputExistsError`) for what makes the whole job
    impossible, naming every missing frame, and `InputsError` when no frame fits. Frames that are
    unreadable or do not fit come back as tasks with a `problem`.
    """
    preset, spaces = _preset(job), Spaces()
    job = _with_known_results(job, spaces)
    _check_names(job)
    job = _reachable(job)
    inputs = {role: _found(job, role, preset) for role in job.roles_given}
    plate = inputs["plate"]
    if job.deinterlace:
        refuse_without_video(inputs.values())
    job = _with_preset(job, preset, plate)
    background = parse_background(job.background or "checker")
    formats = parse_formats(job.formats or "exr", job.written)
    _check_options(job, formats)
    matched = _matched(job, inputs)
    videos = _video_paths(job, preset, plate, formats)
    images = {name: form for name, form in formats.items() if form.video is None}
    outputs = {e.frame: _output_paths(job, preset, plate, e, images) for e in matched}
    backdrops = _backdrops(background, plate, matched) if "comp" in formats else {}
    read = [source for entry in matched for source in entry.files.values()]
    written = [*(path for paths in outputs.values() for path in paths.values()), *videos.values()]
    read_paths = {path_of(source) for source in (*read, *backdrops.values())}
    check_names([*read_paths, *written])
    refuse_collisions(written, read_paths)
    ledger = Ledger.open(ledger_path(job.output, _name_of(plate)))
    _check_report(job, read_paths, [*written, ledger.path])
    if writes:
        _check_folder(job, written)
    results_bytes = _bytes_per_pixel(needed_from_daemon(formats, background), formats)
    tasks = frame_tasks(job, matched, outputs, results_bytes, backdrops, spaces)
    return Plan(
        job=job,
        tasks=tasks,
        formats=formats,
        background=background,
        stills=frozenset(role for role, files in inputs.items() if files.still and role != "plate"),
        sources={role: _name_of(files) for role, files in inputs.items()},
        ledger=ledger,
        spaces=spaces,
        videos=plan_videos(
            videos,
            formats,
            plate,
            {task.frame: task.header_of_outputs for task in tasks if task.header is not None},
            rate=job.frame_rate,
            audio=job.audio,
        ),
        notes=notes_on(job, inputs.values(), tasks),
    )


def _preset(job: MatteJob) -> Optional[Preset]:
    if job.numbering not in NUMBERINGS:
        raise UsageError(f"no numbering '{job.numbering}'; there are {', '.join(NUMBERINGS)}")
    if job.preset is None:
        return None
    if job.preset not in PRESETS:
        raise UsageError(f"no preset '{job.preset}'; there are {', '.join(PRESETS)}")
    return PRESETS[job.preset]


def _with_known_results(job: MatteJob, spaces: Spaces) -> MatteJob:
    """The job with the name that its results' space has here. Raises `UsageError` without one."""
    asked = job.params.output_colorspace
    if asked is None:
        return job
    name = spaces.settled(asked)
    if not spaces.is_known(name):
        raise UsageError(
            f"--output-colorspace '{asked}' {spaces.config.what_else(name)} (nearest:"
            f" {', '.join(spaces.config.nearest(name))})"
        )
    return replace(job, params=replace(job.params, output_colorspace=name))


def _found(job: MatteJob, role: str, preset: Optional[Preset]) -> FrameFiles:
    whole_folders = job.recursive or (preset is not None and preset.recursive)
    files = find_frames(
        str(getattr(job, role)),
        role=role,
        recursive=whole_folders and Path(job.plate).is_dir(),
        leave_out=job.output,
    )
    offset = job.offsets.get(role, 0)
    if offset and (files.still or not files.numbered):
        raise UsageError(f"--offset {role}={offset}: {files.source} has no frame numbers to move")
    if offset and role == "plate" and files.video is None:
        raise UsageError("--offset plate= is for videos; move the other inputs to meet this plate")
    return files.shifted(offset) if offset else files


def _with_preset(job: MatteJob, preset: Optional[Preset], plate: FrameFiles) -> MatteJob:
    """The job with the preset's choices wherever it makes none itself."""
    if preset is None:
        return job
    as_video = plate.video is not None and job.numbering == "source"
    outputs = job.outputs
    if as_video and job.formats is None:
        # An mp4 holds no alpha: `com` is a comp in the videos of the scripts.
        outputs = tuple("comp" if name == "premultiplied" else name for name in outputs)
    return replace(
        job,
        outputs=outputs,
        formats=job.formats or (preset.video_formats if as_video else preset.image_formats),
        background=job.background or preset.background,
    )


def _matched(job: MatteJob, inputs: Mapping[str, FrameFiles]) -> list[FrameInputs]:
    frames = _chosen_frames(job, inputs["plate"])
    hold = INPUT_ROLES if job.missing == "hold" else ()
    black = MAY_BE_BLACK if job.missing == "black" else ()
    return match_frames(inputs, frames=frames, hold=hold, black=black)


def _video_paths(
    job: MatteJob,
    preset: Optional[Preset],
    plate: FrameFiles,
    formats: Mapping[str, OutputFormat],
) -> dict[str, Path]:
    """`OUT/comp/take.mov`, or as the preset has it `OUT/com.mp4`."""
    paths = {}
    for name, form in formats.items():
        if form.video is not None:
            inside = f"{name}/{_name_of(plate)}" if preset is None else preset.folders[name]
            paths[name] = job.output / f"{inside}{form.suffix}"
    return paths


def _backdrops(
    background: Background, plate: FrameFiles, matched: Sequence[FrameInputs]
) -> dict[int, Source]:
    """By frame, the picture behind it; a sequence or video is repeated when it is the shorter one.

    Counted from the plate's first frame on disk, so that chunks of a farm agree.
    """
    if not background.pictures:
        return {}
    pictures = list(find_frames(background.pictures, role="background").files.values())
    first = min(plate.files)
    return {entry.frame: pictures[(entry.frame - first) % len(pictures)] for entry in matched}


def _name_of(files: FrameFiles) -> str:
    """The same name however the sequence was given, and on every machine of a farm."""
    first = path_of(files.first)
    if files.video is None and files.numbered:
        return sequence_name(first)
    return first.stem if files.still or files.video is not None else Path(files.source).name


def _check_options(job: MatteJob, formats: Mapping[str, OutputFormat]) -> None:
    colours = [form for name, form in formats.items() if name in (*COLOURS, LAYERS)]
    asked = job.params.output_colorspace
    if asked not in (None, "srgb") and colours and not any(form.is_linear for form in colours):
        raise UsageError(
            f"{colours[0].name} holds sRGB pixels; choose exr for colours in '{asked}', or leave"
            " out --output-colorspace"
        )
    _check_premultiply(job, formats)
    name = job.output.name
    looks_like_file = job.output.suffix.lower() in EXTENSIONS or "#" in name or "%0" in name
    if looks_like_file and not job.output_is_folder and not job.output.is_dir():
        raise UsageError(f"-o takes a folder, not a file or pattern such as {name}")


def _check_report(job: MatteJob, inputs: Collection[Path], outputs: Collection[Path]) -> None:
    """Whether `--report` names a file of its own."""
    if job.report is None:
        return
    refuse_collisions([job.report], inputs, option="--report")
    real_path = oslayer.current().real_path
    if real_path(job.report) in map(real_path, outputs):
        raise UsageError(f"{job.report} is an output of this job; choose another --report")


def _check_premultiply(job: MatteJob, formats: Mapping[str, OutputFormat]) -> None:
    """Whether the files can hold what `--premultiply display` asks for."""
    if job.params.premultiply != "display":
        return
    if asked_space(job, formats) != "srgb":
        raise UsageError(
            "--premultiply display multiplies encoded values, and the results are linear;"
            " add --output-colorspace srgb"
        )
    form = formats.get("premultiplied")
    if form is not None and form.suffix != ".exr":
        holds = "linear light" if form.is_linear else "straight alpha"
        raise UsageError(
            f"--premultiply display: {form.name} holds {holds}; choose exr for premultiplied"
        )


def _chosen_frames(job: MatteJob, plate: FrameFiles) -> Optional[list[int]]:
    if job.frames is None and job.within is None:
        return None
    frames = parse_frames(job.frames) if job.frames is not None else list(plate.files)
    if job.within is not None:
        frames = sorted(set(frames) & set(parse_frames(job.within)))
    if not frames:
        raise SequenceError(f"no frame of {job.frames or job.plate} is within {job.within}")
    return frames


def _output_paths(
    job: MatteJob,
    preset: Optional[Preset],
    plate: FrameFiles,
    entry: FrameInputs,
    formats: Mapping[str, OutputFormat],
) -> dict[str, Path]:
    folders = {} if preset is None else preset.folders
    name = entry.name
    if preset is not None and preset.video_frames and plate.video is not None:
        name = preset.video_frames.format(entry.frame)
    if job.numbering == "image_sequences":
        name = f"{entry.frame - min(plate.files):0{PUBLISHED_DIGITS}d}"
    return {
        output: output_path(job.output, folders.get(output, output), name, form.suffix)
        for output, form in formats.items()
    }


def _check_names(job: MatteJob) -> None:
    """Whether the folder and the report are what their names say; inputs are looked for first."""
    check_names([job.output, *([job.report] if job.report is not None else [])])


def _reachable(job: MatteJob) -> MatteJob:
    """The job with its folder and report as this system takes them, however long they are."""
    reachable = oslayer.current().reachable
    report = job.report if job.report is None else reachable(job.report)
    return replace(job, output=reachable(job.output), report=report)


def _check_folder(job: MatteJob, paths: Collection[Path]) -> None:
    if not can_write(job.output):
        raise UsageError(f"nothing can be written to {job.output}; choose another -o")
    if job.existing != "error":
        return
    present = [path for path in paths if path.exists()]
    if present:
        others = f" and {len(present) - 1} more" if len(present) > 1 else ""
        raise OutputExistsError(
            f"{present[0]}{others} exists already; use --resume to keep good frames,"
            " --existing overwrite to make them again, or another -o"
        )


def _bytes_per_pixel(asked: Sequence[str], formats: Mapping[str, OutputFormat]) -> int:
    sample = np.dtype(output_dtype(formats)).itemsize
    return sum(OUTPUT_CHANNELS[name][0] for name in asked) * sample
