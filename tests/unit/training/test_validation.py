"""The validation set of the training: always the same frames, and none of them is trained on."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from numpy.typing import NDArray
from training import judge, production, table, validation
from training.layers.recipe import VALIDATION_2026
from training.plan import Plan
from training.trainer import Trainer

from mattebridge_sample.composites import Composite
from mattebridge_sample.composites.shoot import BLENDS, KINDS

SIDE = 96
# The means of the four quarters (top left, top right, bottom left, bottom right) of plate, clean
# plate, alpha and foreground, times 10,000, of 12 frames of the set `frozen`: kind, number, blend.
# The frames were chosen so that together they run every function that VALIDATION_2026 reaches.
# Other numbers here mean another set, whose figures do not compare with earlier ones.
#
# Means, not a digest of the pixels: processors round differently, and a value near a half then
# becomes another byte. Measured: with OpenCV's code for AVX and IPP switched off, 26 of the 192
# planes of 48 frames have other bytes, each by 1 of 255, and no mean moves by more than 0.000002.
# Random errors of 16 float roundings after every noise field, blur, resize and shading move no mean
# by more than 0.000007. (Frames with JPEG are left out: it enlarges such an error to 0.0002.)
# One random number more moves means by 0.01 to 0.5. Of 150 constants of the drawing code changed by
# 5 %, one at a time, 102 change a pixel of these frames, and 83 of them are found.
FROZEN = """
clean 11 display  3344 3659 4363 3894 3156 3442 3368 3585 2637 1053 3572 1346 1690 1588 3156 2573
clean 26 display  5633 6058 3014 3564 5281 5728 2707 3334 3088 1434 2154 1027 2181 1428 1768 1128
shadow 6 linear   3504 4119 3410 4299 2817 3764 3048 4409 3986 2162 1220  369 4611 3384 1569  359
shadow 14 linear  5066 4637 4342 3976 5511 5680 5435 5260 1203 3544 2176 3799  361  892  776 1414
drift 7 linear    9219 6793 9110 6166 9450 9325 9479 9305  193 6543  350 5073  137 3966  136 1834
drift 21 linear   5262 4546 4515 4287 5056 4122 3940 3435 2041 3771 2571 3353 1269 2201 1826 2196
similar 22 linear 7416 6437 5739 5160 6558 6141 6000 5972 6453 8730 4897 4739 5744 6031 2557 3041
similar 27 display 5844 5720 5263 4650 7071 4446 6246 4583 9951 9485 7093 3859 5845 5667 3905 2090
noisy 4 linear    5225 4703 5373 5968 5416 4155 5221 6198 6793 7172 2657 2672 5191 5081 2952 2767
noisy 14 linear   7005 7191 5684 6131 6277 6167 5134 5924 3899 4989 1453 1323 6464 7874 3367 3512
motion 1 display  3980 4965 4778 6296 6973 6590 6208 6454 4479 2632 2165  348 1572 1077  820  153
motion 6 linear   1350 1714 1772 1785 1808 1766 1790 1787 4678  586  191    0  517  102   63    2
"""
# The same of the set `production`: kind, number. Of `lights` cut at white.
PRODUCTION = """
hd 0          5999 6202 5626 6372 5883 5891 4617 6677 8064 5422 6355 6965 5878 6017 6267 6355
hd 1          4696 4037 3777 4073 5914 4741 3646 4002 6440 6200 1515 1737 3913 4010 4018 3891
green 0       3672 3255 5496 5436 3433 3432 3435 3431 3101 9470 8216 10000 3860 3278 5758 5438
green 1       3687 3495 3948 4907 2893 3315 3040 3550 4630 2987 8869 9274 4990 4606 3939 4840
blue 0        2863 2798 2929 3284 3435 3435 3434 3432 8349 6658 7518 1803 2702 2536 2812 2635
blue 1        3158 2657 3250 2741 3385 2608 3629 2689 5859 2439 8452 5457 2868 3158 2844 2842
lights 0      4795 5774 2606 2245 5086 7309 2564 2169 2076 6885  338  635 3881 4072 3888 3861
lights 1      5008 5034 6120 5338 3601 4260 5707 4359 8816 3000 4333 4496 5155 5742 5770 5498
breathing 0   3803 6539 6009 6708 3155 7920 3413 4707 9850 3011 9771 6349 3784 3192 5980 5786
breathing 1   4318 5666 4416 4991 6544 5558 4753 5502 5539 5057 1011 1560 2608 4388 3566 3497
"""
# The rounding of the table, and 14 times what the random errors above move a mean by.
TOLERANCE = 0.00005 + 0.0001


@lru_cache(maxsize=16)
def frame(kind: str, blend: str = "display", number: int = 1) -> Composite:
    return validation.frame(kind, number, blend, side=SIDE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_frame_is_always_the_same_and_in_range(kind: str) -> None:
    again = validation.frame(kind, 1, "display", side=SIDE)
    made = frame(kind)
    for name in ("plate", "clean_plate", "alpha", "foreground"):
        values = getattr(made, name)
        assert np.array_equal(values, getattr(again, name))
        assert values.dtype == np.float32
        assert 0 <= values.min() <= values.max() <= 1
    assert max(made.plate.shape) == SIDE
    assert made.alpha.shape == made.plate.shape[:2]


def quarter_means(made: Composite) -> NDArray[np.float64]:
    """Four means of each plane, (16,)."""
    planes = (made.plate, made.clean_plate, made.alpha, made.foreground)
    quarters = [
        quarter
        for plane in planes
        for half in np.array_split(plane, 2)
        for quarter in np.array_split(half, 2, axis=1)
    ]
    return np.array([quarter.mean(dtype=np.float64) for quarter in quarters])


@pytest.mark.parametrize("line", FROZEN.strip().splitlines(), ids=lambda line: line[:17].strip())
def test_the_frozen_set_has_the_pixels_it_always_had(line: str) -> None:
    kind, number, blend, *expected = line.split()
    found = quarter_means(frame(kind, blend, int(number)))
    assert found == pytest.approx(np.array(expected, np.float64) / 10_000, abs=TOLERANCE)


@pytest.mark.parametrize("line", PRODUCTION.strip().splitlines(), ids=lambda line: line[:11])
def test_the_production_set_has_the_pixels_it_always_had(line: str) -> None:
    kind, number, *expected = line.split()
    made = production.frame(kind, int(number), side=SIDE)
    assert max(made.plate.shape) == (3 * SIDE if kind == "hd" else SIDE)
    assert (made.plate.max() > 1) == (kind == "lights")
    cut = replace(
        made, plate=np.minimum(made.plate, 1), clean_plate=np.minimum(made.clean_plate, 1)
    )
    found = quarter_means(cut)
    assert found == pytest.approx(np.array(expected, np.float64) / 10_000, abs=TOLERANCE)


def test_the_production_set_is_drawn_by_its_name() -> None:
    wanted = validation.wanted("production", 2, side=SIDE)
    assert [(kind, number) for _, kind, number, _, _ in wanted] == [
        (kind, number) for kind in production.KINDS for number in range(2)
    ]
    made = validation.drawn(wanted[-1])
    assert (made.kind, made.blend) == ("breathing", wanted[-1][3])


def test_a_table_of_models_has_every_figure_of_each_beside_the_others() -> None:
    made = frame("clean")
    perfect = judge.measured(made, made.alpha, made.foreground)
    nothing = judge.measured(made, 0 * made.alpha, made.foreground)
    rows = [
        table.Judged("frozen", kind, f"{kind}_00", model, figures)
        for kind in ("clean", "motion")
        for model, figures in (("a/best.safetensors", perfect), ("difference", nothing))
    ]
    first, _, heading, clean, motion, every = table.as_text(rows).splitlines()
    assert first.endswith("best, difference")
    assert heading.split()[0] == "frozen"
    for line, name in ((clean, "clean (1)"), (motion, "motion (1)"), (every, "all (2)")):
        assert line.startswith(name)
        assert line.split("|")[1].split() == ["0.00", f"{nothing.mad:.2f}"]


def test_a_random_number_more_makes_other_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above finds it, even if the probability is so low that it changes no decision."""
    kind, number, blend = "clean", 11, "display"
    usual = quarter_means(frame(kind, blend, number))
    monkeypatch.setattr(validation, "VALIDATION_2026", replace(VALIDATION_2026, wispy=1e-9))
    other = quarter_means(validation.frame(kind, number, blend, side=SIDE))
    assert np.abs(other - usual).max() > 100 * TOLERANCE


