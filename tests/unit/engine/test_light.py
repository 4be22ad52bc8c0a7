"""Curves on tensors: as accurate as stated, exact at black and white, the same bits everywhere."""

import numpy as np
import pytest
import torch

from mattebridge.engine.blocks import row_blocks
from mattebridge.engine.light import decode_quick, decoded, encode_spent, encoded


def encoded_quickly(light):
    out = torch.empty_like(light)
    encode_spent(light.clone(), out)
    return out


def decoded_quickly(display):
    out = torch.empty_like(display)
    decode_quick(display, out)
    return out


def encoded_exactly(x):
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)


def decoded_exactly(x):
    return np.where(x <= 0.04045, x / 12.92, ((np.maximum(x, 0) + 0.055) / 1.055) ** 2.4)


@pytest.fixture
def values():
    random = np.random.default_rng(1)
    small = random.uniform(-2, 2, (400, 600)).astype(np.float32)
    small[:100] = 10 ** random.uniform(-8, 15, (100, 600))
    return small


def error_of(curve, exactly, values):
    """What a curve is off by: absolute below 1, relative above."""
    wanted = exactly(values.astype(np.float64))
    found = curve(torch.from_numpy(values)).numpy()
    return np.abs(found - wanted) / np.maximum(1, np.abs(wanted))


@pytest.mark.parametrize(
    ("curve", "exactly", "highest"),
    [(encoded, encoded_exactly, 1e15), (decoded, decoded_exactly, 1e6)],
)
def test_the_curves_are_those_of_the_standard(values, curve, exactly, highest):
    values = values[(values < highest)]
    error = error_of(curve, exactly, values)
    # Measured 6.8e-7 and 1.6e-6: a few roundings of float32, as every processor does them, and the
    # last bit of its logarithm, which is coarser for more light.
    assert error[np.abs(values) < 1e4].max() < 1e-6
    assert error.max() < 2.5e-6


@pytest.mark.parametrize(
    ("curve", "exactly", "highest"),
    [(encoded_quickly, encoded_exactly, 1e4), (decoded_quickly, decoded_exactly, 100)],
)
def test_the_quick_curves_are_those_of_the_standard(values, curve, exactly, highest):
    values = values[(values < highest)]
    error = error_of(curve, exactly, values)
    # Measured 2.5e-7 up to 4, and 1.6e-6 at 100: one rounding of a logarithm and one of a power.
    assert error[np.abs(values) < 4].max() < 1.5e-6
    assert error.max() < 6e-6
    ends = curve(torch.tensor([0.0, -0.0, 1.0]))
    assert torch.equal(ends[:2], torch.zeros(2))
    assert abs(float(ends[2]) - 1) < 5e-7


@pytest.mark.parametrize("curve", [encoded, decoded])
def test_black_and_white_stay_exactly_where_they_are(curve):
    ends = torch.tensor([0.0, -0.0, 1.0])
    assert torch.equal(curve(ends), ends)


def test_below_black_the_foot_goes_on_and_nan_stays_nan():
    found = encoded(torch.tensor([-0.1, float("nan")]))
    assert found[0] == np.float32(-0.1) * np.float32(12.92)
    assert found[1].isnan()
    found = decoded(torch.tensor([-1.292, float("nan")]))
    assert abs(float(found[0]) + 0.1) < 1e-8
    assert found[1].isnan()


@pytest.mark.slow
@pytest.mark.parametrize("curve", [encoded, decoded, encoded_quickly, decoded_quickly])
def test_the_same_value_gives_the_same_bits_in_any_block_and_with_any_number_of_threads(
    values, curve
):
    image = torch.from_numpy(values)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(curve(image))
            found.append(torch.cat([curve(image[top : top + 7]) for top in range(0, 400, 7)]))
            found.append(torch.stack([curve(row[3:].clone()) for row in image]))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(found[0][:, -other.shape[1] :], other)


def test_blocks_cover_every_row_once():
    for shape in ((1, 1, 3), (7, 5, 3), (5000, 300, 3), (3, 200_000, 3)):
        image = torch.empty(shape)
        rows = [row for part in row_blocks(image) for row in range(part.start, part.stop)]
        assert rows == list(range(shape[0]))
