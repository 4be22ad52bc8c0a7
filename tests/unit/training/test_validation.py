"""The validation set of the training: always the same frames, and none of them is trained on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from training import judge, validation
from training.plan import Plan
from training.trainer import Trainer
from training.validation import Frame

from fakes.training_package import ROOT
from mattebridge_sample.composites.shoot import BLENDS, KINDS

SIDE = 96
# Of the sources in name order. It changes only with a new set, whose figures do not compare.
FROZEN = "e3563b7e1750b0b575abe133dd799a3ccea6259c732a10acb6f64485135b3354"


@lru_cache(maxsize=16)
def frame(kind: str, blend: str = "display", number: int = 1) -> Frame:
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


def test_the_frozen_layers_are_as_they_were() -> None:
    digest = hashlib.sha256()
    for path in sorted((ROOT / "training" / "frozen").glob("*.py")):
        digest.update(path.read_bytes())
    assert digest.hexdigest() == FROZEN


def test_the_shadow_is_in_the_plate_alone() -> None:
    made = frame("shadow")
    background = made.alpha == 0
    assert made.plate[background].mean() < made.clean_plate[background].mean()


def test_plain_frames_differ_from_the_clean_plate_by_grain_alone() -> None:
    made = frame("clean")
    away = np.abs(made.plate - made.clean_plate).mean(2)[made.alpha == 0]
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
    # A network that has learned nothing gives the keyer's matte, less its grain.
    assert judge.keyer_errors(frames) == pytest.approx(found, rel=0.05)


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
    # A network that has learned nothing gives the keyer's matte, less its grain.
    assert 0.5 * away < judge.change(network, [(first, second)]) < 0.95 * away


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
