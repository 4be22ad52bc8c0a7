"""One frame: planes in, alpha, foreground and premultiplied out, whatever the model.

    copy in --> align clean plate --> pad --> model --> crop, mattes --> colour out, premultiply
    engine_in     alignment                  models/                       engine_out

The engine knows no sockets, slots or files: it gets arrays that may be somebody else's memory,
reads them once, and writes the results into arrays it is given. One engine serves one thread; it
holds the loaded models and the last clean plates, and nothing else survives a frame. Imports torch
and cv2 only when a model or an alignment needs them.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Optional

import numpy as np

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.color import FloatImage
from mattebridge.engine.clean_plates import CleanPlates
from mattebridge.engine.finish import Finish, with_mattes, write_map
from mattebridge.engine.inputs import FrameInputs, copy_planes, prepare
from mattebridge.engine.picture import Picture, Plane
from mattebridge.engine.request import FrameLimits, check_request
from mattebridge.errors import InternalError, ModelError, OutOfMemoryError
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.registry import Registry
from mattebridge.wire.params import RenderParams

logger = logging.getLogger(__name__)

# Clean plates kept between frames: a few shots at HD, one at 8K.
CLEAN_PLATE_BUDGET_BYTES = 2**30
# Of the machine's memory, what one frame may take: the rest is the slots' and everybody else's.
MEMORY_SHARE = 0.6


@dataclass(frozen=True)
class RenderReport:
    """What the reply says of a frame: what was less than asked, what was found, and the time."""

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
    """Renders frames on one device with the models it was asked to load."""

    def __init__(
        self,
        device: str = "cpu",
        *,
        registry: Optional[Registry] = None,
        limits: Optional[FrameLimits] = None,
        clean_plate_budget_bytes: int = CLEAN_PLATE_BUDGET_BYTES,
    ) -> None:
        self.device = device
        self.registry = registry or Registry()
        self.limits = limits or FrameLimits(memory_bytes=machine_memory_bytes())
        self.clean_plates = CleanPlates(clean_plate_budget_bytes)
        self._loaded: dict[str, _Loaded] = {}

    def matte(
        self,
        planes: Mapping[str, Plane],
        params: RenderParams,
        *,
        model: str,
        out: Mapping[str, Plane],
        frame: Optional[int] = None,
        clean_plate_key: Optional[str] = None,
        checkpoint: Optional[Checkpoint] = None,
    ) -> RenderReport:
        """Matte one frame into the arrays of `out`.

        planes: plate and clean_plate (H, W, 3|4), alpha_hint, garbage_matte, core_matte (H, W, 1);
        uint8, uint16, half or float32, top-down, rows may be strided; colours in
        `params.colorspace`, mattes 0..1. out: alpha (H, W, 1) linear coverage, foreground (H, W, 3)
        straight, premultiplied (H, W, 4), error, refinement (H, W, 1); half or float32; colours in
        `params.output_colorspace`.

        `checkpoint("inputs")` is called once every plane has been read, before anything is
        concluded from it or written. Raises the errors of `check_request`, `NonFiniteError`,
        `ModelError`, `OutOfMemoryError`, and whatever the checkpoint raises.
        """
        checkpoint = checkpoint or no_checkpoint
        clock = _Clock()
        card = self.registry.card(model)
        settings = card.settings_schema.validate(params.settings, model=card.name)
        check_request(planes, out, card, params, self.limits)
        try:
            with clock("inputs"):
                inputs = self._take_inputs(planes, params, clean_plate_key, checkpoint)
            notes = inputs.notes
            with clock("align"):
                clean_plate, outside, degraded = self._matched(inputs, params, card, checkpoint)
            with clock("load"):
                loaded = self._ready(card)
            with clock("inputs"):
                given = _model_input(inputs, clean_plate, outside, card, params, settings, frame)
                padded = _padded(given, card)
            checkpoint("model")
            with clock("model"):
                made = loaded.model.matte(padded, checkpoint)
                made = _checked(made, given, card)
                loaded.frames += 1
            checkpoint("finish")
            with clock("finish"):
                write_s = _write(made, inputs, clean_plate, card, params, out, checkpoint)
            clock.move(write_s, "finish", "write")
        except MemoryError as error:
            raise OutOfMemoryError(
                f"the machine has not the memory for a frame of {_size(planes)} with model"
                f" '{card.name}' - use a smaller proxy or crop"
            ) from error
        finally:
            self.clean_plates.trim()
        if made.notes:
            notes["model"] = dict(made.notes)
        _note_ignored(notes, planes, card)
        return RenderReport(
            card.name, card.digest, (*degraded, *made.degraded), notes, clock.timings_ms
        )

    # --- models -----------------------------------------------------------------------------------

    def load_model(self, name: str) -> dict[str, Any]:
        """Load a model if it is not; its name, digest, memory and the seconds loading took."""
        return self._figures(self._ready(self.registry.card(name)))

    def unload_model(self, name: str) -> bool:
        """Drop a model's weights; whether it was loaded. Raises `ModelError` for no such model."""
        if self._forget(name):  # also of a model that was removed from the registry since
            return True
        return self._forget(self.registry.card(name).name)

    def unload_all(self) -> None:
        """Drop all models and clean plates."""
        while self._loaded:
            self._loaded.popitem()[1].model.unload()
        self.clean_plates.clear()

    def loaded_models(self) -> list[dict[str, Any]]:
        """The loaded models with their figures, least recently used first."""
        self._forget_removed()
        order = sorted(self._loaded.values(), key=lambda loaded: loaded.used_at)
        return [self._figures(loaded) for loaded in order]

    def _forget(self, name: str) -> bool:
        loaded = self._loaded.pop(name, None)
        if loaded is not None:
            loaded.model.unload()
        return loaded is not None

    def _forget_removed(self) -> None:
        """Models that the user took away leave no weights behind."""
        for name in [name for name in self._loaded if name not in self.registry]:
            self._forget(name)

    def _ready(self, card: ModelCard) -> _Loaded:
        """The model of a card, loaded; one of the same name but other weights is replaced."""
        self._forget_removed()
        loaded = self._loaded.get(card.name)
        if loaded is None or loaded.model.digest != card.digest:
            self._forget(card.name)
            start = time.perf_counter()
            model = self.registry.make(card.name)
            if model.digest != card.digest:
                raise ModelError(
                    f"model '{card.name}' was replaced at this moment: send the frame again",
                    reason="replaced",
                    retry=True,
                )
            model.load(self.device)
            loaded = _Loaded(model, time.perf_counter() - start)
            self._loaded[card.name] = loaded
            logger.info("loaded model=%s device=%s", card.name, self.device)
        loaded.used_at = time.monotonic()
        return loaded

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

    # --- one frame --------------------------------------------------------------------------------

    def _take_inputs(
        self,
        planes: Mapping[str, Plane],
        params: RenderParams,
        clean_plate_key: Optional[str],
        checkpoint: Checkpoint,
    ) -> FrameInputs:
        copies = copy_planes(planes, params, self.clean_plates, clean_plate_key)
        checkpoint("inputs")
        if copies.clean_plate is not None:
            self.clean_plates.keep(copies.clean_plate)
        return prepare(copies, params)

    def _matched(
        self,
        inputs: FrameInputs,
        params: RenderParams,
        card: ModelCard,
        checkpoint: Checkpoint,
    ) -> tuple[Optional[Picture], Any, tuple[str, ...]]:
        """The clean plate as the model sees it, what it does not cover, and what went wrong."""
        held = inputs.clean_plate
        if held is None or held.picture is None:
            return None, None, ()
        alignment, exposure = alignment_for(params, card), matches_exposure_for(params, card)
        if alignment == "off" and not exposure:
            return held.picture, None, ()
        from mattebridge.clean_plate.match import CleanSide, match_clean_plate

        checkpoint("align")
        # Each frame is aligned by itself: equal inputs give equal pixels whatever was rendered
        # before. Only what the clean plate alone decides is kept.
        held.side = held.side or CleanSide(held.picture.display)
        match = match_clean_plate(
            inputs.plate.display,
            held.picture.display,
            alignment=alignment,  # type: ignore[arg-type]
            match_exposure=exposure,
            subject=inputs.subject,
            clean_side=held.side,
            checkpoint=checkpoint,
        )
        inputs.notes["alignment"] = _match_notes(match)
        return held.matched_picture(match.clean_plate), match.outside, match.degraded


