"""The figures of matting, checked against scipy's definitions and against values known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mattebridge.evaluate import metrics

ndimage = pytest.importorskip("scipy.ndimage")


def _soft_disc(height=61, width=87, seed=0):
    """A matte with a soft edge, hair-like noise and a detached piece."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    disc = np.clip((20 - np.hypot(y - 30, x - 35)) / 5 + 0.5, 0, 1)
    speck = np.clip((5 - np.hypot(y - 10, x - 75)) / 2 + 0.5, 0, 1)
    noise = rng.normal(0, 0.15, (height, width)) * (disc > 0) * (disc < 1)
    return np.clip(disc + speck + noise, 0, 1).astype(np.float32)


def _pair(seed=1):
    truth = _soft_disc(seed=seed)
    rng = np.random.default_rng(seed + 100)
    found = np.roll(truth, (2, -1), (0, 1)) + rng.normal(0, 0.08, truth.shape)
    return np.clip(found, 0, 1).astype(np.float32), truth


def _scipy_gradient(found, truth):
    def slope(x):
        across = ndimage.gaussian_filter(x, 1.4, order=(0, 1))
        down = ndimage.gaussian_filter(x, 1.4, order=(1, 0))
        return np.hypot(across, down)

    return ((slope(found.astype(float)) - slope(truth.astype(float))) ** 2).sum() / 1000


def _scipy_connectivity(found, truth):
    levels = np.arange(0, 1.1, 0.1)
    last = -np.ones(truth.shape)
    for index in range(1, len(levels)):
        regions, count = ndimage.label((found >= levels[index]) & (truth >= levels[index]))
        if count:
            sizes = np.bincount(regions.ravel())[1:]
            largest = regions == sizes.argmax() + 1
        else:
            largest = np.zeros(truth.shape, bool)
        last[(last == -1) & ~largest] = levels[index - 1]
    last[last == -1] = 1
    phi = [1 - (x - last) * (x - last >= 0.15) for x in (found.astype(float), truth.astype(float))]
    return np.abs(phi[0] - phi[1]).sum() / 1000


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_gradient_error_is_that_of_scipys_gaussian_derivatives(seed):
    found, truth = _pair(seed)
    expected = _scipy_gradient(found, truth)
    assert metrics.gradient_error(found, truth) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_connectivity_error_is_that_of_scipys_four_connected_regions(seed):
    found, truth = _pair(seed)
    expected = _scipy_connectivity(found, truth)
    assert expected > 0
    assert metrics.connectivity_error(found, truth) == pytest.approx(expected, rel=1e-9)


def test_regions_that_touch_only_at_a_corner_are_not_connected():
    truth = np.zeros((8, 8), np.float32)
    truth[:4, :4] = 1
    truth[4:, 4:] = 0.6
    found = truth.copy()
    found[4:, 4:] = 1.0
    expected = _scipy_connectivity(found, truth)
    assert metrics.connectivity_error(found, truth) == pytest.approx(expected)
    assert expected > 0


def test_a_frame_smaller_than_the_filter_is_measured_like_any_other():
    found, truth = (np.float32([[0.2, 0.9, 0.4]]), np.float32([[0.0, 1.0, 0.5]]))
    expected = _scipy_gradient(found, truth)
    assert metrics.gradient_error(found, truth) == pytest.approx(expected, rel=1e-9)


def test_a_perfect_matte_has_no_error():
    truth = _soft_disc()
    colour = np.random.default_rng(0).random((*truth.shape, 3), np.float32)
    figures = metrics.measure(truth, truth, colour, colour).as_dict()
    assert set(figures.values()) == {0.0}


def test_sad_mad_and_mse_count_what_they_say():
    truth = np.zeros((10, 20), np.float32)
    found = np.full((10, 20), 0.5, np.float32)
    assert metrics.sad(found, truth) == pytest.approx(0.1)
    assert metrics.mad(found, truth) == pytest.approx(500)
    assert metrics.mse(found, truth) == pytest.approx(250)


def test_the_band_error_looks_only_where_the_truth_is_between_0_and_1():
    truth = np.float32([[0.0, 0.5, 0.005, 1.0]])
    found = np.float32([[1.0, 0.7, 1.0, 0.0]])
    assert metrics.band_error(found, truth) == pytest.approx(200, rel=1e-5)


