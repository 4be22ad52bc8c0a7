"""The worker: one device, the models, and frames one after the other, which may overlap.

    front --link: jobs, memfds---------------------> worker --> engine --> arenas
          <--link: ready, stage, done, failed, cancelled--+

It maps the arenas that a job names, computes into them, and reports. It knows no client and no
lease. It may be killed at any moment: what must survive is kept by the front. At every stage it
reports that stage, which is the heartbeat for the front's watchdog, and checks whether its job was
cancelled. It trusts the link (link.py).

A worker of a device with streams (engine/crossing.py) has more than one job at a time, and says in
`ready` how many it wants. One is computed at a time, by this one thread. At the stages of that one
the planes of those that wait are sent ahead, and those whose results have arrived are reported:

    wait: planes copied in --> computed, stage by stage --> deliver: results copied out --> done

So a frame's pixels do not depend on the others. A frame that an artist waits for is computed before
those of a job; else they are computed in the order of the front.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import math
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, Optional

import msgpack

from mattebridge.daemon.color_page import color_page
from mattebridge.daemon.device_errors import is_lost, is_unsupported
from mattebridge.daemon.devices import first_line, needs_check, reason_against
from mattebridge.daemon.hooks import PROBE_MODEL, Hooks
from mattebridge.daemon.limits import Limits
from mattebridge.daemon.link import Link, plain
from mattebridge.errors import (
    Cancelled,
    ColorError,
    InternalError,
    MattebridgeError,
    OutOfMemoryError,
    one_line,
)
from mattebridge.models.memory import is_exhausted
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import SlotMap

if TYPE_CHECKING:
    from mattebridge.checkpoint import Checkpoint
    from mattebridge.engine.ahead import SentFrame
    from mattebridge.engine.report import RenderReport
    from mattebridge.engine.started import StartedFrame
    from mattebridge.ocio.space import Spaces
    from mattebridge.wire.params import RenderParams

log = logging.getLogger(__name__)

# Exit status after an error that makes the context unusable: the front starts a new process.
LOST_CONTEXT = 86
WARM_UP_SIZE = 64
# These bounds keep the model list short enough for one reply.
MAX_LISTED_MODELS = 60
MODEL_LIST_BYTES = 56_000
# These bounds keep the notes of a model short enough for one reply.
MAX_NOTE_TEXT = 500
MAX_NOTE_DEPTH = 5


@dataclass
class _Job:
    """A message that waits for its turn. sent: what was begun for it before."""

    message: dict[str, Any]
    was_looked_at: bool = False
    sent: Optional[SentFrame] = None

    @property
    def number(self) -> int:
        return int(self.message["job"])

    @property
    def is_of_a_batch(self) -> bool:
        return self.message["op"] == "render" and not self.message.get("keep", False)


@dataclass
class _Delivered:
    """A frame that was computed, and whose results are on their way into its arena."""

    message: dict[str, Any]
    frame: StartedFrame
    registered: bool


class Worker:
    """One device: its engine, the mapped memory, and the jobs in hand."""

    def __init__(
        self, link: Link, device: str, workers: int = 1, spaces: Optional[Spaces] = None
    ) -> None:
        from mattebridge.engine.engine import Engine, memory_of_one_frame
        from mattebridge.engine.registered_memory import RegisteredMemory
        from mattebridge.engine.request import FrameLimits

        self.link = link
        self._registered = RegisteredMemory(device)
        self._engine = Engine(
            device,
            limits=FrameLimits(memory_bytes=memory_of_one_frame(workers)),
            model_budget_bytes=_model_budget_bytes(device, workers),
            frame_budget_bytes=_frame_budget_bytes(device, workers),
            spaces=spaces,
        )
        self._hooks = Hooks.from_environment()
        self._memories: dict[int, SlotMap] = {}
        self._waiting: deque[_Job] = deque()
        self._delivered: deque[_Delivered] = deque()

    def warm_up(self) -> None:
        """Render one small frame with the default model, then report `ready`.

        An error is logged only: each request for a model that cannot run gets that error itself.
        """
        started = time.monotonic()
        try:
            self._first_frame()
        except MattebridgeError as error:
            log.error("the warm-up frame failed: %s", error.message)
        except Exception as error:
            log.exception("the warm-up frame failed")
            self._end_if_unusable(error)
        self.link.send(
            op="ready",
            models=self._model_names(),
            memory=self._memory(),
            in_flight=self._engine.frames_in_flight,
            warm_up_ms=int((time.monotonic() - started) * 1000),
        )

    def _first_frame(self) -> None:
        import numpy as np

        from mattebridge.wire.params import RenderParams

        size = WARM_UP_SIZE
        ramp = np.linspace(0.1, 0.9, size * size * 3, dtype=np.float32).reshape(size, size, 3)
        plate = ramp.copy()
        plate[size // 4 : size // 2, size // 4 : size // 2] = 0.5
        self._engine.matte(
            {"plate": plate, "clean_plate": ramp},
            RenderParams(colorspace="srgb"),
            model="default",
            out={"alpha": np.empty((size, size, 1), np.float32)},
        )

    def handle(self, message: dict[str, Any], fds: list[int]) -> None:
        """Carry out one message from the front, and what comes meanwhile."""
        self._accept(message, fds)
        while True:
            self._look_around()
            if self._waiting:
                self._begin(self._waiting.popleft())
            elif self._delivered:
                self._end_first()
            else:
                return

    def _accept(self, message: dict[str, Any], fds: list[int]) -> None:
        """Map the memory that comes with a message; what it asks for is done now, or waits."""
        sizes = dict(message.get("bytes", []))
        for key, fd in zip(message.get("keys", []), fds):
            self._memories[key] = SlotMap(fd, sizes[key])
        if message["op"] == "forget":
            for key in message["keys"]:
                memory = self._memories.pop(key)
                self._registered.remove(memory.address)
                memory.close()
            return
        job, place = _Job(message), len(self._waiting)
        if message["op"] == "render" and not job.is_of_a_batch:
            while place and self._waiting[place - 1].is_of_a_batch:
                place -= 1
        self._waiting.insert(place, job)

    def _look_around(self) -> None:
        """Between two stages: what has come, what was cancelled, and what has been delivered."""
        for message, fds in self.link.arrived():
            self._accept(message, fds)
        for job in tuple(self._waiting):
            if self.link.is_cancelled(job.number):
                self._waiting.remove(job)
                if job.sent is not None:
                    job.sent.drop()
                self._end(job.number, "cancelled")
            elif not job.was_looked_at:
                job.was_looked_at = True
                self._send_ahead(job)
        while self._delivered and self._delivered[0].frame.is_over():
            self._end_first()

    def _send_ahead(self, job: _Job) -> None:
        """Begin with a frame that waits: its planes, and the search for its clean plate."""
        if job.message["op"] != "render" or self._is_probe(job.message):
            return
        arena = self._memories[job.message["arena"]]
        with suppress(Exception):  # its own turn meets the same error, and reports it
            self._registered.add(arena.address, arena.size_bytes)
            planes, params, key = self._given(job.message)
            job.sent = self._engine.send_ahead(
                planes, params, model=job.message["model"], clean_plate_key=key
            )

    def _begin(self, job: _Job) -> None:
        """Carry out a job; a frame is reported when its results are in its arena."""
        with self._ends_with_its_error(job.number):
            if job.message["op"] == "render" and not self._is_probe(job.message):
                self._delivered.append(self._computed(job))
            else:
                self._end(job.number, "done", report=self._carry_out(job.message))

    def _end_first(self) -> None:
        """Report the frame that was computed first, once its results are in its arena."""
        delivered = self._delivered.popleft()
        message = delivered.message
        with self._ends_with_its_error(message["job"]):
            if self.link.is_cancelled(message["job"]):
                delivered.frame.drop()
                self._check_cancelled(message["job"])
            report = delivered.frame.finished()
            if delivered.registered:  # its copies may have run later than the stage that checks it
                self._memories[message["arena"]].check_generation(message["gen"])
            self._check_cancelled(message["job"])
            self._end(message["job"], "done", report=self._frame_report(report))

    @contextmanager
    def _ends_with_its_error(self, job: int) -> Iterator[None]:
        """A job that is cancelled or fails within is reported as such."""
        try:
            yield
        except Cancelled:
            self._end(job, "cancelled")
        except MattebridgeError as error:
            self._end(job, "failed", error=protocol.error_fields(error))
        except Exception as error:
            self._failed(job, error)

    def _end(self, job: int, op: str, **fields: Any) -> None:
        """Report the end of a job, and what the device holds now."""
        self.link.send(op=op, job=job, memory=self._memory(), **fields)
        self.link.finished(job)

    def _failed(self, job: int, error: Exception) -> None:
        if is_exhausted(error):
            full = OutOfMemoryError("the machine does not have enough memory for this request")
            self._end(job, "failed", error=protocol.error_fields(full))
        else:
            self._unknown(job, error)

    def _unknown(self, job: int, error: Exception) -> None:
        reference = os.urandom(4).hex()
        log.error("ref=%s\n%s", reference, "".join(traceback.format_exception(error)))
        self._end_if_unusable(error)
        failure = InternalError(
            "something went wrong while computing this frame; the daemon's log has the details "
            f"under ref={reference}",
            ref=reference,
        )
        self._end(job, "failed", error=protocol.error_fields(failure))

    def _end_if_unusable(self, error: Exception) -> None:
        """End the process after an error that every later frame would meet again."""
        if is_unsupported(error):
            give_up(self.link, first_line(error))
        if is_lost(error):
            log.error("the device's context is lost: this worker exits")
            sys.stderr.flush()
            os._exit(LOST_CONTEXT)

    def _carry_out(self, message: dict[str, Any]) -> dict[str, Any]:
        operation = message["op"]
        if operation == "render":
            return self._probed(message)
        if operation == "colors":
            return color_page(self._engine.spaces.config, message["first"])
        if operation == "models_load":
            self._engine.load_model(message["model"])
        elif operation == "models_unload":
            self._engine.unload_model(message["model"])
        return {"models": self._models()}

    # -- a frame ----------------------------------------------------------------------------------

    def _is_probe(self, message: dict[str, Any]) -> bool:
        return self._hooks.bridge_probe and message.get("model") == PROBE_MODEL

    def _probed(self, message: dict[str, Any]) -> dict[str, Any]:
        arena = self._memories[message["arena"]]
        arena.check_generation(message["gen"])
        self._checkpoint(message, arena)("probe")
        return {**_probe_report(), "device": self._engine.device}

    def _computed(self, job: _Job) -> _Delivered:
        message = job.message
        arena = self._memories[message["arena"]]
        arena.check_generation(message["gen"])
        registered = self._registered.add(arena.address, arena.size_bytes)
        planes, params, key = self._given(message)
        frame = self._engine.start(
            planes,
            params,
            model=message["model"],
            out=_arrays(arena, message["out"]),
            frame=message["frame"],
            clean_plate_key=key,
            held_clean_plate="held_clean_plate" in message,
            keep=message.get("keep", False),
            checkpoint=self._checkpoint(message, arena),
            sent=job.sent,
        )
        return _Delivered(message, frame, registered)

    def _given(self, message: dict[str, Any]) -> tuple[dict[str, Any], RenderParams, Optional[str]]:
        """The planes of a frame as arrays, its parameters, and the key of its clean plate."""
        from mattebridge.wire.params import RenderParams

        planes = _arrays(self._memories[message["arena"]], message["in"])
        key: Optional[str] = message.get("clean_plate_key")
        if "held_clean_plate" in message:
            key = f"held-{message['held_clean_plate']}"
            held = self._memories[message["held_clean_plate"]]
            planes["clean_plate"] = held.array(Plane(**message["held_clean_plate_plane"]))
        return planes, RenderParams(**message["params"]), key

    def _checkpoint(self, message: dict[str, Any], arena: SlotMap) -> Checkpoint:
        """What the engine calls at each stage: report it, stop if the job was cancelled."""
        job, frame = message["job"], message["frame"]

        def check_cancelled() -> None:
            self._check_cancelled(job)

        def checkpoint(stage: str, done: int = 0, total: int = 0) -> None:
            self._look_around()
            check_cancelled()
            self.link.send(op="stage", job=job, stage=stage, done=done, total=total)
            self._hooks.at(stage, frame, check_cancelled, self.link.send_record)
            if stage == "inputs":
                arena.check_generation(message["gen"])

        return checkpoint

    def _check_cancelled(self, job: int) -> None:
        if self.link.is_cancelled(job):
            raise Cancelled("the frame was cancelled")

    def _frame_report(self, report: RenderReport) -> dict[str, Any]:
        return {
            "model": report.model,
            "digest": report.digest,
            "degraded": list(report.degraded),
            "notes": _readable(report.notes),
            "timings": {f"{name}_ms": value for name, value in report.timings_ms.items()},
            "device": self._engine.device,
        }

    # -- models -----------------------------------------------------------------------------------

    def _models(self) -> list[dict[str, Any]]:
        loaded = {model["name"]: model for model in self._engine.loaded_models()}
        described = self._engine.registry.describe()[:MAX_LISTED_MODELS]
        listed = [{**card, "loaded": card["name"] in loaded} for card in described]
        if len(msgpack.packb(listed, default=plain)) > MODEL_LIST_BYTES:
            # Settings make a card long; without its name a model would look unknown.
            for card in listed:
                del card["settings"]
        return listed

    def _model_names(self) -> list[str]:
        return [card["name"] for card in self._models()]

    def _memory(self) -> dict[str, Any]:
        return {
            "resident_bytes": oslayer.current().resident_bytes(),
            **self._engine.memory(),
            **self._registered.figures(),
        }


def _model_budget_bytes(device: str, workers: int) -> int:
    """What the models of one worker may hold: its share, or on a GPU at most half of that one."""
    from mattebridge.engine.device_memory import device_memory

    limit, on_device = Limits().model_bytes, device_memory(device)
    return limit // workers if on_device is None else min(limit, on_device.total_bytes // 2)


def _frame_budget_bytes(device: str, workers: int) -> int:
    """What the kept frames of one worker may hold; of a GPU's memory they take a small part."""
    from mattebridge.engine.device_memory import device_memory

    limit, on_device = Limits().frame_bytes, device_memory(device)
    return limit // workers if on_device is None else min(limit, on_device.total_bytes // 16)


