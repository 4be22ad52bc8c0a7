"""Which files an input means."""

from __future__ import annotations

import pytest
from fileseq.constants import PAD_STYLE_HASH1
from fileseq.filesequence import FileSequence

from mattebridge.errors import SequenceError, UsageError
from mattebridge.image_io.matching import match_frames
from mattebridge.image_io.sequences import find_frames, natural_key


def numbers(source, **options) -> list[int]:
    return list(find_frames(source, **options).files)


# -------------------------------------------------------- what matches the name and what is taken


def test_negative_frames_are_taken_as_nuke_and_as_blender_write_them(files):
    folder = files(*(f"b.{name}.exr" for name in ("-0002", "-0001", "0000", "0001")))
    files(*(f"n.{name}.exr" for name in ("-002", "-001", "0000", "0001")))
    for name in ("b", "n"):
        found = find_frames(folder / f"{name}.####.exr")
        assert (list(found.files), found.left_out) == ([-2, -1, 0, 1], "")
    assert find_frames(folder / "b.####.exr").name(-2) == "b.-0002"


def test_a_frame_of_both_spellings_exists_twice(files):
    folder = files("p.-003.exr", "p.-0003.exr", "p.0000.exr")
    with pytest.raises(SequenceError, match="frame -3 exists twice"):
        find_frames(folder / "p.####.exr")


def test_numbers_of_another_padding_are_named(files):
    folder = files(*(f"p.{number}.exr" for number in (998, 999, 1000, 1001)))
    found = find_frames(folder / "p.####.exr")
    assert list(found.files) == [1000, 1001]
    assert "so p.998.exr, p.999.exr of the same name are not taken" in found.left_out
    assert numbers(folder / "p.###.exr") == numbers(folder / "p.#.exr") == [998, 999, 1000, 1001]
    with pytest.raises(SequenceError, match=r"no frames 998-999 .*p\.998\.exr, p\.999\.exr"):
        match_frames({"plate": found}, frames=[998, 999, 1000])


def test_a_suffix_in_capitals_is_the_same_suffix(files):
    folder = files("p.1.exr", "p.2.EXR", "p.3.exr")
    assert numbers(folder / "p.#.exr") == numbers(folder) == [1, 2, 3]
    files("p.1.EXR")
    with pytest.raises(SequenceError, match="frame 1 exists twice"):
        find_frames(folder / "p.#.exr")


def test_a_link_to_nowhere_and_a_folder_of_a_frame_s_name_are_frames_that_cannot_be_read(files):
    folder = files("p.1.exr", "p.4.exr")
    (folder / "p.2.exr").symlink_to("nowhere.exr")
    (folder / "p.3.exr").mkdir()
    assert numbers(folder / "p.#.exr") == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("pattern", "way_out"),
    [("take@2x.####.exr", "take@2x.%04d.exr"), ("shot#3.####.exr", "shot#3.%04d.exr")],
)
def test_a_name_with_a_second_sign_for_numbers_has_a_way_out(files, pattern, way_out):
    folder = files(*(way_out.replace("%04d", number) for number in ("0001", "0002")))
    with pytest.raises(UsageError, match="more than one place") as refused:
        find_frames(folder / pattern)
    assert f"write {way_out}" in refused.value.message
    assert numbers(folder / way_out) == [1, 2]


# ------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("p.####.exr", [998, 1001, 10000]),
        ("p.%04d.exr", [998, 1001, 10000]),
        ("p.@@@@.exr", [998, 1001, 10000]),
        ("p.$F4.exr", [998, 1001, 10000]),
        ("p.#####.exr", [2, 10000]),
        ("p.#.exr", [1001, 7, 10000]),
        ("p.%d.exr", [1001, 7, 10000]),
    ],
)
def test_a_pattern_means_its_number_of_digits(files, pattern, found):
    folder = files(
        "p.0998.exr",
        "p.1001.exr",
        "p.10000.exr",
        "p.7.exr",
        "p.00002.exr",
        "p.1002.png",
        "q.1003.exr",
    )
    assert numbers(folder / pattern) == sorted(found)


def test_the_width_of_a_pattern_is_that_of_fileseq():
    sequence = FileSequence("p.####.exr", pad_style=PAD_STYLE_HASH1)
    assert sequence.frame(7) == "p.0007.exr"


def test_negative_frames_count_their_sign_as_a_digit(files):
    folder = files("p.-002.exr", "p.-001.exr", "p.0000.exr", "p.0001.exr")
    assert numbers(folder / "p.####.exr") == [-2, -1, 0, 1]
    assert numbers(folder) == [-2, -1, 0, 1]


