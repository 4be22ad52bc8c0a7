"""The clean-up behind a model against plain numpy, written here from the formulas."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mattebridge.engine import mask
from mattebridge.engine.clean_up import (
    Despill,
    clean_alpha,
    despill_of,
    despilled,
    passed_through,
)
from mattebridge.engine.engine import Engine
from mattebridge.errors import InputsError
from mattebridge.wire.params import DEFAULTS, RenderParams

OFF = RenderParams("srgb")
# Two sums of at most 31 x 31 float32 products in another order: 6e-8 measured.
ROUNDING = 2e-6
SIZES = ((1, 1), (1, 9), (7, 1), (13, 17))
GREEN = np.array([0.1, 0.8, 0.2], np.float32)


def random_mask(height: int, width: int, share: float = 0.2, seed: int = 1) -> Any:
    return np.random.default_rng(seed).random((height, width)) < share


def ellipse(radius: int) -> list[tuple[int, int]]:
    """The offsets of OpenCV's ellipse."""
    return [
        (dy, dx)
        for dy in range(-radius, radius + 1)
        for dx in range(-radius, radius + 1)
        if abs(dx) <= np.rint(np.sqrt(float(radius * radius - dy * dy)))
    ]


def plainly_dilated(given: Any, radius: int) -> Any:
    height, width = given.shape
    result = np.zeros_like(given)
    for y, x in zip(*np.nonzero(given)):
        for dy, dx in ellipse(radius):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                result[y + dy, x + dx] = True
    return result


def plainly_softened(given: Any, radius: int) -> Any:
    steps = np.arange(-radius, radius + 1)
    sigma = 0.3 * (radius - 1) + 0.8
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    padded = given.astype(np.float64)
    for axis in (0, 1):  # np.pad cannot mirror a single row
        few = [(0, 0), (0, 0)]
        few[axis] = (radius, radius)
        padded = np.pad(padded, few, mode="edge" if given.shape[axis] == 1 else "reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape)
    return (windows * kernel).sum((2, 3))


def plain_islands(given: Any) -> list[list[tuple[int, int]]]:
    """The 8-connected islands, each as its pixels."""
    left, found = set(zip(*map(list, np.nonzero(given)))), []
    while left:
        island, front = [], [left.pop()]
        while front:
            y, x = front.pop()
            island.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            front += near
        found.append(island)
    return found


def tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))


# ------------------------------------------------------------------------------------------ masks


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [0, 1, 2, 5, 25])
def test_a_mask_grows_and_shrinks_by_the_ellipse_of_opencv(size: tuple[int, int], radius: int):
    given = random_mask(*size, share=0.03)
    assert np.array_equal(mask.dilated(tensor(given), radius), plainly_dilated(given, radius))
    shrunk = ~plainly_dilated(~given, radius)
    assert np.array_equal(mask.eroded(tensor(given), radius), shrunk)


def test_the_ellipse_is_the_one_that_opencv_has():
    cv2 = pytest.importorskip("cv2")
    for radius in range(1, 40):
        side = 2 * radius + 1
        theirs = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) > 0
        point = torch.zeros(side, side, dtype=torch.bool)
        point[radius, radius] = True
        assert np.array_equal(mask.dilated(point, radius), theirs), radius


def test_a_full_mask_is_not_eaten_at_the_border_of_the_frame():
    assert mask.eroded(torch.ones(5, 9, dtype=torch.bool), 7).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("radius", [1, 3, 7, 15])
def test_a_soft_mask_is_a_mirrored_gaussian(size: tuple[int, int], radius: int):
    given = random_mask(*size)
    soft = mask.softened(tensor(given), radius).numpy()
    assert soft.dtype == np.float32
    assert np.abs(soft - plainly_softened(given, radius)).max() <= ROUNDING


