"""The edges of a subject brighter than white, as the network is given them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mattebridge.color import over
from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.dimmed import dim_edges, dimmed_at_once
from mattebridge.models.twoplate.network import Inputs, inputs_of

SIZE = (4, 17)
SET = np.float32([0.35, 0.35, 0.35])


def light_of(image: np.ndarray, scene_linear: bool) -> np.ndarray:
    """The light in which the network measures: about linear, or display-encoded as it is."""
    return np.square(image) if scene_linear else image


def ramp() -> np.ndarray:
    """From set to subject, both ends included."""
    return np.tile(np.linspace(0, 1, SIZE[1], dtype=np.float32), (SIZE[0], 1))


def shot(
    subject: float, empty: np.ndarray = SET, *, scene_linear: bool = True
) -> tuple[Frame, Tensor, Tensor]:
    """A subject of this encoded brightness, mixed with a flat set; its alpha, and its colour."""
    own = np.full((*SIZE, 3), subject, np.float32)
    behind = np.broadcast_to(empty, own.shape).astype(np.float32)
    alpha = ramp()[..., None]
    front, back = (light_of(image, scene_linear) for image in (own, behind))
    plate = over(front * alpha, alpha, back)
    plate = np.sqrt(plate) if scene_linear else plate
    frame = Frame.of(ModelInput(plate, behind.copy(), None, None, scene_linear, {}))
    return frame, torch.from_numpy(ramp()), torch.from_numpy(own)


def cut(frame: Frame, alpha: Tensor, colour: Tensor) -> Inputs:
    """What the network would be given without."""
    plate, empty, own = (
        image.permute(2, 0, 1)[None].clamp(0, 1).contiguous()
        for image in (frame.plate, frame.clean_plate, colour)
    )
    return inputs_of(plate, empty, (alpha[None, None], own), scene_linear=frame.scene_linear)


def dimmed(frame: Frame, alpha: Tensor, colour: Tensor) -> Inputs:
    given = cut(frame, alpha, colour)
    dim_edges(given, frame, alpha, colour)
    return given


def shown_alpha(given: Inputs, scene_linear: bool) -> np.ndarray:
    """The alpha with which the network's plate is a mixture of the colour and the set."""
    seen, empty, own = (
        light_of(image[0].permute(1, 2, 0).numpy(), scene_linear)
        for image in (given.plate, given.clean_plate, given.keyed_foreground)
    )
    towards = own - empty
    return ((seen - empty) * towards).sum(2) / np.square(towards).sum(2)


@pytest.mark.parametrize("scene_linear", [True, False])
@pytest.mark.parametrize("subject", [1.5, 3.5])
def test_the_networks_plate_has_the_alpha_of_the_plate(subject: float, scene_linear: bool) -> None:
    frame, alpha, colour = shot(subject, scene_linear=scene_linear)
    bright = (frame.plate.amax(2) > 1.05).numpy() & (ramp() < 1)
    assert bright.any()
    found = shown_alpha(dimmed(frame, alpha, colour), scene_linear)
    assert np.abs(found - ramp())[bright].max() < 1e-4
    # Cut at white, all of them look like the whole subject.
    assert shown_alpha(cut(frame, alpha, colour), scene_linear)[bright].min() > 0.99


def test_the_colour_is_as_far_from_the_set_as_cut_and_the_set_stays() -> None:
    given = shot(3.5)
    made, before = dimmed(*given), cut(*given)
    torch.testing.assert_close(made.keyed_foreground, before.keyed_foreground, atol=2e-2, rtol=0)
    assert torch.equal(made.clean_plate, before.clean_plate)


@pytest.mark.parametrize("why", ["a subject below white", "a set above white", "nothing soft"])
def test_not_a_bit_changes_elsewhere(why: str) -> None:
    frame, alpha, colour = shot(3.5)
    if why == "a subject below white":
        frame, alpha, colour = shot(0.8)
    elif why == "a set above white":
        frame, alpha, colour = shot(3.5, np.float32([1.2, 1.1, 1.3]))
    else:
        alpha = (alpha > 0.5).float()
    made, before = dimmed(frame, alpha, colour), cut(frame, alpha, colour)
    assert torch.equal(made.plate, before.plate)
    assert torch.equal(made.keyed_foreground, before.keyed_foreground)


def test_a_body_below_white_stays_that_the_keyer_takes_for_a_trace_of_light() -> None:
    """Dimmed, it would be lost for the network as well."""
    frame, _, colour = shot(3.5)
    frame.plate[:] = 0.9
    alpha = torch.full(SIZE, 0.05)
    made = dimmed(frame, alpha, colour)
    assert torch.equal(made.plate, cut(frame, alpha, colour).plate)


def test_grain_at_white_switches_nothing() -> None:
    frame, _, colour = shot(3.5)
    alpha = torch.full(SIZE, 0.1)
    shown = []
    for brightness in (0.999, 1.001):
        frame.plate[:] = brightness
        shown.append(dimmed(frame, alpha, colour).plate)
    assert (shown[1] - shown[0]).abs().max() < 0.03


@pytest.mark.parametrize("scene_linear", [True, False])
def test_a_gpu_gives_the_same(scene_linear: bool) -> None:
    frame, alpha, colour = shot(3.5, scene_linear=scene_linear)
    frame.plate[1:3, 3] = 0.2
    frame.plate[0, 12] = torch.tensor([-0.1, 2.0, 9.0])
    frame.clean_plate[2, 12] = torch.tensor([-0.1, 0.5, 1.1])
    wanted = dimmed(frame, alpha, colour)
    images = frame.plate, frame.clean_plate, alpha, colour
    found = dimmed_at_once(*images, scene_linear=scene_linear)
    for one, other in zip(found, (wanted.plate, wanted.keyed_foreground)):
        torch.testing.assert_close(one.permute(2, 0, 1), other[0], atol=1e-6, rtol=0)
