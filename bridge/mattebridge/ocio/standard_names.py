"""Names that files and videos give a space (Color Interop Forum), and what configs call it.

Configs of today have them as aliases; those that shows were begun with, such as ACES 1.2 and the
first studio configs, have the space under another name.
"""

from __future__ import annotations

from collections.abc import Mapping

OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "lin_ap0_scene": ("ACES2065-1", "ACES - ACES2065-1", "lin_ap0"),
    "lin_ap1_scene": ("ACEScg", "ACES - ACEScg", "lin_ap1"),
    "lin_p3d65_scene": ("Linear P3-D65", "Utility - Linear - P3-D65", "lin_p3d65"),
    "lin_rec2020_scene": ("Linear Rec.2020", "Utility - Linear - Rec.2020", "lin_rec2020"),
    "lin_adobergb_scene": ("Linear AdobeRGB", "Utility - Linear - Adobe RGB", "lin_adobergb"),
    "srgb_p3d65_scene": (
        *("sRGB Encoded P3-D65", "sRGB Encoded P3-D65 - Texture", "srgb_encoded_p3d65_tx"),
        *("srgb_displayp3", "Display P3 - Display", "displayp3_display"),
    ),
    "srgb_ap1_scene": ("sRGB Encoded AP1", "sRGB Encoded AP1 - Texture", "srgb_encoded_ap1_tx"),
    "g18_rec709_scene": ("Gamma 1.8 Encoded Rec.709", "Gamma 1.8 Rec.709 - Texture", "g18_rec709"),
    "g22_adobergb_scene": ("Gamma 2.2 Encoded AdobeRGB", "adobergb"),
    "g22_ap1_scene": ("Gamma 2.2 Encoded AP1", "Gamma 2.2 AP1 - Texture", "g22_ap1"),
    "g24_rec709_scene": ("Gamma 2.4 Encoded Rec.709", "Gamma 2.4 Rec.709 - Texture", "g24_rec709"),
    "pq_rec2020_display": ("Rec.2100-PQ - Display", "rec2100_pq_display"),
    "hlg_rec2020_display": ("Rec.2100-HLG - Display", "rec2100_hlg_display"),
    "pq_p3d65_display": ("ST2084-P3-D65 - Display", "st2084_p3d65_display"),
    "Linear ARRI Wide Gamut 3": ("lin_alexawide", "Input - ARRI - Linear - ALEXA Wide Gamut"),
    "Linear S-Gamut3": ("lin_sgamut3", "Input - Sony - Linear - S-Gamut3"),
    "Linear S-Gamut3.Cine": ("lin_sgamut3cine", "Input - Sony - Linear - S-Gamut3.Cine"),
    "Linear V-Gamut": ("lin_vgamut", "Input - Panasonic - Linear - V-Gamut"),
}