def test_islands_are_counted_with_their_corners():
    given = np.zeros((8, 12), bool)
    given[0, 0] = given[1, 1] = given[2, 2] = True  # three, by corners
    given[5, 5:7] = True  # two
    kept, fewer = mask.islands(tensor(given), 3)
    assert fewer == 1
    assert np.array_equal(np.argwhere(kept.numpy()), [[0, 0], [1, 1], [2, 2]])


# ------------------------------------------------------------------------------------------ alpha


def soft_alpha(height: int = 40, width: int = 60) -> Any:
    """A solid subject with soft hair, a loose speck, and soft smoke far away."""
    alpha = np.zeros((height, width), np.float32)
    alpha[10:30, 10:30] = 1
    alpha[19:22, 30:44] = 0.3  # hair, connected
    alpha[3:5, 50:52] = 0.9  # a speck of 4 pixels
    alpha[34:38, 50:58] = 0.2  # smoke
    return alpha


def test_hint_sharpen_makes_alpha_zero_outside_of_the_larger_hint():
    alpha = np.random.default_rng(3).random((30, 40)).astype(np.float32)
    hint = np.zeros((30, 40), np.float32)
    hint[10:20, 10:20], hint[25, 35] = 0.5, 0.49
    params = replace(OFF, hint_sharpen=True, hint_sharpen_dilation=4)
    clean = clean_alpha(tensor(alpha), tensor(hint), params)
    wanted = alpha * plainly_dilated(hint >= 0.5, 4)
    assert np.array_equal(clean.alpha, wanted)
    assert clean.notes == {
        "hint_sharpen_removed": pytest.approx(alpha.sum() - wanted.sum(), abs=0.06)
    }
    soft = clean_alpha(tensor(alpha), tensor(hint), replace(params, hint_blur_px=3)).alpha
    wanted = alpha * plainly_softened(plainly_dilated(hint >= 0.5, 4), 3)
    assert np.abs(soft.numpy() - wanted).max() <= ROUNDING


@pytest.mark.parametrize("hysteresis", [False, True])
def test_despeckle_removes_small_islands_and_says_how_much(hysteresis: bool):
    alpha = soft_alpha()
    params = replace(
        OFF,
        auto_despeckle=True,
        despeckle_size=5,
        despeckle_dilation=6,
        despeckle_blur=2,
        despeckle_hysteresis=hysteresis,
    )
    cores = np.zeros(alpha.shape, bool)
    for island in plain_islands(alpha > 0.5):
        for pixel in island if len(island) >= 5 else ():
            cores[pixel] = True
    near = plainly_softened(plainly_dilated(cores, 6), 2)
    if hysteresis:
        for island in plain_islands(alpha > 0.02):
            if any(cores[pixel] for pixel in island):
                for pixel in island:
                    near[pixel] = 1
    clean = clean_alpha(tensor(alpha), None, params)
    assert np.abs(clean.alpha.numpy() - alpha * near).max() <= ROUNDING
    assert clean.notes["despeckle_islands"] == 1
    removed = float((alpha - alpha * near).sum())
    assert clean.notes["despeckle_removed"] == pytest.approx(removed, abs=0.06)
    hair = clean.alpha[19:22, 30:44].numpy()
    assert (hair == np.float32(0.3)).all() == hysteresis, "hair far from the core"
    assert not clean.alpha[3:5, 50:52].any()


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_or_full_alpha_stays_what_it_is(value: float):
    alpha = torch.full((9, 7), value)
    params = replace(
        OFF, auto_despeckle=True, despeckle_size=3, hint_sharpen=True, source_passthrough=True
    )
    clean = clean_alpha(alpha, torch.ones(9, 7), params)
    assert torch.allclose(clean.alpha, alpha, rtol=0, atol=ROUNDING)
    assert clean.inside is not None
    assert torch.allclose(clean.inside, alpha, rtol=0, atol=ROUNDING)


