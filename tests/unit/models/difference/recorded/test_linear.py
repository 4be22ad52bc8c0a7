"""Blurs, slopes and changes of size as products with matrices: those of OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mattebridge.models.difference import evidence
from mattebridge.models.difference.recorded.linear import Filters

# Sums of the same products in another order; measured 5e-7.
APART = 5e-6


@pytest.fixture(params=[(97, 131), (60, 311), (3, 5), (1, 1)], ids=str)
def picture(request: pytest.FixtureRequest) -> np.ndarray:
    return np.random.default_rng(1).random(request.param, np.float32)


def filters(picture: np.ndarray) -> Filters:
    return Filters(picture.shape, torch.device("cpu"))


@pytest.mark.parametrize("sigma", [0.6, 1.2, 4.0])
def test_a_blur_is_that_of_opencv(picture: np.ndarray, sigma: float) -> None:
    found = filters(picture).blurred(torch.from_numpy(picture), sigma)
    np.testing.assert_allclose(found, evidence.blurred(picture, sigma), atol=APART)
    mirrored = filters(picture).blurred_mirrored(torch.from_numpy(picture), sigma)
    np.testing.assert_allclose(mirrored, cv2.GaussianBlur(picture, (0, 0), sigma), atol=APART)


@pytest.mark.parametrize("sigma", [8.0, 13.5])
def test_a_blur_of_many_pixels_is_that_at_half_the_size(picture: np.ndarray, sigma: float) -> None:
    found = filters(picture).widely_blurred(torch.from_numpy(picture), sigma)
    np.testing.assert_allclose(found, evidence.widely_blurred(picture, sigma), atol=APART)


@pytest.mark.parametrize("sigma", [0.0, 1.0])
def test_slopes_are_those_of_opencv(picture: np.ndarray, sigma: float) -> None:
    wanted = evidence.slopes(evidence.blurred(picture, sigma) if sigma else picture)
    found = filters(picture).slopes(torch.from_numpy(picture), sigma)
    for one, other in zip(found, wanted):
        np.testing.assert_allclose(one, other, atol=APART)


def test_a_smaller_picture_has_means_of_areas(picture: np.ndarray) -> None:
    height, width = (max(1, side // 4) for side in picture.shape)
    found = filters(picture).smaller(torch.from_numpy(picture), (height, width))
    wanted = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    np.testing.assert_allclose(found, wanted.reshape(height, width), atol=APART)


def test_matrices_are_made_once_and_for_planes_of_any_number() -> None:
    made = filters(np.zeros((40, 50), np.float32))
    planes = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(1))
    blurred = made.blurred(planes, 1.2)
    held = made.memory_bytes
    assert torch.allclose(made.blurred(planes[1, 2], 1.2), blurred[1, 2], atol=APART)
    assert made.memory_bytes == held == 4 * (40 * 40 + 50 * 50)
