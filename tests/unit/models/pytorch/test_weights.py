"""The memory of a network's weights."""

from __future__ import annotations

import gc
from typing import Any
from unittest import mock

import torch
from torch import nn

from mattebridge.models.pytorch.weights import weights_bytes


def test_parameters_and_buffers_are_counted_in_their_type() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    # The convolution's 12 + 4, four vectors of 4, and the count of batches, an int64.
    assert weights_bytes(network) == (12 + 4 + 4 * 4) * 4 + 8
    half = nn.Linear(2, 3).half()
    assert weights_bytes(half) == (6 + 3) * 2


def test_a_network_is_counted_once_and_forgotten_with_its_last_reference() -> None:
    network = nn.Linear(2, 3)
    with mock.patch.object(nn.Module, "state_dict", autospec=True) as asked:
        asked.side_effect = lambda module: {"weight": module.weight}
        assert [weights_bytes(network) for _ in range(3)] == [24, 24, 24]
        assert asked.call_count == 1
        other: Any = nn.Linear(4, 4)
        assert weights_bytes(other) == 64
    del network
    gc.collect()
    again = nn.Linear(5, 5)
    assert weights_bytes(again) == (25 + 5) * torch.float32.itemsize
