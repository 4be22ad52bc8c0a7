"""The card of a BackgroundMattingV2 checkpoint, made without opening the file and without torch.

A checkpoint is recognised once, when it is added (`model.describe_state`), and recorded as a
`WeightsRecord`; from that the daemon makes the card, and the model when a request needs it.
"""

from __future__ import annotations

from typing import NamedTuple

from mattebridge.models.base import ModelCard, Setting, SettingsSchema, SizeRule
from mattebridge.models.entry import Entry
from mattebridge.models.precision import PRECISION
from mattebridge.models.weights.file import WeightsRecord

FAMILY = "background_matting"
FACTORY = "mattebridge.models.background_matting.model:BackgroundMattingModel.from_record"
# The value of a setting that means "as recommended for the frame's size".
RECOMMENDED = 0
# The published documentation has settings for HD and 4K; up to 2560 x 1440 counts as HD.
HD_PIXELS = 2560 * 1440
# More than any frame has.
MOST_PIXELS = 2**30
# Measured peaks of memory of one frame beyond its planes, rounded up. MattingRefine works in
# tiles; MattingBase holds whole maps at half of the frame's size.
REFINE_BYTES_PER_PIXEL = 128
BASE_BYTES_PER_PIXEL = 600
# The plain forward, which holds whole maps at every size, takes this many times more.
EXACT_FACTOR = 2.5

BASE_SETTINGS = SettingsSchema(precision=PRECISION)
REFINE_SETTINGS = SettingsSchema(
    backbone_scale=Setting(
        float(RECOMMENDED),
        "size of the first, small look at the frame; 0: as recommended for the frame's size",
        minimum=0.0,
        maximum=0.5,
    ),
    refine_mode=Setting(
        "sampling",
        "which cells of 4x4 pixels to look at again: the worst, those above a threshold, or all",
        choices=("sampling", "thresholding", "full"),
    ),
    refine_sample_pixels=Setting(
        RECOMMENDED,
        "sampling: pixels to look at again; 0: as recommended for the frame's size",
        minimum=0,
        maximum=MOST_PIXELS,
    ),
    refine_threshold=Setting(
        0.1,
        "thresholding: look again where the expected error is above this",
        minimum=0.0,
        maximum=1.0,
    ),
    precision=PRECISION,
)


class Recommendation(NamedTuple):
    """The settings that depend on the size of the frame."""

    backbone_scale: float
    refine_sample_pixels: int


def recommended(height: int, width: int) -> Recommendation:
    """The published settings for a frame of that size."""
    if height * width <= HD_PIXELS:
        return Recommendation(1 / 4, 80_000)
    return Recommendation(1 / 8, 320_000)


def card_of(weights: WeightsRecord) -> ModelCard:
    """The card of a checkpoint. Raises `KeyError` for a record that is not complete."""
    network = str(weights.settings["class"])
    refines = {"MattingBase": False, "MattingRefine": True}[network]
    return ModelCard(
        name=weights.name,
        family=FAMILY,
        summary=f"{network} with {weights.settings['backbone']}: plate and clean plate",
        digest=weights.digest,
        licence=weights.licence,
        # The published figures are for clean plates that were not aligned.
        default_alignment="off",
        needs_torch=True,
        extra_outputs=("error", "refinement") if refines else ("error",),
        settings_schema=REFINE_SETTINGS if refines else BASE_SETTINGS,
        size_rule=SizeRule(multiple=4 if refines else 1),
        bytes_per_pixel=REFINE_BYTES_PER_PIXEL if refines else BASE_BYTES_PER_PIXEL,
    )


def entry_of(weights: WeightsRecord) -> Entry:
    """The checkpoint in a source of models; its file is opened when the model is loaded."""
    return Entry(card_of(weights), FACTORY, weights)
