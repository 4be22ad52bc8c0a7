"""The three functions of a frame, each called alone."""

import numpy as np
import pytest
import torch

from fakes.matting_models import Keyer, keyer_card
from mattebridge.engine.clean_plates import CleanPlates
from mattebridge.engine.infer import InferredFrame, infer
from mattebridge.engine.picture import Picture
from mattebridge.engine.postprocess import postprocess
from mattebridge.engine.preprocess import PreparedFrame, preprocess
from mattebridge.engine.request import FrameRequest
from mattebridge.errors import Cancelled
from mattebridge.ocio.space import SRGB
from mattebridge.wire.params import RenderParams

CPU = torch.device("cpu")


def request(card=None, **params):
    card = card or keyer_card()
    settings = card.settings_schema.validate({}, model=card.name)
    return FrameRequest(card, RenderParams(**{"colorspace": "srgb", **params}), settings)


def ramp(height=6, width=8, channels=3):
    count = height * width * channels
    return np.linspace(0, 1, count, dtype=np.float32).reshape(height, width, channels)


def picture(values):
    return Picture.of(torch.from_numpy(values), SRGB)


def prepared(**changes):
    plate = picture(ramp())
    return PreparedFrame(
        **{
            "request": request(),
            "plate": plate,
            "clean_plate": picture(ramp() * np.float32(0.5)),
            "outside": None,
            "mattes": {},
            "notes": {},
            **changes,
        }
    )


def test_preprocess_reads_the_planes_and_keeps_the_clean_plate():
    planes = {
        "plate": (ramp(channels=4) * 255).astype(np.uint8),
        "clean_plate": ramp().astype(np.float16),
        "core_matte": ramp(channels=1) * 2,
    }
    kept = CleanPlates(2**20)
    frame = preprocess(planes, request(), CPU, kept)
    wanted = planes["plate"][..., :3] / np.float32(255)
    assert np.array_equal(frame.plate.pixels.numpy(), wanted)
    assert (frame.plate.lowest, frame.plate.highest) == (wanted.min(), wanted.max())
    assert frame.clean_plate.pixels.dtype == torch.float32
    assert frame.mattes["core_matte"].max() == 1
    assert len(kept) == 1
    again = preprocess(planes, request(), CPU, kept)
    assert again.clean_plate is frame.clean_plate


def test_preprocess_shares_no_memory_with_the_planes():
    planes = {"plate": ramp(), "clean_plate": ramp() / 2, "garbage_matte": ramp(channels=1)}
    frame = preprocess(planes, request(), CPU, CleanPlates(2**20))
    images = [frame.plate.pixels, frame.clean_plate.pixels, frame.mattes["garbage_matte"]]
    for image, plane in zip(images, planes.values()):
        assert not np.shares_memory(image.numpy(), plane)


def test_a_clean_plate_that_is_torn_is_not_kept():
    def torn(stage, done=0, total=0):
        raise Cancelled("the arena changed")

    kept = CleanPlates(2**20)
    with pytest.raises(Cancelled):
        preprocess({"plate": ramp(), "clean_plate": ramp()}, request(), CPU, kept, checkpoint=torn)
    assert len(kept) == 0


def test_infer_gives_the_models_matte_at_the_size_of_the_frame():
    model = Keyer(keyer_card(multiple=16))
    model.load("cpu")
    made = infer(model, prepared(request=request(model.card)))
    assert made.alpha.shape == (6, 8)
    assert made.foreground.shape == (6, 8, 3)
    assert made.covered == (16, 16)
    assert made.foreground_range == (0, 1)
    assert torch.equal(made.foreground, prepared().plate.pixels)


def test_postprocess_fills_what_there_is_a_target_for():
    frame = prepared()
    alpha = torch.full((6, 8), 0.25)
    made = InferredFrame(alpha, frame.plate.pixels, (0, 1), (6, 8))
    whole = torch.full((6, 10, 4), 7.0, dtype=torch.float16)
    found = postprocess(made, frame, {"premultiplied": whole[:, 1:9]})
    assert (whole[:, [0, 9]] == 7).all()
    assert (whole[:, 1:9, 3] == 0.25).all()
    assert found.clamped == {}
    assert found.write_s >= 0


def test_postprocess_changes_nothing_that_it_was_given():
    frame = prepared(mattes={"core_matte": torch.linspace(0, 1, 48).view(6, 8)})
    alpha, foreground = torch.full((6, 8), 0.25), torch.full((6, 8, 3), 1.5)
    made = InferredFrame(alpha.clone(), foreground.clone(), (1.5, 1.5), (6, 8))
    postprocess(made, frame, {"foreground": torch.empty(6, 8, 3), "alpha": torch.empty(6, 8, 1)})
    assert torch.equal(made.alpha, alpha)
    assert torch.equal(made.foreground, foreground)
