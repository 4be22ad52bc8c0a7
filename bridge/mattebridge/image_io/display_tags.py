"""What pictures for displays say of their colours: the chunks of a PNG, an ICC profile for others.

    PNG:        cICP (primaries by number, the curve of sRGB), sRGB, and for old readers gAMA, cHRM
    JPEG, TIFF  an ICC profile of matrix and curve, of some 600 bytes

The curve is always that of sRGB. The primaries are those of Rec. 709, or of a plate whose values
were taken as they are. A matte has no colours, and says nothing.
Sources: PNG specification, third edition; ICC.1:2010 (version 4.3); ITU-T H.273 for the numbers.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mattebridge.image_io.coded_colours import (
    P3_D65_NUMBER,
    REC709_NUMBER,
    UNSPECIFIED,
    primaries_named,
)
from mattebridge.ocio.primaries import ICC_WHITE, REC709, adapted, to_xyz, white_of

# Names of profiles, for people.
_DESCRIPTIONS = {REC709_NUMBER: "sRGB", P3_D65_NUMBER: "Display P3"}
_SRGB_CURVE, _RGB, _FULL_RANGE = 13, 0, 1
_GAMMA = 45_455  # 1 / 2.2, in 1/100,000


def places_of(metadata: Mapping[str, Any]) -> tuple[float, ...]:
    """x, y of red, green, blue and white of a picture: of its metadata, else those of Rec. 709."""
    return tuple(metadata.get("chromaticities") or REC709)


# --- PNG ------------------------------------------------------------------------------------------


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG."""
    length, check = len(body), zlib.crc32(kind + body)
    return length.to_bytes(4, "big") + kind + body + check.to_bytes(4, "big")


def png_chunks(places: Sequence[float]) -> Iterator[bytes]:
    """The chunks of colours with the curve of sRGB and these primaries."""
    number = primaries_named(places)
    if number != UNSPECIFIED:
        yield png_chunk(b"cICP", bytes((number, _SRGB_CURVE, _RGB, _FULL_RANGE)))
    if number == REC709_NUMBER:
        yield png_chunk(b"sRGB", b"\0")
    yield png_chunk(b"gAMA", _GAMMA.to_bytes(4, "big"))
    *rgb, white_x, white_y = (round(place * 100_000) for place in places)
    yield png_chunk(b"cHRM", struct.pack(">8i", white_x, white_y, *rgb))


# --- ICC ------------------------------------------------------------------------------------------


def icc_profile(places: Sequence[float]) -> bytes:
    """The profile of a display with these primaries and the curve of sRGB; always equal bytes."""
    number = primaries_named(places)
    adaptation = adapted(white_of(places), ICC_WHITE)
    columns = (adaptation @ to_xyz(places)).T
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0)
    curve += _fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = {
        b"desc": _text(_DESCRIPTIONS.get(number, "mattebridge display")),
        b"cprt": _text("No copyright"),
        b"wtpt": b"XYZ " + bytes(4) + _fixed(*ICC_WHITE),
        b"chad": b"sf32" + bytes(4) + _fixed(*adaptation.ravel()),
        **{b"%cXYZ" % c: b"XYZ " + bytes(4) + _fixed(*xyz) for c, xyz in zip(b"rgb", columns)},
        **{b"%cTRC" % c: curve for c in b"rgb"},
    }
    return _profile(tags)


def jpeg_segment(profile: bytes) -> bytes:
    """The APP2 segment that holds a small profile."""
    body = b"ICC_PROFILE\0" + bytes((1, 1)) + profile
    return b"\xff\xe2" + (len(body) + 2).to_bytes(2, "big") + body


def _profile(tags: Mapping[bytes, bytes]) -> bytes:
    """Header, table of tags and their data; the three curves are one."""
    table, data, known = b"", b"", dict[bytes, int]()
    start = 128 + 4 + 12 * len(tags)
    for name, body in tags.items():
        if body not in known:
            known[body] = start + len(data)
            data += body + bytes(-len(body) % 4)
        table += name + struct.pack(">II", known[body], len(body))
    table = struct.pack(">I", len(tags)) + table
    head = struct.pack(">I4xI", 128 + len(table) + len(data), 0x04300000)
    # A display of RGB, by way of XYZ; the date is that of the specification.
    head += b"mntrRGB XYZ " + struct.pack(">6H", 2010, 12, 1, 0, 0, 0) + b"acsp"
    head += bytes(28) + _fixed(*ICC_WHITE)
    return head.ljust(128, b"\0") + table + data


def _text(words: str) -> bytes:
    encoded = words.encode("utf-16-be")
    return b"mluc" + bytes(4) + struct.pack(">II4sII", 1, 12, b"enUS", len(encoded), 28) + encoded


def _fixed(*values: float) -> bytes:
    """Numbers as ICC has them, in 1/65536."""
    return struct.pack(f">{len(values)}i", *(round(float(value) * 65536) for value in values))