def test_a_dash_before_the_number_is_part_of_the_name(files):
    folder = files("p-0001.exr", "p-0002.exr")
    assert numbers(folder / "p-####.exr") == [1, 2]
    assert numbers(folder) == [1, 2]


def test_what_stands_after_the_number_is_kept_apart(files):
    folder = files("p.0001_left.exr", "p.0001_right.exr", "p.0002_left.exr")
    assert numbers(folder / "p.####_left.exr") == [1, 2]


def test_hidden_and_foreign_files_are_no_frames(files):
    folder = files("p.1.exr", "p.2.exr", ".p.3.exr", ".p.2.exr.host-1.0.tmp", "p.txt", "Thumbs.db")
    assert numbers(folder) == [1, 2]


def test_a_file_is_one_file_however_its_name_ends(files):
    folder = files("p.1001.exr", "p.1002.exr", "clean.exr", "plate_v02.exr", "p_1003.EXR")
    one = find_frames(folder / "p.1001.exr")
    assert (list(one.files), one.still, one.numbered) == ([1001], True, True)
    assert numbers(folder / "p_1003.EXR") == [1003]
    for name in ("clean.exr", "plate_v02.exr"):
        still = find_frames(folder / name)
        assert (list(still.files), still.still, still.numbered) == ([1], True, False)


def test_a_file_named_like_a_pattern_is_a_file(files):
    folder = files("take#1.exr")
    assert find_frames(folder / "take#1.exr").still


def test_a_folder_of_one_sequence_is_that_sequence(files):
    folder = files("a/f_1.png", "a/f_2.png", "a/f_10.png")
    sequence = find_frames(folder / "a")
    assert (list(sequence.files), sequence.still, sequence.numbered) == ([1, 2, 10], False, True)


def test_a_folder_of_one_picture_is_a_still(files):
    folder = files("a/clean.1001.exr")
    assert find_frames(folder / "a").still


def test_a_folder_of_pictures_without_numbers_is_taken_in_natural_order(files):
    folder = files("a/beach2.jpg", "a/dog.jpg", "a/beach10.PNG", "a/cat.tif")
    sequence = find_frames(folder / "a")
    names = [path.name for path in sequence.files.values()]
    assert names == ["beach2.jpg", "beach10.PNG", "cat.tif", "dog.jpg"]
    assert (list(sequence.files), sequence.numbered) == ([1, 2, 3, 4], False)


def test_a_folder_of_two_sequences_asks_for_one(files):
    folder = files("p.1.exr", "p.2.exr", "q.1.exr", "q.2.exr")
    with pytest.raises(SequenceError, match=r"p\.#\.exr \(2 frames\), q\.#\.exr .*as a pattern"):
        find_frames(folder)


def test_the_same_number_twice_is_refused(files):
    folder = files("1.png", "01.png")
    with pytest.raises(SequenceError, match=r"frame 1 exists twice: 01\.png and 1\.png"):
        find_frames(folder)


def test_an_empty_folder_and_a_folder_of_folders_say_what_is_there(files):
    folder = files("shot/plate/p.1.exr", "shot/notes.txt")
    with pytest.raises(SequenceError, match=r"holds no frames; the folder holds plate/"):
        find_frames(folder / "shot")
    (folder / "empty").mkdir()
    with pytest.raises(SequenceError, match=r"clean plate folder .* holds no frames"):
        find_frames(folder / "empty", role="clean plate")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("p.#####.exr", r"no plate frames match .*; the folder holds p\.####\.exr \(2 frames\)"),
        ("p.1003.exr", r"does not exist; the folder holds p\.####\.exr \(2 frames\)"),
        ("none/p.####.exr", r"there is no folder"),
        ("p.####.####.exr", r"more than one place"),
        ("p.%V.####.exr", r"%V; give one"),
        ("p.<UDIM>.exr", r"<UDIM>; give one"),
    ],
)
def test_a_name_that_meets_nothing_says_what_is_there(files, name, says):
    folder = files("p.1001.exr", "p.1002.exr")
    with pytest.raises(UsageError, match=says):
        find_frames(folder / name)


def test_natural_order_is_that_of_people():
    names = ["f10", "f2", "f1b", "f1a", "f", "g1", "f02"]
    assert sorted(names, key=natural_key) == ["f", "f1a", "f1b", "f02", "f2", "f10", "g1"]
