"""Canvases: whole composed shots with the classical keyer's matte of each, stored as bytes.

    a few layer pairs --> shots, paired at random --> `difference` on each --> 16 planes
                          the last of each batch twice, with different grain

The network corrects the keyer's matte. The keyer needs the whole frame (on a crop its result would
differ), so it runs here, and the pool cuts crops later. Canvases come in groups that share their
layers, because drawing layers takes as long as composing and keying.

Twins are two canvases of one shot, the second with more grain on its plate, like two frames of a
static shot: their mattes should be equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.keyer import keyed
from training.compose.camera import regrained
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
}
CHANNELS = sum(PLANES.values())
FLAGS = ("hint_given", "scene_linear")


@dataclass(frozen=True)
class KeyedShots(Shots):
    """Shots with the keyer's matte: alpha (N, 1, H, W) and straight foreground (N, 3, H, W)."""

    keyed_alpha: Tensor
    keyed_foreground: Tensor


@dataclass(frozen=True)
class Group:
    """planes: (GROUP, CHANNELS, S, S) uint8, as `PLANES` has them. flags: (GROUP, 2) uint8."""

    planes: NDArray[np.uint8]
    flags: NDArray[np.uint8]


def draw_group(seed: int, number: int, size: int = CANVAS) -> Group:
    """The `number`-th group of a seed; the same arguments give the same bytes in any process."""
    with _one_thread():
        layers = _layers(seed, number, size)
        parts = []
        for part in range(number * _BATCHES, (number + 1) * _BATCHES):
            dice = Dice(seed, part, _BATCH, "cpu")
            shots = composed(dice, _chosen(dice, layers), size)
            parts.append(_packed(with_keyer(with_twin(dice, shots))))
    planes, flags = zip(*parts)
    return Group(np.concatenate(planes), np.concatenate(flags))


def with_twin(dice: Dice, shots: Shots) -> Shots:
    """The shots and the twin of the last one: the same shot with more grain on its plate."""
    twin = Shots(**{name: planes[-1:] for name, planes in vars(shots).items()})
    twin = replace(twin, plate=regrained(dice.sub(1), twin.plate))
    return Shots(
        **{name: torch.cat([planes, getattr(twin, name)]) for name, planes in vars(shots).items()}
    )


def with_keyer(shots: Shots) -> KeyedShots:
    """The shots (whole, on the CPU) with the keyer's matte of each."""
    mattes = [_keyed(shots, shot) for shot in range(len(shots.plate))]
    return KeyedShots(
        **vars(shots),
        keyed_alpha=torch.stack([torch.from_numpy(m.alpha)[None] for m in mattes]),
        keyed_foreground=torch.stack(
            [torch.from_numpy(m.foreground).permute(2, 0, 1) for m in mattes]
        ),
    )


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


def _keyed(shots: Shots, shot: int) -> ModelOutput:
    def picture(planes: Tensor) -> NDArray[np.float32]:
        return np.ascontiguousarray(planes[shot].permute(1, 2, 0).numpy())

    outside = shots.outside[shot, 0].numpy() > 0.5
    hint = shots.alpha_hint[shot, 0].numpy() if shots.hint_given[shot].item() else None
    given = ModelInput(
        plate=picture(shots.plate),
        clean_plate=picture(shots.clean_plate),
        alpha_hint=hint,
        outside=outside if outside.any() else None,
        scene_linear=bool(shots.scene_linear[shot].item()),
        settings={},
    )
    return keyed(given, no_checkpoint)
