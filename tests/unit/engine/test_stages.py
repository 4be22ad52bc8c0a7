"""The three functions of a frame, each called alone."""

import numpy as np
import pytest
import torch

from fakes.matting_models import Keyer, keyer_card
from mattebridge.engine.clean_plates import CleanPlates
from mattebridge.engine.infer import InferredFrame, infer
from mattebridge.engine.picture import Picture
from mattebridge.engine.postprocess import _SMALL, postprocess
from mattebridge.engine.preprocess import PreparedFrame, preprocess
from mattebridge.engine.request import FrameRequest
from mattebridge.engine.samples import picture_of
from mattebridge.errors import Cancelled
from mattebridge.ocio.space import LINEAR, SRGB
from mattebridge.wire.params import RenderParams

CPU = torch.device("cpu")
CHANNELS = {"alpha": 1, "foreground": 3, "premultiplied": 4}


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


@pytest.mark.parametrize("change", [None, (0, 0, 0), (39, 29, 2)])
def test_a_plate_that_is_known_is_found_without_a_copy(change):
    random = np.random.default_rng(1)
    raw = torch.from_numpy(random.random((40, 30, 4), np.float32))
    # Many blocks, on any number of threads.
    known = [torch.zeros(40, 30, 3), raw[..., :3].clone(), torch.zeros(40, 31, 3)]
    if change is not None:
        known[1][change] = -known[1][change]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mattebridge.engine.blocks._BLOCK_VALUES", 600)
        found = picture_of(raw, known)
    assert torch.equal(found, raw[..., :3])
    assert (found is known[1]) == (change is None)
    assert torch.equal(known[0], torch.zeros(40, 30, 3))


def test_zero_and_minus_zero_are_two_plates():
    raw, known = torch.zeros(4, 5, 4), torch.zeros(4, 5, 3)
    assert picture_of(raw, [known]) is known
    assert torch.signbit(picture_of(-raw, [known])).all()


@pytest.mark.parametrize("space", ["linear", "srgb"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_colours_that_need_not_be_looked_at_are_those_that_were(space, dtype):
    """What is known to fit its type is finished in fewer steps: the same bits, and no infinity."""
    random = torch.Generator().manual_seed(2)
    alpha = torch.rand(64, 48, generator=random)
    foreground = torch.rand(64, 48, 3, generator=random)
    light = torch.rand(64, 48, 3, generator=random) * 3.99 - 1.995
    clean_up = {"despill_strength": 1.0, "spill_method": "average", "source_passthrough": True}
    asked = request(colorspace="linear", output_colorspace=space, edge_erode_px=0, **clean_up)
    frame = prepared(request=asked, plate=Picture.of(light, LINEAR), clean_plate=None)
    made = InferredFrame(alpha, foreground, (0.0, 1.0), (64, 48))

    def planes():
        return {role: torch.empty(64, 48, n, dtype=dtype) for role, n in CHANNELS.items()}

    quick, copies, slow = planes(), planes(), planes()
    assert postprocess(made, frame, quick, copies=copies).clamped == {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mattebridge.engine.postprocess._SMALL", dict.fromkeys(_SMALL, 0.0))
        assert postprocess(made, frame, slow).clamped == {}
    for role in CHANNELS:
        assert torch.equal(quick[role], slow[role])
        assert torch.equal(copies[role], slow[role])
        assert torch.isfinite(quick[role]).all()
    assert quick["foreground"].abs().max() > 1
