"""Frames in colour spaces of the config: what the model sees, and what comes back."""

import numpy as np
import pytest
import torch

from fakes import cube_config
from fakes.colour import studio_spaces
from fakes.matting_models import Keyer, registry_of
from mattebridge.color import over, srgb_decode, srgb_encode
from mattebridge.engine.engine import Engine
from mattebridge.engine.space import light_of
from mattebridge.errors import ColorError
from mattebridge.ocio.config import Config
from mattebridge.ocio.space import Spaces
from mattebridge.wire.params import RenderParams

LOGC, HLG = "ARRI LogC3 (EI800)", "Rec.2100-HLG - Display"
PQ = "Rec.2100-PQ - Display"
REC709 = "Linear Rec.709 (sRGB)"
SIZE = (24, 31)


@pytest.fixture(scope="module")
def spaces():
    return studio_spaces()


@pytest.fixture(scope="module")
def light():
    """Plate and clean plate as ACEScg light: colours out of Rec. 709, shadows, and a lamp of 40."""
    random = np.random.default_rng(8)
    pair = []
    for _ in range(2):
        picture = (random.random((*SIZE, 3), np.float32) ** 3).astype(np.float32) * np.float32(1.2)
        picture[:4, :8] = np.eye(3, dtype=np.float32)[random.integers(0, 3, (4, 8))] * 0.8
        picture[4:6, :6] *= 40
        pair.append(picture)
    return pair


def in_space(config, pair, name):
    return [config.convert(picture, "ACEScg", config.find(name)) for picture in pair]


def matte(spaces, plate, clean_plate, *, model=None, **params):
    model = model or Keyer()
    engine = Engine(registry=registry_of(model), spaces=spaces)
    shapes = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    out = {name: np.full((*SIZE, count), np.nan, np.float32) for name, count in shapes.items()}
    planes = {"plate": plate, "clean_plate": clean_plate}
    report = engine.matte(planes, RenderParams(**params), model=model.card.name, out=out)
    assert all(np.isfinite(values).all() for values in out.values())
    return out, report


