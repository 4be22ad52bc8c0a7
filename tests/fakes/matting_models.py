"""A small model that really mattes, remembers what it was shown, and misbehaves when told to."""

from __future__ import annotations

import dataclasses

import numpy as np

from mattebridge.models.base import (
    MattingModel,
    ModelCard,
    ModelOutput,
    Setting,
    SettingsSchema,
    SizeRule,
)
from mattebridge.models.entry import Entry
from mattebridge.models.registry import Registry

KEYER_CARD = ModelCard(
    name="keyer",
    family="fake",
    summary="Largest channel difference, and the plate as foreground",
    digest="keyer:1",
    licence="MIT",
    extra_outputs=("error", "refinement"),
    settings_schema=SettingsSchema(slope=Setting(4.0, "Steepness", minimum=0.1, maximum=100.0)),
)


class Keyer(MattingModel):
    """Alpha is `slope` x the largest channel difference; the foreground is the plate it saw.

    `given` holds copies of the inputs of each frame. `alpha`, if set, is given back instead.
    """

    def __init__(self, card=KEYER_CARD, alpha=None, foreground=None):
        self.card = card
        self.alpha = alpha
        self.foreground = foreground
        self.given = []
        self.device = None
        self.loads = 0

    def load(self, device):
        self.device = device
        self.loads += 1

    def unload(self):
        self.device = None

    @property
    def memory_bytes(self):
        return 4096 if self.device else 0

    def matte(self, given, checkpoint):
        assert self.device is not None
        self.given.append(dataclasses.replace(given, plate=given.plate.copy()))
        checkpoint("matte", 0, 1)
        difference = np.zeros(given.plate.shape[:2], np.float32)
        if given.clean_plate is not None:
            difference = np.abs(given.plate - given.clean_plate).max(axis=-1)
        alpha = np.clip(given.settings["slope"] * difference, 0, 1)
        if self.alpha is not None:
            alpha = np.broadcast_to(np.float32(self.alpha), alpha.shape).copy()
        foreground = given.plate.copy()
        if self.foreground is not None:
            foreground[:] = self.foreground
        small = difference[::4, ::4]
        return ModelOutput(
            alpha,
            foreground,
            extra={"error": small, "refinement": (small > 0.1).astype(np.float32)},
            degraded=("half_hearted",) if given.settings["slope"] < 1 else (),
            notes={"difference": float(difference.mean())},
        )


def keyer_card(multiple=1, minimum=1, **changes):
    return dataclasses.replace(KEYER_CARD, size_rule=SizeRule(multiple, minimum), **changes)


def registry_of(*models):
    """A registry that hands out these very models; `default` is the first."""
    entries = {model.card.name: Entry(model.card, lambda _, m=model: m) for model in models}
    return Registry(lambda: entries, aliases={"default": models[0].card.name})
