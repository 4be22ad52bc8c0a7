"""Frames on disk: what is read is what is stored, and what is damaged is never a picture.

Rule numbers (R1 ... R16) are those of the image I/O facts the module was built on.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses
import pytest

from mattebridge import color
from mattebridge.errors import FrameReadError, FrameWriteError
from mattebridge.image_io import (
    Attribute,
    Encoding,
    check_frame,
    read_frame,
    read_header,
    read_matte,
    write_frame,
)
from mattebridge.image_io import read as reading


def picture(height: int = 24, width: int = 37, channels: int = 4) -> np.ndarray:
    """A premultiplied linear picture with values above 1, alpha from 0 to 1."""
    rng = np.random.default_rng(7)
    pixels = rng.random((height, width, channels), dtype=np.float32) * 2.5
    if channels != 3:
        pixels[..., -1] = np.linspace(0.0, 1.0, width)
    if channels == 4:
        pixels[..., :3] *= pixels[..., 3:]
    return pixels


def write_with_oiio(path: Path, pixels: np.ndarray, names, *, kind="half", **attributes) -> Path:
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)
    spec.channelnames = tuple(names)
    for name, value in attributes.items():
        if name in ("x", "y", "full_x", "full_y", "full_width", "full_height"):
            setattr(spec, name, value)
        else:
            spec.attribute(name.replace("__", ":"), value)
    target = oiio.ImageOutput.create(str(path))
    assert target.open(str(path), spec), target.geterror()
    assert target.write_image(np.ascontiguousarray(pixels))
    target.close()
    return path


# ------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["half", "float"])
def test_an_exr_comes_back_as_it_was_written(tmp_path, channels, dtype):
    pixels = picture(channels=channels)
    write_frame(tmp_path / "a.exr", pixels, Encoding(dtype=dtype))
    frame = read_frame(tmp_path / "a.exr")
    stored = {"half": np.float16, "float": np.float32}[dtype]
    assert frame.pixels.dtype == stored
    np.testing.assert_array_equal(frame.pixels, pixels.astype(stored))
    assert frame.colorspace == "linear"
    assert frame.alpha == ("premultiplied" if channels == 4 else "opaque")


def test_an_exr_is_half_by_default_and_a_matte_is_named_a(tmp_path):
    write_frame(tmp_path / "a.exr", picture(channels=1))
    header = read_header(tmp_path / "a.exr")
    assert (header.dtype, header.channels) == ("float16", ("A",))
    stored = oiio.ImageInput.open(str(tmp_path / "a.exr")).spec()
    assert stored.channelnames == ("A",)
    assert stored.get_string_attribute("compression") == "zip"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_code_values_of_integer_files_stay_as_they_are(tmp_path, suffix, dtype, channels):
    top = np.iinfo(dtype).max
    codes = (picture(channels=channels) / 2.5 * top).astype(dtype)
    path = tmp_path / f"a{suffix}"
    write_frame(path, codes)
    frame = read_frame(path)
    assert frame.pixels.dtype == dtype
    np.testing.assert_array_equal(frame.pixels, codes)
    assert frame.colorspace == "srgb"
    assert frame.alpha == ("straight" if channels == 4 else "opaque")


def test_a_float_tiff_holds_linear_premultiplied_light(tmp_path):
    pixels = picture()
    write_frame(tmp_path / "a.tif", pixels, Encoding(dtype="float"))
    frame = read_frame(tmp_path / "a.tif")
    np.testing.assert_array_equal(frame.pixels, pixels)
    assert (frame.colorspace, frame.alpha) == ("linear", "premultiplied")


def test_a_half_tiff_of_another_program_is_read(tmp_path):
    pixels = picture(3, 4, 3).astype(np.float16)
    (tmp_path / "h.tif").write_bytes(half_tiff(pixels))
    frame = read_frame(tmp_path / "h.tif")
    assert (frame.pixels.dtype, frame.colorspace) == (np.float16, "linear")
    np.testing.assert_array_equal(frame.pixels, pixels)


def half_tiff(pixels: np.ndarray) -> bytes:
    """A baseline TIFF of one strip of half samples, which OpenImageIO reads but does not write."""
    height, width, _ = pixels.shape
    data = pixels.tobytes()
    short, long = 3, 4
    count = 10
    extra = 8 + 2 + 12 * count + 4
    entries = [
        (256, short, 1, width),
        (257, short, 1, height),
        (258, short, 3, extra),
        (259, short, 1, 1),
        (262, short, 1, 2),
        (273, long, 1, extra + 12),
        (277, short, 1, 3),
        (278, short, 1, height),
        (279, long, 1, len(data)),
        (339, short, 3, extra + 6),
    ]
    table = b"".join(
        struct.pack("<HHI", tag, kind, n)
        + (struct.pack("<HH", value, 0) if kind == short and n == 1 else struct.pack("<I", value))
        for tag, kind, n, value in entries
    )
    samples = struct.pack("<3H", 16, 16, 16) + struct.pack("<3H", 3, 3, 3)
    head = b"II*\0" + struct.pack("<IH", 8, count)
    return head + table + struct.pack("<I", 0) + samples + data


def test_a_dpx_comes_back_to_ten_bits_and_does_not_claim_a_colour_space(tmp_path):
    linear = picture(channels=3) / 2.5
    write_frame(tmp_path / "a.dpx", linear)
    frame = read_frame(tmp_path / "a.dpx")
    assert frame.colorspace == "unknown"
    expected = color.srgb_encode(linear)
    # Rounded to the nearest of 10 bits, by way of 16; the encoder itself cuts off.
    assert np.abs(frame.pixels / 65535.0 - expected).max() < 0.51 / 1023
    assert b"/proc/" not in (tmp_path / "a.dpx").read_bytes()


def test_a_jpeg_is_close_to_what_was_written(tmp_path):
    linear = cv2.GaussianBlur(picture(64, 64, 3) / 2.5, (0, 0), 6)
    write_frame(tmp_path / "a.jpg", linear)
    frame = read_frame(tmp_path / "a.jpg")
    assert np.abs(frame.pixels / 255.0 - color.srgb_encode(linear)).max() < 0.05


def test_a_grey_jpeg_has_one_channel(tmp_path):
    write_frame(tmp_path / "a.jpg", np.full((8, 8), 0.5, np.float32))
    assert read_frame(tmp_path / "a.jpg").pixels.shape == (8, 8, 1)
    assert read_frame(tmp_path / "a.jpg").pixels[0, 0, 0] == 128


# -------------------------------------------------------------------------- colour, alpha, clipping


def test_a_png_of_premultiplied_light_holds_straight_srgb(tmp_path):
    straight = np.full((4, 4, 3), 0.5, np.float32)
    alpha = np.full((4, 4, 1), 0.25, np.float32)
    write_frame(tmp_path / "a.png", np.concatenate([straight * alpha, alpha], axis=2))
    stored = read_frame(tmp_path / "a.png").pixels[0, 0]
    assert stored.tolist() == [188, 188, 188, 64]


def test_a_straight_picture_is_multiplied_for_exr(tmp_path):
    straight = np.full((4, 4, 4), 0.5, np.float32)
    write_frame(tmp_path / "a.exr", straight, Encoding(alpha="straight"))
    assert read_frame(tmp_path / "a.exr").pixels[0, 0].tolist() == [0.25, 0.25, 0.25, 0.5]


def test_a_matte_meets_no_curve(tmp_path):
    write_frame(tmp_path / "a.png", np.full((4, 4, 1), 0.5, np.float32))
    assert read_frame(tmp_path / "a.png").pixels[0, 0, 0] == 128


def test_an_exr_of_encoded_pixels_says_so(tmp_path):
    write_frame(tmp_path / "a.exr", picture(channels=3), Encoding(colorspace="srgb"))
    assert read_frame(tmp_path / "a.exr").colorspace == "srgb"


def test_values_are_rounded_and_clipped_not_wrapped(tmp_path):
    values = np.array([[-0.01, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.01]], np.float32)
    write_frame(tmp_path / "a.png", values)
    assert read_frame(tmp_path / "a.png").pixels[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


def test_light_beyond_half_is_kept_finite(tmp_path):
    # R11: OpenImageIO writes 1e5 into a half file as infinity.
    write_frame(tmp_path / "a.exr", np.full((2, 2, 3), 1e5, np.float32))
    assert read_frame(tmp_path / "a.exr").pixels.max() == 65504.0


def test_sixteen_bits_are_sixteen_bits(tmp_path):
    # OpenCV writes float arrays into a PNG as 8 bits without an error.
    values = np.linspace(0, 1, 4096, dtype=np.float32).reshape(64, 64)
    write_frame(tmp_path / "a.png", values, Encoding(dtype="uint16"))
    assert len(np.unique(read_frame(tmp_path / "a.png").pixels)) == 4096


def test_a_plane_seen_as_a_strided_view_is_written_right(tmp_path):
    planar = np.ascontiguousarray(picture(channels=3).transpose(2, 0, 1))
    view = planar.transpose(1, 2, 0)[::-1]
    write_frame(tmp_path / "a.exr", view, Encoding(dtype="float"))
    np.testing.assert_array_equal(read_frame(tmp_path / "a.exr").pixels, view)


@pytest.mark.parametrize(
    ("name", "pixels", "says"),
    [
        ("a.exr", np.full((4, 4, 3), np.nan, np.float32), "NaN"),
        ("a.jpg", np.zeros((4, 4, 4), np.float32), "no alpha"),
        ("a.exr", np.zeros((4, 4, 2), np.float32), "not a frame"),
        ("a.exr", np.zeros((0, 4, 3), np.float32), "not a frame"),
        ("a.exr", np.zeros((4, 4, 3), np.float64), "not supported"),
        ("a.gif", np.zeros((4, 4, 3), np.float32), "unknown type"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(tmp_path, name, pixels, says):
    with pytest.raises(FrameWriteError, match=says) as refused:
        write_frame(tmp_path / name, pixels)
    assert str(tmp_path / name) in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_equal_frames_are_equal_files(tmp_path):
    for suffix in (".exr", ".png", ".tif", ".jpg"):
        pixels = picture(channels=3)
        write_frame(tmp_path / f"a{suffix}", pixels)
        first = (tmp_path / f"a{suffix}").read_bytes()
        write_frame(tmp_path / f"a{suffix}", pixels)
        assert (tmp_path / f"a{suffix}").read_bytes() == first
        assert not re.search(rb"\d{4}:\d\d:\d\d \d\d:\d\d", first)  # no date of writing inside


# --------------------------------------------------------------------------------- channels by name


def test_channels_are_found_by_name_and_not_by_position(tmp_path):
    # R6: names are case-blind, order in the file is not ours.
    pixels = picture(channels=4).astype(np.float16)
    names = ("B", "matte.A", "green", "Red")
    path = write_with_oiio(tmp_path / "a.exr", pixels, names)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.pixels, pixels[..., [3, 2, 0]])


def test_a_layer_is_read_on_request_and_extra_layers_survive(tmp_path):
    main, matte, foreground = picture(), picture(channels=1), picture(channels=3)
    write_frame(
        tmp_path / "a.exr", main, Encoding(layers={"matte": matte, "foreground": foreground})
    )
    header = read_header(tmp_path / "a.exr")
    assert header.channels == ("R", "G", "B", "A")
    assert header.layers == ("foreground", "matte")
    for layer, pixels in ((None, main), ("matte", matte), ("foreground", foreground)):
        frame = read_frame(tmp_path / "a.exr", layer=layer)
        np.testing.assert_array_equal(frame.pixels, pixels.astype(np.float16))


def test_a_layer_that_is_not_there_is_named_with_those_that_are(tmp_path):
    write_frame(tmp_path / "a.exr", picture(), Encoding(layers={"matte": picture(channels=1)}))
    with pytest.raises(FrameReadError, match=r"no layer 'hint'.*matte"):
        read_frame(tmp_path / "a.exr", layer="hint")


def test_several_layers_and_no_picture_is_not_guessed(tmp_path):
    names = ("key.A", "core.A")
    path = write_with_oiio(tmp_path / "a.exr", np.zeros((4, 4, 2), np.float16), names)
    with pytest.raises(FrameReadError, match=r"core, key"):
        read_frame(path)


def test_the_second_part_of_a_multi_part_exr_is_a_layer(tmp_path):
    specs = []
    for name, channels in (("rgba", ("R", "G", "B", "A")), ("hint", ("A",))):
        spec = oiio.ImageSpec(5, 4, len(channels), "half")
        spec.channelnames = channels
        spec.attribute("oiio:subimagename", name)
        specs.append(spec)
    path = str(tmp_path / "a.exr")
    target = oiio.ImageOutput.create(path)
    assert target.open(path, specs)
    target.write_image(np.zeros((4, 5, 4), np.float16))
    target.open(path, specs[1], "AppendSubimage")
    target.write_image(np.ones((4, 5, 1), np.float16))
    target.close()
    assert read_frame(path).pixels.shape == (4, 5, 4)
    assert read_matte(path, layer="hint").min() == 1.0


def test_grey_with_alpha_becomes_rgba(tmp_path):
    # R9: the two libraries disagree about the channel count of such a PNG.
    codes = np.zeros((4, 4, 2), np.uint8)
    codes[..., 0], codes[..., 1] = 90, 30
    path = write_with_oiio(
        tmp_path / "a.png", codes, ("Y", "A"), kind="uint8", oiio__UnassociatedAlpha=1
    )
    frame = read_frame(path)
    assert frame.pixels[0, 0].tolist() == [90, 90, 90, 30]
    assert frame.alpha == "straight"
    assert read_header(path).channels == ("R", "R", "R", "A")


def test_png_colour_is_not_multiplied_by_alpha_while_reading(tmp_path):
    # R3: OpenImageIO does so by default, in encoded values.
    codes = np.full((2, 2, 4), (200, 100, 50, 128), np.uint8)
    write_frame(tmp_path / "a.png", codes)
    assert read_frame(tmp_path / "a.png").pixels[0, 0].tolist() == [200, 100, 50, 128]


@pytest.mark.parametrize(
    ("channels", "expected"),
    [(1, 0), (4, 3)],
)
def test_a_matte_is_the_only_channel_or_alpha(tmp_path, channels, expected):
    pixels = picture(channels=channels).astype(np.float16)
    write_frame(tmp_path / "h.exr", pixels)
    np.testing.assert_array_equal(
        read_matte(tmp_path / "h.exr"), pixels[..., expected : expected + 1]
    )


def test_a_grey_colour_picture_is_a_matte(tmp_path):
    codes = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1), 3, axis=2)
    write_frame(tmp_path / "h.png", codes)
    np.testing.assert_array_equal(read_matte(tmp_path / "h.png"), codes[..., :1])


def test_a_coloured_picture_is_no_matte_unless_a_channel_is_named(tmp_path):
    write_frame(tmp_path / "h.exr", picture(channels=3))
    with pytest.raises(FrameReadError, match="--hint-channel"):
        read_matte(tmp_path / "h.exr")
    assert read_matte(tmp_path / "h.exr", channel="R").shape == (24, 37, 1)
    with pytest.raises(FrameReadError, match="no channel A"):
        read_matte(tmp_path / "h.exr", channel="A")


def test_beside_a_white_alpha_the_luma_of_a_picture_is_the_matte(tmp_path):
    pixels = np.repeat(picture(channels=1), 4, axis=2)
    pixels[..., 3] = 1.0
    write_frame(tmp_path / "h.exr", pixels, Encoding(dtype="float"))
    np.testing.assert_allclose(read_matte(tmp_path / "h.exr"), pixels[..., :1], atol=1e-6)
    np.testing.assert_array_equal(read_matte(tmp_path / "h.exr", channel="A"), pixels[..., 3:])


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_an_alpha_that_is_all_there_is_to_say_stays_the_matte(tmp_path, value):
    """A shape that is outside of the frame is alpha 0; a flat grey has no other values."""
    pixels = picture() if value == 0.0 else np.full((4, 5, 4), 0.5, np.float32)
    pixels[..., 3] = value
    write_frame(tmp_path / "h.tif", pixels, Encoding(dtype="float"))
    assert np.unique(read_matte(tmp_path / "h.tif")).tolist() == [value]


# ------------------------------------------------------------------- windows, aspect, orientation


def test_a_data_window_is_placed_in_the_display_window(tmp_path):
    # R7: OpenImageIO hands out the data window only.
    pixels = np.arange(6 * 8, dtype=np.float16).reshape(6, 8, 1) + 1
    window = {"x": -2, "y": -1, "full_x": 0, "full_y": 0, "full_width": 4, "full_height": 4}
    path = write_with_oiio(tmp_path / "a.exr", pixels, ("A",), **window)
    frame = read_frame(path)
    assert (frame.data_window, frame.display_window) == ((-2, -1, 8, 6), (0, 0, 4, 4))
    np.testing.assert_array_equal(frame.pixels, pixels[1:5, 2:6])
    np.testing.assert_array_equal(read_frame(path, window="data").pixels, pixels)


def test_what_is_outside_the_data_window_is_black(tmp_path):
    window = {"x": 12, "y": 21, "full_x": 10, "full_y": 20, "full_width": 8, "full_height": 5}
    path = write_with_oiio(tmp_path / "a.exr", np.ones((2, 3, 1), np.float16), ("A",), **window)
    pixels = read_frame(path).pixels[..., 0]
    assert pixels.shape == (5, 8)
    assert pixels.sum() == 6
    assert pixels[1:3, 2:5].min() == 1.0


def test_a_data_window_wholly_outside_is_an_empty_frame(tmp_path):
    window = {"x": 40, "y": 0, "full_width": 8, "full_height": 5}
    path = write_with_oiio(tmp_path / "a.exr", np.ones((2, 3, 1), np.float16), ("A",), **window)
    assert read_frame(path).pixels.sum() == 0


@pytest.mark.parametrize("display", [(0, 0, 37, 24), (-5, 9, 37, 24)])
def test_a_data_window_is_written_back(tmp_path, display):
    pixels = picture(channels=1)
    data = (display[0] + 3, display[1] + 2, 10, 7)
    write_frame(tmp_path / "a.exr", pixels, Encoding(data_window=data, display_window=display))
    frame = read_frame(tmp_path / "a.exr")
    assert (frame.data_window, frame.display_window) == (data, display)
    expected = np.zeros_like(pixels)
    expected[2:9, 3:13] = pixels[2:9, 3:13]
    np.testing.assert_array_equal(frame.pixels, expected.astype(np.float16))


def test_overscan_is_written_where_the_pixels_say(tmp_path):
    pixels = picture(12, 14, 1)
    window = {"data_window": (-2, -1, 14, 12), "display_window": (0, 0, 10, 10)}
    write_frame(tmp_path / "a.exr", pixels, Encoding(**window))
    frame = read_frame(tmp_path / "a.exr", window="data")
    np.testing.assert_array_equal(frame.pixels, pixels.astype(np.float16))
    assert frame.data_window == (-2, -1, 14, 12)


def test_pixels_that_fit_no_window_are_refused(tmp_path):
    with pytest.raises(FrameWriteError, match="neither data nor display"):
        write_frame(tmp_path / "a.exr", picture(), Encoding(display_window=(0, 0, 5, 5)))


def test_pixel_aspect_and_metadata_are_carried(tmp_path):
    metadata = {
        "smpte:TimeCode": (16909060, 0),
        "FramesPerSecond": (24000, 1001),
        "owner": "a studio",
        "camera:roll": "A001",
        "iso": 800,
        "worldToCamera": Attribute(tuple(float(i) for i in range(16)), "matrix"),
    }
    write_frame(tmp_path / "a.exr", picture(), Encoding(metadata=metadata, pixel_aspect=2.0))
    first = read_frame(tmp_path / "a.exr")
    write_frame(
        tmp_path / "b.exr",
        first.pixels,
        Encoding(metadata=first.metadata, pixel_aspect=first.pixel_aspect),
    )
    carried = read_header(tmp_path / "b.exr")
    assert carried.pixel_aspect == 2.0
    assert carried.metadata == first.metadata
    for name in ("smpte:TimeCode", "FramesPerSecond", "camera:roll", "iso"):
        assert carried.metadata[name] == metadata[name]
    matrix = carried.metadata["worldToCamera"]
    assert matrix.value == metadata["worldToCamera"].value


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_the_orientation_tag_is_applied_once(tmp_path, orientation, suffix):
    # R8: the upright picture has a bright top left quarter and a mid top right one.
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24], upright[:16, 24:] = 255, 128
    undo = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[orientation]
    stored = turned(upright, undo)
    path = tmp_path / f"a{suffix}"
    write_with_oiio(path, stored, ("R", "G", "B"), kind="uint8", Orientation=orientation)
    header, frame = read_header(path), read_frame(path)
    assert (header.height, header.width) == frame.pixels.shape[:2] == (32, 48)
    assert np.abs(frame.pixels.astype(int) - upright).mean() < 2


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF's eight ways, written down as the specification does."""
    return {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, 1),
    }[orientation](pixels)


