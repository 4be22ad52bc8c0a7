"""The error tree's helpers: text from outside becomes one printable line."""

from __future__ import annotations

from mattebridge.errors import one_line


def test_text_of_any_kind_becomes_one_printable_line():
    hostile = "cannot read a\nopenjd_env: X=1\r\x1b[31mred\u2028.exr"
    assert one_line(hostile) == r"cannot read a openjd_env: X=1 \x1b[31mred .exr"
    assert one_line("bad \udcff name") == r"bad \udcff name"
    assert one_line("two  blanks \u00e9\n") == "two  blanks \u00e9"


def test_a_long_line_ends_in_three_dots():
    assert one_line("0123456789", 10) == "0123456789"
    assert one_line("0123456789a", 10) == "0123456..."
