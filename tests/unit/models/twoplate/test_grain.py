"""Grain leaves alpha and stays in the picture; what stands out of it is not touched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mattebridge.models.twoplate.grain import without_grain
from mattebridge.models.twoplate.network import NetworkMatte

NOISE = 0.01
SET, SUBJECT = 0.2, 0.7


def matte(alpha: Tensor) -> NetworkMatte:
    """Of a grey subject on a grey set."""
    return NetworkMatte(alpha, alpha, torch.full((1, 3, *alpha.shape[2:]), SUBJECT))


def steadied(alpha: Tensor, noise: float = NOISE, **options: int | None) -> NetworkMatte:
    clean_plate = torch.full((1, 3, *alpha.shape[2:]), SET)
    return without_grain(matte(alpha), clean_plate, noise, **options)


def grainy(alpha: Tensor, seed: int = 0) -> Tensor:
    """What grain of `NOISE` makes of alpha, when it is read off the three channels."""
    away = torch.randn(alpha.shape, generator=torch.Generator().manual_seed(seed))
    return (alpha + NOISE / (3**0.5 * (SUBJECT - SET)) * away).clamp(0, 1)


def test_a_half_transparent_part_becomes_steadier_and_keeps_its_alpha() -> None:
    alpha = grainy(torch.full((1, 1, 60, 80), 0.5))
    steady = steadied(alpha).alpha
    assert steady.std() < 0.5 * alpha.std()
    assert steady.mean() == pytest.approx(0.5, abs=1e-3)


def test_a_still_picture_changes_less_from_frame_to_frame() -> None:
    ramp = torch.linspace(0, 1, 80).expand(1, 1, 60, 80)
    before = [grainy(ramp, seed) for seed in (1, 2)]
    after = [steadied(alpha).alpha for alpha in before]
    assert (after[0] - after[1]).abs().mean() < 0.5 * (before[0] - before[1]).abs().mean()
    assert (after[0] - ramp).abs().mean() < (before[0] - ramp).abs().mean()


def test_edges_and_strands_stay() -> None:
    alpha = torch.zeros(1, 1, 40, 60)
    alpha[..., 30:] = 1
    alpha[..., 10] = 0.6  # a hair, one pixel wide
    steady = steadied(alpha).alpha
    assert (steady - alpha).abs().max() < 0.01
    assert torch.equal(steady[..., 40:], alpha[..., 40:])


def test_without_grain_nothing_changes() -> None:
    alpha = torch.rand(1, 1, 30, 30, generator=torch.Generator().manual_seed(3))
    made = steadied(alpha, 0.0)
    assert (made.alpha - alpha).abs().max() < 1e-5
    assert (made.foreground - SUBJECT).abs().max() < 1e-5


def test_the_composite_keeps_its_grain() -> None:
    alpha = grainy(torch.full((1, 1, 60, 80), 0.5))
    made = steadied(alpha)
    before, after = (
        one.alpha * one.foreground + (1 - one.alpha) * SET for one in (matte(alpha), made)
    )
    assert (after - before).abs().mean() < 0.25 * (made.alpha - alpha).abs().mean() * (
        SUBJECT - SET
    )


def test_some_pixels_at_a_time_give_what_all_at_once_give() -> None:
    alpha = torch.rand(1, 1, 50, 30, generator=torch.Generator().manual_seed(4))
    parts, whole = (steadied(alpha, 0.1, at_once=count) for count in (97, None))
    assert torch.allclose(whole.alpha, parts.alpha, atol=1e-6)
    assert torch.allclose(whole.foreground, parts.foreground, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_frame_without_anything_soft_stays_as_it_is(value: float) -> None:
    alpha = torch.full((1, 1, 20, 20), value)
    assert torch.equal(steadied(alpha).alpha, alpha)
