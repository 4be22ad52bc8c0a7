"""The colour space that a file names: tags, primaries, cICP, ICC profiles."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest

from fakes.colour import studio_spaces
from mattebridge.image_io import Encoding, read_header, write_frame
from mattebridge.image_io.colour_tags import _LIGHT, named, space_of

AP1 = _LIGHT["lin_ap1_scene"]


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
    [((1, 13, 0, 1), "srgb"), ((12, 13, 0, 1), "srgb_p3d65_scene")],
)
def test_a_png_is_known_by_its_cicp(tmp_path: Path, codes: Any, space: str) -> None:
    path = _saved(tmp_path / "a.png", "uint8", CICP=("int[4]", codes))
    assert read_header(path).colorspace == space


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_picture_is_known_by_its_icc_profile(tmp_path: Path, suffix: str) -> None:
    image, cms = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageCms")
    profile = cms.ImageCmsProfile(cms.createProfile("sRGB")).tobytes()
    data = io.BytesIO()
    kind = {".png": "PNG", ".jpg": "JPEG"}[suffix]
    image.new("RGB", (8, 8)).save(data, kind, icc_profile=profile)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data.getvalue())
    assert read_header(path).colorspace == "srgb"


def test_a_profile_of_display_p3_is_believed_and_an_unknown_one_changes_nothing() -> None:
    spec = oiio.ImageSpec(4, 4, 3, "uint8")
    spec.attribute("oiio:ColorSpace", "srgb_rec709_scene")
    for words, space in (("Display P3", "srgb_p3d65_scene"), ("Monitor of Jo", "srgb")):
        spec.attribute("ICCProfile:profile_description", words)
        assert space_of(spec, "jpeg", "uint8") == (space, "")


def test_a_profile_that_is_not_known_is_named(tmp_path: Path) -> None:
    image, cms = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageCms")
    profile = cms.ImageCmsProfile(cms.createProfile("sRGB")).tobytes()
    for words, unread in ((b"sRGB", ""), (b"Jo's", "Jo's built-in")):
        # Its description is text of two bytes a letter.
        wide = [bytes([0, letter]) for letter in words]
        odd = profile.replace(b"\0s\0R\0G\0B\0 \0b", b"".join(wide) + b"\0 \0b")
        image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", icc_profile=odd)
        header = read_header(tmp_path / "a.jpg")
        assert (header.colorspace, header.unread_profile) == ("srgb", unread)


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
