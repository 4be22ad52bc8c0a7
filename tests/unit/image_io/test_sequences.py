"""Which files an input means, and which belong together: by number, never by position."""

from __future__ import annotations

from pathlib import Path

import pytest
from fileseq.constants import PAD_STYLE_HASH1
from fileseq.filesequence import FileSequence
from fileseq.frameset import FrameSet
from hypothesis import given
from hypothesis import strategies as st

from mattebridge.errors import SequenceError, UsageError
from mattebridge.image_io.sequences import (
    find_frames,
    format_frames,
    frame_ranges,
    match_frames,
    natural_key,
    output_path,
    parse_frames,
    refuse_collisions,
)


@pytest.fixture
def files(tmp_path):
    """Makes empty files: nothing in this module opens one."""

    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return make


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


def test_a_gap_is_named_however_large_it_is(files):
    folder = files("p.1001.exr", "p.1500000.exr")
    with pytest.raises(SequenceError, match="no frame 1002-1499999;"):
        match_frames({"plate": find_frames(folder / "p.####.exr")})


# ----------------------------------------------------------------------------------- frame ranges


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("5", [5]),
        ("1-4", [1, 2, 3, 4]),
        ("1-10x3", [1, 4, 7, 10]),
        ("10-1x3", [1, 4, 7, 10]),
        ("1-10y3", [2, 3, 5, 6, 8, 9]),
        ("1-3,2-5,9", [1, 2, 3, 4, 5, 9]),
        ("4-1", [1, 2, 3, 4]),
        ("-3--1", [-3, -2, -1]),
        ("-2-1", [-2, -1, 0, 1]),
        ("-5", [-5]),
        ("openjd:1-5:2", [1, 3, 5]),
        ("openjd:1-3,7, 9-12", [1, 2, 3, 7, 9, 10, 11, 12]),
        ("openjd:10-1:-3", [1, 4, 7, 10]),
        ("openjd:-3--1", [-3, -2, -1]),
        ("openjd:5", [5]),
        ("nuke:1-10x2 20", [1, 3, 5, 7, 9, 20]),
        ("nuke:1 3 4 8", [1, 3, 4, 8]),
    ],
)
def test_a_range_is_a_sorted_list_of_frames(text, frames):
    assert parse_frames(text) == frames


@pytest.mark.parametrize(
    "text",
    """|ws|1 3 4 8|1-5:2|1-|abc|1,,2|1,|1.5|1-10x0|1-10x-2|openjd:|nuke:|openjd:1-10x2|nuke:1-10:2|
    openjd:1-10:-1|foo:1-3|:1-3|1-9999999999""".replace("\n    ", "")
    .replace("ws", "  ")
    .split("|"),
)
def test_text_that_other_programs_read_differently_is_refused(text):
    with pytest.raises(UsageError) as refused:
        parse_frames(text)
    assert refused.value.exit_status == 2