def test_a_size_of_zero_removes_nothing():
    alpha = tensor(soft_alpha())
    clean = clean_alpha(alpha, None, replace(OFF, auto_despeckle=True, despeckle_size=0))
    assert clean.alpha is alpha
    assert clean.notes == {}


def test_what_is_off_is_not_touched():
    alpha = tensor(soft_alpha())
    clean = clean_alpha(alpha, None, OFF)
    assert clean.alpha is alpha
    assert clean.inside is None
    assert clean.notes == {}
    assert despill_of(OFF, {"screen": "green"}, {}) is None


# ---------------------------------------------------------------------------------------- colours


def test_the_plate_passes_through_inside_with_its_highlights():
    alpha = soft_alpha()
    params = replace(OFF, source_passthrough=True, edge_erode_px=3, edge_blur_px=2)
    inside = clean_alpha(tensor(alpha), None, params).inside
    assert inside is not None
    wanted = plainly_softened(~plainly_dilated(~(alpha > 0.95), 3), 2)
    assert np.abs(inside.numpy() - wanted).max() <= ROUNDING
    rng = np.random.default_rng(4)
    colour = rng.random((*alpha.shape, 3)).astype(np.float32)
    plate = colour * 5
    mixed = passed_through(tensor(colour), tensor(plate), inside[..., None]).numpy()
    wanted = plate * wanted[..., None] + colour * (1 - wanted[..., None])
    assert np.abs(mixed - wanted).max() <= 5 * ROUNDING
    solid = inside.numpy() == 1
    assert np.array_equal(mixed[solid], plate[solid])


@pytest.mark.parametrize("screen", ["green", "blue"])
@pytest.mark.parametrize("method", ["average", "double_limit", "screen_only"])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_despill_takes_the_screen_out_of_the_colours(screen: str, method: str, strength: float):
    colour = (np.random.default_rng(5).random((9, 11, 3)) * 3 - 0.5).astype(np.float32)
    red, green, blue = (colour[..., channel].astype(np.float64) for channel in range(3))
    of_screen, other = (green, blue) if screen == "green" else (blue, green)
    limit = np.maximum(red, other) if method == "double_limit" else (red + other) / 2
    spill = np.maximum(of_screen - limit, 0)
    back = 0 if method == "screen_only" else spill / 2
    full = {"red": red + back, "screen": of_screen - spill, "other": other + back}
    order = ("red", "screen", "other") if screen == "green" else ("red", "other", "screen")
    full_strength = np.stack([full[name] for name in order], 2)
    wanted = colour + strength * (full_strength - colour)
    result = despilled(tensor(colour), Despill(strength, method, screen)).numpy()
    # Values up to 3.5 in float32: 1.4e-7 measured.
    assert np.abs(result - wanted).max() <= ROUNDING
    assert np.array_equal(result[spill == 0], colour[spill == 0])
    assert result.max() > 1, "nothing is clamped"


def test_the_screen_is_that_of_the_request_then_of_the_settings_then_what_the_model_found():
    asked = replace(OFF, despill_strength=1.0)

    def chosen(params: RenderParams, settings: Any, notes: Any) -> str:
        found = despill_of(params, settings, notes)
        assert found is not None
        return found.screen

    assert chosen(asked, {}, {}) == "green"
    assert chosen(asked, {"screen": "auto"}, {"screen": "blue"}) == "blue"
    assert chosen(asked, {"screen": "blue"}, {"screen": "green"}) == "blue"
    assert chosen(replace(asked, screen="green"), {"screen": "blue"}, {"screen": "blue"}) == "green"


# ------------------------------------------------------------------------------- through the engine


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def planes(hdr: float = 1.0) -> dict[str, Any]:
    """A grey subject with a green edge before a grey wall."""
    rng = np.random.default_rng(6)
    clean = (0.4 + 0.05 * rng.random((48, 64, 3))).astype(np.float32)
    plate = clean.copy()
    plate[12:36, 16:48] = GREEN
    plate[20:28, 24:40] = (0.9, 0.2, 0.3)
    plate[22:26, 30:34] *= hdr
    hint = np.zeros((48, 64, 1), np.float32)
    hint[14:34, 18:46] = 1
    return {"plate": plate, "clean_plate": clean, "alpha_hint": hint}


