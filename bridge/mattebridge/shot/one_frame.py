"""One frame's walk through a job: read, matte, write, record.

    gate "read"     plate, clean plate and mattes from disk              inputs
    gate "matte"    submit to the daemon, wait for the matte             ports.Client
    gate "write"    encode, write and check every output                 pictures
                    one line in the ledger
    (no gate)       the frame's pictures into the videos, in order       videos
    --> FrameRecord

A frame that needs no matte ends early: one that cannot be read has failed, one that a resumed job
finds good stays as it is, and one whose plate is missing may be black by the job's own choice. The
rule that must not be broken: a frame is noted in the ledger only after every one of its files was
checked on disk.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge.client.matte import Matte
from mattebridge.color import Pixels
from mattebridge.errors import (
    Cancelled,
    DeadlineError,
    FrameReadError,
    FrameWriteError,
    MattebridgeError,
    PlateError,
)
from mattebridge.image_io.sequences import Source, VideoPicture
from mattebridge.image_io.sources import path_of
from mattebridge.shot.budget import DaemonMemory
from mattebridge.shot.gates import POLL_S, Gates
from mattebridge.shot.inputs import ShotInputs
from mattebridge.shot.one_choice import OneChoice
from mattebridge.shot.pictures import PictureStyle, video_codes, write_output
from mattebridge.shot.plan import FrameTask, Plan
from mattebridge.shot.ports import Client, Handle
from mattebridge.shot.progress import FrameRecord
from mattebridge.shot.summary import stops_everything
from mattebridge.shot.videos import VideoSinks
from mattebridge.wire import oslayer
from mattebridge.wire.labels import noted
from mattebridge.wire.params import MATTE_ROLES, OUTPUT_CHANNELS

# The client's own time limit comes first; this only guards against a client that never answers.
GRACE_S = 10.0


class FrameWalk:
    """What the frames of a running job have in common; `walk` takes one of them through.

    digest: of the job, for the ledger. card: of its model. videos: those that the job makes, None
    when it makes none. note: takes a sentence for the artist. `written` has the size in bytes of
    every file that was written, by its path.
    """

    def __init__(
        self,
        plan: Plan,
        client: Optional[Client],
        gates: Gates,
        *,
        digest: str,
        card: Mapping[str, Any],
        style: PictureStyle,
        videos: Optional[VideoSinks],
        note: Callable[[str], None],
    ) -> None:
        self.written: dict[Path, int] = {}
        self._plan = plan
        self._client = client
        self._gates = gates
        self._digest = digest
        self._style = style
        self._videos = videos
        self._note = note
        self._inputs = ShotInputs(plan, client)
        self._one_choice = OneChoice(card, plan.job.params.settings, plan.ledger, digest, note)
        self._daemon_memory = DaemonMemory(client)

    def walk(self, task: FrameTask) -> FrameRecord:
        """Read, matte and write a frame, in the calling thread; how it ended.

        Raises only what stops the whole job.
        """
        try:
            if task.problem is not None:
                raise task.problem
            if self._is_good_already(task):
                return record_of(self._plan, task, "found")
            return self._make(task)
        except (Cancelled, FrameWriteError):
            raise
        except MattebridgeError as error:
            if stops_everything(error):
                raise
            self._give_up_videos(task, error)
            return record_of(self._plan, task, "failed", code=error.code, message=error.message)

    def release(self) -> None:
        """Close what was opened for the frames; the daemon drops the stills that it held."""
        self._inputs.release()

    def _is_good_already(self, task: FrameTask) -> bool:
        if self._plan.job.existing != "verify" or self._videos is not None:
            return False
        with self._gates.enter("read"):
            return self._plan.is_good(task, self._digest)

    def _make(self, task: FrameTask) -> FrameRecord:
        started, times = time.monotonic(), Counter[str]()
        matte = self._black(task) if "plate" in task.inputs.black else self._matte(task, times)
        with self._gates.enter("write", times):
            self._plan.ledger.flush()
            sizes = self._write(task, matte)
            codes = self._codes(task, matte)
        record = record_of(
            self._plan,
            task,
            "done",
            bytes=sum(sizes.values()),
            degraded=(*matte.degraded, *noted(matte.notes), *self._inputs.labels(task)),
            timings={**matte.timings, **times},
            memory=oslayer.current().resident_bytes(),
            daemon_memory=self._daemon_memory.now(),
            **_measures(matte),
        )
        # A frame may wait long for its turn in the videos; its pixels are not needed there.
        del matte
        if self._videos is not None:
            self._videos.put(task.frame, codes)
        return replace(record, ms=(time.monotonic() - started) * 1000)

    def _black(self, task: FrameTask) -> Matte:
        """The matte of a plate that is missing: no subject, no light."""
        assert task.header is not None
        size = (task.header.height, task.header.width)
        planes: dict[str, Any] = {
            name: np.zeros((*size, OUTPUT_CHANNELS[name][0]), np.float32)
            for name in self._plan.asked
        }
        return Matte(**planes)

    # -- the daemon ----------------------------------------------------------------------------

    def _matte(self, task: FrameTask, times: Counter[str]) -> Matte:
        with self._gates.enter("read", times):
            planes = self._inputs.read(task)
        with self._gates.enter("matte", times):
            return self._one_choice.matted(lambda settings: self._ask(task, planes, settings))

    def _ask(
        self, task: FrameTask, planes: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Matte:
        self._gates.leave_if_stopped()
        # The daemon may have dropped a held clean plate for others, or be another one by now.
        for another in (self._inputs.hold_again, self._inputs.clean_plate_again):
            try:
                return self._result(self._submit(task, planes, settings), task)
            except PlateError:
                planes = {**planes, "clean_plate": another(task, planes["clean_plate"])}
        return self._result(self._submit(task, planes, settings), task)

    def _submit(
        self, task: FrameTask, planes: Mapping[str, Any], settings: Mapping[str, Any]
    ) -> Handle:
        assert self._client is not None
        job, params = self._plan.job, self._plan.render_params
        if settings:
            params = {**params, "settings": {**job.params.settings, **settings}}
        mattes = {role: planes[role] for role in MATTE_ROLES if role in planes}
        return self._client.submit(
            planes["plate"],
            planes.get("clean_plate"),
            **mattes,
            model=job.model,
            outputs=self._plan.asked,
            output_dtype=self._plan.output_dtype,
            colorspace=task.colorspaces["plate"],
            frame=task.frame,
            priority="batch",
            deadline_s=job.deadline_s,
            timeout_s=job.timeout_s,
            **params,
        )

    def _result(self, handle: Handle, task: FrameTask) -> Matte:
        until = time.monotonic() + self._plan.job.timeout_s + GRACE_S
        while True:
            if self._gates.is_stopped:
                handle.cancel()
            self._gates.leave_if_stopped()
            try:
                return handle.result(timeout_s=POLL_S)
            except DeadlineError as error:
                if error.details.get("started") is not None:
                    raise  # it is the daemon that gave the frame up
                if time.monotonic() > until:
                    handle.cancel()
                    raise

    # -- files and videos ----------------------------------------------------------------------

    def _write(self, task: FrameTask, matte: Matte) -> dict[str, int]:
        """Write the files of a frame and note it in the ledger; sizes in bytes by output."""
        assert task.header is not None
        plan, sizes = self._plan, {}
        header = task.header_of_outputs
        for output, path in task.outputs.items():
            self._gates.leave_if_stopped()
            try:
                sizes[output] = write_output(
                    path,
                    output,
                    matte,
                    form=plan.formats[output],
                    style=self._style_of(task),
                    header=header,
                    backdrop=self._backdrop(task, output),
                )
            except FrameReadError as damaged:
                raise FrameWriteError(f"written, but {damaged.message}") from damaged
        self.written.update({task.outputs[name]: size for name, size in sizes.items()})
        if sizes:
            plan.note(task, self._digest, sizes)
        return sizes

    def _codes(self, task: FrameTask, matte: Matte) -> dict[str, Pixels]:
        """This frame's pictures for the videos, by output."""
        if self._videos is None or self._videos.given_up is not None:
            return {}
        return {
            output: video_codes(
                output,
                matte,
                form=self._plan.formats[output],
                style=self._style_of(task),
                backdrop=self._backdrop(task, output),
            )
            for output in self._videos.outputs
        }

    def _style_of(self, task: FrameTask) -> PictureStyle:
        return replace(self._style, white=self._plan.white_of(task))

    def _backdrop(self, task: FrameTask, output: str) -> Optional[Pixels]:
        return self._inputs.backdrop(task) if output == "comp" else None

    def _give_up_videos(self, task: FrameTask, error: MattebridgeError) -> None:
        if self._videos is None:
            return
        self._videos.give_up(error)
        if not task.outputs:
            raise FrameWriteError(
                f"no video was made, since frame {task.frame} failed: {error.message}"
            ) from error
        self._note(f"no video is made, since frame {task.frame} failed")


def record_of(plan: Plan, task: FrameTask, status: str, **fields: Any) -> FrameRecord:
    """The record of a frame: where it comes from, where it went, and how it ended."""
    outputs = {name: str(path) for name, (_, path) in plan.wanted(task).items()}
    inputs = task.inputs
    return FrameRecord(
        task.frame,
        status,
        outputs=outputs if status in ("done", "found") else {},
        held=inputs.held,
        black=inputs.black,
        inputs={role: _place_of(source) for role, source in inputs.files.items()},
        **fields,
    )


def _place_of(source: Source) -> Any:
    """Where a picture is, to be found from any folder: a path, or a video and a position in it."""
    path = os.path.abspath(path_of(source))
    return [path, source.index] if isinstance(source, VideoPicture) else path


def _measures(matte: Matte) -> dict[str, float]:
    """Two figures of a frame, from every fourth pixel each way, which takes next to no time."""
    alpha = matte.alpha
    if alpha is None and matte.premultiplied is not None:
        alpha = matte.premultiplied[..., 3:]
    return {
        name: round(float(np.mean(plane[::4, ::4], dtype=np.float64)), 6)
        for name, plane in {"area": alpha, "error": matte.error}.items()
        if plane is not None
    }
