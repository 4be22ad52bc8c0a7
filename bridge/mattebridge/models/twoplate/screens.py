"""A clean plate that is nothing but a green or blue screen: the keyer for screens takes the frame.

    clean plate as it was sent --alone?--no--> `difference`, network
                                  `----yes---> `screen`, with that clean plate

Before a screen every soft pixel has the screen's colour in it, and a keyer that knows it measures
what a network guesses: a third of the network's error. Which of the two it is depends on the clean
plate alone, before it was fitted to a frame, so that it is the same for every frame of a shot.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.full_size import shrunk
from mattebridge.models.pytorch.frames import array_of, arrays_of, tensor_of
from mattebridge.models.screen.card import SCREEN
from mattebridge.models.screen.find import look_size, screen_alone
from mattebridge.models.screen.model import ScreenModel

_IMAGES = ("plate", "clean_plate", "alpha_hint", "outside")


# What is kept with a clean plate.
_KEPT = "twoplate.screen"


def screen_behind(given: ModelInput) -> Optional[str]:
    """The colour of the screen, green or blue, that the clean plate shows alone; None for a set.

    Found once for a clean plate that is kept.
    """
    kept = {} if given.of_clean_plate is None else given.of_clean_plate
    if _KEPT not in kept:
        kept[_KEPT] = _looked_at(given)
    found: Optional[str] = kept[_KEPT]
    return found


@torch.inference_mode()
def _looked_at(given: ModelInput) -> Optional[str]:
    shown: Any = given.clean_plate if given.unfitted is None else given.unfitted
    if isinstance(shown, Tensor):
        on_cpu = shown.device.type == "cpu"
        shown = shown.numpy() if on_cpu else array_of(*shrunk(look_size(shown.shape), shown))
    screen = screen_alone(shown)
    return None if screen is None else screen.name


def keyed_by_screen(given: ModelInput, name: str, checkpoint: Checkpoint) -> ModelOutput:
    """The matte of `screen` for a frame before a screen of that colour, with its default settings.

    given: tensors of any device, or arrays; the output holds what the input does.
    """
    settings = SCREEN.settings_schema.validate({"screen": name}, model=SCREEN.name)
    made = ScreenModel(SCREEN).matte(replace(_in_main_memory(given), settings=settings), checkpoint)
    if not isinstance(given.plate, Tensor):
        return made
    device = given.plate.device
    alpha: Any = tensor_of(made.alpha, device)
    foreground: Any = tensor_of(made.foreground, device)
    return replace(made, alpha=alpha, foreground=foreground)


def _in_main_memory(given: ModelInput) -> ModelInput:
    if not isinstance(given.plate, Tensor):
        return given
    images = {name: getattr(given, name) for name in _IMAGES if getattr(given, name) is not None}
    outside = images.pop("outside", None)
    arrays: dict[str, Any] = dict(zip(images, arrays_of(*images.values())))
    if outside is not None:
        arrays["outside"] = outside.cpu().numpy()
    return replace(given, unfitted=None, **arrays)