@given(
    st.lists(
        st.one_of(
            st.integers(-50, 50).map(str),
            st.builds(
                lambda a, b, tail: f"{a}-{b}{tail}",
                st.integers(-50, 50),
                st.integers(-50, 50),
                st.sampled_from(["", "x1", "x2", "x7", "y2", "y5"]),
            ),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_default_grammar_is_that_of_fileseq(items):
    text = ",".join(items)
    expected = sorted(FrameSet(text))
    if expected:
        assert parse_frames(text) == expected
    else:
        with pytest.raises(UsageError):
            parse_frames(text)


@given(frames=st.sets(st.integers(-50, 50), min_size=1))
def test_ranges_for_machines_mean_the_same_frames_in_every_grammar(frames):
    assert parse_frames(frame_ranges(frames)) == sorted(frames)
    assert parse_frames("openjd:" + frame_ranges(frames, ":")) == sorted(frames)
    assert list(FrameSet(frame_ranges(frames))) == sorted(frames)


def test_ranges_for_machines_are_short():
    assert frame_ranges(range(1001, 1101)) == "1001-1100"
    assert frame_ranges([1, 3, 5, 7, 9, 20]) == "1-9x2,20"
    assert frame_ranges([1, 3, 5], ":") == "1-5:2"
    assert frame_ranges([1, 3, 4, 5, 9]) == "1,3-5,9"
    assert frame_ranges([-3, -2, -1, 1]) == "-3--1,1"


def test_frames_are_shown_as_runs():
    assert format_frames([5, 1, 2, 3, 9, 10]) == "1-3, 5, 9-10"
    assert format_frames([-2, -1]) == "-2--1"
    assert format_frames(range(0, 100, 2)).endswith(", 38, ...")


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


# ---------------------------------------------------------------------------------------- matching


def test_inputs_meet_by_number_and_not_by_position(files):
    folder = files(
        *[f"plate.{n}.exr" for n in range(1001, 1011)],
        *[f"hint.{n}.png" for n in range(995, 1021)],
        "clean.exr",
    )
    inputs = {
        "plate": find_frames(folder / "plate.####.exr"),
        "alpha hint": find_frames(folder / "hint.%d.png"),
        "clean plate": find_frames(folder / "clean.exr"),
    }
    matched = match_frames(inputs, frames=[1005, 1006, 1007])
    assert [frame.frame for frame in matched] == [1005, 1006, 1007]
    for frame in matched:
        assert frame.plate.name == f"plate.{frame.frame}.exr"
        assert frame.files["alpha hint"].name == f"hint.{frame.frame}.png"
        assert frame.files["clean plate"].name == "clean.exr"


def test_every_missing_frame_of_every_input_is_named_at_once(files):
    folder = files(
        *[f"plate.{n}.exr" for n in range(1, 9)],
        *[f"clean.{n}.exr" for n in (1, 2, 3, 6)],
        *[f"hint.{n}.exr" for n in range(2, 9)],
    )
    inputs = {
        "plate": find_frames(folder / "plate.#.exr"),
        "clean plate": find_frames(folder / "clean.#.exr"),
        "alpha hint": find_frames(folder / "hint.#.exr"),
    }
    with pytest.raises(SequenceError) as refused:
        match_frames(inputs)
    assert "clean plate has no frames 4-5, 7-8 (" in str(refused.value)
    assert "alpha hint has no frame 1 (" in str(refused.value)
    with pytest.raises(SequenceError, match="plate has no frames 9-10"):
        match_frames({"plate": inputs["plate"]}, frames=[8, 9, 10])


def test_a_hole_in_the_plate_is_an_error_unless_frames_are_named(files):
    folder = files("p.1.exr", "p.3.exr", "p.5.exr")
    inputs = {"plate": find_frames(folder)}
    with pytest.raises(SequenceError, match="no frame 2, 4;"):
        match_frames(inputs)
    assert [frame.frame for frame in match_frames(inputs, frames=parse_frames("1-5x2"))] == [
        1,
        3,
        5,
    ]


def test_holding_takes_the_last_earlier_frame_and_says_so(files):
    folder = files(*[f"p.{n}.exr" for n in range(1, 6)], "c.2.exr", "c.4.exr")
    inputs = {
        "plate": find_frames(folder / "p.#.exr"),
        "clean plate": find_frames(folder / "c.#.exr"),
    }
    with pytest.raises(SequenceError, match="clean plate has no frame 1 "):
        match_frames(inputs, hold=["clean plate"])
    matched = match_frames(inputs, frames=[2, 3, 4, 5], hold=["clean plate", "plate"])
    names = [frame.files["clean plate"].name for frame in matched]
    assert names == ["c.2.exr", "c.2.exr", "c.4.exr", "c.4.exr"]
    assert [frame.held for frame in matched] == [(), ("clean plate",), (), ("clean plate",)]


def test_pictures_without_numbers_meet_by_name_or_by_position(files):
    folder = files("p/cat.jpg", "p/dog.jpg", "c/dog.png", "c/cat.png", "h/x.png", "h/y.png")
    inputs = {name: find_frames(folder / name[0]) for name in ("plate", "clean plate", "hint")}
    matched = match_frames(inputs)
    assert [frame.files["clean plate"].stem for frame in matched] == ["cat", "dog"]
    assert [frame.files["hint"].stem for frame in matched] == ["x", "y"]


def test_a_picture_without_its_namesake_is_named(files):
    folder = files("p/cat.jpg", "p/dog.jpg", "p/emu.jpg", "c/dog.png", "c/cat.png", "c/fox.png")
    inputs = {name: find_frames(folder / name[0]) for name in ("plate", "clean plate")}
    with pytest.raises(SequenceError, match=r"clean plate .* has no picture named emu"):
        match_frames(inputs)


def test_folders_of_folders_meet_by_relative_name_on_request(files):
    folder = files(
        "p/cat.jpg", "p/sub/cat.1.jpg", "p/sub/cat.2.JPG", "p/sub/.x/a.jpg", "p/out/alpha/cat.png",
        "c/cat.png", "c/sub/cat.1.png", "c/sub/cat.2.png", "c/more/dog.png",
    )  # fmt: skip
    (folder / "q/sub").mkdir(parents=True)
    with pytest.raises(SequenceError, match="holds no frames; the folder holds sub/; use --recu"):
        find_frames(folder / "q")
    plate = find_frames(folder / "p", recursive=True, leave_out=folder / "p/out")
    inputs = {"plate": plate, "clean plate": find_frames(folder / "c", recursive=True)}
    matched = match_frames(inputs)
    assert [frame.name for frame in matched] == ["cat", "sub/cat.1", "sub/cat.2"]
    clean = [str(f.files["clean plate"].relative_to(folder)) for f in matched]
    assert clean == ["c/cat.png", "c/sub/cat.1.png", "c/sub/cat.2.png"]


def test_a_folder_that_leads_back_to_itself_is_taken_once(files):
    folder = files("p/cat.jpg", "p/sub/dog.jpg")
    (folder / "p/sub/back").symlink_to(folder / "p")
    plate = find_frames(folder / "p", recursive=True)
    assert [plate.name(number) for number in plate.files] == ["cat", "sub/dog"]


def test_a_plate_that_is_held_or_black_keeps_the_names_of_the_shot(files):
    folder = files(*(f"p/plate.{number:04d}.v2.exr" for number in (2, 3, 5)))
    plate = find_frames(folder / "p/plate.####.v2.exr")
    held = match_frames({"plate": plate}, hold=["plate"])
    assert [frame.frame for frame in held] == [2, 3, 4, 5]
    assert [frame.plate.name[6:10] for frame in held] == ["0002", "0003", "0003", "0005"]
    assert held[2].name == "plate.0004.v2"
    assert held[2].held == ("plate",)
    with pytest.raises(SequenceError, match="plate has no frame 1 "):
        match_frames({"plate": plate}, frames=[1, 2], hold=["plate"])
    black = match_frames({"plate": plate}, frames=[1, 2], black=["plate"])
    assert [(frame.name, frame.black) for frame in black] == [
        ("plate.0001.v2", ("plate",)),
        ("plate.0002.v2", ()),
    ]


def test_numbers_of_an_input_can_be_shifted_to_those_of_the_plate(files):
    folder = files(*(f"p.{number}.exr" for number in (1001, 1002)), "c.1.exr", "c.2.exr")
    clean = find_frames(folder / "c.#.exr").shifted(1000)
    matched = match_frames({"plate": find_frames(folder / "p.#.exr"), "clean plate": clean})
    assert [frame.files["clean plate"].name for frame in matched] == ["c.1.exr", "c.2.exr"]


def test_pictures_without_numbers_must_agree_in_count(files):
    folder = files("p/cat.jpg", "p/dog.jpg", "p/emu.jpg", "c/x.png", "c/y.png")
    inputs = {name: find_frames(folder / name[0]) for name in ("plate", "clean plate")}
    with pytest.raises(SequenceError, match="has 2 pictures and the plate 3"):
        match_frames(inputs)


def test_numbers_and_names_do_not_meet(files):
    folder = files("p/cat.jpg", "p/dog.jpg", "c/1.png", "c/2.png")
    inputs = {name: find_frames(folder / name[0]) for name in ("plate", "clean plate")}
    with pytest.raises(SequenceError, match="the plate has no frame numbers"):
        match_frames(inputs)


def test_a_single_plate_finds_its_clean_plate_by_number(files):
    folder = files("p.1002.exr", "c.1001.exr", "c.1002.exr")
    inputs = {
        "plate": find_frames(folder / "p.1002.exr"),
        "clean plate": find_frames(folder / "c.####.exr"),
    }
    (only,) = match_frames(inputs)
    assert only.files["clean plate"].name == "c.1002.exr"


# ----------------------------------------------------------------------------------------- outputs


def test_outputs_keep_the_name_number_and_padding_of_the_plate():
    path = output_path(Path("out"), "alpha", "plate_v2.00123", ".exr")
    assert path == Path("out/alpha/plate_v2.00123.exr")


def test_two_plates_of_one_output_and_an_output_on_an_input_are_refused(files):
    folder = files("a.jpg", "a.png")
    paths = [output_path(folder, "alpha", Path(name).stem, ".exr") for name in ("a.jpg", "a.png")]
    with pytest.raises(SequenceError, match=r"alpha/a\.exr"):
        refuse_collisions(paths, [])
    with pytest.raises(SequenceError, match="is an input"):
        refuse_collisions([folder / "alpha" / ".." / "a.png"], [folder / "a.png"])


def test_a_plate_that_leads_into_the_output_folder_is_never_written_over(files):
    folder = files("a.exr", "out/alpha/a.exr", "far/b.exr")
    (folder / "linked.exr").symlink_to("out/alpha/a.exr")
    (folder / "linked-twice.exr").symlink_to("linked.exr")
    (folder / "second-name.exr").hardlink_to(folder / "out" / "alpha" / "a.exr")
    output = folder / "out" / "alpha" / "a.exr"
    for name in ("linked.exr", "linked-twice.exr", "second-name.exr"):
        with pytest.raises(SequenceError, match=rf"is an input of this job \(.*{name} leads to it"):
            refuse_collisions([output], [folder / name])
    # Links that lead elsewhere, or nowhere, are no collision.
    (folder / "elsewhere.exr").symlink_to("far/b.exr")
    (folder / "nowhere.exr").symlink_to("gone.exr")
    refuse_collisions(
        [output], [folder / "a.exr", folder / "elsewhere.exr", folder / "nowhere.exr"]
    )
