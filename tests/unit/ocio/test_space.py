"""Spaces as curve and matrix, held against what OpenColorIO itself computes."""

import numpy as np
import pytest

from fakes.colour import studio_spaces
from mattebridge.color import srgb_decode, srgb_encode
from mattebridge.ocio import reference_white, table
from mattebridge.ocio.config import Config
from mattebridge.ocio.space import LINEAR, SRGB, Curve, Spaces


@pytest.fixture(scope="module")
def spaces():
    return studio_spaces()


def test_linear_and_srgb_need_no_config():
    class Nothing(Spaces):
        @property
        def config(self):
            raise AssertionError("the config was loaded")

    assert Nothing().of("linear") is LINEAR
    assert Nothing().of("srgb") is SRGB


def test_names_of_one_space_are_one_space(spaces):
    assert spaces.of("scene_linear") is spaces.of("ACEScg") is spaces.of("lin_ap1")


@pytest.mark.parametrize(
    ("name", "curve", "scene"),
    [
        ("ACEScg", Curve.NONE, True),
        ("ACES2065-1", Curve.NONE, True),
        ("ARRI LogC3 (EI800)", Curve.LOG, True),
        ("S-Log3 S-Gamut3.Cine", Curve.LOG, True),
        ("Rec.2100-PQ - Display", Curve.TABLE, True),
        ("Gamma 2.4 Encoded Rec.709", Curve.TABLE, False),
        ("sRGB Encoded P3-D65", Curve.TABLE, False),
        # A gain by the luminance of all three channels, and a matrix before the curve.
        ("Rec.2100-HLG - Display", Curve.TABLE, True),
        ("ADX10", Curve.CHAIN, True),
    ],
)
def test_how_a_space_is_computed(spaces, name, curve, scene):
    space = spaces.of(name)
    assert (space.curve, space.scene) == (curve, scene)


def test_the_matrix_of_acescg_is_that_of_its_primaries(spaces):
    # AP1 to Rec. 709 with Bradford adaptation, as published.
    expected = [[1.70505, -0.62179, -0.08326], [-0.13026, 1.14080, -0.01055]]
    assert np.abs(spaces.of("ACEScg").matrix[:2] - expected).max() < 1e-4
    assert spaces.of("Linear Rec.709 (sRGB)").matrix is None


def test_a_table_has_black_and_every_size_of_value():
    curve = table.usable(np.asarray(srgb_decode(table.nodes())))
    values = np.float32([0, -0.0, 1e-30, 1e-6, 0.02, 0.5, 1, 3, 64, 1000, -0.25])
    found = table.through(curve, values)
    assert found[0] == found[1] == 0
    # Between nodes a curve is a line: at most 1/8 of its bend over 1/2048 of the value.
    assert np.abs(found - srgb_decode(values)).max() <= 1e-6 * srgb_decode(values).max()
    assert np.isfinite(table.through(curve, np.float32([np.nan, np.inf, -np.inf]))).all()


def test_a_table_by_the_bits_of_floats_is_the_same_table():
    curve = table.usable(np.asarray(srgb_decode(table.nodes())))
    values = np.random.default_rng(6).uniform(-2, 70, 20_000).astype(np.float32)
    values[:8] = [0, -0.0, 1e-30, -1e-30, 3e38, -3e38, 2**24, 2**-40]
    keyed = table.by_key(curve)
    bits = values.view(np.int32)
    pairs = keyed[(bits >> table.SHIFT) & (len(keyed) - 1)]
    found = pairs[:, 0] + pairs[:, 1] * (bits & ((1 << table.SHIFT) - 1)).astype(np.float32)
    # Beyond the table's end `through` is one step of a float below its last value.
    assert np.allclose(found, table.through(curve, values), rtol=1e-6, atol=0)


def test_the_inverse_of_a_table_is_exact_for_that_table():
    curve = table.usable(np.asarray(srgb_decode(table.nodes())))
    rough = np.asarray(srgb_encode(table.nodes())) * np.float32(1 + 3e-5)
    back = table.inverse(curve, table.usable(rough))
    values = np.random.default_rng(2).uniform(-0.5, 64, 5000).astype(np.float32)
    there = table.through(curve, table.through(back, values))
    # Measured 3e-7, of float32 rounding; the rough inverse alone gives 7e-5.
    assert (np.abs(there - values) / np.abs(values)).max() < 3e-6


def test_reference_white_is_told_by_the_curve_whatever_its_unit():
    codes = reference_white.PROBES.astype(np.float64)
    pq = np.maximum(codes ** (32 / 2523) - 3424 / 4096, 0)
    pq = (pq / (2413 / 128 - 2392 / 128 * codes ** (32 / 2523))) ** (16384 / 2610)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    hlg = np.where(codes <= 0.5, codes**2 / 3, (np.exp((codes - c) / a) + b) / 12)
    # 203 cd/m2 of 10,000 and of 1,000; a camera's HLG, without the display's power, has 0.265.
    assert reference_white.found(pq) == pytest.approx(0.0203, rel=1e-4)
    assert reference_white.found(pq * 100) == pytest.approx(2.03, rel=1e-4)
    assert reference_white.found(hlg**1.2 * 10) == pytest.approx(2.032, rel=1e-3)
    assert reference_white.found(hlg) == pytest.approx(0.265, rel=1e-3)
    for other in (codes, codes**2.4, codes**2.2 * 50, np.exp(codes * 8), -codes, codes * 0):
        assert reference_white.found(other) == 1


def test_white_of_srgb_is_white_of_hdr_in_files(spaces):
    # 58 % of PQ, and back; linear light stays the amount that OpenColorIO makes of it.
    pq, white = "Rec.2100-PQ - Display", np.full((1, 3), 0.58069, np.float32)
    assert np.abs(spaces.converted(white, pq, "srgb") - 1).max() < 1e-4
    assert np.abs(spaces.converted(np.ones((1, 3), np.float32), "srgb", pq) - white).max() < 1e-4
    assert np.abs(spaces.converted(white, pq, "linear") - 2.03).max() < 1e-3
    hlg = spaces.converted(white, pq, "Rec.2100-HLG - Display")
    assert np.abs(hlg - 0.75).max() < 1e-3


@pytest.mark.parametrize("name", ["ACEScct", "ARRI LogC4", "Log3G10 REDWideGamutRGB"])
def test_a_camera_log_is_in_closed_form(spaces, name):
    assert spaces.of(name).curve is Curve.LOG


def test_a_log_with_another_way_back_is_no_closed_form(tmp_path):
    log = (
        "!<LogCameraTransform> {base: 10, log_side_slope: 0.256663, log_side_offset: 0.584555,"
        " lin_side_slope: 0.9892, lin_side_offset: 0.0108, lin_side_break: 0.0104}"
    )
    path = tmp_path / "odd.ocio"
    path.write_text(
        "ocio_profile_version: 2\nroles: {default: log}\ncolorspaces:\n"
        "  - !<ColorSpace> {name: lin_rec709}\n"
        f"  - !<ColorSpace>\n    name: log\n    from_scene_reference: {log}\n"
        f"  - !<ColorSpace>\n    name: odd\n    from_scene_reference: {log}\n"
        "    to_scene_reference: !<ExponentTransform> {value: [2, 2, 2, 1]}\n"
    )
    found = Spaces(Config(str(path)))
    assert found.of("log").curve is Curve.LOG
    assert found.of("log").log.rate == pytest.approx(np.log(10) / 0.256663, rel=1e-5)
    assert found.of("odd").curve is not Curve.LOG
