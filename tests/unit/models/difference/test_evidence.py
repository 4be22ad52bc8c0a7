"""Blurs of the keyer."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mattebridge.models.difference.evidence import widely_blurred


@pytest.mark.parametrize("size", [(135, 240), (68, 121)])
@pytest.mark.parametrize("sigma", [8.0, 27.0])
def test_a_wide_blur_at_half_the_size_is_that_at_full_size(
    size: tuple[int, int], sigma: float
) -> None:
    height, width = size
    y, x = np.mgrid[:height, :width]
    mask = ((x - 0.4 * width) ** 2 + (y - 0.5 * height) ** 2 < (0.3 * width) ** 2) | (x % 31 == 9)
    picture = np.stack([mask, ~mask, mask * 0.5], axis=2).astype(np.float32)
    exact = cv2.GaussianBlur(picture, (0, 0), sigma).reshape(picture.shape)
    found = widely_blurred(picture, sigma)
    # At the edge of the frame, whose mirror lies half a pixel off.
    np.testing.assert_allclose(found, exact, atol=0.04)
    inside = slice(16, -16)
    np.testing.assert_allclose(found[inside, inside], exact[inside, inside], atol=0.015)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (2, 3)])
def test_pictures_of_one_row_are_blurred_too(size: tuple[int, int]) -> None:
    np.testing.assert_allclose(widely_blurred(np.ones(size, np.float32), 8.0), 1, atol=1e-5)
