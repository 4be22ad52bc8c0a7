"""The order of the clean-up, against the steps in plain numpy, done one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from fakes.matting_models import Keyer, keyer_card, registry_of
from mattebridge.color import srgb_decode, srgb_encode
from mattebridge.engine import mask
from mattebridge.engine.engine import Engine
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 40, 60
DILATION, SIZE, ERODE = 2, 60, 1
# What rounding moves light by, curves there and back; a wrong order moves some pixel by the second.
ROUNDING, WRONG = 1e-5, 0.05


@dataclass
class Frame:
    """What the steps work on; shown: the plate, display-encoded, as the colours are."""

    alpha: Any
    colour: Any
    shown: Any
    hint: Any
    garbage: Any
    premultiplied: Any = None


def sharpened(frame: Frame) -> None:
    frame.alpha = frame.alpha * by_mask(mask.dilated, frame.hint >= 0.5, DILATION)


def passed(frame: Frame) -> None:
    inside = by_mask(mask.eroded, frame.alpha > 0.95, ERODE)[..., None]
    frame.colour = np.where(inside, frame.shown, frame.colour)


def despeckled(frame: Frame) -> None:
    islands, _ = mask.islands(torch.from_numpy(frame.alpha > 0.5), SIZE)
    frame.alpha = frame.alpha * by_mask(mask.dilated, islands.numpy(), DILATION)


def despilled(frame: Frame) -> None:
    red, green, blue = (frame.colour[..., channel] for channel in range(3))
    spill = np.maximum(green - (red + blue) / 2, 0)
    frame.colour = np.stack([red + spill / 2, green - spill, blue + spill / 2], 2)


def masked(frame: Frame) -> None:
    frame.alpha = frame.alpha * (1 - frame.garbage)


def multiplied(frame: Frame) -> None:
    frame.premultiplied = srgb_decode(frame.colour) * frame.alpha[..., None]


Step = Callable[[Frame], None]
ORDER: Sequence[Step] = (sharpened, passed, despeckled, despilled, masked, multiplied)
# Those that work on the same: the second is done before the first.
EXCHANGED = (
    (sharpened, passed),
    (sharpened, despeckled),
    (passed, despeckled),
    (passed, despilled),
    (passed, masked),
    (despeckled, masked),
    (despeckled, multiplied),
    (despilled, multiplied),
    (masked, multiplied),
)


def by_mask(step: Any, given: Any, radius: int) -> Any:
    return step(torch.from_numpy(given), radius).numpy()


def drawn() -> Frame:
    """A subject of two parts, joined by a strip that the hint leaves out, with a green edge."""
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    alpha[5:35, 5:25] = alpha[5:12, 32:40] = alpha[8:10, 25:32] = 1
    alpha[20:30, 40:50] = 0.97
    hint = np.zeros_like(alpha)
    hint[5:35, 5:22] = hint[5:12, 34:40] = hint[18:32, 38:52] = 1
    garbage = np.zeros_like(alpha)
    garbage[18:32, 43:46] = 1
    colour = np.full((HEIGHT, WIDTH, 3), (0.3, 0.6, 0.2), np.float32)
    shown = np.full((HEIGHT, WIDTH, 3), (0.8, 0.9, 0.4), np.float32)
    return Frame(alpha, colour, shown, hint, garbage)


def stepped(order: Sequence[Step]) -> dict[str, Any]:
    frame = drawn()
    for step in order:
        step(frame)
    return {
        "alpha": frame.alpha[..., None],
        "foreground": srgb_decode(frame.colour),
        "premultiplied": np.dstack([frame.premultiplied, frame.alpha]),
    }


def apart(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def test_the_steps_are_done_in_the_documented_order():
    frame = drawn()
    model = Keyer(keyer_card(), alpha=frame.alpha, foreground=frame.colour)
    planes = {
        "plate": srgb_decode(frame.shown),
        "clean_plate": np.zeros_like(frame.shown),
        "alpha_hint": frame.hint[..., None],
        "garbage_matte": frame.garbage[..., None],
    }
    assert np.allclose(srgb_encode(planes["plate"]), frame.shown, atol=ROUNDING)
    counts = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    out = {role: np.empty((HEIGHT, WIDTH, count), np.float32) for role, count in counts.items()}
    params = RenderParams(
        "linear",
        foreground="model",
        alignment="off",
        hint_sharpen=True,
        hint_sharpen_dilation=DILATION,
        source_passthrough=True,
        edge_erode_px=ERODE,
        edge_blur_px=0,
        auto_despeckle=True,
        despeckle_size=SIZE,
        despeckle_dilation=DILATION,
        despeckle_blur=0,
        despill_strength=1.0,
        screen="green",
    )
    Engine(registry=registry_of(model)).matte(planes, params, model="keyer", out=out)
    assert apart(out, stepped(ORDER)) < ROUNDING


@pytest.mark.parametrize(("first", "second"), EXCHANGED)
def test_any_other_order_of_two_steps_gives_another_picture(first: Step, second: Step):
    others = [step for step in ORDER if step is not second]
    at = others.index(first)
    assert apart(stepped([*others[:at], second, *others[at:]]), stepped(ORDER)) > WRONG
