"""One batch of shots with their truth, from seed and step."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from training.compose.camera import coded, drifted, grainy, shrunk, toned, unequally_sharp
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
        planes = [getattr(self, field.name) for field in fields(self)]
        return Shots(
            *(
                plane if plane.shape[-1] == 1 else plane[..., top : top + size, left : left + size]
                for plane in planes
            )
        )


@torch.no_grad()
def composed(pool: LayerPool, seed: int, step: int, *, count: int, canvas: int, crop: int) -> Shots:
    """The batch of a step: `count` shots of `crop` pixels from canvases of `canvas`.

    Where the crop is smaller, half of the batches see the whole, smaller; the others see two parts
    each of half as many canvases, which are the dear part.
    """
    dice = Dice(seed, step, count, pool.device)
    if crop == canvas or dice.once(0.5):
        return _filmed(dice, _on_canvas(dice, pool, crop, shrink=max(1, round(canvas / crop))))
    shots = _on_canvas(dice.sub(-(-count // 2)), pool, canvas)
    places = dice.rng.integers(0, canvas - crop + 1, (2, 2)).tolist()
    parts = [shots.cropped(top, left, crop) for top, left in places]
    return _filmed(dice, joined(parts, count))


def joined(parts: list[Shots], count: int) -> Shots:
    """The first `count` shots of several batches."""
    names = [field.name for field in fields(Shots)]
    return Shots(*(torch.cat([getattr(part, name) for part in parts])[:count] for name in names))


def _on_canvas(dice: Dice, pool: LayerPool, size: int, *, shrink: int = 1) -> Shots:
    layers = pool.choose(dice.rng, dice.count)
    foreground, alpha = _subject(dice, layers.subject, size, shrink)
    sets = shrunk(layers.background.float() / 255, shrink)
    seen, clean, outside = two_views(dice, sets, size)
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


def _subject(dice: Dice, subject: Tensor, size: int, shrink: int) -> tuple[Tensor, Tensor]:
    """Straight colour and alpha of the window that each shot sees."""
    values = subject.float() / 255
    sheet = shrunk(torch.cat([values[:, :3] * values[:, 3:], values[:, 3:]], 1), shrink)
    sheet = placed(dice, sheet, size, whole=0.6, turn=0.06)
    alpha = sheet[:, 3:]
    # Bytes and interpolation leave crumbs: what is nearly 0 or 1 is 0 or 1.
    alpha = ((alpha - 1 / 255) * (255 / 253)).clamp(0, 1)
    return (sheet[:, :3] / sheet[:, 3:].clamp_min(1 / 512)).clamp(0, 1), alpha
