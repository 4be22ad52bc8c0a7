"""Held clean plates at a render scale other than 1: which sizes fit, and where the pixels go."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mattebridge.engine.render_scale import resampled, scale_between

HALF, THIRD = Fraction(1, 2), Fraction(1, 3)


@pytest.mark.parametrize(
    ("full", "size", "scale"),
    [
        ((1080, 1920), (540, 960), HALF),
        ((1080, 1920), (360, 640), THIRD),
        ((1080, 1920), (720, 1280), Fraction(2, 3)),
        ((1080, 1920), (810, 1440), Fraction(3, 4)),
        ((1080, 1920), (270, 480), Fraction(1, 4)),
        ((1079, 1919), (540, 960), HALF),
        ((1079, 1919), (539, 959), HALF),
        ((1556, 2048), (519, 683), THIRD),
        ((2, 2), (1, 1), HALF),
    ],
)
def test_a_frame_at_one_scale_fits_whichever_way_its_sides_were_rounded(
    full: tuple[int, int], size: tuple[int, int], scale: Fraction
) -> None:
    assert scale_between(full, size) == scale


@pytest.mark.parametrize(
    ("full", "size"),
    [
        ((1080, 1998), (1080, 1920)),  # another format
        ((1080, 1921), (1080, 1920)),  # a crop by a pixel
        ((1080, 1920), (540, 1920)),  # another scale in each direction
        ((1080, 1920), (1080, 1920)),
        ((540, 960), (1080, 1920)),  # pixels that nobody has
        ((1080, 1920), (538, 960)),
        ((1080, 2048), (540, 960)),
    ],
)
def test_other_sizes_do_not_fit(full: tuple[int, int], size: tuple[int, int]) -> None:
    assert scale_between(full, size) is None


@pytest.mark.parametrize("side", [959, 960])
def test_a_pixel_is_the_mean_of_those_it_covers_also_where_a_side_was_rounded(side: int) -> None:
    full = np.random.default_rng(3).random((4, 1919, 3), np.float32)
    made = resampled(full, (2, side))
    # The mean of four float32 values below 1, summed in any order: within 4 roundings of 2^-24.
    expected = full[:, :1918].reshape(2, 2, 959, 2, 3).mean(axis=(1, 3), dtype=np.float64)
    np.testing.assert_allclose(made[:, :959], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f2", "f4"])
def test_every_sample_type_is_resampled_to_the_same_picture(dtype: str) -> None:
    whole = np.kron(np.arange(6).reshape(2, 3), np.ones((2, 2)))[..., None] * [1.0, 0.5, 0.25]
    most = np.iinfo(dtype).max if dtype[0] == "u" else 1
    made = resampled((whole / 8 * most).astype(dtype), (2, 3))
    assert made.dtype == np.float32
    # An 8-bit sample is off by less than 1/255 from the number that it was made from.
    np.testing.assert_allclose(made, whole[::2, ::2] / 8, atol=1 / 255)
