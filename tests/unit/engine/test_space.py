"""Colour spaces on tensors, held against OpenColorIO's own result on the CPU."""

import functools

import numpy as np
import pytest
import torch

from fakes import cube_config
from fakes.colour import studio_spaces
from mattebridge.engine import space as on_tensors
from mattebridge.engine.space import code_of, in_rec709, light_of, of_rec709
from mattebridge.ocio import chain
from mattebridge.ocio.chain import Cube, Mix
from mattebridge.ocio.config import Config
from mattebridge.ocio.space import Curve, Spaces

LOGC = "ARRI LogC3 (EI800)"
HLG = "Rec.2100-HLG - Display"
NAMES = ["ACEScg", LOGC, "ARRI LogC4", "S-Log3 S-Gamut3.Cine", "sRGB Encoded P3-D65"]
NAMES += ["Rec.2100-PQ - Display", HLG]


@pytest.fixture(scope="module")
def spaces():
    return studio_spaces()


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    return Spaces(Config(cube_config.cube_config(tmp_path_factory.mktemp("config"))))


LOOKS = [cube_config.LINEAR, cube_config.TETRAHEDRAL]


def colours(low, high, seed=4, count=20_000):
    values = np.random.default_rng(seed).uniform(low, high, (count, 3)).astype(np.float32)
    values[: count // 2] *= np.float32(0.02)  # as many dark ones
    return values


def to_light(space, codes):
    """Rec. 709 light as OpenColorIO has it, for which white is not always 1."""
    codes = torch.from_numpy(codes) if isinstance(codes, np.ndarray) else codes
    return in_rec709(light_of(codes, space), space) * space.white


def to_codes(space, light):
    return code_of(of_rec709(light / space.white, space), space)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_light_is_what_opencolorio_does(spaces, name):
    space = spaces.of(name)
    # Displays hold no light below 0, where each program has its own continuation.
    low = 0 if "Display" in name else -0.5
    light = (in_rec709(torch.from_numpy(colours(low, 64)), space) * space.white).numpy()
    expected = space.config.of_light(light, space.name)
    found = to_codes(space, torch.from_numpy(light)).numpy()
    assert np.isfinite(found).all()
    # OpenColorIO's own quick powers are off by up to 7.8e-5 at 64; ours are its exact ones.
    error = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    assert ((error <= 1e-4) | is_same_light(space, torch.from_numpy(found), expected)).all()


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


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ACEScg", LOGC, HLG, "ADX10", *LOOKS])
def test_a_pixel_has_the_same_bits_wherever_it_lies(spaces, cubes, name):
    space = (cubes if name in LOOKS else spaces).of(name)
    codes = colours(-0.1, 1.0, count=517)
    whole = to_light(space, codes)
    for first, last in ((0, 1), (3, 516), (516, 517), (450, 515), (7, 71)):
        assert torch.equal(to_light(space, codes[first:last]), whole[first:last])
        part = to_codes(space, whole[first:last].clone())
        assert torch.equal(part, to_codes(space, whole)[first:last])


@pytest.mark.parametrize("name", LOOKS)
def test_a_cube_on_tensors_is_that_of_opencolorio(cubes, name):
    space = cubes.of(name)
    device = torch.device("cpu")
    for steps in (space.chain.to_light, space.chain.to_code):
        cube = next(step for step in steps if isinstance(step, Cube))
        extreme = np.float32([[0, 1, 0.5], [1, 1, 1], [-3, 7, 1e30], [0.25, 0.25, 0.25]])
        sent = np.concatenate([extreme, colours(-0.2, 1.2), np.eye(3, dtype=np.float32)])
        found = torch.empty(len(sent), 3)
        on_tensors.cube_on_device(cube, device)(torch.from_numpy(sent), found)
        # Measured 1e-6: both take products and sums of eight, or four, values in float32.
        assert np.abs(found.numpy() - cube(sent)).max() < 1e-5
        in_place = torch.from_numpy(sent.copy())
        on_tensors.cube_on_device(cube, device)(in_place, in_place)
        assert torch.equal(in_place, found)


def test_a_matrix_with_an_offset_is_the_same_in_either_way():
    mix = Mix(np.random.default_rng(3).uniform(-1, 1, (3, 3)), np.array([0.1, -0.2, 3]))
    sent = colours(-0.5, 64, count=999)
    on_device, in_place = torch.empty(999, 3), torch.from_numpy(sent.copy())
    on_tensors.mix_on_device(torch.from_numpy(sent), on_device, mix)
    in_memory = on_tensors.mixed(torch.from_numpy(sent), mix)
    on_tensors.mix_on_device(in_place, in_place, mix)
    assert torch.equal(in_place, on_device)
    assert np.abs(in_memory.numpy() - mix(sent)).max() < 5e-5
    assert np.abs(on_device.numpy() - mix(sent)).max() < 5e-5


@pytest.mark.parametrize("name", [*LOOKS, "ADX10", "ACEScc"])
def test_a_chain_on_tensors_is_that_of_its_steps(spaces, cubes, name):
    space = (cubes if name in LOOKS else spaces).of(name)
    codes = colours(-0.1, 1.1, count=1005).reshape(15, 67, 3)
    sent = codes.copy()
    found = light_of(torch.from_numpy(codes), space)
    assert np.array_equal(codes, sent)
    expected = chain.through(space.chain.to_light, codes.reshape(-1, 3)).reshape(codes.shape)
    largest = np.abs(expected).max(-1, keepdims=True)
    assert (np.abs(found.numpy() - expected) <= 2e-6 * largest + 1e-7).all()
    light = colours(-0.5, 64, count=1005).reshape(15, 67, 3)
    back = chain.through(space.chain.to_code, light.reshape(-1, 3)).reshape(light.shape)
    assert np.abs(code_of(torch.from_numpy(light), space).numpy() - back).max() < 2e-6
    for pixels in (np.float32([[[0, 1e-38, 3e38]], [[-3e38, 64, -1e-3]]]),):
        assert torch.isfinite(light_of(torch.from_numpy(pixels), space)).all()
        assert torch.isfinite(code_of(torch.from_numpy(pixels), space)).all()


# Which way every space of the built-in configs takes, where it is not simply linear.
WAYS = {
    Curve.LOG: {
        "ACEScct", "ARRI LogC3 (EI800)", "ARRI LogC4", "BMDFilm WideGamut Gen5",
        "DaVinci Intermediate WideGamut", "D-Log D-Gamut", "V-Log V-Gamut",
        "Log3G10 REDWideGamutRGB", "S-Log3 S-Gamut3", "S-Log3 S-Gamut3.Cine",
        "S-Log3 Venice S-Gamut3", "S-Log3 Venice S-Gamut3.Cine",
    },
    Curve.TABLE: {
        "sRGB - Display", "Gamma 2.2 Rec.709 - Display", "Display P3 - Display",
        "Display P3 HDR - Display", "P3-D65 - Display", "Rec.1886 Rec.709 - Display",
        "Rec.2100-HLG - Display", "Rec.2100-PQ - Display", "ST2084-P3-D65 - Display",
        "Apple Log", "CanonLog2 CinemaGamut D55", "CanonLog3 CinemaGamut D55",
        "sRGB Encoded Rec.709 (sRGB)", "Gamma 1.8 Encoded Rec.709", "Gamma 2.2 Encoded Rec.709",
        "Gamma 2.4 Encoded Rec.709", "Camera Rec.709", "sRGB Encoded P3-D65",
        "Gamma 2.2 Encoded AdobeRGB", "sRGB Encoded AP1", "Gamma 2.2 Encoded AP1",
    },
    Curve.CHAIN: {"ACEScc", "ADX10", "ADX16"},
}  # fmt: skip
HDR = ("PQ", "HLG", "ST2084")
BUILT_IN = ["ocio://studio-config-latest", "ocio://cg-config-latest"]


@functools.lru_cache(maxsize=2)
def spaces_of(where):
    return studio_spaces() if where == BUILT_IN[0] else Spaces(Config(where))


def every_space():
    configs = ((where, spaces_of(where).config) for where in BUILT_IN)
    return [(where, space.name) for where, config in configs for space in config.spaces]


@pytest.mark.slow
@pytest.mark.parametrize(("where", "name"), every_space())
def test_every_space_of_the_built_in_configs_is_computed_on_the_device(where, name):
    space = spaces_of(where).of(name)
    expected = next((way for way, names in WAYS.items() if name in names), Curve.NONE)
    assert space.curve is expected
    config, is_linear = space.config, space.curve is Curve.NONE
    # 203 cd/m2 in units of 100.
    assert abs(space.white - (2.03 if any(word in name for word in HDR) else 1)) < 2e-3
    for values in (colours(-0.5, 64, 7, 2000), np.float32([[0, 1e-38, 3e38], [-3e38, -0.5, 64]])):
        assert np.isfinite(to_light(space, values).numpy()).all()
        assert np.isfinite(to_codes(space, torch.from_numpy(values)).numpy()).all()
    # To light. Measured: at most 2.6e-5 of the largest channel, of the tables.
    codes = colours(-0.5, 64, count=2000) if is_linear else colours(-0.1, 1.1, count=2000)
    light = to_light(space, codes).numpy()
    by_config = config.light_of(codes, name, exact=True)
    largest = np.abs(by_config).max(1, keepdims=True)
    assert (np.abs(light - by_config) <= 1e-4 * (largest + 0.01)).all()
    # And back, of light from -0.5 to 64; measured at most 9e-5.
    low = 0 if "Display" in name else -0.5
    asked = in_rec709(torch.from_numpy(colours(low, 64, count=2000)), space) * space.white
    by_config = config.of_light(asked.numpy(), name, exact=True)
    found = to_codes(space, asked)
    off = np.abs(found.numpy() - by_config) / np.maximum(1, np.abs(by_config))
    assert (is_same_light(space, found, by_config) | (off <= 1e-4)).all()
    # There and back, above the lowest code values, where the curves of some cameras end.
    codes = colours(-0.5, 64, 5, 2000) if is_linear else np.maximum(colours(0, 1, 5, 2000), 1e-3)
    if name == "ACEScc":
        # It has no colours that are negative in ACES2065-1, as saturated ones are.
        codes = codes.mean(1, keepdims=True) * np.float32(0.9) + codes * np.float32(0.1)
    light = to_light(space, codes)
    error = (to_light(space, to_codes(space, light)) - light).abs()
    assert (error / (light.abs().amax(1, keepdim=True) + 1e-3)).max() <= 1e-5


def is_same_light(space, found, expected):
    """Whether code values are the same light: PQ is nearly upright at black."""
    light, wanted = (light_of(each, space) for each in (found, torch.from_numpy(expected)))
    return ((light - wanted).abs() <= 1e-6 * wanted.abs().amax(1, keepdim=True)).numpy()
