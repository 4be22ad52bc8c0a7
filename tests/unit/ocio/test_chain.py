"""Spaces as chains of steps, held against what OpenColorIO itself computes."""

import sys

import numpy as np
import pytest

from fakes import cube_config
from fakes.colour import studio_spaces
from mattebridge.ocio import chain
from mattebridge.ocio.chain import Cube, Log, Mix, NoChain, Tables
from mattebridge.ocio.config import Config
from mattebridge.ocio.space import Curve, Spaces


@pytest.fixture(scope="module")
def cubes(tmp_path_factory):
    return Spaces(Config(cube_config.cube_config(tmp_path_factory.mktemp("config"))))


def colours(low, high, count=4000):
    values = np.random.default_rng(11).uniform(low, high, (count, 3)).astype(np.float32)
    values[::2] *= np.float32(0.02)
    return values


def kinds(steps):
    return [type(step) for step in steps]


@pytest.mark.parametrize(
    ("name", "to_light"),
    [
        ("ADX10", [Mix, Tables, Mix]),
        ("ADX16", [Mix, Tables, Mix]),
        # With the cut of ACES2065-1 at 0 between two matrices.
        ("ACEScc", [Tables, Mix, Tables, Mix]),
    ],
)
def test_what_has_no_single_curve_is_a_chain(name, to_light):
    space = studio_spaces().of(name)
    assert space.curve is Curve.CHAIN
    assert kinds(space.chain.to_light) == to_light
    assert kinds(space.chain.to_code) == to_light[::-1]
    assert not space.chain.has_cube


@pytest.mark.slow
@pytest.mark.parametrize("name", [cube_config.LINEAR, cube_config.TETRAHEDRAL])
def test_a_cube_has_the_grid_and_interpolation_of_the_config(cubes, name):
    space = cubes.of(name)
    assert space.curve is Curve.CHAIN
    assert space.scene
    assert kinds(space.chain.to_light) == [Cube, Log]
    # OpenColorIO's inverse of a cube is a cube.
    assert kinds(space.chain.to_code) == [Log, Cube]
    cube = space.chain.to_light[0]
    assert cube.nodes.shape == (33, 33, 33, 3)
    assert cube.tetrahedral == (name == cube_config.TETRAHEDRAL)
    # Red changes fastest in the file.
    assert np.abs(cube.nodes[32, 0, 0] - [0.9, 0.02 * np.sin(3), 0.06]).max() < 1e-6
    codes = colours(-0.1, 1.1)
    expected = cubes.config.light_of(codes, name, exact=True)
    largest = np.abs(expected).max(1, keepdims=True)
    found = chain.through(space.chain.to_light, codes)
    assert (np.abs(found - expected) <= 2e-5 * (largest + 1e-2)).all()
    light = colours(-0.5, 64)
    expected = cubes.config.of_light(light, name)
    assert np.abs(chain.through(space.chain.to_code, light) - expected).max() < 2e-5


def test_what_is_neither_curve_nor_table_stays_with_opencolorio_and_says_why(cubes, caplog):
    space = cubes.of(cube_config.TONE)
    assert space.curve is Curve.WHOLE
    assert "FixedFunctionTransform" in space.reason
    assert f"'{cube_config.TONE}' is converted by OpenColorIO in main memory" in caplog.text


def test_without_opencolorio_a_cube_stays_with_that_of_openimageio(cubes, monkeypatch):
    monkeypatch.setitem(sys.modules, "PyOpenColorIO", None)
    space = Spaces(cubes.config).of(cube_config.LINEAR)
    assert (space.curve, space.reason) == (
        Curve.WHOLE,
        "the package opencolorio is not installed",
    )


def test_a_chain_that_is_off_is_not_used(cubes, monkeypatch):
    right = chain.read

    def off(*given):
        found = right(*given)
        wrong = Mix(np.diag([1, 1, 1.001]), np.zeros(3))
        return chain.Chain((*found.to_light, wrong), found.to_code)

    monkeypatch.setattr(chain, "read", off)
    space = Spaces(cubes.config).of(cube_config.LINEAR)
    assert space.curve is Curve.WHOLE
    assert "off by 1e-03 of OpenColorIO's own result" in space.reason


def test_a_config_that_opencolorio_cannot_load_gives_no_chain(tmp_path):
    with pytest.raises(NoChain, match="cannot load"):
        chain.read(str(tmp_path / "none.ocio"), "a", "b", None)
    with pytest.raises(NoChain, match="cannot convert"):
        chain.read("ocio://studio-config-latest", "a", "b", None)
