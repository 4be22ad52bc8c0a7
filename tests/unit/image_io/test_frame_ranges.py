"""Frame numbers as text: what artists and queues write, and what they are shown."""

from __future__ import annotations

import pytest
from fileseq.frameset import FrameSet
from hypothesis import given
from hypothesis import strategies as st

from mattebridge.errors import UsageError
from mattebridge.image_io.frame_ranges import format_frames, frame_ranges, parse_frames


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
