"""The card of `screen`, made without importing the keyer, torch or cv2."""

from __future__ import annotations

from collections.abc import Mapping

from mattebridge.models.base import ModelCard, Setting, SettingsSchema, SizeRule
from mattebridge.models.entry import Entry

SCREEN = ModelCard(
    name="screen",
    family="screen",
    summary="Keyer for green and blue screens; a plate is enough, a clean plate helps",
    # There are no weights: the digest names the algorithm, and changes when its pixels do.
    digest="screen:7",
    licence="MIT",
    needs_clean_plate=False,
    uses_alpha_hint=True,
    accepts_hdr=True,
    needs_torch=True,
    # In smaller frames there are too few neighbours.
    size_rule=SizeRule(minimum=16),
    settings_schema=SettingsSchema(
        screen=Setting(
            "auto",
            "auto: found by itself, refused where there is none; green or blue: taken as there",
            choices=("auto", "green", "blue"),
        ),
        colour=Setting(
            "",
            "the screen's colour as #rrggbb, display-encoded, where it is not found by itself",
        ),
        black=Setting(
            0.01,
            "screen with less alpha than this, or than its grain, is made empty",
            minimum=0.0,
            maximum=0.5,
        ),
        white=Setting(
            0.97, "subject with more alpha than this is made opaque", minimum=0.5, maximum=1.0
        ),
        despill=Setting(
            1.0,
            "how much of the screen's light is taken out of the foreground; 0 leaves it",
            minimum=0.0,
            maximum=1.0,
        ),
        erode=Setting(
            0.0,
            "how much smaller the matte is made, in pixels (at 960 wide); for hints",
            minimum=0.0,
            maximum=20.0,
        ),
        soften=Setting(
            0.0,
            "blur of the matte after that, in pixels (at 960 wide); for hints",
            minimum=0.0,
            maximum=20.0,
        ),
    ),
)

_FACTORY = "mattebridge.models.screen.model:ScreenModel"


def shipped() -> Mapping[str, Entry]:
    """The keyer, which needs no weights."""
    return {SCREEN.name: Entry(SCREEN, _FACTORY)}