def test_the_shadow_is_in_the_plate_alone() -> None:
    made = frame("shadow")
    background = made.alpha == 0
    # .527 and .573; a pixel that rounds differently moves them by less than .0001.
    assert made.plate[background].mean() < made.clean_plate[background].mean()


def test_plain_frames_differ_from_the_clean_plate_by_grain_alone() -> None:
    made = frame("clean")
    away = np.abs(made.plate - made.clean_plate).mean(2)[made.alpha == 0]
    # .0088 with this grain, of which rounding moves nothing that counts.
    assert away.mean() < 0.02


def test_both_blends_are_in_the_set() -> None:
    wanted = validation.wanted("frozen", 2)
    assert len(wanted) == 2 * len(KINDS) * len(BLENDS)
    assert {(kind, blend) for _, kind, _, blend, _ in wanted} == {
        (kind, blend) for kind in KINDS for blend in BLENDS
    }


def test_the_frames_of_the_tests_can_be_judged_too() -> None:
    job = validation.wanted("quality", 1, side=64)[0]
    (made,) = validation.each(validation.drawn, [job], 0)
    assert made.plate.shape[:2] == made.alpha.shape


def test_a_network_is_judged_by_kind() -> None:
    frames = [judge.prepared(frame(k)) for k in ("clean", "similar")]
    found = judge.errors(Trainer(Plan(widths=(8, 8, 8))).averaged(), frames)
    assert set(found) == {"clean", "similar", "all", "without_similar"}
    assert found["without_similar"] == found["clean"]
    assert found["all"] == pytest.approx((found["clean"] + found["similar"]) / 2)
    # A network that has learned nothing gives the keyer's matte, its soft pixels measured again
    # and small gaps opened: .62 (clean) and .986 (similar) of its errors.
    for kind, of_keyer in judge.keyer_errors(frames).items():
        assert 0.4 * of_keyer < found[kind] < 1.1 * of_keyer