def test_the_band_error_of_a_matte_without_a_band_is_0():
    truth = np.float32([[0.0, 1.0]])
    assert metrics.band_error(1 - truth, truth) == 0


def test_colour_counts_only_where_the_subject_is_seen():
    truth = np.float32([[0.0, 0.01, 1.0]])
    true_colour = np.zeros((1, 3, 3), np.float32)
    colour = np.float32([[[9, 9, 9], [9, 9, 9], [0.1, 0.1, 0.1]]])
    assert metrics.foreground_mse(colour, true_colour, truth) == pytest.approx(10)
    assert metrics.foreground_mse(colour, true_colour, truth * 0) == 0


def test_the_premultiplied_error_is_what_a_comp_over_black_shows():
    alpha, true_alpha = np.float32([[0.5]]), np.float32([[1.0]])
    grey = np.full((1, 1, 3), 0.4, np.float32)
    assert metrics.premultiplied_error(alpha, grey, true_alpha, grey) == pytest.approx(200)


def test_the_edges_premultiplied_error_looks_only_where_the_truth_is_soft():
    alpha, truth = np.float32([[0.0, 0.75, 0.0]]), np.float32([[1.0, 0.5, 0.0]])
    grey = np.full((1, 3, 3), 0.4, np.float32)
    assert metrics.soft_premultiplied_error(alpha, grey, truth, grey) == pytest.approx(100)
    hard = np.float32([[1.0, 0.0, 0.0]])
    assert metrics.soft_premultiplied_error(alpha, grey, hard, grey) == 0


def test_islands_are_the_regions_beside_the_largest_and_corners_connect():
    alpha = np.zeros((12, 12), np.float32)
    assert metrics.islands(alpha) == 0
    alpha[:5, :5] = 1
    assert metrics.islands(alpha) == 0
    alpha[5, 5] = 0.2  # touches the square at a corner
    alpha[9, 9] = 0.2
    alpha[9, 2] = 0.09
    assert metrics.islands(alpha) == 1
    alpha[2, 9] = 1.0
    assert metrics.islands(alpha[..., None]) == 2


def test_boxes_that_overlap_count_their_pixels_once():
    alpha = np.zeros((4, 10), np.float32)
    alpha[:, :2] = 0.5
    boxes = [(0, 0, 4, 4), (2, 0, 8, 4)]
    assert metrics.mean_in_boxes(alpha, boxes) == pytest.approx(125)
    assert metrics.mean_in_boxes(alpha[..., None], [(0, 0, 2, 1)]) == pytest.approx(500)


def test_dtssd_is_0_for_an_error_that_stays_and_the_change_of_one_that_does_not():
    truth_before, truth = np.float32([[0, 0, 1, 1]]), np.float32([[0, 1, 1, 0]])
    off = np.float32([[0.2, -0.1, 0.0, 0.3]])
    steady = metrics.temporal_error(truth + off, truth_before + off, truth, truth_before)
    assert steady == pytest.approx(0, abs=1e-3)  # rounding of float32
    flicker = np.float32([[0.2, 0, 0, 0]])
    found = metrics.temporal_error(truth + off + flicker, truth_before + off, truth, truth_before)
    # The root of 0.2 squared over four pixels.
    assert found == pytest.approx(100, rel=1e-5)


def test_a_matte_with_a_channel_axis_gives_the_same_figures():
    found, truth = _pair()
    with_axis = metrics.measure(found[..., None], truth[..., None])
    assert with_axis == metrics.measure(found, truth)
    assert with_axis.foreground is None


def test_the_mean_of_figures_is_taken_one_by_one():
    found, truth = _pair()
    a, b = metrics.measure(found, truth), metrics.measure(truth, truth)
    mean = metrics.mean_figures([a, b])
    assert mean.mad == pytest.approx(a.mad / 2)
    assert mean.foreground is None


def test_the_difference_key_sees_what_changed_and_nothing_else():
    clean_plate = np.full((40, 60, 3), 0.5, np.float32)
    plate = clean_plate.copy()
    plate[10:30, 20:40, 1] = 0.9
    alpha = metrics.difference_key(plate, clean_plate)
    assert alpha.shape == (40, 60)
    assert alpha[15:25, 25:35].min() == 1
    assert alpha[:, :10].max() == 0
