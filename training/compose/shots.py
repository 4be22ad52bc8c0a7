"""A batch of shots with their ground truth, composed from layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

import torch
from torch import Tensor

from training.compose.blur import moved
from training.compose.camera import (
    coded,
    drifted,
    grade_of,
    grainy,
    regrained,
    toned,
    unequally_sharp,
)
from training.compose.dice import Dice
from training.compose.front_end import exposure_matched
from training.compose.geometry import placed, two_views
from training.compose.hints import rough_hint
from training.compose.light import (
    alike,
    blended,
    decoded,
    encode,
    graded,
    lamps,
    lit_set,
    spilled,
)

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
# Share of the plain batches whose sets have lamps, brighter than white, and of these the share of
# the shots whose subjects have highlights likewise; encoded values above this are as bright as the
# keyer can see.
_LAMPS, _HIGHLIGHTS, _BRIGHTEST = 0.35, 0.7, 4.0
# Share of the twins of plain batches whose subject moves, and by how much of the frame at most.
_TWIN_MOVES, MOST_MOVED = 0.6, 0.03


@dataclass(frozen=True)
class Layers:
    """Subjects (N, 4, S, S) and sets (N, 3, S, S) uint8, pair by pair; is_screen (N,) 0 or 1."""

    subject: Tensor
    background: Tensor
    is_screen: Tensor


@dataclass(frozen=True)
class Shots:
    """A batch: the network's inputs and the ground truth. All float32, (N, C, H, W).

    plate, clean_plate, foreground: 3 channels; the first two may be above 1. alpha, alpha_hint,
    outside: 1. hint_given and scene_linear: (N, 1, 1, 1), 0 or 1.
    """

    plate: Tensor
    clean_plate: Tensor
    alpha: Tensor
    foreground: Tensor
    alpha_hint: Tensor
    hint_given: Tensor
    outside: Tensor
    scene_linear: Tensor


@dataclass(frozen=True)
class Take:
    """The shots of a batch; the last is the twin of the one before, the next frame of the same
    shot: its plate has more grain, and its subject is `moved` by (rows, columns) pixels."""

    shots: Shots
    moved: tuple[int, int]


@dataclass(frozen=True)
class _Set:
    """What is behind the subjects: as the clean plate has it, and as the plate has it, with their
    shadows; and whether light is mixed."""

    empty: Tensor
    lit: Tensor
    linear: Tensor


@torch.no_grad()
def composed(dice: Dice, layers: Layers, size: int) -> Take:
    """A shot of `size` x `size` from every pair of the layers, and the twin of the last."""
    plain = dice.once(_PLAIN)
    shots, behind = _on_canvas(dice, layers, size, plain=plain)
    if not plain:
        return _with_twin(dice, _filmed(dice, shots))
    plate, clean = grainy(dice, shots.plate, shots.clean_plate)
    ready = replace(shots, plate=plate, clean_plate=clean)
    if behind is None or not dice.once(_TWIN_MOVES):
        return _with_twin(dice, _exposed(ready))
    move = _move(dice, size)
    moved = _next_frame(shots, behind, move)
    # The grain of the plate stays, and so does what the camera did to it.
    twin = replace(moved, plate=moved.plate + (plate - shots.plate)[-1:], clean_plate=clean[-1:])
    return _with_twin(dice, _exposed(ready), _exposed(twin), move)


def _exposed(shots: Shots) -> Shots:
    """Nothing below black, and nothing that tells no more than that it is very bright."""
    plate, clean = (p.clamp(0, _BRIGHTEST) for p in (shots.plate, shots.clean_plate))
    return replace(shots, plate=plate, clean_plate=clean)


def _with_twin(
    dice: Dice, shots: Shots, twin: Optional[Shots] = None, moved: tuple[int, int] = (0, 0)
) -> Take:
    """The shots and, last, the twin with more grain: by default the last shot itself."""
    if twin is None:
        twin = Shots(**{name: planes[-1:] for name, planes in vars(shots).items()})
    twin = replace(twin, plate=regrained(dice.sub(1), twin.plate))
    both = {name: torch.cat([p, getattr(twin, name)]) for name, p in vars(shots).items()}
    return Take(Shots(**both), moved)


def _move(dice: Dice, size: int) -> tuple[int, int]:
    """Rows and columns, even numbers of pixels: what the refiner sees as groups stays together."""
    most = max(1, round(MOST_MOVED * size / 2))
    rows, columns = (2 * int(v) for v in dice.rng.integers(-most, most + 1, 2))
    return rows, columns


def _next_frame(shots: Shots, behind: _Set, move: tuple[int, int]) -> Shots:
    """The last shot with its subject, shadows included, moved before the set; without grain."""
    last = Shots(**{name: planes[-1:] for name, planes in vars(shots).items()})
    empty, lit = behind.empty[-1:], behind.lit[-1:]
    shade = _shifted(lit / empty.clamp_min(1e-3), move)
    names = ("alpha", "foreground", "alpha_hint")
    moved = replace(last, **{name: _shifted(getattr(last, name), move) for name in names})
    plate = blended(moved.foreground, empty * shade, moved.alpha, behind.linear[-1:])
    return replace(moved, plate=plate)


def _shifted(planes: Tensor, move: tuple[int, int]) -> Tensor:
    """Planes moved by rows and columns; the edge is repeated."""
    height, width = planes.shape[2:]
    rows, columns = (
        (torch.arange(length, device=planes.device) - by).clamp(0, length - 1)
        for length, by in zip((height, width), move)
    )
    return planes[:, :, rows][:, :, :, columns]


def _on_canvas(
    dice: Dice, layers: Layers, size: int, *, plain: bool
) -> tuple[Shots, Optional[_Set]]:
    """The shots before the camera's effects, and what is behind their subjects, unless the last of
    them was graded."""
    foreground, alpha = _subject(dice, layers.subject, size)
    sets = layers.background.float() / 255
    seen, clean, outside = two_views(dice, sets, size, locked=plain)
    both = graded(dice, torch.cat([seen, clean], 3))
    seen, clean = both[..., :size], both[..., size:]
    foreground, seen, clean = alike(dice, graded(dice, foreground), alpha, seen, clean)
    foreground = spilled(dice, foreground, alpha, seen, layers.is_screen)
    bright = plain and dice.once(_LAMPS)
    linear = torch.ones_like(alpha[:, :, :1, :1]) if bright else dice.chance(_LINEAR)
    lit = lit_set(dice, seen, alpha)
    grade = torch.ones_like(linear)
    if bright:
        # Locked off, so both views are one. What is above white stays until the keyer has seen it.
        gain = lamps(dice, seen)
        lit, clean = (encode(decoded(picture) * gain) for picture in (lit, clean))
        own = 1 + dice.chance(_HIGHLIGHTS) * (lamps(dice, foreground) - 1)
        foreground = encode(decoded(foreground) * own)
        plate = blended(foreground, lit, alpha, linear)
    else:
        plate = blended(foreground, lit, alpha, linear)
        grade = grade_of(dice, plate, clean)
        plate, clean, foreground = toned(grade, plate, clean, foreground)
    behind = _Set(clean, lit, linear) if plain and float(grade[-1]) == 1 else None
    if not plain:
        # Before the camera's effects, which would not change the fit.
        clean = exposure_matched(plate, drifted(dice, clean).clamp(0, 1), dice.chance(_FITTED))
    hint, given = rough_hint(dice, alpha)
    told = linear if bright else linear * dice.chance(_TOLD)
    return Shots(plate, clean, alpha, foreground, hint, given, outside, told), behind


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
