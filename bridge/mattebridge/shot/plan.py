"""The plan of a shot: every frame with its files, sizes and outputs, checked before the first one.

    MatteJob (what was asked) --preflight--> Plan

Preflight opens headers only. It refuses a job that cannot succeed (a missing frame, an output that
exists already), so that no daemon is started and nothing is rendered in vain. A single frame that
is unreadable or of another size is noted in its task, and the others go on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from mattebridge.errors import (
    FrameReadError,
    InputsError,
    MattebridgeError,
    OutputExistsError,
    SequenceError,
    UsageError,
)
from mattebridge.image_io import EXTENSIONS, FrameHeader
from mattebridge.image_io.frame import overlap
from mattebridge.image_io.frame_ranges import parse_frames
from mattebridge.image_io.matching import FrameInputs, match_frames
from mattebridge.image_io.output_names import output_path, refuse_collisions
from mattebridge.image_io.sequences import FrameFiles, Source, VideoPicture, find_frames
from mattebridge.image_io.sources import path_of, read_header
from mattebridge.ocio.space import Curve, Spaces
from mattebridge.shot.background import Background, parse_background
from mattebridge.shot.job import (
    MAY_BE_BLACK,
    NUMBERINGS,
    OF_THE_FILE,
    PUBLISHED_DIGITS,
    MatteJob,
)
from mattebridge.shot.ledger import Ledger, identity, ledger_path, sequence_name
from mattebridge.shot.outputs import (
    COLOURS,
    LAYERS,
    PRESETS,
    OutputFormat,
    Preset,
    needed_from_daemon,
    parse_formats,
)
from mattebridge.shot.videos import VideoPlan, plan_videos, refuse_without_video, video_notes
from mattebridge.whole_files import can_write, check_names
from mattebridge.wire import oslayer
from mattebridge.wire.params import COLORSPACES, INPUT_ROLES, MATTE_ROLES, OUTPUT_CHANNELS

# Readers of headers: on a network file system each costs a round trip, not work.
HEADER_THREADS = 8


@dataclass(frozen=True)
class FrameTask:
    """One frame: where it comes from, where it goes, and what is known to be wrong with it.

    outputs: the files of this frame alone, by output; videos are in the plan. backdrop: the picture
    behind its comp. header: of the plate. colorspaces: of plate, clean plate and background.
    unread_tags: by role, see `FrameHeader.unread_tag`. identity: size and time of every input.
    size_bytes: memory that the frame takes at most on its way. resized: roles whose picture is
    brought to the size of the plate. problem: why it will fail.
    """

    inputs: FrameInputs
    outputs: Mapping[str, Path]
    backdrop: Optional[Source] = None
    header: Optional[FrameHeader] = None
    colorspaces: Mapping[str, str] = field(default_factory=dict)
    unread_tags: Mapping[str, str] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)
    size_bytes: int = 0
    resized: tuple[str, ...] = ()
    problem: Optional[MattebridgeError] = None

    @property
    def frame(self) -> int:
        return self.inputs.frame

    @property
    def header_of_outputs(self) -> FrameHeader:
        """The plate's header with the metadata that are true of its results, too.

        The primaries of a plate are not those of the results where it is converted by its space.
        """
        assert self.header is not None
        carried, space = dict(self.header.metadata), self.colorspaces.get("plate", "linear")
        if space != "linear":
            carried.pop("oiio:ColorSpace", None)
        if space not in COLORSPACES:
            carried.pop("chromaticities", None)
        return replace(self.header, metadata=carried)


@dataclass(frozen=True)
class Plan:
    """A job that can be run: its frames in order, and what they have in common.

    formats: by output. stills: roles with one picture for every frame. sources: by role, the name
    of the sequence, folder or video. notes: sentences for the artist about the
    inputs, shown before the first frame.
    """

    job: MatteJob
    tasks: Sequence[FrameTask]
    formats: Mapping[str, OutputFormat]
    background: Background
    stills: frozenset[str]
    sources: Mapping[str, str]
    ledger: Ledger
    spaces: Spaces = field(default_factory=Spaces, repr=False)
    videos: Sequence[VideoPlan] = ()
    notes: Sequence[str] = ()

    @property
    def asked(self) -> tuple[str, ...]:
        """The planes to ask the daemon for."""
        return needed_from_daemon(self.formats, self.background)

    @property
    def output_dtype(self) -> str:
        """The sample type to ask for."""
        return output_dtype(self.formats)

    @cached_property
    def space(self) -> str:
        """The colour space to ask for: that of the files, or linear where they differ.

        Light of a named space, such as ACEScg, stays in it where nothing else is asked for.
        """
        space, plates = _space(self.job, self.formats), self.plate_spaces
        if space != "linear" or self.job.params.output_colorspace or len(plates) != 1:
            return space
        (own,) = plates
        return own if self.spaces.of(own).curve is Curve.NONE else space

    def white_of(self, task: FrameTask) -> float:
        """The light that is white in the results of a frame, whose plate may be HDR video."""
        plate = self.spaces.of(task.colorspaces.get("plate", "linear"))
        return self.spaces.of_results(self.space, plate).white

    @property
    def plate_spaces(self) -> set[str]:
        """The colour spaces of the plates."""
        return {task.colorspaces["plate"] for task in self.tasks if task.colorspaces}

    @cached_property
    def color_config(self) -> dict[str, str]:
        """Config and digest, where a colour space of the config is used; else empty."""
        used = {self.space, *(s for task in self.tasks for s in task.colorspaces.values())}
        return self.spaces.config.described() if used - {*COLORSPACES} else {}

    @property
    def render_params(self) -> dict[str, Any]:
        """What goes with every request, besides the colour space of the frame."""
        return {"output_colorspace": self.space, **self.job.render_params}

    @property
    def folders(self) -> list[Path]:
        """The folders that are written to."""
        paths = {path.parent for task in self.tasks for path in task.outputs.values()}
        return sorted(paths | {video.path.parent for video in self.videos})

    def settings(self, model: str) -> dict[str, Any]:
        """Everything that decides the pixels, by name, for the ledger and the metadata."""
        job = self.job
        params = {
            "output_colorspace": job.params.output_colorspace or self._noted_space,
            **job.render_params,
            "colorspace": job.params.colorspace,
        }
        shared = {"model": model, "hint_channel": job.hint_channel, "missing": job.missing}
        given = {**params, **shared, **self.sources, "keep_data_window": job.keep_data_window}
        if self.color_config:
            given["color_config"] = self.color_config
        if job.deinterlace:
            given["deinterlace"] = True
        if job.truncate:
            given["quantise"] = "truncate"
        layers = {role: job.layer_of(role) for role in _given(job) if job.layer_of(role)}
        if layers:
            given["layers"] = layers
        if job.offsets:
            given["offsets"] = dict(job.offsets)
        return given

    @property
    def _noted_space(self) -> str:
        """Where none was asked for: `linear` also stands for the files' own, as it always did."""
        return "linear" if self.space in COLORSPACES else self.space

    def form_of(self, output: str) -> str:
        """The format of an output as the ledger has it."""
        name = self.formats[output].name
        for video in self.videos:
            if video.output == output:
                sound = " with sound" if video.audio is not None else ""
                name = f"{name} at {video.times.rate}{sound}"
        return f"{name} over {self.background.text}" if output == "comp" else name

    def wanted(self, task: FrameTask) -> dict[str, tuple[str, Path]]:
        """By output, the format and path of all that this frame goes into."""
        paths = {**task.outputs, **{video.output: video.path for video in self.videos}}
        return {name: (self.form_of(name), path) for name, path in paths.items()}

    def is_good(
        self, task: FrameTask, digest: str, outputs: Optional[Collection[str]] = None
    ) -> bool:
        """Whether a frame's outputs are on disk, whole, and made by the job of this digest.

        outputs: those to check, by default all.
        """
        if task.header is None:
            return False
        wanted = self.wanted(task)
        return self.ledger.is_good(
            task.frame,
            job=digest,
            inputs=task.identity,
            outputs={name: wanted[name] for name in (wanted if outputs is None else outputs)},
            size_px=(task.header.width, task.header.height),
        )

    def note(self, task: FrameTask, digest: str, sizes: Mapping[str, int]) -> None:
        """Note in the ledger a frame whose outputs are on disk: their sizes in bytes, by name."""
        outputs = {name: (self.form_of(name), size) for name, size in sizes.items()}
        self.ledger.note(task.frame, job=digest, inputs=task.identity, outputs=outputs)


