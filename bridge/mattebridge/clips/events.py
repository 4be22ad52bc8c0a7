"""What a run tells while it goes on: optional callbacks, called one after the other.

    reader, daemon, writer --tell--> queue --one thread--> callbacks

Rule: a callback never touches the run. All are called by one thread, in the order in which things
happened, so that those of a frame come in order; one that raises is logged once, and the run goes
on. Totals are those of the frames that are asked for; `i` is the index of a frame in its clip. A
callback with a keyword-only parameter `frame` also gets the number of the frame.
"""

from __future__ import annotations

import inspect
import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)

Callback = Callable[..., Any]


@dataclass(frozen=True)
class PipelineEvents:
    """The callbacks of a script, each None or a function of the arguments named here.

    Stages are extract, preprocess, inference and postwrite; with devices, inference[cuda:0].

    on_stage_start(stage, total), on_stage_done(stage)
    on_extract_frame(i, total), on_preprocess_queued(i), on_inference_start(i),
    on_inference_queued(i), on_frame_written(i, total)
    on_queue_depth(preprocess, postwrite): frames at the daemon, and those that wait to be written
    on_frame_error(stage, i, error): the frame has failed, and the others go on
    on_clip_found(name, root), on_clip_skipped(reason, path)
    """

    on_stage_start: Callback | None = None
    on_stage_done: Callback | None = None
    on_extract_frame: Callback | None = None
    on_preprocess_queued: Callback | None = None
    on_inference_start: Callback | None = None
    on_inference_queued: Callback | None = None
    on_frame_written: Callback | None = None
    on_queue_depth: Callback | None = None
    on_frame_error: Callback | None = None
    on_clip_found: Callback | None = None
    on_clip_skipped: Callback | None = None


class Teller:
    """Calls the callbacks: `with Teller(events) as tell: tell("on_stage_done", "extract")`.

    At the end of the `with` all of them have been called.
    """

    def __init__(self, events: PipelineEvents | None) -> None:
        self._events = events
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._raised: set[str] = set()
        self._thread: threading.Thread | None = None

    def __call__(self, name: str, *arguments: Any, frame: int | None = None) -> None:
        """Have a callback called, if the script has it; frame: the number of the frame."""
        if self._thread is not None and getattr(self._events, name) is not None:
            self._queue.put((name, arguments, frame))

    def __enter__(self) -> Teller:
        if self._events is not None:
            self._thread = threading.Thread(target=self._run, name="events", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (told := self._queue.get()) is not None:
            name, arguments, frame = told
            try:
                call(getattr(self._events, name), *arguments, frame=frame)
            except Exception:
                if name not in self._raised:
                    log.exception("the callback %s raised; the run goes on", name)
                self._raised.add(name)


def call(callback: Callback | None, *arguments: Any, frame: int | None = None) -> None:
    """Call a callback, if there is one; with the frame's number where it takes that."""
    if callback is None:
        return
    if frame is not None and _takes_frame(callback):
        callback(*arguments, frame=frame)
    else:
        callback(*arguments)


def _takes_frame(callback: Callback) -> bool:
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        each.kind is each.VAR_KEYWORD or (each.name == "frame" and each.kind is each.KEYWORD_ONLY)
        for each in parameters
    )
