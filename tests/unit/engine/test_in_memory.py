"""The kernels of main memory: the same bits however pixels are divided, and what they compute."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from fakes import cube_config
from fakes.colour import studio_spaces
from mattebridge.color import srgb_decode, srgb_encode
from mattebridge.engine import in_memory
from mattebridge.engine.space import _kernels
from mattebridge.ocio import hlg_curve, table
from mattebridge.ocio.config import Config
from mattebridge.ocio.hlg_curve import HlgCurve
from mattebridge.ocio.space import ColorSpace, Spaces

LOGC, HLG, PQ = "ARRI LogC3 (EI800)", "Rec.2100-HLG - Display", "Rec.2100-PQ - Display"
LOOKS = [cube_config.LINEAR, cube_config.TETRAHEDRAL]


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Spaces:
    return Spaces(Config(cube_config.cube_config(tmp_path_factory.mktemp("config"))))


def space_of(name: str, cubes: Spaces) -> ColorSpace:
    return (cubes if name in LOOKS else studio_spaces()).of(name)


def pixels(count: int = 30_011) -> np.ndarray:
    return np.random.default_rng(5).uniform(-0.1, 1.0, (count, 3)).astype(np.float32)


@pytest.mark.parametrize("name", [LOGC, HLG, PQ, *LOOKS])
def test_threads_and_pieces_change_no_bits(
    monkeypatch: pytest.MonkeyPatch, cubes: Spaces, name: str
) -> None:
    space, codes = space_of(name, cubes), pixels()
    ways = [[*_kernels(space, True), in_memory.encode], [in_memory.decode, *_kernels(space, False)]]
    if space.to_rec709 is not None:
        ways[0].insert(-1, in_memory.mixing(space.to_rec709))
    for kernels in ways:
        found = []
        for threads, piece in ((1, 10**9), (1, 640), (3, 24_576), (2, 1_024), (7, 6_400)):
            monkeypatch.setattr(in_memory.torch, "get_num_threads", lambda n=threads: n)
            monkeypatch.setattr(in_memory, "_PIECE_PIXELS", piece)
            target = np.empty_like(codes)
            in_memory.run(kernels, codes, target)
            found.append(target)
            in_place = codes.copy()
            in_memory.run(kernels, in_place, in_place)
            found.append(in_place)
        assert all(np.array_equal(found[0], other) for other in found[1:])
        assert np.isfinite(found[0]).all()


def test_what_is_shown_is_encoded_with_the_range_of_its_light(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_memory.torch, "get_num_threads", lambda: 3)
    light = pixels()
    target = np.empty_like(light)
    assert in_memory.show([], light, target, looks=True) == (light.min(), light.max())
    assert np.abs(target - np.maximum(srgb_encode(light), 0)).max() < 1e-6
    assert in_memory.show([], light, light, looks=False) == (0, 0)
    assert np.array_equal(light, target)


def test_display_values_become_light_and_black_stays_black() -> None:
    display = np.concatenate([pixels() * np.float32(3), np.zeros((7, 3), np.float32)])
    found = np.empty_like(display)
    in_memory.run([in_memory.decode], display, found)
    # Measured 1e-6 of the value: the rounding of a logarithm, times 2.4.
    assert (np.abs(found - srgb_decode(display)) <= 4e-6 * np.maximum(found, 1)).all()
    assert not found[-7:].any()


@pytest.mark.parametrize("function", ["exp", "log"])
def test_logarithms_and_powers_of_opencv_are_those_of_float32(function: str) -> None:
    values = np.random.default_rng(2).uniform(-60, 60, 50_000)
    values = np.float32(values if function == "exp" else np.exp(values))
    found = np.empty_like(values)
    getattr(cv2, function)(values, found)
    expected = getattr(np, function)(values.astype(np.float64))
    # Measured 1.3e-7, half a step of a float; another processor's table may be off by a few steps.
    error = np.abs(found - expected) / np.maximum(np.abs(expected), 1e-30)
    assert error[np.abs(expected) > 1e-3].max() < 1e-6 if function == "log" else error.max() < 1e-6


def test_hlg_is_known_by_its_tables_and_no_other_curve_is() -> None:
    spaces = studio_spaces()
    space = spaces.of(HLG)
    assert space.hlg is not None
    assert space.hlg.gain == pytest.approx(6.8129, rel=1e-4)
    for name in (PQ, "Camera Rec.709", "Gamma 2.4 Encoded Rec.709"):
        assert spaces.of(name).hlg is None
    nodes = table.nodes()
    odd = table.usable(HlgCurve(6.8).decoded(nodes) * (1 + 1e-3 * np.sin(nodes)))
    assert hlg_curve.fitted(odd, table.usable(nodes)) is None


def test_hlg_in_closed_form_is_the_table_of_the_config() -> None:
    space = studio_spaces().of(HLG)
    assert space.decode is not None
    assert space.encode is not None
    codes = np.concatenate([pixels(), -pixels(), np.zeros((3, 3), np.float32)])
    light, back = np.empty_like(codes), np.empty_like(codes)
    curve: Any = space.hlg
    in_memory.run([in_memory.of_hlg(curve)], codes, light)
    by_table = table.through(space.decode, codes.ravel()).reshape(-1, 3)
    # The table's own lines between nodes; near black the config's arithmetic.
    assert (np.abs(light - by_table) <= 2e-5 * np.abs(by_table) + 5e-7).all()
    in_memory.run([in_memory.to_hlg(curve)], light, back)
    assert np.abs(back - codes).max() < 2e-6
    assert not light[-3:].any()
    assert not back[-3:].any()


def test_a_product_is_black_where_nothing_is_covered() -> None:
    colour = pixels(60).reshape(4, 15, 3)
    alpha = np.tile(np.float32([0, 0.5, 1]), (4, 5))
    black = np.full((4, 15, 3), 0.09, np.float32)
    found = in_memory.where_covered(colour, alpha, black)
    assert np.array_equal(found, np.where(alpha[..., None] > 0, colour, black))
    assert (black == np.float32(0.09)).all()
    assert np.array_equal(in_memory.times(colour, alpha), colour * alpha[..., None])
