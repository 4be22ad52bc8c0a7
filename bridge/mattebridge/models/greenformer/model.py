"""The plate + hint network as a model of the engine.

    hint: sent, or made from a clean plate --+
    plate --------------------------------fit--> square --network--> alpha, foreground --> frame

The network sees the plate unclipped and gives a foreground of 0..1: the engine gives highlights
their light back. With `exact` the published forward runs as it is, in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.errors import ModelError
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.greenformer.budget import size_for, ways_for
from mattebridge.models.greenformer.card import BY_MEMORY, USUAL_SCALE
from mattebridge.models.greenformer.encoder import SIZE_MULTIPLE
from mattebridge.models.greenformer.fast import (
    BY_LAYERS,
    BY_PREFIX,
    FULL_FRAME,
    OFF,
    FastGreenformer,
    Made,
    on_device,
)
from mattebridge.models.greenformer.hints import Hint, HintMaker
from mattebridge.models.greenformer.network import Greenformer
from mattebridge.models.greenformer.recognise import has_refiner, network_from
from mattebridge.models.greenformer.square import Square
from mattebridge.models.pytorch.frames import array_of, memory_translated
from mattebridge.models.pytorch.threads import sigmoid
from mattebridge.models.pytorch.weights import weights_bytes
from mattebridge.models.weights.file import WeightsRecord
from mattebridge.models.weights.state_dict import parse_state_dict

Weights = Callable[[], Mapping[str, Tensor]]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# From this compute capability on, CUDA devices multiply bfloat16 as fast as float16.
BFLOAT16_CAPABILITY = (8, 0)
_SMALLER = "use a smaller img_size, or refiner tiled"
# Labels of `degraded`.
REFINER_TILED = "refiner_tiled"
HALF_OVERFLOW = "half_precision_overflow"
SCALE_ABOVE_1 = "refiner_scale_above_1"


class Computed(NamedTuple):
    """The logits of a frame, and how they came about."""

    made: Made
    precision: str
    overflowed: bool = False


class SquareInput(NamedTuple):
    """A frame as the network sees it: x (1, 4, S, S), where the frame lies in it, and the hint."""

    x: Tensor
    square: Square
    hint: Hint


def square_input(
    given: ModelInput,
    settings: Mapping[str, Any],
    size: int,
    hints: HintMaker,
    device: torch.device,
    checkpoint: Checkpoint,
    *,
    swaps: bool,
) -> SquareInput:
    """A frame in the network's square, with the hint that was sent or is made of it here.

    given: arrays, at a size that the card allows. settings: all of the card's. size: the side of
    the square. swaps: green and blue change places. Raises `InputsError` without anything to have a
    hint from.
    """
    source, screen = str(settings["hint_source"]), str(settings["screen"])
    hint = hints.hint_for(given, source, screen, checkpoint)
    with torch.inference_mode():
        square = Square.of(given.plate.shape, size, settings, swaps=swaps)
        x = square.input(given.plate, hint.alpha, device, linear=given.scene_linear)
    return SquareInput(x, square, hint)


class GreenformerModel(MattingModel):
    """One checkpoint, at every size."""

    def __init__(self, card: ModelCard, weights: Weights, screen: str) -> None:
        """weights: gives the state dict; called at each load. screen: that it was trained on."""
        self.card = card
        self._weights = weights
        self._screen = screen
        self._device = torch.device("cpu")
        self._network: Optional[Greenformer] = None
        self._fast: dict[torch.dtype, FastGreenformer] = {}
        self._refines = True
        self._hints = HintMaker("cpu", card.name)
        self._size: Optional[int] = None
        self._less = False

    @classmethod
    def from_record(cls, card: ModelCard, record: WeightsRecord) -> GreenformerModel:
        """The model of a file, which must still have the recorded digest when it is loaded."""
        screen = str(record.settings["screen"])
        return cls(card, lambda: parse_state_dict(record.read(), record.label), screen)

    def load(self, device: str) -> None:
        """Read the weights and prepare them for `device`; raises `ModelError` if they do not fit.

        The table of positions stays in main memory: what is needed of it is small.
        """
        self._device = torch.device(device)
        state = self._weights()
        self._refines = has_refiner(state)
        self._network = on_device(network_from(state), self._device)
        self._hints = HintMaker(device, self.name)

    def unload(self) -> None:
        self._network = self._size = None
        self._less = False
        self._fast.clear()
        self._hints = HintMaker("cpu", self.name)

    def use_less_memory(self, less: bool) -> bool:
        """The refiner in tiles, with nothing kept but one tile; see `MattingModel`."""
        self._less = less
        return less

    @property
    def memory_bytes(self) -> int:
        if self._network is None:
            return 0
        held = weights_bytes(self._network)
        held += sum(fast.memory_bytes for fast in self._fast.values())
        return held + self._hints.memory_bytes

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground.

        Raises `InputsError` without anything to have a hint from, `ModelError` for settings that
        cannot be used here, `OutOfMemoryError` where the device cannot hold the frame.
        """
        assert self._network is not None, "load() comes before matte()"
        # Once more, because callers other than the engine give some of them only.
        settings = self.settings_schema.validate(given.settings, model=self.name)
        size = self.size_of(int(settings["img_size"]))
        refiner = self._refiner_of(settings)
        seen = self.in_square(given, settings, size, checkpoint)
        with memory_translated(self.name, given.plate.shape, _SMALLER), torch.inference_mode():
            done = self._computed(seen.x, settings, refiner, given.exact, checkpoint)
            checkpoint("finish")
            frame = seen.square.frame(sigmoid(done.made.logits))
            alpha, foreground = array_of(frame[0]), array_of(frame[1:].permute(1, 2, 0))
        notes = {
            "img_size": size,
            "refiner": done.made.way,
            "refiner_scale": settings["refiner_scale"],
            "precision": done.precision,
            "fit": settings["fit"],
            "screen": self._screen,
            "channels_swapped": seen.square.swaps,
            "hint": seen.hint.source,
            "exact": given.exact,
        }
        degraded = (*seen.hint.degraded, *labels_of(done, settings))
        return ModelOutput(alpha, foreground, degraded=degraded, notes=notes)

    def in_square(
        self, given: ModelInput, settings: Mapping[str, Any], size: int, checkpoint: Checkpoint
    ) -> SquareInput:
        """What the network sees of a frame; size: see `size_of`. Errors as of `square_input`."""
        with memory_translated(self.name, given.plate.shape, _SMALLER):
            swaps = self.swaps_for(settings)
            return square_input(
                given, settings, size, self._hints, self._device, checkpoint, swaps=swaps
            )

    def swaps_for(self, settings: Mapping[str, Any]) -> bool:
        """Whether green and blue change places: the plate's screen is not the checkpoint's."""
        return settings["screen"] not in ("auto", self._screen)

    def on_square(
        self, x: Tensor, settings: Mapping[str, Any], *, exact: bool, checkpoint: Checkpoint
    ) -> tuple[Computed, Tensor]:
        """What `matte` computes of its square: the logits, and what their sigmoid is, 0..1.

        x: (1, 4, S, S) as `Square.input` makes it. settings: all of the card's; those of size, fit
        and hint are not looked at. Errors as of `matte`.
        """
        with memory_translated(self.name, x.shape[-2:], _SMALLER), torch.inference_mode():
            done = self._computed(x, settings, self._refiner_of(settings), exact, checkpoint)
            return done, sigmoid(done.made.logits)

    @property
    def network(self) -> Greenformer:
        """The loaded network, in evaluation, without gradients."""
        assert self._network is not None, "load() comes before this"
        return self._network

    @property
    def screen(self) -> str:
        """The screen that the checkpoint was trained on."""
        return self._screen

    def size_of(self, asked: int) -> int:
        """The side of the square; by memory it is chosen once, so that a shot has one size."""
        if asked % SIZE_MULTIPLE:
            raise ModelError(
                f"img_size of model '{self.name}' must be a multiple of {SIZE_MULTIPLE}, such as "
                f"512, 1024, 1536 or 2048, or 0; got {asked}",
                field="params.settings.img_size",
                reason="setting",
            )
        if asked != BY_MEMORY:
            return asked
        self._size = self._size or size_for(self._device)
        return self._size

    def _refiner_of(self, settings: Mapping[str, Any]) -> str:
        refiner = str(settings["refiner"]) if settings["refiner_scale"] else OFF
        if refiner != OFF and not self._refines:
            raise ModelError(
                f"the checkpoint of model '{self.name}' has no refiner: set refiner to off, or "
                "add the whole checkpoint",
                field="params.settings.refiner",
                reason="no_refiner",
            )
        return refiner

    def _computed(
        self,
        x: Tensor,
        settings: Mapping[str, Any],
        refiner: str,
        exact: bool,
        checkpoint: Checkpoint,
    ) -> Computed:
        """The logits of a frame, all of them finite."""
        precision = self._precision_of(str(settings["precision"]), exact)
        scale = float(settings["refiner_scale"])
        if exact:
            computed = Computed(self._plain(x, refiner, scale, checkpoint), precision)
        else:
            ways = ways_for(refiner, x.shape[-1], self._device)
            # `full_frame` is what the artist asked for.
            ways = ways[-1:] if self._less and refiner == "auto" else ways
            made = self._in_precision(precision)(x, ways, scale, checkpoint)
            computed = Computed(made, precision)
            if precision != "float32" and not _is_finite(made.logits):
                made = self._in_precision("float32")(x, ways, scale, checkpoint)
                computed = Computed(made, "float32", overflowed=True)
        if not _is_finite(computed.made.logits):
            raise ModelError(
                f"model '{self.name}' gave NaN or infinite values for this frame - its weights do "
                "not suit it",
                reason="nonfinite",
            )
        return computed

    def _precision_of(self, asked: str, exact: bool) -> str:
        if exact and asked not in ("auto", "float32"):
            raise ModelError(
                f"exact computes in float32, and precision is {asked}: leave out one of them",
                field="params.settings.precision",
                reason="precision",
            )
        if asked != "auto":
            return asked
        if exact or self._device.type != "cuda":
            return "float32"
        capable = torch.cuda.get_device_capability(self._device) >= BFLOAT16_CAPABILITY
        return "bfloat16" if capable else "float16"

    def _in_precision(self, precision: str) -> FastGreenformer:
        """The network in a precision, prepared on first use."""
        assert self._network is not None
        dtype = DTYPES[precision]
        if dtype not in self._fast:
            self._fast[dtype] = FastGreenformer(self._network, dtype)
        return self._fast[dtype]

    def _plain(self, x: Tensor, refiner: str, scale: float, checkpoint: Checkpoint) -> Made:
        """The published forward."""
        assert self._network is not None
        logits = self._network.logits(x, 0.0 if refiner == OFF else scale, checkpoint)
        return Made(logits, OFF if refiner == OFF else FULL_FRAME)


def _is_finite(logits: Tensor) -> bool:
    return bool(torch.isfinite(logits).all())


def labels_of(done: Computed, settings: Mapping[str, Any]) -> list[str]:
    """What was not as asked for, or not as trained."""
    found = {
        REFINER_TILED: done.made.way in (BY_LAYERS, BY_PREFIX),
        HALF_OVERFLOW: done.overflowed,
        SCALE_ABOVE_1: settings["refiner_scale"] > USUAL_SCALE and done.made.way != OFF,
    }
    return [label for label, holds in found.items() if holds]
