"""The alpha hint of a frame: as it was sent, or the alpha of another model.

    sent ----------------------------------------> hint
    plate, clean plate --difference, twoplate----> alpha = hint
    plate with a green or blue screen --screen---> alpha = hint

Where none of the three is there, the frame is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from mattebridge.checkpoint import Checkpoint
from mattebridge.color import FloatImage
from mattebridge.errors import InputsError, ModelError
from mattebridge.models.base import MattingModel, ModelInput, ModelOutput
from mattebridge.models.difference.keyer import keyed
from mattebridge.models.difference.moved import without_moved
from mattebridge.models.entry import place
from mattebridge.models.screen.card import SCREEN as SCREEN_CARD
from mattebridge.models.screen.model import ScreenModel
from mattebridge.models.twoplate import card as twoplate

SENT, DIFFERENCE, TWOPLATE, SCREEN = "sent", "difference", "twoplate", "screen"


@dataclass(frozen=True)
class Hint:
    """A hint, (H, W) float32 0..1, where it is from, and the labels of what made it."""

    alpha: FloatImage
    source: str
    degraded: tuple[str, ...] = ()


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

    def hint_for(self, given: ModelInput, source: str, screen: str, checkpoint: Checkpoint) -> Hint:
        """The hint of a frame; source, screen: the settings `hint_source` and `screen`.

        Raises `InputsError` where there is nothing that a hint can be had from.
        """
        if source != "auto":
            return self._made(given, source, screen, checkpoint)
        if given.alpha_hint is not None:
            return Hint(given.alpha_hint, SENT)
        if given.clean_plate is not None:
            return self._made(given, DIFFERENCE, screen, checkpoint)
        try:
            return self._made(given, SCREEN, screen, checkpoint)
        except ModelError as refusal:
            raise self._nothing(given) from refusal

    def _made(self, given: ModelInput, source: str, screen: str, checkpoint: Checkpoint) -> Hint:
        if source == SCREEN:
            made = _by_screen(given, screen, checkpoint)
        elif given.clean_plate is None:
            raise self._no_clean_plate(given, source)
        elif source == TWOPLATE:
            made = self._loaded_twoplate().matte(replace(given, settings={}), checkpoint)
        else:
            made = without_moved(keyed(given, checkpoint), given)
        return Hint(made.alpha, source, made.degraded)

    def _nothing(self, given: ModelInput) -> InputsError:
        height, width = given.plate.shape[:2]
        return InputsError(
            f"model '{self._model}' needs an alpha hint of {width}x{height}, or a clean plate or a "
            "green or blue screen to make one from; found none of them - connect a hint or a "
            "clean plate",
            field="alpha_hint",
        )

    def _no_clean_plate(self, given: ModelInput, source: str) -> InputsError:
        height, width = given.plate.shape[:2]
        return InputsError(
            f"hint_source '{source}' of model '{self._model}' makes the hint from a clean "
            f"plate of {width}x{height}; got none - connect one, or use hint_source 'auto' "
            "with an alpha hint",
            field="clean_plate",
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


def _by_screen(given: ModelInput, screen: str, checkpoint: Checkpoint) -> ModelOutput:
    settings = SCREEN_CARD.settings_schema.validate({"screen": screen}, model=SCREEN)
    return ScreenModel(SCREEN_CARD).matte(replace(given, settings=settings), checkpoint)
