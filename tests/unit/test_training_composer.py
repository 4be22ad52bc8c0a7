"""The composer of training shots: the same numbers give the same pixels, and the truth is true."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache

import numpy as np
import pytest
import torch
from training.compose import camera, codec, light
from training.compose.dice import Dice
from training.compose.front_end import exposure_matched
from training.compose.shots import Shots, composed
from training.farm import LayerFarm
from training.layers import LayerPair, draw_pair
from training.pool import LayerPool

from fakes.training_package import ROOT

SIDE = 96
PAIRS = 10

FARM = """
import zlib
from training.farm import LayerFarm
if __name__ == "__main__":
    with LayerFarm(3, 20, workers=2, side=48) as farm:
        for _ in range(5):
            pair = farm.next()
            print(zlib.crc32(pair.subject.tobytes()), zlib.crc32(pair.background.tobytes()))
"""


@lru_cache(maxsize=1)
def pool() -> LayerPool:
    made = LayerPool(PAIRS, side=SIDE)
    with LayerFarm(1, side=SIDE) as farm:
        made.refill(farm, 0, PAIRS)
    return made


@lru_cache(maxsize=4)
def shots(step: int = 0, *, crop: int = 64) -> Shots:
    return composed(pool(), 5, step, count=6, canvas=64, crop=crop)


def test_a_layer_pair_follows_from_seed_and_number_alone() -> None:
    first, again, other = (draw_pair(7, number, 64) for number in (3, 3, 4))
    assert np.array_equal(first.subject, again.subject)
    assert np.array_equal(first.background, again.background)
    assert not np.array_equal(first.background, other.background)


def test_layers_are_bytes_of_the_size_asked_for() -> None:
    pair = draw_pair(7, 1, 80)
    assert pair.subject.shape == (80, 80, 4)
    assert pair.background.shape == (80, 80, 3)
    assert pair.subject.dtype == pair.background.dtype == np.uint8


def test_processes_draw_the_same_pairs_in_the_same_order_as_none(tmp_path: object) -> None:
    script = f"{tmp_path}/draw.py"
    with open(script, "w", encoding="utf-8") as file:
        file.write(FARM)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    import zlib

    expected = [draw_pair(3, number, 48) for number in range(20, 25)]
    lines = [
        f"{zlib.crc32(p.subject.tobytes())} {zlib.crc32(p.background.tobytes())}" for p in expected
    ]
    assert done.stdout.split("\n")[:5] == lines


def test_the_pool_holds_the_newest_pairs_and_chooses_among_them_only() -> None:
    held = LayerPool(3, side=8)

    class Farm:
        number = 0

        def next(self, *, wait: bool = True) -> LayerPair:
            value = self.number
            self.number += 1
            full = np.full((8, 8, 4), value, np.uint8)
            return LayerPair(full, full[..., :3], False)

    farm = Farm()
    held.refill(farm, 0, 2)  # type: ignore[arg-type]
    chosen = held.choose(np.random.default_rng(0), 64).subject[:, 0, 0, 0]
    assert set(chosen.tolist()) == {0, 1}
    for _ in range(3):
        held.take(farm)  # type: ignore[arg-type]
    chosen = held.choose(np.random.default_rng(0), 64).background[:, 0, 0, 0]
    assert set(chosen.tolist()) == {2, 3, 4}


def test_a_batch_follows_from_seed_and_step_alone() -> None:
    again = composed(pool(), 5, 0, count=6, canvas=64, crop=64)
    other = composed(pool(), 5, 1, count=6, canvas=64, crop=64)
    for name in ("plate", "clean_plate", "alpha", "foreground", "alpha_hint", "outside"):
        assert torch.equal(getattr(shots(), name), getattr(again, name))
    assert not torch.equal(shots().plate, other.plate)


@pytest.mark.parametrize("crop", [64, 32])
@pytest.mark.parametrize("step", [0, 1, 2, 3])
def test_everything_is_in_range_and_of_the_size_asked_for(step: int, crop: int) -> None:
    made = shots(step, crop=crop)
    assert made.plate.shape == made.clean_plate.shape == made.foreground.shape == (6, 3, crop, crop)
    assert made.alpha.shape == made.alpha_hint.shape == made.outside.shape == (6, 1, crop, crop)
    assert made.hint_given.shape == made.scene_linear.shape == (6, 1, 1, 1)
    for name in ("plate", "clean_plate", "alpha", "foreground", "alpha_hint"):
        values = getattr(made, name)
        assert torch.isfinite(values).all()
        assert values.min() >= 0
        assert values.max() <= 1


def test_the_plate_is_the_foreground_where_alpha_is_one() -> None:
    away = [
        (made.plate - made.foreground).abs().mean(1, keepdim=True)[made.alpha == 1].mean()
        for made in (shots(step) for step in range(3))
    ]
    # Grain, codec and softness stay.
    assert max(away) < 0.04


def test_a_shot_without_hint_has_an_empty_one() -> None:
    made = shots()
    absent = made.hint_given.flatten() == 0
    assert absent.any()
    assert (~absent).any()
    assert made.alpha_hint[absent].abs().max() == 0
    assert made.alpha_hint[~absent].max() > 0.5


def test_a_quarter_of_the_subjects_has_colours_of_the_set() -> None:
    assert light._CAMOUFLAGED + light._SUBJECT_PULLED + light._SET_PULLED >= 0.25


def test_light_is_mixed_in_linear_values_where_that_is_asked_for() -> None:
    dark, bright = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    half, linear = torch.full((2, 1, 4, 4), 0.5), torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1)
    mixed = light.blended(bright, dark, half, linear)
    assert mixed[0].mean() == pytest.approx(0.5)
    assert mixed[1].mean() == pytest.approx(0.7354, abs=1e-3)


def test_encoding_undoes_decoding() -> None:
    values = torch.linspace(0, 1, 101)
    assert torch.allclose(light.encode(light.decoded(values)), values, atol=1e-5)


def test_the_exposure_fit_takes_gain_and_offset_back_out() -> None:
    torch.manual_seed(0)
    clean = torch.rand(1, 3, 64, 64).repeat_interleave(4, 2).repeat_interleave(4, 3) * 0.6 + 0.1
    plate = clean * torch.tensor([1.1, 0.95, 1.03]).reshape(1, 3, 1, 1) + 0.02
    covered = plate.clone()
    covered[:, :, 60:200, 60:200] = 0.5
    matched = exposure_matched(covered, clean, torch.ones(1, 1, 1, 1))
    assert (matched - plate).abs().max() < 0.004
    unmatched = exposure_matched(covered, clean, torch.zeros(1, 1, 1, 1))
    assert torch.equal(unmatched, clean)


def test_jpeg_of_high_quality_changes_little_and_of_low_quality_more() -> None:
    dice = Dice(1, 0, 2, "cpu")
    picture = torch.rand(1, 3, 12, 12).repeat_interleave(4, 2).repeat_interleave(4, 3)
    picture = picture.expand(2, -1, -1, -1)
    away = (codec.jpeg(dice, picture, np.array([1.0, 0.0])) - picture).abs().mean((1, 2, 3))
    assert away[0] < 0.03
    assert away[0] < away[1] < 0.2


def test_video_compression_leaves_flat_areas_alone() -> None:
    dice = Dice(1, 0, 1, "cpu")
    flat = torch.full((1, 3, 50, 70), 0.5)
    assert (codec.video(dice, flat, np.array([0.5])) - flat).abs().max() < 0.02


def test_grain_is_as_strong_as_its_iso_says() -> None:
    flat = torch.full((64, 3, 32, 32), 0.25)
    plate, clean = camera.grainy(Dice(3, 0, 64, "cpu"), flat, flat)
    sigma = (plate - flat).std((1, 2, 3))
    assert (sigma == 0).any()
    assert 0.0005 < sigma[sigma > 0].median() < 0.02
    assert sigma.max() < 0.1
    assert not torch.equal(plate, clean)


def test_a_grade_never_leaves_a_pair_too_dark_to_say_anything() -> None:
    dim = torch.full((32, 3, 8, 8), 0.12)
    plate, clean, _ = camera.toned(Dice(1, 0, 32, "cpu"), dim, dim, dim)
    assert torch.maximum(plate.mean((1, 2, 3)), clean.mean((1, 2, 3))).min() > 0.08
