"""Matte a shot: frames from disk through the daemon to files, several at once, in bounded memory.

    main thread:    admit frames, in order -----> report what has ended, in order --> exit status
                       | byte budget                 ^
    frame threads:     read --> submit, wait --> encode, write, check --> videos, in order

`one_frame` is what a frame's thread does; here are the threads, the order, the budget and the end.
A frame is admitted only when its bytes fit the budget, whatever the length of the shot. The rule
that must not be broken: exit status 0 means that every requested frame is on disk and was checked
there.

What fails one frame (an unreadable file, a wrong size, an error of the model) is recorded and the
others go on; a write error, a lost daemon or a cancel stops the job. A video that cannot be written
is given up alone, and the job ends with the status of a write error.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Optional

from mattebridge.errors import (
    Cancelled,
    ColorError,
    FrameWriteError,
    InputsError,
    MattebridgeError,
)
from mattebridge.hosts.request import check_needs, find_card
from mattebridge.image_io.frame_ranges import format_frames
from mattebridge.models.base import SettingsSchema
from mattebridge.shot.budget import ByteBudget
from mattebridge.shot.gates import MAX_WRITERS, POLL_S, READERS, Gates
from mattebridge.shot.job import MatteJob
from mattebridge.shot.ledger import job_digest
from mattebridge.shot.one_frame import FrameWalk, record_of
from mattebridge.shot.pictures import PictureStyle
from mattebridge.shot.plan import FrameTask, Plan
from mattebridge.shot.ports import Client
from mattebridge.shot.preflight import preflight
from mattebridge.shot.progress import FrameRecord, Progress
from mattebridge.shot.summary import Summary, gravity
from mattebridge.shot.videos import VideoSinks
from mattebridge.version import __version__
from mattebridge.whole_files import sweep_temporaries
from mattebridge.wire.params import EXTRA_OUTPUTS, INPUT_ROLES

Check = Callable[[Plan, Mapping[str, Any]], None]


def run_job(
    job: MatteJob,
    connect: Callable[[], Client],
    *,
    progress: Optional[Progress] = None,
    cancelled: Optional[threading.Event] = None,
    check: Optional[Check] = None,
) -> Summary:
    """Matte every frame of a job; `connect` opens the client once it is known to be needed.

    Setting `cancelled` stops the job: exit status 4, no partial files. `check` is called with the
    plan and the model's card before the first frame, and may raise. Raises the errors of
    `preflight`, and `DaemonError` or `ModelError` before the first frame; later errors are in the
    summary.
    """
    cancelled = cancelled or threading.Event()
    plan = preflight(job)
    sweep_temporaries([job.output, *plan.folders])
    if all(task.problem is not None for task in plan.tasks):
        return _Run(plan, None, progress or Progress(), cancelled, check).run()
    client = connect()
    try:
        return _Run(plan, client, progress or Progress(), cancelled, check).run()
    finally:
        client.close()


def refuse_job(
    job: MatteJob,
    connect: Callable[[], Client],
    *,
    cancelled: Optional[threading.Event] = None,
    check: Optional[Check] = None,
) -> None:
    """Raise what `run_job` would raise of a job before its first frame; makes nothing.

    For a job whose inputs are yet to be made, which is to be refused before they are.
    """
    plan = preflight(job)
    if all(task.problem is not None for task in plan.tasks):
        return
    client = connect()
    try:
        _find_model(client, plan, cancelled or threading.Event(), check)
        _check_config(client, plan)
    finally:
        client.close()


class _Run:
    """One running job; `client` is None when no frame of it can be read."""

    def __init__(
        self,
        plan: Plan,
        client: Optional[Client],
        progress: Progress,
        cancelled: threading.Event,
        check: Optional[Check] = None,
    ) -> None:
        self.plan = plan
        self.client = client
        self.progress = progress
        self.gates = Gates(plan.job.in_flight, cancelled)
        self.budget = ByteBudget(plan.job.max_bytes)
        self.summary = Summary(total=len(plan.tasks), output=plan.job.output)
        self.model = _find_model(client, plan, cancelled, check) if client is not None else {}
        if client is not None:
            _check_config(client, plan)
        self.settings = plan.settings(str(self.model.get("name", "")))
        self.digest = job_digest(self.settings, str(self.model.get("digest", "")))
        self.style = self._style()

    def run(self) -> Summary:
        """Take all frames through; the summary is complete whatever happened."""
        started = time.monotonic()
        videos = self._begin()
        self.progress.start(len(self.plan.tasks), self._describe())
        self._note_what_is_ignored()
        frames = FrameWalk(
            self.plan,
            self.client,
            self.gates,
            digest=self.digest,
            card=self.model,
            style=self.style,
            videos=videos,
            note=self.progress.note,
        )
        pool = ThreadPoolExecutor(
            READERS + self.plan.job.in_flight + MAX_WRITERS, thread_name_prefix="frame"
        )
        try:
            self._take_through(frames, pool)
        finally:
            self.gates.close()
            pool.shutdown(wait=True, cancel_futures=True)
            if videos is not None:
                frames.written.update(self._close(videos, frames.written))
            frames.release()
        self.summary.seconds = time.monotonic() - started
        if not self.summary.exit_status:
            self._check_files(frames.written)
        self._record_the_rest()
        summary = self.summary
        self.progress.finish(summary.exit_status, summary.text, summary.first_failure)
        return summary

    # -- before the first frame ----------------------------------------------------------------

    def _style(self) -> PictureStyle:
        """What all pictures have in common; their metadata say how they were made."""
        plan = self.plan
        made = {
            "model": str(self.model.get("name", "")),
            "modelDigest": str(self.model.get("digest", "")),
            "settings": json.dumps(self.settings, sort_keys=True, default=str),
            "version": __version__,
        }
        return PictureStyle(
            space=plan.space,
            spaces=plan.spaces,
            mixed_in="srgb" if plan.job.params.premultiply == "display" else "linear",
            background=plan.background,
            keep_data_window=plan.job.keep_data_window,
            truncate=plan.job.truncate,
            metadata={f"mattebridge:{name}": text for name, text in made.items()},
        )

    def _begin(self) -> Optional[VideoSinks]:
        """Begin the ledger and the videos. Raises `OutputExistsError` for frames made otherwise."""
        plan = self.plan
        if self.client is None:
            return None
        if plan.job.existing == "verify":
            wanted = {task.frame: plan.wanted(task) for task in plan.tasks}
            plan.ledger.refuse_mixture(wanted, job=self.digest, settings=self.settings)
        stale: list[int] = []
        if plan.job.existing == "overwrite":
            stale = [
                task.frame
                for task in plan.tasks
                if any(path.exists() for _, path in plan.wanted(task).values())
            ]
        videos = None
        if plan.videos and not self._has_good_videos():
            order = [task.frame for task in plan.tasks]
            texts = {"comment": json.dumps(self.style.metadata, sort_keys=True)}
            videos = VideoSinks(
                plan.videos,
                order,
                texts,
                self.gates.leave_if_stopped,
                alone=not any(task.outputs for task in plan.tasks),
                note=self.progress.note,
            )
        model = {name: self.model.get(name) for name in ("name", "digest")}
        plan.ledger.begin(self.digest, self.settings, model, stale)
        return videos

    def _has_good_videos(self) -> bool:
        """Whether a resumed job finds its videos there: of all these frames, made in this way."""
        names = {video.output for video in self.plan.videos}
        return self.plan.job.existing == "verify" and all(
            self.plan.is_good(task, self.digest, names) for task in self.plan.tasks
        )

    def _describe(self) -> str:
        frames = format_frames([task.frame for task in self.plan.tasks])
        model = self.model.get("name", self.plan.job.model)
        outputs = ", ".join(self.plan.job.written)
        return f"frames {frames} with model {model}: {outputs} to {self.plan.job.output}"

    def _note_what_is_ignored(self) -> None:
        job = self.plan.job
        takes_none = self.model and not self.model.get("uses_alpha_hint", True)
        if job.alpha_hint and takes_none and not job.params.hint_sharpen:
            self.progress.note(f"model '{self.model['name']}' makes no use of --alpha-hint")
        if any(_has_overscan(task) for task in self.plan.tasks):
            self.progress.note("the plate has overscan; only its display window is matted")
        for note in self.plan.notes:
            self.progress.note(note)
        headers = [task.header for task in self.plan.tasks if task.header is not None]
        lost = sorted({name for header in headers for name in header.lost_metadata})
        if lost:
            self.progress.note(
                f"the outputs lack these metadata of the plate, which cannot be carried (is it text"
                f" in another encoding than UTF-8?): {', '.join(lost)}"
            )

    # -- the frames ----------------------------------------------------------------------------

    def _take_through(self, frames: FrameWalk, pool: ThreadPoolExecutor) -> None:
        """Admit the frames in order, as the budget allows, and report them in order."""
        waiting = list(self.plan.tasks)
        out: dict[Future[FrameRecord], FrameTask] = {}
        ended: dict[int, FrameRecord] = {}
        order = [task.frame for task in waiting]
        while (waiting or out) and not self.gates.is_closed:
            while waiting and self.budget.acquire(waiting[0].size_bytes):
                task = waiting.pop(0)
                out[pool.submit(frames.walk, task)] = task
            done, _ = wait(out, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                task = out.pop(future)
                self.budget.release(task.size_bytes)
                self._collect(future, ended)
            self._report(order, ended)
            if self.gates.cancelled.is_set():
                self._halt(Cancelled("the job was cancelled; run it again with --resume"))
        if self.gates.is_closed:
            self._wind_up(out, ended)
            self._report(sorted(ended), ended)

    def _collect(self, future: Future[FrameRecord], ended: dict[int, FrameRecord]) -> None:
        try:
            record = future.result()
        except MattebridgeError as error:
            # Frames that left because the job was stopped are not the reason why it was.
            if not (isinstance(error, Cancelled) and self.gates.is_stopped):
                self._halt(error)
        except Exception as error:  # a bug ends the job; it is the cause in the summary
            self._halt(error)
        else:
            ended[record.frame] = record

    def _report(self, order: list[int], ended: dict[int, FrameRecord]) -> None:
        """Pass on what has ended, in frame order."""
        while order and order[0] in ended:
            record = ended.pop(order.pop(0))
            self.summary.records.append(record)
            if self.client is not None and record.status != "found":
                self.plan.ledger.remember(record.as_dict())
            self.progress.frame(record, len(self.summary.records), self.summary.total)

    def _halt(self, cause: BaseException) -> None:
        """Admit no more frames; the gravest cause decides the exit status."""
        self.gates.close()
        known = self.summary.cause
        if known is None or gravity(cause) < gravity(known):
            self.summary.cause = cause

    def _wind_up(
        self, out: Mapping[Future[FrameRecord], FrameTask], ended: dict[int, FrameRecord]
    ) -> None:
        """Wait until the frames that are out have ended; one that is written by now counts."""
        for future in out:
            if not future.cancel():
                self._collect(future, ended)

    # -- after the last frame ------------------------------------------------------------------

    def _close(self, videos: VideoSinks, written: Mapping[Path, int]) -> dict[Path, int]:
        """Give the videos their names when all frames are in, else leave nothing of them.

        Gives their sizes in bytes by path. written: those of the files.
        """
        complete = len(self.summary.records) == len(self.plan.tasks) and not self.summary.cause
        if not complete or videos.given_up is not None:
            videos.discard()
            return {}
        sizes = videos.close()
        for failure in videos.failed.values():
            self._halt(failure)
        try:
            self._note_videos({**written, **sizes})
        except FrameWriteError as failure:
            self._halt(failure)
        return sizes

    def _note_videos(self, known: Mapping[Path, int]) -> None:
        """Note the frames with their videos in the ledger; known: sizes in bytes by path."""
        for task in self.plan.tasks:
            paths = {name: path for name, (_, path) in self.plan.wanted(task).items()}
            made = {name: known[path] for name, path in paths.items() if path in known}
            self.plan.note(task, self.digest, made)

    def _check_files(self, written: Mapping[Path, int]) -> None:
        """The last look: every file of this run under its name, with the size it was given."""
        for path, size in written.items():
            if not path.is_file() or path.stat().st_size != size:
                self.summary.cause = FrameWriteError(
                    f"{path} was written and has changed since; who else writes to this folder?"
                )

    def _record_the_rest(self) -> None:
        recorded = {record.frame for record in self.summary.records}
        left = [task for task in self.plan.tasks if task.frame not in recorded]
        self.summary.records += [record_of(self.plan, task, "cancelled") for task in left]


def _check_config(client: Client, plan: Plan) -> None:
    """Raise `ColorError` where the daemon has another colour config than this command.

    The same name would stand for other colours in the request and in the files.
    """
    ours = plan.color_config
    theirs = client.colors() if ours else {}
    if theirs and theirs["digest"] != ours["digest"]:
        raise ColorError(
            f"the daemon has the colour config {theirs['config']} and this command"
            f" {ours['config']}; set OCIO alike for both, and start the daemon again"
        )


def _find_model(
    client: Client, plan: Plan, cancelled: threading.Event, check: Optional[Check]
) -> dict[str, Any]:
    """The daemon's card of the job's model; refuses a job that lacks what the model needs.

    As the first frame of a job may, a worker's first start takes at most the job's time limit.
    """
    models = client.models(plan.job.timeout_s, cancelled=cancelled.is_set)
    job, card = plan.job, find_card(models, plan.job.model)
    if check is not None:
        check(plan, card)
    given = [role for role in INPUT_ROLES if getattr(job, role)]
    check_needs(card, given, how="give one with {option}")
    for name in EXTRA_OUTPUTS:
        if name in job.written and name not in card.get("extra_outputs", ()):
            raise InputsError(f"model '{card['name']}' gives no {name}; leave it out of --outputs")
    _check_settings(card, job.params.settings)
    return dict(card)


def _check_settings(card: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse settings that the model will refuse, in its words.

    A daemon with very many models leaves their settings out of the cards; the first frame is
    refused then.
    """
    if "settings" in card:
        schema = SettingsSchema.described(card["settings"])
        schema.validate(settings, model=str(card["name"]))


def _has_overscan(task: FrameTask) -> bool:
    if task.header is None:
        return False
    (x, y, width, height), (left, top, full_width, full_height) = (
        task.header.data_window,
        task.header.display_window,
    )
    right, bottom = left + full_width, top + full_height
    return x < left or y < top or x + width > right or y + height > bottom
