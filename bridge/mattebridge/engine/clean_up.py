"""The clean-up behind a model: hint sharpen, source passthrough, despeckle, despill.

    alpha --hint sharpen--+-------------------despeckle--> alpha
                          '--> inside, eroded and soft --> plate into the foreground --> despill

Rule: the order is fixed, on every device. Masks need the whole frame (`clean_alpha`, once a frame,
before the blocks of rows of `postprocess`); colours are pointwise (`passed_through`, `despilled`).
What is off costs nothing and changes no bit. All colours here are display-encoded and straight,
without an upper limit: highlights of the plate come through.

The artist's core and garbage matte are applied behind all of this, so that they decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch import Tensor

from mattebridge.engine.mask import connected_to, dilated, eroded, islands, softened
from mattebridge.models.pytorch.double import double_of
from mattebridge.wire.params import RenderParams

HINT_LEVEL = 0.5
INSIDE_LEVEL = 0.95
# Soft alpha above this joins what it touches: below it lies the noise of an empty screen.
CONNECTED_LEVEL = 0.02
SCREENS = ("green", "blue")


@dataclass(frozen=True)
class CleanAlpha:
    """alpha: (H, W) float32 0..1. inside: (H, W) 0..1, where the plate is the foreground, or None.
    notes: how much alpha was removed, in pixels, and in how many islands."""

    alpha: Tensor
    inside: Optional[Tensor] = None
    notes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Despill:
    """How spill is taken out of colours."""

    strength: float
    method: str
    screen: str


def clean_alpha(alpha: Tensor, hint: Optional[Tensor], params: RenderParams) -> CleanAlpha:
    """Alpha, (H, W), behind hint sharpen and despeckle, and the inside for the passthrough.

    hint: (H, W) float32 0..1, needed for `hint_sharpen`.
    """
    notes: dict[str, Any] = {}
    inside = None
    if params.hint_sharpen:
        assert hint is not None
        alpha = _kept(alpha, _near_hint(hint, params), "hint_sharpen_removed", notes)
    if params.source_passthrough:
        inside = softened(eroded(alpha > INSIDE_LEVEL, params.edge_erode_px), params.edge_blur_px)
    if params.auto_despeckle and params.despeckle_size > 0:
        near, notes["despeckle_islands"] = _near_islands(alpha, params)
        alpha = _kept(alpha, near, "despeckle_removed", notes)
    return CleanAlpha(alpha, inside, notes)


def _near_hint(hint: Tensor, params: RenderParams) -> Tensor:
    wide = dilated(hint >= HINT_LEVEL, params.hint_sharpen_dilation)
    return softened(wide, params.hint_blur_px)


def _near_islands(alpha: Tensor, params: RenderParams) -> tuple[Tensor, int]:
    """What despeckle keeps, 0..1, and how many islands it does not."""
    cores, fewer = islands(alpha > params.despeckle_threshold, params.despeckle_size)
    near = softened(dilated(cores, params.despeckle_dilation), params.despeckle_blur)
    if params.despeckle_hysteresis:
        low = min(CONNECTED_LEVEL, params.despeckle_threshold)
        near.masked_fill_(connected_to(alpha > low, cores), 1.0)
    return near, fewer


def _kept(alpha: Tensor, mask: Tensor, name: str, notes: dict[str, Any]) -> Tensor:
    """Alpha times a mask; the note says how much alpha is gone, in pixels to one decimal."""
    result = alpha * mask
    gone = (alpha - result).sum(dtype=double_of(alpha.device)).item()
    notes[name] = round(gone, 1)
    return result


def passed_through(colour: Tensor, plate: Tensor, inside: Tensor) -> Tensor:
    """The colours with the plate's inside the subject; inside: (H, W, 1)."""
    mixed = colour + inside * (plate - colour)
    return torch.where(inside < 1, mixed, plate)


def despill_of(
    params: RenderParams, settings: Mapping[str, Any], notes: Mapping[str, Any]
) -> Optional[Despill]:
    """What the parameters ask for; None where nothing is to be done.

    The screen is that of the parameters, else what the model was told (its settings) or found (its
    notes), else green.
    """
    if params.despill_strength == 0:
        return None
    named = (params.screen, settings.get("screen"), notes.get("screen"), SCREENS[0])
    screen = next(name for name in named if name in SCREENS)
    return Despill(params.despill_strength, params.spill_method, screen)


def despilled(colour: Tensor, despill: Despill) -> Tensor:
    """Colours (H, W, 3), without the screen's light, in new memory; no value is clamped.

    Where the screen's channel is not above its limit, the colour stays what it was to the bit.
    """
    screen, first, second = (1, 0, 2) if despill.screen == "green" else (2, 0, 1)
    one, other = colour[..., first], colour[..., second]
    # Few steps: each of them goes through colours whose channels lie between others.
    if despill.method == "double_limit":
        spill = colour[..., screen] - torch.maximum(one, other)
    else:
        spill = torch.sub(colour[..., screen], one + other, alpha=0.5)
    spill = spill.clamp_(min=0).mul_(despill.strength)
    result = torch.empty_like(colour)
    torch.sub(colour[..., screen], spill, out=result[..., screen])
    for channel in (first, second):
        if despill.method == "screen_only":
            result[..., channel].copy_(colour[..., channel])
        else:
            torch.add(colour[..., channel], spill, alpha=0.5, out=result[..., channel])
    return result
