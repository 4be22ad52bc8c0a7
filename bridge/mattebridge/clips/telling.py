"""A running job of `shot/` told as the events of the pipeline.

client of the job --> preprocess queued, inference start, inference queued
progress of the job --> stage start and done, frame written, frame error
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Optional, cast

from mattebridge.client.matte import Matte
from mattebridge.clips.events import Teller
from mattebridge.errors import FrameReadError, FrameWriteError, MattebridgeError, from_wire
from mattebridge.shot.ports import Client, Handle
from mattebridge.shot.progress import FrameRecord, Progress

log = logging.getLogger(__name__)

PREPROCESS, INFERENCE, POSTWRITE = "preprocess", "inference", "postwrite"
_LOCAL = {FrameReadError.code: FrameReadError, FrameWriteError.code: FrameWriteError}


class Narrator(Progress):
    """Tells what happens to the frames of one clip."""

    def __init__(
        self, tell: Teller, indices: Mapping[int, int], devices: Sequence[str] = ()
    ) -> None:
        """indices: of the frames in their clip, by number. devices: each has a stage of its own."""
        self._tell = tell
        self._indices = indices
        inference = [f"{INFERENCE}[{name}]" for name in devices] or [INFERENCE]
        self._stages = [PREPROCESS, *inference, POSTWRITE]
        self._lock = threading.Lock()
        self._at_daemon = self._to_write = 0

    # -- what the job reports ----------------------------------------------------------------------

    def start(self, total: int, what: str) -> None:
        for stage in self._stages:
            self._tell("on_stage_start", stage, total)

    def frame(self, record: FrameRecord, finished: int, total: int) -> None:
        index = self._indices[record.frame]
        if record.status == "done":
            self._count(0, -1)
        if record.status == "failed":
            error = _error_of(record)
            self._tell("on_frame_error", _stage_of(error), index, error, frame=record.frame)
        else:
            self._tell("on_frame_written", index, total, frame=record.frame)

    def note(self, text: str) -> None:
        log.info("%s", text)

    def finish(self, status: int, text: str, cause: str = "") -> None:
        for stage in self._stages:
            self._tell("on_stage_done", stage)

    # -- what the client sees ----------------------------------------------------------------------

    def sent(self, frame: int) -> None:
        """A frame was read and went to the daemon."""
        index = self._indices[frame]
        self._tell("on_preprocess_queued", index, frame=frame)
        self._count(1, 0)
        self._tell("on_inference_start", index, frame=frame)

    def ended(self, frame: int, *, good: bool) -> None:
        """The daemon has replied."""
        self._count(-1, 1 if good else 0)
        if good:
            self._tell("on_inference_queued", self._indices[frame], frame=frame)

    def _count(self, at_daemon: int, to_write: int) -> None:
        with self._lock:
            self._at_daemon += at_daemon
            self._to_write = max(0, self._to_write + to_write)
            self._tell("on_queue_depth", self._at_daemon, self._to_write)


class ToldClient:
    """A client of the daemon that tells a `Narrator` of its frames; all else is the client's."""

    def __init__(self, client: Client, narrator: Narrator) -> None:
        self._client = client
        self._narrator = narrator

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def submit(self, plate: Any, clean_plate: Any = None, **options: Any) -> Handle:
        handle = self._client.submit(plate, clean_plate, **options)
        self._narrator.sent(options["frame"])
        return cast("Handle", _ToldHandle(handle, options["frame"], self._narrator))


class _ToldHandle:
    def __init__(self, handle: Handle, frame: int, narrator: Narrator) -> None:
        self._handle, self._frame, self._narrator = handle, frame, narrator
        self._told = False

    def cancel(self) -> None:
        self._handle.cancel()

    def result(self, timeout_s: Optional[float] = None) -> Matte:
        try:
            made = self._handle.result(timeout_s=timeout_s)
        except MattebridgeError as error:
            # A wait that ended is not a reply.
            if error.details.get("started", error) is not None:
                self._tell_once(good=False)
            raise
        self._tell_once(good=True)
        return made

    def _tell_once(self, *, good: bool) -> None:
        if not self._told:
            self._told = True
            self._narrator.ended(self._frame, good=good)


def _error_of(record: FrameRecord) -> MattebridgeError:
    kind = _LOCAL.get(record.code)
    if kind is not None:
        return kind(record.message)
    return from_wire(record.code, record.message, False, {})


def _stage_of(error: MattebridgeError) -> str:
    if isinstance(error, FrameReadError):
        return PREPROCESS
    return POSTWRITE if isinstance(error, FrameWriteError) else INFERENCE
