"""What artists type into a host: frame ranges and the settings of a model."""

from __future__ import annotations

import pytest

from mattebridge.errors import UsageError
from mattebridge.hosts.frame_range import frame_range, parse_frames
from mattebridge.hosts.settings_text import parse_settings, parse_settings_knob


@pytest.mark.parametrize(
    ("text", "frames"),
    [
        ("1-4", [1, 2, 3, 4]),
        ("-3--1", [-3, -2, -1]),
        ("1-10x4 20,22", [1, 5, 9, 20, 22]),
        (" 7, 7\n5 ", [5, 7]),
    ],
)
def test_frame_ranges_are_read_as_nuke_writes_them(text: str, frames: list[int]) -> None:
    assert parse_frames(text) == frames


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("4-1", "the frame range is empty: it goes from 4 to 1"),
        ("1-9x0", "must be 1 or more; got 0"),
        ("1-", "'1-' is not a frame range such as 1001-1010"),
        ("", "'' is not a frame range"),
        ("one", "'one' is not a frame range"),
    ],
)
def test_a_text_that_is_no_frame_range_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_frames(text)


def test_a_range_includes_both_ends() -> None:
    assert frame_range(-1, 1) == [-1, 0, 1]
    assert frame_range(1, 6, 2) == [1, 3, 5]
    assert frame_range(3, 3, 9) == [3]


def test_settings_have_the_type_that_they_look_like() -> None:
    given = ["a=3", "b=-1.5", "c=TRUE", "d=on", "e=1e3", "f=", "g=x=y"]
    typed = {"a": 3, "b": -1.5, "c": True, "d": "on", "e": 1000.0, "f": "", "g": "x=y"}
    assert parse_settings(given, where="--set") == typed
    assert parse_settings_knob("\n a = 3\nd=on \n\n", where="Settings") == {"a": 3, "d": "on"}


@pytest.mark.parametrize("text", ["=3", "gain"])
def test_a_setting_without_name_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"Settings takes key=value, not '{text}'"):
        parse_settings_knob(text, where="Settings")
