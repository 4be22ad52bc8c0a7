"""The frame as the network's square, and back: held against torch and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from mattebridge.color import HALF_MAX, srgb_decode, srgb_encode
from mattebridge.models.greenformer.fit import (
    Fit,
    decoded,
    encoded,
    sharpened,
    to_size,
)

PLAIN = {"image_upsample_mode": "bilinear", "sharpen_strength": 0.0}


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", [(60, 90), (37, 41), (64, 200), (200, 50), (65, 63), (64, 64)])
def test_bilinear_is_that_of_torch_antialiased_where_it_shrinks(size: tuple[int, int]) -> None:
    image = noise(1, 3, 64, 64)
    wanted = functional.interpolate(image, size, mode="bilinear", antialias=True)
    # torch computes the places in float32: measured 5e-5.
    assert (to_size(image, size, "bilinear") - wanted).abs().max() <= 2e-4


@pytest.mark.parametrize("size", [(108, 192), (65, 200), (64, 65)])
@pytest.mark.parametrize(
    ("kernel", "flag"), [("lanczos4", cv2.INTER_LANCZOS4), ("bicubic", cv2.INTER_CUBIC)]
)
def test_kernels_that_enlarge_are_those_of_opencv(size, kernel: str, flag: int) -> None:
    image = noise(1, 4, 64, 64)
    picture = image[0].permute(1, 2, 0).contiguous().numpy()
    wanted = cv2.resize(picture, size[::-1], interpolation=flag)
    made = to_size(image, size, kernel)[0].permute(1, 2, 0).numpy()
    # OpenCV's coefficients are float32: measured 4e-5.
    assert np.abs(made - wanted).max() <= 1e-4


def test_each_axis_takes_the_way_that_it_needs() -> None:
    image = noise(1, 1, 64, 64)
    both = to_size(to_size(image, (30, 64), "bilinear"), (30, 90), "lanczos4")
    assert torch.equal(to_size(image, (30, 90), "lanczos4"), both)


def test_the_curves_are_those_of_the_engine_and_the_identity_above_1() -> None:
    values = np.linspace(0, 20, 2001, dtype=np.float32)
    tensor = torch.from_numpy(values)
    np.testing.assert_allclose(encoded(tensor).numpy(), srgb_encode(values), atol=1e-5)
    np.testing.assert_allclose(decoded(tensor).numpy(), srgb_decode(values), rtol=1e-5)
    np.testing.assert_allclose(decoded(encoded(tensor)).numpy(), values, rtol=1e-5, atol=1e-6)


def test_a_linear_plate_is_resized_in_light_and_then_encoded() -> None:
    light = noise(1, 3, 100, 80) * 3
    fit = Fit.of((100, 80), 64, "stretch")
    made = fit.plate(encoded(light), linear=True, settings=PLAIN)
    assert (made - encoded(to_size(light, (64, 64), "bilinear"))).abs().max() <= 1e-5
    display = fit.plate(encoded(light), linear=False, settings=PLAIN)
    assert (display - to_size(encoded(light), (64, 64), "bilinear")).abs().max() <= 1e-5
    assert (made - display).abs().max() > 0.01
    assert made.max() > 1  # not cut


@pytest.mark.parametrize("linear", [True, False])
def test_light_beyond_half_is_cut_there_so_that_nothing_overflows(linear: bool) -> None:
    plate = torch.full((1, 3, 40, 40), 3e37)
    made = Fit.of((40, 40), 64, "stretch").plate(plate, linear=linear, settings=PLAIN)
    assert torch.isfinite(made).all()
    assert made.max() == pytest.approx(float(encoded(torch.tensor(HALF_MAX))), rel=1e-4)


@pytest.mark.parametrize(("height", "width"), [(40, 120), (120, 41), (64, 64), (63, 65)])
def test_a_letterbox_keeps_the_aspect_and_comes_back_to_its_place(height: int, width: int) -> None:
    plate = noise(1, 3, height, width)
    fit = Fit.of((height, width), 64, "letterbox")
    inner = fit.inner
    assert max(inner) == 64
    assert abs(inner[0] / inner[1] - height / width) <= 0.03 * height / width
    made = fit.plate(plate, linear=False, settings=PLAIN)
    assert made.shape == (1, 3, 64, 64)
    seen = made[:, :, fit.rows, fit.columns]
    assert torch.equal(seen, to_size(plate, inner, "bilinear").clamp(min=0))
    # Its edge is repeated around the plate; around the hint there is nothing.
    assert torch.equal(made[:, :, 0, fit.columns.start], seen[:, :, 0, 0])
    hint = fit.hint(torch.ones(1, 1, height, width))
    assert float(hint.sum()) == pytest.approx(inner[0] * inner[1])
    assert fit.back(made, "bilinear").shape == plate.shape
    assert (
        fit.back(made, "bilinear") - to_size(seen, (height, width), "bilinear")
    ).abs().max() == 0


def test_results_stay_within_0_and_1_where_lanczos_overshoots() -> None:
    step = torch.zeros(1, 1, 64, 64)
    step[..., 32:] = 1
    assert to_size(step, (200, 200), "lanczos4").max() > 1.01
    made = Fit.of((200, 200), 64, "stretch").back(step, "lanczos4")
    assert (float(made.min()), float(made.max())) == (0.0, 1.0)


def test_only_an_enlarged_plate_is_sharpened() -> None:
    wants = {"image_upsample_mode": "bicubic", "sharpen_strength": 0.5}
    small, large = noise(1, 3, 40, 40), noise(1, 3, 100, 40)
    fit = Fit.of((40, 40), 64, "stretch")
    wanted = sharpened(to_size(small, (64, 64), "bicubic").clamp(min=0), 0.5)
    assert torch.equal(fit.plate(small, linear=False, settings=wants), wanted)
    fit = Fit.of((100, 40), 64, "stretch")
    assert not fit.grows
    plain = to_size(large, (64, 64), "bicubic").clamp(min=0)
    assert torch.equal(fit.plate(large, linear=False, settings=wants), plain)
    flat = torch.full((1, 3, 20, 20), 0.3)
    assert torch.allclose(sharpened(flat, 1.0), flat)
