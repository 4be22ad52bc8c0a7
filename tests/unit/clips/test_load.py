"""From a clip to its manifest: numbers, sizes, hints that come later, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mattebridge.clips import (
    ClipManifest,
    ExtractionError,
    FrameMismatchError,
    load,
    load_video_metadata,
    resolve_alpha,
    scan,
)
from mattebridge.errors import InputsError
from mattebridge.image_io import write_frame
from mattebridge.image_io.video_write import VIDEO_FORMATS, VideoTimes, open_video

GREY = np.full((16, 32, 3), 120, np.uint8)


def pictures(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_frame(folder / name, GREY)


def numbered(*numbers: int) -> list[str]:
    return [f"a.{number:04d}.png" for number in numbers]


def video(path: Path, count: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    form = VIDEO_FORMATS["qtrle"]
    writer = open_video(path, form, width=32, height=16, times=VideoTimes(Fraction(24)))
    for _ in range(count):
        writer.add(GREY)
    writer.close()


def loaded(root: Path) -> ClipManifest:
    (clip,) = scan(root).clips
    return load(clip)


def test_a_manifest_has_the_numbers_and_files_of_the_clip_and_creates_nothing(
    tmp_path: Path,
) -> None:
    pictures(tmp_path / "Input", *numbered(1001, 1002, 1003))
    pictures(tmp_path / "AlphaHint", *numbered(1001, 1002, 1003))
    manifest = loaded(tmp_path)
    assert manifest.clip_name == tmp_path.name
    assert (manifest.frame_count, manifest.frame_range) == (3, (0, 3))
    assert manifest.frame_numbers == (1001, 1002, 1003)
    assert (manifest.width, manifest.height, manifest.dtype) == (32, 16, "uint8")
    assert not manifest.needs_alpha
    assert not manifest.is_linear
    assert manifest.output_dir == tmp_path / "Output"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["AlphaHint", "Input"]
    with pytest.raises(AttributeError):
        manifest.frame_count = 4
    with pytest.raises(TypeError):
        manifest.model_copy(update={"frames_number": 4})


def test_natural_order_counts_and_not_that_of_letters(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", "f_10.png", "f_2.png", "f_9.png", "f_1.png")
    with pytest.raises(FrameMismatchError, match="no frame 3-8"):
        loaded(tmp_path)
    pictures(tmp_path / "Input", *(f"f_{number}.png" for number in range(3, 9)))
    names = [entry.plate.name for entry in loaded(tmp_path).frames]
    assert names == [f"f_{number}.png" for number in range(1, 11)]


def test_a_linear_plate_is_one_by_its_type_or_because_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "Input").mkdir()
    for number in (1, 2):
        write_frame(tmp_path / f"Input/a.{number}.exr", GREY.astype(np.float16))
    assert loaded(tmp_path).is_linear
    (clip,) = scan(tmp_path).clips
    assert not load(clip, input_space="srgb").is_linear


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ((1, 2, 4), "alpha hint has no frame 3"),
        ((1, 2), "alpha hint has no frames 3-4"),
        ((11, 12, 13, 14), "alpha hint has no frames 1-4"),
    ],
)
def test_hints_that_do_not_fit_are_named_and_none_is_shifted_or_cut(
    tmp_path: Path, hints: tuple[int, ...], message: str
) -> None:
    pictures(tmp_path / "Input", *numbered(1, 2, 3, 4))
    pictures(tmp_path / "AlphaHint", *numbered(*hints))
    with pytest.raises(FrameMismatchError, match=message):
        loaded(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("a.0001.png", "a.0001.tif", "a.0002.png"),
        ("a.0001.png", "a.001.png", "a.0002.png"),
        ("a.0001.png", "a.0002.png", "b.0001.png", "b.0002.png"),
    ],
)
def test_two_sequences_in_one_folder_are_never_taken_for_one(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    pictures(tmp_path / "Input", *names)
    with pytest.raises(FrameMismatchError):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("names", "numbers"),
    [
        (("a.9.png", "a.10.png", "a.11.png"), (9, 10, 11)),
        (("a.0998.png", "a.999.png", "a.1000.png"), (998, 999, 1000)),
        (("a.-2.png", "a.-1.png", "a.0.png"), (-2, -1, 0)),
        (("a.-0001.png", "a.0000.png", "a.0001.png"), (-1, 0, 1)),
    ],
)
def test_numbers_count_and_not_how_they_are_written(
    tmp_path: Path, names: tuple[str, ...], numbers: tuple[int, ...]
) -> None:
    """Hints may be padded in another way than the plates are."""
    pictures(tmp_path / "Input", *names)
    pictures(tmp_path / "AlphaHint", *(f"h.{number:06d}.png" for number in numbers))
    manifest = loaded(tmp_path)
    assert manifest.frame_numbers == numbers
    for entry, name in zip(manifest.frames, names):
        assert entry.plate == tmp_path / "Input" / name
        assert entry.files["alpha_hint"].name == f"h.{entry.frame:06d}.png"


@pytest.mark.parametrize(
    "names", [("a.0001.png", "a.0001.exr"), ("a.0001.png", "a.0002.jpg"), ("b.exr", "c.png")]
)
@pytest.mark.parametrize("folder", ["Input", "AlphaHint"])
def test_pictures_of_two_types_are_refused_and_both_named(
    tmp_path: Path, names: tuple[str, ...], folder: str
) -> None:
    pictures(tmp_path / "Input", "a.0001.png", "a.0002.png")
    shutil.rmtree(tmp_path / folder, ignore_errors=True)
    pictures(tmp_path / folder, *names)
    with pytest.raises(FrameMismatchError, match=f"2 types, {' and '.join(sorted(names))}"):
        loaded(tmp_path)


def test_jpg_and_jpeg_are_one_type(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", "b.jpg", "c.jpeg")
    assert loaded(tmp_path).frame_count == 2


def test_a_folder_named_like_a_picture_and_hidden_files_are_no_frames(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", *numbered(1, 2))
    (tmp_path / "Input/a.0003.png").mkdir()
    (tmp_path / "Input/.DS_Store").write_bytes(b"x")
    assert loaded(tmp_path).frame_numbers == (1, 2)


def test_a_plate_of_another_size_is_named(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", *numbered(1, 3))
    write_frame(tmp_path / "Input/a.0002.png", GREY[:8])
    with pytest.raises(InputsError, match="frame 2 is 32x8 and the frames before it 32x16"):
        loaded(tmp_path)


def test_a_hint_that_was_made_meanwhile_is_a_folder_a_still_or_a_video(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", *numbered(5, 6))
    pictures(tmp_path / "made", *numbered(5, 6))
    pictures(tmp_path / "still", "rough.png")
    video(tmp_path / "rough.mov", 2)
    bare = loaded(tmp_path)
    assert bare.needs_alpha
    for hint in ("made", "still", "still/rough.png", "rough.mov"):
        full = resolve_alpha(bare, tmp_path / hint)
        assert not full.needs_alpha
        assert all("alpha_hint" in entry.files for entry in full.frames)
    with pytest.raises(ValueError, match="has a hint already"):
        resolve_alpha(full, tmp_path / "made")
    with pytest.raises(ValueError, match="there is no"):
        resolve_alpha(bare, tmp_path / "none")
    os.unlink(tmp_path / "made/a.0006.png")
    pictures(tmp_path / "made", "a.0004.png")
    with pytest.raises(FrameMismatchError, match="no frame 6"):
        resolve_alpha(bare, tmp_path / "made")


def test_a_video_is_read_as_it_is_and_a_replaced_one_is_the_new_one(tmp_path: Path) -> None:
    video(tmp_path / "Input/take.mov", 3)
    assert loaded(tmp_path).frame_count == 3
    video(tmp_path / "Input/take.mov", 2)
    assert loaded(tmp_path).frame_count == 2
    assert [path.name for path in tmp_path.iterdir()] == ["Input"]
    (tmp_path / "Input/take.mov").write_bytes(b"no video")
    with pytest.raises(ExtractionError, match=r"take\.mov"):
        loaded(tmp_path)


META = {
    "filename": "take.mov",
    "width": 32,
    "height": 16,
    "fps_num": 24000,
    "fps_den": 1001,
    "pix_fmt": "yuv420p",
    "codec_name": "h264",
}


def test_metadata_of_a_video_come_from_its_file_and_unknown_keys_stay(tmp_path: Path) -> None:
    assert load_video_metadata(tmp_path) is None
    text = json.dumps({**META, "duration_s": 2.0, "x_note": "kept"})
    (tmp_path / "video_meta.json").write_text(text)
    found = load_video_metadata(tmp_path)
    assert found is not None
    assert round(found.fps, 3) == 23.976
    assert found.estimated_frame_count == 48
    assert found.extra == {"x_note": "kept"}
    zero = found.model_copy(update={"fps_den": 0})
    assert (zero.fps, zero.estimated_frame_count) == (0.0, 0)


@pytest.mark.parametrize("text", ["{", "[]", json.dumps({**META, "width": "wide"}), "{}"])
def test_damaged_metadata_are_read_again_from_the_video(tmp_path: Path, text: str) -> None:
    (tmp_path / "video_meta.json").write_text(text)
    assert load_video_metadata(tmp_path) is None
    video(tmp_path / "Input/take.mov", 3)
    found = load_video_metadata(tmp_path)
    assert found is not None
    assert (found.filename, found.width, found.height) == ("take.mov", 32, 16)
    assert (found.fps, found.frame_count, found.codec_name) == (24.0, 3, "qtrle")


def test_no_frames_is_no_manifest_and_the_compression_has_a_range(tmp_path: Path) -> None:
    pictures(tmp_path / "Input", *numbered(1, 2))
    (clip,) = scan(tmp_path).clips
    with pytest.raises(ValueError, match="png_compression"):
        load(clip, png_compression=10)
    for path in (tmp_path / "Input").iterdir():
        path.unlink()
    with pytest.raises(FrameMismatchError, match="holds no frames"):
        load(clip)
