"""The colour space that a picture file names.

It is `linear` or `srgb` (Rec. 709 primaries), else the name that OpenColorIO configs have for it
(`lin_ap1_scene` is ACEScg), else `unknown`. A file that names none is what its type usually is.
In order: the tag of the file (an EXR's `colorInteropID`, a PNG's `cICP`, an ICC profile), the
primaries in an EXR's header, the type.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from mattebridge.ocio.primaries import AP0, AP1, D65, REC709

UNKNOWN = "unknown"
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
    "lin_p3d65_scene": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *D65),
    "lin_rec2020_scene": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *D65),
    "lin_adobergb_scene": (0.640, 0.330, 0.210, 0.710, 0.150, 0.060, *D65),
    "Linear ARRI Wide Gamut 3": (0.684, 0.313, 0.221, 0.848, 0.0861, -0.102, *D65),
    "Linear ARRI Wide Gamut 4": (0.7347, 0.2653, 0.1424, 0.8576, 0.0991, -0.0308, *D65),
    "Linear S-Gamut3": (0.730, 0.280, 0.140, 0.855, 0.100, -0.050, *D65),
    "Linear S-Gamut3.Cine": (0.766, 0.275, 0.225, 0.800, 0.089, -0.087, *D65),
    "Linear V-Gamut": (0.730, 0.280, 0.165, 0.840, 0.100, -0.030, *D65),
}
# Headers have them with three or four digits.
_SAME_PLACE = 6e-4
_PROFILE = "ICCProfile:profile_description"
# Words in the description of an ICC profile.
_PROFILES = (("display p3", "srgb_p3d65_scene"), ("srgb", "srgb"))


def space_of(spec: Any, kind: str, dtype: str) -> tuple[str, str]:
    """The space of a file, and why it is `unknown` (else ""), as the end of a message.

    spec: OpenImageIO's. kind: its format name. dtype: the sample type. A log picture in a DPX says
    nothing that can be trusted.
    """
    if kind == "dpx":
        return UNKNOWN, ""
    tag = str(spec.get_string_attribute("oiio:ColorSpace"))
    own = str(spec.get_string_attribute(OWN_TAG))
    profile = str(spec.get_string_attribute(_PROFILE))
    if profile and kind != "openexr":
        return _of_profile(profile, tag), ""
    if own or tag:
        return named(own or tag), ""
    if kind == "openexr":
        return _by_primaries(spec.getattribute(CHROMATICITIES))
    return ("linear" if dtype.startswith("float") else "srgb"), ""


def unread_profile(spec: Any, kind: str) -> str:
    """The name of an ICC profile that says nothing here, so that the colours are only taken for
    what pictures are; empty without one."""
    words = str(spec.get_string_attribute(_PROFILE))
    is_read = any(part in words.lower() for part, _ in _PROFILES)
    return "" if is_read or kind == "openexr" or spec.getattribute("CICP") is not None else words


def named(tag: str) -> str:
    """The space that a tag means; a tag that is none of ours is the name to look up."""
    lower = tag.lower()
    if lower in _LINEAR:
        return "linear"
    if lower in _SRGB or lower.startswith("g22_rec709"):
        return "srgb"
    return UNKNOWN if lower in _DATA else tag


def _of_profile(description: str, tag: str) -> str:
    """By the words of an ICC profile; any other profile leaves the tag, or what pictures are."""
    words = description.lower()
    found: Optional[str] = next((space for part, space in _PROFILES if part in words), None)
    return found or named(tag or "srgb")


def _by_primaries(chromaticities: Any) -> tuple[str, str]:
    """Of an EXR without a tag: its light by its primaries, those of Rec. 709 where it has none."""
    if chromaticities is None or _are_same(chromaticities, REC709):
        return "linear", ""
    found = next((name for name, p in _LIGHT.items() if _are_same(chromaticities, p)), None)
    if found is not None:
        return found, ""
    red = ", ".join(f"{value:.4g}" for value in tuple(chromaticities)[:2])
    return UNKNOWN, f"has primaries that are of no colour space known here (red at {red})"


def _are_same(one: Any, other: Any) -> bool:
    return bool(np.allclose(tuple(one), other, rtol=0, atol=_SAME_PLACE))