def test_a_colour_tag_is_believed(tmp_path):
    for tag, expected in (
        ("lin_rec709_scene", "linear"),
        ("lin_ap1_scene", "lin_ap1_scene"),
        ("ACEScg", "lin_ap1_scene"),  # OpenImageIO stores the short name
        ("srgb_p3d65_scene", "srgb_p3d65_scene"),
        ("srgb_rec709_scene", "srgb"),
        ("g24_rec709_display", "g24_rec709_display"),
    ):
        pixels = np.zeros((2, 2, 3), np.float16)
        path = write_with_oiio(tmp_path / "a.exr", pixels, "RGB", oiio__ColorSpace=tag)
        assert read_header(path).colorspace == expected, tag


def test_a_png_with_a_linear_gamma_chunk_is_linear(tmp_path):
    # A matte is written without tags.
    write_frame(tmp_path / "a.png", np.zeros((4, 4, 1), np.uint8))
    raw = (tmp_path / "a.png").read_bytes()
    body = b"gAMA" + struct.pack(">I", 100000)
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "a.png").write_bytes(raw[:33] + chunk + raw[33:])
    assert read_frame(tmp_path / "a.png").colorspace == "linear"


# ----------------------------------------------------------------------------------- damaged files

FORMATS = [
    ("a.exr", {}),
    ("a.exr", {"compression": "piz"}),
    ("a.exr", {"compression": "none"}),
    ("a.exr", {"compression": "dwaa:45"}),
    ("a.png", {}),
    ("a.png", {"dtype": "uint16"}),
    ("a.jpg", {}),
    ("a.tif", {}),
    ("a.tif", {"dtype": "float"}),
    ("a.tif", {"compression": "lzw"}),
    ("a.dpx", {}),
]


