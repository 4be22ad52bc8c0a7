"""What an artist should know of a job's inputs: sentences, shown before the first frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mattebridge.image_io.sequences import FrameFiles
from mattebridge.shot.job import OF_THE_FILE, MatteJob
from mattebridge.shot.plan import FrameTask
from mattebridge.shot.videos import video_notes
from mattebridge.wire.params import COLORSPACES, role_in_words


def notes_on(job: MatteJob, inputs: Iterable[FrameFiles], tasks: Sequence[FrameTask]) -> list[str]:
    """The sentences: on each input, then on colour spaces, sizes and alpha."""
    return [
        *(note for files in inputs for note in _notes_on_input(job, files)),
        *_notes_on_colour(job, tasks),
        *_notes_on_sizes(tasks),
        *_notes_on_alpha(job, tasks),
    ]


def _notes_on_colour(job: MatteJob, tasks: Sequence[FrameTask]) -> list[str]:
    """Once for each input: the space that its files name, where it is not an everyday one."""
    found = {
        (role, space)
        for task in tasks
        for role, space in task.colorspaces.items()
        if space not in (*COLORSPACES, job.params.colorspace)
    }
    notes = [f"the {role_in_words(role)} is in {space}" for role, space in sorted(found)]
    unread = {
        (role, tag, task.colorspaces[role])
        for task in tasks
        for role, tag in task.unread_tags.items()
        if job.params.colorspace == OF_THE_FILE or role == "background"
    }
    for role, tag, space in sorted(unread):
        other = "" if role == "background" else ", unless --input-space names another"
        notes.append(
            f"the {role_in_words(role)} has {tag}, which is not known here: it is taken for"
            f" {space}{other}"
        )
    return notes


def _notes_on_sizes(tasks: Sequence[FrameTask]) -> list[str]:
    """Once for each role: of how many frames its picture is resized."""
    counts = Counter(role for task in tasks for role in task.resized)
    return [
        f"the {role_in_words(role)} of {count} {'frame is' if count == 1 else 'frames is'}"
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


def _notes_on_input(job: MatteJob, files: FrameFiles) -> list[str]:
    left_out = [f"{files.source}: {files.left_out}"] if files.left_out else []
    return [*video_notes(files, deinterlace=job.deinterlace), *left_out]
