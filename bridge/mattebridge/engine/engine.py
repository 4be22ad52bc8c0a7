"""One frame: planes in, alpha, foreground and premultiplied out, whatever the model.

    planes --preprocess--> PreparedFrame --infer--> InferredFrame --postprocess--> planes
             read, check,                  model                   mattes, colours,
             fit the clean plate                                   premultiply

Each step is a plain function over tensors on the frame's device, for which the CPU is a device like
any other. The engine knows no sockets, arenas or files. It is given arrays, which may be memory
that others write to: it reads them once, and writes the results into arrays that it is given. One
engine serves one thread; between frames it keeps the loaded models, the last clean plates and,
where it is told to, the last frames, and nothing else. cv2 is imported only when a model or an
alignment needs it.

On a device with streams (crossing.py) frames overlap: `start` returns while the results of a frame
are still on their way, and `send_ahead` begins with the next one (ahead.py).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Optional

import torch

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.color import FloatImage, Pixels
from mattebridge.engine.ahead import Searches, SentFrame
from mattebridge.engine.clean_plates import CleanPlateKey, CleanPlates, KeptCleanPlate
from mattebridge.engine.clock import Clock
from mattebridge.engine.crossing import Crossing, DeviceTime
from mattebridge.engine.device import dtypes_of, settle_arithmetic, targets_for
from mattebridge.engine.device_memory import device_memory, free_bytes, give_back
from mattebridge.engine.infer import InferredFrame, infer
from mattebridge.engine.kept_frames import KeptFrame, KeptFrames
from mattebridge.engine.less_memory import first_that_fits
from mattebridge.engine.loaded_models import LoadedModels
from mattebridge.engine.postprocess import postprocess
from mattebridge.engine.preprocess import PreparedFrame, fitted, read_frame, with_clean_plate
from mattebridge.engine.report import RenderReport
from mattebridge.engine.request import (
    FrameLimits,
    FrameRequest,
    check_request,
    frame_text,
    needed_bytes,
)
from mattebridge.engine.started import SMALLER, Results, StartedFrame, report_of
from mattebridge.errors import MattebridgeError
from mattebridge.models.base import ModelCard
from mattebridge.models.memory import memory_errors
from mattebridge.models.registry import Registry
from mattebridge.ocio.space import Spaces
from mattebridge.wire import oslayer
from mattebridge.wire.params import RenderParams

# Clean plates kept between frames: those of a few shots at HD, or one at 8K.
CLEAN_PLATE_BUDGET_BYTES = 2**30
# The share of the machine's memory that one frame may take; the rest is for arenas and other
# programs.
MEMORY_SHARE = 0.6


class Engine:
    """Renders frames on one device with the models that it was asked to load."""

    def __init__(
        self,
        device: str = "cpu",
        *,
        registry: Optional[Registry] = None,
        limits: Optional[FrameLimits] = None,
        clean_plate_budget_bytes: int = CLEAN_PLATE_BUDGET_BYTES,
        model_budget_bytes: Optional[int] = None,
        frame_budget_bytes: int = 0,
        spaces: Optional[Spaces] = None,
    ) -> None:
        """model_budget_bytes: for the models that stay loaded; None: no limit. frame_budget_bytes:
        for the frames that are kept (kept_frames.py). spaces: by name.
        """
        self.device = device
        settle_arithmetic(torch.device(device))
        self.registry = registry or Registry()
        self.spaces = spaces or Spaces()
        self.limits = limits or FrameLimits(memory_bytes=memory_of_one_frame())
        self.clean_plates = CleanPlates(clean_plate_budget_bytes)
        self.kept_frames = KeptFrames(frame_budget_bytes)
        self._models = LoadedModels(lambda: self.registry, device, model_budget_bytes)
        self._crossing = Crossing(torch.device(device))
        # What is in hand, until it is reported.
        self._started: weakref.WeakSet[StartedFrame] = weakref.WeakSet()
        self._searches = Searches(self._crossing)

    @property
    def frames_in_flight(self) -> int:
        """How many frames are worth giving to the engine's worker at a time."""
        return self._crossing.frames

    def matte(
        self,
        planes: Mapping[str, Pixels],
        params: RenderParams,
        *,
        model: str,
        out: Mapping[str, Pixels],
        frame: Optional[int] = None,
        clean_plate_key: Optional[str] = None,
        held_clean_plate: bool = False,
        keep: bool = False,
        checkpoint: Optional[Checkpoint] = None,
    ) -> RenderReport:
        """Matte one frame into the arrays of `out`.

        planes: plate and clean_plate (H, W, 3|4), alpha_hint, garbage_matte, core_matte (H, W, 1);
        uint8, uint16, half or float32, top-down, rows may be strided; colours in
        `params.colorspace`, mattes 0..1. out: alpha (H, W, 1) linear coverage, foreground (H, W, 3)
        straight, premultiplied (H, W, 4), error, refinement (H, W, 1); half or float32; colours in
        `params.output_colorspace`, of any space that `spaces` has. clean_plate_key: see
        `CleanPlateKey.content`. held_clean_plate: see `check_request`. keep: the frame may be
        asked for again, with other parameters: it is kept within `frame_budget_bytes`, and what is
        kept is used, with the same bits; the note `reused` says what was.

        `checkpoint("inputs")` is called once every plane has been read, before anything is
        concluded from it or written. Raises the errors of `check_request`, `ColorError` for an
        unknown colour space, `NonFiniteError`, `ModelError`, `OutOfMemoryError`, and whatever the
        checkpoint raises.
        """
        return self.start(
            planes,
            params,
            model=model,
            out=out,
            frame=frame,
            clean_plate_key=clean_plate_key,
            held_clean_plate=held_clean_plate,
            keep=keep,
            checkpoint=checkpoint,
        ).finished()

    def send_ahead(
        self,
        planes: Mapping[str, Pixels],
        params: RenderParams,
        *,
        model: str,
        clean_plate_key: Optional[str] = None,
    ) -> Optional[SentFrame]:
        """Begin with a later frame (ahead.py); None where that saves nothing.

        The arguments of `start`, which is to be given the result. The clean plate itself is not
        sent: the engine may have it already.
        """
        others = {role: plane for role, plane in planes.items() if role != "clean_plate"}
        sent = self._crossing.send(others)
        if sent is None:
            return None
        try:
            request = FrameRequest(
                self.registry.card(model), params, {}, None, clean_plate_key, self.spaces
            )
            return self._searches.begin(sent, request, self._kept_clean_plate(planes, request))
        except (MattebridgeError, torch.OutOfMemoryError):  # the frame's turn meets it again
            return SentFrame(sent)

    def _kept_clean_plate(
        self, planes: Mapping[str, Pixels], request: FrameRequest
    ) -> Optional[KeptCleanPlate]:
        """The clean plate of a later frame, where it is kept under its key."""
        if request.clean_plate_key is None or "clean_plate" not in planes:
            return None
        clean_plate = planes["clean_plate"]
        key = CleanPlateKey.of(clean_plate, planes["plate"].shape[:2], request)
        return self.clean_plates.find(clean_plate, key)

    def start(
        self,
        planes: Mapping[str, Pixels],
        params: RenderParams,
        *,
        model: str,
        out: Mapping[str, Pixels],
        frame: Optional[int] = None,
        clean_plate_key: Optional[str] = None,
        held_clean_plate: bool = False,
        keep: bool = False,
        checkpoint: Optional[Checkpoint] = None,
        sent: Optional[SentFrame] = None,
    ) -> StartedFrame:
        """As `matte`, but the planes of `out` are whole only when the returned frame is finished.

        sent: what was begun for it (`send_ahead`).
        """
        checkpoint = checkpoint or no_checkpoint
        card = self.registry.card(model)
        settings = card.settings_schema.validate(params.settings, model=card.name)
        check_request(planes, out, card, params, self.limits, held=held_clean_plate)
        request = FrameRequest(card, params, settings, frame, clean_plate_key, self.spaces)
        _ = request.space, request.output_space  # unknown names end here, before any pixel is read
        text = frame_text(planes["plate"], card)

        def attempt() -> StartedFrame:
            with memory_errors(text, SMALLER):
                return self._matted(planes, request, out, checkpoint, keep, sent)

        needed = needed_bytes(planes["plate"], card)
        if self.kept_frames.make_room(needed, self._free_bytes):
            give_back(self.device)
        try:
            started, steps = first_that_fits(
                attempt, self._room_for(card), needed_bytes=needed, free_bytes=self._free_bytes
            )
        finally:
            if sent is not None:
                sent.drop()
            self.clean_plates.trim()
            self.kept_frames.trim()
        self._started.add(started)
        return started.add_notes(memory=list(steps)) if steps else started

    def _matted(
        self,
        planes: Mapping[str, Pixels],
        request: FrameRequest,
        out: Mapping[str, Pixels],
        checkpoint: Checkpoint,
        keep: bool,
        sent: Optional[SentFrame],
    ) -> StartedFrame:
        clock, device = Clock(), torch.device(self.device)
        raw, looks, search = (
            (None, None, None) if sent is None else (sent.planes, sent.looks, sent.search)
        )
        with clock("inputs"):
            known = self.kept_frames.plates(request.space) if keep else ()
            frame, clean_plate = read_frame(
                planes, request, device, self.clean_plates, checkpoint, raw, known, looks
            )
            kept = self.kept_frames.find(frame, clean_plate) if keep else None
        if kept is not None:
            return self._finished_again(kept, frame, out, checkpoint, clock)
        with clock("align"):
            matched = fitted(frame, clean_plate, checkpoint, search)
        prepared = with_clean_plate(frame, matched)
        made, model_time = self._inferred(prepared, checkpoint, clock, settles_later=not keep)
        if keep and self.kept_frames.budget_bytes:
            # What was looked at was for this frame's model.
            frame, matched = replace(frame, looked=None), replace(matched, small=None)
            kept = self.kept_frames.keep(frame, clean_plate, matched, made)
        return self._finished(kept, prepared, made, out, checkpoint, clock, model_time)

    def _inferred(
        self,
        prepared: PreparedFrame,
        checkpoint: Checkpoint,
        clock: Clock,
        *,
        settles_later: bool,
    ) -> tuple[InferredFrame, Optional[DeviceTime]]:
        """The matte, and where the device was not waited for, how long it takes for it."""
        with clock("load"):
            loaded = self._models.ready(prepared.request.card)
        model_time = self._crossing.time() if settles_later else None
        made = infer(
            loaded.model,
            prepared,
            checkpoint=checkpoint,
            clock=clock,
            settles_later=model_time is not None,
        )
        if model_time is not None:
            model_time.stop()
        loaded.frames += 1
        pieces = ("tiled",) if loaded.in_small_pieces else ()
        return made.with_degraded(*pieces), model_time

    def _finished_again(
        self,
        kept: KeptFrame,
        frame: PreparedFrame,
        out: Mapping[str, Pixels],
        checkpoint: Checkpoint,
        clock: Clock,
    ) -> StartedFrame:
        """The frame with the matte that is kept of it, or with its planes where these serve."""
        prepared = kept.prepared(frame)
        if "alignment" in kept.matched.notes:
            checkpoint("align")
        checkpoint("model")
        result = self.kept_frames.result_of(kept, prepared, dtypes_of(out))
        if result is None:
            started = self._finished(kept, prepared, kept.made, out, checkpoint, clock)
            return started.add_notes(reused="matte")
        checkpoint("finish")
        with clock("write"):
            delivery = self._crossing.deliver(result.targets, out)
        report = report_of(prepared, kept.made, result.finished, clock)
        return StartedFrame(delivery, clock, lambda _: report).add_notes(reused="result")

    def _finished(
        self,
        kept: Optional[KeptFrame],
        prepared: PreparedFrame,
        made: InferredFrame,
        out: Mapping[str, Pixels],
        checkpoint: Checkpoint,
        clock: Clock,
        model_time: Optional[DeviceTime] = None,
    ) -> StartedFrame:
        """Finish a matte into the planes, and keep these with the frame if that is kept.

        model_time: of a matte on a device that was not waited for.
        """
        checkpoint("finish")
        device, copies = torch.device(self.device), None
        with clock("finish"):
            if kept is None:
                targets = targets_for(out, device)
            else:
                targets = self.kept_frames.memory_for(kept, dtypes_of(out))
                self._crossing.let_copies_end()
                # What is kept lies in private memory, which no client can write to. In main memory
                # it is copied while it is in the processor's cache.
                copies = targets_for(out, device) if device.type == "cpu" else None
            finished = postprocess(
                made,
                prepared,
                targets,
                copies=copies,
                checkpoint=checkpoint,
                settles_later=model_time is not None,
            )
        clock.move(finished.write_s, "finish", "write")
        if kept is not None:
            self.kept_frames.keep_result(kept, prepared, targets, finished)
        results = Results(made, finished, prepared, out, self._crossing, clock, model_time)
        # Last: a frame that fails leaves no copy behind that still writes into its arena.
        with clock("write"):
            delivery = self._crossing.deliver(
                targets if copies is None else copies, out, results.looked_at
            )
        return StartedFrame(delivery, clock, partial(self._settled, results))

    def _settled(self, results: Results, arrays: Sequence[FloatImage]) -> RenderReport:
        """The report of a frame whose results are in its planes."""
        prepared = results.prepared

        def matte_again() -> InferredFrame:
            return self._inferred(prepared, no_checkpoint, results.clock, settles_later=False)[0]

        room = self._room_for(prepared.request.card)
        return results.reported(arrays, matte_again, room, self._free_bytes)

    # --- models -----------------------------------------------------------------------------------

    def load_model(self, name: str) -> dict[str, Any]:
        """Load a model unless it is loaded; its name, digest, memory and seconds of loading."""
        card = self.registry.card(name)
        loaded, _steps = first_that_fits(
            lambda: self._models.ready(card),
            self._room_for(card),
            needed_bytes=None,
            free_bytes=self._free_bytes,
        )
        return self._models.figures_of(loaded)

    def unload_model(self, name: str) -> bool:
        """Drop a model's weights; whether it was loaded. Raises `ModelError` for no such model."""
        if self._models.get(name) is None:  # else it may be one that the registry no longer has
            name = self.registry.card(name).name
        self.kept_frames.forget_model(name)
        return self._models.forget(name)

    def loaded_models(self) -> list[dict[str, Any]]:
        """The loaded models with their figures, least recently used first."""
        return self._models.figures()

    # --- memory -----------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Bytes by model and cache, and of the GPU where it is one."""
        on_device = device_memory(self.device)
        return {
            "models": self._models.bytes_by_name(),
            "caches": {
                "clean_plates": self.clean_plates.size_bytes,
                "mattes": self.kept_frames.matte_bytes,
                "results": self.kept_frames.result_bytes,
            },
            "hits": dict(self.kept_frames.hits),
            **({} if on_device is None else {"gpu": asdict(on_device)}),
        }

    def _free_bytes(self) -> Optional[int]:
        return free_bytes(self.device)

    def _room_for(self, card: ModelCard) -> Iterator[str]:
        """Make room for a frame of a model, step by step (less_memory.py)."""
        for started in tuple(self._started):
            started.settle()
        self.clean_plates.clear()
        self.kept_frames.clear()
        self._crossing.drop_sent()
        give_back(self.device)
        yield "caches freed"
        while (dropped := self._models.forget_least_used(keep=card.name)) is not None:
            give_back(self.device)
            yield f"model {dropped} dropped"
        loaded = self._models.get(card.name)
        if loaded is not None and loaded.compute_in_small_pieces():
            yield "tiled"


def memory_of_one_frame(engines: int = 1) -> Optional[int]:
    """What one frame may take while so many engines work; None where the memory is not known."""
    layer = oslayer.find()
    return None if layer is None else int(layer.total_memory_bytes() * MEMORY_SHARE / engines)
