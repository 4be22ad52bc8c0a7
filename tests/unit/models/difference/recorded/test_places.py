"""Lists of pixels of fixed length."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mattebridge.models.difference.noise import every_of
from mattebridge.models.difference.recorded.places import listed, some_of


@pytest.mark.parametrize("share", [0.0, 0.01, 0.4])
def test_the_places_come_in_reading_order_and_the_last_is_repeated(share: float) -> None:
    mask = np.random.default_rng(3).random((31, 53)) < share
    wanted = np.flatnonzero(mask)
    found, count = listed(torch.from_numpy(mask), 900)
    assert int(count) == len(wanted)
    assert np.array_equal(found[: len(wanted)], wanted)
    assert (found[len(wanted) :] == (wanted[-1] if len(wanted) else 0)).all()


def test_a_list_that_is_too_short_has_the_first_places() -> None:
    found, count = listed(torch.ones(7, 9, dtype=torch.bool), 20)
    assert count == 63
    assert torch.equal(found, torch.arange(20))


@pytest.mark.parametrize("enough", [10, 100, 5000])
def test_some_places_are_those_that_the_host_takes(enough: int) -> None:
    mask = np.random.default_rng(4).random((31, 53)) < 0.6
    places = np.flatnonzero(mask)
    wanted = places[:: max(1, len(places) // enough)]
    found, count = some_of(torch.from_numpy(mask), enough)
    assert int(count) == len(wanted) <= len(found)
    assert np.array_equal(found[: len(wanted)], wanted)
    assert every_of(100) == 1
