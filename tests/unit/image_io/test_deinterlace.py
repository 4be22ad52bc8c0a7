"""Interlaced video made whole: what moves, what stands still, in which order it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fakes.interlaced import write_interlaced
from mattebridge.errors import FrameReadError
from mattebridge.image_io.video_read import VideoReader

av = pytest.importorskip("av")

HEIGHT, WIDTH, MOMENTS = 64, 96, 12


def moment(number: int) -> np.ndarray:
    """A bright disc that moves by three pixels a field."""
    pixels = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    pixels[(rows - 30) ** 2 + (columns - 20 - 3 * number) ** 2 < 15**2] = 200
    return pixels


def pictures(path: Path, *, deinterlace: bool = True) -> list[np.ndarray]:
    reader = VideoReader(path, deinterlace=deinterlace)
    made = [reader.frame(index).pixels for index in range(reader.info.frames)]
    reader.close()
    return made


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_a_picture_becomes_that_of_its_first_field(tmp_path, order):
    moments = [moment(number) for number in range(MOMENTS)]
    path = write_interlaced(tmp_path / "a.mkv", moments, order=order)
    first_lines = slice(0 if order == "tff" else 1, None, 2)
    woven, whole = pictures(path, deinterlace=False), pictures(path)
    for at, (before, after) in enumerate(zip(woven, whole)):
        assert np.array_equal(after[first_lines], before[first_lines])
        true = moments[2 * at] * 257.0
        errors = [np.abs(each - true).mean() for each in (before, after)]
        # Integer arithmetic: the same everywhere. Measured: 0.36 to 0.53 of the woven picture's.
        assert errors[1] < 0.6 * errors[0]


def test_what_stands_still_stays_bit_for_bit(tmp_path):
    texture = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    path = write_interlaced(tmp_path / "a.mkv", [texture] * 6)
    woven, whole = pictures(path, deinterlace=False), pictures(path)
    assert np.array_equal(woven[1], whole[1])


def test_a_picture_is_the_same_in_whatever_order_it_is_read(tmp_path):
    path = write_interlaced(tmp_path / "a.mkv", [moment(number) for number in range(MOMENTS)])
    in_order = pictures(path)
    for index in (5, 0, 3, 1, 4, 2):
        assert np.array_equal(
            VideoReader(path, deinterlace=True).frame(index).pixels, in_order[index]
        )
    reader = VideoReader(path, deinterlace=True)
    for index in (5, 0, 3, 1, 4, 2):
        assert np.array_equal(reader.frame(index).pixels, in_order[index])


def test_a_single_picture_stays_as_it_is_since_nothing_tells_what_moves(tmp_path):
    path = write_interlaced(tmp_path / "a.mkv", [moment(0), moment(1)])
    (woven,), (whole,) = pictures(path, deinterlace=False), pictures(path)
    assert np.array_equal(woven, whole)


def test_pictures_that_are_not_marked_are_not_changed(tmp_path):
    # libx264 is not told, so it writes no mark.
    moments = [moment(number) for number in range(6)]
    path = write_interlaced(tmp_path / "a.mp4", moments, codec="libx264", pixel_format="yuv420p")
    for before, after in zip(pictures(path, deinterlace=False), pictures(path)):
        assert np.array_equal(before, after)


def test_a_picture_that_is_not_marked_does_not_need_those_around_it(tmp_path, monkeypatch):
    """So a damaged picture does not take them with it."""
    moments = [moment(number) for number in range(6)]
    path = write_interlaced(tmp_path / "a.mp4", moments, codec="libx264", pixel_format="yuv420p")
    reader = VideoReader(path, deinterlace=True)
    asked, find = [], reader._find
    monkeypatch.setattr(reader, "_find", lambda index: asked.append(index) or find(index))
    reader.frame(1)
    assert asked == [1]


def test_a_format_that_would_be_converted_first_is_refused_in_one_sentence(tmp_path):
    moments = [moment(number) for number in range(4)]
    path = write_interlaced(tmp_path / "a.mkv", moments, pixel_format="gray10le")
    with pytest.raises(FrameReadError, match="format gray10le cannot be deinterlaced here"):
        VideoReader(path, deinterlace=True).frame(1)
