"""Training shots and canvases: the same numbers give the same pixels, and the truth is true."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from unittest import mock

import cv2
import numpy as np
import pytest
import torch
from training import canvases
from training.canvases import (
    CHANNELS,
    FLAGS,
    GROUP,
    PLANES,
    TWINS,
    Drawing,
    Group,
    KeyedShots,
    draw_group,
    unpacked,
)
from training.compose import camera, codec, light
from training.compose import shots as batches
from training.compose.blur import moved
from training.compose.dice import Dice
from training.compose.front_end import exposure_matched
from training.compose.light import decoded, encode
from training.compose.shots import Layers, Shots, composed
from training.layers import draw_pair, subjects, things
from training.layers.recipe import TRAINING, VALIDATION_2026, Recipe
from training.pool import CanvasPool

from fakes.training_package import ROOT
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.twoplate.card import shipped
from mattebridge.models.twoplate.model import TwoPlateModel, shipped_model

SIZE = 64

FARM = """
import zlib
from training.canvases import Drawing
from training.farm import CanvasFarm
if __name__ == "__main__":
    with CanvasFarm(3, 20, workers=2, drawing=Drawing(16)) as farm:
        for _ in range(3):
            group = farm.next()
            print(zlib.crc32(group.planes.tobytes()), zlib.crc32(group.flags.tobytes()))
"""


@lru_cache(maxsize=4)
def group(number: int = 0) -> Group:
    return draw_group(5, number, Drawing(SIZE))


@lru_cache(maxsize=4)
def shots(number: int = 0) -> KeyedShots:
    made = group(number)
    return unpacked(torch.from_numpy(made.planes), torch.from_numpy(made.flags))


class Farm:
    """Groups of the number's grey, red and green a little brighter than blue."""

    number = 0

    def __init__(self, size: int = 8) -> None:
        self._size = size

    def next(self, *, wait: bool = True) -> Group:
        self.number += 1
        planes = np.full((GROUP, CHANNELS, self._size, self._size), 10 * self.number, np.uint8)
        planes += np.arange(CHANNELS, dtype=np.uint8)[:, None, None]
        return Group(planes, np.full((GROUP, len(FLAGS)), self.number, np.uint8))


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


@pytest.mark.parametrize("recipe", [TRAINING, VALIDATION_2026])
def test_every_name_in_a_recipe_can_be_drawn(recipe: Recipe) -> None:
    assert {name for _, name in recipe.kinds} == set(subjects._KINDS)
    assert set(recipe.things) <= set(things._THINGS)


@pytest.mark.slow
def test_processes_draw_the_same_groups_in_the_same_order_as_none(tmp_path: object) -> None:
    script = f"{tmp_path}/draw.py"
    with open(script, "w", encoding="utf-8") as file:
        file.write(FARM)
    done = subprocess.run(
        [sys.executable, script],
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'bridge'}",
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=250,
        check=True,
    )
    import zlib

    expected = [draw_group(3, number, Drawing(16)) for number in range(20, 23)]
    lines = [f"{zlib.crc32(g.planes.tobytes())} {zlib.crc32(g.flags.tobytes())}" for g in expected]
    assert done.stdout.split("\n")[:3] == lines


@pytest.mark.slow
def test_a_group_follows_from_seed_and_number_alone() -> None:
    again, other = draw_group(5, 0, Drawing(SIZE)), group(1)
    assert np.array_equal(group().planes, again.planes)
    assert np.array_equal(group().flags, again.flags)
    assert not np.array_equal(group().planes, other.planes)


def test_a_group_is_the_same_with_any_number_of_threads() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert np.array_equal(draw_group(5, 0, Drawing(SIZE)).planes, group().planes)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


def test_canvases_are_bytes_of_the_size_asked_for() -> None:
    made = group()
    assert made.planes.shape == (GROUP, CHANNELS, SIZE, SIZE)
    assert made.flags.shape == (GROUP, len(FLAGS))
    assert made.planes.dtype == made.flags.dtype == np.uint8
    assert set(np.unique(made.flags)) <= {0, 1}


def inside(plane: torch.Tensor) -> torch.Tensor:
    """Without the edge, where something was moved in."""
    return plane[:, 4:-4, 4:-4]


