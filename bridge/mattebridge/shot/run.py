"""Matte a shot: frames from disk through the daemon to files, several at once, in bounded memory.

    main thread:  admit frames in order -----> note what ended, in order -----> exit status
                     | byte budget                 ^
    frame threads:   read --> submit, wait --> encode, write, check --> videos, in order

Each frame has a thread that walks it through all rooms; gates let only so many into each room, so
that reading the next frame and writing the last overlap with the daemon's work. A frame is admitted
only when its bytes fit the budget, whatever the shot's length. The rule that must not be broken:
exit status 0 means that every requested frame stands on disk and was checked there.

What fails one frame (unreadable, wrong size, a model error) is recorded and the others go on; a
write error, a lost daemon or a cancel stops everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge.errors import (
    Cancelled,
    DeadlineError,
    FrameReadError,
    FrameWriteError,
    InputsError,
    MattebridgeError,
    ModelError,
    PlateError,
)
from mattebridge.image_io.sequences import Source, VideoPicture, format_frames
from mattebridge.image_io.sources import path_of
from mattebridge.shot.budget import ByteBudget, DaemonMemory
from mattebridge.shot.inputs import Black, Pixels, ShotInputs
from mattebridge.shot.job import MATTE_ROLES, MatteJob
from mattebridge.shot.ledger import job_digest
from mattebridge.shot.pictures import Finish, video_codes, write_output
from mattebridge.shot.plan import FrameTask, Plan, preflight
from mattebridge.shot.ports import Client, Handle
from mattebridge.shot.progress import FrameRecord, Progress
from mattebridge.shot.summary import Summary, gravity, stops_everything
from mattebridge.shot.videos import VideoSinks
from mattebridge.version import __version__
from mattebridge.whole_files import sweep_temporaries
from mattebridge.wire.params import OUTPUT_CHANNELS

READERS = 2
MAX_WRITERS = 4
# How long anything waits before it looks whether the job was cancelled.
POLL_S = 0.1
# The client's own limit comes first; this only guards against a client that never answers.
GRACE_S = 10.0


def run_job(
    job: MatteJob,
    connect: Callable[[], Client],
    *,
    progress: Optional[Progress] = None,
    cancelled: Optional[threading.Event] = None,
) -> Summary:
    """Matte every frame of a job; `connect` opens the client once it is known to be needed.

    Setting `cancelled` stops the job: exit status 4, no partial files. Raises the errors of
    `preflight`, and `DaemonError` or `ModelError` before the first frame; later errors are in the
    summary.
    """
    cancelled = cancelled or threading.Event()
    plan = preflight(job)
    sweep_temporaries([job.output, *plan.folders])
    if all(task.problem is not None for task in plan.tasks):
        return _Run(plan, None, progress or Progress(), cancelled).run()
    client = connect()
    try:
        return _Run(plan, client, progress or Progress(), cancelled).run()
    finally:
        client.close()


class _Run:
    """One job on its way."""

    def __init__(
        self,
        plan: Plan,
        client: Optional[Client],
        progress: Progress,
        cancelled: threading.Event,
    ) -> None:
        self.plan = plan
        self.progress = progress
        self.cancelled = cancelled
        self.stop = threading.Event()
        self.summary = Summary(total=len(plan.tasks), output=plan.job.output)
        self.model = _find_model(client, plan.job) if client is not None else {}
        self.settings = plan.settings(str(self.model.get("name", "")))
        self.digest = job_digest(self.settings, str(self.model.get("digest", "")))
        self.client = client
        self.finish = self._finish()
        self.sinks: Optional[VideoSinks] = None
        self.written: dict[Path, int] = {}
        self.inputs = ShotInputs(plan, client)
        self.budget = ByteBudget(plan.job.max_bytes)
        self.daemon_memory = DaemonMemory(client)
        self.gates = {
            "read": threading.BoundedSemaphore(READERS),
            "matte": threading.BoundedSemaphore(max(1, plan.job.in_flight)),
            "write": threading.BoundedSemaphore(min(MAX_WRITERS, os.cpu_count() or 1)),
        }

    def run(self) -> Summary:
        """Walk all frames through; the summary is complete whatever happened."""
        started = time.monotonic()
        self._begin_ledger()
        waiting = list(self.plan.tasks)
        self.progress.start(len(waiting), self._describe())
        self._say_what_is_ignored()
        threads = READERS + self.plan.job.in_flight + MAX_WRITERS
        pool = ThreadPoolExecutor(threads, thread_name_prefix="frame")
        try:
            self._walk(waiting, pool)
        finally:
            self.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            self._close_videos()
            self.inputs.release()
        self.summary.seconds = time.monotonic() - started
        if not self.summary.exit_status:
            self._check_everything_is_there()
        recorded = {record.frame for record in self.summary.records}
        left = [task for task in self.plan.tasks if task.frame not in recorded]
        self.summary.records += [self._record(task, "cancelled") for task in left]
        summary = self.summary
        self.progress.finish(summary.exit_status, summary.text, summary.first_failure)
        return self.summary

    def _finish(self) -> Finish:
        """What is the same for all pictures; the files say how they were made."""
        plan = self.plan
        made = {
            "model": str(self.model.get("name", "")),
            "modelDigest": str(self.model.get("digest", "")),
            "settings": json.dumps(self.settings, sort_keys=True, default=str),
            "version": __version__,
        }
        return Finish(
            space=plan.space,
            background=plan.background,
            keep_data_window=plan.job.keep_data_window,
            truncate=plan.job.truncate,
            metadata={f"mattebridge:{name}": text for name, text in made.items()},
        )

    def _describe(self) -> str:
        frames = format_frames([task.frame for task in self.plan.tasks])
        model = self.model.get("name", self.plan.job.model)
        outputs = ", ".join(self.plan.job.written)
        return f"frames {frames} with model {model}: {outputs} to {self.plan.job.output}"

    def _say_what_is_ignored(self) -> None:
        job = self.plan.job
        if job.alpha_hint and self.model and not self.model.get("uses_alpha_hint", True):
            self.progress.note(f"model '{self.model['name']}' makes no use of --alpha-hint")
        if any(_has_overscan(task) for task in self.plan.tasks):
            self.progress.note("the plate has overscan; only its display window is matted")

    def _begin_ledger(self) -> None:
        """Refuse to mix settings; note which frames on disk are about to be made again."""
        plan, ledger = self.plan, self.plan.ledger
        if self.client is None:
            return
        if plan.job.existing == "verify":
            wanted = {task.frame: plan.wanted(task) for task in plan.tasks}
            ledger.refuse_mixture(wanted, job=self.digest, settings=self.settings)
        stale: list[int] = []
        if plan.job.existing == "overwrite":
            stale = [
                task.frame
                for task in plan.tasks
                if any(path.exists() for _, path in plan.wanted(task).values())
            ]
        if plan.videos and not self._videos_are_good():
            order = [task.frame for task in plan.tasks]
            texts = {"comment": json.dumps(self.finish.metadata, sort_keys=True)}
            self.sinks = VideoSinks(plan.videos, order, texts, self._leave_if_stopped)
        model = {name: self.model.get(name) for name in ("name", "digest")}
        ledger.begin(self.digest, self.settings, model, stale)

    def _videos_are_good(self) -> bool:
        """Whether a resumed job finds its videos made, of all these frames, in just this way."""
        plan = self.plan
        names = {video.output for video in plan.videos}
        return plan.job.existing == "verify" and all(
            task.header is not None
            and plan.ledger.is_good(
                task.frame,
                job=self.digest,
                inputs=task.identity,
                outputs={n: at for n, at in plan.wanted(task).items() if n in names},
                size_px=(task.header.width, task.header.height),
            )
            for task in plan.tasks
        )

    def _close_videos(self) -> None:
        """All frames are in: the videos get their names. Else nothing of them stays."""
        if self.sinks is None:
            return
        complete = len(self.summary.records) == len(self.plan.tasks) and not self.summary.cause
        if not complete or self.sinks.given_up is not None:
            self.sinks.discard()
            return
        try:
            sizes = self.sinks.close()
        except FrameWriteError as failure:
            self.sinks.discard()
            self._halt(failure)
            return
        self.written.update(sizes)
        for task in self.plan.tasks:
            noted = {
                name: (form, self.written[path])
                for name, (form, path) in self.plan.wanted(task).items()
            }
            self.plan.ledger.note(task.frame, job=self.digest, inputs=task.identity, outputs=noted)

    # -- the main thread ------------------------------------------------------------------------

    def _walk(self, waiting: list[FrameTask], pool: ThreadPoolExecutor) -> None:
        out: dict[Future[FrameRecord], FrameTask] = {}
        ended: dict[int, FrameRecord] = {}
        order = [task.frame for task in waiting]
        while (waiting or out) and not self.stop.is_set():
            while waiting and self.budget.take(waiting[0].size_bytes):
                task = waiting.pop(0)
                out[pool.submit(self._one_frame, task)] = task
            done, _ = wait(out, timeout=POLL_S, return_when=FIRST_COMPLETED)
            for future in done:
                task = out.pop(future)
                self.budget.give_back(task.size_bytes)
                self._take(future, ended)
            self._report(order, ended)
            if self.cancelled.is_set():
                self._halt(Cancelled("the job was cancelled; run it again with --resume"))
        if self.stop.is_set():
            self._wind_up(out, ended)
            self._report(sorted(ended), ended)

    def _take(self, future: Future[FrameRecord], ended: dict[int, FrameRecord]) -> None:
        try:
            record = future.result()
        except MattebridgeError as error:
            # Frames that left because the job was stopped are not the reason why it was.
            if not (isinstance(error, Cancelled) and self._is_stopped()):
                self._halt(error)
        except Exception as error:  # a bug: it ends the job, and the caller may look at it
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
        """Stop taking frames in; the gravest cause decides the exit status."""
        self.stop.set()
        known = self.summary.cause
        if known is None or gravity(cause) < gravity(known):
            self.summary.cause = cause

    def _wind_up(
        self, out: Mapping[Future[FrameRecord], FrameTask], ended: dict[int, FrameRecord]
    ) -> None:
        """Let the frames that are out end or give up; a frame that is written by now counts."""
        for future in out:
            if not future.cancel():
                self._take(future, ended)

    def _check_everything_is_there(self) -> None:
        """The last look: every file of this run under its name, with the length it was given."""
        for path, size in self.written.items():
            if not path.is_file() or path.stat().st_size != size:
                self.summary.cause = FrameWriteError(
                    f"{path} was written and has changed since; who else writes to this folder?"
                )

    # -- the thread of one frame ------------------------------------------------------------------

    def _one_frame(self, task: FrameTask) -> FrameRecord:
        """Read, matte, write. Raises only what stops the whole job."""
        try:
            if task.problem is not None:
                raise task.problem
            if self._is_good_already(task):
                return self._record(task, "found")
            return self._make(task)
        except (Cancelled, FrameWriteError):
            raise
        except MattebridgeError as error:
            if stops_everything(error):
                raise
            self._give_up_videos(task, error)
            return self._record(task, "failed", code=error.code, message=error.message)

    def _give_up_videos(self, task: FrameTask, error: MattebridgeError) -> None:
        if self.sinks is None:
            return
        self.sinks.give_up(error)
        if not task.outputs:
            raise FrameWriteError(
                f"no video was made, since frame {task.frame} failed: {error.message}"
            ) from error
        self.progress.note(f"no video is made, since frame {task.frame} failed")

    def _is_good_already(self, task: FrameTask) -> bool:
        if self.plan.job.existing != "verify" or task.header is None or self.sinks is not None:
            return False
        with self._room("read"):
            return self.plan.ledger.is_good(
                task.frame,
                job=self.digest,
                inputs=task.identity,
                outputs=self.plan.wanted(task),
                size_px=(task.header.width, task.header.height),
            )

    def _make(self, task: FrameTask) -> FrameRecord:
        started, times = time.monotonic(), Counter[str]()
        if "plate" in task.inputs.black:
            matte = self._black(task)
        else:
            matte = self._read_and_matte(task, times)
        with self._room("write", times):
            sizes = self._write(task, matte)
            codes = self._codes(task, matte)
        record = self._record(
            task,
            "done",
            bytes=sum(sizes.values()),
            degraded=tuple(matte.degraded),
            timings={**matte.timings, **times},
            memory=_resident_bytes(),
            daemon_memory=self.daemon_memory.now(),
            **_measures(matte),
        )
        del matte
        if self.sinks is not None:
            self.sinks.put(task.frame, codes)
        return replace(record, ms=(time.monotonic() - started) * 1000)

    def _read_and_matte(self, task: FrameTask, times: Counter[str]) -> Any:
        with self._room("read", times):
            planes = self.inputs.read(task)
        with self._room("matte", times):
            return self._matte(task, planes)

    def _black(self, task: FrameTask) -> Black:
        """Of a plate that is missing: nothing, without asking anybody."""
        assert task.header is not None
        size = (task.header.height, task.header.width)
        black = Black()
        for name in self.plan.asked:
            setattr(black, name, np.zeros((*size, OUTPUT_CHANNELS[name][0]), np.float32))
        return black

    @contextlib.contextmanager
    def _room(self, name: str, times: Optional[Counter[str]] = None) -> Iterator[None]:
        """Wait for a place at a stage; leave at once when the job has been stopped.

        times: gets the milliseconds in the room, and those before its door.
        """
        gate, asked = self.gates[name], time.monotonic()
        while not gate.acquire(timeout=POLL_S):
            self._leave_if_stopped()
        entered = time.monotonic()
        try:
            self._leave_if_stopped()
            yield
        finally:
            gate.release()
            if times is not None:
                times[f"room_{name}_ms"] += round((time.monotonic() - entered) * 1000)
                times["room_wait_ms"] += round((entered - asked) * 1000)

    def _is_stopped(self) -> bool:
        return self.stop.is_set() or self.cancelled.is_set()

    def _leave_if_stopped(self) -> None:
        if self._is_stopped():
            raise Cancelled("the job was stopped")

    def _matte(self, task: FrameTask, planes: Mapping[str, Any]) -> Any:
        # A held clean plate may be gone: dropped for other people's, or the daemon is a new one.
        for another in (self.inputs.hold_again, self.inputs.clean_plate_again):
            try:
                return self._result(self._submit(task, planes), task)
            except PlateError:
                planes = {**planes, "clean_plate": another(task, planes["clean_plate"])}
        return self._result(self._submit(task, planes), task)

    def _submit(self, task: FrameTask, planes: Mapping[str, Any]) -> Handle:
        assert self.client is not None
        job = self.plan.job
        mattes = {role: planes[role] for role in MATTE_ROLES if role in planes}
        return self.client.submit(
            planes["plate"],
            planes.get("clean_plate"),
            **mattes,
            model=job.model,
            outputs=self.plan.asked,
            output_dtype=self.plan.output_dtype,
            colorspace=task.colorspaces["plate"],
            frame=task.frame,
            priority="batch",
            deadline_s=job.deadline_s,
            timeout_s=job.timeout_s,
            **self.plan.render_params,
        )

    def _result(self, handle: Handle, task: FrameTask) -> Any:
        until = time.monotonic() + self.plan.job.timeout_s + GRACE_S
        while True:
            if self._is_stopped():
                handle.cancel()
                raise Cancelled("the job was stopped")
            try:
                return handle.result(timeout_s=POLL_S)
            except DeadlineError as error:
                if error.details.get("started") is not None:
                    raise  # the daemon's own verdict
                if time.monotonic() > until:
                    handle.cancel()
                    raise

    def _write(self, task: FrameTask, matte: Any) -> dict[str, int]:
        assert task.header is not None
        plan, sizes = self.plan, {}
        header = replace(task.header, metadata=_carried(task))
        for output, path in task.outputs.items():
            self._leave_if_stopped()
            try:
                sizes[output] = write_output(
                    path,
                    output,
                    matte,
                    form=plan.formats[output],
                    finish=self.finish,
                    header=header,
                    backdrop=self.inputs.backdrop(task) if output == "comp" else None,
                )
            except FrameReadError as damaged:
                raise FrameWriteError(f"written, but {damaged.message}") from damaged
        self.written.update({task.outputs[name]: size for name, size in sizes.items()})
        noted = {name: (plan.form_of(name), size) for name, size in sizes.items()}
        if noted:
            plan.ledger.note(task.frame, job=self.digest, inputs=task.identity, outputs=noted)
        return sizes

    def _codes(self, task: FrameTask, matte: Any) -> dict[str, Pixels]:
        """This frame's pictures for the videos, by output."""
        if self.sinks is None or self.sinks.given_up is not None:
            return {}
        return {
            output: video_codes(
                output,
                matte,
                form=self.plan.formats[output],
                finish=self.finish,
                backdrop=self.inputs.backdrop(task) if output == "comp" else None,
            )
            for output in self.sinks.outputs
        }

    def _record(self, task: FrameTask, status: str, **fields: Any) -> FrameRecord:
        outputs = {name: str(path) for name, (_, path) in self.plan.wanted(task).items()}
        kept = outputs if status in ("done", "found") else {}
        inputs = task.inputs
        return FrameRecord(
            task.frame,
            status,
            outputs=kept,
            held=inputs.held,
            black=inputs.black,
            inputs={role: _place_of(source) for role, source in inputs.files.items()},
            **fields,
        )


