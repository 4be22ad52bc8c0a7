"""Pixels of an image by what they are."""

from __future__ import annotations

import torch

from mattebridge.models.pytorch.pixels import between


def test_a_value_is_between_two_others_only_if_it_is_neither() -> None:
    low, high = 0.004, 1 - 0.004
    ends = torch.tensor([low, high])
    values = torch.cat([ends, ends.nextafter(ends.flip(0)), torch.tensor([0.0, 0.5, 1.0])])
    wanted = [False, False, True, True, False, True, False]
    for by_numpy in (True, False):
        with torch.inference_mode(by_numpy):
            found = between(values, low, high)
        assert found.dtype == torch.bool
        assert found.tolist() == wanted