def test_twins_are_one_shot_with_other_grain_and_matted_each_by_itself() -> None:
    moves = []
    for number in (0, 1):
        made = shots(number)
        for first, second in TWINS:
            rows, columns = (int(v) for v in group(number).moved[second])
            moves.append((rows, columns))
            assert torch.equal(made.scene_linear[first], made.scene_linear[second])
            # How much of its grain is taken depends on the grain of the plate.
            away = (made.clean_plate[first] - made.clean_plate[second]).abs()
            assert away.max() < 0.1
            assert away.mean() < 0.005
            for name in ("alpha", "foreground", "alpha_hint"):
                plane = getattr(made, name)
                expected = torch.roll(plane[first], (rows, columns), (1, 2))
                assert torch.equal(inside(expected), inside(plane[second])), name
            if (rows, columns) != (0, 0):
                continue
            away = (made.plate[first] - made.plate[second]).abs().mean()
            # .0034 to .0076, .0015 to .026 and .0003 to .0018 here. Without AVX canvases have other
            # bytes, and these means move by .000002.
            assert 0.001 < away < 0.03
            assert (made.keyed_alpha[first] - made.keyed_alpha[second]).abs().mean() < 0.1
            again = canvases._seen(made, second, wide=False)["keyed_alpha"][0]
            assert (again - made.keyed_alpha[second]).abs().mean() < 0.02
    assert (0, 0) in moves


def test_a_canvas_comes_with_what_the_keyer_makes_of_the_whole_of_it() -> None:
    made, differ = shots(), 0
    for shot in range(4):
        # Bytes do not hold the full precision of the values that the keyer was given: .0003 to
        # .0007 here, with AVX2 and without.
        again = canvases._seen(made, shot, wide=False)["keyed_alpha"][0]
        assert (again - made.keyed_alpha[shot]).abs().mean() < 0.02
        wider = canvases._seen(made, shot, wide=True)["wide_alpha"][0]
        differ += not torch.equal(wider, again)
    assert differ
    # It is asked for by the networks that take it.
    assert torch.equal(made.wide_alpha, made.keyed_alpha)
    away = (made.keyed_alpha - made.alpha).abs().mean((1, 2, 3))
    # In all 15 canvases: the error is .02 to .23 of the mean.
    assert (away < made.alpha.mean((1, 2, 3))).float().mean() > 0.8


def test_a_canvas_is_what_the_network_is_given_in_production() -> None:
    """Strong grain is taken from its pictures, and soft edges above white are dimmed."""
    shot = bright_shot()
    seen = canvases._seen(shot, 0, wide=False)
    model = shipped_model(shipped()["twoplate"].card)
    model.load("cpu")
    refused = mock.patch.object(TwoPlateModel, "_in_tiles", side_effect=_Asked)
    with refused as asked, pytest.raises(_Asked):
        model.matte(canvases._given(shot, 0), no_checkpoint)
    wanted = asked.call_args.args[1].inputs()
    for name in ("plate", "clean_plate", "keyed_alpha", "keyed_foreground"):
        assert torch.equal(seen[name], getattr(wanted, name)), name
    cut = shot.plate.clamp(0, 1)
    assert ((seen["plate"] - cut).abs() > 0.02).float().mean() > 0.001
    # There the true colour is that which the network is shown, elsewhere its own.
    dimmed = (seen["foreground"] != shot.foreground).any(1)
    assert 0 < dimmed.float().mean() < 0.5
    assert torch.equal(
        seen["foreground"].permute(0, 2, 3, 1)[dimmed],
        seen["keyed_foreground"].permute(0, 2, 3, 1)[dimmed],
    )


class _Asked(Exception):
    """The network is asked."""


def bright_shot() -> Shots:
    """A soft disc several times as bright as white before a dim set, with light grain."""
    side = 192
    rng = np.random.default_rng(6)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    alpha = np.clip((60 - np.hypot(x - 96, y - 96)) / 20 + 0.5, 0, 1)
    clean = cv2.GaussianBlur(rng.random((side, side, 3), np.float32), (0, 0), 3) * 0.5
    colour = np.full((side, side, 3), 1.8, np.float32) + 0.3 * clean
    light = [decoded(torch.from_numpy(picture)) for picture in (colour, clean)]
    mixed = torch.lerp(light[1], light[0], torch.from_numpy(alpha)[..., None])
    grain = torch.from_numpy(rng.normal(0, 0.004, (2, side, side, 3)).astype(np.float32))
    plate, clean_plate = encode(mixed) + grain[0], torch.from_numpy(clean) + grain[1]
    pictures = (plate.clamp(min=0), clean_plate.clamp(min=0), torch.from_numpy(colour))
    plate, clean_plate, foreground = (each.permute(2, 0, 1)[None] for each in pictures)
    nothing, one = torch.zeros(1, 1, side, side), torch.ones(1, 1, 1, 1)
    own = torch.from_numpy(alpha)[None, None]
    return Shots(plate, clean_plate, own, foreground, nothing, 0 * one, nothing, one)


