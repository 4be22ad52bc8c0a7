"""One batch of shots with their truth, from seed and step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn import functional

from training.compose.camera import coded, drifted, grainy, toned, unequally_sharp
from training.compose.dice import Dice
from training.compose.front_end import exposure_matched
from training.compose.geometry import placed, two_views
from training.compose.hints import rough_hint
from training.compose.light import alike, blended, graded, lit_set, spilled
from training.pool import LayerPool

# Of all shots, those mixed in linear light; of these, those of which the network is told so.
_LINEAR, _TOLD = 0.38, 0.5
# Shots whose clean plate was fitted to the plate; the others came with the front end off.
_FITTED = 0.85


@dataclass(frozen=True)
class Shots:
    """A batch: what the network gets, and what it should give. All float32, (N, C, H, W).

    plate, clean_plate, foreground: 3 channels. alpha, alpha_hint, outside: 1. hint_given and
    scene_linear: (N, 1, 1, 1), 0 or 1.
    """

    plate: Tensor
    clean_plate: Tensor
    alpha: Tensor
    foreground: Tensor
    alpha_hint: Tensor
    hint_given: Tensor
    outside: Tensor
    scene_linear: Tensor

    def cropped(self, top: int, left: int, size: int) -> Shots:
        """A square of every shot; what is the same for all pixels stays."""
        return self._each(lambda p: p[:, :, top : top + size, left : left + size])

    def resized(self, size: int) -> Shots:
        """All of every shot at another size; the foreground weighted with its alpha."""

        def smaller(picture: Tensor) -> Tensor:
            return functional.interpolate(
                picture, size=(size, size), mode="bilinear", align_corners=False, antialias=True
            )

        weight = self.alpha + 1e-3
        foreground = smaller(self.foreground * weight) / smaller(weight)
        made = self._each(smaller)
        values = {field.name: getattr(made, field.name) for field in fields(made)}
        return Shots(**{**values, "foreground": foreground.clamp(0, 1)})

    def _each(self, change: object) -> Shots:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Shots(
            **{
                name: value if value.shape[-1] == 1 else change(value)  # type: ignore[operator]
                for name, value in values.items()
            }
        )


@torch.no_grad()
def composed(pool: LayerPool, seed: int, step: int, *, count: int, canvas: int, crop: int) -> Shots:
    """The batch of a step: `count` shots of `crop` pixels from canvases of `canvas`."""
    dice = Dice(seed, step, count, pool.device)
    shots = _on_canvas(dice, pool, canvas)
    # Half of the batches see the detail of a part, the others the whole, smaller.
    if dice.once(0.5):
        shots = shots.resized(crop) if crop < canvas else shots
    else:
        top, left = (int(v) for v in dice.rng.integers(0, canvas - crop + 1, 2))
        shots = shots.cropped(top, left, crop)
    return _filmed(dice, shots)


def _on_canvas(dice: Dice, pool: LayerPool, size: int) -> Shots:
    layers = pool.choose(dice.rng, dice.count)
    foreground, alpha = _subject(dice, layers.subject, size)
    seen, clean, outside = two_views(dice, layers.background.float() / 255, size)
    both = graded(dice, torch.cat([seen, clean], 3))
    seen, clean = both[..., :size], both[..., size:]
    foreground, seen, clean = alike(dice, graded(dice, foreground), alpha, seen, clean)
    foreground = spilled(dice, foreground, alpha, seen, layers.is_screen)
    linear = dice.chance(_LINEAR)
    plate = blended(foreground, lit_set(dice, seen, alpha), alpha, linear)
    plate, clean, foreground = toned(dice, plate, clean, foreground)
    # Fitted on the whole canvas, as the engine fits whole frames; grain would not change the fit.
    clean = exposure_matched(plate, drifted(dice, clean).clamp(0, 1), dice.chance(_FITTED))
    hint, given = rough_hint(dice, alpha)
    told = linear * dice.chance(_TOLD)
    return Shots(plate, clean, alpha, foreground, hint, given, outside, told)


def _filmed(dice: Dice, shots: Shots) -> Shots:
    """The same with what the camera and the file add, at the final size."""
    plate, clean = unequally_sharp(dice, shots.plate, shots.clean_plate)
    plate, clean = coded(dice, *grainy(dice, plate, clean))
    return replace(shots, plate=plate, clean_plate=clean)


def _subject(dice: Dice, subject: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Straight colour and alpha of the window that each shot sees."""
    values = subject.float() / 255
    sheet = torch.cat([values[:, :3] * values[:, 3:], values[:, 3:]], 1)
    sheet = placed(dice, sheet, size, whole=0.6, turn=0.06)
    alpha = sheet[:, 3:]
    # Bytes and interpolation leave crumbs: what is nearly 0 or 1 is 0 or 1.
    alpha = ((alpha - 1 / 255) * (255 / 253)).clamp(0, 1)
    return (sheet[:, :3] / sheet[:, 3:].clamp_min(1 / 512)).clamp(0, 1), alpha
