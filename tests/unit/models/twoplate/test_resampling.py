"""Planes made smaller and larger on a CPU, against torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mattebridge.models.twoplate.resampling import larger, smaller


@pytest.mark.parametrize("times", [2, 3, 4, 6, 8])
def test_a_plane_shrinks_to_the_means_of_its_squares(times: int) -> None:
    planes = torch.rand(1, 2, 5 * times, 7 * times, generator=torch.Generator().manual_seed(times))
    with torch.inference_mode():
        found = smaller(planes, times)
    # The sums of up to 64 values below 1 differ by the order of rounding alone: below 1e-6.
    assert torch.allclose(found, functional.avg_pool2d(planes, times), rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("number", "channels"), [(1, 1), (1, 2), (2, 3), (1, 8)])
@pytest.mark.parametrize("times", [2, 4])
def test_planes_are_enlarged_as_by_torch(
    times: int, number: int, channels: int, layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(channels)
    planes = torch.rand(number, channels, 44, 77, generator=generator).to(memory_format=layout)
    with torch.inference_mode():
        found = larger(planes, times)
    expected = functional.interpolate(
        planes, scale_factor=float(times), mode="bilinear", align_corners=False
    )
    assert found.shape == expected.shape
    assert torch.allclose(found, expected, rtol=0, atol=1e-6)
