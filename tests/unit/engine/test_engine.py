"""One frame through the engine: what the model sees, what the host gets, and every error."""

import dataclasses
import errno
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes.matting_models import Keyer, keyer_card, registry_of
from mattebridge.color import over, srgb_decode, srgb_encode
from mattebridge.engine.engine import Engine
from mattebridge.engine.maps import spread
from mattebridge.engine.request import FrameLimits
from mattebridge.errors import (
    Cancelled,
    DtypeError,
    GeometryError,
    InputsError,
    InternalError,
    MessageError,
    ModelError,
    NonFiniteError,
    OutOfMemoryError,
    TooLargeError,
)
from mattebridge.models.entry import Entry
from mattebridge.models.registry import Registry
from mattebridge.wire.params import RenderParams

HALF_STEP = 2.0**-11


def picture(seed, height, width, channels=3, low=0.0, high=1.0, dtype=np.float32):
    values = np.random.default_rng(seed).random((height, width, channels), np.float32)
    if np.dtype(dtype).kind == "u":
        return (values * np.iinfo(dtype).max).astype(dtype)
    return (values * np.float32(high - low) + np.float32(low)).astype(dtype)


def blank_outputs(height, width, dtype=np.float32, roles=("alpha", "foreground", "premultiplied")):
    channels = {"alpha": 1, "foreground": 3, "premultiplied": 4, "error": 1, "refinement": 1}
    return {role: np.full((height, width, channels[role]), np.nan, dtype) for role in roles}


def matte(planes, *, model=None, dtype=np.float32, roles=None, engine=None, **params):
    """Render `planes` with the fake keyer, in linear light and unaligned unless said otherwise."""
    model = model or Keyer()
    engine = engine or Engine(registry=registry_of(model))
    height, width = planes["plate"].shape[:2]
    roles = roles or ("alpha", "foreground", "premultiplied")
    out = blank_outputs(height, width, dtype, roles)
    call = {"clean_plate_key": params.pop("clean_plate_key", None)}
    call["checkpoint"] = params.pop("checkpoint", None)
    wanted = RenderParams(**{"colorspace": "linear", **params})
    report = engine.matte(planes, wanted, model=model.card.name, out=out, **call)
    return out, report


def pair(height=24, width=31, **options):
    return {
        "plate": picture(1, height, width, **options),
        "clean_plate": picture(2, height, width, **options),
    }


# --- what the model sees --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_model_sees_display_values_whatever_was_sent(dtype, colorspace, channels):
    model = Keyer()
    planes = pair(dtype=dtype, channels=channels)
    matte(planes, model=model, colorspace=colorspace)
    rgb = planes["plate"][..., :3]
    values = rgb / np.float32(np.iinfo(dtype).max) if rgb.dtype.kind == "u" else rgb
    values = values.astype(np.float32)
    wanted = values if colorspace == "srgb" else srgb_encode(values)
    seen = model.given[0]
    assert seen.plate.dtype == np.float32
    assert seen.plate.flags.c_contiguous
    assert np.allclose(seen.plate, wanted, atol=1e-6)
    assert seen.scene_linear == (colorspace == "linear")


def test_the_model_sees_nothing_below_black_or_above_white():
    model = Keyer()
    matte(pair(low=-0.5, high=30), model=model)
    seen = model.given[0]
    assert seen.plate.min() == 0
    assert seen.plate.max() == 1
    assert seen.clean_plate.max() == 1


def test_a_model_that_takes_highlights_sees_them_and_keeps_its_own():
    model = Keyer(keyer_card(accepts_hdr=True))
    planes = pair(low=-0.5, high=30)
    out, _ = matte(planes, model=model)
    assert model.given[0].plate.max() > 3
    assert model.given[0].plate.min() == 0
    assert np.allclose(out["foreground"], np.maximum(planes["plate"], 0), rtol=1e-5, atol=1e-6)


def test_a_hint_reaches_only_the_models_that_use_one():
    hint = picture(3, 24, 31, 1, low=-1, high=2)
    using, other = Keyer(keyer_card(uses_alpha_hint=True)), Keyer()
    _, report = matte({**pair(), "alpha_hint": hint}, model=using)
    assert np.array_equal(using.given[0].alpha_hint, np.clip(hint[..., 0], 0, 1))
    assert "ignored" not in report.notes
    _, report = matte({**pair(), "alpha_hint": hint}, model=other)
    assert other.given[0].alpha_hint is None
    assert report.notes["ignored"] == ["alpha_hint"]


def test_settings_and_frame_and_exactness_reach_the_model():
    model = Keyer()
    engine = Engine(registry=registry_of(model))
    planes, out = pair(), blank_outputs(24, 31)
    wanted = RenderParams("linear", exact=True, settings={"slope": 2})
    engine.matte(planes, wanted, model="default", out=out, frame=1001)
    seen = model.given[0]
    assert (seen.settings["slope"], seen.frame, seen.exact) == (2.0, 1001, True)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (3, 2), (17, 33), (64, 64)])
