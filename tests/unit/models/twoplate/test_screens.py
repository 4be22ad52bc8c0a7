"""A clean plate of a screen alone: `screen` keys the frame, and the reply says so."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from mattebridge.checkpoint import no_checkpoint
from mattebridge.engine.engine import Engine
from mattebridge.models.base import MattingModel, ModelInput, ModelOutput
from mattebridge.models.registry import Registry
from mattebridge.wire.params import RenderParams

SIZE = (120, 160)
GREEN, RED = (0.16, 0.62, 0.27), (0.7, 0.2, 0.15)


@pytest.fixture(scope="module")
def model() -> MattingModel:
    made = Registry().make("twoplate")
    made.load("cpu")
    return made


def alpha() -> np.ndarray:
    mask = np.zeros(SIZE, np.float32)
    cv2.circle(mask, (80, 60), 34, 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(mask, (0, 0), 1.5)


def grained(picture: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.006, picture.shape)
    return (picture + noise).clip(0, 1).astype(np.float32)


def screen(seed: int = 1) -> np.ndarray:
    light = np.linspace(1, 0.8, SIZE[1], dtype=np.float32)[None, :, None]
    return grained(np.broadcast_to(np.float32(GREEN) * light, (*SIZE, 3)), seed)


def hall() -> np.ndarray:
    rng = np.random.default_rng(9)
    return cv2.GaussianBlur(rng.random((*SIZE, 3), np.float32), (0, 0), 2)


def given(clean_plate: np.ndarray, **others: object) -> ModelInput:
    share = alpha()[..., None]
    plate = grained(share * np.float32(RED) + (1 - share) * clean_plate, 2)
    return dataclasses.replace(
        ModelInput(plate, clean_plate, None, None, False, {}),
        **others,  # type: ignore[arg-type]
    )


def matte(model: MattingModel, frame: ModelInput, **settings: object) -> ModelOutput:
    checked = model.settings_schema.validate(settings, model="twoplate")
    return model.matte(dataclasses.replace(frame, settings=checked), no_checkpoint)


def by_screen(frame: ModelInput) -> ModelOutput:
    keyer = Registry().make("screen")
    settings = keyer.settings_schema.validate({"screen": "green"}, model="screen")
    return keyer.matte(dataclasses.replace(frame, settings=settings), no_checkpoint)


def test_a_screen_is_keyed_by_the_model_for_screens(model: MattingModel) -> None:
    frame = given(screen())
    made, wanted = matte(model, frame), by_screen(frame)
    assert made.notes["keyer"] == "screen"
    assert made.notes["screen"] == "green"
    assert np.array_equal(made.alpha, wanted.alpha)
    assert np.array_equal(made.foreground, wanted.foreground)


def test_a_set_is_not(model: MattingModel) -> None:
    assert "keyer" not in matte(model, given(hall())).notes


def test_it_can_be_refused(model: MattingModel) -> None:
    made = matte(model, given(screen()), screen="off")
    assert "keyer" not in made.notes
    assert "noise" in made.notes


def test_the_clean_plate_as_it_was_sent_decides_for_every_frame_of_a_shot(
    model: MattingModel,
) -> None:
    """Whatever aligning it to one of them made of it."""
    swapped = given(screen(), unfitted=hall())
    assert "keyer" not in matte(model, swapped).notes
    outside = np.zeros(SIZE, bool)
    outside[:, :30] = True
    half = screen()
    half[outside] = 0.5
    assert matte(model, given(half, unfitted=screen(), outside=outside)).notes["keyer"] == "screen"


def test_tensors_are_given_back_for_tensors(model: MattingModel) -> None:
    frame = given(screen())
    wanted = matte(model, frame)
    images = {"plate": torch.from_numpy(frame.plate)}
    images["clean_plate"] = torch.from_numpy(frame.clean_plate)
    made = matte(model, dataclasses.replace(frame, **images))
    assert torch.is_tensor(made.alpha)
    assert torch.is_tensor(made.foreground)
    assert np.array_equal(made.alpha, wanted.alpha)
    assert np.array_equal(made.foreground, wanted.foreground)


def test_islands_are_left_out_as_of_any_matte(model: MattingModel) -> None:
    frame = given(screen())
    frame.plate[4:6, 4:6] = RED
    assert by_screen(frame).alpha[:8, :8].max() > 0.9
    assert matte(model, frame, specks=0.001).alpha[:8, :8].max() == 0


def test_a_reply_says_it_with_a_clean_plate_that_had_to_be_fitted() -> None:
    """The engine hands the model the clean plate as it was sent, beside the fitted one."""
    frame = given(screen())
    planes = {"plate": frame.plate, "clean_plate": np.asarray(screen(3) * 0.93, np.float32)}
    out = {"alpha": np.empty((*SIZE, 1), np.float32)}
    params = RenderParams(colorspace="srgb")
    report = Engine().matte(planes, params, model="twoplate", out=out)
    assert report.notes["alignment"]["gain"] != [1, 1, 1]
    assert report.notes["model"]["keyer"] == "screen"
    # Measured: 2.
    assert np.abs(out["alpha"][..., 0] - alpha()).mean() * 1e3 < 5