def _space(job: MatteJob, formats: Mapping[str, OutputFormat]) -> str:
    if job.params.output_colorspace is not None:
        return job.params.output_colorspace
    return stored_space(formats)


def stored_space(formats: Mapping[str, OutputFormat]) -> str:
    """The colour space of results for these formats where none is asked for: linear or srgb."""
    stored = {formats[name].is_linear for name in (*COLOURS, LAYERS) if name in formats}
    return "srgb" if stored == {False} else "linear"


def output_dtype(formats: Mapping[str, OutputFormat]) -> str:
    """The sample type to ask for: float16, half the memory, where every output is half."""
    only_half = all(form.dtype == "half" for form in formats.values())
    return "float16" if only_half and "comp" not in formats else "float32"


def preflight(job: MatteJob) -> Plan:
    """Check everything that the job needs, without rendering and without a daemon.

    Raises `UsageError` (`SequenceError`, `OutputExistsError`) for what makes the whole job
    impossible, naming every missing frame, and `InputsError` when no frame fits. Frames that are
    unreadable or do not fit come back as tasks with a `problem`.
    """
    preset, spaces = _preset(job), Spaces()
    job = _with_known_results(job, spaces)
    _check_names(job)
    job = _reachable(job)
    inputs = {role: _found(job, role, preset) for role in _given(job)}
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
    _check_folder(job, written)
    results_bytes = _bytes_per_pixel(needed_from_daemon(formats, background), formats)
    tasks = _tasks(job, matched, outputs, results_bytes, backdrops, spaces)
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
        notes=[
            *(note for files in inputs.values() for note in _notes(job, files)),
            *_notes_on_colour(job, tasks),
            *_notes_on_sizes(tasks),
            *_notes_on_alpha(job, tasks),
        ],
    )