def test_the_pool_holds_the_newest_groups_and_crops_them_only() -> None:
    held = CanvasPool(2 * GROUP, size=8)
    farm = Farm()
    held.refill(farm, 0, 1)  # type: ignore[arg-type]
    assert held.held == GROUP
    assert set(held.crops(1, 0, 64, 4).scene_linear.flatten().tolist()) == {1.0}
    for _ in range(3):
        held.take(farm)  # type: ignore[arg-type]
    assert held.held == 2 * GROUP
    assert set(held.crops(1, 0, 64, 4).scene_linear.flatten().tolist()) == {3.0, 4.0}


def test_colours_change_places_in_all_pictures_of_a_shot_alike() -> None:
    held = CanvasPool(GROUP, size=8)
    held.refill(Farm(), 0, 1)  # type: ignore[arg-type]
    made = held.crops(1, 0, 32, 4)
    bytes_of = {name: (getattr(made, name)[:, :, 0, 0] * 255).round().int() for name in PLANES}
    orders = bytes_of["plate"] - 10
    assert len({tuple(order) for order in orders.tolist()}) > 3
    assert orders.sort(1).values.eq(torch.arange(3)).all()
    first = 0
    for name, channels in PLANES.items():
        expected = 10 + first + (orders if channels == 3 else torch.zeros(32, 1, dtype=torch.int))
        assert torch.equal(bytes_of[name], expected), name
        first += channels


def test_crops_are_squares_of_a_canvas_some_mirrored() -> None:
    held = CanvasPool(GROUP, size=SIZE)

    class One(Farm):
        def next(self, *, wait: bool = True) -> Group:
            return group()

    held.refill(One(), 0, 1)  # type: ignore[arg-type]
    made = (held.crops(3, 0, 8, 24).alpha * 255).round().byte().numpy()[:, 0]
    whole = group().planes[:, 6]
    both = [whole, whole[:, :, ::-1]]
    windows = [np.lib.stride_tricks.sliding_window_view(side, (24, 24), (1, 2)) for side in both]
    found = np.array([[(part == side).all((3, 4)).any() for side in windows] for part in made])
    assert found.any(1).all()
    assert not found.all(0).any()


def test_twins_come_last_in_a_batch_and_are_cropped_and_changed_alike() -> None:
    class Numbered(Farm):
        """What each canvas shows, and where: its row and column, and its place in the group."""

        def next(self, *, wait: bool = True) -> Group:
            made = super().next(wait=wait)
            rows, columns = np.indices((8, 8), np.uint8)
            for place, canvas in enumerate(made.planes):
                canvas[:3] = [10 * rows + columns, 100 + 10 * rows, 200 + columns]
                canvas[6] = 20 * self.number + place
            return made

    held = CanvasPool(3 * GROUP, size=8)
    held.refill(Numbered(), 0, 3)  # type: ignore[arg-type]
    held.take(Numbered())  # type: ignore[arg-type]
    seen = set()
    for step in range(40):
        made = held.crops(5, step, 10, 4, 3)
        places = (made.alpha[:, 0, 0, 0] * 255).round().int()
        group, place = places // 20, places % 20
        assert torch.equal(group[4:7], group[7:])
        pairs = set(zip(place[4:7].tolist(), place[7:].tolist()))
        assert pairs <= set(TWINS)
        seen |= pairs
        assert torch.equal(made.plate[4:7], made.plate[7:])
    assert seen == set(TWINS)


def test_a_twin_whose_subject_has_moved_is_cropped_where_its_subject_is() -> None:
    class Moving(Farm):
        """Alpha tells where in the subject a pixel is; the second twins' subject has moved."""

        def next(self, *, wait: bool = True) -> Group:
            made = super().next(wait=wait)
            rows, columns = np.indices((16, 16), np.uint8)
            moved = np.zeros((GROUP, 2), np.int8)
            made.planes[:, 6] = 16 * rows + columns
            for (_, second), move in zip(TWINS, ((2, 0), (-4, 2), (0, -2))):
                made.planes[second, 6] = np.roll(made.planes[second, 6], move, (0, 1))
                moved[second] = move
            return Group(made.planes, made.flags, moved)

    held = CanvasPool(GROUP, size=16)
    held.refill(Moving(16), 0, 1)  # type: ignore[arg-type]
    for step in range(30):
        made = held.crops(2, step, 8, 8, 4).alpha
        assert torch.equal(made[:4], made[4:])


