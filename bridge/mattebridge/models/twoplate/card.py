"""The card of `twoplate`, made without torch, and whether its weights are there.

The weights are in the folder `data` beside this file, with a short description that the export
writes (`python -m training.export`). Without both the model is not offered: a network with random
weights would run and give a meaningless matte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

from mattebridge.models.base import ModelCard, Setting, SettingsSchema
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.entry import Entry
from mattebridge.models.precision import PRECISION
from mattebridge.models.weights.file import WeightsRecord

NAME = "twoplate"
FAMILY = "twoplate"
DATA = Path(__file__).with_name("data")
WEIGHTS = DATA / f"{NAME}.safetensors"
DESCRIPTION = DATA / f"{NAME}.json"
# Measured peak of one frame beyond its planes, rounded up.
BYTES_PER_PIXEL = 180
# Of the keyer that it starts from, of which the slow method would be no start; and its own.
SETTINGS = SettingsSchema(
    **{name: one for name, one in DIFFERENCE.settings_schema.items() if name != "method"},
    precision=PRECISION,
    screen=Setting(
        "auto",
        "auto: a clean plate that is a green or blue screen is keyed by `screen`; off: none is",
        choices=("auto", "off"),
    ),
    window=Setting(
        "auto",
        "auto: a small subject in a large frame is matted by itself, finer; off: the whole frame",
        choices=("auto", "off"),
    ),
)
_FACTORY = "mattebridge.models.twoplate.model:shipped_model"
_RECORD_FACTORY = "mattebridge.models.twoplate.model:TwoPlateModel.from_record"


def card_of(digest: str, *, name: str = NAME, licence: str = "MIT") -> ModelCard:
    """The card of weights with that digest (`sha256:<hex>` of their file)."""
    return ModelCard(
        name=name,
        family=FAMILY,
        summary="The project's own network: corrects the matte of `difference`",
        digest=digest,
        licence=licence,
        uses_alpha_hint=True,
        accepts_hdr=True,
        takes_small_images=True,
        # It was trained on what this alignment and exposure fit leave behind.
        default_alignment="auto",
        needs_torch=True,
        settings_schema=SETTINGS,
        size_rule=DIFFERENCE.size_rule,
        bytes_per_pixel=BYTES_PER_PIXEL,
    )


def shipped() -> Mapping[str, Entry]:
    """The model with the shipped weights; nothing where there are none."""
    description = _description()
    if description is None or not WEIGHTS.is_file():
        return {}
    return {NAME: Entry(card_of(str(description["digest"])), _FACTORY)}


def entry_of(record: WeightsRecord) -> Entry:
    """Weights of this network that the user added; their file is opened when they are loaded."""
    card = card_of(record.digest, name=record.name, licence=record.licence)
    return Entry(card, _RECORD_FACTORY, record)


def _description() -> Optional[dict[str, Any]]:
    try:
        text = DESCRIPTION.read_text(encoding="utf-8")
    except OSError:
        return None
    found: dict[str, Any] = json.loads(text)
    return found
