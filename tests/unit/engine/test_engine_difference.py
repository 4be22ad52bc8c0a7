"""The engine with the model that a fresh user gets: sizes, types, spaces."""

import numpy as np
import pytest

from mattebridge.clean_plate import pair
from mattebridge.color import over, srgb_decode, srgb_encode
from mattebridge.engine.engine import Engine
from mattebridge.wire.params import RenderParams

SUBJECT = (slice(40, 130), slice(60, 120))
ROLES = {"alpha": 1, "foreground": 3, "premultiplied": 4}


@pytest.fixture(scope="module")
def engine():
    return Engine()


def blotchy(seed, height, width):
    """A smooth random set, display-encoded, 0.2 to 0.8."""
    values = np.random.default_rng(seed).random((height, width, 3), np.float32)
    for axis, length in ((0, height), (1, width)):
        reach = min(9, length)
        values = np.cumsum(values, axis=axis)
        values = values - np.roll(values, reach, axis=axis)
    span = np.ptp(values) or 1.0
    return (0.2 + 0.6 * (values - values.min()) / span).astype(np.float32)


def shot(height=170, width=200):
    """A red subject before the set, with a little grain, display-encoded."""
    clean_plate = blotchy(1, height, width)
    plate = clean_plate.copy()
    plate[SUBJECT] = (0.85, 0.08, 0.1)
    grain = np.random.default_rng(2).normal(0, 0.004, plate.shape).astype(np.float32)
    return {"plate": np.clip(plate + grain, 0, 1), "clean_plate": clean_plate}


def matte(engine, planes, dtype=np.float32, **params):
    height, width = planes["plate"].shape[:2]
    out = {role: np.full((height, width, count), np.nan, dtype) for role, count in ROLES.items()}
    report = engine.matte(planes, RenderParams(**params), model="default", out=out)
    return out, report


def test_the_subject_is_opaque_and_the_set_is_empty(engine):
    out, report = matte(engine, shot(), colorspace="srgb")
    alpha = out["alpha"][..., 0]
    assert alpha[60:110, 75:105].min() > 0.95
    outside = np.ones(alpha.shape, bool)
    outside[25:145, 45:135] = False
    assert alpha[outside].mean() < 0.01
    assert report.model == "difference"
    assert np.allclose(out["foreground"][60:110, 75:105], (0.85, 0.08, 0.1), atol=0.05)


def test_equal_inputs_give_equal_pixels(engine):
    first, _ = matte(Engine(), shot(), colorspace="srgb")
    again, _ = matte(Engine(), shot(), colorspace="srgb")
    for role in ROLES:
        assert np.array_equal(first[role], again[role])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16])
def test_every_type_gives_nearly_the_same_matte(engine, dtype):
    planes = shot()
    wanted, _ = matte(engine, planes, colorspace="srgb")
    if np.dtype(dtype).kind == "u":
        largest = np.iinfo(dtype).max
        sent = {role: np.round(plane * largest).astype(dtype) for role, plane in planes.items()}
    else:
        sent = {role: plane.astype(dtype) for role, plane in planes.items()}
    found, _ = matte(engine, sent, colorspace="srgb")
    assert np.abs(found["alpha"] - wanted["alpha"]).mean() < 3e-3


