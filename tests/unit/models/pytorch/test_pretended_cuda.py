"""The pretended CUDA device: what it refuses, and what it counts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fakes.pretended_cuda import pretended_cuda
from mattebridge.models.pytorch.frames import arrays_of


def test_values_are_those_of_the_cpu_and_say_that_they_are_on_the_device() -> None:
    image, weight = torch.rand(1, 3, 8, 8), torch.rand(2, 3, 3, 3)
    with pretended_cuda() as counts, torch.inference_mode():
        there = image.to("cuda:0")
        made = functional.conv2d(there, weight.cuda()).relu_()[:, :, 1:]
        assert made.is_cuda
        assert made.device == torch.device("cuda:0")
        back = made.cpu()
    assert torch.equal(back, functional.conv2d(image, weight).relu()[:, :, 1:])
    assert (counts.launches, counts.waits) == (2, 1)
    assert (counts.to_bytes, counts.from_bytes) == (image.nbytes + weight.nbytes, back.nbytes)


def test_devices_do_not_mix_and_the_memory_of_the_device_is_not_numpys() -> None:
    with pretended_cuda():
        there = torch.ones(4, device="cuda:0")
        with pytest.raises(RuntimeError, match="same device"):
            there + torch.ones(4)
        with pytest.raises(RuntimeError, match="same device"):
            there[:2] = torch.ones(2)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        assert float((there + torch.tensor(1.0)).sum()) == 8.0


def test_whatever_needs_to_know_the_data_is_a_wait() -> None:
    with pretended_cuda() as counts:
        there = torch.arange(4, device="cuda:0")
        asks = [
            lambda: bool((there > 2).any()),
            lambda: int(there[0]),
            lambda: there.nonzero(),
            lambda: there[there > 1],
            lambda: torch.equal(there, there),
            lambda: there.tolist(),
            lambda: there[torch.tensor([1, 2])],
            lambda: torch.cuda.synchronize(),
        ]
        for ask in asks:
            counts.reset()
            ask()
            assert counts.waits == 1, counts.places
        counts.reset()
        assert there[there.flip(0)].device.type == "cuda"
        assert counts.waits == 0


def test_images_come_back_with_one_wait() -> None:
    with pretended_cuda() as counts:
        images = [torch.full((2, 3), value, device="cuda:0") for value in (1.0, 2.0, 3.0)]
        counts.reset()
        arrays = arrays_of(*images)
    assert counts.waits == 1
    assert counts.from_bytes == 3 * 24
    assert [float(array.sum()) for array in arrays] == [6.0, 12.0, 18.0]


def test_it_leaves_no_trace() -> None:
    before = torch.cuda.synchronize
    with pretended_cuda():
        torch.ones(2, device="cuda:0")
    assert torch.cuda.synchronize is before
    with pytest.raises((AssertionError, RuntimeError)):
        torch.ones(2, device="cuda:0" if not torch.cuda.is_available() else "cuda:99")
