"""A BackgroundMattingV2 model whose weights are made from a rule."""

from __future__ import annotations

from fakes.generated_weights import generated_state
from mattebridge.models.background_matting.card import FAMILY, card_of
from mattebridge.models.background_matting.model import BackgroundMattingModel
from mattebridge.models.background_matting.networks import MattingRefine
from mattebridge.models.weights.file import WeightsRecord


def background_matting() -> BackgroundMattingModel:
    settings = {"class": "MattingRefine", "backbone": "mobilenetv2"}
    card = card_of(WeightsRecord("bgm", "", "sha256:0", FAMILY, settings, "MIT"))
    return BackgroundMattingModel(
        card, lambda: generated_state(MattingRefine("mobilenetv2").state_dict())
    )
