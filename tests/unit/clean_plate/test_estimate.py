"""A clean plate out of the shot: what stays is the set, and what was never seen is not claimed."""

from __future__ import annotations

import numpy as np
import pytest

from fakes.moving_subjects import Shot, display_error, shot
from mattebridge.clean_plate.estimate import CleanPlate, make_clean_plate
from mattebridge.clean_plate.settle import find_groups, settle
from mattebridge.errors import Cancelled, InputsError

# A display difference that anybody sees.
VISIBLE = 0.1


def made(given: Shot, align: bool = False, **options) -> CleanPlate:
    return make_clean_plate(given.read, len(given.frames), align=align, **options)


def error_of(plate: CleanPlate, given: Shot):
    return display_error(plate.pixels, given.sets[plate.reference])


def plain_median(given: Shot):
    return np.median(np.stack(given.frames), axis=0)


# --- whole shots ----------------------------------------------------------------------------------


@pytest.mark.parametrize("coat", ["pattern", "plain"])
def test_who_walks_through_is_gone_and_so_is_most_grain(coat):
    given = shot("through", coat=coat)
    plate = made(given)
    assert plate.pixels.shape == given.frames[0].shape
    assert plate.pixels.dtype == plate.confidence.dtype == np.float32
    assert plate.hidden_share == 0
    assert plate.used == tuple(range(17))
    assert plate.left_out == ()
    error = error_of(plate, given)
    assert error.max() < VISIBLE
    grain = display_error(given.frames[0], given.sets[0])[given.mattes[0] == 0].mean()
    assert error.mean() < grain / 2


def test_the_set_is_found_where_a_plain_median_shows_the_subject():
    given = shot("slowly")
    covered = np.mean(np.stack(given.mattes) > 0.5, axis=0)
    mostly = (covered > 0.5) & (covered < 0.6)
    assert mostly.mean() > 0.01
    wrong_median = display_error(plain_median(given), given.sets[8])[mostly] > VISIBLE
    plate = made(given)
    wrong = error_of(plate, given)[mostly] > VISIBLE
    assert wrong_median.mean() > 0.6
    assert wrong.mean() < wrong_median.mean() / 2
    assert (wrong & (plate.confidence[mostly] > 0.5)).mean() < 0.05
    half = (covered > 0.35) & (covered < 0.5)
    assert (error_of(plate, given)[half] > VISIBLE).mean() < 0.001


def test_a_camera_that_drifts_is_followed():
    given = shot("through", drift_px=3.0)
    plate = made(given, align=True)
    assert len(plate.used) == 17
    inside = np.zeros(plate.confidence.shape, bool)
    inside[8:-8, 8:-8] = True
    assert (error_of(plate, given)[inside] > VISIBLE).mean() < 0.01
    assert plate.hidden[inside].mean() < 0.001
    unaligned = error_of(made(given), given)[inside] > VISIBLE
    assert unaligned.mean() > 5 * (error_of(plate, given)[inside] > VISIBLE).mean()


@pytest.mark.slow
@pytest.mark.parametrize("reference", [0, 16])
def test_the_plate_is_in_register_with_the_frame_that_is_asked_for(reference):
    given = shot("through", drift_px=3.0)
    plate = made(given, align=True, reference=reference)
    assert plate.reference == reference
    error = error_of(plate, given)[8:-8, 8:-8]
    assert (error > VISIBLE).mean() < 0.01


def test_a_flickering_lamp_is_evened_out():
    given = shot("through", flicker=0.15)
    plate = made(given, align=True)
    assert plate.hidden_share < 0.01
    exposure = given.frames[plate.reference] / np.maximum(given.sets[plate.reference], 0.05)
    seen = given.mattes[plate.reference] == 0
    as_exposed = given.sets[plate.reference] * np.median(exposure[seen])
    assert display_error(plate.pixels, as_exposed).mean() < 0.02


@pytest.mark.parametrize("coat", ["pattern", "plain"])
def test_behind_who_never_leaves_nothing_is_claimed(coat):
    given = shot("sways", coat=coat)
    plate = made(given)
    never = given.always_covered
    assert plate.hidden_share > never.mean()
    assert plate.hidden[never].mean() > 0.97
    assert plate.confidence[never].mean() < 0.03
    wrong = error_of(plate, given) > VISIBLE
    assert (wrong & ~plate.hidden).mean() < 0.005
    far = np.max(given.mattes, axis=0) == 0
    assert plate.hidden[far].mean() < 0.1
    assert plate.confidence[:, :20].min() == 1


def test_who_does_not_move_at_all_is_furniture():
    """The known limit: nothing in the frames tells such a subject from the set."""
    given = shot("stays")
    plate = made(given)
    assert plate.hidden_share == 0
    assert (error_of(plate, given) > VISIBLE)[given.always_covered].mean() > 0.5


def test_rough_mattes_take_the_subject_out_even_where_it_stays():
    given = shot("stays")
    plate = made(given, subject=lambda index: given.mattes[index])
    assert plate.hidden[given.always_covered].all()
    assert plate.hidden_share == pytest.approx((given.mattes[0] > 0.02).mean(), abs=0.02)
    assert error_of(plate, given)[~plate.hidden].max() < VISIBLE


def test_light_above_white_and_below_black_stays():
    frames = [np.full((20, 30, 3), 0.2, np.float32) for _ in range(7)]
    for frame in frames:
        frame[2:5, 3:6] = 20.0
        frame[10:12, 3:6] = -0.05
    plate = make_clean_plate(lambda index: frames[index].copy(), 7)
    np.testing.assert_allclose(plate.pixels, frames[0], rtol=1e-5)
    assert plate.confidence.min() == 1


