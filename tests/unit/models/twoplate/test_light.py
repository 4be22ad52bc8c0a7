"""A linear plate that the network explained in display values: what is left is shared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from mattebridge.color import over, srgb_decode, srgb_encode
from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate import light
from mattebridge.models.twoplate.light import explain_in_light

SIZE = (8, 12)
NOISE = 0.005
SET, SUBJECT = np.float32([0.2, 0.5, 0.35]), np.float32([0.8, 0.3, 0.25])


def flat(colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour, (*SIZE, 3)).astype(np.float32)


def mixed(alpha: np.ndarray, *, scene_linear: bool = True) -> ModelInput:
    """The subject over the set, mixed in light; alpha: (H, W)."""
    own, empty = srgb_decode(flat(SUBJECT)), srgb_decode(flat(SET))
    plate = srgb_encode(over(own * alpha[..., None], alpha, empty))
    return ModelInput(plate, flat(SET), None, None, scene_linear, {})


def ramp() -> np.ndarray:
    """A soft edge."""
    return np.tile(np.linspace(0.1, 0.9, SIZE[1], dtype=np.float32), (SIZE[0], 1))


def beside_a_subject(alpha: np.ndarray) -> np.ndarray:
    """With one opaque pixel in each row, so that the edge is a subject's and no shadow."""
    alpha = alpha.copy()
    alpha[:, -1] = 1
    return alpha


def composite_error(given: ModelInput, alpha: np.ndarray, colour: np.ndarray) -> float:
    own = srgb_decode(colour) * alpha[..., None]
    again = over(own, alpha, srgb_decode(given.clean_plate))
    return float(np.abs(again - srgb_decode(given.plate)).mean())


def explain(given: ModelInput, alpha: np.ndarray, colour: np.ndarray, noise: float) -> None:
    """Correct the arrays in place."""
    explain_in_light(Frame.of(given), torch.from_numpy(alpha), torch.from_numpy(colour), noise)


def test_a_matte_that_is_right_stays_as_it_is() -> None:
    alpha, colour = ramp(), flat(SUBJECT).copy()
    explain(mixed(ramp()), alpha, colour, NOISE)
    # Rounding of the curve, there and back.
    np.testing.assert_allclose(alpha, ramp(), atol=1e-5)
    np.testing.assert_allclose(colour, flat(SUBJECT), atol=1e-5)


def test_an_alpha_that_is_a_little_off_comes_nearer_and_the_composite_too() -> None:
    truth = beside_a_subject(ramp())
    given = mixed(truth)
    alpha, colour = beside_a_subject(ramp() - np.float32(0.05)), flat(SUBJECT).copy()
    before = composite_error(given, alpha, colour)
    explain(given, alpha, colour, NOISE)
    # Alpha off by 0.05 everywhere before; arithmetic without feedback, so rounding hardly counts.
    assert np.abs(alpha - truth).mean() < 0.025  # 0.0141
    assert composite_error(given, alpha, colour) < 0.05 * before  # 0.020


def test_what_grain_explains_is_left_alone() -> None:
    given = mixed(beside_a_subject(ramp()))
    off = beside_a_subject(ramp() - np.float32(0.05))
    alpha, colour = off.copy(), flat(SUBJECT).copy()
    explain(given, alpha, colour, 100.0)
    np.testing.assert_allclose(alpha, off, atol=1e-5)
    np.testing.assert_allclose(colour, flat(SUBJECT), atol=1e-5)


def test_what_is_far_from_every_opaque_pixel_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shadow, or a thing of the set that moved, is no subject that shows the set through."""
    monkeypatch.setattr(light, "NEAR_PX", 3)
    alpha, colour = np.full(SIZE, 0.3, np.float32), flat(SUBJECT).copy()
    alpha[:2, :2] = 1
    explain(mixed(np.full(SIZE, 0.5, np.float32)), alpha, colour, NOISE)
    assert alpha[2, 2] > 0.35  # 0.44
    assert (alpha[-1] == np.float32(0.3)).all()


@pytest.mark.parametrize("why", ["display", "opaque", "empty", "outside", "above white"])
def test_not_a_bit_changes_where_there_is_nothing_to_explain(why: str) -> None:
    given = mixed(ramp(), scene_linear=why != "display")
    if why == "outside":
        given = dataclasses.replace(given, outside=np.ones(SIZE, np.bool_))
    if why == "above white":
        given = dataclasses.replace(given, clean_plate=given.clean_plate + np.float32(1))
    alpha = {"opaque": np.ones(SIZE, np.float32), "empty": np.zeros(SIZE, np.float32)}.get(
        why, ramp() - np.float32(0.05)
    )
    colour, before = flat(SUBJECT).copy(), alpha.copy()
    explain(given, alpha, colour, NOISE)
    assert np.array_equal(alpha, before)
    assert np.array_equal(colour, flat(SUBJECT))


def test_a_subject_above_white_is_not_measured_by_its_cut_colour() -> None:
    alpha, colour = beside_a_subject(ramp()), flat(SUBJECT).copy()
    found = alpha * np.float32(0.9)
    for brightness, stays in ((1.0, False), (1.5, True)):
        made, keyed = beside_a_subject(found), torch.full((*SIZE, 3), brightness)
        images = map(torch.from_numpy, (made, colour.copy()))
        explain_in_light(Frame.of(mixed(ramp())), *images, NOISE, keyed)
        assert np.array_equal(made, beside_a_subject(found)) == stays
