"""Strong grain is taken from both pictures before they are matted; the foreground keeps it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mattebridge.models.difference.grain_filter import REACH_PX, GrainFilter, smooth
from mattebridge.models.difference.small import Small
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.calm import LIKE, calmed, with_its_grain

SIZE = (96, 128)


def shot(sigma: float, times: int = 1) -> Frame:
    """A subject of flat colour before a gradient, with a step of 0.3 between; grain in both.

    times: how many times higher and wider than `SIZE`.
    """
    rng = np.random.default_rng(4)
    height, width = (times * length for length in SIZE)
    empty = np.zeros((height, width, 3)) + np.linspace(0.2, 0.5, width)[None, :, None]
    plate = empty.copy()
    plate[20 * times : 80 * times, 30 * times : 90 * times] = 0.8
    grainy = [picture + rng.normal(0, sigma, picture.shape) for picture in (plate, empty)]
    tensors = [torch.from_numpy(np.clip(picture, 0, 1).astype(np.float32)) for picture in grainy]
    return Frame(tensors[0], tensors[1], None, None, False)


@pytest.mark.parametrize("sigma", [0.0, 0.012])
def test_the_network_sees_pictures_without_strong_grain_as_they_are(sigma: float) -> None:
    frame = shot(sigma)
    calm = calmed(frame, Small(frame))
    assert calm.frame is frame
    assert calm.grain is None


def test_the_keyer_sees_usual_grain_less() -> None:
    frame = shot(0.012)
    looked = Small(frame)
    calm = calmed(frame, looked)
    assert calm.small.same_noises > looked.same_noises
    assert calm.small.explains
    inside = (slice(24, 76), slice(34, 86))
    for found, full, before in zip(calm.small.pictures, calm.small.explaining(), looked.pictures):
        assert np.array_equal(found, full.numpy())
        # From row to row nothing but grain changes. Measured 0.3, of a seeded picture.
        grain, less = (np.diff(picture[inside], axis=0).std() for picture in (before, found))
        assert less < 0.5 * grain


def test_the_keyer_sees_pictures_without_grain_as_they_are() -> None:
    frame = shot(0.0)
    looked = Small(frame)
    assert calmed(frame, looked).small is looked


def test_strong_grain_is_halved_and_edges_stay() -> None:
    frame = shot(0.03)
    calm = calmed(frame, Small(frame))
    assert calm.grain is not None
    inside = (slice(24, 76), slice(34, 86))
    # 0.3 measured, of a seeded picture.
    assert calm.frame.plate[inside].std() < 0.5 * frame.plate[inside].std()
    step = calm.frame.plate[24:76, 32].mean() - calm.frame.plate[24:76, 27].mean()
    before = frame.plate[24:76, 32].mean() - frame.plate[24:76, 27].mean()
    assert abs(float(step - before)) < 0.02
    assert np.array_equal(calm.small.plate, calm.frame.plate.numpy())


def test_the_foreground_is_the_plate_again_where_it_is_opaque() -> None:
    frame = shot(0.03)
    calm = calmed(frame, Small(frame))
    assert calm.grain is not None
    found = with_its_grain(calm.frame.plate, torch.ones(SIZE), calm.grain, 1.0)
    # A few roundings.
    assert torch.allclose(found, frame.plate, atol=1e-6)
    empty = with_its_grain(calm.frame.plate, torch.zeros(SIZE), calm.grain, 1.0)
    assert torch.equal(empty, calm.frame.plate)


def smooth_pixel(picture: np.ndarray, y: int, x: int, grain: float) -> np.ndarray:
    """One pixel of `smooth`, far from the edges, by its definition."""

    def mean(down: int, right: int) -> np.ndarray:
        parts = np.outer((1, 2, 1), (1, 2, 1))[..., None] / 16
        return (parts * picture[down - 1 : down + 2, right - 1 : right + 2]).sum((0, 1))

    total, weights = 0.0, 0.0
    for down in range(y - REACH_PX, y + REACH_PX + 1):
        for right in range(x - REACH_PX, x + REACH_PX + 1):
            if (down - y + right - x) % 2 == 0:
                unlike = np.abs(mean(down, right) - mean(y, x)).sum()
                weight = np.exp(-0.5 * (unlike / (LIKE * grain)) ** 2)
                total, weights = total + weight * picture[down, right], weights + weight
    return total / weights


def test_pixels_count_the_more_the_more_alike_their_means_are() -> None:
    plate = shot(0.03).plate
    found = smooth(plate, GrainFilter(LIKE * 0.03)).numpy()
    # In the subject, at its edges, and on both sides of where one strip of rows ends.
    for y, x in ((50, 60), (20, 30), (21, 89), (31, 30), (32, 88), (92, 124), (3, 3)):
        # A few roundings of float32.
        assert np.abs(found[y, x] - smooth_pixel(plate.numpy(), y, x, 0.03)).max() < 1e-5


def test_the_pictures_of_a_large_frame_are_each_calmed_in_their_own_size() -> None:
    frame = shot(0.06, times=10)
    looked = Small(frame)
    calm = calmed(frame, looked)
    assert not calm.small.explains
    assert calm.small.plate.shape == looked.plate.shape == (720, 960, 3)
    # Measured 0.30 and 0.33, of a seeded picture.
    inside = slice(240, 560)
    for found, before in (
        (calm.frame.plate.numpy()[320:740, 320:860], frame.plate.numpy()[320:740, 320:860]),
        (calm.small.plate[inside, inside], looked.plate[inside, inside]),
    ):
        assert found.std() < 0.5 * before.std()