def matted(engine: Engine, given: dict[str, Any], **asked: Any) -> tuple[dict[str, Any], Any]:
    shape = given["plate"].shape[:2]
    counts = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    out = {role: np.empty((*shape, count), np.float32) for role, count in counts.items()}
    asked = {"colorspace": "srgb", "alignment": "off", **asked}
    report = engine.matte(given, RenderParams(**asked), model="difference", out=out)
    return out, report.notes


def test_with_all_of_it_off_the_pixels_are_what_they_were_whatever_its_values(engine: Engine):
    plain, notes = matted(engine, planes())
    values, _ = matted(
        engine, planes(), despeckle_size=1, edge_blur_px=30, spill_method="screen_only"
    )
    assert "clean_up" not in notes
    for role, pixels in plain.items():
        assert np.array_equal(pixels, values[role]), role


@pytest.mark.parametrize("space", ["linear", "srgb"])
def test_the_results_are_despilled_and_alpha_is_not(engine: Engine, space: str):
    plain, _ = matted(engine, planes(), output_colorspace="srgb", colorspace=space)
    less, _ = matted(
        engine,
        planes(),
        output_colorspace="srgb",
        colorspace=space,
        despill_strength=1.0,
        screen="green",
    )
    assert np.array_equal(plain["alpha"], less["alpha"])
    wanted = despilled(tensor(plain["foreground"]), Despill(1.0, "average", "green")).numpy()
    assert np.array_equal(less["foreground"], wanted)
    assert not np.array_equal(less["foreground"], plain["foreground"])


def test_a_linear_result_keeps_the_bits_of_colours_without_spill(engine: Engine):
    plain, _ = matted(engine, planes(), colorspace="linear", foreground="plate")
    less, _ = matted(
        engine, planes(), colorspace="linear", foreground="plate", despill_strength=0.5
    )
    red = (slice(20, 28), slice(24, 40))
    assert np.array_equal(plain["foreground"][red], less["foreground"][red])
    green = less["foreground"][13, 20]
    assert green[1] < plain["foreground"][13, 20, 1]


def test_highlights_of_the_plate_are_in_the_foreground_with_passthrough(engine: Engine):
    given = planes(hdr=20.0)
    out, _ = matted(
        engine, given, colorspace="linear", source_passthrough=True, edge_erode_px=1, edge_blur_px=1
    )
    lamp = (slice(22, 26), slice(30, 34))
    # The curve there and back, relative: 2e-6 at most (light.py).
    assert np.allclose(out["foreground"][lamp], given["plate"][lamp], rtol=1e-5)


def test_the_core_matte_decides_behind_the_clean_up(engine: Engine):
    given = planes()
    given["alpha_hint"] = np.zeros((48, 64, 1), np.float32)
    given["core_matte"] = np.zeros((48, 64, 1), np.float32)
    given["core_matte"][20:28, 24:40] = 1
    out, notes = matted(engine, given, hint_sharpen=True)
    assert out["alpha"].sum() == given["core_matte"].sum()
    assert notes["clean_up"]["hint_sharpen_removed"] > 500
    assert "ignored" not in notes


def test_hint_sharpen_without_a_hint_is_refused(engine: Engine):
    given = planes()
    del given["alpha_hint"]
    with pytest.raises(InputsError, match="hint_sharpen needs an alpha hint of 64x48"):
        matted(engine, given, hint_sharpen=True)


def test_the_defaults_switch_nothing_on():
    switches = ("hint_sharpen", "source_passthrough", "auto_despeckle", "despill_strength")
    assert not any(DEFAULTS[name] for name in switches)
