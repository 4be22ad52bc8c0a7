"""Read every frame of a clip with all its inputs, and say which cannot be: nothing is computed.

FrameTask --read plate, hint, clean plate--> nothing, or the error of the frame
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from typing import Optional

from mattebridge.clips.sizes import refuse_sizes_of
from mattebridge.errors import Cancelled, FrameError, InputsError, MattebridgeError
from mattebridge.image_io.frame_ranges import format_frames
from mattebridge.shot.job import MatteJob
from mattebridge.shot.plan import FrameTask
from mattebridge.shot.planes import FramePlanes
from mattebridge.shot.preflight import preflight
from mattebridge.shot.progress import FrameRecord, Progress
from mattebridge.shot.summary import Summary


def checked(
    tasks: Iterable[FrameTask], planes: FramePlanes, cancelled: threading.Event
) -> Iterator[tuple[FrameTask, Optional[MattebridgeError]]]:
    """Each frame, once it was read, with its error. Raises `Cancelled` when that is asked for."""
    for task in tasks:
        if cancelled.is_set():
            raise Cancelled("the check was cancelled")
        try:
            _read(task, planes)
        except (FrameError, InputsError) as error:
            yield task, error
        else:
            yield task, None


def _read(task: FrameTask, planes: FramePlanes) -> None:
    if task.problem is not None:
        raise task.problem
    for role in task.inputs.files:
        if role == "plate":
            planes.plate(task)
        elif role == "clean_plate":
            planes.clean_plate(task)
        else:
            planes.matte(task, role)


def record_of_check(task: FrameTask, error: Optional[MattebridgeError]) -> FrameRecord:
    """How the check of a frame ended: `found`, or `failed` with the reason."""
    if error is None:
        return FrameRecord(task.frame, "found")
    return FrameRecord(task.frame, "failed", code=error.code, message=error.message)


def check_job(job: MatteJob, progress: Progress, cancelled: threading.Event) -> Summary:
    """Check all frames of a job; the results that it would write do not matter.

    Raises the errors of `preflight`, `InputsError` for plates of more than one size, `Cancelled`.
    """
    plan = preflight(job, writes=False)
    refuse_sizes_of(plan)
    planes, total = FramePlanes(plan.job, plan.spaces), len(plan.tasks)
    summary = Summary(total=total, output=plan.job.output)
    frames = format_frames([task.frame for task in plan.tasks])
    progress.start(total, f"frames {frames} are read and checked; nothing is computed or written")
    try:
        for task, error in checked(plan.tasks, planes, cancelled):
            summary.records.append(record_of_check(task, error))
            progress.frame(summary.records[-1], len(summary.records), total)
    finally:
        planes.close()
    text = f"{summary.count('found')} of {total} frames can be read"
    progress.finish(summary.exit_status, text, summary.first_failure)
    return summary
