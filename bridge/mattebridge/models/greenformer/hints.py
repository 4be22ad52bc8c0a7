"""The alpha hint of a frame: as it was sent, or made from a clean plate by another model.

sent --------------------------------> hint
plate, clean plate --difference------> alpha = hint
                   --twoplate--------/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from mattebridge.checkpoint import Checkpoint
from mattebridge.color import FloatImage
from mattebridge.errors import InputsError, ModelError
from mattebridge.models.base import MattingModel, ModelInput
from mattebridge.models.difference.keyer import keyed
from mattebridge.models.entry import place
from mattebridge.models.twoplate import card as twoplate

SENT, DIFFERENCE, TWOPLATE = "sent", "difference", "twoplate"


@dataclass(frozen=True)
class Hint:
    """A hint, (H, W) float32 0..1, and where it is from; labels and notes of what made it."""

    alpha: FloatImage
    source: str
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)


class HintMaker:
    """Makes hints on one device; keeps the network of `twoplate` once it was needed."""

    def __init__(self, device: str, model: str) -> None:
        """model: the name of the model that wants hints, for messages."""
        self._device = device
        self._model = model
        self._twoplate: Optional[MattingModel] = None

    @property
    def memory_bytes(self) -> int:
        return 0 if self._twoplate is None else self._twoplate.memory_bytes

    def hint_for(self, given: ModelInput, source: str, checkpoint: Checkpoint) -> Hint:
        """The hint of a frame; source: the setting `hint_source`.

        Raises `InputsError` where there is nothing that a hint can be had from.
        """
        if source == "auto" and given.alpha_hint is not None:
            return Hint(given.alpha_hint, SENT)
        if given.clean_plate is None:
            raise self._nothing(given, source)
        if source == TWOPLATE:
            bare = replace(given, settings={})
            made, name = self._loaded_twoplate().matte(bare, checkpoint), TWOPLATE
        else:
            made, name = keyed(given, checkpoint), DIFFERENCE
        return Hint(made.alpha, name, made.degraded, made.notes)

    def _nothing(self, given: ModelInput, source: str) -> InputsError:
        height, width = given.plate.shape[:2]
        if source != "auto":
            return InputsError(
                f"hint_source '{source}' of model '{self._model}' makes the hint from a clean "
                f"plate of {width}x{height}; got none - connect one, or use hint_source 'auto' "
                "with an alpha hint",
                field="clean_plate",
            )
        return InputsError(
            f"model '{self._model}' needs an alpha hint of {width}x{height}, or a clean plate to "
            "make one from; got neither - connect one",
            field="alpha_hint",
        )

    def _loaded_twoplate(self) -> MattingModel:
        if self._twoplate is None:
            entry = twoplate.shipped().get(twoplate.NAME)
            if entry is None:
                raise ModelError(
                    "hint_source 'twoplate' needs the model 'twoplate', which is not installed "
                    "here - use 'difference'",
                    field="params.settings.hint_source",
                    reason="setting",
                )
            model: MattingModel = place(str(entry.factory))(*entry.arguments())
            model.load(self._device)
            self._twoplate = model
        return self._twoplate
