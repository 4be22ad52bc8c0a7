"""Colour spaces on tensors, held against OpenColorIO's own result on the CPU."""

import numpy as np
import pytest
import torch

from fakes.colour import studio_spaces
from mattebridge.engine.space import code_of, in_rec709, light_of, of_rec709
from mattebridge.ocio.space import Curve

LOGC = "ARRI LogC3 (EI800)"
HLG = "Rec.2100-HLG - Display"
NAMES = ["ACEScg", LOGC, "ARRI LogC4", "S-Log3 S-Gamut3.Cine", "sRGB Encoded P3-D65"]
NAMES += ["Rec.2100-PQ - Display", HLG]


@pytest.fixture(scope="module")
def spaces():
    return studio_spaces()


def colours(low, high, seed=4, count=20_000):
    values = np.random.default_rng(seed).uniform(low, high, (count, 3)).astype(np.float32)
    values[: count // 2] *= np.float32(0.02)  # as many dark ones
    return values


def to_light(space, codes):
    return in_rec709(light_of(torch.from_numpy(codes), space), space)


def to_codes(space, light):
    return code_of(of_rec709(light, space), space)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_light_is_what_opencolorio_does(spaces, name):
    space = spaces.of(name)
    # Displays hold no light below 0, where each program has its own continuation.
    low = 0 if "Display" in name else -0.5
    light = in_rec709(torch.from_numpy(colours(low, 64)), space).numpy()
    expected = space.config.of_light(light, space.name)
    found = to_codes(space, torch.from_numpy(light)).numpy()
    assert np.isfinite(found).all()
    # OpenColorIO's own quick powers are off by up to 7.8e-5 at 64; ours are its exact ones.
    error = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    # PQ is nearly upright at black: there the rounding of a channel beside a bright one counts.
    of_found, of_expected = (light_of(torch.from_numpy(each), space) for each in (found, expected))
    largest = of_expected.abs().amax(1, keepdim=True)
    same_light = ((of_found - of_expected).abs() <= 1e-6 * largest).numpy()
    assert ((error <= 1e-4) | same_light).all()


@pytest.mark.parametrize("name", NAMES)
def test_decoding_is_what_opencolorio_does(spaces, name):
    space = spaces.of(name)
    codes = colours(-0.5, 64) if space.curve is Curve.NONE else colours(-0.1, 1)
    expected = space.config.light_of(codes, space.name)
    found = to_light(space, codes).numpy()
    assert np.isfinite(found).all()
    # Relative to the largest channel, by which a matrix mixes.
    largest = np.abs(expected).max(1, keepdims=True)
    assert (np.abs(found - expected) <= 1e-4 * (largest + 0.01)).all()


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_there_and_back_is_the_same(spaces, name):
    space = spaces.of(name)
    codes = colours(-0.5, 64) if space.curve is Curve.NONE else colours(0.0, 1.0)
    back = to_codes(space, to_light(space, codes))
    # In light, and of the largest channel, since it is light that is mixed by two matrices.
    light = light_of(torch.from_numpy(codes), space).numpy()
    largest = np.abs(light).max(1, keepdims=True)
    # Measured up to 7e-7: the rounding of float32, which a log turns into more of light.
    error = np.abs(light_of(back, space).numpy() - light) / (largest + 1e-3)
    assert error.max() <= 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_no_value_becomes_nan(spaces, name):
    space = spaces.of(name)
    extreme = np.float32([0, 1e-38, 1e30, 3e38, -3e38, -1e-3, -64, 65504])
    grid = np.stack(np.meshgrid(extreme, extreme, extreme), -1).reshape(-1, 3)
    assert torch.isfinite(to_light(space, grid)).all()
    assert torch.isfinite(to_codes(space, torch.from_numpy(grid))).all()


@pytest.mark.parametrize("name", ["ACEScg", LOGC, HLG])
def test_a_pixel_has_the_same_bits_wherever_it_lies(spaces, name):
    space = spaces.of(name)
    codes = colours(-0.1, 1.0, count=517)
    whole = to_light(space, codes)
    for first, last in ((0, 1), (3, 516), (516, 517), (450, 515), (7, 71)):
        assert torch.equal(to_light(space, codes[first:last]), whole[first:last])
        part = to_codes(space, whole[first:last].clone())
        assert torch.equal(part, to_codes(space, whole)[first:last])
