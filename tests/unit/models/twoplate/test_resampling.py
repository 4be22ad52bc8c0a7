"""Planes made smaller on a CPU, against torch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from mattebridge.models.twoplate.resampling import smaller


@pytest.mark.parametrize("times", [2, 3, 4, 6, 8])
def test_a_plane_shrinks_to_the_means_of_its_squares(times: int) -> None:
    planes = torch.rand(1, 2, 5 * times, 7 * times, generator=torch.Generator().manual_seed(times))
    with torch.inference_mode():
        found = smaller(planes, times)
    # The sums of up to 64 values below 1 differ by the order of rounding alone: below 1e-6.
    assert torch.allclose(found, functional.avg_pool2d(planes, times), rtol=0, atol=1e-6)
