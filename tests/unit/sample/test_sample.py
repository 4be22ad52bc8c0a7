"""The sample shot: the same on every run, hard in the ways it says, and true to its own truth."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from mattebridge.errors import OutputExistsError, UsageError
from mattebridge.image_io import read_frame, read_header, write_frame
from mattebridge_sample import render_frames, render_shot
from mattebridge_sample.optics import add_grain

WIDTH, HEIGHT = 192, 108
SMALL = {"width": 96, "height": 54}
# Drawing the shot takes ten seconds; the default run has single small frames.
of_the_shot = pytest.mark.slow


@pytest.fixture(scope="module")
def shot():
    """Frames 0 to 12 of a small sample shot; the arm is fast in the later ones."""
    return list(render_frames(frames=13, width=WIDTH, height=HEIGHT))


@pytest.fixture(scope="module")
def drifting():
    return list(render_frames(frames=3, drift=True, **SMALL))


def _same(a, b):
    roles = ("plate", "clean_plate", "alpha", "foreground")
    return all(np.array_equal(getattr(a, role), getattr(b, role)) for role in roles)


@of_the_shot
def test_a_shot_has_the_same_pixels_every_time(shot):
    again = list(render_frames(frames=2, width=WIDTH, height=HEIGHT))
    assert [frame.frame for frame in again] == [1001, 1002]
    assert _same(again[0], shot[0])
    assert _same(again[1], shot[1])


@of_the_shot
def test_another_seed_gives_another_shot(shot):
    other = next(render_frames(frames=1, width=WIDTH, height=HEIGHT, seed=2))
    assert not np.array_equal(other.alpha, shot[0].alpha)
    assert not np.array_equal(other.plate, shot[0].plate)


@of_the_shot
def test_pixels_are_finite_float32_of_the_asked_size(shot):
    for frame in shot:
        for role, channels in (("plate", 3), ("clean_plate", 3), ("foreground", 3), ("alpha", 1)):
            pixels = getattr(frame, role)
            assert pixels.shape == (HEIGHT, WIDTH, channels)
            assert pixels.dtype == np.float32
            assert np.isfinite(pixels).all()


@of_the_shot
def test_there_is_light_far_above_one_on_the_set_and_on_the_subject(shot):
    assert shot[0].clean_plate.max() > 5
    bright = [(frame.foreground * (frame.alpha > 0.5)).max() for frame in shot]
    assert max(bright) > 1


@of_the_shot
def test_the_truth_explains_the_plate_within_its_grain(shot):
    for frame in shot[::7]:
        mixed = frame.foreground * frame.alpha + (1 - frame.alpha) * frame.behind
        grain = frame.plate - mixed
        sigma = np.sqrt(1e-4 * np.maximum(mixed, 0) + 1.2e-6) * 1.3
        assert abs((grain / sigma).mean()) < 0.02
        assert 0.5 < (grain / sigma).std() < 1.2
        assert np.abs(grain / sigma).max() < 8


@of_the_shot
def test_alpha_has_set_subject_and_much_in_between(shot):
    alpha = shot[8].alpha
    assert alpha.min() == 0
    assert alpha.max() == 1
    assert (alpha == 0).mean() > 0.4
    assert (alpha == 1).mean() > 0.1
    assert 0.02 < ((alpha > 0.01) & (alpha < 0.99)).mean() < 0.4


@of_the_shot
def test_where_nothing_is_covered_the_foreground_is_black(shot):
    frame = shot[3]
    assert frame.foreground[frame.alpha[..., 0] == 0].max() == 0


@of_the_shot
def test_the_scarf_lets_the_set_through_over_a_wide_area(shot):
    sheer = (shot[0].alpha[..., 0] > 0.2) & (shot[0].alpha[..., 0] < 0.9)
    # An edge is a line: three pixels of erosion leave nothing of it.
    inside = cv2.erode(sheer.astype(np.uint8), np.ones((3, 3), np.uint8))
    assert inside.mean() > 0.005


@of_the_shot
def test_the_fast_arm_is_blurred_where_the_still_one_is_not(shot):
    left = np.s_[:, : WIDTH // 4]
    soft = [((f.alpha[left] > 0.02) & (f.alpha[left] < 0.98)).mean() for f in (shot[0], shot[12])]
    assert soft[1] > soft[0] + 0.01


@of_the_shot
def test_the_subject_moves_from_frame_to_frame(shot):
    for one, next_one in zip(shot, shot[1:]):
        assert np.abs(one.alpha - next_one.alpha).mean() > 1e-3


@of_the_shot
def test_the_subject_takes_light_from_the_set_beside_it(shot):
    frame = shot[8]
    clean = next(iter(shot)).clean_plate
    beside = frame.alpha[..., 0] == 0
    left = (frame.behind.sum(-1) / np.maximum(clean.sum(-1), 1e-3))[beside]
    assert (left < 0.6).mean() > 0.003  # the cast shadow on the bricks
    assert (left > 0.9).mean() > 0.5  # and most of the set keeps its light
    assert left.max() < 1.5


@of_the_shot
def test_grain_is_new_in_every_frame_and_has_no_mean(shot):
    still = (shot[0].alpha == 0) & (shot[1].alpha == 0)
    still &= np.abs(shot[0].behind - shot[1].behind).max(-1, keepdims=True) < 1e-4
    still = still[..., 0]
    change = (shot[1].plate - shot[0].plate)[still]
    assert change.std() > 1e-3
    assert abs(change.mean()) < 0.1 * change.std()


@of_the_shot
def test_the_still_clean_plate_is_one_plate_with_little_grain(shot):
    assert np.array_equal(shot[0].clean_plate, shot[5].clean_plate)
    far = np.s_[: HEIGHT // 10, WIDTH // 4 : WIDTH // 2]
    plate_grain = (shot[0].plate - shot[0].behind)[far].std()
    clean_grain = (shot[0].clean_plate - shot[0].behind)[far].std()
    assert clean_grain < 0.6 * plate_grain


def test_bright_light_has_more_grain_than_the_dark_and_blue_more_than_green():
    rng = np.random.default_rng(0)
    dark, bright = np.full((99, 99, 3), 0.02, np.float32), np.full((99, 99, 3), 2.0, np.float32)
    in_dark, in_bright = add_grain(dark, rng) - dark, add_grain(bright, rng) - bright
    assert in_bright.std() > 5 * in_dark.std()
    assert in_bright[..., 2].std() > 1.15 * in_bright[..., 1].std()


@pytest.mark.slow
def test_a_drifting_clean_plate_moves_and_changes_its_exposure(drifting):
    still = next(render_frames(frames=1, **SMALL))
    grey = [frame.clean_plate.mean(-1).clip(0, 1) for frame in drifting]
    assert not np.array_equal(drifting[0].clean_plate, drifting[1].clean_plate)
    steady = still.clean_plate.mean(-1).clip(0, 1)
    window = cv2.createHanningWindow(steady.shape[::-1], cv2.CV_32F)
    (x, y), _ = cv2.phaseCorrelate(steady, grey[0], window)
    assert 0.05 < np.hypot(x, y) < 3
    gain = np.median(grey[0] / np.maximum(steady, 1e-3))
    assert 1.005 < gain < 1.1
    # The plate does not know how the clean plate was shot.
    assert np.array_equal(drifting[0].plate, still.plate)


@pytest.mark.slow
def test_a_shot_on_disk_is_half_exr_with_the_frame_numbers_asked_for(tmp_path):
    seen = []
    shot = render_shot(
        tmp_path / "shot",
        frames=2,
        first_frame=1009,
        on_frame=lambda done, total: seen.append((done, total)),
        **SMALL,
    )
    assert seen == [(1, 2), (2, 2)]
    assert shot.frames == (1009, 1010)
    assert sorted(path.name for path in shot.plate.parent.iterdir()) == [
        "plate.1009.exr",
        "plate.1010.exr",
    ]
    assert [path.name for path in shot.clean_plate.parent.iterdir()] == ["clean_plate.exr"]
    for role in ("plate", "clean_plate", "alpha", "foreground"):
        header = read_header(shot.file(role, 1010))
        assert (header.width, header.height) == (96, 54)
        assert header.dtype == "float16"
        assert header.colorspace == "linear"
    assert read_frame(shot.file("alpha", 1010)).pixels.shape == (54, 96, 1)
    assert (tmp_path / "shot" / "truth" / "alpha" / "alpha.1009.exr").is_file()
    described = json.loads((tmp_path / "shot" / "shot.json").read_text())
    assert described["frames"] == [1009, 1010]
    assert described["complete"] is True


@pytest.mark.slow
def test_a_drifting_shot_has_a_clean_plate_for_every_frame_and_replaces_an_older_shot(tmp_path):
    render_shot(tmp_path, frames=3, **SMALL)
    shot = render_shot(tmp_path, frames=2, drift=True, **SMALL)
    assert sorted(path.name for path in shot.clean_plate.parent.iterdir()) == [
        "clean_plate.1001.exr",
        "clean_plate.1002.exr",
    ]
    assert len(list(shot.plate.parent.iterdir())) == 2


def test_frames_that_are_no_sample_shot_are_left_alone(tmp_path):
    (tmp_path / "plate").mkdir()
    mine = tmp_path / "plate" / "hero.0001.exr"
    write_frame(mine, np.zeros((4, 4, 3), np.float16))
    with pytest.raises(
        OutputExistsError, match=r"is no frame of a sample shot.*choose another folder"
    ):
        render_shot(tmp_path, frames=1, **SMALL)
    assert mine.is_file()


@pytest.mark.parametrize(
    "asked",
    [
        {"frames": 0},
        {"width": 8},
        {"height": 8},
        {"width": 9000, "height": 9000},
        {"first_frame": -1},
    ],
)
def test_a_shot_that_cannot_be_is_refused_with_the_numbers_asked_for(tmp_path, asked):
    with pytest.raises(UsageError, match=r"\d"):
        render_shot(tmp_path / "shot", **asked)
    assert not (tmp_path / "shot").exists()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 36), (101, 57), (90, 160)])
def test_odd_and_upright_sizes_work(size):
    frame = next(render_frames(frames=1, width=size[0], height=size[1]))
    assert frame.plate.shape == (size[1], size[0], 3)
    assert 0.05 < frame.alpha.mean() < 0.8


@pytest.mark.slow
@pytest.mark.parametrize(("name", "channel"), [("green", 1), ("blue", 2)])
def test_a_screen_takes_the_place_of_the_set_and_lights_the_subject(name, channel):
    frame = next(render_frames(frames=1, screen=name, **SMALL))
    others = np.delete(frame.clean_plate, channel, axis=2).max(axis=2)
    assert (frame.clean_plate[..., channel] > 3 * others).all()
    level = frame.behind[..., channel]
    assert level.max() > 1.5 * level.min()  # light falls off
    inside = frame.alpha[..., 0] == 1
    light = (frame.plate - frame.foreground)[inside].mean(axis=0)
    assert light[channel] > 0.01  # in the plate, and not in the true foreground
    assert light[channel] > 3 * np.delete(light, channel).max()
