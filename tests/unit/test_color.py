"""Curves and alpha arithmetic: known values, inverses, and what happens beyond 0..1."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mattebridge import color


def exact_encode(x):
    x = np.asarray(x, np.float64)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 0) ** (1 / 2.4) - 0.055)


def exact_decode(x):
    x = np.asarray(x, np.float64)
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0) + 0.055) / 1.055) ** 2.4)


def assert_close(found, wanted, tolerance=1e-6):
    """Absolute below 1, relative above."""
    wanted = np.asarray(wanted, np.float64)
    assert np.all(np.abs(found - wanted) <= tolerance * np.maximum(1.0, np.abs(wanted)))


def a_ramp_from_below_black_to_beyond_half():
    return np.concatenate(
        [
            np.linspace(-2, 2, 20001),
            np.geomspace(1e-8, 70000, 20001),
            -np.geomspace(1e-8, 70000, 2001),
            [0.0031308, 0.04045, 0.0, -0.0, 1e-40],
        ]
    ).astype(np.float32)


@pytest.mark.parametrize(
    ("linear", "encoded"),
    [
        (0.0, 0.0),
        (0.001, 0.01292),
        (0.18, 0.46135613),
        (0.21404114, 0.5),
        (0.5, 0.73535698),
        (20.0, 3.6207697),
        (-0.1, -1.292),
    ],
)
def test_known_values_of_the_curve(linear, encoded):
    assert float(color.srgb_encode(np.float32([linear]))[0]) == pytest.approx(encoded, abs=5e-6)
    assert float(color.srgb_decode(np.float32([encoded]))[0]) == pytest.approx(linear, abs=5e-5)


def test_the_curves_are_exact_to_one_millionth():
    x = a_ramp_from_below_black_to_beyond_half()
    assert_close(color.srgb_encode(x), exact_encode(x))
    assert_close(color.srgb_decode(x[np.abs(x) < 100]), exact_decode(x[np.abs(x) < 100]), 2e-6)


def test_black_and_white_stay_exactly_what_they_are():
    ends = np.float32([0.0, 1.0])
    assert np.array_equal(color.srgb_encode(ends), ends)
    assert np.array_equal(color.srgb_decode(ends), ends)


def test_it_is_not_a_power_of_2_2():
    assert abs(float(color.srgb_encode(np.float32([0.01]))[0]) - 0.01 ** (1 / 2.2)) > 0.02


@given(arrays(np.float32, (3, 5), elements=st.floats(-10, 65504, width=32)))
def test_encoding_and_decoding_undo_each_other(linear):
    assert_close(color.srgb_decode(color.srgb_encode(linear)), linear, 3e-6)


@given(arrays(np.float32, 16, elements=st.floats(-5, 100, width=32)))
def test_the_curve_never_turns_back(values):
    order = np.sort(values)
    assert np.all(np.diff(color.srgb_encode(order)) >= -1e-6 * np.maximum(1, order[1:]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_go_through_a_table_with_the_exact_values(dtype):
    codes = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16)
    fractions = codes / np.float64(np.iinfo(dtype).max)
    assert np.array_equal(color.srgb_decode(codes), exact_decode(fractions).astype(np.float32))
    assert np.array_equal(color.srgb_encode(codes), exact_encode(fractions).astype(np.float32))


def test_every_half_float_goes_through_a_table_with_the_exact_values():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    for fast, exact in ((color.srgb_encode, exact_encode), (color.srgb_decode, exact_decode)):
        assert np.array_equal(fast(halves), exact(halves.astype(np.float64)).astype(np.float32))


def test_nan_and_infinity_stay_what_they_are():
    odd = np.float32([np.nan, np.inf, -np.inf])
    for values in (odd, odd.astype(np.float16)):
        for curve in (color.srgb_encode, color.srgb_decode):
            found = curve(values)
            assert np.isnan(found[0])
            assert found[1] == np.inf
            assert found[2] == -np.inf


def test_curves_take_strided_input_and_may_work_in_place():
    big = np.random.default_rng(1).random((200, 300, 4), np.float32)
    view = big[::-2, 3::7, :3]
    wanted = color.srgb_encode(np.ascontiguousarray(view))
    assert np.array_equal(color.srgb_encode(view), wanted)
    halves = big.astype(np.float16)[::-2, 3::7, :3]
    assert np.allclose(color.srgb_encode(halves), wanted, atol=2e-3)
    packed = view.copy()
    assert color.srgb_encode(packed, out=packed) is packed
    assert np.array_equal(packed, wanted)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (1, 1, 3), (0, 5, 3), (3, 0, 3)])
def test_curves_take_any_shape(shape):
    values = np.full(shape, 0.5, np.float32)
    assert color.srgb_encode(values).shape == shape
    assert_close(color.srgb_decode(color.srgb_encode(values)), values)


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        (np.uint8, 255, 1.0),
        (np.uint8, 51, 0.2),
        (np.uint16, 65535, 1.0),
        (np.float16, 2.5, 2.5),
        (np.float32, -7.25, -7.25),
    ],
)
def test_to_float_keeps_values_and_normalises_integers(dtype, value, wanted):
    found = color.to_float(np.full((2, 3, 1), value, dtype))
    assert found.dtype == np.float32
    assert np.all(found == np.float32(wanted))


def test_huge_values_overflow_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert color.srgb_decode(np.float32([1e30]))[0] == np.inf
        assert np.isfinite(color.srgb_encode(np.float32([3e38]))[0])


def random_frame(seed, *shape, low=0.0, high=1.0):
    values = np.random.default_rng(seed).random(shape, np.float32)
    return values * np.float32(high - low) + np.float32(low)


def test_premultiply_and_unpremultiply_undo_each_other_inside_the_edge():
    rgb, alpha = random_frame(1, 9, 7, 3, high=20), random_frame(2, 9, 7, low=0.01, high=0.99)
    again = color.unpremultiply(color.premultiply(rgb, alpha), alpha)
    assert np.allclose(again, rgb, rtol=1e-6, atol=0)


def test_unpremultiply_leaves_colour_alone_where_there_is_no_edge():
    rgb = np.full((1, 4, 3), 0.5, np.float32)
    alpha = np.float32([[0.0, 0.00001, 1.0, 1.5]])
    assert np.array_equal(color.unpremultiply(rgb, alpha), rgb)


@pytest.mark.parametrize("plane_has_channel", [True, False])
def test_unmix_comped_over_the_clean_plate_gives_the_plate_back(plane_has_channel):
    plate = random_frame(1, 33, 17, 3, low=-0.1, high=30)
    clean_plate = random_frame(2, 33, 17, 3, low=-0.1, high=30)
    alpha = random_frame(3, 33, 17)
    alpha[0, :4] = [0.0, 1.0, 1 / 1024, 0.5 / 1024]
    plane = alpha[..., None] if plane_has_channel else alpha
    light = color.unmix(plate, clean_plate, plane)
    again = color.over(light, plane, clean_plate)
    solid = alpha >= 1 / 1024
    assert np.allclose(again[solid], plate[solid], rtol=0, atol=30 * 2e-7)
    assert np.all(light[~solid] == 0)


def test_unmix_finds_the_light_that_was_mixed_in():
    foreground, background = random_frame(1, 8, 8, 3, high=5), random_frame(2, 8, 8, 3)
    alpha = random_frame(3, 8, 8, low=0.1)
    plate = color.over(color.premultiply(foreground, alpha), alpha, background)
    light = color.unmix(plate, background, alpha)
    assert np.allclose(color.unpremultiply(light, alpha), foreground, atol=2e-5)


def rgba(alpha, colours, dtype=np.float32):
    """A picture of 2x3 pixels: its alpha and the grey of its colours."""
    plane = np.broadcast_to(np.asarray(alpha, dtype), (2, 3))
    grey = np.broadcast_to(np.asarray(colours, dtype), (2, 3))
    return np.stack([grey, grey, grey], axis=-1), plane


@pytest.mark.parametrize(
    ("alpha", "colours", "in_colours"),
    [
        (1, [0, 1, 1], True),
        (1, [0, 0, 1], True),
        (1, [1, 1, 1], False),
        (1, [0, 0, 0], False),
        (0, [0, 1, 1], False),
        ([0, 1, 1], [0, 1, 0], False),
        ([1, 1, 0], [0, 1, 0], False),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8])
def test_a_picture_with_one_alpha_all_over_is_a_matte_by_its_colours(
    alpha, colours, in_colours, dtype
):
    picture, plane = rgba(alpha, colours, dtype)
    assert color.matte_is_in_colours(picture, plane) is in_colours
    assert color.matte_is_in_colours(picture, plane[..., None]) is in_colours
    assert color.matte_is_in_colours([picture[..., i] for i in range(3)], plane) is in_colours


def test_a_colour_that_varies_in_one_channel_only_is_a_picture_too():
    colours = np.zeros((2, 3, 3), np.float32)
    colours[1, 2, 2] = 0.5
    assert color.matte_is_in_colours(colours, np.ones((2, 3), np.float32))


def test_an_alpha_of_nan_or_of_no_pixels_is_left_alone():
    colours, _ = rgba(1, [0, 1, 1])
    assert not color.matte_is_in_colours(colours, np.full((2, 3), np.nan, np.float32))
    assert not color.matte_is_in_colours(np.zeros((0, 3, 3)), np.zeros((0, 3)))


def test_luma_of_white_is_exactly_1_and_that_of_grey_the_grey():
    grey = np.linspace(0, 1, 4096, dtype=np.float32)
    found = color.luma(np.stack([grey, grey, grey], axis=-1))
    assert found[-1] == 1
    assert_close(found, grey, 1e-7)
    assert np.array_equal(color.luma(np.full((1, 1, 3), 255, np.uint8)), [[1.0]])
    assert_close(
        color.luma(np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1]])), [0.2126, 0.7152, 0.0722]
    )


def test_strips_cover_every_row_once():
    for height, row in ((1, 1), (7, 10**9), (1080, 5760), (5000, 3), (0, 3)):
        rows = [y for part in color.strips(height, row) for y in range(part.start, part.stop)]
        assert rows == list(range(height))
