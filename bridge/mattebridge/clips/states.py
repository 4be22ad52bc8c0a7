"""Where a clip stands, from its files and from what is on disk of its results.

    EXTRACTING --> RAW --> READY --> COMPLETE        any but COMPLETE --> ERROR
    COMPLETE --> READY                               ERROR --> EXTRACTING, RAW, READY

Nothing is stored: the state is found from the clip's inputs, the ledger beside its results
(shot/ledger.py) and the files themselves. A frame counts as done when all of its files are whole,
and made from the inputs as they are now; files alone prove nothing, whatever their number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from mattebridge.clips.contracts import Clip, ClipLayers, ClipManifest, Contract
from mattebridge.clips.errors import ArgumentError, InvalidStateTransitionError
from mattebridge.clips.extraction import as_extracted, is_extracting
from mattebridge.clips.job import job_of, job_of_layers, with_hint_of_plate
from mattebridge.clips.sizes import refuse_other_sizes
from mattebridge.errors import FrameError, InputsError, MattebridgeError
from mattebridge.image_io.frame_ranges import format_frames
from mattebridge.shot.job import MatteJob
from mattebridge.shot.plan import FrameTask, Plan
from mattebridge.shot.preflight import preflight


class ClipState(str, Enum):
    """extracting: its videos become pictures at this moment. raw: the plate alone, so that only a
    model that finds a green or blue screen can matte it. ready: it has a hint or a clean plate.
    complete: every frame is matted. error: it cannot be matted as it is, or frames have failed."""

    EXTRACTING = "extracting"
    RAW = "raw"
    READY = "ready"
    COMPLETE = "complete"
    ERROR = "error"

    def __str__(self) -> str:
        return str(self.value)

    def may_become(self, other: ClipState) -> bool:
        """Whether a clip in this state can be in the other one next."""
        return other in _NEXT[self]


_NEXT: Mapping[ClipState, tuple[ClipState, ...]] = {
    ClipState.EXTRACTING: (ClipState.RAW, ClipState.READY, ClipState.ERROR),
    ClipState.RAW: (ClipState.EXTRACTING, ClipState.READY, ClipState.COMPLETE, ClipState.ERROR),
    ClipState.READY: (ClipState.EXTRACTING, ClipState.RAW, ClipState.COMPLETE, ClipState.ERROR),
    ClipState.COMPLETE: (ClipState.READY,),
    ClipState.ERROR: (ClipState.EXTRACTING, ClipState.RAW, ClipState.READY),
}


@dataclass(frozen=True)
class ClipStatus(Contract):
    """The state of a clip. done, total: its frames that are matted, and all. detail: the reason of
    an error, or what a reader should know of the state; mostly empty. exit_status: 0, or in error 2
    for a clip that cannot be matted as it is and 3 for frames that failed, as in docs/farm.md."""

    clip_name: str
    state: ClipState
    done: int = 0
    total: int = 0
    detail: str = ""
    exit_status: int = 0

    def moved_to(self, state: ClipState, detail: str = "") -> ClipStatus:
        """The clip in its next state, for programs that keep states of their own.

        Raises `InvalidStateTransitionError` for one that cannot follow.
        """
        if not self.state.may_become(state):
            raise InvalidStateTransitionError(
                f"clip {self.clip_name} is {self.state} and cannot become {state}; look at it again"
                " with state_of"
            )
        return replace(self, state=state, detail=detail, exit_status=0)


@dataclass(frozen=True)
class InOutRange(Contract):
    """The frames from one number to another, both included: 1001 to 1100 are a hundred."""

    in_point: int
    out_point: int

    def __post_init__(self) -> None:
        if self.in_point > self.out_point:
            raise ArgumentError(f"InOutRange: {self.in_point} is behind {self.out_point}")

    def indices(self, manifest: ClipManifest) -> tuple[int, int]:
        """The half-open indices of these frames, for `ClipManifest.frame_range`.

        Raises `ArgumentError` where the clip has none of them.
        """
        inside = [i for i, frame in enumerate(manifest.frame_numbers) if self.contains(frame)]
        if not inside:
            numbers = format_frames(list(manifest.frame_numbers))
            raise ArgumentError(
                f"clip {manifest.clip_name} has no frame of {self.in_point}-{self.out_point}; it"
                f" has {numbers}"
            )
        return inside[0], inside[-1] + 1

    def contains(self, frame: int) -> bool:
        return self.in_point <= frame <= self.out_point


def state_of(
    clip: Clip,
    output: Path | None = None,
    *,
    layout: str = "stages",
    in_out: InOutRange | None = None,
    layers: ClipLayers | None = None,
    input_space: str = "",
) -> ClipStatus:
    """The state of a clip. Reads headers and the ledger; creates nothing and needs no daemon.

    output, layout: where its results are, as of `mattebridge clips`; by default in Output/ of the
    clip. in_out: only these frames count. layers, input_space: as of `load`. Never raises for a
    clip: what is wrong is its state.
    """
    if is_extracting(clip.root):
        return ClipStatus(clip.name, ClipState.EXTRACTING)
    layers = layers or ClipLayers()
    clip = with_hint_of_plate(clip, layers.alpha_hint)
    job = job_of_layers(layers, input_space)
    place = _Place(replace(job, existing="verify"), output, layout)
    status = _status(clip, place, in_out)
    pictures = as_extracted(clip)
    if status.state is ClipState.COMPLETE or pictures == clip:
        return status
    # Its results may have been made from the pictures of its videos.
    other = _status(pictures, place, in_out)
    return other if other.done > status.done else status


class _Place(NamedTuple):
    """How a clip is read, and where its results are."""

    job: MatteJob
    output: Path | None
    layout: str


def _status(clip: Clip, place: _Place, in_out: InOutRange | None) -> ClipStatus:
    try:
        plan = _plan(clip, place)
    except MattebridgeError as problem:
        return _in_error(
            ClipStatus(clip.name, ClipState.ERROR), problem.message, problem.exit_status
        )
    tasks = [task for task in plan.tasks if in_out is None or in_out.contains(task.frame)]
    done = [task for task in tasks if _is_done(plan, task)]
    status = ClipStatus(clip.name, _fresh(clip), len(done), len(tasks))
    if tasks and len(done) == len(tasks):
        return replace(status, state=ClipState.COMPLETE)
    try:
        refuse_other_sizes((task.frame, task.header) for task in tasks)
    except InputsError as problem:
        return _in_error(status, problem.message, problem.exit_status)
    failures = _failures(plan, tasks)
    if failures:
        frame, reason = next(iter(failures.items()))
        others = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
        return _in_error(status, f"frame {frame}{others}: {reason}", FrameError.exit_status)
    return status


def _in_error(status: ClipStatus, reason: str, exit_status: int) -> ClipStatus:
    return replace(status, state=ClipState.ERROR, detail=reason, exit_status=exit_status)


def _fresh(clip: Clip) -> ClipState:
    has_more = clip.alpha_path is not None or clip.clean_plate_path is not None
    return ClipState.READY if has_more else ClipState.RAW


def _plan(clip: Clip, place: _Place) -> Plan:
    """The frames of the clip with their files in the formats in which they were made."""
    plan = _planned(clip, place, place.job)
    made = {name: form for task in plan.tasks for name, form in _made(plan, task).items()}
    if not made:
        return plan
    formats = ",".join(f"{name}={form}" for name, form in made.items())
    return _planned(clip, place, replace(place.job, outputs=tuple(made), formats=formats))


def _planned(clip: Clip, place: _Place, common: MatteJob) -> Plan:
    job = job_of(clip, common, layout=place.layout)
    job = job if place.output is None else replace(job, output=place.output)
    return preflight(job, writes=False)


def _made(plan: Plan, task: FrameTask) -> dict[str, str]:
    """The formats of a frame's results by output, without what the ledger notes behind them."""
    made = plan.ledger.made_as(task.frame)
    return {name: form.partition(" ")[0] for name, form in made.items()}


def _is_done(plan: Plan, task: FrameTask) -> bool:
    made = plan.ledger.made_as(task.frame)
    if not made or task.header is None:
        return False
    paths = {name: path for name, (_, path) in plan.wanted(task).items()}
    return plan.ledger.is_good(
        task.frame,
        job=plan.ledger.job,
        inputs=task.identity,
        outputs={name: (form, paths[name]) for name, form in made.items()},
        size_px=(task.header.width, task.header.height),
    )


def _failures(plan: Plan, tasks: list[FrameTask]) -> dict[int, str]:
    """Why frames will fail, or have failed when they were last tried."""
    found = {}
    for task in tasks:
        if task.problem is not None:
            found[task.frame] = task.problem.message
        elif reason := plan.ledger.failure_of(task.frame):
            found[task.frame] = reason
    return found