def _notes_on_colour(job: MatteJob, tasks: Sequence[FrameTask]) -> list[str]:
    """Once for each input: the space that its files name, where it is not an everyday one."""
    found = {
        (role, space)
        for task in tasks
        for role, space in task.colorspaces.items()
        if space not in (*COLORSPACES, job.params.colorspace)
    }
    notes = [f"the {role.replace('_', ' ')} is in {space}" for role, space in sorted(found)]
    unread = {
        (role, tag, task.colorspaces[role])
        for task in tasks
        for role, tag in task.unread_tags.items()
        if job.params.colorspace == OF_THE_FILE or role == "background"
    }
    for role, tag, space in sorted(unread):
        other = "" if role == "background" else ", unless --input-space names another"
        notes.append(
            f"the {role.replace('_', ' ')} has {tag}, which is not known here: it is taken for"
            f" {space}{other}"
        )
    return notes


def _notes_on_sizes(tasks: Sequence[FrameTask]) -> list[str]:
    """Once for each role: of how many frames its picture is resized."""
    counts = Counter(role for task in tasks for role in task.resized)
    return [
        f"the {role.replace('_', ' ')} of {count} {'frame is' if count == 1 else 'frames is'}"
        " resized to the size of the plate"
        for role, count in counts.items()
    ]


