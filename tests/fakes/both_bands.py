"""The keyer's matte of a frame in main memory, and that with a wider band."""

from __future__ import annotations

from dataclasses import replace

from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.keyer import DifferenceModel, with_defaults
from mattebridge.models.difference.small import Small
from mattebridge.models.pytorch.frames import Frame, given_back


def keyed_both(given: ModelInput) -> tuple[ModelOutput, ModelOutput]:
    """As a network that takes the wider band is given them, with the keyer's default settings."""
    given, frame = with_defaults(given), Frame.of(given)
    keyer = DifferenceModel(DIFFERENCE)
    begun, *wide = keyer.with_wide(given, frame, Small(frame), no_checkpoint)
    narrow = begun.output(given)
    alpha, foreground = given_back(given.plate, *wide)
    return narrow, replace(narrow, alpha=alpha, foreground=foreground, ranges=None)