def test_the_subject_of_the_next_frame_is_moved_and_its_set_is_not() -> None:
    rows, columns = np.mgrid[:80, :80]
    disc = (np.hypot(rows - 40, columns - 40) < 14) * 255
    subject = torch.from_numpy(np.stack([disc // 2, disc // 3, disc, disc]).astype(np.uint8))
    noise = np.random.default_rng(4).integers(40, 200, (3, 80, 80), np.uint8)
    pair = Layers(
        subject.expand(2, -1, -1, -1), torch.from_numpy(noise).expand(2, -1, -1, -1), torch.zeros(2)
    )
    # Only in plain batches, which are half of them, something moves: the first throw says it.
    plain = [n for n in range(24) if Dice(9, n, 2, "cpu").once(batches._PLAIN)]
    takes = (composed(Dice(9, number, 2, "cpu"), pair, SIZE) for number in plain)
    moving = [take for take in takes if take.moved != (0, 0)]
    # Seeded: the subject moves in three of five.
    assert len(moving) > 2
    for take in moving:
        down, across = take.moved
        assert down % 2 == across % 2 == 0
        alpha = take.shots.alpha
        assert torch.equal(inside(torch.roll(alpha[-2], (down, across), (1, 2))), inside(alpha[-1]))
        still = (alpha[-1] == 0) & (alpha[-2] == 0)
        away = (take.shots.plate[-1] - take.shots.plate[-2]).abs().mean(0, keepdim=True)[still]
        # Shadows move with the subject; the set, all but its grain, does not. Its noise moved by
        # two pixels would be .1 and more away.
        assert away.median() < 0.05


def test_a_large_group_is_cut_from_frames_of_twice_the_size_where_their_edges_are() -> None:
    made = draw_group(5, 0, Drawing(32, wide=True, large=1.0))
    assert made.planes.shape == (GROUP, CHANNELS, 32, 32)
    usual = draw_group(5, 0, Drawing(64, wide=True))
    alpha, whole = made.planes[:, 6], usual.planes[:, 6]
    # The same shots, each a part of what the usual group has whole.
    windows = np.lib.stride_tricks.sliding_window_view(whole, (32, 32), (1, 2))[:, ::16, ::16]
    found = (windows == alpha[:, None, None]).all((3, 4))
    assert found.any((1, 2)).all()
    soft = ((windows > 5) & (windows < 250)).mean((3, 4))
    kept = ((alpha > 5) & (alpha < 250)).mean((1, 2))
    # But for second twins, which are cut like the first ones.
    firsts = [shot for shot in range(GROUP) if shot not in {second for _, second in TWINS}]
    assert np.array_equal(kept[firsts], soft.max((1, 2))[firsts])


def test_lamps_are_brighter_than_white_and_the_keyer_sees_them() -> None:
    dice = Dice(1, 0, 3, "cpu")
    picture = torch.linspace(0, 1, 64).expand(3, 3, 64, 64)
    gain = light.lamps(dice, picture)
    assert torch.equal(gain[..., 0], torch.ones(3, 1, 64))
    assert float(gain[..., -1].min()) > 1.9
    bright = light.encode(light.decoded(picture) * gain)
    assert bright.max() > 1
    assert light.blended(bright, bright, gain[:, :1] * 0 + 0.5, torch.ones(3, 1, 1, 1)).max() > 1


def test_a_batch_follows_from_seed_and_step_alone() -> None:
    held = CanvasPool(GROUP, size=8)
    held.refill(Farm(), 0, 1)  # type: ignore[arg-type]
    made, again, other = (held.crops(5, step, 6, 4) for step in (0, 0, 1))
    for name in (*PLANES, *FLAGS):
        assert torch.equal(getattr(made, name), getattr(again, name))
    assert not torch.equal(made.plate, other.plate)


@pytest.mark.parametrize("number", [0, 1])
def test_everything_is_in_range_and_of_the_size_asked_for(number: int) -> None:
    made = shots(number)
    for name, channels in PLANES.items():
        values = getattr(made, name)
        assert values.shape == (GROUP, channels, SIZE, SIZE)
        assert 0 <= values.min() <= values.max() <= 1
    for name in FLAGS:
        assert getattr(made, name).shape == (GROUP, 1, 1, 1)


def test_the_plate_is_the_foreground_where_alpha_is_one() -> None:
    away = [
        (made.plate - made.foreground).abs().mean(1, keepdim=True)[made.alpha == 1].mean()
        for made in (shots(number) for number in range(2))
    ]
    # Grain, codec and softness stay: .018 and .006, means of thousands of bytes.
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
    # Powers of floats are exact to a few roundings, 6e-8 each.
    assert torch.allclose(light.encode(light.decoded(values)), values, atol=1e-5)


def test_the_exposure_fit_takes_gain_and_offset_back_out() -> None:
    torch.manual_seed(0)
    clean = torch.rand(1, 3, 64, 64).repeat_interleave(4, 2).repeat_interleave(4, 3) * 0.6 + 0.1
    plate = clean * torch.tensor([1.1, 0.95, 1.03]).reshape(1, 3, 1, 1) + 0.02
    covered = plate.clone()
    covered[:, :, 60:200, 60:200] = 0.5
    matched = exposure_matched(covered, clean, torch.ones(1, 1, 1, 1))
    # 1e-7: the clean plate is known exactly, only rounding remains.
    assert (matched - plate).abs().max() < 0.004
    unmatched = exposure_matched(covered, clean, torch.zeros(1, 1, 1, 1))
    assert torch.equal(unmatched, clean)


def test_jpeg_of_high_quality_changes_little_and_of_low_quality_more() -> None:
    dice = Dice(1, 0, 2, "cpu")
    picture = torch.rand(1, 3, 12, 12).repeat_interleave(4, 2).repeat_interleave(4, 3)
    picture = picture.expand(2, -1, -1, -1)
    away = (codec.jpeg(dice, picture, np.array([1.0, 0.0])) - picture).abs().mean((1, 2, 3))
    # .0076 and .069: means over 7,000 values, of which few are next to a half.
    assert away[0] < 0.03
    assert away[0] < away[1] < 0.2


def test_video_compression_leaves_flat_areas_alone() -> None:
    dice = Dice(1, 0, 1, "cpu")
    flat = torch.full((1, 3, 50, 70), 0.5)
    # .00196: of a flat block only the mean is quantised, here from 127.5 to 128.
    assert (codec.video(dice, flat, np.array([0.5])) - flat).abs().max() < 0.02


def test_grain_is_as_strong_as_its_iso_says() -> None:
    flat = torch.full((64, 3, 32, 32), 0.25)
    plate, clean = camera.grainy(Dice(3, 0, 64, "cpu"), flat, flat)
    sigma = (plate - flat).std((1, 2, 3))
    # 11 of 64 are 0, the median of the others is .0070 and the highest .082: statistics of seeded
    # noise, which rounding moves by 1e-7.
    assert (sigma == 0).any()
    assert 0.0005 < sigma[sigma > 0].median() < 0.02
    assert sigma.max() < 0.1
    assert not torch.equal(plate, clean)


def test_a_subject_that_moves_keeps_its_light_and_is_as_wide_as_its_path() -> None:
    dot = torch.zeros(3, 4, 96, 96)
    dot[:, :, 48, 48] = 1
    still = moved(Dice(1, 1, 3, "cpu"), dot, 0.0, (80.0, 80.0))
    assert torch.equal(still, dot)
    path = moved(Dice(1, 1, 3, "cpu"), dot, 1.0, (80.0, 80.0))
    assert torch.allclose(path.sum((2, 3)), torch.ones(3, 4), atol=1e-5)
    # 80 pixels of 512 are 15 of 96. 21 to 23 pixels are above .02, and none is within .0007 of it.
    assert torch.all((path[:, 0] > 0.02).sum((1, 2)) >= 14)


def test_a_grade_never_leaves_a_pair_too_dark_to_say_anything() -> None:
    dim = torch.full((32, 3, 8, 8), 0.12)
    grade = camera.grade_of(Dice(1, 0, 32, "cpu"), dim, dim)
    assert float((grade - 1).abs().max()) > 0.01
    plate, clean = camera.toned(grade, dim, dim)
    # .0907 by construction (`grade_of` keeps the mean above .09).
    assert torch.maximum(plate.mean((1, 2, 3)), clean.mean((1, 2, 3))).min() > 0.08