def _notes_on_alpha(job: MatteJob, tasks: Sequence[FrameTask]) -> list[str]:
    """Once: that the plates have alpha, where nothing says what it means."""
    headers = [task.header for task in tasks if task.header is not None]
    has_alpha = any("A" in header.channels and len(header.channels) > 1 for header in headers)
    if not has_alpha or job.params.plate_alpha != "opaque":
        return []
    return ["the alpha of the plate is not used; --plate-alpha says what it means, if it counts"]


def _notes(job: MatteJob, files: FrameFiles) -> list[str]:
    left_out = [f"{files.source}: {files.left_out}"] if files.left_out else []
    return [*video_notes(files, deinterlace=job.deinterlace), *left_out]


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


def _given(job: MatteJob) -> list[str]:
    # A queue passes an option that was left empty as an empty argument.
    return [role for role in INPUT_ROLES if getattr(job, role)]


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
    if _space(job, formats) != "srgb":
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


# --- the headers of every frame -------------------------------------------------------------------


def _tasks(
    job: MatteJob,
    matched: Sequence[FrameInputs],
    outputs: Mapping[int, Mapping[str, Path]],
    results_bytes: int,
    backdrops: Mapping[int, Source],
    spaces: Spaces,
) -> list[FrameTask]:
    used = {_look(job, *item) for entry in matched for item in entry.files.items()}
    headers = _headers(used | {_look(job, "background", each) for each in backdrops.values()})
    tasks = [
        _task(
            job,
            entry,
            outputs[entry.frame],
            headers,
            results_bytes,
            backdrops.get(entry.frame),
            spaces,
        )
        for entry in matched
    ]
    problems = [task.problem for task in tasks if task.problem is not None]
    if len(problems) == len(tasks) and all(problem.exit_status == 2 for problem in problems):
        # No frame fits: that is an error of the job.
        raise problems[0]
    return tasks


def frame_task(job: MatteJob, entry: FrameInputs, spaces: Spaces) -> FrameTask:
    """One frame of a job for itself, without outputs; what is wrong with it is its `problem`."""
    headers = _headers({_look(job, *item) for item in entry.files.items()})
    return _task(job, entry, {}, headers, 0, None, spaces)


class _Look(NamedTuple):
    """A picture as a role sees it: one file may be the plate, and in another layer the hint."""

    source: Source
    layer: Optional[str]
    matte: bool


def _look(job: MatteJob, role: str, source: Source) -> _Look:
    return _Look(source, job.layer_of(role), role in MATTE_ROLES)


def _headers(looks: Collection[_Look]) -> dict[_Look, Any]:
    def header_of(look: _Look) -> Any:
        try:
            return read_header(look.source, layer=look.layer, matte=look.matte)
        except FrameReadError as problem:
            return problem

    ordered = sorted(looks, key=str)
    with ThreadPoolExecutor(HEADER_THREADS, thread_name_prefix="headers") as pool:
        return dict(zip(ordered, pool.map(header_of, ordered)))


def _task(
    job: MatteJob,
    entry: FrameInputs,
    outputs: Mapping[str, Path],
    headers: Mapping[_Look, Any],
    results_bytes: int,
    backdrop: Optional[Source],
    spaces: Spaces,
) -> FrameTask:
    found = {role: headers[_look(job, role, path)] for role, path in entry.files.items()}
    behind = {} if backdrop is None else {"background": headers[_look(job, "background", backdrop)]}
    opened = {**found, **behind}
    problem = next((e for e in opened.values() if isinstance(e, MattebridgeError)), None)
    if problem is not None:
        return FrameTask(entry, outputs, problem=problem)
    plate = found["plate"]
    try:
        resized = _check_sizes(job, entry, found)
        _check_window(job, entry, plate)
        colorspaces = _colorspaces(job, opened, spaces)
    except MattebridgeError as mismatch:
        return FrameTask(entry, outputs, header=plate, problem=mismatch)
    sources = entry.files if backdrop is None else {**entry.files, "background": backdrop}
    return FrameTask(
        entry,
        outputs,
        backdrop=backdrop,
        header=plate,
        colorspaces=colorspaces,
        unread_tags={role: tag for role in colorspaces if (tag := opened[role].unread_tag)},
        identity={role: _identity(source) for role, source in sources.items()},
        size_bytes=_size_bytes(found, results_bytes),
        resized=resized,
    )


