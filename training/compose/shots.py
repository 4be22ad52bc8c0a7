"""A batch of shots with their ground truth, composed from layers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.compose.blur import moved
from training.compose.camera import coded, drifted, grainy, toned, unequally_sharp
from training.compose.dice import Dice
from training.compose.front_end import exposure_matched
from training.compose.geometry import placed, two_views
from training.compose.hints import rough_hint
from training.compose.light import alike, blended, graded, lit_set, spilled

# Share of the shots that are mixed in linear light; and of these, the share in which the network is
# told so: nearly all, because the engine knows it. A network that has to guess gives a compromise
# at wide edges, where the two blends differ most.
_LINEAR, _TOLD = 0.36, 0.9
# Share of the shots whose clean plate was fitted to the plate; in the others the fit is off.
_FITTED = 0.85
# Share of plain batches: a locked-off camera, a constant exposure, grain and no codec. Many real
# shots are like that, and without them the network unlearns what the keyer does well.
_PLAIN = 0.5
# Share of the shots with motion blur of the whole subject, and its length in pixels at 512 (blur of
# parts, along curved paths, is in the layers). The share is large: a network that rarely sees wide
# edges sharpens them like all others, and takes their outer half for a shadow.
_MOVES, _PATH_PX = 0.5, (5.0, 40.0)


@dataclass(frozen=True)
class Layers:
    """Subjects (N, 4, S, S) and sets (N, 3, S, S) uint8, pair by pair; is_screen (N,) 0 or 1."""

    subject: Tensor
    background: Tensor
    is_screen: Tensor


@dataclass(frozen=True)
class Shots:
    """A batch: the network's inputs and the ground truth. All float32, (N, C, H, W).

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


@torch.no_grad()
def composed(dice: Dice, layers: Layers, size: int) -> Shots:
    """A shot of `size` x `size` from every pair of the layers."""
    plain = dice.once(_PLAIN)
    shots = _on_canvas(dice, layers, size, plain=plain)
    if not plain:
        return _filmed(dice, shots)
    plate, clean = grainy(dice, shots.plate, shots.clean_plate)
    return replace(shots, plate=plate.clamp(0, 1), clean_plate=clean.clamp(0, 1))


def _on_canvas(dice: Dice, layers: Layers, size: int, *, plain: bool) -> Shots:
    foreground, alpha = _subject(dice, layers.subject, size)
    sets = layers.background.float() / 255
    seen, clean, outside = two_views(dice, sets, size, locked=plain)
    both = graded(dice, torch.cat([seen, clean], 3))
    seen, clean = both[..., :size], both[..., size:]
    foreground, seen, clean = alike(dice, graded(dice, foreground), alpha, seen, clean)
    foreground = spilled(dice, foreground, alpha, seen, layers.is_screen)
    linear = dice.chance(_LINEAR)
    plate = blended(foreground, lit_set(dice, seen, alpha), alpha, linear)
    plate, clean, foreground = toned(dice, plate, clean, foreground)
    if not plain:
        # Before the camera's effects, which would not change the fit.
        clean = exposure_matched(plate, drifted(dice, clean).clamp(0, 1), dice.chance(_FITTED))
    hint, given = rough_hint(dice, alpha)
    told = linear * dice.chance(_TOLD)
    return Shots(plate, clean, alpha, foreground, hint, given, outside, told)


def _filmed(dice: Dice, shots: Shots) -> Shots:
    """The shots with the effects of camera and file format."""
    plate, clean = unequally_sharp(dice, shots.plate, shots.clean_plate)
    plate, clean = coded(dice, *grainy(dice, plate, clean))
    return replace(shots, plate=plate, clean_plate=clean)


def _subject(dice: Dice, subject: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Straight colour and alpha of each shot's window of the subject."""
    values = subject.float() / 255
    sheet = torch.cat([values[:, :3] * values[:, 3:], values[:, 3:]], 1)
    sheet = placed(dice, sheet, size, whole=0.6, turn=0.06)
    sheet = moved(dice, sheet, _MOVES, _PATH_PX)
    alpha = sheet[:, 3:]
    # Rounding and interpolation leave residues: alpha that is nearly 0 or 1 is set to 0 or 1.
    alpha = ((alpha - 1 / 255) * (255 / 253)).clamp(0, 1)
    return (sheet[:, :3] / sheet[:, 3:].clamp_min(1 / 512)).clamp(0, 1), alpha
