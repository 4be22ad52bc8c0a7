"""The colour space that a file names: tags, primaries, cICP, ICC profiles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from fakes.colour import studio_spaces
from fakes.tagged_pictures import (
    chrm,
    chunk,
    cicp,
    display,
    gama,
    iccp,
    png,
    profile_of,
)
from mattebridge.image_io import Encoding, icc_profiles, read_header, write_frame
from mattebridge.image_io.colour_tags import _LIGHT, named
from mattebridge.ocio.primaries import ADOBE_RGB, AP1, P3_D65, REC709, REC2020


def _saved(path: Path, kind: str, **attributes: tuple[str, Any]) -> Path:
    spec = oiio.ImageSpec(4, 4, 3, kind)
    for name, (of, value) in attributes.items():
        spec.attribute(name.replace("__", ":"), oiio.TypeDesc(of), value)
    output = oiio.ImageOutput.create(path.suffix[1:])
    assert output.open(str(path), spec)
    assert output.write_image(np.zeros((4, 4, 3), np.float32))
    output.close()
    return path


@pytest.mark.parametrize("name", list(_LIGHT))
def test_an_exr_is_known_by_its_primaries_and_configs_have_that_name(
    tmp_path: Path, name: str
) -> None:
    path = _saved(tmp_path / "a.exr", "half", chromaticities=("float[8]", _LIGHT[name]))
    assert read_header(path).colorspace == name
    assert studio_spaces().is_known(name)


def test_other_primaries_have_to_be_named(tmp_path: Path) -> None:
    odd = (0.7, 0.3, 0.2, 0.7, 0.1, 0.05, 0.3127, 0.329)
    header = read_header(_saved(tmp_path / "a.exr", "half", chromaticities=("float[8]", odd)))
    assert header.colorspace == "unknown"
    assert "has primaries that are of no colour space known here" in header.unknown_because


def test_an_exr_of_rec709_or_without_primaries_is_linear(tmp_path: Path) -> None:
    rec709 = (0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329)
    path = _saved(tmp_path / "a.exr", "half", chromaticities=("float[8]", rec709))
    assert read_header(path).colorspace == "linear"
    assert read_header(_saved(tmp_path / "b.exr", "half")).colorspace == "linear"


@pytest.mark.parametrize(
    ("codes", "space"),
    [
        ((1, 13, 0, 1), "srgb"),
        # FFmpeg writes those of a frame of video: what is true of the video is true of its frame.
        ((1, 1, 0, 1), "srgb"),
        ((2, 2, 0, 1), "srgb"),
        ((1, 8, 0, 1), "linear"),
        ((12, 13, 0, 1), "srgb_p3d65_scene"),
        ((9, 16, 0, 1), "pq_rec2020_display"),
        ((9, 18, 0, 1), "hlg_rec2020_display"),
        ((9, 8, 0, 1), "lin_rec2020_scene"),
    ],
)
def test_a_png_is_known_by_its_cicp(tmp_path: Path, codes: Any, space: str) -> None:
    path = png(tmp_path, cicp(*codes))
    assert (read_header(path).colorspace, read_header(path).unread_tag) == (space, "")
    assert studio_spaces().is_known(space)


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ((9, 14, 0, 1), r"other primaries \(BT.2020\)"),
        ((9, 1, 0, 1), r"other primaries \(BT.2020\)"),
        ((11, 17, 0, 1), r"other primaries \(DCI-P3\)"),
        ((99, 99, 0, 1), r"other primaries \(number 99\)"),
        ((1, 16, 0, 1), r"is HDR \(PQ\)"),
        ((1, 4, 0, 1), r"a curve \(number 4\)"),
        ((9, 16, 0, 0), "codes of narrow range"),
    ],
)
def test_a_pair_of_codes_that_no_config_has_is_asked_for(
    tmp_path: Path, codes: Any, why: str
) -> None:
    header = read_header(png(tmp_path, cicp(*codes)))
    assert header.colorspace == "unknown"
    assert re.search(why, header.unknown_because)


def test_of_several_tags_the_first_of_the_png_specification_counts(tmp_path: Path) -> None:
    pq, p3 = cicp(9, 16, 0, 1), iccp(display(P3_D65))
    srgb, light, wide = chunk(b"sRGB", b"\0"), gama(1.0), chrm(P3_D65)
    for chunks, space in {
        (pq, p3, srgb, light): "pq_rec2020_display",
        (p3, srgb, light): "srgb_p3d65_scene",
        (srgb, light, wide): "srgb",
        (light, wide): "lin_p3d65_scene",
        (gama(2.2), wide): "srgb_p3d65_scene",
        (light,): "linear",
        (gama(1.8),): "g18_rec709_scene",
        (gama(2.2), chrm(REC709)): "srgb",
        (): "srgb",
    }.items():
        header = read_header(png(tmp_path, *chunks))
        assert (header.colorspace, header.unread_tag) == (space, "")
    odd = read_header(png(tmp_path, gama(2.2), chrm((0.7, 0.3, 0.2, 0.7, 0.1, 0.05, 0.31, 0.33))))
    assert odd.colorspace == "srgb"
    assert odd.unread_tag == "a cHRM chunk of other primaries (red at 0.7, 0.3)"


PROFILES = [
    (REC709, "lin", "linear"),
    (REC709, "srgb", "srgb"),
    (REC709, "g22", "srgb"),
    (REC709, "g18", "g18_rec709_scene"),
    (REC709, "g24", "g24_rec709_scene"),
    (P3_D65, "srgb", "srgb_p3d65_scene"),
    (P3_D65, "lin", "lin_p3d65_scene"),
    (ADOBE_RGB, "g22", "g22_adobergb_scene"),
    (ADOBE_RGB, "lin", "lin_adobergb_scene"),
    (REC2020, "lin", "lin_rec2020_scene"),
    (AP1, "lin", "lin_ap1_scene"),
    (AP1, "srgb", "srgb_ap1_scene"),
]


@pytest.mark.parametrize("kind", ["parametric", "table", "gamma"])
@pytest.mark.parametrize(("places", "curve", "space"), PROFILES)
def test_a_profile_is_known_by_its_numbers_whatever_its_name_is(
    places: Any, curve: str, space: str, kind: str
) -> None:
    profile = display(places, curve, kind)
    for name in ("Monitor of Jo", "sRGB IEC61966-2.1", "Display P3", ""):
        assert icc_profiles.space_of(profile, name) == space
    assert studio_spaces().is_known(space)


def test_a_profile_of_tables_is_known_by_its_words_and_one_of_codes_by_these() -> None:
    tables = profile_of({b"A2B0": b"mft2" + bytes(60)})
    assert icc_profiles.space_of(tables, "sRGB v4 ICC preference") == "srgb"
    assert icc_profiles.space_of(tables, "Coated FOGRA39") is None
    codes = display(REC709, extra={b"cicp": b"cicp" + bytes(4) + bytes((9, 16, 0, 1))})
    assert icc_profiles.space_of(codes, "Apple PQ") == "pq_rec2020_display"


def test_a_damaged_profile_and_one_of_grey_are_of_no_known_space() -> None:
    profile = display(REC709)
    for size in range(0, len(profile), 7):
        assert icc_profiles.space_of(profile[:size], "sRGB") in (None, "srgb")
    assert icc_profiles.space_of(profile[:200], "Jo") is None
    assert icc_profiles.space_of(profile.replace(b"RGB XYZ ", b"GRAYXYZ "), "Dot Gain 20%") is None
    many = profile[:128] + b"\xff\xff\xff\xff" + profile[132:]
    assert icc_profiles.space_of(many, "Jo") in (None, "srgb")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_picture_is_known_by_its_icc_profile(tmp_path: Path, suffix: str) -> None:
    image, cms = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageCms")
    # Of version 4, and one of littlecms, of version 2 in older ones.
    for profile, space in (
        (display(P3_D65), "srgb_p3d65_scene"),
        (display(REC709, "lin"), "linear"),
        (cms.ImageCmsProfile(cms.createProfile("sRGB")).tobytes(), "srgb"),
    ):
        path = tmp_path / f"a{suffix}"
        image.new("RGB", (8, 8)).save(path, icc_profile=profile)
        assert (read_header(path).colorspace, read_header(path).unread_tag) == (space, "")


def test_a_profile_that_is_not_known_is_named(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    odd = display((0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001, 0.3457, 0.3585), "g18")
    image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", icc_profile=odd)
    header = read_header(tmp_path / "a.jpg")
    assert (header.colorspace, header.unread_tag) == ("srgb", "the ICC profile 'Test'")


def test_what_was_written_in_a_space_is_read_in_it(tmp_path: Path) -> None:
    for space, interop_id in (("ACEScg", "lin_ap1_scene"), ("ARRI LogC3 (EI800)", "")):
        write_frame(
            tmp_path / "a.exr",
            np.full((2, 2, 4), 0.5, np.float32),
            Encoding(colorspace=space, interop_id=interop_id, dtype="float"),
        )
        assert read_header(tmp_path / "a.exr").colorspace == space


def test_a_tag_that_is_none_of_ours_is_the_name_to_look_up() -> None:
    assert named("lin_rec709_scene") == "linear"
    assert named("sRGB") == "srgb"
    assert named("data") == "unknown"
    assert named("My Camera Log") == "My Camera Log"
