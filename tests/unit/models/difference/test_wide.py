"""The keyer's matte with a wider band, beside the usual one."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from fakes.both_bands import keyed_both
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.keyer import keyed
from mattebridge_sample.composites import Composite, composite


@lru_cache(maxsize=2)
def frame(blend: str = "display") -> Composite:
    return composite("clean", 2, blend=blend, long_side=320)


def given(blend: str = "display") -> ModelInput:
    made = frame(blend)
    return ModelInput(made.plate, made.clean_plate, None, None, blend == "linear", {})


@lru_cache(maxsize=2)
def both(blend: str = "display") -> tuple[ModelOutput, ModelOutput]:
    return keyed_both(given(blend))


@pytest.mark.parametrize("blend", ["display", "linear"])
def test_the_usual_matte_is_that_of_the_keyer_to_the_bit(blend: str) -> None:
    narrow, _ = both(blend)
    alone = keyed(given(blend), no_checkpoint)
    assert np.array_equal(narrow.alpha, alone.alpha)
    assert np.array_equal(narrow.foreground, alone.foreground)


def test_the_wide_one_opens_only_what_was_sure_subject() -> None:
    narrow, wide = both()
    opened = wide.alpha < narrow.alpha
    assert opened.mean() > 0.001
    assert np.array_equal(wide.alpha[~opened], narrow.alpha[~opened])
    assert narrow.alpha[opened].min() == 1
    assert np.array_equal(wide.foreground[~opened], narrow.foreground[~opened])
    assert wide.alpha.min() >= 0


def test_where_nothing_is_subject_both_are_one() -> None:
    empty = frame().clean_plate
    alone, wide = keyed_both(ModelInput(empty, empty, None, None, False, {}))
    assert not alone.alpha.any()
    assert np.array_equal(alone.alpha, wide.alpha)