@pytest.mark.parametrize(("multiple", "minimum"), [(1, 1), (4, 1), (16, 64)])
def test_any_size_is_padded_to_what_the_model_takes_and_cropped_back(
    height, width, multiple, minimum
):
    model = Keyer(keyer_card(multiple, minimum, uses_alpha_hint=True))
    planes = {**pair(height, width), "alpha_hint": picture(3, height, width, 1)}
    roles = ("alpha", "foreground", "premultiplied", "error", "refinement")
    out, _ = matte(planes, model=model, roles=roles, colorspace="srgb")
    seen = model.given[0]
    rule = model.card.size_rule
    assert seen.plate.shape == (rule.padded(height), rule.padded(width), 3)
    assert seen.alpha_hint.shape == seen.plate.shape[:2]
    assert np.array_equal(seen.plate[-1, -1], planes["plate"][-1, -1])
    assert np.array_equal(seen.plate[:height, :width], planes["plate"])
    assert np.array_equal(out["foreground"], planes["plate"])
    assert all(np.isfinite(values).all() for values in out.values())
    difference = np.abs(planes["plate"] - planes["clean_plate"]).max(-1)
    assert out["error"][0, 0, 0] == difference[0, 0]


@pytest.mark.parametrize(("smooth", "mode"), [(True, "bilinear"), (False, "nearest-exact")])
def test_a_small_map_is_spread_over_the_frame_as_published(smooth, mode):
    values = np.random.default_rng(2).random((5, 7), dtype=np.float32)
    small = torch.from_numpy(values)
    found = spread(small, (18, 26), (20, 28), smooth=smooth)  # the frame was padded by 2
    wanted = torch.nn.functional.interpolate(small[None, None], (20, 28), mode=mode)
    torch.testing.assert_close(found, wanted[0, 0, :18, :26], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["plate", "clean_plate"])
def test_strided_and_flipped_planes_give_the_same_matte(name):
    planes = pair(channels=4)
    wide = np.full((48, 70, 4), np.nan, np.float32)
    view = wide[::-2, 3:65:2]
    view[:] = planes[name]
    wanted, _ = matte(planes)
    found, _ = matte({**planes, name: view})
    for role in wanted:
        assert np.array_equal(found[role], wanted[role])


def test_outputs_may_be_strided_and_nothing_beside_them_is_touched():
    planes, model = pair(), Keyer()
    wanted, _ = matte(planes)
    wide = np.full((24, 40, 4), 7, np.float32)
    out = {"premultiplied": wide[:, 5:36]}
    Engine(registry=registry_of(model)).matte(
        planes, RenderParams("linear"), model="keyer", out=out
    )
    assert np.array_equal(wide[:, 5:36], wanted["premultiplied"])
    assert (wide[:, :5] == 7).all()
    assert (wide[:, 36:] == 7).all()


def test_inputs_are_read_before_the_checkpoint_and_never_after_it():
    planes = {**pair(), "garbage_matte": picture(3, 24, 31, 1)}
    wanted, _ = matte({role: plane.copy() for role, plane in planes.items()})
    stages = []

    def checkpoint(stage, done=0, total=0):
        stages.append(stage)
        if stage == "inputs":
            for plane in planes.values():
                plane[:] = np.nan

    found, _ = matte(planes, checkpoint=checkpoint)
    assert stages[0] == "inputs"
    assert stages.count("inputs") == 1
    assert np.array_equal(found["premultiplied"], wanted["premultiplied"])


@pytest.mark.parametrize("stage", ["inputs", "model", "matte", "finish"])
def test_a_frame_can_be_cancelled_at_every_stage(stage):
    def checkpoint(name, done=0, total=0):
        if name == stage:
            raise Cancelled("the request was cancelled")

    with pytest.raises(Cancelled):
        matte(pair(), checkpoint=checkpoint)


# --- what the host gets ---------------------------------------------------------------------------