def test_the_change_of_a_still_picture_is_that_between_two_grains() -> None:
    made = frame("clean")
    first, second = (
        judge.prepared(replace(made, plate=validation.regrained(made.plate, seed)))
        for seed in (1, 2)
    )
    away = float(np.abs(first.keyed_alpha - second.keyed_alpha).mean() * 1e3)
    assert away > 0
    assert judge.keyer_change([(first, second)]) == pytest.approx(away)
    assert judge.keyer_change([(first, first), (first, second)]) == pytest.approx(away / 2)
    network = Trainer(Plan(widths=(8, 8, 8))).averaged()
    # A network that has learned nothing gives the keyer's matte, less its grain, and with that of
    # the soft pixels that are measured once more and of gaps, many in a picture of 96 pixels: 1.44
    # of the change. That of a network which ships is bounded in tests/quality.
    assert 0.5 * away < judge.change(network, [(first, second)]) < 2 * away


def test_the_table_has_a_line_for_every_kind_and_the_means() -> None:
    made = frame("clean")
    perfect = judge.measured(made, made.alpha, made.foreground)
    nothing = judge.measured(made, 0 * made.alpha, made.foreground)
    lines = judge.table([judge.Row(made, perfect, nothing)]).splitlines()
    assert [line.split("(")[0].strip() for line in lines[1:]] == [
        "clean",
        "display",
        "all",
        "without similar",
    ]
    assert "0.000" in lines[1]
    assert lines[0].split()[-2:] == ["keyer", "better"]
    assert lines[1].split()[-2:] == [f"{nothing.mad:.3f}", "1.000"]