@pytest.mark.parametrize("name", ["ACEScg", "scene_linear", LOGC, "sRGB Encoded P3-D65"])
def test_the_model_sees_display_encoded_rec709(spaces, light, name):
    plate, clean_plate = in_space(spaces.config, light, name)
    model = Keyer()
    matte(spaces, plate, clean_plate, model=model, colorspace=name)
    rec709 = spaces.config.convert(plate, spaces.config.find(name), REC709)
    expected = np.clip(srgb_encode(rec709), 0, 1)
    # OpenColorIO's quick powers, and the steep foot of the curve beside a colour of 40.
    assert np.abs(model.given[-1].plate - expected).max() < 1e-3
    assert np.median(np.abs(model.given[-1].plate - expected)) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "white"),
    # 58 % of PQ and 75 % of HLG are the reference white of ITU-R BT.2408: 203 cd/m2.
    [(PQ, 0.58069), ("ST2084-P3-D65 - Display", 0.58069), (HLG, 0.75), ("Display P3 - Display", 1)],
)
def test_white_is_white_to_the_model_and_light_is_what_the_config_has(spaces, name, white):
    plate = np.full((*SIZE, 3), white, np.float32)
    plate[: SIZE[0] // 2] = white / 2
    model, config = Keyer(alpha=np.ones(SIZE, np.float32)), spaces.config
    for foreground in ("plate", "model", "unmix"):
        out, _ = matte(
            spaces,
            plate,
            plate,
            model=model,
            colorspace=name,
            output_colorspace="ACEScg",
            foreground=foreground,
        )
        expected = config.convert(plate, name, "ACEScg", exact=True)
        seen = model.given[-1].plate
        assert np.abs(seen[-1] - 1).max() < 1e-4
        in_units_of_white = config.light_of(plate, name) / (2.03 if white < 1 else 1)
        assert np.abs(seen - srgb_encode(in_units_of_white)).max() < 1e-3
        assert np.abs(out["foreground"] - expected).max() < 1e-3, foreground
    shown, _ = matte(spaces, plate, plate, model=model, colorspace=name, output_colorspace="srgb")
    assert np.abs(shown["foreground"] - seen).max() < 1e-4
    back, _ = matte(spaces, plate, plate, model=model, colorspace=name)
    assert np.abs(back["foreground"] - plate).max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ACEScg", LOGC, "srgb", HLG])
def test_unmixed_light_over_the_clean_plate_is_the_plate(spaces, light, name):
    config = spaces.config
    plate, clean_plate = in_space(config, light, REC709 if name == "srgb" else name)
    if name == "srgb":
        plate, clean_plate = srgb_encode(plate), srgb_encode(clean_plate)
    alpha = np.random.default_rng(5).random(SIZE, np.float32)
    alpha[0, :4] = [1, 1, 1 / 1024, 0.5]
    out, _ = matte(
        spaces, plate, clean_plate, model=Keyer(alpha=alpha), colorspace=name, foreground="unmix"
    )

    def decoded(picture):
        if name == "srgb":
            return srgb_decode(picture)
        linear = {"ACEScg": "ACEScg", LOGC: "Linear ARRI Wide Gamut 3", HLG: REC709}[name]
        return config.convert(picture, name, linear, exact=True)

    seen, empty = decoded(plate), decoded(clean_plate)
    again = over(decoded(out["premultiplied"][..., :3]), out["alpha"], empty)
    solid = out["alpha"][..., 0] >= 1 / 1024
    largest = np.maximum(seen, empty).max(-1, keepdims=True)
    # Measured 1e-7 to 3e-5: the rounding of what is written, the more so where codes are a log.
    error = np.abs(again - seen) / np.maximum(largest, 1)
    assert error[solid].max() <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ACEScg", LOGC, "sRGB Encoded P3-D65", HLG])
def test_premultiplied_is_the_product_in_linear_light_of_the_space(spaces, light, name):
    config = spaces.config
    plate, clean_plate = in_space(config, light, name)
    for foreground in ("model", "unmix", "plate"):
        out, _ = matte(spaces, plate, clean_plate, colorspace=name, foreground=foreground)
        colours, product = (
            config.convert(picture, config.find(name), REC709, exact=True)
            for picture in (out["foreground"], out["premultiplied"][..., :3])
        )
        largest = np.abs(colours).max(-1, keepdims=True)
        error = np.abs(product - colours * out["alpha"]) / np.maximum(largest, 1)
        assert error.max() <= 1e-4, foreground
        if name == "ACEScg":
            assert np.array_equal(out["premultiplied"][..., :3], out["foreground"] * out["alpha"])


@pytest.mark.parametrize("name", ["ACEScg", LOGC])
def test_the_plates_own_pixels_come_back_untouched(spaces, light, name):
    plate, clean_plate = in_space(spaces.config, light, name)
    out, _ = matte(spaces, plate, clean_plate, colorspace=name, foreground="plate")
    assert np.array_equal(out["foreground"], plate)


@pytest.mark.parametrize("output", [None, "linear"])
def test_an_opaque_subject_keeps_colours_that_rec709_does_not_have(spaces, light, output):
    plate, clean_plate = light
    model = Keyer(alpha=np.ones(SIZE, np.float32))
    out, _ = matte(
        spaces, plate, clean_plate, model=model, colorspace="ACEScg", output_colorspace=output
    )
    config = spaces.config
    expected = plate
    if output == "linear":
        expected = config.convert(plate, "ACEScg", REC709)
        assert expected.min() < -0.1
    # Below 0 and above 1 as in the plate, which the model has not seen; measured 5e-7.
    error = np.abs(out["foreground"] - expected) / np.maximum(plate.max(-1, keepdims=True), 1)
    assert error.max() < 1e-5


def test_results_come_in_another_space(spaces, light):
    config = spaces.config
    plate, clean_plate = in_space(config, light, LOGC)
    logc, _ = matte(spaces, plate, clean_plate, colorspace=LOGC, foreground="unmix")
    acescg, report = matte(
        spaces, plate, clean_plate, colorspace=LOGC, output_colorspace="ACEScg", foreground="unmix"
    )
    expected = config.convert(logc["foreground"], LOGC, "ACEScg")
    largest = np.abs(expected).max(-1, keepdims=True)
    assert (np.abs(acescg["foreground"] - expected) / (largest + 0.1)).max() < 1e-4
    assert report.notes["color"] == config.described()


def test_a_premultiplied_plate_is_divided_in_light(spaces, light):
    config = spaces.config
    _, clean_plate = in_space(config, light, LOGC)
    alpha = np.full((*SIZE, 1), 0.25, np.float32)
    quarter = config.convert(light[0] * alpha, "ACEScg", LOGC)
    rgba = np.concatenate([quarter, alpha], 2)
    clean_rgba = np.concatenate([clean_plate, np.ones_like(alpha)], 2)
    given = {"colorspace": LOGC, "plate_alpha": "premultiplied", "output_colorspace": "ACEScg"}
    out, _ = matte(spaces, rgba, clean_rgba, foreground="plate", **given)
    largest = light[0].max(-1, keepdims=True)
    assert (np.abs(out["foreground"] - light[0]) / np.maximum(largest, 1)).max() < 1e-4


def test_a_name_of_linear_rec709_light_gives_the_same_bits_as_linear(spaces, light):
    ours, report = matte(spaces, *light, colorspace="linear")
    assert "color" not in report.notes
    named, _ = matte(spaces, *light, colorspace=REC709)
    assert all(np.array_equal(named[role], ours[role]) for role in ours)


def test_an_unknown_space_is_refused_before_a_pixel_is_read(spaces, light):
    with pytest.raises(ColorError, match=r"'LogC 3' is no colour space .*ARRI LogC3"):
        matte(spaces, *light, colorspace="LogC 3")
    with pytest.raises(ColorError, match="ACECg"):
        matte(spaces, *light, colorspace="linear", output_colorspace="ACECg")


@pytest.mark.slow
@pytest.mark.parametrize("name", [LOGC, HLG, "ADX10"])
@pytest.mark.parametrize("solid", [0.1, 0.9])
def test_solid_pixels_and_outputs_not_asked_for_change_no_bits(spaces, light, name, solid):
    plate, clean_plate = in_space(spaces.config, light, name)
    random = np.random.default_rng(7)
    alpha = random.random(SIZE, np.float32)
    # Few soft pixels are done by themselves, many all together.
    alpha = np.where(random.random(SIZE) < solid, np.round(alpha), alpha).astype(np.float32)
    planes, params = {"plate": plate, "clean_plate": clean_plate}, RenderParams(colorspace=name)
    model = Keyer(alpha=alpha)
    engine = Engine(registry=registry_of(model), spaces=spaces)
    both = {"foreground": np.empty((*SIZE, 3), np.float32)}
    both["premultiplied"] = np.empty((*SIZE, 4), np.float32)
    alone = {"premultiplied": np.empty((*SIZE, 4), np.float32)}
    for out in (both, alone):
        engine.matte(planes, params, model=model.card.name, out=out)
    assert np.array_equal(both["premultiplied"], alone["premultiplied"])
    colours, product = both["foreground"], both["premultiplied"][..., :3]
    assert np.array_equal(product[alpha == 1], colours[alpha == 1])
    black = spaces.config.of_light(np.zeros((1, 3), np.float32), spaces.config.find(name))
    assert np.abs(product[alpha == 0] - black).max() < 1e-5
    space = spaces.of(name)
    own = light_of(torch.from_numpy(colours), space) * torch.from_numpy(alpha)[..., None]
    # The product of the colours as they are returned; a table is met again to 1e-5 of its light.
    off = (light_of(torch.from_numpy(product.copy()), space) - own).abs()
    assert (off <= 2e-5 * (own.abs().amax(-1, keepdim=True) + 1e-3)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", [LOGC, HLG, "ADX10"])
def test_rows_that_are_all_empty_or_all_solid_are_whole(spaces, name, dtype):
    # So tall that such rows are blocks of their own, in which no pixel is soft.
    height, width = 400, 640
    ramp = np.linspace(0.2, 0.6, width, dtype=np.float32)
    plate = np.tile(ramp[None, :, None], (height, 1, 3)).astype(np.float32)
    alpha = np.zeros((height, width), np.float32)
    alpha[height // 3 :] = 1
    alpha[height // 3] = ramp
    model = Keyer(alpha=alpha)
    engine = Engine(registry=registry_of(model), spaces=spaces)
    out = {"foreground": np.empty((height, width, 3), dtype)}
    out["premultiplied"] = np.empty((height, width, 4), dtype)
    planes, params = {"plate": plate, "clean_plate": plate}, RenderParams(colorspace=name)
    engine.matte(planes, params, model=model.card.name, out=out)
    black = spaces.config.of_light(np.zeros((1, 3), np.float32), spaces.config.find(name))
    product = out["premultiplied"][..., :3]
    assert np.abs(product[alpha == 0] - black).max() < 1e-3
    assert np.array_equal(product[alpha == 1], out["foreground"][alpha == 1])


@pytest.mark.slow
def test_what_stays_with_opencolorio_is_said_in_the_reply(tmp_path):
    config = Spaces(Config(cube_config.cube_config(tmp_path)))
    pair = [np.full((*SIZE, 3), value, np.float32) for value in (0.4, 0.3)]
    _, report = matte(config, *pair, colorspace=cube_config.TONE)
    said = report.notes["color"]["in_main_memory"]
    assert "FixedFunctionTransform" in said[cube_config.TONE]
    _, report = matte(config, *pair, colorspace=cube_config.LINEAR)
    assert "in_main_memory" not in report.notes["color"]
