"""What the colour settings of a Resolve project mean for pictures on its Fusion page.

A project that Resolve manages (RCM, ACES) hands its pictures to the Fusion page as linear light,
with the primaries of the timeline's colour space. A project that it does not manage hands them over
as they are in the files, which the project does not tell.
"""

from __future__ import annotations

from collections.abc import Mapping

# The settings of a project that are read here.
SETTINGS = ("colorScienceMode", "colorSpaceTimeline")
_MANAGED, _ACES = "davinciyrgbcolormanaged", "aces"
# The linear space with the primaries that are named in a timeline's space; the longest word counts.
_LINEAR = {
    "rec.709": "linear",
    "srgb": "linear",
    "rec.2020": "Linear Rec.2020",
    "rec.2100": "Linear Rec.2020",
    "p3-d65": "Linear P3-D65",
    "aces": "ACES2065-1",
    "aces (ap1)": "ACEScg",
    "acescg": "ACEScg",
    "acescc": "ACEScg",
    "davinci wg": "Linear DaVinci WideGamut",
    "davinci wide gamut": "Linear DaVinci WideGamut",
    "arri wide gamut 3": "Linear ARRI Wide Gamut 3",
    "arri alexa": "Linear ARRI Wide Gamut 3",
    "arri logc": "Linear ARRI Wide Gamut 3",
    "arri wide gamut 4": "Linear ARRI Wide Gamut 4",
    "arri logc4": "Linear ARRI Wide Gamut 4",
    "blackmagic wide gamut": "Linear BMD WideGamut Gen5",
    "s-gamut3": "Linear S-Gamut3",
    "s-gamut3.cine": "Linear S-Gamut3.Cine",
    "v-gamut": "Linear V-Gamut",
    "redwidegamutrgb": "Linear REDWideGamutRGB",
}


def space_of_project(settings: Mapping[str, str]) -> str:
    """The space of pictures on the Fusion page, named as in the ACES studio config; "" if unknown.

    settings: the texts of `SETTINGS`. Unknown: a project that is not managed, or a timeline space
    that is not in the table.
    """
    mode = settings.get("colorScienceMode", "").lower()
    if mode.startswith(_ACES):
        return "ACEScg"
    if not mode.startswith(_MANAGED):
        return ""
    timeline = settings.get("colorSpaceTimeline", "").lower()
    found = [word for word in _LINEAR if word in timeline]
    return _LINEAR[max(found, key=len)] if found else ""