def _place_of(source: Source) -> Any:
    """Where a picture is, to be found from any folder: a path, or a video and a position in it."""
    path = os.path.abspath(path_of(source))
    return [path, source.index] if isinstance(source, VideoPicture) else path


def _measures(matte: Any) -> dict[str, float]:
    """What tells frames apart at a glance, from every fourth pixel each way: it costs nothing."""
    alpha = matte.alpha
    if alpha is None and matte.premultiplied is not None:
        alpha = matte.premultiplied[..., 3:]
    found = {"area": alpha, "error": getattr(matte, "error", None)}
    return {
        name: round(float(np.mean(plane[::4, ::4], dtype=np.float64)), 6)
        for name, plane in found.items()
        if plane is not None
    }


def _resident_bytes() -> int:
    """Memory that this process holds; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _find_model(client: Client, job: MatteJob) -> dict[str, Any]:
    """The daemon's card of the job's model; refuses a job that lacks what the model needs."""
    models = client.models()
    for card in models:
        if job.model == card["name"] or job.model in card.get("aliases", ()):
            break
    else:
        names = ", ".join(sorted(str(card["name"]) for card in models)) or "none"
        raise ModelError(f"there is no model '{job.model}'; the models present are: {names}")
    for role in card.get("needs", ()):
        if not getattr(job, role, None):
            option = "--" + role.replace("_", "-")
            raise InputsError(f"model '{card['name']}' needs {option}", field=role)
    lacking = [
        name
        for name in ("error", "refinement")
        if name in job.written and name not in card.get("extra_outputs", ())
    ]
    if lacking:
        raise InputsError(
            f"model '{card['name']}' gives no {lacking[0]}; leave it out of --outputs"
        )
    return dict(card)


def _has_overscan(task: FrameTask) -> bool:
    if task.header is None:
        return False
    (x, y, width, height), (left, top, full_width, full_height) = (
        task.header.data_window,
        task.header.display_window,
    )
    right, bottom = left + full_width, top + full_height
    return x < left or y < top or x + width > right or y + height > bottom


def _carried(task: FrameTask) -> dict[str, Any]:
    """What the plate's header says that is true of its results too."""
    assert task.header is not None
    carried = dict(task.header.metadata)
    if task.colorspaces["plate"] != "linear":
        carried.pop("oiio:ColorSpace", None)
    return carried
