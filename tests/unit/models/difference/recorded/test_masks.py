"""Areas, distances and samples of masks: those of OpenCV and numpy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mattebridge.models.difference.evidence import disc
from mattebridge.models.difference.recorded import masks
from mattebridge.models.difference.trimap import _without_specks

# Of a distance in pixels: sums of the same steps in another order.
APART_PX = 1e-4


def noise(seed: int = 1, sigma: float = 0.0, share: float = 0.5) -> np.ndarray:
    """A mask (97, 131), the coarser the larger sigma."""
    values = np.random.default_rng(seed).random((97, 131), np.float32)
    if sigma:
        values = cv2.GaussianBlur(values, (0, 0), sigma)
    return values > np.quantile(values, 1 - share)


MASKS = {
    "grain": noise(),
    "blobs": noise(2, 4.0),
    "holes": noise(3, 1.0, 0.97),
    "dots": noise(4, 0.0, 0.01),
    "nothing": np.zeros((97, 131), bool),
}


@pytest.fixture(params=list(MASKS))
def mask(request: pytest.FixtureRequest) -> np.ndarray:
    return MASKS[request.param]


@pytest.mark.parametrize("radius", [2, 3, 4, 5])
def test_areas_grow_and_shrink_by_opencvs_discs(mask: np.ndarray, radius: int) -> None:
    there, here = torch.from_numpy(mask), mask.astype(np.uint8)
    assert np.array_equal(masks.dilated(there.float(), radius), cv2.dilate(here, disc(radius)))
    for found, how in (
        (masks.opened(there, radius), cv2.MORPH_OPEN),
        (masks.closed(there, radius), cv2.MORPH_CLOSE),
    ):
        assert np.array_equal(found, cv2.morphologyEx(here, how, disc(radius)) > 0)


def test_distances_are_those_of_opencv(mask: np.ndarray) -> None:
    both = np.stack([mask, ~mask])
    found = masks.distances(torch.from_numpy(both)).numpy()
    for one, other in zip(found, both):
        wanted = cv2.distanceTransform(other.astype(np.uint8), cv2.DIST_L2, 5)
        if other.all():
            assert one.min() > 1e30
        else:
            np.testing.assert_allclose(one, wanted, atol=APART_PX)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (30, 2)])
def test_distances_in_small_frames_too(shape: tuple[int, int]) -> None:
    mask = np.ones(shape, np.uint8)
    mask[0, -1] = 0
    wanted = cv2.distanceTransform(mask, cv2.DIST_L2, 5)
    found = masks.distances(torch.from_numpy(mask > 0)[None])[0]
    np.testing.assert_allclose(found, wanted, atol=APART_PX)


def test_small_regions_are_left_out(mask: np.ndarray) -> None:
    wanted = _without_specks(mask.astype(np.uint8), 0.001)
    found, settled = masks.without_specks(torch.from_numpy(mask), 0.001 * mask.size)
    assert settled
    assert np.array_equal(found, wanted > 0)


def spiral(side: int) -> np.ndarray:
    """One line from the corner to the middle: the longest way between two pixels of a region."""
    mask = np.zeros((side, side), np.uint8)
    top, left, bottom, right, y, x = 0, 0, side - 1, side - 1, 0, 0
    ends = []
    while top < bottom and left < right:
        ends += [(right, top), (right, bottom), (left, bottom), (left, top + 2)]
        top, left, bottom, right = top + 2, left + 2, bottom - 2, right - 2
    for end in ends:
        cv2.line(mask, (x, y), end, 1)
        x, y = end
    return mask


def test_the_region_of_a_long_line_is_measured_in_the_usual_rounds() -> None:
    line = spiral(301)
    assert cv2.connectedComponents(line)[0] == 2
    there = torch.from_numpy(line > 0)
    found, settled = masks.without_specks(there, float(line.sum()))
    assert settled
    assert torch.equal(found, there)
    # What was not measured to its end is said.
    assert not masks.without_specks(there, float(line.sum()), rounds=1)[1]


@pytest.mark.parametrize("every", [1, 7])
def test_a_sample_of_a_mask_and_its_median(mask: np.ndarray, every: int) -> None:
    values = np.random.default_rng(9).random(mask.shape, np.float32)
    chosen, count = masks.each_of(torch.from_numpy(mask), every)
    wanted = values[mask][::every]
    assert int(count) == len(wanted)
    found = masks.middle_of(masks.ordered(torch.from_numpy(values), chosen), count)
    assert float(found) == pytest.approx(float(np.median(wanted)) if len(wanted) else 0, rel=1e-6)
