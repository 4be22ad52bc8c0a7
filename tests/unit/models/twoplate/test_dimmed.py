"""The edges of a subject brighter than white, as the network is given them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mattebridge.color import over, srgb_decode, srgb_encode
from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.dimmed import dim_edges, dimmed_at_once
from mattebridge.models.twoplate.network import Inputs, inputs_of

SIZE = (4, 9)
SET = np.float32([0.3, 0.3, 0.3])


def ramp() -> np.ndarray:
    """From set to subject, both ends included."""
    return np.tile(np.linspace(0, 1, SIZE[1], dtype=np.float32), (SIZE[0], 1))


def shot(subject: float, empty: np.ndarray = SET) -> tuple[Frame, Tensor, Tensor]:
    """A subject of so much light, mixed with a flat set; its alpha, and its encoded colour."""
    own = np.full((*SIZE, 3), subject, np.float32)
    behind = np.broadcast_to(empty, own.shape).astype(np.float32)
    plate = srgb_encode(over(own * ramp()[..., None], ramp()[..., None], srgb_decode(behind)))
    frame = Frame.of(ModelInput(plate, behind.copy(), None, None, True, {}))
    return frame, torch.from_numpy(ramp()), torch.from_numpy(srgb_encode(own))


def cut(frame: Frame, alpha: Tensor, colour: Tensor) -> Inputs:
    """What the network would be given without."""
    plate, empty, own = (
        image.permute(2, 0, 1)[None].clamp(0, 1).contiguous()
        for image in (frame.plate, frame.clean_plate, colour)
    )
    return inputs_of(plate, empty, (alpha[None, None], own), scene_linear=True)


def dimmed(frame: Frame, alpha: Tensor, colour: Tensor) -> Inputs:
    given = cut(frame, alpha, colour)
    dim_edges(given, frame, alpha, colour)
    return given


def shown_alpha(given: Inputs) -> np.ndarray:
    """The alpha with which the network's plate is a mixture in light of the colour and the set."""
    seen, empty, own = (
        srgb_decode(image[0].permute(1, 2, 0).contiguous().numpy())
        for image in (given.plate, given.clean_plate, given.keyed_foreground)
    )
    towards = own - empty
    return ((seen - empty) * towards).sum(2) / np.square(towards).sum(2)


@pytest.mark.parametrize("subject", [2.0, 20.0])
def test_the_networks_plate_has_the_alpha_of_the_plate(subject: float) -> None:
    given = shot(subject)
    soft = (ramp() > 0) & (ramp() < 1)
    assert np.abs(shown_alpha(dimmed(*given)) - ramp())[soft].max() < 1e-3
    # Cut at white, a half of such a subject looks like all of it.
    assert shown_alpha(cut(*given))[:, SIZE[1] // 2].min() > 0.9


def test_the_colour_is_as_far_from_the_set_as_cut_and_the_set_stays() -> None:
    given = shot(20.0)
    made, before = dimmed(*given), cut(*given)
    torch.testing.assert_close(made.keyed_foreground, before.keyed_foreground, atol=1e-4, rtol=0)
    assert torch.equal(made.clean_plate, before.clean_plate)


@pytest.mark.parametrize("why", ["a subject below white", "a set above white", "nothing soft"])
def test_not_a_bit_changes_elsewhere(why: str) -> None:
    frame, alpha, colour = shot(20.0)
    if why == "a subject below white":
        frame, alpha, colour = shot(0.7)
    elif why == "a set above white":
        frame, alpha, colour = shot(20.0, np.float32([1.2, 1.1, 1.3]))
    else:
        alpha = (alpha > 0.5).float()
    made, before = dimmed(frame, alpha, colour), cut(frame, alpha, colour)
    assert torch.equal(made.plate, before.plate)
    assert torch.equal(made.keyed_foreground, before.keyed_foreground)


def test_a_gpu_gives_the_same() -> None:
    frame, alpha, colour = shot(20.0)
    frame.plate[1:3, 3] = 0.2
    wanted = dimmed(frame, alpha, colour)
    found = dimmed_at_once(frame.plate, frame.clean_plate, alpha, colour)
    for one, other in zip(found, (wanted.plate, wanted.keyed_foreground)):
        torch.testing.assert_close(one, other[0], atol=1e-6, rtol=0)