def alignment_for(params: RenderParams, card: ModelCard) -> str:
    """How the clean plate is aligned: as asked for, else as the model wants."""
    return params.alignment or card.default_alignment


def matches_exposure_for(params: RenderParams, card: ModelCard) -> bool:
    """Whether exposure is fitted: as asked for, else wherever alignment is `auto`."""
    if params.match_exposure is None:
        return alignment_for(params, card) == "auto"
    return params.match_exposure


def machine_memory_bytes() -> Optional[int]:
    """What one frame may take on this machine; None where the system does not say."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    return int(total * MEMORY_SHARE) if total > 0 else None


class _Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.timings_ms: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = (time.perf_counter() - start) * 1e3
        self.timings_ms[stage] = round(self.timings_ms.get(stage, 0.0) + spent, 3)

    def move(self, seconds: float, source: str, target: str) -> None:
        """Count a part of one stage as a stage of its own."""
        self.timings_ms[target] = round(seconds * 1e3, 3)
        self.timings_ms[source] = round(self.timings_ms[source] - self.timings_ms[target], 3)


def _model_input(
    inputs: FrameInputs,
    clean_plate: Optional[Picture],
    outside: Any,
    card: ModelCard,
    params: RenderParams,
    settings: Mapping[str, Any],
    frame: Optional[int],
) -> ModelInput:
    def seen(picture: Picture) -> FloatImage:
        return picture.display if card.accepts_hdr else picture.clipped

    uses_hint = card.uses_alpha_hint or card.needs_alpha_hint
    return ModelInput(
        plate=seen(inputs.plate),
        clean_plate=None if clean_plate is None else seen(clean_plate),
        alpha_hint=inputs.mattes.get("alpha_hint") if uses_hint else None,
        outside=outside,
        scene_linear=params.colorspace == "linear",
        settings=settings,
        frame=frame,
        exact=params.exact,
    )


def _padded(given: ModelInput, card: ModelCard) -> ModelInput:
    """The input at a size that the model takes: right and bottom edges repeated."""
    height, width = given.plate.shape[:2]
    bottom, right = np.subtract(_padded_size(given.plate, card), (height, width))
    if not bottom and not right:
        return given

    def grown(values: Any) -> Any:
        if values is None:
            return None
        pads = ((0, bottom), (0, right), (0, 0))[: values.ndim]
        return np.pad(values, pads, mode="edge")

    return ModelInput(
        plate=grown(given.plate),
        clean_plate=grown(given.clean_plate),
        alpha_hint=grown(given.alpha_hint),
        outside=grown(given.outside),
        scene_linear=given.scene_linear,
        settings=given.settings,
        frame=given.frame,
        exact=given.exact,
    )


def _padded_size(image: Plane, card: ModelCard) -> tuple[int, int]:
    height, width = image.shape[:2]
    return card.size_rule.padded(height), card.size_rule.padded(width)


def _checked(made: ModelOutput, given: ModelInput, card: ModelCard) -> ModelOutput:
    """The output cropped to the frame; a model that gives no picture is an error, not a hole."""
    height, width = given.plate.shape[:2]
    padded = _padded_size(given.plate, card)
    if made.alpha.shape != padded or made.foreground.shape != (*padded, 3):
        raise InternalError(
            f"model '{card.name}' gave alpha {made.alpha.shape} and foreground"
            f" {made.foreground.shape} for a frame of {padded}"
        )
    alpha, foreground = made.alpha[:height, :width], made.foreground[:height, :width]
    for name, values in (("alpha", alpha), ("foreground", foreground), *made.extra.items()):
        if not np.isfinite(values).all():
            raise ModelError(
                f"model '{card.name}' gave NaN or infinite values in its {name}"
                " - its weights or settings do not suit this frame",
                reason="nonfinite",
            )
    return ModelOutput(alpha, foreground, made.extra, made.degraded, made.notes)


def _write(
    made: ModelOutput,
    inputs: FrameInputs,
    clean_plate: Optional[Picture],
    card: ModelCard,
    params: RenderParams,
    out: Mapping[str, Plane],
    checkpoint: Checkpoint,
) -> float:
    """Finish the frame into `out`; the seconds spent on writing alone."""
    mattes = inputs.mattes
    core_matte = mattes.get("core_matte")
    finish = Finish(
        alpha=with_mattes(made.alpha, mattes.get("garbage_matte"), core_matte),
        foreground=made.foreground,
        plate=inputs.plate,
        clean_plate=clean_plate,
        core_matte=core_matte,
        source=params.foreground,
        colorspace=params.output_colorspace or params.colorspace,
        keeps_highlights=card.accepts_hdr,
    )
    finish.write(out, lambda done, total: checkpoint("finish", done, total))
    padded = _padded_size(made.alpha, card)
    for role in ("error", "refinement"):
        if role in out:
            if role not in made.extra:
                raise ModelError(
                    f"model '{card.name}' gives no {role} map with these settings"
                    f" - leave '{role}' out of the outputs",
                    reason="output",
                )
            write_map(out[role], made.extra[role], padded, smooth=role == "error")
    if finish.clamped:
        inputs.notes["clamped"] = finish.clamped
    return sum(finish.write_s)


def _match_notes(match: Any) -> dict[str, Any]:
    """What alignment and exposure fit found, in plain values."""
    homography = match.homography
    return {
        **match.report,
        "homography": None if homography is None else [float(v) for v in homography.ravel()],
        "gain": [float(v) for v in match.gain],
        "offset": [float(v) for v in match.offset],
    }


def _note_ignored(notes: dict[str, Any], planes: Mapping[str, Plane], card: ModelCard) -> None:
    """Name the planes that had no influence; the alignment uses a hint to leave the subject out."""
    used = card.uses_alpha_hint or card.needs_alpha_hint or "alignment" in notes
    if "alpha_hint" in planes and not used:
        notes["ignored"] = ["alpha_hint"]


def _size(planes: Mapping[str, Plane]) -> str:
    height, width = planes["plate"].shape[:2]
    return f"{width}x{height}"
