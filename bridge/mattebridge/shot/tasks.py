"""The frames of a plan: every header is opened once, and each frame is checked for itself.

A frame that is unreadable, or whose pictures are of different sizes, is noted in its task, and the
others go on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Optional

from mattebridge.errors import FrameReadError, InputsError, MattebridgeError
from mattebridge.image_io import FrameHeader
from mattebridge.image_io.frame import overlap
from mattebridge.image_io.matching import FrameInputs
from mattebridge.image_io.sequences import Source, VideoPicture
from mattebridge.image_io.sources import path_of, read_header
from mattebridge.ocio.space import Spaces
from mattebridge.shot.job import OF_THE_FILE, MatteJob
from mattebridge.shot.ledger import identity
from mattebridge.shot.plan import FrameTask
from mattebridge.wire.params import MATTE_ROLES, role_in_words

# Readers of headers: on a network file system each costs a round trip, not work.
HEADER_THREADS = 8


def frame_tasks(
    job: MatteJob,
    matched: Sequence[FrameInputs],
    outputs: Mapping[int, Mapping[str, Path]],
    results_bytes: int,
    backdrops: Mapping[int, Source],
    spaces: Spaces,
) -> list[FrameTask]:
    """The frames of a job, with what their headers say and what is wrong with them.

    matched: the inputs of each frame. outputs, backdrops: by frame number, its files and the
    picture behind its comp. results_bytes: memory of the results, for each pixel.
    Raises the problem of the first frame where each has one that is an error of the job.
    """
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
                f"{role_in_words(role)} {header.path} is {header.width}x{header.height} and"
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


def _size_bytes(found: Mapping[str, FrameHeader], results_bytes: int) -> int:
    """Memory of a frame at most: its results, and either its inputs or what is being encoded."""
    plate = found["plate"]
    results = plate.width * plate.height * results_bytes
    return results + max(sum(header.size_bytes for header in found.values()), results)
