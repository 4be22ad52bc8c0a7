"""The plate + hint network with seeded weights for the stage functions, and its settings."""

from __future__ import annotations

from functools import cache

from fakes.seeded_keyer import seeded_state
from mattebridge.clips import InferenceConfig, PostprocessConfig, PreprocessConfig
from mattebridge.clips.network import LoadedNetwork
from mattebridge.clips.reading import card_for_stages
from mattebridge.models.greenformer.model import GreenformerModel

SIZE = 64
PREPROCESS = PreprocessConfig(img_size=SIZE, device="cpu")
# Not auto, which chooses by the memory that is free at the moment.
INFERENCE = InferenceConfig(img_size=SIZE, device="cpu", refiner_mode="full_frame")
POSTPROCESS = PostprocessConfig(despeckle_size=5, despeckle_dilation=3, despeckle_threshold=0.004)


@cache
def keyer() -> GreenformerModel:
    """The model, loaded."""
    model = GreenformerModel(card_for_stages("key", digest="sha256:0"), seeded_state, "green")
    model.load("cpu")
    return model


@cache
def network() -> LoadedNetwork:
    """The same for `run_inference`."""
    return LoadedNetwork(keyer())
