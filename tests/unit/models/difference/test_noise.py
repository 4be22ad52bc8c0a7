"""The grain between plate and clean plate, and the same in one list of steps for any picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mattebridge.models.difference.noise import noise_where, pixel_noise


# Few pixels, an odd and an even number of them, and more than are looked at.
@pytest.mark.parametrize("empty_share", [0.0, 0.0005, 0.1, 0.37, 1.0])
def test_both_ways_measure_the_same(empty_share: float) -> None:
    rng = np.random.default_rng(3)
    plate, clean = (rng.random((500, 700, 3), np.float32) for _ in range(2))
    clean = (plate + 0.02 * (clean - 0.5)).astype(np.float32)
    empty = rng.random((500, 700)) < empty_share
    images = [torch.from_numpy(image) for image in (plate, clean, empty)]
    wanted = pixel_noise(*images)
    assert 0.005 < wanted < 0.05
    # The same values in the same order; the last steps are rounded in another way.
    assert float(noise_where(*images)) == pytest.approx(wanted, rel=1e-5)
