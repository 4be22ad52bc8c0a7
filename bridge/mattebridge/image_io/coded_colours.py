"""Pairs of primaries and curve, as files name them, and the colour spaces that they are.

    by the numbers of H.273 (videos, `cICP`)   space_of(9, 18)                hlg_rec2020_display
    by what they are (ICC, `cHRM`)             space_of_pair("p3d65", "lin")  lin_p3d65_scene

A space is `linear`, `srgb`, a name of OpenColorIO configs, or `unknown`: then it has to be named.
"""

from __future__ import annotations

from typing import Any, Optional

import numpy as np

from mattebridge.ocio.primaries import ADOBE_RGB, AP0, AP1, P3_D65, REC709, REC2020

UNKNOWN = "unknown"
REC709_NUMBER, UNSPECIFIED, BT2020_NUMBER, P3_D65_NUMBER = 1, 2, 9, 12
_LINEAR, _SRGB, _PQ, _HLG = 8, 13, 16, 18
# Rec.709 and its kin, unspecified, sRGB, Rec.2020.
_DISPLAY_TRANSFERS = (1, UNSPECIFIED, 6, 7, _SRGB, 14, 15)
_HDR_TRANSFERS = {_PQ: "PQ", _HLG: "HLG"}
# Primaries that are those of Rec.709, or of standard definition and close to it.
_NEAR_709 = (REC709_NUMBER, UNSPECIFIED, 5, 6, 7, 22)
# Of the others: name, and x, y of red, green, blue and white as EXR headers have them.
_DCI_WHITE, _C = (0.314, 0.351), (0.310, 0.316)
WIDE_PRIMARIES: dict[int, tuple[str, tuple[float, ...]]] = {
    4: ("NTSC 1953", (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_C)),
    8: ("film", (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_C)),
    BT2020_NUMBER: ("BT.2020", REC2020),
    10: ("XYZ", (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1 / 3, 1 / 3)),
    11: ("DCI-P3", (*P3_D65[:6], *_DCI_WHITE)),
    P3_D65_NUMBER: ("Display P3", P3_D65),
}
# Pairs that OpenColorIO's built-in configs have a space for.
_NAMED = {
    (BT2020_NUMBER, _PQ): "pq_rec2020_display",
    (BT2020_NUMBER, _HLG): "hlg_rec2020_display",
    (P3_D65_NUMBER, _PQ): "pq_p3d65_display",
    (P3_D65_NUMBER, _SRGB): "srgb_p3d65_scene",
    (P3_D65_NUMBER, _LINEAR): "lin_p3d65_scene",
    (BT2020_NUMBER, _LINEAR): "lin_rec2020_scene",
}
# Primaries and curves by what configs call them. A gamma of 2.2 is taken for the curve of sRGB,
# which it stands for in a PNG.
PRIMARIES = {
    **{"rec709": REC709, "p3d65": P3_D65, "adobergb": ADOBE_RGB},
    **{"rec2020": REC2020, "ap1": AP1, "ap0": AP0},
}
_PAIRS = {
    ("rec709", "lin"): "linear",
    ("rec709", "srgb"): "srgb",
    ("rec709", "g22"): "srgb",
    **{("rec709", curve): f"{curve}_rec709_scene" for curve in ("g18", "g24")},
    **{(places, "lin"): f"lin_{places}_scene" for places in PRIMARIES if places != "rec709"},
    **{("p3d65", curve): "srgb_p3d65_scene" for curve in ("srgb", "g22")},
    ("adobergb", "g22"): "g22_adobergb_scene",
    **{("ap1", curve): f"{curve}_ap1_scene" for curve in ("srgb", "g22")},
}


def space_of_pair(primaries: str, curve: str) -> Optional[str]:
    """The space of a name of `PRIMARIES` and a curve (lin, srgb, g18, g22, g24); None without."""
    return _PAIRS.get((primaries, curve))


def space_of(primaries: int, transfer: int) -> tuple[str, str]:
    """The space of a pair of numbers, and why it is `unknown` (else ""), as the end of a message.

    `linear` and `srgb` mean the primaries of Rec.709; those of standard definition are taken for
    them.
    """
    if (primaries, transfer) in _NAMED:
        return _NAMED[primaries, transfer], ""
    if transfer in _HDR_TRANSFERS:
        return UNKNOWN, f"is HDR ({_HDR_TRANSFERS[transfer]}), but not of BT.2020 primaries"
    if primaries not in _NEAR_709:
        name = WIDE_PRIMARIES.get(primaries, (f"number {primaries}", ()))[0]
        return UNKNOWN, f"has other primaries ({name}) than srgb and linear, which are Rec.709"
    if transfer == _LINEAR:
        return "linear", ""
    if transfer in _DISPLAY_TRANSFERS:
        return "srgb", ""
    return UNKNOWN, f"has a curve (number {transfer}) that is neither srgb nor linear"


def primaries_named(chromaticities: Any) -> int:
    """The number of primaries for a tag: Rec.709 for None, 2 where there is no number."""
    if chromaticities is None:
        return REC709_NUMBER
    for number, (_, places) in {REC709_NUMBER: ("", REC709), **WIDE_PRIMARIES}.items():
        if np.allclose(places, chromaticities, atol=5e-4):
            return number
    return UNSPECIFIED
