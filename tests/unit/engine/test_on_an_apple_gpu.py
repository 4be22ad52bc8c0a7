"""Frames on a pretended device of Apple, which has no float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fakes.pretended_cuda import MPS, pretended_mps
from mattebridge.engine.clean_up import clean_alpha
from mattebridge.engine.device import deliver, raw_of, targets_for
from mattebridge.models.background_matting.resize import taps
from mattebridge.models.greenformer.tiles import Moments
from mattebridge.models.pytorch.double import double_of
from mattebridge.wire.params import RenderParams


def test_the_pretended_device_refuses_float64() -> None:
    with pretended_mps():
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(3, dtype=torch.float64, device=MPS)
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(3).to(MPS).double()
    assert (double_of(MPS), double_of(torch.device("cpu"))) == (torch.float32, torch.float64)
    assert double_of(torch.device("cuda:0")) == torch.float64


@pytest.mark.parametrize(("size", "length"), [(2160, 540), (1080, 135), (97, 1000)])
def test_a_resize_finds_the_same_places_to_single_precision(size: int, length: int) -> None:
    positions = torch.arange(size)
    wanted = taps(positions, size, length)
    with pretended_mps():
        found = [part.cpu() for part in taps(positions.to(MPS), size, length)]
    # A position of up to `length` has 24 bits; next to a pixel it may fall on either side.
    place = wanted.before + wanted.share
    np.testing.assert_allclose(found[0] + found[2], place, atol=4 * length * 2**-24)


def test_the_statistics_of_a_norm_are_those_of_double_precision_closely() -> None:
    x = torch.rand(1, 32, 40, 50) + 3
    norm = torch.nn.GroupNorm(8, 32).requires_grad_(False)
    here = Moments(torch.device("cpu"))
    here.add(x)
    wanted = here.affine(norm)
    with pretended_mps():
        there = Moments(MPS)
        there.add(x.to(MPS))
        found = [part.cpu() for part in there.affine(norm.to(MPS))]
    for one, other in zip(found, wanted):
        # Sums of 8,000 values in single precision: measured 2e-7 apart.
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("given", [{}, {"auto_despeckle": True, "despeckle_size": 30}])
def test_an_alpha_is_cleaned_there_as_on_the_cpu(given: dict[str, Any]) -> None:
    alpha = torch.zeros(60, 80)
    alpha[10:40, 20:60] = 1
    alpha[50:53, 5:8] = 0.8
    params = RenderParams(colorspace="srgb", **given)
    wanted = clean_alpha(alpha, None, params)
    with pretended_mps():
        found = clean_alpha(alpha.to(MPS), None, params)
        image = found.alpha.cpu()
    assert torch.equal(image, wanted.alpha)
    assert found.notes == wanted.notes


def test_results_are_whole_when_they_have_been_delivered() -> None:
    """Only CUDA is waited for: a copy from another device must not go on behind the call."""
    out = {"alpha": np.zeros((4, 6, 1), np.float32)}
    with pretended_mps() as counts:
        targets = targets_for(out, MPS)
        targets["alpha"].copy_(raw_of(np.ones((4, 6, 1), np.float32), MPS))
        before = counts.waits
        deliver(targets, out)
        assert counts.waits == before + 1
    assert (out["alpha"] == 1).all()
