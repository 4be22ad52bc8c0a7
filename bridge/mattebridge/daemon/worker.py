"""The worker: one device, the models, and frames one after the other.

    front --link: jobs + memfds-----------------> worker --> engine --> slots
          <--link: ready, stage, done, failed, cancelled--+

It maps the arenas that the front names, computes into them, and answers. It sees no client and no
lease. It may be killed at any moment: everything that must survive lives in the front. At every
stage boundary it says where it is, which is the heartbeat that the front's watchdog listens to,
and looks whether it was asked to stop.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import math
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any, Optional

import msgpack

from mattebridge.daemon.hooks import PROBE_MODEL, Hooks
from mattebridge.daemon.link import Link, plain
from mattebridge.errors import Cancelled, InternalError, MattebridgeError, OutOfMemoryError
from mattebridge.wire import oslayer, protocol
from mattebridge.wire.planes import Plane
from mattebridge.wire.slots import SlotMap

log = logging.getLogger(__name__)

# Exit status after a CUDA error that poisons the context: the front starts a fresh process.
STICKY_ERROR = 86
WARM_UP_SIZE = 64
# What a request gives the model list to say, so that one reply always fits a message.
MAX_LISTED_MODELS = 60
MODEL_LIST_BYTES = 56_000
# Of what a model notes, this much goes into a reply.
MAX_NOTE_TEXT = 500
MAX_NOTE_DEPTH = 5


class Worker:
    """The main thread's side: one message at a time."""

    def __init__(self, link: Link, device: str) -> None:
        from mattebridge.engine.engine import Engine

        self.link = link
        self._engine = Engine(device)
        self._hooks = Hooks.from_environment()
        self._memories: dict[int, SlotMap] = {}

    def warm_up(self) -> None:
        """One small real frame of the default model, so that `ready` means ready.

        A default model that cannot run here is said by every request for it, in its own words.
        """
        started = time.monotonic()
        try:
            self._first_frame()
        except MattebridgeError as error:
            log.error("the warm-up frame failed: %s", error.message)
        except Exception as error:
            log.exception("the warm-up frame failed")
            self._end_if_sticky(error)
        self.link.say(
            op="ready",
            models=self._model_names(),
            memory=self._memory(),
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
            RenderParams.from_wire({"colorspace": "srgb"}),
            model="default",
            out={"alpha": np.empty((size, size, 1), np.float32)},
        )

    def handle(self, message: dict[str, Any], fds: list[int]) -> None:
        """Carry out one message from the front."""
        sizes = dict(message.get("bytes", []))
        for key, fd in zip(message.get("keys", []), fds):
            self._memories[key] = SlotMap(fd, sizes[key])
        if message["op"] == "forget":
            for key in message["keys"]:
                self._memories.pop(key).close()
            return
        job = message["job"]
        try:
            report = self._carry_out(message)
        except Cancelled:
            self.link.say(op="cancelled", job=job)
        except MattebridgeError as error:
            self.link.say(op="failed", job=job, error=protocol.error_fields(error))
        except MemoryError:
            full = OutOfMemoryError("the machine has no memory left for this frame")
            self.link.say(op="failed", job=job, error=protocol.error_fields(full))
        except Exception as error:
            self._unknown(job, error)
        else:
            self.link.say(op="done", job=job, report=report, memory=self._memory())
        finally:
            self.link.finished(job)

    def _unknown(self, job: int, error: Exception) -> None:
        reference = os.urandom(4).hex()
        log.error("ref=%s\n%s", reference, "".join(traceback.format_exception(error)))
        self._end_if_sticky(error)
        failure = InternalError(
            "something went wrong while computing this frame; the daemon's log has the details "
            f"under ref={reference}",
            ref=reference,
        )
        self.link.say(op="failed", job=job, error=protocol.error_fields(failure))

    def _end_if_sticky(self, error: Exception) -> None:
        if is_sticky(error):
            log.error("the CUDA context is lost: this worker ends")
            sys.stderr.flush()
            os._exit(STICKY_ERROR)

    def _carry_out(self, message: dict[str, Any]) -> dict[str, Any]:
        operation = message["op"]
        if operation == "render":
            return self._render(message)
        if operation == "models_load":
            self._engine.load_model(message["model"])
        elif operation == "models_unload":
            self._engine.unload_model(message["model"])
        return {"models": self._models()}

    # -- a frame ----------------------------------------------------------------------------------

    def _render(self, message: dict[str, Any]) -> dict[str, Any]:
        from mattebridge.wire.params import RenderParams

        arena = self._memories[message["arena"]]
        generation, frame, job = message["gen"], message["frame"], message["job"]
        arena.check_generation(generation)

        def check_cancelled() -> None:
            if self.link.is_cancelled(job):
                raise Cancelled("the frame was cancelled")

        def checkpoint(stage: str, done: int = 0, total: int = 0) -> None:
            check_cancelled()
            self.link.say(op="stage", job=job, stage=stage, done=done, total=total)
            self._hooks.at(stage, frame, check_cancelled, self.link.send)
            if stage == "inputs":
                arena.check_generation(generation)

        if self._hooks.bridge_probe and message["model"] == PROBE_MODEL:
            return _probe_report()
        planes = {item["role"]: arena.array(Plane(**item)) for item in message["in"]}
        out = {item["role"]: arena.array(Plane(**item)) for item in message["out"]}
        key: Optional[str] = message.get("clean_plate_key")
        if "plate" in message:
            key = f"held-{message['plate']}"
            held = self._memories[message["plate"]]
            planes["clean_plate"] = held.array(Plane(**message["plate_plane"]))
        report = self._engine.matte(
            planes,
            RenderParams.from_wire(message["params"]),
            model=message["model"],
            out=out,
            frame=frame,
            clean_plate_key=key,
            checkpoint=checkpoint,
        )
        check_cancelled()
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
            # Settings are what makes a card long, and a name that is left out looks unknown.
            for card in listed:
                del card["settings"]
        return listed

    def _model_names(self) -> list[str]:
        return [card["name"] for card in self._models()]

    def _memory(self) -> dict[str, Any]:
        loaded = self._engine.loaded_models()
        return {
            "resident_bytes": _resident_bytes(),
            "models": {model["name"]: model["memory_bytes"] for model in loaded},
        }