@pytest.mark.parametrize("output_colorspace", ["linear", "srgb"])
@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
@pytest.mark.parametrize("foreground", ["model", "unmix", "plate"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_premultiplied_is_the_product_of_the_foreground_and_alpha_that_were_written(
    dtype, foreground, colorspace, output_colorspace
):
    out, _ = matte(
        pair(low=-0.1, high=8, channels=4),
        dtype=dtype,
        colorspace=colorspace,
        output_colorspace=output_colorspace,
        foreground=foreground,
        settings={"slope": 0.7},
    )
    assert all(np.isfinite(values).all() for values in out.values())
    colour, alpha = out["foreground"].astype(np.float32), out["alpha"].astype(np.float32)
    if output_colorspace == "linear":
        wanted = (colour * alpha).astype(dtype)
        assert np.array_equal(out["premultiplied"][..., :3], wanted)
    else:
        # Measured 4e-7: the curves here are numpy's, which round a little differently. A half may
        # fall on the other side of a step.
        step = 1e-6 if dtype == np.float32 else 2 * HALF_STEP
        wanted = srgb_encode(srgb_decode(colour) * alpha)
        found = out["premultiplied"][..., :3].astype(np.float32)
        assert np.allclose(found, wanted, rtol=step, atol=step)
    assert np.array_equal(out["premultiplied"][..., 3:], out["alpha"])


def test_outputs_asked_for_alone_are_those_asked_for_together():
    planes = pair(high=5)
    together, _ = matte(planes)
    for role in together:
        alone, _ = matte(planes, roles=(role,))
        assert np.array_equal(alone[role], together[role])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
def test_unmixed_light_over_the_clean_plate_is_the_plate(colorspace, dtype):
    planes = pair(low=-0.05, high=20 if colorspace == "linear" else 4)
    alpha = picture(5, 24, 31, 1)[..., 0]
    alpha[0, :5] = [0, 1, 1 / 1024, 0.9 / 1024, 0.5]
    out, _ = matte(
        planes,
        model=Keyer(alpha=alpha),
        foreground="unmix",
        colorspace=colorspace,
        output_colorspace="linear",
        dtype=dtype,
    )
    plate, clean_plate = (
        planes[role] if colorspace == "linear" else srgb_decode(planes[role])
        for role in ("plate", "clean_plate")
    )
    written = {role: values.astype(np.float32) for role, values in out.items()}
    again = over(written["premultiplied"][..., :3], written["alpha"], clean_plate)
    solid = written["alpha"][..., 0] >= 1 / 1024
    size = np.maximum(np.abs(plate), np.abs(clean_plate))[solid]
    step = 1e-6 if dtype == np.float32 else 2 * HALF_STEP
    assert np.all(np.abs(again - plate)[solid] <= step * np.maximum(size, 1e-3) + 1e-6)
    assert not written["foreground"][~solid].any()
    assert not written["premultiplied"][~solid][..., :3].any()


def test_a_clean_plate_that_is_the_plate_itself_is_noted():
    planes = pair(64, 90)
    _, report = matte({**planes, "clean_plate": planes["plate"].copy()})
    assert report.notes["clean_plate_is_the_plate"] is True
    _, report = matte(planes)
    assert "clean_plate_is_the_plate" not in report.notes
    nearly = planes["plate"].copy()
    nearly[1, 1, 0] += 0.25
    _, report = matte({**planes, "clean_plate": nearly})
    assert "clean_plate_is_the_plate" not in report.notes


@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
def test_the_plates_own_pixels_come_back_untouched(colorspace):
    planes = pair(low=-0.2, high=40)
    out, _ = matte(planes, foreground="plate", colorspace=colorspace)
    assert np.array_equal(out["foreground"], planes["plate"])


@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
def test_highlights_of_an_opaque_subject_survive_a_model_that_cannot_see_them(colorspace):
    planes = pair(low=0.0, high=20)
    out, _ = matte(planes, model=Keyer(alpha=1.0), colorspace=colorspace)
    assert np.allclose(out["foreground"], planes["plate"], rtol=3e-6, atol=1e-6)
    assert np.allclose(out["premultiplied"][..., :3], planes["plate"], rtol=3e-6, atol=1e-6)


def test_highlights_survive_without_a_clean_plate():
    model = Keyer(keyer_card(needs_clean_plate=False), alpha=0.5)
    planes = {"plate": picture(1, 8, 8, high=20)}
    out, _ = matte(planes, model=model)
    assert np.allclose(out["foreground"], planes["plate"], rtol=3e-6, atol=1e-6)


def test_a_blurred_highlight_gets_its_light_back_and_the_set_behind_gives_none_of_its_own():
    alpha = np.float32(0.5)
    foreground = np.full((1, 2, 3), (20, 0.3, 0.3), np.float32)
    clean_plate = np.full((1, 2, 3), 0.2, np.float32)
    clean_plate[0, 1] = 20
    plate = alpha * foreground + (1 - alpha) * clean_plate
    model = Keyer(alpha=alpha, foreground=srgb_encode(np.minimum(foreground, 1)))
    out, _ = matte({"plate": plate, "clean_plate": clean_plate}, model=model)
    assert np.allclose(out["foreground"], foreground, rtol=1e-5)


def test_a_lamp_in_the_set_does_not_sparkle_through_a_trace_of_alpha():
    plate = np.full((4, 4, 3), 50.0, np.float32)
    clean_plate = np.full((4, 4, 3), 0.5, np.float32)
    out, _ = matte({"plate": plate, "clean_plate": clean_plate}, model=Keyer(alpha=0.001))
    assert out["premultiplied"][..., :3].max() < 0.1
    out, _ = matte({"plate": plate, "clean_plate": plate}, model=Keyer(alpha=0.001))
    assert out["foreground"].max() <= 50 * 1.1


def test_what_half_cannot_hold_is_clamped_and_counted():
    planes = pair()
    planes["plate"][0, 0] = [1e6, -1e6, 3e38]
    out, report = matte(planes, dtype=np.float16, foreground="plate", model=Keyer(alpha=1.0))
    assert out["foreground"][0, 0].tolist() == [65504, -65504, 65504]
    assert report.notes["clamped"] == {"foreground": 3}
    assert np.isfinite(out["premultiplied"]).all()


@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
@pytest.mark.parametrize("foreground", ["model", "unmix", "plate"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_extreme_values_never_become_nan_or_infinity(dtype, foreground, colorspace):
    planes = pair(8, 8)
    extremes = np.float32([3.4e38, -3.4e38, 1e-45, -1e-45, 65520, 1e20, -0.0, 1e15])
    planes["plate"][0, :, 0] = extremes
    planes["plate"][:, 0, 1] = extremes
    planes["clean_plate"][1, :, 1] = extremes[::-1]
    planes["core_matte"] = picture(7, 8, 8, 1)
    planes["core_matte"][0, 0] = 0
    other = "srgb" if colorspace == "linear" else "linear"
    for output_colorspace in (colorspace, other):
        for alpha in (None, 0.0, 0.0005, 0.3, 1.0):
            out, _ = matte(
                planes,
                model=Keyer(alpha=alpha),
                dtype=dtype,
                foreground=foreground,
                colorspace=colorspace,
                output_colorspace=output_colorspace,
            )
            assert all(np.isfinite(values).all() for values in out.values())
            assert out["alpha"].min() >= 0
            assert out["alpha"].max() <= 1


def test_nothing_is_left_of_the_colour_where_alpha_is_zero():
    out, _ = matte(pair(high=50), model=Keyer(alpha=0.0))
    assert not out["premultiplied"].any()


@settings(max_examples=30)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    high=st.sampled_from([0.0, 1.0, 100.0, 1e30]),
    alpha=st.floats(0, 1, width=32),
    foreground=st.sampled_from(["model", "unmix", "plate"]),
    dtype=st.sampled_from([np.float16, np.float32]),
)
def test_every_frame_obeys_the_product_rule(height, width, high, alpha, foreground, dtype):
    planes = pair(height, width, low=-high / 10, high=high)
    out, _ = matte(planes, model=Keyer(alpha=alpha), foreground=foreground, dtype=dtype)
    product = out["foreground"].astype(np.float32) * out["alpha"].astype(np.float32)
    assert np.array_equal(out["premultiplied"][..., :3], product.astype(dtype))
    assert all(np.isfinite(values).all() for values in out.values())


# --- the artist's mattes --------------------------------------------------------------------------


def test_garbage_forces_alpha_to_zero_and_core_to_one_softly():
    ramp = np.linspace(0, 1, 11, dtype=np.float32)[None, :, None]
    planes = {"plate": picture(1, 1, 11), "clean_plate": picture(2, 1, 11)}
    out, _ = matte({**planes, "garbage_matte": ramp}, model=Keyer(alpha=0.6))
    assert np.allclose(out["alpha"], 0.6 * (1 - ramp), atol=1e-6)
    assert out["alpha"][0, -1, 0] == 0
    out, _ = matte({**planes, "core_matte": ramp}, model=Keyer(alpha=0.6))
    assert np.allclose(out["alpha"], 0.6 + 0.4 * ramp, atol=1e-6)
    assert out["alpha"][0, -1, 0] == 1


def test_garbage_wins_over_core():
    ones = np.ones((24, 31, 1), np.float32)
    out, _ = matte({**pair(), "garbage_matte": ones, "core_matte": ones})
    assert not out["alpha"].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32])
def test_mattes_come_in_every_type_and_are_clipped(dtype):
    core = np.zeros((24, 31, 1), dtype)
    core[:12] = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 3.5
    out, _ = matte({**pair(), "core_matte": core}, model=Keyer(alpha=0.25))
    assert (out["alpha"][:12] == 1).all()
    assert (out["alpha"][12:] == 0.25).all()


def test_inside_the_core_the_foreground_is_the_plate_whatever_the_model_thought():
    planes = pair(high=10)
    planes["core_matte"] = np.zeros((24, 31, 1), np.float32)
    planes["core_matte"][:12] = 1
    out, _ = matte(planes, model=Keyer(alpha=0.0, foreground=0.5))
    assert np.allclose(out["premultiplied"][:12, :, :3], planes["plate"][:12], rtol=3e-6, atol=1e-6)
    assert not out["premultiplied"][12:].any()


# --- alpha in the plate ---------------------------------------------------------------------------


@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
def test_a_premultiplied_plate_is_made_straight_in_linear_light_at_its_edges_only(colorspace):
    straight = picture(1, 6, 6)
    alpha = np.float32([0.0, 0.000005, 0.25, 0.5, 0.75, 1.0])[None, :, None]
    alpha = np.broadcast_to(alpha, (6, 6, 1))
    edge = ((alpha > 0.00001) & (alpha < 1))[..., 0]
    light = straight if colorspace == "linear" else srgb_decode(straight)
    light = np.where(edge[..., None], light * alpha, light)
    rgb = light if colorspace == "linear" else srgb_encode(light)
    planes = {"plate": np.concatenate([rgb, alpha], -1), "clean_plate": picture(2, 6, 6)}
    params = {"colorspace": colorspace, "foreground": "plate"}
    out, _ = matte(planes, plate_alpha="premultiplied", **params)
    assert np.allclose(out["foreground"], straight, atol=2e-6)
    for kind in ("straight", "opaque"):
        out, _ = matte(planes, plate_alpha=kind, **params)
        assert np.array_equal(out["foreground"], rgb)


def test_an_alpha_channel_that_means_nothing_may_hold_nonsense():
    planes = pair(channels=4)
    planes["plate"][..., 3] = np.nan
    out, report = matte(planes)
    assert np.isfinite(out["premultiplied"]).all()
    assert "nonfinite" not in report.notes


# --- values that are no values --------------------------------------------------------------------


def broken_pair():
    planes = pair(channels=4)
    planes["plate"][3, 4, 0] = np.nan
    planes["plate"][5, 6, 1:3] = [np.inf, -np.inf]
    planes["clean_plate"][7, 7, 2] = np.nan
    planes["garbage_matte"] = np.zeros((24, 31, 1), np.float32)
    planes["garbage_matte"][0, 0] = np.nan
    return planes


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_non_finite_input_is_an_error_with_a_count(dtype):
    planes = {role: plane.astype(dtype) for role, plane in broken_pair().items()}
    with pytest.raises(NonFiniteError, match="5 values are NaN or infinite") as caught:
        matte(planes)
    assert caught.value.details["count"] == 5
    assert caught.value.details["planes"] == {"plate": 3, "clean_plate": 1, "garbage_matte": 1}


def test_or_becomes_zero_with_a_count_and_no_trace_of_nan_in_any_output():
    planes = broken_pair()
    cleaned = {role: np.nan_to_num(plane, posinf=0, neginf=0) for role, plane in planes.items()}
    wanted, _ = matte(cleaned)
    roles = ("alpha", "foreground", "premultiplied")
    for _ in range(2):
        found, report = matte(planes, nonfinite="zero", roles=roles)
        assert report.notes["nonfinite"] == {"plate": 3, "clean_plate": 1, "garbage_matte": 1}
        for role in roles:
            assert np.array_equal(found[role], wanted[role])


def test_a_held_clean_plate_with_nan_is_refused_every_time():
    planes, engine = broken_pair(), Engine(registry=registry_of(Keyer()))
    for _ in range(2):
        with pytest.raises(NonFiniteError):
            matte(planes, engine=engine)
        matte(planes, engine=engine, nonfinite="zero")


def test_negative_pixels_are_counted_kept_in_the_plate_and_black_to_the_model():
    planes, model = pair(), Keyer()
    planes["plate"][2, 2] = -0.25
    out, report = matte(planes, model=model, foreground="plate")
    assert report.notes["negative"] == {"plate": 3}
    assert (model.given[0].plate[2, 2] == 0).all()
    assert (out["foreground"][2, 2] == -0.25).all()


def test_a_model_that_gives_nan_is_an_error_and_not_a_hole():
    alpha = np.zeros((24, 31), np.float32)
    alpha[3, 3] = np.nan
    with pytest.raises(ModelError, match="NaN or infinite values in its alpha"):
        matte(pair(), model=Keyer(alpha=alpha), nonfinite="zero")


def test_a_model_that_gives_another_size_is_a_bug_of_ours():
    class Cropping(Keyer):
        def matte(self, given, checkpoint):
            made = super().matte(given, checkpoint)
            return dataclasses.replace(made, alpha=made.alpha[1:])

    with pytest.raises(InternalError):
        matte(pair(), model=Cropping())


# --- errors ---------------------------------------------------------------------------------------


def test_a_clean_plate_of_another_size_is_named_with_both_sizes():
    planes = {"plate": picture(1, 1080 // 8, 1920 // 8), "clean_plate": picture(2, 135, 250)}
    with pytest.raises(InputsError) as caught:
        matte(planes)
    assert caught.value.message == (
        "model 'keyer' needs a clean plate of 240x135; got 250x135 - reformat the clean plate"
    )
    assert caught.value.details["plate_size"] == [240, 135]
    assert caught.value.details["got_size"] == [250, 135]


def test_a_missing_clean_plate_is_named():
    plate = {"plate": picture(1, 4, 6)}
    with pytest.raises(InputsError, match="needs a clean plate of 6x4; got none"):
        matte(plate)
    model = Keyer(keyer_card(needs_clean_plate=False))
    matte(plate, model=model)
    with pytest.raises(InputsError, match="'unmix' needs a clean plate"):
        matte(plate, model=model, foreground="unmix")
    hinted = Keyer(keyer_card(needs_clean_plate=False, needs_alpha_hint=True))
    with pytest.raises(InputsError, match="needs an alpha hint of 6x4"):
        matte(plate, model=hinted)


@pytest.mark.parametrize("role", ["alpha_hint", "garbage_matte", "core_matte"])
def test_a_matte_of_another_size_is_named(role):
    with pytest.raises(InputsError, match="31x24; got 5x5") as caught:
        matte({**pair(), role: picture(1, 5, 5, 1)})
    assert caught.value.details["field"] == role


@pytest.mark.parametrize(
    ("planes", "kind"),
    [
        ({}, InputsError),
        ({"background": picture(1, 24, 31)}, InputsError),
        ({"plate": picture(1, 24, 31, 1)}, GeometryError),
        ({"plate": picture(1, 24, 31)[..., 0]}, GeometryError),
        ({"plate": np.zeros((0, 31, 3), np.float32)}, GeometryError),
        ({"garbage_matte": picture(1, 24, 31, 3)}, GeometryError),
        ({"plate": picture(1, 24, 31).astype(np.float64)}, DtypeError),
        ({"plate": picture(1, 24, 31).astype(">f4")}, DtypeError),
        ({"clean_plate": np.zeros((24, 31, 3), np.int16)}, DtypeError),
    ],
)
def test_planes_that_cannot_be_are_refused(planes, kind):
    request = {**pair(), **planes} if planes else {"clean_plate": picture(1, 24, 31)}
    engine = Engine(registry=registry_of(Keyer()))
    with pytest.raises(kind):
        engine.matte(request, RenderParams("linear"), model="keyer", out=blank_outputs(24, 31))


@pytest.mark.parametrize(
    ("out", "kind"),
    [
        ({"alpha": np.zeros((24, 30, 1), np.float32)}, GeometryError),
        ({"alpha": np.zeros((24, 31, 3), np.float32)}, GeometryError),
        ({"alpha": np.zeros((24, 31, 1), np.uint8)}, DtypeError),
        ({"depth": np.zeros((24, 31, 1), np.float32)}, InputsError),
    ],
)
def test_outputs_that_cannot_be_are_refused(out, kind):
    engine = Engine(registry=registry_of(Keyer()))
    with pytest.raises(kind):
        engine.matte(pair(), RenderParams("linear"), model="keyer", out=out)


def test_a_map_the_model_does_not_give_is_refused_before_it_runs():
    model = Keyer(keyer_card(extra_outputs=()))
    with pytest.raises(ModelError, match="gives no refinement map"):
        matte(pair(), model=model, roles=("alpha", "refinement"))
    assert not model.given


def test_straight_and_premultiplied_need_an_alpha_channel():
    with pytest.raises(InputsError, match="needs a plate with an alpha channel"):
        matte(pair(), plate_alpha="premultiplied")


def test_settings_are_checked_before_anything_is_read():
    with pytest.raises(MessageError, match="no setting 'slop'"):
        matte(pair(), settings={"slop": 1})
    with pytest.raises(ModelError, match=r"from 0\.1 to 100"):
        matte(pair(), settings={"slope": 0})


def huge_plane(height, width, channels):
    """A plane of any size that takes no memory."""
    one = np.zeros((1, 1, channels), np.float32)
    return np.lib.stride_tricks.as_strided(one, (height, width, channels), (0, 0, 4))


@pytest.mark.parametrize(
    "limits",
    [FrameLimits(max_pixels=2**20), FrameLimits(memory_bytes=2**28), FrameLimits(max_pixels=2**27)],
)
def test_a_frame_too_large_is_refused_before_anything_is_allocated(limits):
    planes = {role: huge_plane(16384, 16384, 3) for role in ("plate", "clean_plate")}
    out = {"alpha": huge_plane(16384, 16384, 1)}
    engine = Engine(registry=registry_of(Keyer()), limits=limits)
    with pytest.raises(TooLargeError, match="16384x16384") as caught:
        engine.matte(planes, RenderParams("linear"), model="keyer", out=out)
    assert caught.value.details["limit"] in (2**20, 2**27, 2**28)


def test_the_widest_and_the_tallest_frame_work():
    for height, width in ((1, 16384), (16383, 1)):
        out, _ = matte(pair(height, width))
        assert np.isfinite(out["premultiplied"]).all()


def test_running_out_of_memory_is_the_frames_error_and_says_the_size():
    class Greedy(Keyer):
        def matte(self, given, checkpoint):
            raise MemoryError

    with pytest.raises(OutOfMemoryError, match="31x24"):
        matte(pair(), model=Greedy())


def _opencv_is_short_of_memory():
    # A matrix of 2^60 bytes: OpenCV's own allocator refuses it on every machine.
    import cv2

    cv2.copyMakeBorder(np.zeros((2, 2), np.uint8), 0, 2**30, 0, 2**30, cv2.BORDER_REPLICATE)


def _torch_is_short_of_memory():
    torch.empty(2**60, dtype=torch.uint8)


def _numpy_is_short_of_memory():
    np.empty(2**60, np.uint8)


def _a_file_cannot_be_mapped():
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


SHORT_OF_MEMORY = [
    _opencv_is_short_of_memory,
    _torch_is_short_of_memory,
    _numpy_is_short_of_memory,
    _a_file_cannot_be_mapped,
]


@pytest.mark.parametrize("library", SHORT_OF_MEMORY)
def test_memory_exhausted_in_any_library_is_the_frames_error(library):
    class Greedy(Keyer):
        def matte(self, given, checkpoint):
            library()

    with pytest.raises(OutOfMemoryError, match="a frame of 31x24 with model 'keyer'"):
        matte(pair(), model=Greedy())


@pytest.mark.parametrize("library", SHORT_OF_MEMORY)
def test_memory_exhausted_while_weights_load_names_the_model(library):
    class Heavy(Keyer):
        def load(self, device):
            library()

    engine = Engine(registry=registry_of(Heavy()))
    with pytest.raises(OutOfMemoryError, match="the weights of model 'keyer'"):
        engine.load_model("keyer")
    with pytest.raises(OutOfMemoryError, match="the weights of model 'keyer'"):
        matte(pair(), engine=engine)
    assert engine.loaded_models() == []


def test_other_errors_of_those_libraries_stay_what_they_are():
    import cv2

    class Broken(Keyer):
        def matte(self, given, checkpoint):
            cv2.resize(np.zeros((2, 2), np.float32), (0, 0))

    with pytest.raises(cv2.error):
        matte(pair(), model=Broken())


# --- models and clean plates that stay ------------------------------------------------------------


def test_a_model_is_loaded_once_and_can_be_dropped():
    model = Keyer()
    engine = Engine(registry=registry_of(model))
    assert engine.loaded_models() == []
    assert engine.load_model("default")["memory_bytes"] == 4096
    for _ in range(3):
        matte(pair(), model=model, engine=engine)
    assert model.loads == 1
    (figures,) = engine.loaded_models()
    assert (figures["name"], figures["digest"], figures["frames"]) == ("keyer", "keyer:1", 3)
    assert figures["device"] == "cpu"
    assert engine.unload_model("keyer")
    assert not engine.unload_model("keyer")
    assert model.device is None
    assert engine.loaded_models() == []
    with pytest.raises(ModelError, match="there is no model"):
        engine.unload_model("other")


def test_other_weights_under_the_same_name_replace_the_loaded_ones():
    models = [Keyer(), Keyer(keyer_card(digest="keyer:2"))]
    engine = Engine(registry=registry_of(models[0]))
    engine.load_model("keyer")
    engine.registry = registry_of(models[1])
    assert engine.load_model("keyer")["digest"] == "keyer:2"
    assert models[0].device is None
    assert len(engine.loaded_models()) == 1


def test_a_model_that_was_taken_away_leaves_no_weights_behind():
    model = Keyer()
    engine = Engine(registry=registry_of(model))
    engine.load_model("keyer")
    engine.registry = registry_of(Keyer(keyer_card(name="other")))
    with pytest.raises(ModelError, match="there is no model 'keyer'"):
        matte(pair(), model=model, engine=engine)
    assert engine.loaded_models() == []
    assert model.device is None


def test_a_model_that_was_taken_away_can_still_be_unloaded():
    model = Keyer()
    engine = Engine(registry=registry_of(model))
    engine.load_model("keyer")
    engine.registry = registry_of(Keyer(keyer_card(name="other")))
    assert engine.unload_model("keyer")
    assert model.device is None


def test_a_model_that_is_replaced_between_two_looks_is_a_request_to_send_again():
    old, new = Keyer(), Keyer(keyer_card(digest="keyer:2"))
    engine = Engine(registry=Registry(lambda: {"keyer": Entry(old.card, lambda _: new)}))
    with pytest.raises(ModelError, match="replaced at this moment") as caught:
        engine.load_model("keyer")
    assert caught.value.retry
    assert new.loads == 0


def test_a_clean_plate_sent_again_is_recognised_by_its_pixels():
    engine, planes = Engine(registry=registry_of(Keyer())), pair(dtype=np.float16)
    for seed in range(3):
        matte({**planes, "plate": picture(seed, 24, 31)}, engine=engine)
    assert len(engine.clean_plates) == 1
    planes["clean_plate"][-1, -1, -1] += np.float16(0.01)
    matte(planes, engine=engine)
    assert len(engine.clean_plates) == 2


def test_a_changed_clean_plate_is_noticed_and_never_mixed_up():
    engine, planes = Engine(registry=registry_of(Keyer())), pair()
    for seed in (2, 3, 2, 4, 5, 6, 7, 2):
        planes["clean_plate"] = picture(seed, 24, 31)
        cached, _ = matte(planes, engine=engine)
        fresh, _ = matte(planes)
        assert np.array_equal(cached["premultiplied"], fresh["premultiplied"])
    assert len(engine.clean_plates) <= 4


def test_the_same_pixels_in_another_colour_space_are_another_clean_plate():
    engine, planes = Engine(registry=registry_of(Keyer())), pair()
    for colorspace in ("linear", "srgb", "linear"):
        cached, _ = matte(planes, engine=engine, colorspace=colorspace)
        fresh, _ = matte(planes, colorspace=colorspace)
        assert np.array_equal(cached["alpha"], fresh["alpha"])


def test_clean_plates_over_the_budget_are_let_go_after_the_frame():
    engine = Engine(registry=registry_of(Keyer()), clean_plate_budget_bytes=1000)
    matte(pair(), engine=engine)
    assert len(engine.clean_plates) == 0


def test_a_torn_clean_plate_is_not_held_under_its_key():
    engine, planes = Engine(registry=registry_of(Keyer())), pair()
    wanted, _ = matte(planes)

    def torn(stage, done=0, total=0):
        raise Cancelled("the arena changed")

    broken = {**planes, "clean_plate": planes["clean_plate"] * 0}
    with pytest.raises(Cancelled):
        matte(broken, engine=engine, clean_plate_key="shot-7", checkpoint=torn)
    for _ in range(2):
        found, _ = matte(planes, engine=engine, clean_plate_key="shot-7")
        assert np.array_equal(found["alpha"], wanted["alpha"])
    assert len(engine.clean_plates) == 1


def test_frames_of_changing_size_follow_each_other():
    engine = Engine(registry=registry_of(Keyer()))
    for height, width in ((24, 31), (8, 8), (24, 31), (1, 1)):
        found, _ = matte(pair(height, width), engine=engine)
        wanted, _ = matte(pair(height, width))
        assert np.array_equal(found["premultiplied"], wanted["premultiplied"])


# --- alignment ------------------------------------------------------------------------------------


def moved_pair(height=180, width=240):
    """A subject before a blotchy set, and that set shifted by two pixels and a tenth darker."""
    coarse = np.pad(picture(8, height // 6, width // 6), ((2, 2), (2, 2), (0, 0)), mode="edge")
    rows = np.linspace(0, len(coarse) - 1.01, height + 12)
    columns = np.linspace(0, coarse.shape[1] - 1.01, width + 12)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None, None], (columns - left)[None, :, None]
    upper = coarse[top][:, left] * (1 - right) + coarse[top][:, left + 1] * right
    lower = coarse[top + 1][:, left] * (1 - right) + coarse[top + 1][:, left + 1] * right
    world = (upper * (1 - down) + lower * down).astype(np.float32)
    plate = world[6:-6, 6:-6].copy()
    plate[60:120, 90:150] = (0.9, 0.1, 0.1)
    return {"plate": plate, "clean_plate": world[4:-8, 4:-8] * np.float32(0.9)}


def test_the_clean_plate_is_aligned_and_matched_where_the_model_says_auto():
    model = Keyer(keyer_card(default_alignment="auto"))
    engine = Engine(registry=registry_of(model))
    planes = moved_pair()
    for frame in range(2):
        out, report = matte(planes, model=model, engine=engine, colorspace="srgb")
        left = np.abs(model.given[frame].clean_plate - planes["plate"])
        left[55:125, 85:155] = 0
        assert left[8:-8, 8:-8].mean() < 0.02
        assert len(report.notes["alignment"]["homography"]) == 9
        assert len(report.notes["alignment"]["gain"]) == 3
    off, report = matte(planes, model=model, engine=engine, colorspace="srgb", alignment="off")
    assert "alignment" not in report.notes
    assert np.abs(model.given[2].clean_plate - planes["clean_plate"]).max() == 0
    assert off["alpha"].mean() > 2 * out["alpha"].mean()


def test_a_hint_tells_the_alignment_where_the_subject_is():
    model = Keyer(keyer_card(default_alignment="auto"))
    planes = {**moved_pair(), "alpha_hint": np.zeros((180, 240, 1), np.float32)}
    planes["alpha_hint"][50:130, 80:160] = 1
    _, report = matte(planes, model=model, colorspace="srgb")
    assert "ignored" not in report.notes
    _, report = matte(planes, model=model, colorspace="srgb", alignment="off")
    assert report.notes["ignored"] == ["alpha_hint"]


def test_unmixing_uses_the_matched_clean_plate():
    alpha = np.zeros((180, 240), np.float32)
    alpha[60:120, 90:150] = 1
    alpha[20:30, 20:60] = 0.5
    model = Keyer(keyer_card(default_alignment="auto"), alpha=alpha)
    out, _ = matte(moved_pair(), model=model, colorspace="srgb", foreground="unmix")
    plate = srgb_decode(moved_pair()["plate"])
    wanted = 0.5 * plate[20:30, 20:60]
    found = srgb_decode(out["premultiplied"][20:30, 20:60, :3])
    assert np.abs(found - wanted).mean() < 0.02


def test_where_nothing_had_to_change_the_unmix_stays_exact():
    planes = moved_pair()
    planes["clean_plate"] = planes["plate"].copy()
    planes["clean_plate"][60:120, 90:150] = 0.3
    alpha = picture(5, 180, 240, 1)[..., 0]
    model = Keyer(keyer_card(default_alignment="auto"), alpha=alpha)
    out, report = matte(planes, model=model, foreground="unmix")
    again = over(out["premultiplied"][..., :3], out["alpha"], planes["clean_plate"])
    solid = alpha >= 1 / 1024
    assert np.abs(again - planes["plate"])[solid].max() < 1e-6
    assert report.degraded == ()


def test_frames_too_small_to_align_pass_unaligned():
    model = Keyer(keyer_card(default_alignment="auto"))
    for height, width in ((1, 1), (3, 40), (15, 15), (16, 16)):
        out, _ = matte(pair(height, width), model=model)
        assert np.isfinite(out["premultiplied"]).all()


# --- the report -----------------------------------------------------------------------------------


def test_the_report_names_model_and_stages_and_what_was_less_than_asked():
    _, report = matte(pair(), settings={"slope": 0.5})
    assert (report.model, report.digest) == ("keyer", "keyer:1")
    assert report.degraded == ("half_hearted",)
    assert list(report.timings_ms) == ["inputs", "align", "load", "model", "finish", "write"]
    assert all(value >= 0 for value in report.timings_ms.values())
    assert "difference" in report.notes["model"]


@pytest.mark.slow
def test_a_frame_that_needs_no_cv2_never_imports_it():
    script = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "import numpy as np\n"
        "from fakes.matting_models import Keyer, registry_of\n"
        "from mattebridge.engine.engine import Engine\n"
        "from mattebridge.wire.params import RenderParams\n"
        "plate = np.random.rand(20, 20, 3).astype('f4')\n"
        "out = {'alpha': np.zeros((20, 20, 1), 'f4')}\n"
        "engine = Engine(registry=registry_of(Keyer()))\n"
        "planes = {'plate': plate, 'clean_plate': plate}\n"
        "engine.matte(planes, RenderParams('linear'), model='keyer', out=out)\n"
        "print([m for m in ('cv2', 'zmq', 'OpenImageIO') if m in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- held clean plates at a render scale ----------------------------------------------------------


def test_a_held_clean_plate_serves_frames_at_every_render_scale():
    model = Keyer()
    engine = Engine(registry=registry_of(model))
    small = pair(24, 31)
    # Each pixel four times: its mean over each square is the small picture again, exactly.
    full = {"plate": small["plate"], "clean_plate": small["clean_plate"].repeat(2, 0).repeat(2, 1)}
    expected, _ = matte(small)
    roles = ("alpha", "foreground", "premultiplied")
    for _turn in range(2):
        out = blank_outputs(24, 31)
        wanted = RenderParams("linear")
        report = engine.matte(
            full, wanted, model=model.card.name, out=out, clean_plate_key="held-1",
            held_clean_plate=True,
        )  # fmt: skip
        # The mean of four equal float32 values is exact to a rounding or two.
        for role in roles:
            np.testing.assert_allclose(out[role], expected[role], atol=1e-5)
        assert report.notes["clean_plate_resampled_from"] == [62, 48]
    assert len(engine.clean_plates) == 1


def test_a_clean_plate_that_is_sent_with_the_frame_is_not_resampled():
    planes = {**pair(24, 31), "clean_plate": picture(2, 48, 62)}
    with pytest.raises(InputsError, match=r"31x24.*62x48"):
        matte(planes)
