"""A model's matte of a validation frame through the engine, alignment included, as for users."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np

from mattebridge.engine.engine import Engine
from mattebridge.models.entry import Entry
from mattebridge.models.registry import Registry, built_in
from mattebridge.models.twoplate.card import card_of
from mattebridge.models.twoplate.model import TwoPlateModel
from mattebridge.models.weights.state_dict import read_state_dict
from mattebridge.wire.params import RenderParams
from mattebridge_sample.composites import Composite, shoot

_CANDIDATE = "candidate"


class ThroughEngine:
    """One model: a name of `mattebridge models`, or a weights file of twoplate.

    A network judges screens itself, which `twoplate` else leaves to `screen`.
    """

    def __init__(self, model: str, device: str = "cpu") -> None:
        self._name = _CANDIDATE if Path(model).is_file() else model
        registry = _registry(model)
        self._engine = Engine(device, registry=registry)
        family = registry.card(self._name).family
        self._settings = {"screen": "off"} if family == "twoplate" else {}

    def matte(self, frame: Composite, plate: Optional[Any] = None) -> dict[str, Any]:
        """Alpha (H, W, 1) and display-encoded foreground (H, W, 3) of the frame, or of another
        plate of it; frames that were mixed in light are passed as linear."""
        plate = frame.plate if plate is None else plate
        linear = frame.blend == "linear"
        planes = {"plate": plate, "clean_plate": frame.clean_plate}
        if linear:
            planes = {role: shoot.decode(picture) for role, picture in planes.items()}
        size = plate.shape[:2]
        out = {
            "alpha": np.zeros((*size, 1), np.float32),
            "foreground": np.zeros((*size, 3), np.float32),
        }
        params = RenderParams(
            colorspace="linear" if linear else "srgb",
            output_colorspace="srgb",
            settings=self._settings,
        )
        self._engine.matte(planes, params, model=self._name, out=out)
        return out


def _registry(model: str) -> Registry:
    """The built-in models and, if `model` is a file, its network as `candidate`."""
    if not Path(model).is_file():
        return Registry(built_in)

    def candidate() -> Mapping[str, Entry]:
        def make(card: Any) -> TwoPlateModel:
            return TwoPlateModel(card, lambda: read_state_dict(model))

        return {_CANDIDATE: Entry(card_of("candidate", name=_CANDIDATE), make)}

    return Registry(built_in, candidate)