def test_linear_and_display_footage_of_one_scene_give_nearly_the_same_matte(engine):
    planes = shot()
    display, _ = matte(engine, planes, colorspace="srgb")
    linear, _ = matte(
        engine, {role: srgb_decode(plane) for role, plane in planes.items()}, colorspace="linear"
    )
    assert np.abs(display["alpha"] - linear["alpha"]).mean() < 5e-3
    core = (slice(60, 110), slice(75, 105))
    assert np.allclose(
        srgb_encode(linear["foreground"][core]), display["foreground"][core], atol=1e-3
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (15, 16), (16, 15), (17, 33), (61, 97)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_frames_of_any_size_give_finite_results(engine, size, dtype):
    planes = {"plate": blotchy(1, *size), "clean_plate": blotchy(2, *size)}
    for colorspace in ("linear", "srgb"):
        out, _ = matte(engine, planes, dtype, colorspace=colorspace)
        assert all(np.isfinite(values).all() for values in out.values())
        product = out["foreground"].astype(np.float32) * out["alpha"].astype(np.float32)
        if colorspace == "linear":
            assert np.array_equal(out["premultiplied"][..., :3], product.astype(dtype))


def test_a_plate_without_a_subject_gives_an_empty_matte(engine):
    planes = {"plate": blotchy(1, 90, 120), "clean_plate": blotchy(1, 90, 120)}
    out, _ = matte(engine, planes, colorspace="srgb")
    assert out["alpha"].max() == 0
    assert not out["premultiplied"].any()


@pytest.mark.parametrize("value", [0.0, 1.0, 100.0])
def test_flat_frames_are_no_trouble(engine, value):
    planes = {role: np.full((64, 64, 3), value, np.float32) for role in ("plate", "clean_plate")}
    out, _ = matte(engine, planes, colorspace="linear")
    assert out["alpha"].max() == 0


@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
@pytest.mark.parametrize("high", [20.0, 1e5, 3e38])
def test_light_far_above_white_never_becomes_nan_or_infinity(engine, colorspace, high):
    planes = shot()
    planes["plate"][SUBJECT] *= np.float32(high)
    planes["plate"][0, :4, 0] = [-high, 1e-45, -1e-45, high]
    planes["clean_plate"][10:20, 10:20] *= np.float32(high)
    out, _ = matte(engine, planes, np.float16, colorspace=colorspace)
    assert all(np.isfinite(values).all() for values in out.values())
    assert out["alpha"].min() >= 0
    assert out["alpha"].max() <= 1


def test_highlights_on_the_subject_survive(engine):
    planes = shot()
    planes = {role: srgb_decode(plane) for role, plane in planes.items()}
    planes["plate"][70:80, 80:90] = (20.0, 15.0, 12.0)
    out, _ = matte(engine, planes, colorspace="linear")
    assert np.allclose(out["premultiplied"][72:78, 82:88, :3], (20, 15, 12), rtol=0.02)


def test_unmixing_without_alignment_gives_the_plate_back(engine):
    planes = {role: srgb_decode(plane) for role, plane in shot().items()}
    out, _ = matte(engine, planes, colorspace="linear", foreground="unmix", alignment="off")
    again = over(out["premultiplied"][..., :3], out["alpha"], planes["clean_plate"])
    solid = out["alpha"][..., 0] >= 1 / 1024
    assert solid.any()
    assert np.abs(again - planes["plate"])[solid].max() < 1e-6


def test_nan_in_the_plate_leaves_no_nan_in_the_matte(engine):
    planes = shot()
    planes["plate"][5:9, 5:9] = np.nan
    planes["clean_plate"][100, 100] = np.inf
    out, report = matte(engine, planes, colorspace="srgb", nonfinite="zero")
    assert report.notes["nonfinite"] == {"plate": 48, "clean_plate": 3}
    assert all(np.isfinite(values).all() for values in out.values())


def test_the_clean_plates_part_of_the_alignment_is_made_once_a_shot(monkeypatch):
    engine, looked, find = Engine(), [], pair.corners_of
    monkeypatch.setattr(
        "mattebridge.clean_plate.pair.corners_of",
        lambda small, free: looked.append(free is None) or find(small, free),
    )
    planes = shot()
    for brighter in (1.0, 1.02, 1.04):
        plate = np.clip(planes["plate"] * np.float32(brighter), 0, 1)
        matte(engine, {**planes, "plate": plate}, colorspace="srgb")
    # Of the clean plate once, of the plates each time.
    assert (looked.count(True), looked.count(False)) == (1, 3)
