"""Grain is taken from alpha, and what is none stays: slopes, edges, hair."""

from __future__ import annotations

import numpy as np

from mattebridge.models.screen.grain import MOST, RADIUS_PX, without_grain

SIZE = (60, 40)
SIGMA = 0.01
INNER = (slice(RADIUS_PX, -RADIUS_PX), slice(RADIUS_PX, -RADIUS_PX))


def slope(low: float, high: float) -> np.ndarray:
    row = np.linspace(low, high, SIZE[1], dtype=np.float32)
    return np.broadcast_to(row, SIZE).copy()


def noise(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, SIGMA, SIZE).astype(np.float32)


def calmed(alpha: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    return without_grain(alpha, np.full(SIZE, sigma * sigma, np.float32))


def test_a_slope_keeps_its_values_and_loses_its_grain() -> None:
    alpha = slope(0.1, 0.6)
    left = (calmed(alpha + noise()) - alpha)[INNER]
    # A mean of 25 pixels leaves a fifth; a window tells its own variance only roughly.
    assert left.std() < 0.5 * SIGMA
    assert abs(float(left.mean())) < 0.1 * SIGMA


def test_without_grain_a_slope_is_kept_to_its_last_bits() -> None:
    alpha = slope(0.1, 0.9)
    # Means of float32: 1e-7.
    assert np.abs(calmed(alpha, 1e-6) - alpha)[INNER].max() < 1e-5
    assert np.abs(calmed(alpha) - alpha)[INNER].max() < 1e-5


def test_an_edge_and_a_hair_are_no_grain() -> None:
    edge = np.zeros(SIZE, np.float32)
    edge[:, 20:] = 1
    hair = np.full(SIZE, 0.1, np.float32)
    hair[:, 20] = 0.6
    for alpha in (edge, hair):
        assert np.abs(calmed(alpha) - alpha)[INNER].max() < 5e-3


def test_alpha_is_moved_by_no_more_than_the_bound() -> None:
    for low, high, most in ((0.3, 0.42, MOST[0]), (0.9, 1.2, MOST[1])):
        alpha = np.full(SIZE, low, np.float32)
        alpha[:, ::2] = high
        moved = np.abs(calmed(alpha, 0.1) - alpha)[INNER]
        assert 0.99 * most < moved.max() <= most + 1e-6


def test_the_same_grain_is_taken_more_inside_the_subject() -> None:
    # Grain that is stronger than it was measured.
    grain = 1.5 * noise()
    inside, soft = (calmed(np.full(SIZE, level, np.float32) + grain) for level in (1.0, 0.4))
    assert inside[INNER].std() < 0.5 * soft[INNER].std()


def test_what_is_less_than_grain_fades() -> None:
    levels = [calmed(np.full(SIZE, share * SIGMA, np.float32)) for share in (0.5, 1.0, 2.0)]
    faint, half, kept = (float(level[INNER].mean()) / SIGMA for level in levels)
    assert faint < 0.5 * 0.5
    assert 0.4 < half < 0.7
    assert abs(kept - 2.0) < 1e-4