def _probe_report() -> dict[str, Any]:
    return {"model": PROBE_MODEL, "digest": "", "degraded": [], "notes": {}, "timings": {}}


def is_sticky(error: BaseException) -> bool:
    """Whether this error leaves the CUDA context unusable for every later frame."""
    words = str(error)
    about_memory = "out of memory" in words or "NOT_ENOUGH_WORKSPACE" in words
    return isinstance(error, RuntimeError) and "CUDA error" in words and not about_memory


def _readable(value: Any, depth: int = 1) -> Any:
    """What a model noted, cut down to what every client can read in a reply."""
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
    return protocol.clean_text(str(value), MAX_NOTE_TEXT)


def _resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(arguments: Optional[list[str]] = None) -> int:
    """Serve one link until it ends."""
    parser = argparse.ArgumentParser(prog="mattebridge.daemon.worker")
    parser.add_argument("--link", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--device", required=True)
    options = parser.parse_args(arguments)
    oslayer.current().die_with_parent()
    if os.getppid() != options.parent:
        return 0  # it died before we could ask to be told
    # A Ctrl-C in the daemon's terminal is the front's affair: it drains, we finish the frame.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.umask(0o077)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)
    link = socket.socket(fileno=options.link)
    link.set_inheritable(False)
    worker = Worker(Link(link), options.device)
    worker.warm_up()
    while True:
        worker.handle(*worker.link.next())


if __name__ == "__main__":
    sys.exit(main())
