"""The same bits on a CPU whatever the number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mattebridge.models.pytorch.threads import dilation_on, in_one_way, power, sigmoid

COUNTS = (1, 2, 3, 4)


@pytest.fixture(autouse=True)
def the_threads_there_were() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def with_each_count(step: Callable[[], Tensor]) -> list[Tensor]:
    found = []
    for count in COUNTS:
        torch.set_num_threads(count)
        found.append(step())
    return found


def all_equal(found: list[Tensor]) -> bool:
    return all(torch.equal(found[0], other) for other in found[1:])


def test_a_1x1_convolution_has_one_result() -> None:
    network = nn.Sequential(nn.Conv2d(160, 320, 1), nn.ReLU(), nn.Conv2d(320, 24, 1))
    network.requires_grad_(False)
    x = noise(1, 160, 34, 60)
    with torch.inference_mode():
        plain = network(x)
    assert in_one_way(network) is network
    found = with_each_count(lambda: network(x))
    assert all_equal(found)
    assert found[0].shape == plain.shape
    # Another order of sums of 160 and 320 products.
    torch.testing.assert_close(found[0], plain, rtol=1e-4, atol=1e-4)


def test_other_convolutions_stay_as_they_are() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, dilation=3), nn.Conv2d(4, 4, (1, 3)))
    in_one_way(network)
    assert [conv.dilation for conv in network] == [(3, 3), (1, 1)]
    assert dilation_on(torch.device("cuda:0")) == 1
    on_the_gpu = nn.Conv2d(3, 4, 1, device="meta")
    assert in_one_way(on_the_gpu).dilation == (1, 1)


@pytest.mark.parametrize(
    ("step", "plain"),
    [
        (sigmoid, torch.sigmoid),
        (lambda x: power(x.abs() + 0.01, 2.4), lambda x: (x.abs() + 0.01).pow(2.4)),
        (lambda x: power(x.abs() + 0.01, 1 / 2.4), lambda x: (x.abs() + 0.01).pow(1 / 2.4)),
    ],
)
def test_a_function_of_each_value_has_one_result(step: Any, plain: Any) -> None:
    # 532 x 84 values: the shares of two, three and four threads end within a vector.
    x = 5 * noise(1, 1, 532, 84)
    found = with_each_count(lambda: step(x))
    assert all_equal(found)
    torch.testing.assert_close(found[0], plain(x), rtol=1e-5, atol=1e-6)
    assert torch.equal(step(x), plain(x))  # with gradients it is torch's own


def test_large_logits_are_0_and_1() -> None:
    with torch.inference_mode():
        assert sigmoid(torch.tensor([-1e4, -200.0, 200.0, 1e4])).tolist() == [0, 0, 1, 1]
