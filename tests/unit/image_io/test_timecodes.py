"""Timecode counted on and packed, drop-frame included."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mattebridge.image_io.timecodes import later, pack, unpack

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("text", "frames", "rate", "expected"),
    [
        ("01:00:00:23", 1, Fraction(24), "01:00:01:00"),
        ("00:00:59:29", 1, NTSC, "00:01:00:00"),
        ("00:00:59;29", 1, NTSC, "00:01:00;02"),
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),
        ("00:00:00;00", 17982, NTSC, "00:10:00;00"),
        ("01:00:00;00", 107892, NTSC, "02:00:00;00"),
        ("00:00:59;59", 1, Fraction(60000, 1001), "00:01:00;04"),
        ("23:59:59:23", 1, Fraction(24000, 1001), "00:00:00:00"),
        ("01:02:03:04", 0, Fraction(25), "01:02:03:04"),
        ("no timecode", 5, Fraction(25), "no timecode"),
    ],
)
def test_a_timecode_counts_on(text, frames, rate, expected):
    assert later(text, frames, rate) == expected


def test_drop_frame_skips_two_numbers_a_minute_but_not_each_tenth():
    numbers = [
        f"00:{minute:02d}:{second:02d};{frame:02d}"
        for minute in range(22)
        for second in range(60)
        for frame in range(30)
        if frame >= 2 or second or minute % 10 == 0
    ]
    for start in (0, 1799, 17981, 18000):
        for step in (0, 1, 2, 1797, 1798, 17982):
            counted = later(numbers[start], step, NTSC)
            assert counted == numbers[start + step], (numbers[start], step)


@pytest.mark.parametrize("text", ["00:00:00:00", "01:23:45:12", "23:59:59;29"])
def test_packing_is_undone_by_unpacking(text):
    packed = pack(text)
    assert packed is not None
    assert unpack(packed[0]) == text


def test_a_packed_timecode_is_that_of_an_exr_header():
    assert pack("01:02:03:04") == (0x01020304, 0)
    assert pack("01:02:03;04") == (0x01020344, 0)
    assert pack("later") is None
