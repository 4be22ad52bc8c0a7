"""The clean plate is aligned where it is out of register, and left as it is where it is not."""

import re

import cv2
import numpy as np
import pytest

from fakes.mostly_slow import mostly_slow
from fakes.places import ROOT
from mattebridge.clean_plate.match import (
    EXPOSURE_UNMATCHED,
    MOST_UNEXPLAINED,
    PARTLY_OUTSIDE,
    UNALIGNED,
    match_clean_plate,
)
from mattebridge.clean_plate.pair import (
    CleanSide,
    Pair,
    Solution,
    corners_of,
    matched,
    unexplained,
    worsens_somewhere,
)
from mattebridge.evaluate.metrics import difference_key, mad
from mattebridge_sample.composites import composite

SIZE = (240, 320)


def leaves(seed, size=SIZE):
    """A set with corners and texture everywhere, display-encoded 0.1 to 0.8."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((*size, 3), np.uint8)
    for _ in range(400):
        centre = tuple(int(v) for v in rng.uniform(0, 1, 2) * size[::-1])
        axes = tuple(int(v) for v in rng.uniform(3, 22, 2))
        colour = rng.uniform(25, 205, 3).tolist()
        cv2.ellipse(picture, centre, axes, rng.uniform(0, 360), 0, 360, colour, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(picture.astype(np.float32) / 255, (0, 0), 0.8)
    return np.clip(soft, 0.1, 0.8)


def grain(picture, seed, sigma=0.006):
    return np.maximum(
        picture + np.random.default_rng(seed).normal(0, sigma, picture.shape), 0
    ).astype(np.float32)


def with_subject(picture, left=90, right=170):
    plate = picture.copy()
    plate[60:, left:right] = (0.85, 0.1, 0.15)
    return plate


def warped(picture, matrix):
    size = picture.shape[1], picture.shape[0]
    return cv2.warpPerspective(
        picture, np.asarray(matrix, np.float64), size, borderMode=cv2.BORDER_REPLICATE
    )


def shift(dx, dy):
    return [[1, 0, dx], [0, 1, dy], [0, 0, 1]]


def moved_corners(matrix, size=SIZE):
    height, width = size
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    return cv2.perspectiveTransform(corners, np.asarray(matrix, np.float64))[0]


def test_a_locked_off_pair_comes_back_as_it_went_in():
    picture = leaves(1)
    clean_plate = grain(picture, 3)
    match = match_clean_plate(grain(with_subject(picture), 2), clean_plate, alignment="auto")
    assert match.clean_plate is clean_plate
    assert match.homography is None
    assert match.outside is None
    assert match.gain == (1, 1, 1)
    assert match.offset == (0, 0, 0)
    assert match.degraded == ()


@pytest.mark.parametrize(("dx", "dy"), [(0.4, -0.3), (-1.2, 0.7)])
def test_a_fraction_of_a_pixel_is_found(dx, dy):
    picture = leaves(1)
    plate = grain(with_subject(picture), 2)
    match = match_clean_plate(plate, grain(warped(picture, shift(-dx, -dy)), 3), alignment="auto")
    assert np.abs(moved_corners(match.homography) - moved_corners(shift(dx, dy))).max() < 0.15
    assert match.report["difference_after"] < 0.6 * match.report["difference_before"]
    assert match.degraded == ()


def test_a_camera_that_moved_is_followed_and_what_it_did_not_see_is_marked():
    picture = leaves(1)
    moved = np.array([[1.01, 0.02, 14.0], [-0.015, 0.99, -9.0], [2e-5, -1e-5, 1.0]])
    plate = grain(with_subject(picture), 2)
    clean_plate = grain(warped(picture, np.linalg.inv(moved)), 3)
    match = match_clean_plate(plate, clean_plate, alignment="auto")
    assert np.abs(moved_corners(match.homography) - moved_corners(moved)).max() < 0.5
    assert PARTLY_OUTSIDE in match.degraded
    assert match.outside[100, :8].all()
    assert not match.outside[80:160, 40:280].any()
    assert match.report["outside_share"] == pytest.approx(match.outside.mean(), abs=1e-4)
    inside = ~match.outside
    inside[50:, 80:180] = False
    assert np.median(np.abs(match.clean_plate - plate)[inside]) < 0.012


def test_exposure_and_white_balance_are_brought_back():
    picture = leaves(1)
    gain, offset = np.array([1.12, 0.93, 1.05]), np.array([-0.02, 0.03, 0.01])
    plate = grain(with_subject(picture), 2)
    clean_plate = grain((picture - offset) / gain, 3)
    match = match_clean_plate(plate, clean_plate, alignment="auto")
    assert match.gain == pytest.approx(tuple(gain), abs=0.02)
    assert match.offset == pytest.approx(tuple(offset), abs=0.01)
    unfitted = match_clean_plate(plate, clean_plate, alignment="auto", match_exposure=False)
    assert unfitted.gain == (1, 1, 1)


def test_a_fit_that_rests_on_one_corner_is_refused():
    plate, clean_plate = leaves(1), leaves(2)
    plate[:50, :70] = np.clip(clean_plate[:50, :70] * 1.2, 0, 1)
    flat = np.full_like(plate, 0.05)
    flat[:50, :70] = plate[:50, :70]
    clean_plate = np.full_like(plate, 0.95)
    clean_plate[:50, :70] = leaves(2)[:50, :70]
    match = match_clean_plate(flat, clean_plate)
    assert match.degraded == (EXPOSURE_UNMATCHED,)
    assert match.gain == (1, 1, 1)
    assert "exposure_refused" in match.report


def test_another_set_altogether_is_reported_as_unaligned():
    match = match_clean_plate(leaves(1), 1 - leaves(7), alignment="auto")
    assert UNALIGNED in match.degraded
    assert match.homography is None


def test_a_bare_wall_cannot_be_aligned_and_says_so_when_that_was_asked_for():
    wall = np.full((*SIZE, 3), 0.5, np.float32)
    plate = with_subject(wall)
    match = match_clean_plate(plate, wall, alignment="homography")
    assert match.degraded == (UNALIGNED,)
    assert match.report["alignment_refused"]
    assert match.clean_plate is wall
    assert match_clean_plate(plate, wall, alignment="auto").degraded == ()


def test_a_subject_with_corners_of_its_own_does_not_pull_the_clean_plate():
    picture, coat = leaves(1), leaves(5)
    plate = picture.copy()
    plate[40:, 60:220] = coat[40:, 60:220]
    clean_plate = picture.copy()
    # What was behind is like the coat, but elsewhere: its matches agree on a shift.
    clean_plate[40:, 72:232] = coat[40:, 60:220]
    match = match_clean_plate(grain(plate, 2), grain(clean_plate, 3), alignment="auto")
    assert match.homography is None


def test_a_known_subject_takes_no_part():
    picture = leaves(1)
    plate = grain(with_subject(warped(picture, shift(0.6, 0.5)), 20, 300), 2)
    subject = np.zeros(SIZE, np.float32)
    subject[60:, 20:300] = 1
    match = match_clean_plate(plate, grain(picture, 3), alignment="auto", subject=subject)
    assert np.abs(moved_corners(match.homography) - moved_corners(shift(0.6, 0.5))).max() < 0.5


@pytest.mark.parametrize("size", [(1, 1), (15, 200), (200, 15)])
def test_frames_under_16_pixels_are_left_alone(size):
    clean_plate = np.full((*size, 3), 0.4, np.float32)
    match = match_clean_plate(clean_plate * 2, clean_plate, alignment="homography")
    assert match.clean_plate is clean_plate
    assert match.degraded == ()


def test_light_above_white_is_kept_and_does_not_lead_the_fit():
    picture = leaves(1)
    picture[20:60, 200:280] = 6.0
    plate = grain(with_subject(picture), 2)
    match = match_clean_plate(plate, grain(picture / 1.1, 3), alignment="auto")
    assert match.gain == pytest.approx((1.1, 1.1, 1.1), abs=0.02)
    assert match.clean_plate[40, 240].min() > 5
    assert np.isfinite(match.clean_plate).all()
    assert match.clean_plate.min() >= 0


def test_off_leaves_the_geometry_alone():
    picture = leaves(1)
    clean_plate = warped(picture, shift(8, 3)) * np.float32(0.9)
    match = match_clean_plate(picture, clean_plate, alignment="off", match_exposure=True)
    assert match.homography is None
    untouched = match_clean_plate(picture, clean_plate, alignment="off", match_exposure=False)
    assert untouched.clean_plate is clean_plate


@pytest.mark.slow
def test_a_frame_is_matched_the_same_whatever_was_matched_before_it():
    picture = leaves(1)
    clean_plate = grain(warped(picture, shift(0.8, 0.4)) * 0.96, 3)
    side = CleanSide(clean_plate)
    for drift in range(4):
        moved = warped(picture, shift(drift * 0.7, -drift * 0.4)) * (1 + 0.01 * drift)
        plate = grain(with_subject(moved, 90 + 10 * drift, 170 + 10 * drift), 4 + drift)
        alone = match_clean_plate(plate, clean_plate, alignment="auto")
        after = match_clean_plate(plate, clean_plate, alignment="auto", clean_side=side)
        assert np.array_equal(after.clean_plate, alone.clean_plate)
        assert after.report == alone.report


def test_the_clean_plates_corners_are_looked_for_once_a_shot(monkeypatch):
    picture, looked = leaves(1), []
    clean_plate = grain(warped(picture, shift(0.8, 0.4)), 3)
    side = CleanSide(clean_plate)
    find = corners_of
    monkeypatch.setattr(
        "mattebridge.clean_plate.pair.corners_of",
        lambda small, free: looked.append(free is None) or find(small, free),
    )
    for seed in range(3):
        match_clean_plate(grain(picture, 4 + seed), clean_plate, alignment="auto", clean_side=side)
    assert looked.count(True) == 1
    assert looked.count(False) == 3


@pytest.mark.parametrize("values", [2, 6, 256])
def test_corners_belong_together_that_are_the_most_alike_to_each_other(values):
    random = np.random.default_rng(values)
    one, other = (random.integers(0, values, (n, 32)).astype(np.uint8) for n in (300, 257))
    other[::2] = one[random.integers(0, 300, 129)]  # some twice, so that several are as much alike
    apart = np.unpackbits(one[:, None] ^ other[None], axis=2).sum(axis=2)
    there, back = apart.argmin(axis=1), apart.argmin(axis=0)
    wanted = [(i, j) for i, j in enumerate(there.tolist()) if back[j] == i]
    wanted.sort(key=lambda pair: (apart[pair], pair[0]))
    assert matched(one, other).tolist() == [list(pair) for pair in wanted]


def test_what_was_prepared_of_another_clean_plate_is_not_used():
    picture = leaves(1)
    plate, clean_plate = grain(picture, 2), grain(warped(picture, shift(3, 2)), 3)
    other = CleanSide(grain(warped(picture, shift(-3, -2)), 3))
    match = match_clean_plate(plate, clean_plate, alignment="auto", clean_side=other)
    alone = match_clean_plate(plate, clean_plate, alignment="auto")
    assert np.array_equal(match.clean_plate, alone.clean_plate)


@pytest.fixture
def threads():
    before = cv2.getNumThreads()
    yield cv2.setNumThreads
    cv2.setNumThreads(before)


@pytest.mark.slow
def test_the_number_of_threads_changes_nothing(threads):
    picture = leaves(1, (300, 500))
    plate = grain(with_subject(picture), 2)
    clean_plate = grain(warped(picture, shift(6, -4)) * 0.95, 3)
    results = []
    for count in (1, 2):
        threads(count)
        results.append(match_clean_plate(plate, clean_plate, alignment="auto").clean_plate)
    assert np.array_equal(*results)


@pytest.mark.parametrize("kind", mostly_slow(["shadow", "noisy", "clean", "motion"], quick=2))
@pytest.mark.parametrize("blend", mostly_slow(["linear", "display"]))
def test_no_locked_off_frame_is_moved(kind, blend):
    frame = composite(kind, 2, blend=blend, long_side=400)
    match = match_clean_plate(frame.plate, frame.clean_plate, alignment="auto")
    assert match.homography is None
    assert max(np.abs(np.array(match.gain) - 1)) < 0.02


@pytest.mark.parametrize(("kind", "number", "softness"), [("clean", 4, 0.8), ("motion", 1, 1.6)])
def test_a_clean_plate_a_little_larger_and_softer_does_not_lock_on_to_a_wrong_place(
    kind, number, softness
):
    frame = composite(kind, number, blend="display", long_side=480)
    height, width = frame.plate.shape[:2]
    larger = shift(-0.005 * (width - 1), -0.005 * (height - 1))
    larger[0][0] = larger[1][1] = 1.01
    clean_plate = cv2.GaussianBlur(warped(frame.clean_plate, larger), (0, 0), softness)
    match = match_clean_plate(frame.plate, clean_plate, alignment="auto")
    unaligned, aligned = (
        mad(difference_key(frame.plate, seen), frame.alpha)
        for seen in (clean_plate, match.clean_plate)
    )
    assert aligned < unaligned
    found = moved_corners(match.homography, (height, width))
    wanted = moved_corners(np.linalg.inv(larger), (height, width))
    # The wrong places are more than ten pixels off.
    assert np.abs(found - wanted).max() < 6


def test_a_solution_that_puts_a_part_of_the_frame_out_of_place_is_seen():
    picture = leaves(1)
    pair = Pair(grain(picture, 2), CleanSide(grain(picture, 3)), None)
    right, wrong = Solution(), Solution(np.array([[0.95, 0, 0], [0, 0.95, 0], [0, 0, 1.0]]))
    assert unexplained(pair, right) < MOST_UNEXPLAINED < unexplained(pair, wrong)
    assert worsens_somewhere(pair, right, wrong)
    assert not worsens_somewhere(pair, wrong, right)


def test_the_protocol_lists_what_is_noted_of_an_alignment():
    page = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    table = page[page.index("The keys of `alignment`") :].split("\n\n")[1]
    rows = [line.split("|")[1] for line in table.splitlines()]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    picture = leaves(1)
    moved = warped(picture, shift(9, 4))
    pairs = [(picture, moved), (picture, leaves(2)), (np.zeros_like(picture), moved)]
    noted = {
        key
        for plate, clean_plate in pairs
        for key in match_clean_plate(plate, clean_plate, alignment="auto").report
    }
    assert noted | {"homography"} == listed
