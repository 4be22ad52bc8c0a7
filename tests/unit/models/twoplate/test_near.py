"""Pixels near a mask, by the distance that OpenCV measures."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mattebridge.models.twoplate.near import near


@pytest.mark.parametrize("reach_px", [3.0, 32.0, 57.6])
def test_they_are_those_of_the_distance_transform(reach_px: float) -> None:
    mask = np.random.default_rng(1).random((220, 260)) > 0.9999
    away = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
    found = near(torch.from_numpy(mask), reach_px).numpy()
    # OpenCV's sums of steps are rounded, by 1e-3 at most here.
    clear = np.abs(away - reach_px) > 0.01
    assert clear.mean() > 0.98
    assert 0.001 < found.mean() < 0.99
    assert np.array_equal(found[clear], (away < reach_px)[clear])


def test_without_a_mask_nothing_is_near() -> None:
    assert not near(torch.zeros(20, 30, dtype=torch.bool), 32.0).any()
