"""What is computed of light above white, which the network does not see."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.highlights import with_highlights

SIZE = (8, 12)


def given(clean_plate: float, *, scene_linear: bool = True, alpha: float = 0.5) -> ModelInput:
    """A subject of 0.5 before a flat set, mixed in encoded values."""
    empty = np.full((*SIZE, 3), clean_plate, np.float32)
    plate = np.float32(alpha) * np.float32(0.5) + np.float32(1 - alpha) * empty
    return ModelInput(plate, empty, None, None, scene_linear, {})


def matte(alpha: float, colour: float) -> tuple[np.ndarray, np.ndarray]:
    return np.full(SIZE, alpha, np.float32), np.full((*SIZE, 3), colour, np.float32)


@pytest.mark.parametrize("scene_linear", [False, True])
def test_without_light_above_white_not_a_bit_changes(scene_linear: bool) -> None:
    alpha, colour = matte(0.3, 0.9)
    complete(given(1.0, scene_linear=scene_linear), alpha, colour, matte(0.5, 0.5))
    assert (alpha == np.float32(0.3)).all()
    assert (colour == np.float32(0.9)).all()


def complete(
    frame: ModelInput, alpha: np.ndarray, colour: np.ndarray, first: tuple[np.ndarray, np.ndarray]
) -> None:
    """Correct the arrays in place."""
    matte, other = map(torch.from_numpy, (alpha, colour)), map(torch.from_numpy, first)
    shown = Frame.of(frame)
    brightest = float(shown.plate.max()), float(shown.clean_plate.max())
    with_highlights(shown, *matte, tuple(other), brightest)


def test_before_a_lamp_of_the_set_the_keyers_matte_counts() -> None:
    frame = given(3.0, scene_linear=False)
    alpha, colour = matte(0.0, 1.0)
    complete(frame, alpha, colour, matte(0.5, 0.5))
    assert np.allclose(alpha, 0.5)
    assert np.allclose(colour, 0.5, atol=1e-6)


def test_before_a_set_just_above_white_the_two_are_blended() -> None:
    alpha, colour = matte(0.0, 1.0)
    complete(given(1.05, scene_linear=False), alpha, colour, matte(0.5, 0.5))
    assert np.allclose(alpha, 0.25, atol=1e-3)


def test_a_highlight_of_an_opaque_subject_is_kept_whole() -> None:
    frame = given(0.2)
    frame.plate[2:4, 2:4] = 3.0
    alpha, colour = matte(1.0, 1.0)
    complete(frame, alpha, colour, matte(1.0, 1.0))
    assert (colour[2:4, 2:4] == 3).all()
    assert (colour[4:] == 1).all()


def test_away_from_the_lamps_a_display_encoded_frame_keeps_the_networks_pixels() -> None:
    frame = given(0.4, scene_linear=False)
    assert frame.clean_plate is not None
    frame.clean_plate[0, 0] = 4.0
    alpha, colour = matte(0.5, 0.7)
    complete(frame, alpha, colour, matte(0.9, 0.1))
    assert (alpha.ravel()[1:] == np.float32(0.5)).all()
    assert (colour.reshape(-1, 3)[1:] == np.float32(0.7)).all()


def test_beside_lamps_a_linear_frame_is_explained_in_linear_light() -> None:
    frame = given(0.4)
    assert frame.clean_plate is not None
    frame.clean_plate[0, 0] = 4.0
    alpha, colour = matte(0.5, 0.7)
    complete(frame, alpha, colour, matte(0.9, 0.1))
    assert np.allclose(colour.reshape(-1, 3)[1:], 0.49, atol=0.02)
