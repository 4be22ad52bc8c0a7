"""The model's part of a frame: what it is given, its size rules, and the check of what it gives.

    PreparedFrame --> ModelInput, padded --model--> ModelOutput --> cropped, finite: InferredFrame

A model that works on tensors (`MattingModel.takes_tensors`) gets and gives them on the frame's
device; any other gets and gives arrays in main memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.color import FloatImage
from mattebridge.engine.blocks import ends_of, extremes, pairs_of
from mattebridge.engine.clock import Clock
from mattebridge.engine.device import array_from, picture_on
from mattebridge.engine.picture import Picture
from mattebridge.engine.preprocess import PreparedFrame
from mattebridge.engine.samples import is_finite
from mattebridge.errors import InternalError, ModelError
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput, Ranges
from mattebridge.models.later import Later

Size = tuple[int, int]


@dataclass(frozen=True)
class InferredFrame:
    """What a model made of a frame, on the frame's device and at its size.

    alpha: (H, W) float32 0..1. foreground: (H, W, 3) float32 straight, display-encoded. covered:
    height and width of the padded frame, which the maps of `extra`, (h, w), are of.
    foreground_range: its lowest and highest value; None where they are not known. later: gives the
    frame that holds, with the same images unless something was seen that changes them; see
    `ModelOutput`. Raises `ModelError` for values that are not finite.
    """

    alpha: Tensor
    foreground: Tensor
    foreground_range: Optional[tuple[float, float]]
    covered: Size
    extra: Mapping[str, Tensor] = field(default_factory=dict)
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    later: Optional[Later[InferredFrame]] = None

    def with_degraded(self, *labels: str) -> InferredFrame:
        """The same with more labels of what was asked for and not reached."""
        later = self.later
        if later is not None:
            looked_at, settle = later.looked_at, later.settle
            later = Later(looked_at, lambda arrays: settle(arrays).with_degraded(*labels))
        return replace(self, degraded=(*self.degraded, *labels), later=later)

    def has_images_of(self, other: InferredFrame) -> bool:
        """Whether these are the images of another one, not only the same values."""
        return self.alpha is other.alpha and self.foreground is other.foreground


def infer(
    model: MattingModel,
    prepared: PreparedFrame,
    *,
    checkpoint: Checkpoint = no_checkpoint,
    clock: Optional[Clock] = None,
    settles_later: bool = False,
) -> InferredFrame:
    """The matte of a loaded model.

    settles_later: a CUDA device need not be waited for; the caller takes `InferredFrame.later`.
    Raises `ModelError` for values that are not finite, `InternalError` for images of another size
    than the model was given, and what the model raises.
    """
    clock = clock or Clock()
    card, device = model.card, prepared.plate.pixels.device
    height, width, _ = prepared.plate.pixels.shape
    with clock("inputs"), torch.inference_mode():
        given = model_input(prepared, takes_tensors=model.takes_tensors)
    given = replace(given, settles_later=settles_later and model.takes_tensors)
    checkpoint("model")
    with clock("model"):
        # Not in inference mode: what a model prepares on first use is not of one frame.
        made = model.matte(given, checkpoint)
        with torch.inference_mode():
            return checked_output(made, card, (height, width), device, settles_later=settles_later)


def model_input(prepared: PreparedFrame, *, takes_tensors: bool) -> ModelInput:
    """What a model is given of a frame: of a size that it takes, tensors or arrays."""
    given = _padded(_model_input(prepared), prepared.request.card)
    return given if takes_tensors else _in_main_memory(given)


def _model_input(prepared: PreparedFrame) -> ModelInput:
    request, clean_plate = prepared.request, prepared.clean_plate
    card = request.card
    hint: Any = prepared.mattes.get("alpha_hint")
    outside: Any = prepared.outside

    def seen(picture: Picture) -> Any:
        return picture.display if card.accepts_hdr else picture.clipped

    return ModelInput(
        plate=seen(prepared.plate),
        clean_plate=None if clean_plate is None else seen(clean_plate),
        alpha_hint=hint if card.takes_alpha_hint else None,
        outside=outside,
        scene_linear=request.space.scene,
        settings=request.settings,
        frame=request.frame,
        exact=request.params.exact,
        unfitted=None if prepared.unfitted is None else seen(prepared.unfitted),
        of_clean_plate=prepared.of_clean_plate,
        small=prepared.small if card.takes_small_images else None,
    )


_IMAGES = ("plate", "clean_plate", "alpha_hint", "outside", "unfitted")


def _padded(given: ModelInput, card: ModelCard) -> ModelInput:
    """The input at a size that the model takes: right and bottom edges repeated."""
    size = given.plate.shape[0], given.plate.shape[1]
    wanted = _padded_size(size, card)
    if wanted == size:
        return given
    return _with_images(given, lambda image: _grown(image, wanted))


def _grown(image: Tensor, size: Size) -> Tensor:
    for axis, length in enumerate(size):
        places = torch.arange(length, device=image.device).clamp_(max=image.shape[axis] - 1)
        image = image.index_select(axis, places)
    return image


def _in_main_memory(given: ModelInput) -> ModelInput:
    return _with_images(given, array_from)


def _with_images(given: ModelInput, change: Callable[[Any], Any]) -> ModelInput:
    """The input with each of its images changed."""
    images = {name: getattr(given, name) for name in _IMAGES}
    changed = {n: change(image) for n, image in images.items() if image is not None}
    return replace(given, small=None, **changed)


def _padded_size(size: Size, card: ModelCard) -> Size:
    return card.size_rule.padded(size[0]), card.size_rule.padded(size[1])


def checked_output(
    made: ModelOutput,
    card: ModelCard,
    size: Size,
    device: torch.device,
    *,
    settles_later: bool = False,
) -> InferredFrame:
    """The output on the device and at the size of the frame; what the model does not know the range
    of is looked at in one wait, or later."""
    padded = _padded_size(size, card)
    if made.alpha.shape != padded or made.foreground.shape != (*padded, 3):
        raise InternalError(
            f"model '{card.name}' gave alpha {tuple(made.alpha.shape)} and foreground"
            f" {tuple(made.foreground.shape)} for a frame of {padded}"
        )
    height, width = size
    images = {
        "alpha": _on(made.alpha, device)[:height, :width],
        "foreground": _on(made.foreground, device)[:height, :width],
        **{name: _on(values, device) for name, values in made.extra.items()},
    }
    inferred = _inferred(made, images, padded)
    later = made.later
    if later is not None:

        def settled(arrays: Sequence[FloatImage]) -> InferredFrame:
            known = later.settle(arrays)
            if known.alpha is made.alpha and known.foreground is made.foreground:
                same = replace(inferred, degraded=known.degraded, notes=known.notes)
                return _checked(same, _with_unknown(known.ranges, images), card)
            return checked_output(known, card, size, device)

        return replace(inferred, later=Later(later.looked_at, settled))
    unknown = [name for name in images if made.ranges is None or name not in made.ranges]
    if not (settles_later and unknown):
        return _checked(inferred, _with_unknown(made.ranges, images), card)

    def checked(arrays: Sequence[FloatImage]) -> InferredFrame:
        found = dict(zip(unknown, pairs_of(arrays[0].tolist())))
        return _checked(inferred, {**(made.ranges or {}), **found}, card)

    return replace(inferred, later=Later((ends_of(*(images[name] for name in unknown)),), checked))


def _inferred(made: ModelOutput, images: Mapping[str, Tensor], padded: Size) -> InferredFrame:
    extra = dict(images)
    alpha, foreground = extra.pop("alpha"), extra.pop("foreground")
    reach = None if made.ranges is None else made.ranges.get("foreground")
    return InferredFrame(alpha, foreground, reach, padded, extra, made.degraded, made.notes)


def _with_unknown(known: Optional[Ranges], images: Mapping[str, Tensor]) -> Ranges:
    """The range of each image; those that are not known are looked at, in one wait."""
    known = known or {}
    unknown = {name: image for name, image in images.items() if name not in known}
    found = zip(unknown, extremes(*unknown.values()) if unknown else ())
    return {**known, **dict(found)}


def _checked(made: InferredFrame, ranges: Ranges, card: ModelCard) -> InferredFrame:
    """With the range of its foreground; `ModelError` where an image has values that are not finite.
    ranges: of each image."""
    for name, values in ranges.items():
        if not is_finite(values):
            raise ModelError(
                f"model '{card.name}' gave NaN or infinite values in its {name}"
                " - its weights or settings do not suit this frame",
                reason="nonfinite",
            )
    return replace(made, foreground_range=ranges["foreground"])


def _on(image: Any, device: torch.device) -> Tensor:
    """A result of a model, a tensor or an array, as float32 on the device."""
    if isinstance(image, Tensor):
        return image.to(device, torch.float32)
    return picture_on(image, device)