def _identity(source: Source) -> list[int]:
    index = [source.index] if isinstance(source, VideoPicture) else []
    return [*identity(path_of(source)), *index]


def _check_sizes(
    job: MatteJob, entry: FrameInputs, found: Mapping[str, FrameHeader]
) -> tuple[str, ...]:
    """The roles of another size than the plate that may be. Raises `InputsError` for any other."""
    plate, resized = found["plate"], []
    for role, header in found.items():
        if (header.width, header.height) == (plate.width, plate.height):
            continue
        if role == "alpha_hint" and job.fit_hint:
            resized.append(role)
        else:
            raise InputsError(
                f"{role.replace('_', ' ')} {header.path} is {header.width}x{header.height} and"
                f" plate {plate.path.name} {plate.width}x{plate.height}; bring both to one size",
                field=role,
                frame=entry.frame,
            )
    return tuple(resized)


def _check_window(job: MatteJob, entry: FrameInputs, plate: FrameHeader) -> None:
    """Whether there is anything to store for `--keep-data-window`: a file needs a pixel."""
    if not job.keep_data_window or "plate" in entry.black:
        return
    (rows, columns), _ = overlap(plate.data_window, plate.display_window)
    if rows.start == rows.stop or columns.start == columns.stop:
        raise InputsError(
            f"plate {plate.path} has its data window {plate.data_window} wholly outside of the"
            f" frame {plate.display_window}, so that none of it can be kept; matte this frame"
            " without --keep-data-window",
            field="plate",
            frame=entry.frame,
        )


def _colorspaces(job: MatteJob, found: Mapping[str, FrameHeader], known: Spaces) -> dict[str, str]:
    """Spaces by role: the job's for the plate and clean plates of its kind, else the file's."""
    plate = found["plate"]
    spaces = {}
    for role in ("plate", "clean_plate", "background"):
        header = found.get(role)
        if header is None:
            continue
        space = header.colorspace
        given = job.params.colorspace
        if given != OF_THE_FILE and space == plate.colorspace and role != "background":
            space = known.settled(given)
        if space == "unknown":
            advice = "give --input-space, with a name of `mattebridge colors`, linear or srgb"
            if header.unknown_because:
                advice += ": srgb takes it as it is"
            if role == "background":
                advice = "convert it to EXR, PNG or a Rec.709 video"
            why = header.unknown_because or "does not name its colour space"
            raise InputsError(f"{header.path} {why}; {advice}", field=role)
        if not known.is_known(space):
            named = f"{header.path} is in '{space}', which"
            if space == given:
                named = f"--input-space '{space}', for {header.path},"
            raise InputsError(
                f"{named} {known.config.what_else(space)} (nearest:"
                f" {', '.join(known.config.nearest(space))}); give --input-space, with a name of"
                " `mattebridge colors`",
                field=role,
            )
        spaces[role] = space
    return spaces


def _bytes_per_pixel(asked: Sequence[str], formats: Mapping[str, OutputFormat]) -> int:
    sample = np.dtype(output_dtype(formats)).itemsize
    return sum(OUTPUT_CHANNELS[name][0] for name in asked) * sample


def _size_bytes(found: Mapping[str, FrameHeader], results_bytes: int) -> int:
    """Memory of a frame at most: its results, and either its inputs or what is being encoded."""
    plate = found["plate"]
    results = plate.width * plate.height * results_bytes
    return results + max(sum(header.size_bytes for header in found.values()), results)
