"""Strands of the keyer in a matte of the network that is right on average."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mattebridge.models.twoplate.network import Inputs, NetworkMatte, inputs_of
from mattebridge.models.twoplate.strands import with_strands

SIZE = (1, 1, 64, 96)


def frame(keyed_alpha: Tensor) -> Inputs:
    plate = torch.full((1, 3, *SIZE[2:]), 0.5)
    return inputs_of(plate, plate * 0.4, (keyed_alpha, plate))


def made_of(alpha: Tensor, given: Inputs, colour: float = 0.7) -> NetworkMatte:
    foreground = torch.full((1, 3, *SIZE[2:]), colour)
    return with_strands(NetworkMatte(alpha, alpha, foreground), given, 4)


def stripes() -> Tensor:
    """Strands of alpha 0.9 and gaps of 0.1, a pixel wide each: 0.5 on average."""
    alpha = torch.full(SIZE, 0.1)
    alpha[..., ::2] = 0.9
    return alpha


def test_strands_come_back_with_the_mean_that_the_network_found_where_colours_are_near() -> None:
    made = made_of(torch.full(SIZE, 0.25), frame(stripes()), colour=0.4).alpha[..., 16:-16, 16:-16]
    assert made.mean().item() == pytest.approx(0.25, abs=0.01)
    assert made[..., ::2].mean().item() == pytest.approx(0.45, abs=0.01)
    assert made[..., 1::2].mean().item() == pytest.approx(0.05, abs=0.01)


def test_a_small_departure_from_the_keyers_mean_does_not_count_where_colours_are_far() -> None:
    fog = torch.full(SIZE, 0.4)
    far, near = (made_of(fog, frame(stripes()), colour=colour).alpha for colour in (1.0, 0.21))
    inside = (..., slice(16, -16), slice(16, -16))
    assert near[inside].mean().item() == pytest.approx(0.4, abs=0.01)
    # Measured 0.460; the keyer's mean is 0.5.
    assert 0.45 < far[inside].mean().item() < 0.5


def test_what_the_network_is_sure_of_stands() -> None:
    sure = torch.zeros(SIZE)
    sure[..., 48:] = 1
    made = made_of(sure, frame(stripes()))
    assert torch.equal(made.alpha, sure)
    assert torch.equal(made.foreground, torch.full_like(made.foreground, 0.7))


def test_where_the_keyer_is_sure_the_network_stands() -> None:
    solid = torch.ones(SIZE)
    fog = torch.full(SIZE, 0.6)
    assert torch.equal(made_of(fog, frame(solid)).alpha, fog)


def test_a_pixel_over_the_set_hardly_changes_with_its_alpha() -> None:
    given = frame(stripes())
    fog = torch.full(SIZE, 0.5)
    made = made_of(fog, given)
    before = fog * 0.7 + (1 - fog) * given.clean_plate
    after = made.alpha * made.foreground + (1 - made.alpha) * given.clean_plate
    opaque = made.alpha > 0.7
    assert opaque.sum() > 100
    moved = (made.alpha - fog).abs() * 0.5
    assert (after - before).abs().mean(1, keepdim=True)[opaque].mean() < 0.3 * moved[opaque].mean()