@pytest.mark.parametrize(("name", "options"), FORMATS)
@pytest.mark.parametrize("kept", [0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, capfd, name, options, kept):
    path = tmp_path / name
    write_frame(path, picture(80, 120, 3), Encoding(**options))
    read_frame(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(FrameReadError) as refused:
        read_frame(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(("name", "options"), FORMATS)
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.999])
def test_the_cheap_check_catches_a_file_cut_short(tmp_path, name, options, kept):
    path = tmp_path / name
    size = write_frame(path, picture(80, 120, 3), Encoding(**options))
    check_frame(path, size_bytes=size, size_px=(120, 80))
    whole = path.read_bytes()
    assert len(whole) == size
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(FrameReadError):
        check_frame(path)
    with pytest.raises(FrameReadError):
        check_frame(path, size_bytes=size)


def test_the_cheap_check_knows_the_size(tmp_path):
    write_frame(tmp_path / "a.exr", picture())
    with pytest.raises(FrameReadError, match="37x24 instead of 100x50"):
        check_frame(tmp_path / "a.exr", size_px=(100, 50))
    with pytest.raises(FrameReadError, match="no such file"):
        check_frame(tmp_path / "b.exr")


def test_an_exr_with_a_hole_is_refused(tmp_path):
    path = tmp_path / "a.exr"
    write_frame(path, picture(300, 300, 3))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 4096] = bytes(4096)
    path.write_bytes(raw)
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        read_frame(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "empty"), (b"this is no picture at all", "render or copy")],
)
@pytest.mark.parametrize("name", ["a.exr", "a.png", "a.jpg", "a.tif", "a.dpx"])
def test_what_is_no_image_is_named(tmp_path, content, says, name):
    (tmp_path / name).write_bytes(content)
    for read in (read_frame, read_header, check_frame):
        with pytest.raises(FrameReadError, match=says) as refused:
            read(tmp_path / name)
        assert name in str(refused.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(FrameReadError, match="no such file"):
        read_frame(tmp_path / "none.exr")
    with pytest.raises(FrameReadError, match="a folder"):
        read_frame(tmp_path)


@pytest.mark.parametrize("suffix", [".exr", ".png", ".jpg", ".tif", ".dpx"])
def test_a_file_that_may_not_be_read_is_named_with_the_reason(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    write_frame(path, np.zeros((4, 6, 3), np.uint8))

    def denied(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reading, "open", denied, raising=False)
    for look in (read_frame, read_header):
        with pytest.raises(FrameReadError, match=rf"cannot read .*a\{suffix}: permission denied"):
            look(path)


def test_a_header_that_claims_an_absurd_size_is_refused_before_memory_is_taken(tmp_path):
    window = {"full_width": 60_000, "full_height": 60_000}
    path = write_with_oiio(tmp_path / "a.exr", np.zeros((2, 2, 1), np.float16), ("A",), **window)
    with pytest.raises(FrameReadError, match="size limit"):
        read_frame(path)


def test_a_one_pixel_frame_is_a_frame(tmp_path):
    for name in ("a.exr", "a.png", "a.tif", "a.jpg"):
        write_frame(tmp_path / name, np.full((1, 1, 3), 0.25, np.float32))
        assert read_frame(tmp_path / name).pixels.shape == (1, 1, 3)


def test_this_openimageio_still_behaves_as_the_module_assumes(tmp_path):
    """Fails when an upgrade changes R1, R3 or the harmless message after a TIFF."""
    pixels = np.full((2, 2, 4), (200, 100, 50, 128), np.uint8)
    write_frame(tmp_path / "a.png", pixels)
    source = oiio.ImageInput.open(str(tmp_path / "a.png"))
    assert source.read_image(0, 0, 0, -1, "uint8").shape[2] == 1
    source = oiio.ImageInput.open(str(tmp_path / "a.png"))
    assert source.read_image(0, 0, 0, 4, "uint8")[0, 0].tolist() == [100, 50, 25, 128]
    target = oiio.ImageOutput.create("tiff")
    assert target.open(str(tmp_path / "a.tif"), oiio.ImageSpec(2, 2, 4, "uint8"))
    assert target.write_image(pixels)
    assert target.close()
    assert target.geterror() in ("", "failed TIFFWriteCustomDirectory() of the Exif data")


@pytest.mark.parametrize("suffix", [".exr", ".png", ".jpg", ".tif"])
def test_how_a_picture_was_made_is_written_into_every_type_that_can_hold_it(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    texts = {"mattebridge:model": "difference", "mattebridge:settings": '{"gain": "\u00e9"}'}
    write_frame(path, picture(channels=3), Encoding(metadata={**texts, "FramesPerSecond": (24, 1)}))
    told = read_header(path).metadata
    if suffix in (".exr", ".png"):
        assert told["mattebridge:model"] == "difference"
    else:
        # OpenImageIO takes what stands before the colon of a JPEG's comment for a name.
        said = told["mattebridge" if suffix == ".jpg" else "ImageDescription"]
        assert '"model": "difference"' in said
    assert "gain" in str(told)
    read_frame(path)
    check_frame(path, size_bytes=path.stat().st_size, size_px=(37, 24))


@pytest.mark.parametrize("suffix", [".exr", ".png", ".tif"])
def test_the_pixel_aspect_is_kept_by_every_type_that_can_hold_it(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_frame(path, picture(channels=3), Encoding(pixel_aspect=2.0))
    assert read_header(path).pixel_aspect == pytest.approx(2.0)


def test_a_cmyk_jpeg_is_a_colour_picture(tmp_path):
    """R9, as for palettes."""
    ink = pytest.importorskip("PIL.Image").new("CMYK", (8, 6), (0, 255, 255, 0))
    ink.save(tmp_path / "a.jpg", quality=95)
    frame = read_frame(tmp_path / "a.jpg")
    assert frame.pixels.shape == (6, 8, 3)
    assert np.abs(frame.pixels.astype(int) - [255, 0, 0]).max() <= 2


def test_a_palette_png_is_a_colour_picture(tmp_path):
    """R9: both libraries turn it into RGB; a palette may carry alpha."""
    palette, indices = bytes((255, 0, 0, 0, 128, 64)), bytes((0, 0, 1, 0, 1, 0))

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 3, 0, 0, 0))
    end = chunk(b"IDAT", zlib.compress(indices)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(start + chunk(b"PLTE", palette) + end)
    frame = read_frame(tmp_path / "a.png")
    assert frame.pixels.tolist() == [
        [[255, 0, 0], [0, 128, 64]],
        [[0, 128, 64], [255, 0, 0]],
    ]
    (tmp_path / "b.png").write_bytes(
        start + chunk(b"PLTE", palette) + chunk(b"tRNS", bytes((255, 7))) + end
    )
    frame = read_frame(tmp_path / "b.png")
    assert frame.pixels[0].tolist() == [[255, 0, 0, 255], [0, 128, 64, 7]]
    assert frame.alpha == "straight"


def test_a_png_with_zeroed_bytes_is_refused(tmp_path):
    path = tmp_path / "a.png"
    write_frame(path, picture(200, 200, 3))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 200] = bytes(200)
    path.write_bytes(raw)
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        read_frame(path)


@pytest.mark.parametrize("rate", [(24, 1), (24000, 1001), (30000, 1001), (60, 1)])
def test_timecode_and_rate_of_a_dpx_are_carried(tmp_path, rate):
    told = {"smpte:TimeCode": (0x01000012, 0), "FramesPerSecond": rate}
    write_frame(tmp_path / "a.dpx", picture(channels=3), Encoding(metadata=told, pixel_aspect=2.0))
    header = read_header(tmp_path / "a.dpx")
    assert header.metadata["smpte:TimeCode"] == (0x01000012, 0)
    assert header.metadata["FramesPerSecond"] == rate
    assert header.pixel_aspect == 2.0