def test_values_that_are_no_numbers_take_no_part():
    frames = [np.full((20, 30, 3), 0.2, np.float32) for _ in range(9)]
    for index, frame in enumerate(frames):
        frame[index, index] = np.nan
        frame[15, 20] = np.inf
    plate = make_clean_plate(lambda index: frames[index].copy(), 9)
    never = np.zeros((20, 30), bool)
    never[15, 20] = True
    assert np.isfinite(plate.pixels).all()
    np.testing.assert_allclose(plate.pixels[~never], 0.2, rtol=1e-5)
    assert plate.confidence[15, 20] == 0
    assert plate.confidence[~never].min() > 0.99


@pytest.mark.slow
def test_the_same_shot_gives_the_same_plate_in_bands_of_any_size():
    given = shot("through", drift_px=3.0)
    whole = made(given, align=True)
    reads = []

    def read(index):
        reads.append(index)
        return given.read(index)

    banded = make_clean_plate(read, 17, memory_bytes=17 * 192 * 12 * 40)
    assert np.array_equal(banded.pixels[8:30], whole.pixels[8:30])
    assert (display_error(banded.pixels, whole.pixels) > 1e-3).mean() < 0.005
    assert len(reads) == 17 + 3 * 17  # once for the alignment, once for each of three bands


# --- what cannot be done --------------------------------------------------------------------------


def test_too_few_frames_are_refused():
    given = shot("through")
    with pytest.raises(InputsError, match="at least 5 frames of the shot; got 4"):
        make_clean_plate(given.read, 4)


def test_frames_of_different_sizes_are_refused_with_both():
    frames = [np.zeros((20, 30, 3), np.float32)] * 5 + [np.zeros((20, 31, 3), np.float32)]
    with pytest.raises(InputsError, match="got 30x20 and 31x20"):
        make_clean_plate(lambda index: frames[index], 6)


def test_a_camera_that_looks_elsewhere_is_refused():
    given = [shot("through", seed=seed, count=3).frames[0] for seed in range(7)]
    with pytest.raises(InputsError, match=r"only \d of 7 frames .* the camera moves too far"):
        make_clean_plate(lambda index: given[index].copy(), 7)


def test_frames_that_do_not_belong_are_left_out_and_named():
    given = list(shot("through").frames)
    given[4] = shot("through", seed=9).frames[4]
    plate = make_clean_plate(lambda index: given[index].copy(), 17)
    assert plate.left_out == (4,)
    assert plate.hidden_share == 0


def test_it_can_be_cancelled_at_every_stage():
    given = shot("through")
    stages = []

    def note(stage, done=0, total=0):
        stages.append((stage, done, total))

    made(given, align=True, checkpoint=note)
    assert stages[0] == ("align", 0, 17)
    assert stages[-1] == ("read", 16, 17)

    def stop(stage, done=0, total=0):
        if (stage, done) == ("read", 3):
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        made(given, checkpoint=stop)


# --- one pixel ------------------------------------------------------------------------------------


def one_pixel(*samples: tuple[float, float, float], tolerance: float = 0.02):
    stack = np.array(samples, np.float32)[None]
    colour = find_groups(stack, tolerance)
    return settle(stack, colour, np.array([2 * tolerance], np.float32), tolerance)


SET, COAT, SHIRT = (0.5, 0.4, 0.3), (0.2, 0.1, 0.1), (0.9, 0.8, 0.9)
NOTHING = (np.nan, np.nan, np.nan)
# The luma of SET in another colour.
AS_BRIGHT = (0.38, 0.45, 0.2)


def test_the_largest_group_of_alike_samples_is_the_set():
    found, sure = one_pixel(*[SET] * 6, *[COAT] * 2)
    np.testing.assert_allclose(found[0], SET, atol=1e-6)
    assert sure[0] == 1
    others = [(0.1 * k, 0.3, 0.05 * k) for k in range(9)]
    found, sure = one_pixel(*[SET] * 6, *others)
    np.testing.assert_allclose(found[0], SET, atol=1e-6)
    assert 0.3 < sure[0] <= 1


def test_two_groups_of_one_size_are_a_guess():
    _, sure = one_pixel(*[SET] * 5, *[COAT] * 5)
    assert sure[0] == 0


def test_things_of_one_brightness_and_other_colour_are_told_apart():
    assert abs(np.dot(SET, (0.2126, 0.7152, 0.0722)) - np.dot(AS_BRIGHT, (0.2126, 0.7152, 0.0722)))
    found, sure = one_pixel(*[SET] * 7, *[AS_BRIGHT] * 3)
    np.testing.assert_allclose(found[0], SET, atol=1e-6)
    assert 0 < sure[0] < 1


def test_a_group_of_two_proves_nothing():
    _, sure = one_pixel(SET, SET, COAT, NOTHING, NOTHING)
    assert sure[0] == 0


def test_without_any_sample_a_pixel_is_black_and_unsure():
    found, sure = one_pixel(NOTHING, NOTHING, NOTHING)
    assert found[0].tolist() == [0, 0, 0]
    assert sure[0] == 0


def test_the_median_of_an_even_group_lies_between_its_middles():
    stack = [(0.50, 0.4, 0.3), (0.51, 0.4, 0.3), (0.52, 0.4, 0.3), (0.53, 0.4, 0.3)]
    found, _ = one_pixel(*stack)
    assert found[0][0] == pytest.approx(0.515)
