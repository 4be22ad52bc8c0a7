"""The colour space that a picture file names.

It is `linear` or `srgb` (Rec. 709 primaries), else the name that OpenColorIO configs have for it
(`lin_ap1_scene` is ACEScg), else `unknown`. A file that names none is what its type usually is.
Of several tags the first counts, as the PNG specification (third edition) has it:

    EXR    colorInteropID, chromaticities
    other  cICP, an ICC profile, sRGB, gAMA with cHRM
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Optional

import numpy as np

from mattebridge.errors import one_line
from mattebridge.image_io import coded_colours, icc_profiles
from mattebridge.image_io.coded_colours import UNKNOWN
from mattebridge.ocio.primaries import ADOBE_RGB, AP0, AP1, D65, P3_D65, REC709, REC2020

# What files say of an EXR in another space than our own, beside the tag, which has names for few.
OWN_TAG = "mattebridge:colorspace"
CHROMATICITIES = "chromaticities"
_LINEAR = (
    *("linear", "scene_linear", "lin_srgb", "lin_rec709", "lin_rec709_srgb"),
    *("lin_rec709_scene", "lin_rec709_display"),
)
_SRGB = ("srgb", "srgb_tx", "srgb_texture", "srgb_rec709_scene", "srgb_rec709_display")
_DATA = ("data", "raw", "unknown")
# Scene-linear light by its primaries: x, y of red, green, blue and white as EXR headers have them.
_LIGHT = {
    "lin_ap1_scene": AP1,
    "lin_ap0_scene": AP0,
    "lin_p3d65_scene": P3_D65,
    "lin_rec2020_scene": REC2020,
    "lin_adobergb_scene": ADOBE_RGB,
    "Linear ARRI Wide Gamut 3": (0.684, 0.313, 0.221, 0.848, 0.0861, -0.102, *D65),
    "Linear ARRI Wide Gamut 4": (0.7347, 0.2653, 0.1424, 0.8576, 0.0991, -0.0308, *D65),
    "Linear S-Gamut3": (0.730, 0.280, 0.140, 0.855, 0.100, -0.050, *D65),
    "Linear S-Gamut3.Cine": (0.766, 0.275, 0.225, 0.800, 0.089, -0.087, *D65),
    "Linear V-Gamut": (0.730, 0.280, 0.165, 0.840, 0.100, -0.030, *D65),
}
# Headers have them with three or four digits.
_SAME_PLACE = 6e-4
# Of a PNG: the rounding of older programs.
_NEAR = 2e-3
_TAG, _CICP, _DESCRIPTION = "oiio:ColorSpace", "CICP", "ICCProfile:profile_description"
_PROFILE = "ICCProfile"
_PNG_SIGNATURE_BYTES = 8


class Tag(NamedTuple):
    """What a file says of its colours.

    unknown_because: why `space` is `unknown`, as the end of a message ("" where nothing was said).
    unread: what it has that says nothing here, so that its colours are only taken for what such
    pictures are.
    """

    space: str
    unknown_because: str = ""
    unread: str = ""


def tag_of(path: Path, spec: Any, kind: str, dtype: str) -> Tag:
    """What a file says. spec: OpenImageIO's. kind: its format name. dtype: the sample type.

    A log picture in a DPX says nothing that can be trusted.
    """
    if kind == "dpx":
        return Tag(UNKNOWN)
    own, said = (str(spec.get_string_attribute(name)) for name in (OWN_TAG, _TAG))
    if kind == "openexr":
        if own or said:
            return Tag(own or named(said))
        return _by_primaries(spec.getattribute(CHROMATICITIES))
    codes, profile = spec.getattribute(_CICP), spec.getattribute(_PROFILE)
    if codes is not None:
        return _of_cicp(codes)
    usual = named(said) if said else "linear" if dtype.startswith("float") else "srgb"
    if profile is not None:
        return _of_profile(bytes(profile), str(spec.get_string_attribute(_DESCRIPTION)), usual)
    return _of_png(path, said, usual) if kind == "png" else Tag(usual)


def named(tag: str) -> str:
    """The space that a tag means; a tag that is none of ours is the name to look up."""
    lower = tag.lower()
    if lower in _LINEAR:
        return "linear"
    if lower in _SRGB or lower.startswith("g22_rec709"):
        return "srgb"
    return UNKNOWN if lower in _DATA else tag


def _of_cicp(codes: Sequence[int]) -> Tag:
    primaries, transfer, _, is_full = (int(code) for code in codes)
    if not is_full:
        return Tag(UNKNOWN, "has codes of narrow range (by its cICP), which are not read")
    return Tag(*coded_colours.space_of(primaries, transfer))


def _of_profile(profile: bytes, description: str, usual: str) -> Tag:
    found = icc_profiles.space_of(profile, description)
    if found is not None:
        return Tag(found)
    return Tag(usual, unread=f"the ICC profile '{one_line(description, 80)}'")


def _of_png(path: Path, said: str, usual: str) -> Tag:
    """By the primaries of a PNG that has no better tag, and the curve that OpenImageIO tells."""
    places = _png_primaries(path)
    if places is None or np.allclose(places, REC709, rtol=0, atol=_NEAR):
        return Tag(usual)
    curve = said.partition("_")[0]
    known = (name for name, each in coded_colours.PRIMARIES.items() if _are_same(places, each))
    found = next((coded_colours.space_of_pair(name, curve) for name in known), None)
    if found is not None:
        return Tag(found)
    return Tag(usual, unread=f"a cHRM chunk of other primaries ({_red(places)})")


def _png_primaries(path: Path) -> Optional[tuple[float, ...]]:
    """x and y of red, green, blue and white of the chunk cHRM; None without it, or beside sRGB."""
    places: Optional[tuple[float, ...]] = None
    with open(path, "rb") as stored:
        stored.seek(_PNG_SIGNATURE_BYTES)
        while len(head := stored.read(8)) == 8:
            size, name = int.from_bytes(head[:4], "big"), head[4:]
            if name in (b"sRGB", b"IDAT"):
                return None if name == b"sRGB" else places
            if name == b"cHRM" and size == 32:
                white_x, white_y, *rgb = struct.unpack(">8I", stored.read(size))
                places = tuple(value / 100_000 for value in (*rgb, white_x, white_y))
                size = 0
            stored.seek(size + 4, os.SEEK_CUR)
    return None


def _by_primaries(chromaticities: Any) -> Tag:
    """Of an EXR without a tag: its light by its primaries, those of Rec. 709 where it has none."""
    if chromaticities is None or _are_same(chromaticities, REC709):
        return Tag("linear")
    found = next((name for name, p in _LIGHT.items() if _are_same(chromaticities, p)), None)
    if found is not None:
        return Tag(found)
    places = _red(chromaticities)
    return Tag(UNKNOWN, f"has primaries that are of no colour space known here ({places})")


def _red(places: Any) -> str:
    return "red at " + ", ".join(f"{value:.4g}" for value in tuple(places)[:2])


def _are_same(one: Any, other: Any) -> bool:
    return bool(np.allclose(tuple(one), other, rtol=0, atol=_SAME_PLACE))
