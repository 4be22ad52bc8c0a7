"""SMPTE timecode as text (`01:00:00:12`, drop-frame `01:00:00;12`) and as EXR headers pack it.

A header holds two integers: the digits as binary-coded decimals with flags, and user data. A video
holds the text of its first picture; that of every other picture is counted from there.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Optional

_TEXT = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")
_DROP_FLAG = 1 << 6
# Of hours, minutes, seconds and frames: the position of their byte, and the mask of their tens.
_FIELDS = ((24, 0x3), (16, 0x7), (8, 0x7), (0, 0x3))


def pack(text: str) -> Optional[tuple[int, int]]:
    """`01:00:00:12` as an EXR header has it; None for a text that is no timecode."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return None
    hours, minutes, seconds, separator, frames = match.groups()
    packed = 0 if separator == ":" else _DROP_FLAG
    for (shift, _), digits in zip(_FIELDS, (hours, minutes, seconds, frames)):
        packed |= (int(digits[0]) << 4 | int(digits[1])) << shift
    return packed, 0


def unpack(packed: int) -> str:
    """The text of a packed timecode."""
    values = []
    for shift, tens in _FIELDS:
        byte = packed >> shift
        values.append((byte >> 4 & tens) * 10 + (byte & 0xF))
    separator = ";" if packed & _DROP_FLAG else ":"
    hours, minutes, seconds, frames = values
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{separator}{frames:02d}"


def later(text: str, frames: int, rate: Fraction) -> str:
    """The timecode that many frames later; a text that is no timecode is returned as it is."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        return text
    hours, minutes, seconds, separator, number = match.groups()
    base = max(1, round(rate))
    # Drop-frame skips the first frame numbers of every minute except each tenth, so that timecode
    # and clock agree.
    dropped = 0 if separator == ":" else round(base / 15)
    whole_minutes = int(hours) * 60 + int(minutes)
    count = (whole_minutes * 60 + int(seconds)) * base + int(number) + frames
    count -= dropped * (whole_minutes - whole_minutes // 10)
    if dropped:
        tens, rest = divmod(count, 600 * base - 9 * dropped)
        past_first = max(0, rest - dropped) // (60 * base - dropped)
        count += dropped * (9 * tens + past_first)
    left, number_now = divmod(count % (24 * 3600 * base), base)
    clock = f"{left // 3600:02d}:{left // 60 % 60:02d}:{left % 60:02d}"
    return f"{clock}{separator}{number_now:02d}"
