"""Which pictures belong together: by number, never by position."""

from __future__ import annotations

import pytest

from mattebridge.errors import SequenceError
from mattebridge.image_io.frame_ranges import parse_frames
from mattebridge.image_io.matching import match_frames
from mattebridge.image_io.sequences import find_frames


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


def test_a_gap_is_named_however_large_it_is(files):
    folder = files("p.1001.exr", "p.1500000.exr")
    with pytest.raises(SequenceError, match="no frame 1002-1499999;"):
        match_frames({"plate": find_frames(folder / "p.####.exr")})
