"""The colour space that an ICC profile describes: by its numbers, not by its name.

    matrix of three colorants, three curves --> primaries, curve --> a name of OpenColorIO configs

Profiles have any name: that of linear light is often "linear sRGB", and a file from a phone has
"Display P3" in it whatever its curve is. So a profile of matrix and curves is known by these, one
with a `cicp` tag by its code points, and only one of tables alone (such as the sRGB of the ICC for
printing) by the words of its description.
Source: ICC.1:2022 (version 4.4), which reads profiles of version 2 as well.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Callable, Optional

import numpy as np

from mattebridge.color import Pixels, srgb_decode
from mattebridge.image_io import coded_colours
from mattebridge.ocio import primaries

_CURVES: Mapping[str, Callable[[Pixels], Pixels]] = {
    "lin": lambda codes: codes,
    "srgb": srgb_decode,
    "g18": lambda codes: codes**1.8,
    "g22": lambda codes: codes**2.2,
    "g24": lambda codes: codes**2.4,
}
# XYZ of colorants in profiles of the same space differ by this, sRGB and Rec. 709 by ten times it.
_SAME_XYZ = 2e-3
# Light of curves in tables of a thousand steps; a gamma of 2.2 is 4e-3 from the curve of sRGB.
_SAME_LIGHT = 1e-3
_WORDS = (("display p3", "srgb_p3d65_scene"), ("srgb", "srgb"))
_HEADER_BYTES = 128


def space_of(profile: bytes, description: str) -> Optional[str]:
    """The space of a profile: `linear`, `srgb` or a name; None where it is another one.

    description: the name that the profile gives itself. A damaged profile is one of no known space.
    """
    if profile[16:20] != b"RGB ":
        return None
    try:
        tags = _tags(profile)
        if b"cicp" in tags:
            name, _ = coded_colours.space_of(*tags[b"cicp"][8:10])
            return None if name == coded_colours.UNKNOWN else name
        if b"A2B0" in tags or b"rXYZ" not in tags:
            return _by_words(description)
        return _by_numbers(tags)
    except (struct.error, ValueError, KeyError, IndexError):
        return None


def _tags(profile: bytes) -> dict[bytes, bytes]:
    """The data of each tag."""
    (count,) = struct.unpack_from(">I", profile, _HEADER_BYTES)
    found = {}
    for index in range(min(count, 100)):
        name, start, size = struct.unpack_from(">4sII", profile, _HEADER_BYTES + 4 + 12 * index)
        found[name] = profile[start : start + size]
    return found


def _by_words(description: str) -> Optional[str]:
    words = description.lower()
    return next((space for part, space in _WORDS if part in words), None)


def _by_numbers(tags: Mapping[bytes, bytes]) -> Optional[str]:
    columns = np.array([_xyz(tags[b"%cXYZ" % channel]) for channel in b"rgb"])
    known = coded_colours.PRIMARIES.items()
    found = next((name for name, places in known if _are_colorants(columns, places)), "")
    codes = np.linspace(0, 1, 65)
    light = [_light(tags[b"%cTRC" % channel], codes) for channel in b"rgb"]
    for curve, decode in _CURVES.items():
        if np.abs(np.array(light) - np.asarray(decode(codes))).max() <= _SAME_LIGHT:
            return coded_colours.space_of_pair(found, curve)
    return None


def _are_colorants(columns: Pixels, places: tuple[float, ...]) -> bool:
    adaptation = primaries.adapted(primaries.white_of(places), primaries.ICC_WHITE)
    wanted = (adaptation @ primaries.to_xyz(places)).T
    return bool(np.abs(columns - wanted).max() <= _SAME_XYZ)


def _xyz(tag: bytes) -> list[float]:
    return [_fixed(tag, 8 + 4 * i) for i in range(3)]


def _fixed(tag: bytes, at: int) -> float:
    (value,) = struct.unpack_from(">i", tag, at)
    return float(value) / 65536


def _light(tag: bytes, codes: Pixels) -> Pixels:
    """Light of code values, 0..1, by the curve of a tag."""
    if tag[:4] == b"para":
        return _parametric(tag, codes)
    if tag[:4] != b"curv":
        raise ValueError("no curve")
    (count,) = struct.unpack_from(">I", tag, 8)
    if count < 2:
        gamma = struct.unpack_from(">H", tag, 12)[0] / 256 if count else 1.0
        return np.asarray(codes**gamma)
    steps = np.frombuffer(tag, ">u2", count, 12) / 65535
    return np.interp(codes, np.linspace(0, 1, count), steps)


def _parametric(tag: bytes, codes: Pixels) -> Pixels:
    (kind,) = struct.unpack_from(">H", tag, 8)
    count = (1, 3, 4, 5, 7)[kind]
    g, a, b, c, d, e, f = [*(_fixed(tag, 12 + 4 * i) for i in range(count)), *[0.0] * (7 - count)]
    if kind == 0:
        return np.asarray(codes**g)
    if kind < 3:
        d, e, f, c = -b / a, c, c, 0.0
    power = np.maximum(a * codes + b, 0) ** g
    return np.where(codes >= d, power + e, c * codes + f)
