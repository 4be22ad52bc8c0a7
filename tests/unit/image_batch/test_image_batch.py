"""Batches of pictures in one buffer: every row is the right picture, or an error says which is not.

Letters B1 ... B17 are those of the batch loader's required behaviour, a test or more for each.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import shutil
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import OpenImageIO as oiio  # noqa: N813 - the name its own documentation uses
import pytest

from mattebridge.errors import ArgumentError, FrameReadError, InputsError
from mattebridge.image_batch import DeviceConfig, async_load_image_batch, load, load_image_batch
from mattebridge.image_batch.pixel_formats import FORMATS
from mattebridge.image_io import Encoding, read_frame, write_frame

WIDTH, HEIGHT = 40, 24
LIMIT_S = 60


def codes(seed: int = 0, channels: int = 3, dtype: str = "uint8", size=(HEIGHT, WIDTH)):
    """Smooth code values, so that JPEG and scaling do not matter much."""
    rng = np.random.default_rng(seed)
    small = rng.random((4, 6, channels), dtype=np.float32)
    smooth = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    scaled = smooth.reshape(*size, channels) * np.iinfo(dtype).max
    return scaled.astype(dtype)


@pytest.fixture
def stills(tmp_path):
    """Five 8-bit PNGs of one size."""
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        write_frame(path, codes(number), Encoding(colorspace="srgb", alpha="opaque"))
    return paths


def cut(path: Path, share: float = 0.6) -> Path:
    """A damaged copy: its beginning only."""
    damaged = path.with_name(f"cut{path.name}")
    data = path.read_bytes()
    damaged.write_bytes(data[: int(len(data) * share)])
    return damaged


# ---------------------------------------------------------------------------------------------- B1


def test_sources_are_paths_text_and_bytes_in_any_mixture(stills):
    sources = [str(stills[0]), stills[1], stills[2].read_bytes()]
    batch = load_image_batch(sources)
    assert (batch.array.shape, batch.pix_fmt, len(batch)) == ((3, HEIGHT, WIDTH, 3), "rgb24", 3)
    for row, number in enumerate(range(3)):
        np.testing.assert_array_equal(batch.array[row], codes(number))


@pytest.mark.parametrize("suffix", [".exr", ".png", ".jpg", ".tif", ".dpx"])
def test_the_type_is_told_by_content_whatever_the_name(tmp_path, suffix):
    right = tmp_path / f"right{suffix}"
    write_frame(right, codes() / np.float32(255), Encoding(colorspace="srgb", alpha="opaque"))
    wrong = tmp_path / ("wrong.tif" if suffix != ".tif" else "wrong.png")
    bare = tmp_path / "bare"
    for path in (wrong, bare):
        shutil.copyfile(right, path)
    batch = load_image_batch([right, wrong, bare, right.read_bytes()], pix_fmt=None)
    for row in range(1, 4):
        np.testing.assert_array_equal(batch.array[row], batch.array[0])


def test_an_empty_list_is_a_value_error():
    with pytest.raises(ValueError, match="no sources"):
        load_image_batch([])
    with pytest.raises(ArgumentError, match="source 1 is a int"):
        load_image_batch([b"x", 3])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"pix_fmt": "yuv420p"}, "pix_fmt 'yuv420p' is unknown; it is one of gray, rgb24"),
        ({"filter": "box"}, "filter 'box' is unknown; it is one of nearest"),
        ({"fit": "fill"}, "fit 'fill' is unknown; it is one of stretch, pad, crop"),
        ({"width": 0}, "width must be from 1 to 65536 pixels; got 0"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused_with_what_there_is(stills, wrong, said):
    with pytest.raises(ArgumentError, match=said):
        load_image_batch(stills, **wrong)


def test_an_unknown_keyword_is_an_error(stills):
    with pytest.raises(TypeError, match="filter_desc"):
        load_image_batch(stills, filter_desc="scale=2:2")


# ---------------------------------------------------------------------------------------------- B2


class Counting(concurrent.futures.ThreadPoolExecutor):
    """Real threads that count what they are given."""

    def __init__(self, threads: int = 4) -> None:
        super().__init__(threads)
        self.calls = 0

    def submit(self, *given, **options):
        self.calls += 1
        return super().submit(*given, **options)


def test_all_pictures_of_a_batch_are_read_at_once(stills, monkeypatch):
    together = threading.Barrier(len(stills), timeout=LIMIT_S)
    read = load.read_frame

    def wait_for_the_others(path, **options):
        together.wait()
        return read(path, **options)

    monkeypatch.setattr(load, "read_frame", wait_for_the_others)
    with Counting(len(stills)) as threads:
        batch = load_image_batch(stills, executor=threads)
    assert threads.calls >= 2 * len(stills)
    for row in range(len(stills)):
        np.testing.assert_array_equal(batch.array[row], codes(row))


def test_rows_stand_in_the_order_of_the_sources_whichever_is_ready_first(stills, monkeypatch):
    done = {path.name: threading.Event() for path in stills}
    read = load.read_frame

    def last_first(path, **options):
        number = int(path.stem)
        if number + 1 < len(stills):
            assert done[f"{number + 1}.png"].wait(LIMIT_S)
        try:
            return read(path, **options)
        finally:
            done[path.name].set()

    monkeypatch.setattr(load, "read_frame", last_first)
    with Counting(len(stills)) as threads:
        batch = load_image_batch(stills, executor=threads)
    for row in range(len(stills)):
        np.testing.assert_array_equal(batch.array[row], codes(row))


def test_the_event_loop_runs_on_while_its_executor_reads(stills, monkeypatch):
    let_go = threading.Event()
    read = load.read_frame

    def held(path, **options):
        assert let_go.wait(LIMIT_S)
        return read(path, **options)

    monkeypatch.setattr(load, "read_frame", held)

    async def scene():
        own = Counting()
        asyncio.get_running_loop().set_default_executor(own)
        loading = asyncio.create_task(async_load_image_batch(stills))
        turns = 0
        while own.calls < 2 * len(stills) + 1:  # headers, the buffer, pictures
            await asyncio.sleep(0)
            turns += 1
        assert not loading.done()
        let_go.set()
        return await loading, turns

    batch, turns = asyncio.run(scene())
    assert turns > 1
    np.testing.assert_array_equal(batch.array[4], codes(4))


def test_an_executor_of_the_caller_is_used_in_place_of_the_loops(stills):
    async def scene(threads):
        return await async_load_image_batch(stills, executor=threads)

    with Counting() as threads:
        batch = asyncio.run(scene(threads))
        assert threads.calls >= 2 * len(stills)
        assert threads.submit(lambda: "still open").result() == "still open"
    assert len(batch) == 5


def test_an_executor_that_was_shut_down_is_an_error_and_no_hang(stills):
    threads = Counting()
    threads.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        load_image_batch(stills, executor=threads)


# ---------------------------------------------------------------------------------------------- B3


def test_sizes_are_compared_before_anything_is_decoded(stills, tmp_path, monkeypatch):
    write_frame(
        tmp_path / "other.png", codes(size=(10, 12)), Encoding(colorspace="srgb", alpha="opaque")
    )
    monkeypatch.setattr(load, "read_frame", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(InputsError) as refused:
        load_image_batch([*stills, tmp_path / "other.png"])
    said = refused.value.message
    assert f"0 ({stills[0]}) 40x24" in said
    assert f"5 ({tmp_path / 'other.png'}) 12x10" in said
    assert "give width and height" in said


def test_types_must_agree_when_no_format_is_named(tmp_path):
    write_frame(tmp_path / "a.png", codes(), Encoding(colorspace="srgb", alpha="opaque"))
    write_frame(
        tmp_path / "b.png", codes(dtype="uint16"), Encoding(colorspace="srgb", alpha="opaque")
    )
    with pytest.raises(InputsError, match=r"different types: 0 .*rgb24, but 1 .*rgb48"):
        load_image_batch([tmp_path / "a.png", tmp_path / "b.png"], pix_fmt=None)


# ---------------------------------------------------------------------------------------------- B4


def test_the_batch_is_one_contiguous_array_shared_with_torch(stills):
    torch = pytest.importorskip("torch")
    batch = load_image_batch(stills)
    assert batch.array.flags.c_contiguous
    tensor = batch.to_torch()
    assert tensor.dtype == torch.uint8
    assert tensor.data_ptr() == batch.array.ctypes.data
    tensor[2, 0, 0, 0] = 77
    assert batch.array[2, 0, 0, 0] == 77


@pytest.mark.parametrize("form", ["gray16", "rgbf16", "rgbaf32", "rgba"])
def test_every_sample_type_goes_to_torch_without_a_copy(stills, form):
    pytest.importorskip("torch")
    batch = load_image_batch(stills, pix_fmt=form)
    assert batch.to_torch().data_ptr() == batch.array.ctypes.data


def test_a_batch_over_the_bound_is_refused_before_it_is_made(stills, monkeypatch):
    monkeypatch.setattr(load, "read_frame", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(ArgumentError, match="5 images of 40x24 in rgb24 are 14400 bytes, over"):
        load_image_batch(stills, max_bytes=14399)


# ---------------------------------------------------------------------------------------------- B5


def test_one_side_keeps_the_aspect_and_the_results_must_agree(stills, tmp_path):
    assert load_image_batch(stills, width=20).array.shape == (5, 12, 20, 3)
    assert load_image_batch(stills, height=48).array.shape == (5, 48, 80, 3)
    write_frame(
        tmp_path / "tall.png", codes(size=(40, 24)), Encoding(colorspace="srgb", alpha="opaque")
    )
    with pytest.raises(InputsError, match=r"0 .*20x12, but 5 .*20x33"):
        load_image_batch([*stills, tmp_path / "tall.png"], width=20)
    both = load_image_batch([*stills, tmp_path / "tall.png"], width=20, height=20)
    assert both.array.shape == (6, 20, 20, 3)


def bars(tmp_path: Path) -> Path:
    """Red, green and blue side by side, 60x20."""
    pixels = np.zeros((20, 60, 3), np.uint8)
    for bar in range(3):
        pixels[:, 20 * bar : 20 * (bar + 1), bar] = 255
    write_frame(tmp_path / "bars.png", pixels, Encoding(colorspace="srgb", alpha="opaque"))
    return tmp_path / "bars.png"


def test_pad_shows_all_of_a_picture_between_black_borders(tmp_path):
    row = load_image_batch([bars(tmp_path)], width=30, height=30, fit="pad").array[0]
    assert not row[:10].any()
    assert not row[20:].any()
    assert row[15, 5].tolist() == [255, 0, 0]
    assert row[15, 25].tolist() == [0, 0, 255]
    alpha = load_image_batch(
        [bars(tmp_path)], width=30, height=30, fit="pad", pix_fmt="rgba"
    ).array[0, ..., 3]
    assert (alpha[:10].max(), alpha[10:20].min(), alpha[20:].max()) == (0, 255, 0)


def test_crop_fills_the_frame_from_the_middle_of_a_picture(tmp_path):
    row = load_image_batch([bars(tmp_path)], width=10, height=10, fit="crop").array[0]
    assert (row == [0, 255, 0]).all()


def test_stretch_shows_all_of_it_in_another_shape(tmp_path):
    row = load_image_batch([bars(tmp_path)], width=30, height=30).array[0]
    assert row[0, 0].tolist() == [255, 0, 0]
    assert row[29, 29].tolist() == [0, 0, 255]


@pytest.mark.parametrize("name", ["nearest", "bilinear", "area", "draft", "cubic", "lanczos"])
def test_every_filter_keeps_a_flat_picture_flat_in_every_type(tmp_path, name):
    write_frame(tmp_path / "f.exr", np.full((20, 30, 4), 0.5, np.float32))
    for form in ("rgb24", "rgb48", "rgbaf16", "grayf32"):
        for width, height in ((7, 5), (90, 61)):
            batch = load_image_batch(
                [tmp_path / "f.exr"], width=width, height=height, filter=name, pix_fmt=form
            )
            assert np.ptp(batch.array[..., 0].astype(np.float64)) < 1e-6


def test_area_is_the_average_of_what_a_pixel_covers(tmp_path):
    pixels = codes(size=(24, 40), dtype="uint16")
    write_frame(tmp_path / "a.png", pixels, Encoding(colorspace="srgb", alpha="opaque"))
    batch = load_image_batch([tmp_path / "a.png"], width=10, height=6, pix_fmt="rgbf32")
    expected = pixels.reshape(6, 4, 10, 4, 3).mean(axis=(1, 3)) / 65535
    np.testing.assert_allclose(batch.array[0], expected, atol=1e-5)


def test_colour_under_transparency_does_not_leak_when_straight_rgba_is_scaled(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[...] = (0, 255, 0, 0)  # green that nobody may see
    pixels[:, :4] = (200, 10, 10, 255)
    write_frame(tmp_path / "a.png", pixels, Encoding(colorspace="srgb", alpha="straight"))
    row = load_image_batch([tmp_path / "a.png"], width=2, height=2, pix_fmt="rgba").array[0]
    row3 = load_image_batch([tmp_path / "a.png"], width=3, height=3, pix_fmt="rgba").array[0]
    assert row[0, 0].tolist() == [200, 10, 10, 255]
    assert row3[1, 1].tolist() == [200, 10, 10, 128]
    assert row3[1, 2, 3] == 0


def test_premultiplied_rgba_is_averaged_as_it_is(tmp_path):
    pixels = np.zeros((8, 8, 4), np.float32)
    pixels[:, :4] = (2.0, 0.5, 0.25, 1.0)
    write_frame(tmp_path / "a.exr", pixels)
    batch = load_image_batch([tmp_path / "a.exr"], width=1, height=1, pix_fmt="rgbaf32")
    assert batch.array[0, 0, 0].tolist() == [1.0, 0.25, 0.125, 0.5]
    assert batch.images[0].alpha == "premultiplied"


def test_cubic_never_gives_coverage_outside_0_to_1(tmp_path):
    pixels = np.zeros((16, 16, 4), np.float32)
    pixels[:, 8:] = 1.0
    write_frame(tmp_path / "a.exr", pixels, Encoding(dtype="float"))
    batch = load_image_batch([tmp_path / "a.exr"], width=50, filter="cubic", pix_fmt="rgbaf32")
    assert (batch.array[..., 3].min(), batch.array[..., 3].max()) == (0.0, 1.0)


def test_a_draft_of_a_jpeg_is_a_quick_look_at_its_average(tmp_path):
    pixels = cv2.GaussianBlur(codes(3, size=(256, 320)), (31, 31), 0)
    write_frame(tmp_path / "a.jpg", pixels, Encoding(colorspace="srgb", alpha="opaque"))
    full = load_image_batch([tmp_path / "a.jpg"]).array[0]
    for width, height in ((160, 128), (80, 64), (20, 17)):
        size = {"width": width, "height": height}
        draft = load_image_batch([tmp_path / "a.jpg"], **size, filter="draft").array[0]
        average = cv2.resize(full, (width, height), interpolation=cv2.INTER_AREA)
        assert np.abs(draft.astype(int) - average).max() <= 4
        exact = load_image_batch([tmp_path / "a.jpg"], **size).array[0]
        np.testing.assert_array_equal(exact, average)
    grey = {"width": 20, "height": 17, "fit": "crop", "filter": "draft", "pix_fmt": "gray"}
    assert load_image_batch([tmp_path / "a.jpg"], **grey).array.shape == (1, 17, 20, 1)


# ---------------------------------------------------------------------------------------------- B6

HOLDS = {"Y": [0], "RGB": [0, 1, 2], "RGBA": [0, 1, 2], "BGR": [2, 1, 0], "BGRA": [2, 1, 0]}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_pixel_format_holds_the_picture(tmp_path, name):
    form = FORMATS[name]
    grey = form.channels == "Y"
    pixels = codes(channels=1 if grey else 4, dtype="uint16")
    write_frame(tmp_path / "a.png", pixels, Encoding(colorspace="srgb", alpha="straight"))
    array = load_image_batch([tmp_path / "a.png"], pix_fmt=name).array
    assert array.shape == (1, HEIGHT, WIDTH, form.count)
    assert array.dtype == form.dtype
    assert array.dtype.isnative
    top = np.iinfo(form.dtype).max if array.dtype.kind == "u" else 1.0
    step = {"uint8": 0.5 / 255, "float16": 2**-11}.get(form.dtype, 1e-7)
    expected = pixels / 65535.0
    for channel, stored in enumerate([*HOLDS[form.channels], 3][: form.count]):
        np.testing.assert_allclose(array[0, ..., channel] / top, expected[..., stored], atol=step)


def test_depth_goes_up_by_scaling_so_that_white_stays_white(tmp_path):
    write_frame(tmp_path / "a.png", np.full((2, 2, 3), 255, np.uint8), Encoding(colorspace="srgb"))
    for form, white in (("rgb48", 65535), ("rgbf16", 1.0), ("rgbaf32", 1.0), ("gray16", 65535)):
        assert (load_image_batch([tmp_path / "a.png"], pix_fmt=form).array == white).all()


@pytest.mark.parametrize("suffix", [".exr", ".png", ".tif", ".dpx"])
def test_finer_samples_come_down_to_eight_bits_only_when_that_is_said(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    dtype = None if suffix == ".exr" else "uint16"
    picture = codes(dtype="uint16") / np.float32(65535)
    write_frame(path, picture, Encoding(colorspace="srgb", alpha="opaque", dtype=dtype))
    with pytest.raises(InputsError, match=r"0 .*finer than rgb24: give pix_fmt='rgb\w+' to keep"):
        load_image_batch([path])
    asked = load_image_batch([path], pix_fmt="rgb24").array
    assert asked.dtype == np.uint8


def test_nan_becomes_no_code_value(tmp_path):
    pixels = np.zeros((4, 4, 3), np.float32)
    pixels[1, 2] = np.nan
    spec = oiio.ImageSpec(4, 4, 3, "half")
    target = oiio.ImageOutput.create(str(tmp_path / "n.exr"))
    assert target.open(str(tmp_path / "n.exr"), spec)
    assert target.write_image(pixels)
    target.close()
    with pytest.raises(FrameReadError, match=r"holds NaN \(3 values\), which uint8 cannot"):
        load_image_batch([tmp_path / "n.exr"], pix_fmt="rgb24")
    assert np.isnan(load_image_batch([tmp_path / "n.exr"], pix_fmt=None).array).sum() == 3


def test_light_above_white_is_kept_in_floats_and_clipped_in_codes(tmp_path):
    write_frame(tmp_path / "a.exr", np.full((2, 2, 3), 8.0, np.float32))
    assert (load_image_batch([tmp_path / "a.exr"], pix_fmt="rgbf16").array == 8.0).all()
    assert (load_image_batch([tmp_path / "a.exr"], pix_fmt="rgb48").array == 65535).all()


# ---------------------------------------------------------------------------------------------- B7


@pytest.mark.parametrize(
    ("name", "dtype", "form", "colorspace"),
    [
        ("a.exr", "half", "rgbaf16", "linear"),
        ("a.exr", "float", "rgbaf32", "linear"),
        ("a.png", "uint16", "rgba64", "srgb"),
        ("a.tif", "uint16", "rgba64", "srgb"),
        ("a.dpx", "uint16", "rgb48", "unknown"),
    ],
)
def test_deep_files_come_in_their_own_type_with_colour_space_and_alpha(
    tmp_path, name, dtype, form, colorspace
):
    channels = 3 if name == "a.dpx" else 4
    picture = codes(channels=channels, dtype="uint16") / np.float32(65535)
    alpha = "straight" if channels == 4 else "opaque"
    write_frame(tmp_path / name, picture, Encoding(colorspace="linear", alpha=alpha, dtype=dtype))
    batch = load_image_batch([tmp_path / name], pix_fmt=None)
    frame = read_frame(tmp_path / name)
    np.testing.assert_array_equal(batch.array[0], frame.pixels)
    assert (batch.pix_fmt, batch.images[0].colorspace) == (form, colorspace)
    assert batch.images[0].alpha == frame.alpha
    assert batch.images[0].channels == tuple("RGBA")[:channels]


def test_channels_are_found_by_name(tmp_path):
    pixels = np.zeros((4, 4, 4), np.float32)
    pixels[...] = (0.75, 0.5, 0.25, 1.0)
    spec = oiio.ImageSpec(4, 4, 4, "half")
    spec.channelnames = ("A", "B", "G", "R")
    target = oiio.ImageOutput.create(str(tmp_path / "n.exr"))
    assert target.open(str(tmp_path / "n.exr"), spec)
    assert target.write_image(pixels)
    target.close()
    array = load_image_batch([tmp_path / "n.exr"], pix_fmt="rgbaf32").array
    assert array[0, 0, 0].tolist() == [1.0, 0.25, 0.5, 0.75]


# ----------------------------------------------------------------------------------- B8, B9 and B10


def test_strict_names_every_source_that_cannot_be_opened(stills, tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    sources = [stills[0], tmp_path / "none.png", stills[1], tmp_path / "empty.png", b"no picture"]
    with pytest.raises(FrameReadError) as refused:
        load_image_batch(sources)
    failures = refused.value.details["failures"]
    assert [failure.index for failure in failures] == [1, 3, 4]
    assert failures[0].source == str(tmp_path / "none.png")
    assert "no such file" in failures[0].cause
    for part in ("3 images of 5", "1 (", "none.png", "is empty", "4 (10 bytes)"):
        assert part in refused.value.message
    assert "/proc/" not in refused.value.message


def test_strict_stops_reading_at_the_first_damage_and_says_where(stills, monkeypatch):
    read, seen = load.read_frame, []

    def noted(path, **options):
        seen.append(path.name)
        return read(path, **options)

    monkeypatch.setattr(load, "read_frame", noted)
    damaged = cut(stills[1])
    with Counting(1) as threads, pytest.raises(FrameReadError, match=r"1 \(.*cut1.png\)") as error:
        load_image_batch([stills[0], damaged, *stills[2:]], executor=threads)
    assert seen == ["0.png", "cut1.png"]
    assert [failure.index for failure in error.value.details["failures"]] == [1]


def test_not_strict_keeps_what_is_good_in_order_and_says_which_source_each_row_is(stills, tmp_path):
    damaged = cut(stills[3])
    sources = [tmp_path / "none.png", stills[1], damaged, stills[2], stills[2], stills[0]]
    batch = load_image_batch(sources, strict=False)
    assert batch.indices == (1, 3, 4, 5)
    assert [failure.index for failure in batch.failures] == [0, 2]
    assert batch.failures[1].source == str(damaged)
    assert "damaged or cut short" in batch.failures[1].cause
    assert batch.array.shape[0] == len(batch.images) == 4
    for row, number in enumerate((1, 2, 2, 0)):
        np.testing.assert_array_equal(batch.array[row], codes(number))


@pytest.mark.parametrize("strict", [True, False])
def test_it_is_an_error_when_nothing_could_be_read(stills, tmp_path, strict):
    for sources in ([tmp_path / "none.png"], [cut(stills[0])]):
        with pytest.raises(FrameReadError, match="1 image of 1"):
            load_image_batch(sources, strict=strict)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".exr", ".tif", ".dpx"])
def test_a_truncated_file_is_a_failure_in_both_modes(tmp_path, suffix, strict):
    noise = np.random.default_rng(1).random((64, 64, 3), dtype=np.float32)
    for name in ("good", "bad"):
        write_frame(
            tmp_path / f"{name}{suffix}", noise, Encoding(colorspace="srgb", alpha="opaque")
        )
    sources = [tmp_path / f"good{suffix}", cut(tmp_path / f"bad{suffix}", 0.9)]
    if strict:
        with pytest.raises(FrameReadError, match="1 image of 2 could not be read: 1"):
            load_image_batch(sources, pix_fmt=None)
        return
    batch = load_image_batch(sources, pix_fmt=None, strict=False)
    assert (batch.indices, batch.failures[0].index) == ((0,), 1)


def test_a_truncated_jpeg_is_a_failure_also_when_it_is_made_small(tmp_path):
    write_frame(
        tmp_path / "a.jpg", codes(size=(200, 300)), Encoding(colorspace="srgb", alpha="opaque")
    )
    with pytest.raises(FrameReadError, match="damaged or cut short"):
        load_image_batch([cut(tmp_path / "a.jpg", 0.95)], width=30, filter="draft")


def test_a_file_that_changes_between_header_and_pixels_is_a_failure(stills, monkeypatch):
    read = load.read_frame

    def written_anew(path, **options):
        if path == stills[2]:
            write_frame(path, codes(size=(30, 30)), Encoding(colorspace="srgb", alpha="opaque"))
        return read(path, **options)

    monkeypatch.setattr(load, "read_frame", written_anew)
    with pytest.raises(FrameReadError, match=r"2 .*do not match the header"):
        load_image_batch(stills)


# --------------------------------------------------------------------------------------------- B11


def test_a_cancelled_load_leaves_the_buffer_alone_before_it_comes_back(stills, monkeypatch):
    inside, let_go, ended = threading.Event(), threading.Event(), []
    read = load.read_frame

    def held(path, **options):
        inside.set()
        assert let_go.wait(LIMIT_S)
        ended.append(path)
        return read(path, **options)

    monkeypatch.setattr(load, "read_frame", held)
    out = np.zeros((5, HEIGHT, WIDTH, 3), np.uint8)

    async def scene(threads):
        loading = asyncio.create_task(async_load_image_batch(stills, out=out, executor=threads))
        while not inside.is_set():
            await asyncio.sleep(0.001)
        loading.cancel()
        for _ in range(20):  # a second and a third cancel change nothing
            await asyncio.sleep(0.001)
            loading.cancel()
        assert not loading.done()
        let_go.set()
        with pytest.raises(asyncio.CancelledError):
            await loading
        return len(ended), out.copy()

    with Counting(1) as threads:
        finished, then = asyncio.run(scene(threads))
    assert finished == 1  # the one that ran; those that were queued never began
    np.testing.assert_array_equal(then, out)
    np.testing.assert_array_equal(out[0], codes(0))
    assert not out[1:].any()


def test_cancelling_while_all_is_queued_behind_other_work_comes_back_at_once(stills):
    let_go = threading.Event()

    async def scene(threads):
        threads.submit(let_go.wait, LIMIT_S)
        loading = asyncio.create_task(async_load_image_batch(stills, executor=threads))
        await asyncio.sleep(0.01)
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(loading, LIMIT_S / 2)
        assert not let_go.is_set()
        let_go.set()

    with Counting(1) as threads:
        asyncio.run(scene(threads))


# --------------------------------------------------------------------------------------------- B12


def test_memory_is_the_buffer_and_one_picture_for_each_thread(tmp_path):
    side, count = 512, 24
    path = tmp_path / "a.png"
    write_frame(path, codes(size=(side, side)), Encoding(colorspace="srgb", alpha="opaque"))
    sources = [path.read_bytes() + bytes(number) for number in range(count)]  # all distinct
    picture = side * side * 3
    tracemalloc.start()
    try:
        with Counting(2) as threads:
            batch = load_image_batch(sources, executor=threads)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batch.array.nbytes == count * picture
    # A picture on its way is there as decoded and once more in the other channel order.
    assert peak < batch.array.nbytes + 2 * 3 * picture + (1 << 20)


def test_pictures_wait_while_others_take_all_the_memory_there_is(stills, monkeypatch):
    picture = HEIGHT * WIDTH * 3
    lock, now, most = threading.Lock(), [0], [0]
    read = load.read_frame

    def counted(path, **options):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        frame = read(path, **options)
        threading.Event().wait(0.01)
        with lock:
            now[0] -= 1
        return frame

    monkeypatch.setattr(load, "read_frame", counted)
    with Counting(5) as threads:
        batch = load_image_batch(stills, executor=threads, max_bytes=7 * picture)
        assert most[0] <= 2
        load_image_batch(stills, executor=threads, max_bytes=5 * picture)  # one is always let in
    assert len(batch) == 5


# --------------------------------------------------------------------------------------------- B13


def test_a_device_that_is_not_there_is_an_error_before_anything_is_decoded(stills, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(load, "read_frame", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(ArgumentError, match="cuda:1, and torch finds 0 CUDA devices"):
        load_image_batch(stills, device_config=DeviceConfig("cuda:1"))
    with pytest.raises(ArgumentError, match="no device 'gpu'"):
        load_image_batch(stills, device_config=DeviceConfig("gpu"))
    with pytest.raises(ArgumentError, match="asks for cpu"):
        load_image_batch(stills, device_config=DeviceConfig("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("pinned", [True, False])
def test_a_batch_is_copied_to_a_gpu_on_the_stream_that_was_named(stills, pinned):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    stream = torch.cuda.Stream()
    config = DeviceConfig("cuda:0", stream=stream, pinned=pinned)
    for form in ("rgb24", "gray16", "rgbaf16"):
        batch = load_image_batch(stills, pix_fmt=form, device_config=config)
        here = load_image_batch(stills, pix_fmt=form)
        assert batch.tensor.device.type == "cuda"
        np.testing.assert_array_equal(batch.to_torch().cpu().numpy(), here.array)
        if form != "gray16":
            assert torch.from_dlpack(batch).data_ptr() == batch.tensor.data_ptr()


# --------------------------------------------------------------------------------------------- B14


def test_a_buffer_of_the_caller_is_filled_in_place(stills):
    ring = np.zeros((3, 5, HEIGHT, WIDTH, 3), np.uint8)
    batch = load_image_batch(stills, out=ring[1])
    assert np.shares_memory(batch.array, ring)
    np.testing.assert_array_equal(ring[1, 3], codes(3))
    assert not ring[0].any()
    assert not ring[2].any()


def test_what_fails_leaves_no_gap_in_a_buffer_of_the_caller(stills, tmp_path):
    out = np.zeros((3, HEIGHT, WIDTH, 3), np.uint8)
    sources = [tmp_path / "none.png", stills[1], stills[2]]
    batch = load_image_batch(sources, out=out, strict=False)
    assert batch.array.shape[0] == 2
    assert batch.array.ctypes.data == out.ctypes.data
    np.testing.assert_array_equal(out[0], codes(1))


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (np.zeros((4, HEIGHT, WIDTH, 3), np.uint8), "uint8 .*4, 24, 40, 3.*; give a C-contiguous"),
        (np.zeros((5, HEIGHT, WIDTH, 3), np.uint16), "out is uint16"),
        (np.zeros((5, HEIGHT, WIDTH, 6), np.uint8)[..., ::2], "strided or read-only"),
        (np.broadcast_to(np.uint8(0), (5, HEIGHT, WIDTH, 3)), "strided or read-only"),
        ([1, 2], "out is a list"),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused_before_decoding(stills, monkeypatch, out, said):
    monkeypatch.setattr(load, "read_frame", lambda *a, **k: pytest.fail("decoded"))
    with pytest.raises(ArgumentError, match=said):
        load_image_batch(stills, out=out)


# --------------------------------------------------------------------------------------------- B15


def test_loading_changes_nothing_in_the_process_around_it(stills, capfd, caplog):
    oiio_threads = oiio.get_int_attribute("threads")
    before = (cv2.getNumThreads(), [signal.getsignal(n) for n in signal.valid_signals()])
    running = threading.active_count()
    with caplog.at_level(logging.DEBUG):
        load_image_batch(stills, width=10)
        asyncio.run(async_load_image_batch(stills, width=10))
        with pytest.raises(FrameReadError):
            load_image_batch([cut(stills[0])])
    after = (cv2.getNumThreads(), [signal.getsignal(n) for n in signal.valid_signals()])
    assert after == before
    assert oiio.get_int_attribute("threads") == oiio_threads
    assert threading.active_count() == running
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith("mattebridge")] == []


def test_importing_the_loader_loads_no_torch():
    code = "import sys, mattebridge.image_batch; sys.exit('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], timeout=LIMIT_S, check=False).returncode == 0
    )


# --------------------------------------------------------------------------------------------- B16


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".exr", ".tif", ".dpx"])
def test_pixels_are_those_of_the_single_reader_bit_for_bit(tmp_path, suffix):
    paths = []
    for number in range(3):
        noise = np.random.default_rng(number).random((33, 47, 3), dtype=np.float32)
        paths.append(tmp_path / f"{number}{suffix}")
        write_frame(paths[-1], noise, Encoding(colorspace="srgb", alpha="opaque"))
    batch = load_image_batch([*paths, paths[0].read_bytes()], pix_fmt=None)
    for row, path in enumerate([*paths, paths[0]]):
        np.testing.assert_array_equal(batch.array[row], read_frame(path).pixels)


def test_a_picture_on_its_side_is_turned_upright_and_its_size_with_it(tmp_path):
    picture = codes(size=(20, 30))
    done, encoded = cv2.imencode(".jpg", picture[..., ::-1])
    assert done
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    data = bytes(encoded)
    marked = data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]
    (tmp_path / "a.jpg").write_bytes(marked)
    batch = load_image_batch([tmp_path / "a.jpg"])
    assert batch.array.shape == (1, 30, 20, 3)
    np.testing.assert_array_equal(batch.array[0], read_frame(tmp_path / "a.jpg").pixels)
    small = load_image_batch([tmp_path / "a.jpg"], width=10)
    assert small.array.shape == (1, 15, 10, 3)


# --------------------------------------------------------------------------------------------- B17


def test_a_source_that_occurs_again_is_decoded_once(stills, monkeypatch):
    read, seen = load.read_frame, []

    def noted(path, **options):
        seen.append(path)
        return read(path, **options)

    monkeypatch.setattr(load, "read_frame", noted)
    data = stills[1].read_bytes()
    again = stills[0].parent / "." / stills[0].name
    batch = load_image_batch([stills[0], str(again), data, stills[0], bytes(bytearray(data))])
    assert len(seen) == 2
    for row, number in enumerate((0, 0, 1, 0, 1)):
        np.testing.assert_array_equal(batch.array[row], codes(number))
