"""What written pictures say of their colours, as we and other programs read it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import OpenImageIO as oiio  # noqa: N813
import pytest
from PIL import Image, ImageCms

from mattebridge.image_io import Encoding, read_header, write_frame

P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
PIXELS = np.random.default_rng(6).random((16, 16, 3), np.float32)
FILES = [("png", "uint8"), ("png", "uint16"), ("jpg", "uint8"), ("tif", "uint8"), ("tif", "uint16")]


def _written(folder: Path, suffix: str, dtype: str, places: object = None) -> Path:
    path = folder / f"a.{suffix}"
    metadata = {} if places is None else {"chromaticities": places}
    encoding = Encoding(colorspace="srgb", alpha="opaque", dtype=dtype, metadata=metadata)
    write_frame(path, PIXELS, encoding)
    return path


def _profile_of(path: Path) -> ImageCms.ImageCmsProfile:
    with Image.open(path) as image:
        return ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"]))


@pytest.mark.parametrize(("suffix", "dtype"), FILES)
def test_a_picture_is_read_in_the_space_it_was_written_in(
    tmp_path: Path, suffix: str, dtype: str
) -> None:
    assert read_header(_written(tmp_path, suffix, dtype)).colorspace == "srgb"
    wide = read_header(_written(tmp_path, suffix, dtype, P3))
    assert wide.colorspace == "srgb_p3d65_scene"


@pytest.mark.parametrize(("suffix", "dtype"), [each for each in FILES if each[0] != "png"])
def test_the_profile_is_that_of_srgb_for_other_programs(
    tmp_path: Path, suffix: str, dtype: str
) -> None:
    ours = _profile_of(_written(tmp_path, suffix, dtype))
    codes = np.random.default_rng(7).integers(0, 256, (64, 64, 3), np.uint8)
    transform = ImageCms.buildTransform(ours, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    shown = np.asarray(ImageCms.applyTransform(Image.fromarray(codes), transform))
    # Two profiles of the same colours; measured 0, 1 is the rounding of a code.
    assert np.abs(shown.astype(int) - codes).max() <= 1
    wide = _profile_of(_written(tmp_path, suffix, dtype, P3))
    transform = ImageCms.buildTransform(wide, ImageCms.createProfile("sRGB"), "RGB", "RGB")
    (green,) = np.asarray(
        ImageCms.applyTransform(Image.fromarray(np.uint8([[[140, 180, 130]]])), transform)
    ).reshape(1, 3)
    # As the matrix of P3-D65 to Rec. 709 gives it in linear light.
    assert np.abs(green.astype(int) - (129, 181, 125)).max() <= 1


def test_a_png_is_tagged_for_readers_new_and_old(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    for places, primaries in ((None, 1), (P3, 12)):
        path = _written(tmp_path, "png", "uint8", places)
        with av.open(str(path)) as source:
            frame = next(source.decode(video=0))
        assert (int(frame.color_primaries), int(frame.color_trc)) == (primaries, 13)
        with Image.open(path) as image:
            assert image.info["gamma"] == pytest.approx(1 / 2.2, abs=1e-4)
            assert image.info["chromaticity"][2] == pytest.approx((places or (0.64,))[0], abs=1e-4)
            assert ("srgb" in image.info) == (places is None)


def test_primaries_without_a_number_are_given_by_their_places(tmp_path: Path) -> None:
    ap1 = (0.713, 0.293, 0.165, 0.830, 0.128, 0.044, 0.32168, 0.33767)
    path = _written(tmp_path, "png", "uint8", ap1)
    assert b"cICP" not in path.read_bytes()
    with Image.open(path) as image:
        assert image.info["chromaticity"] == pytest.approx((*ap1[6:], *ap1[:6]), abs=1e-4)
    profile = _profile_of(_written(tmp_path, "jpg", "uint8", ap1))
    assert "sRGB" not in ImageCms.getProfileDescription(profile)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_matte_has_no_colours_and_says_nothing_of_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"matte.{suffix}"
    write_frame(path, PIXELS[..., :1], Encoding(dtype="uint8"))
    stored = path.read_bytes()
    for tag in (b"cICP", b"gAMA", b"ICC_PROFILE", b"acsp"):
        assert tag not in stored


def test_equal_pictures_are_equal_bytes_and_their_codes_are_what_they_were(tmp_path: Path) -> None:
    for suffix in ("png", "tif"):
        first = _written(tmp_path, suffix, "uint8").read_bytes()
        assert _written(tmp_path, suffix, "uint8").read_bytes() == first
        codes = np.round(PIXELS * 255).astype(np.uint8)
        image = oiio.ImageBuf(str(tmp_path / f"a.{suffix}"))
        assert np.array_equal(image.get_pixels(oiio.UINT8), codes)
