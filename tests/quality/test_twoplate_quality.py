"""The shipped network against true alpha: which weights they are, and how good.

The frames are those that the classical keyer is held to; none of them, and nothing drawn by the
same code, was trained on. Figures are mean absolute alpha errors in thousandths. All of them take
a minute: they are marked slow, and the default run has one small frame (e2e/test_default_model.py).
"""

from __future__ import annotations

import hashlib

import pytest

from mattebridge.models.registry import DEFAULT_MODEL, Registry
from mattebridge.models.twoplate.card import WEIGHTS
from mattebridge_sample.composites.shoot import BLENDS, KINDS
from quality.judging import Result, change_of_a_still, mean

# Other weights need other bounds, and a line in docs/model_card.md.
DIGEST = "sha256:6b5937ef51261b1d1155528a1b068f60ea3ebf474c38f6f04c3100991fa9a605"
# Measured, with a tenth to spare and more; drift 31.2, motion 15.6. Rounding (one thread
# and SSE4.2 against two threads and AVX2) moved the error of each drift frame by less than 0.01.
LARGEST_BY_KIND = {
    "clean": 15.3,
    "shadow": 70.6,
    "drift": 34.4,
    "similar": 38.0,
    "noisy": 56.7,
    "motion": 17.2,
}
LARGEST_FOREGROUND = 6.7
# The goal is 2. Measured 1.51 in display values and 2.34 in light: since gaps between strands are
# solved and soft pixels are measured, they follow the grain there (1.80 before both).
LARGEST_CHANGE = 2.6


@pytest.fixture(scope="module")
def model():
    made = Registry().make("twoplate")
    made.load("cpu")
    return made


@pytest.fixture(scope="module")
def results(network_results) -> list[Result]:
    return network_results


def test_the_weights_are_those_that_were_judged() -> None:
    assert "sha256:" + hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == DIGEST
    assert Registry().card("twoplate").digest == DIGEST
    assert WEIGHTS.stat().st_size <= 10_000_000


def test_it_is_the_default() -> None:
    assert DEFAULT_MODEL == "twoplate"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_stays_within_its_bound_and_beats_the_plain_key(results, kind) -> None:
    assert mean(results, "alpha", kind=kind) < LARGEST_BY_KIND[kind]
    assert mean(results, "alpha", kind=kind) < 0.8 * mean(results, "key", kind=kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_it_beats_the_keyer_that_it_starts_from_in_every_kind(results, keyer_results, kind) -> None:
    assert mean(results, "alpha", kind=kind) < mean(keyer_results, "alpha", kind=kind)


@pytest.mark.slow
@pytest.mark.parametrize("blend", BLENDS)
def test_it_beats_the_keyer_that_it_starts_from_in_both_blends(
    results, keyer_results, blend
) -> None:
    assert mean(results, "alpha", blend=blend) < mean(keyer_results, "alpha", blend=blend)


@pytest.mark.slow
def test_the_subjects_colour_is_found(results) -> None:
    assert mean(results, "foreground") < LARGEST_FOREGROUND


@pytest.mark.slow
@pytest.mark.parametrize("blend", BLENDS)
def test_a_still_picture_with_fresh_grain_hardly_changes_its_matte(model, blend) -> None:
    assert change_of_a_still(model, blend) < LARGEST_CHANGE
