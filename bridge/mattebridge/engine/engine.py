"""One frame: planes in, alpha, foreground and premultiplied out, whatever the model.

    copy in --> align clean plate --> pad --> model --> crop, mattes --> colour out, premultiply
    inputs      align                         models/                    finish

The engine knows no sockets, arenas or files. It is given arrays, which may be memory that others
write to: it reads them once, and writes the results into arrays that it is given. One engine serves
one thread; between frames it keeps the loaded models and the last clean plates, and nothing else.
torch and cv2 are imported only when a model or an alignment needs them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Optional

import numpy as np

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.color import FloatImage, Pixels
from mattebridge.engine.align import MatchedCleanPlate, matched_clean_plate
from mattebridge.engine.clean_plates import CleanPlates
from mattebridge.engine.device_memory import device_memory, free_bytes, give_back
from mattebridge.engine.finish import Finish, with_mattes, write_map
from mattebridge.engine.inputs import PreparedInputs, copy_planes, prepare
from mattebridge.engine.less_memory import first_that_fits
from mattebridge.engine.loaded_models import LoadedModels
from mattebridge.engine.picture import Picture
from mattebridge.engine.request import FrameLimits, check_request, needed_bytes, size_text
from mattebridge.errors import InternalError, ModelError
from mattebridge.models.base import ModelCard, ModelInput, ModelOutput
from mattebridge.models.memory import memory_errors
from mattebridge.models.registry import Registry
from mattebridge.wire import oslayer
from mattebridge.wire.params import EXTRA_OUTPUTS, RenderParams

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
    ) -> None:
        """model_budget_bytes: for the models that stay loaded; None: no limit."""
        self.device = device
        self.registry = registry or Registry()
        self.limits = limits or FrameLimits(memory_bytes=memory_of_one_frame())
        self.clean_plates = CleanPlates(clean_plate_budget_bytes)
        self._models = LoadedModels(lambda: self.registry, device, model_budget_bytes)

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
        `params.output_colorspace`. clean_plate_key: see `CleanPlates.find_or_copy`.
        held_clean_plate: see `check_request`.

        `checkpoint("inputs")` is called once every plane has been read, before anything is
        concluded from it or written. Raises the errors of `check_request`, `NonFiniteError`,
        `ModelError`, `OutOfMemoryError`, and whatever the checkpoint raises.
        """
        checkpoint = checkpoint or no_checkpoint
        card = self.registry.card(model)
        settings = card.settings_schema.validate(params.settings, model=card.name)
        check_request(planes, out, card, params, self.limits, held=held_clean_plate)
        frame_text = f"a frame of {size_text(planes['plate'])} with model '{card.name}'"

        def attempt() -> RenderReport:
            with memory_errors(frame_text, "use a smaller proxy or crop"):
                return self._matted(
                    planes, params, card, settings, out, frame, clean_plate_key, checkpoint
                )

        try:
            report, steps = first_that_fits(
                attempt,
                self._room_for(card),
                needed_bytes=needed_bytes(planes["plate"], card),
                free_bytes=self._free_bytes,
            )
        finally:
            self.clean_plates.trim()
        return self._with_steps(report, steps)

    def _with_steps(self, report: RenderReport, steps: tuple[str, ...]) -> RenderReport:
        """The report of a frame that room was made for."""
        loaded = self._models.get(report.model)
        if loaded is not None and loaded.in_small_pieces:
            report = replace(report, degraded=(*report.degraded, "tiled"))
        if steps:
            report = replace(report, notes={**report.notes, "memory": list(steps)})
        return report

    def _matted(
        self,
        planes: Mapping[str, Pixels],
        params: RenderParams,
        card: ModelCard,
        settings: Mapping[str, Any],
        out: Mapping[str, Pixels],
        frame: Optional[int],
        clean_plate_key: Optional[str],
        checkpoint: Checkpoint,
    ) -> RenderReport:
        clock = _Clock()
        with clock("inputs"):
            inputs = self._take_inputs(planes, params, clean_plate_key, checkpoint)
        with clock("align"):
            matched = matched_clean_plate(inputs, params, card, checkpoint)
        with clock("load"):
            loaded = self._models.ready(card)
        with clock("inputs"):
            given = _model_input(inputs, matched, card, params, settings, frame)
            padded = _padded(given, card)
        checkpoint("model")
        with clock("model"):
            made = loaded.model.matte(padded, checkpoint)
            made = _cropped(made, given, card)
            loaded.frames += 1
        checkpoint("finish")
        with clock("finish"):
            write_s = _finish(made, inputs, matched.picture, card, params, out, checkpoint)
        clock.move(write_s, "finish", "write")
        return _report(card, inputs, matched, made, planes, clock)

    def _take_inputs(
        self,
        planes: Mapping[str, Pixels],
        params: RenderParams,
        clean_plate_key: Optional[str],
        checkpoint: Checkpoint,
    ) -> PreparedInputs:
        copies = copy_planes(planes, params, self.clean_plates, clean_plate_key)
        checkpoint("inputs")
        if copies.clean_plate is not None:
            self.clean_plates.keep(copies.clean_plate)
        return prepare(copies, params)

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
        if self._models.forget(name):  # also of a model that was removed from the registry since
            return True
        return self._models.forget(self.registry.card(name).name)

    def loaded_models(self) -> list[dict[str, Any]]:
        """The loaded models with their figures, least recently used first."""
        return self._models.figures()

    # --- memory -----------------------------------------------------------------------------------

    def memory(self) -> dict[str, Any]:
        """Bytes by model and cache, and of the GPU where it is one."""
        on_device = device_memory(self.device)
        return {
            "models": {model["name"]: model["memory_bytes"] for model in self.loaded_models()},
            "caches": {"clean_plates": self.clean_plates.size_bytes},
            **({} if on_device is None else {"gpu": asdict(on_device)}),
        }

    def _free_bytes(self) -> Optional[int]:
        return free_bytes(self.device)

    def _room_for(self, card: ModelCard) -> Iterator[str]:
        """Make room for a frame of a model, step by step (less_memory.py)."""
        self.clean_plates.clear()
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


