"""Steps along channels: the values of torch's own steps, on any layout and sample type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mattebridge.engine.channels import copy_channels, count_below, write_product
from mattebridge.engine.light import encoded
from mattebridge.engine.picture import Picture
from mattebridge.models.pytorch.pixels import places_above
from mattebridge.ocio.space import LINEAR


def image(channels: int, *, seed: int = 0) -> torch.Tensor:
    return torch.rand(7, 9, channels, generator=torch.Generator().manual_seed(seed)) * 4 - 1


def plane(dtype: torch.dtype, channels: int = 4) -> torch.Tensor:
    """An RGBA plane whose rows have a gap behind them, full of sevens."""
    return torch.full((7, 12, channels), 7.0, dtype=dtype)[:, :9]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_copied_into_a_plane_of_more(dtype: torch.dtype, channels: int) -> None:
    source, target = image(channels), plane(dtype)
    copy_channels(source, target[..., :channels])
    assert torch.equal(target[..., :channels], source.to(dtype))
    assert bool((target[..., channels:] == 7).all())


def test_channels_are_copied_out_of_a_plane_of_more() -> None:
    source, target = image(4), torch.empty(7, 9, 3)
    copy_channels(source[..., :3], target)
    assert torch.equal(target, source[..., :3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_product_is_written_as_torch_makes_it(dtype: torch.dtype) -> None:
    colour, alpha, target = image(3), image(1, seed=1), plane(dtype)
    write_product(colour, alpha, target[..., :3])
    assert torch.equal(target[..., :3], (colour * alpha).to(dtype))
    assert bool((target[..., 3] == 7).all())


def test_pixels_that_are_above_a_limit_in_some_channel_are_found_once_and_in_order() -> None:
    values = image(3)
    wanted = (values > 1).any(2).view(-1).nonzero().view(-1)
    assert torch.equal(places_above(values, 1), wanted)
    assert len(wanted) < len((values > 1).nonzero())
    assert len(places_above(values, 10)) == 0


def test_values_below_a_limit_are_counted() -> None:
    values = torch.rand(300, 700, 3) - 0.25  # several blocks of rows
    assert count_below(values, 0) == int((values < 0).sum())


def test_light_is_above_white_where_it_is_so_when_it_is_encoded() -> None:
    """Light that is above 1 by a rounding is 1 when it is encoded."""
    near = torch.tensor(1.0).view(torch.int32) + torch.arange(-300, 1200, dtype=torch.int32)
    light = near.view(torch.float32).view(10, 150, 1).repeat(1, 1, 3)
    light[0, 0] = 2.0
    wanted = (encoded(light) > 1).any(2).view(-1).nonzero().view(-1)
    assert 0 < len(wanted) < int((light > 1).any(2).sum())
    for name in ("display", "clipped"):  # what is found on the way to either
        picture = Picture.of(light, LINEAR)
        _ = getattr(picture, name)
        assert torch.equal(picture.above_white(slice(0, 10)), wanted)
        some = wanted[(wanted >= 3 * 150) & (wanted < 7 * 150)] - 3 * 150
        assert torch.equal(picture.above_white(slice(3, 7)), some)


def test_a_picture_that_is_cut_is_its_encoded_picture_cut() -> None:
    light = torch.from_numpy(np.linspace(-1, 9, 6000, dtype=np.float32).reshape(20, 100, 3))
    whole = encoded(light)
    assert torch.equal(Picture.of(light, LINEAR).clipped, whole.clamp(0, 1))
    assert torch.equal(Picture.of(light, LINEAR).display, whole.clamp(min=0))
