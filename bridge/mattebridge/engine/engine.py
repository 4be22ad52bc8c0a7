"""One frame: planes in, alpha, foreground and premultiplied out, whatever the model.

    planes --preprocess--> PreparedFrame --infer--> InferredFrame --postprocess--> planes
             read, check,                  model                   mattes, colours,
             fit the clean plate                                   premultiply

Each step is a plain function over tensors on the frame's device, for which the CPU is a device like
any other. The engine knows no sockets, arenas or files. It is given arrays, which may be memory
that others write to: it reads them once, and writes the results into arrays that it is given. One
engine serves one thread; between frames it keeps the loaded models and the last clean plates, and
nothing else. cv2 is imported only when a model or an alignment needs it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import torch

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.color import Pixels
from mattebridge.engine.clean_plates import CleanPlates
from mattebridge.engine.clock import Clock
from mattebridge.engine.device import deliver, settle_arithmetic, targets_for
from mattebridge.engine.infer import InferredFrame, infer
from mattebridge.engine.postprocess import FinishedFrame, postprocess
from mattebridge.engine.preprocess import PreparedFrame, preprocess
from mattebridge.engine.request import FrameLimits, FrameRequest, check_request, size_text
from mattebridge.errors import ModelError
from mattebridge.models.base import MattingModel, ModelCard
from mattebridge.models.memory import memory_errors
from mattebridge.models.registry import Registry
from mattebridge.wire import oslayer
from mattebridge.wire.params import RenderParams

logger = logging.getLogger(__name__)

# Clean plates kept between frames: those of a few shots at HD, or one at 8K.
CLEAN_PLATE_BUDGET_BYTES = 2**30
# The share of the machine's memory that one frame may take; the rest is for arenas and other
# programs.
MEMORY_SHARE = 0.6


@dataclass(frozen=True)
class RenderReport:
    """What the reply reports about a frame: what was not reached, what was found, and the time."""

    model: str
    digest: str
    degraded: tuple[str, ...]
    notes: Mapping[str, Any]
    timings_ms: Mapping[str, float]


@dataclass
class _Loaded:
    model: MattingModel
    load_s: float
    frames: int = 0
    used_at: float = field(default_factory=time.monotonic)


class Engine:
    """Renders frames on one device with the models that it was asked to load."""

    def __init__(
        self,
        device: str = "cpu",
        *,
        registry: Optional[Registry] = None,
        limits: Optional[FrameLimits] = None,
        clean_plate_budget_bytes: int = CLEAN_PLATE_BUDGET_BYTES,
    ) -> None:
        self.device = device
        settle_arithmetic(torch.device(device))
        self.registry = registry or Registry()
        self.limits = limits or FrameLimits(memory_bytes=_memory_of_one_frame())
        self.clean_plates = CleanPlates(clean_plate_budget_bytes)
        self._loaded: dict[str, _Loaded] = {}

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
        checkpoint: Optional[Checkpoint] = None,
    ) -> RenderReport:
        """Matte one frame into the arrays of `out`.

        planes: plate and clean_plate (H, W, 3|4), alpha_hint, garbage_matte, core_matte (H, W, 1);
        uint8, uint16, half or float32, top-down, rows may be strided; colours in
        `params.colorspace`, mattes 0..1. out: alpha (H, W, 1) linear coverage, foreground (H, W, 3)
        straight, premultiplied (H, W, 4), error, refinement (H, W, 1); half or float32; colours in
        `params.output_colorspace`. clean_plate_key: see `CleanPlates.find_or_read`.
        held_clean_plate: see `check_request`.

        `checkpoint("inputs")` is called once every plane has been read, before anything is
        concluded from it or written. Raises the errors of `check_request`, `NonFiniteError`,
        `ModelError`, `OutOfMemoryError`, and whatever the checkpoint raises.
        """
        checkpoint = checkpoint or no_checkpoint
        card = self.registry.card(model)
        settings = card.settings_schema.validate(params.settings, model=card.name)
        check_request(planes, out, card, params, self.limits, held=held_clean_plate)
        request = FrameRequest(card, params, settings, frame, clean_plate_key)
        frame_text = f"a frame of {size_text(planes['plate'])} with model '{card.name}'"
        try:
            with memory_errors(frame_text, "use a smaller proxy or crop"):
                return self._matted(planes, request, out, checkpoint)
        finally:
            self.clean_plates.trim()

    def _matted(
        self,
        planes: Mapping[str, Pixels],
        request: FrameRequest,
        out: Mapping[str, Pixels],
        checkpoint: Checkpoint,
    ) -> RenderReport:
        clock, device = Clock(), torch.device(self.device)
        prepared = preprocess(
            planes, request, device, self.clean_plates, checkpoint=checkpoint, clock=clock
        )
        with clock("load"):
            loaded = self._ready(request.card)
        made = infer(loaded.model, prepared, checkpoint=checkpoint, clock=clock)
        loaded.frames += 1
        checkpoint("finish")
        with clock("finish"):
            targets = targets_for(out, device)
            finished = postprocess(made, prepared, targets, checkpoint=checkpoint)
        clock.move(finished.write_s, "finish", "write")
        with clock("write"):
            deliver(targets, out)
        return _report(prepared, made, finished, clock)

    # --- models -----------------------------------------------------------------------------------

    def load_model(self, name: str) -> dict[str, Any]:
        """Load a model unless it is loaded; its name, digest, memory and seconds of loading."""
        return self._figures(self._ready(self.registry.card(name)))

    def unload_model(self, name: str) -> bool:
        """Drop a model's weights; whether it was loaded. Raises `ModelError` for no such model."""
        if self._forget(name):  # also of a model that was removed from the registry since
            return True
        return self._forget(self.registry.card(name).name)

    def loaded_models(self) -> list[dict[str, Any]]:
        """The loaded models with their figures, least recently used first."""
        self._forget_removed()
        order = sorted(self._loaded.values(), key=lambda loaded: loaded.used_at)
        return [self._figures(loaded) for loaded in order]

    def _ready(self, card: ModelCard) -> _Loaded:
        """The model of a card, loaded; one of the same name but other weights is replaced."""
        self._forget_removed()
        loaded = self._loaded.get(card.name)
        if loaded is None or loaded.model.digest != card.digest:
            self._forget(card.name)
            loaded = self._loaded[card.name] = self._load(card)
        loaded.used_at = time.monotonic()
        return loaded

    def _load(self, card: ModelCard) -> _Loaded:
        start = time.perf_counter()
        with memory_errors(
            f"the weights of model '{card.name}'", "unload another or close programs"
        ):
            model = self._made_and_loaded(card)
        logger.info("loaded model=%s device=%s", card.name, self.device)
        return _Loaded(model, time.perf_counter() - start)

    def _made_and_loaded(self, card: ModelCard) -> MattingModel:
        model = self.registry.make(card.name)
        if model.digest != card.digest:
            raise ModelError(
                f"model '{card.name}' was replaced at this moment: send the frame again",
                reason="replaced",
                retry=True,
            )
        model.load(self.device)
        return model

    def _forget_removed(self) -> None:
        """Drop the weights of models that are no longer in the registry."""
        for name in [name for name in self._loaded if name not in self.registry]:
            self._forget(name)

    def _forget(self, name: str) -> bool:
        loaded = self._loaded.pop(name, None)
        if loaded is not None:
            loaded.model.unload()
        return loaded is not None

    def _figures(self, loaded: _Loaded) -> dict[str, Any]:
        return {
            "name": loaded.model.name,
            "digest": loaded.model.digest,
            "device": self.device,
            "memory_bytes": loaded.model.memory_bytes,
            "frames": loaded.frames,
            "load_s": round(loaded.load_s, 3),
            "idle_s": round(time.monotonic() - loaded.used_at, 3),
        }


def _memory_of_one_frame() -> Optional[int]:
    """What one frame may take on this machine; None where the system's memory is not known."""
    layer = oslayer.find()
    return None if layer is None else int(layer.total_memory_bytes() * MEMORY_SHARE)


def _report(
    prepared: PreparedFrame, made: InferredFrame, finished: FinishedFrame, clock: Clock
) -> RenderReport:
    card, notes = prepared.request.card, dict(prepared.notes)
    if made.notes:
        notes["model"] = dict(made.notes)
    if finished.clamped:
        notes["clamped"] = dict(finished.clamped)
    # The alignment uses a hint as well, to leave the subject out.
    if "alpha_hint" in prepared.mattes and not (card.takes_alpha_hint or "alignment" in notes):
        notes["ignored"] = ["alpha_hint"]
    degraded = (*prepared.degraded, *made.degraded)
    return RenderReport(card.name, card.digest, degraded, notes, clock.timings_ms)
