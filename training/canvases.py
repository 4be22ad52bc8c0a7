"""Canvases: whole composed shots with the classical keyer's matte of each, stored as bytes.

    a few layer pairs --> shots, paired at random --> `difference` on each --> 17 planes
                          the last of each batch twice, as two frames of it

The network corrects the keyer's matte. The keyer needs the whole frame (on a crop its result would
differ), so it runs here, and the pool cuts crops later. Canvases come in groups that share their
layers, because drawing layers takes as long as composing and keying.

Twins are two canvases of one shot, like two frames of it: the second has more grain on its plate,
and in some its subject has moved. Their mattes should be equal, where the subject is.

A group may be large: its shots are composed and keyed at twice the size, as frames of 2K and more
are, and the part of each with the most edges is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.keyer import DifferenceModel
from mattebridge.models.difference.small import Small
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.start import Seen, seen_by_network
from training.compose.dice import Dice
from training.compose.shots import Layers, Shots, composed
from training.layers import SIDE, draw_pair

CANVAS = 512
# Layer pairs of a group, shots of a batch, and batches of a group: several, because all shots of a
# batch go through the same codec.
_PAIRS, _BATCH, _BATCHES = 4, 4, 3
# The canvases of a group: the shots of each batch, then the twin of the last of them.
GROUP = (_BATCH + 1) * _BATCHES
TWINS = tuple((last - 1, last) for last in range(_BATCH, GROUP, _BATCH + 1))
# The planes of a canvas in order, with their numbers of channels; and its flags.
PLANES = {
    "plate": 3,
    "clean_plate": 3,
    "alpha": 1,
    "foreground": 3,
    "alpha_hint": 1,
    "outside": 1,
    "keyed_alpha": 1,
    "keyed_foreground": 3,
    "wide_alpha": 1,
}
CHANNELS = sum(PLANES.values())
FLAGS = ("hint_given", "scene_linear")
# How much larger the frames of a large group are, and the grid that parts of them are cut on.
_LARGER, _GRID = 2, 16


@dataclass(frozen=True)
class KeyedShots(Shots):
    """Shots as the network is given them, with the keyer's matte: alpha (N, 1, H, W), straight
    foreground (N, 3, H, W), and its alpha with a wider band (N, 1, H, W)."""

    keyed_alpha: Tensor
    keyed_foreground: Tensor
    wide_alpha: Tensor


@dataclass(frozen=True)
class Drawing:
    """How canvases are drawn. size: side in pixels. wide: their `keyed_foreground` is that of the
    wider band, as networks that take it have it. large: share of large groups."""

    size: int = CANVAS
    wide: bool = False
    large: float = 0.0


USUAL = Drawing()


@dataclass(frozen=True)
class Group:
    """planes: (GROUP, CHANNELS, S, S) uint8, as `PLANES` has them. flags: (GROUP, 2) uint8. moved:
    (GROUP, 2) int8, rows and columns by which the subject of a twin has moved."""

    planes: NDArray[np.uint8]
    flags: NDArray[np.uint8]
    moved: NDArray[np.int8] = field(default_factory=lambda: np.zeros((GROUP, 2), np.int8))


def draw_group(seed: int, number: int, drawing: Drawing = USUAL) -> Group:
    """The `number`-th group of a seed; the same arguments give the same bytes in any process."""
    large = np.random.default_rng([seed, number, 97]).random() < drawing.large
    size = drawing.size * (_LARGER if large else 1)
    moved = np.zeros((GROUP, 2), np.int8)
    parts = []
    with _one_thread():
        layers = _layers(seed, number, size)
        for part in range(_BATCHES):
            dice = Dice(seed, number * _BATCHES + part, _BATCH, "cpu")
            take = composed(dice, _chosen(dice, layers), size)
            shots = with_keyer(take.shots, wide=drawing.wide)
            parts.append(_packed(_busiest(shots, drawing.size)))
            moved[TWINS[part][1]] = take.moved
    planes, flags = zip(*parts)
    return Group(np.concatenate(planes), np.concatenate(flags), moved)


def with_keyer(shots: Shots, *, wide: bool = False) -> KeyedShots:
    """The shots (whole, on the CPU) as the network is given them in production, each with the
    keyer's matte; wide: with the alpha and the colour of the wider band, else that of the usual one
    in their place.

    In soft edges above white, which the network is shown dimmed (`dimmed`), its colour is to be the
    one that it is shown, the keyer's; alpha is the true one everywhere.
    """
    seen = [_seen(shots, shot, wide=wide) for shot in range(len(shots.plate))]
    planes = {name: torch.cat([one[name] for one in seen]) for name in PLANES}
    return KeyedShots(**planes, **{name: getattr(shots, name) for name in FLAGS})


def _busiest(shots: KeyedShots, size: int) -> KeyedShots:
    """The part of each shot, of that side, with the most of its edges; of twins the same part."""
    side = shots.alpha.shape[-1]
    if side == size:
        return shots
    edges = ((shots.alpha > 0.02) & (shots.alpha < 0.98)).float()
    sums = functional.avg_pool2d(edges, size, stride=_GRID)[:, 0]
    places = sums.flatten(1).argmax(1).tolist()
    places[-1] = places[-2]
    corners = [(_GRID * (p // sums.shape[2]), _GRID * (p % sums.shape[2])) for p in places]
    cut = {
        name: torch.stack(
            [
                plane[:, top : top + size, left : left + size]
                for plane, (top, left) in zip(getattr(shots, name), corners)
            ]
        )
        for name in PLANES
    }
    return replace(shots, **cut)


def unpacked(planes: Tensor, flags: Tensor) -> KeyedShots:
    """Shots from the bytes (N, CHANNELS, H, W) and flags (N, 2) of some canvases."""
    values = torch.split(planes.float() / 255, list(PLANES.values()), 1)
    given = flags.float()[:, :, None, None].split(1, 1)
    return KeyedShots(**dict(zip(PLANES, values)), **dict(zip(FLAGS, given)))


def _packed(shots: KeyedShots) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    planes = torch.cat([getattr(shots, name) for name in PLANES], 1)
    flags = torch.cat([getattr(shots, name) for name in FLAGS], 1)[:, :, 0, 0]
    return (planes.clamp(0, 1) * 255 + 0.5).byte().numpy(), flags.byte().numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: the same sums everywhere, and cores for the other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _layers(seed: int, number: int, size: int) -> Layers:
    """The layer pairs of a group."""
    side = size * SIDE // CANVAS
    numbers = range(number * _PAIRS, (number + 1) * _PAIRS)
    pairs = [draw_pair(seed, pair, side) for pair in numbers]
    return Layers(
        torch.from_numpy(np.stack([pair.subject for pair in pairs])).permute(0, 3, 1, 2),
        torch.from_numpy(np.stack([pair.background for pair in pairs])).permute(0, 3, 1, 2),
        torch.tensor([float(pair.is_screen) for pair in pairs]),
    )


def _chosen(dice: Dice, layers: Layers) -> Layers:
    """Subjects and sets of one batch, paired at random."""
    subjects, sets = (
        torch.from_numpy(dice.rng.permutation(np.arange(_BATCH) % _PAIRS)) for _ in range(2)
    )
    return replace(
        layers,
        subject=layers.subject[subjects],
        background=layers.background[sets],
        is_screen=layers.is_screen[sets],
    )


def _seen(shots: Shots, shot: int, *, wide: bool) -> dict[str, Tensor]:
    """The planes of one shot, (1, C, H, W)."""
    seen = seen_in_production(_given(shots, shot), wide=wide)
    inputs = seen.inputs()
    colour = inputs.keyed_foreground
    dimmed = (colour != seen.start.foreground.permute(2, 0, 1)[None].clamp(0, 1)).any(1)[:, None]
    own = {name: getattr(shots, name)[shot : shot + 1] for name in PLANES if hasattr(shots, name)}
    return {
        **own,
        "foreground": torch.where(dimmed, colour, own["foreground"]),
        "plate": inputs.plate,
        "clean_plate": inputs.clean_plate,
        "keyed_alpha": inputs.keyed_alpha,
        "keyed_foreground": colour,
        "wide_alpha": inputs.wide_alpha if wide else inputs.keyed_alpha,
    }


def seen_in_production(given: ModelInput, *, wide: bool) -> Seen:
    """What the network is given of a frame in main memory; wide: for a version that takes the
    keyer's wider band, too."""
    frame, keyer = Frame.of(given), DifferenceModel(DIFFERENCE)
    return seen_by_network(keyer, given, frame, Small(frame), no_checkpoint, wide=wide)


def _given(shots: Shots, shot: int) -> ModelInput:
    def picture(planes: Tensor) -> NDArray[np.float32]:
        return np.ascontiguousarray(planes[shot].permute(1, 2, 0).numpy())

    outside = shots.outside[shot, 0].numpy() > 0.5
    hint = shots.alpha_hint[shot, 0].numpy() if shots.hint_given[shot].item() else None
    return ModelInput(
        plate=picture(shots.plate),
        clean_plate=picture(shots.clean_plate),
        alpha_hint=hint,
        outside=outside if outside.any() else None,
        scene_linear=bool(shots.scene_linear[shot].item()),
        settings={},
    )
