"""The card of `difference`, made without importing the keyer, torch or cv2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mattebridge.models.base import ModelCard, Setting, SettingsSchema, SizeRule
from mattebridge.models.entry import Entry

DIFFERENCE = ModelCard(
    name="difference",
    family="difference",
    summary="Classical keyer from plate and clean plate; needs no weights",
    # There are no weights: the digest names the algorithm, and changes when its pixels do.
    digest="difference:8",
    licence="MIT",
    default_alignment="auto",
    accepts_hdr=True,
    takes_small_images=True,
    uses_alpha_hint=True,
    needs_torch=True,
    # In smaller frames there are too few neighbours.
    size_rule=SizeRule(minimum=16),
    settings_schema=SettingsSchema(
        method=Setting(
            "projection",
            "projection: fast; closed_form: slow, for stills, needs the extra 'closed-form'",
            choices=("projection", "closed_form"),
        ),
        shadow=Setting(
            0.65,
            "share of the light that a shadow on the set may take; 0 keeps shadows in the matte",
            minimum=0.0,
            maximum=0.9,
        ),
        band=Setting(
            1.0,
            "width of the solved edge, as a multiple of the width measured",
            minimum=0.25,
            maximum=4.0,
        ),
        fill=Setting(
            1.0,
            "how far parts of the subject that match the set are filled in; 0 fills nothing",
            minimum=0.0,
            maximum=10.0,
        ),
        edge_tolerance=Setting(
            0.3,
            "misalignment in pixels (at 960 wide) that counts as no difference",
            minimum=0.0,
            maximum=4.0,
        ),
        specks=Setting(
            0.0002,
            "islands below this share of the frame are dropped",
            minimum=0.0,
            maximum=0.05,
        ),
    ),
)

_FACTORY = "mattebridge.models.difference.keyer:DifferenceModel"


def specks_of(settings: Mapping[str, Any]) -> float:
    """The setting `specks` of a frame of any model; the default where the model has none."""
    return float(settings.get("specks", DIFFERENCE.settings_schema["specks"].default))


def shipped() -> Mapping[str, Entry]:
    """The keyer, which needs no weights."""
    return {DIFFERENCE.name: Entry(DIFFERENCE, _FACTORY)}
