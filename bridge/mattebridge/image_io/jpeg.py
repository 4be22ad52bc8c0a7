"""What a JPEG's bytes say about damage, beside what a decoder reports.

    FFD8  segments  FFDA scan data  [segments  FFDA scan data ...]  FFD9  [further pictures]

A JPEG has no checksums. Damage inside shows in two ways: the data ends before the picture does,
which OpenImageIO reports, or the picture is complete before the data ends, which no library does.
The second is found here: without the last bytes of its data a good picture cannot be decoded.
Single wrong bits that change neither are not found by anything.

Behind its first picture a file may hold others (the gain map of an Ultra HDR photo, previews),
which are no part of it.
"""

from __future__ import annotations

import re
from typing import Optional

import cv2
import numpy as np

from mattebridge.color import Pixels

# Some cameras fill up their data by a few bytes.
_SPARE_BYTES = 32
_READ_AHEAD_BYTES = 16
# In the data of a scan: a marker other than FF00 (a data byte) and FFD0 to FFD7 (restarts).
_AFTER_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOI, _EOI, _SOS = b"\xff\xd8", 0xD9, 0xDA
# Restart intervals, and the frame types of progressive and other pictures of several scans.
_MANY_PARTS = re.compile(rb"\xff[\xdd\xc2\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]")


def end_of_picture(data: bytes) -> Optional[int]:
    """The offset behind the first picture's end marker; None where it has no end."""
    at = len(_SOI)
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == _EOI:
            return at + 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if marker == _SOS:
                found = _AFTER_SCAN.search(data, at)
                if found is None:
                    return None
                at = found.start()
    return None


def has_data_left_over(data: bytes) -> bool:
    """Whether a picture is complete before its data ends. data: up to `end_of_picture`.

    Decodes an eighth in grey, which takes a third of the time of the whole.
    """
    start = data.rfind(b"\xff\xda", 0, len(data) - 2)
    kept = len(data) - 2 - _SPARE_BYTES
    if kept <= start + 16:
        return False
    return decoded(data[:kept], cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None


def is_one_scan(data: bytes) -> bool:
    """Whether the picture is one scan without restarts: then `shrunk` notices missing data."""
    return _MANY_PARTS.search(data, 0, data.rfind(b"\xff\xda")) is None


def decoded(data: bytes, flags: int) -> Optional[Pixels]:
    """OpenCV's pixels; None where the data ends too early.

    data: without the end marker, with which the rest of the picture would be grey.
    """
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    return None if pixels is None else np.asarray(pixels)


def shrunk(data: bytes, flags: int) -> Optional[Pixels]:
    """A picture of one scan decoded with one of OpenCV's IMREAD_REDUCED flags, as `decoded` does.

    data: up to `end_of_picture`.
    """
    # In place of the end marker: the decoder reads a few bytes ahead.
    return decoded(data[:-2] + bytes(_READ_AHEAD_BYTES), flags)