def _arrays(arena: SlotMap, planes: list[dict[str, Any]]) -> dict[str, Any]:
    """The pixels of planes in an arena, by role."""
    return {plane["role"]: arena.array(Plane(**plane)) for plane in planes}


def _probe_report() -> dict[str, Any]:
    return {"model": PROBE_MODEL, "digest": "", "degraded": [], "notes": {}, "timings": {}}


def _readable(value: Any, depth: int = 1) -> Any:
    """The notes of a model, cut down to values that every client can read in a reply."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping) and depth <= MAX_NOTE_DEPTH:
        kept = list(value.items())[: protocol.MAX_ITEMS]
        return {str(key)[:MAX_NOTE_TEXT]: _readable(item, depth + 1) for key, item in kept}
    if isinstance(value, (list, tuple)) and depth <= MAX_NOTE_DEPTH:
        return [_readable(item, depth + 1) for item in value[: protocol.MAX_ITEMS]]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return one_line(str(value), MAX_NOTE_TEXT)


def color_spaces(link: Link) -> Spaces:
    """The colour spaces by name; reports which config they are of.

    A config that the environment names is loaded now, since one that cannot be loaded is an error
    of the daemon: that is reported, and the front ends this process. The built-in one can wait for
    the first request that names one of its spaces.
    """
    from mattebridge.ocio import where
    from mattebridge.ocio.space import Spaces

    spaces = Spaces()
    try:
        if where.is_named():
            _ = spaces.config
        link.send(op="configured", color=where.described())
    except ColorError as error:
        link.send(op="misconfigured", error=protocol.error_fields(error))
        while True:
            link.next()
    return spaces


def give_up(link: Link, reason: str) -> NoReturn:
    """Report that the device cannot be used, and wait for the front to end this process."""
    link.send(op="unusable", reason=reason)
    while True:
        link.next()


def main(arguments: Optional[list[str]] = None) -> int:
    """Serve one link until it ends."""
    parser = argparse.ArgumentParser(prog="mattebridge.daemon.worker")
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    oslayer.current().die_with_parent()
    if oslayer.current().has_ended(options.parent):
        return 0  # the front ended before die_with_parent took effect
    # Ctrl-C in the daemon's terminal: the front drains, and this frame is finished.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    link = Link(oslayer.current().inherited(options.link))
    reason = reason_against(options.device) if needs_check(options.device) else None
    if reason is not None:
        give_up(link, reason)
    spaces = color_spaces(link)
    worker = Worker(link, options.device, options.workers, spaces)
    worker.warm_up()
    while True:
        worker.handle(*worker.link.next())


if __name__ == "__main__":
    sys.exit(main())