class _Clock:
    """Milliseconds by stage; a stage that is entered again adds up."""

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


# --- the model's side -----------------------------------------------------------------------------


def _model_input(
    inputs: PreparedInputs,
    matched: MatchedCleanPlate,
    card: ModelCard,
    params: RenderParams,
    settings: Mapping[str, Any],
    frame: Optional[int],
) -> ModelInput:
    def seen(picture: Picture) -> FloatImage:
        return picture.display if card.accepts_hdr else picture.clipped

    return ModelInput(
        plate=seen(inputs.plate),
        clean_plate=None if matched.picture is None else seen(matched.picture),
        alpha_hint=inputs.mattes.get("alpha_hint") if card.takes_alpha_hint else None,
        outside=matched.outside,
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

    return replace(
        given,
        plate=grown(given.plate),
        clean_plate=grown(given.clean_plate),
        alpha_hint=grown(given.alpha_hint),
        outside=grown(given.outside),
    )


def _padded_size(image: Pixels, card: ModelCard) -> tuple[int, int]:
    height, width = image.shape[:2]
    return card.size_rule.padded(height), card.size_rule.padded(width)


def _cropped(made: ModelOutput, given: ModelInput, card: ModelCard) -> ModelOutput:
    """The output at the size of the frame.

    Raises `InternalError` for arrays of another size than the model was given, `ModelError` for
    values that are not finite.
    """
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
    return replace(made, alpha=alpha, foreground=foreground)


# --- the results ----------------------------------------------------------------------------------


def _finish(
    made: ModelOutput,
    inputs: PreparedInputs,
    clean_plate: Optional[Picture],
    card: ModelCard,
    params: RenderParams,
    out: Mapping[str, Pixels],
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
        premultiply=params.premultiply,
        keeps_highlights=card.keeps_highlights,
    )
    finish.write(out, lambda done, total: checkpoint("finish", done, total))
    _write_maps(made, card, out)
    if finish.clamped:
        inputs.notes["clamped"] = finish.clamped
    return sum(finish.write_s)


def _write_maps(made: ModelOutput, card: ModelCard, out: Mapping[str, Pixels]) -> None:
    """Write the model's maps into `out`; `ModelError` for one that it did not give."""
    padded = _padded_size(made.alpha, card)
    for role in EXTRA_OUTPUTS:
        if role not in out:
            continue
        if role not in made.extra:
            raise ModelError(
                f"model '{card.name}' gives no {role} map with these settings"
                f" - leave '{role}' out of the outputs",
                reason="output",
            )
        write_map(out[role], made.extra[role], padded, smooth=role == "error")


def _report(
    card: ModelCard,
    inputs: PreparedInputs,
    matched: MatchedCleanPlate,
    made: ModelOutput,
    planes: Mapping[str, Pixels],
    clock: _Clock,
) -> RenderReport:
    notes = inputs.notes
    if made.notes:
        notes["model"] = dict(made.notes)
    # The alignment uses a hint as well, to leave the subject out.
    if "alpha_hint" in planes and not (card.takes_alpha_hint or "alignment" in notes):
        notes["ignored"] = ["alpha_hint"]
    degraded = (*matched.degraded, *made.degraded)
    return RenderReport(card.name, card.digest, degraded, notes, clock.timings_ms)
