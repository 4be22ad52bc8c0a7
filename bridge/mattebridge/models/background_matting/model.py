"""The BackgroundMattingV2 networks as a model of the engine: one frame, plate and clean plate.

    WeightsRecord.read --> state dict --network_from--> plain network --prepared--> matte
                                              `-- exact=True: the plain forward itself

Alpha and foreground are the published ones, of plates cut at 1. The engine gives highlights their
light back (engine/postprocess.py), as far as it is the subject's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Callable, Optional

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.color import FloatImage
from mattebridge.errors import ModelError, TooLargeError
from mattebridge.models.background_matting.card import EXACT_FACTOR, RECOMMENDED, recommended
from mattebridge.models.background_matting.fast import FastMatting
from mattebridge.models.background_matting.gpu import GpuMatting
from mattebridge.models.background_matting.matting import Look, Matting, NetworkMatte
from mattebridge.models.background_matting.networks import MattingBase, MattingRefine
from mattebridge.models.background_matting.recognise import network_from, recognise
from mattebridge.models.background_matting.refiner import CELL
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput, Ranges
from mattebridge.models.later import Later
from mattebridge.models.pytorch.frames import arrays_of, given_back, memory_translated, tensor_of
from mattebridge.models.pytorch.graphs import Graphs
from mattebridge.models.pytorch.precision import AlphaOf, check_holds, dtype_for
from mattebridge.models.pytorch.weights import weights_bytes
from mattebridge.models.weights.file import WeightsRecord
from mattebridge.models.weights.state_dict import parse_state_dict
from mattebridge.wire import oslayer

Weights = Callable[[], Mapping[str, Tensor]]

# What the networks clamp their results to.
_CUT: Ranges = {"alpha": (0.0, 1.0), "foreground": (0.0, 1.0)}
_SMALLER = "use a smaller backbone_scale, MattingRefine instead of MattingBase, or a smaller frame"


class BackgroundMattingModel(MattingModel):
    """One checkpoint, with the settings recommended for the frame unless the request has others."""

    takes_tensors = True

    def __init__(self, card: ModelCard, weights: Weights) -> None:
        """weights: gives the state dict; called at each load, and once more for `exact`."""
        self.card = card
        self._weights = weights
        self._device, self._less_memory = torch.device("cpu"), False
        self._fast: Optional[Matting] = None
        self._halves: dict[torch.dtype, Matting] = {}
        self._plain: Optional[MattingBase] = None

    @classmethod
    def from_record(cls, card: ModelCard, weights: WeightsRecord) -> BackgroundMattingModel:
        """The model of a file, which must still have the recorded digest when it is loaded."""
        return cls(card, lambda: parse_state_dict(weights.read(), weights.label))

    def load(self, device: str) -> None:
        """Read the weights and prepare them for `device`; raises `ModelError` if they do not fit.

        The unfolded weights are not kept: few requests are `exact`.
        """
        self._device, self._less_memory = torch.device(device), False
        self._fast = self._prepared()

    def use_less_memory(self, less: bool) -> bool:
        """On a GPU compute in tiles, as a CPU always does; recordings are dropped at once."""
        if self._device.type != "cpu" and less != self._less_memory:
            self._less_memory = less
            self._fast = None
            self._halves.clear()
        return self._less_memory

    def unload(self) -> None:
        self._fast = self._plain = None
        self._halves.clear()

    @property
    def memory_bytes(self) -> int:
        fast = [self._fast] if self._fast is not None else []
        plain = 0 if self._plain is None else weights_bytes(self._plain)
        return plain + sum(matting.memory_bytes for matting in (*fast, *self._halves.values()))

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground; extra `error` and, with a refiner, `refinement`.

        Raises `ModelError` for a precision that cannot be used here, `OutOfMemoryError` where the
        device cannot hold the frame.
        """
        plate, clean_plate = self._pair(given)
        # Once more, because callers other than the engine give some of them only.
        settings = self.settings_schema.validate(given.settings, model=self.name)
        precision, look = str(settings.pop("precision")), self._look(settings, given.plate)
        with memory_translated(self.name, given.plate.shape, _SMALLER):
            matting = self._matting(precision, given.exact)
            with torch.inference_mode():
                if given.exact:
                    made = self._exactly(plate, clean_plate, look, checkpoint)
                else:
                    made = matting(plate, clean_plate, look, checkpoint, is_cut=True)
                ran = "float32" if precision == "auto" else precision
                return _output(made, given, look, {"exact": given.exact, "precision": ran})

    def _matting(self, precision: str, exact: bool) -> Matting:
        """The weights in a precision, prepared on first use; `ModelError` where they cannot be."""
        if self._fast is None:
            self._fast = self._prepared()
        dtype = dtype_for(precision, self._device, self.name)
        if dtype == torch.float32:
            return self._fast
        if exact:
            raise ModelError(
                f"exact computes in float32, and precision is {precision}: leave out one of them",
                field="params.settings.precision",
                reason="precision",
            )
        if dtype not in self._halves:
            half = self._prepared(dtype)
            check_holds(_alpha_by(self._fast), _alpha_by(half), precision, self.name)
            self._halves = {dtype: half}
        return self._halves[dtype]

    def _prepared(self, dtype: torch.dtype = torch.float32) -> Matting:
        return prepared(self._network(), dtype, in_tiles=self._less_memory)

    def _network(self) -> MattingBase:
        return network_from(self._weights()).to(self._device)

    def _pair(self, given: ModelInput) -> tuple[Tensor, Tensor]:
        assert given.clean_plate is not None
        return tensor_of(given.plate, self._device), tensor_of(given.clean_plate, self._device)

    @staticmethod
    def _look(settings: dict[str, Any], plate: FloatImage) -> Optional[Look]:
        """The request's settings, else the recommended ones; `None` without a refiner."""
        if not settings:
            return None
        advice = recommended(*plate.shape[:2])
        for name, value in advice._asdict().items():
            if settings[name] == RECOMMENDED:
                settings[name] = value
        return Look(**settings)

    def _exactly(
        self, plate: Tensor, clean_plate: Tensor, look: Optional[Look], checkpoint: Checkpoint
    ) -> NetworkMatte:
        """The plain forward, channels first as published."""
        self._check_exact_fits(plate)
        if self._plain is None:
            self._plain = self._network()
        network = self._plain
        if look is not None:
            assert isinstance(network, MattingRefine)
            look.apply_to(network)
        checkpoint("coarse")
        pair = (
            image.permute(2, 0, 1)[None].clamp(0, 1).contiguous() for image in (plate, clean_plate)
        )
        returned = network(*pair)
        checkpoint("finish")
        refined = look is not None
        foreground = returned[1][0].permute(1, 2, 0)
        error = returned[4 if refined else 2][0, 0]
        return NetworkMatte(
            returned[0][0, 0], foreground, error, returned[5][0, 0] if refined else None
        )

    def _check_exact_fits(self, plate: Tensor) -> None:
        """Raise `TooLargeError` for a frame that main memory cannot hold: it has no tiles."""
        layer = oslayer.find()
        if layer is None or plate.device.type != "cpu":
            return
        height, width, _ = plate.shape
        needed = int(height * width * self.card.bytes_per_pixel * EXACT_FACTOR)
        if needed > layer.total_memory_bytes() / 2:
            raise TooLargeError(
                f"the exact forward of model '{self.name}' needs about {needed / 1e9:.0f} GB for "
                f"a frame of {width}x{height}, more than half of this machine's memory - leave "
                "out exact: the faster path works in tiles",
                needed_bytes=needed,
            )


def prepared(
    network: MattingBase, dtype: torch.dtype = torch.float32, *, in_tiles: bool = False
) -> Matting:
    """The way to compute a network that suits the device of its weights, or the one in tiles."""
    device = next(network.parameters()).device
    if in_tiles or device.type == "cpu":
        return FastMatting(network, dtype)
    return GpuMatting(network, dtype, Graphs() if device.type == "cuda" else None)


def describe_state(state: Mapping[str, Tensor]) -> dict[str, str | int]:
    """Class, backbone and kernel of weights, for their record.

    Raises `ModelError` where they are of another network, or do not fit the one they seem to be of.
    """
    architecture = recognise(state)
    network_from(state)
    found: dict[str, str | int] = {"class": architecture.family, "backbone": architecture.backbone}
    if architecture.kernel_size is not None:
        found["kernel"] = architecture.kernel_size
    return found


def _alpha_by(matting: Matting) -> AlphaOf:
    """Alpha by a network, for the check of a precision."""
    return lambda *pair: matting(*(image.to(matting.device) for image in pair)).alpha


def _output(
    made: NetworkMatte, given: ModelInput, look: Optional[Look], notes: dict[str, Any]
) -> ModelOutput:
    cells = [] if made.cells is None else [made.cells]
    alpha, foreground, error, *refined = given_back(
        given.plate, made.alpha, made.foreground, made.error, *cells
    )
    extra = {"error": error, **({"refinement": refined[0]} if refined else {})}
    images = {"alpha": alpha, "foreground": foreground, **extra}
    if look is not None and refined:
        notes |= {"backbone_scale": look.backbone_scale, "refine_mode": look.refine_mode}
    if made.graph is not None:
        notes["graph"] = made.graph
    output = ModelOutput(alpha, foreground, extra, notes=notes)
    if not isinstance(alpha, Tensor):
        return _counted(output, int((refined[0] > 0).sum())) if refined else output
    numbers = _numbers(images)

    def settled(arrays: Sequence[FloatImage]) -> ModelOutput:
        (found,) = arrays
        ends = found[: 2 * len(images)].reshape(-1, 2).tolist()
        ranges = {name: (lowest, highest) for name, (lowest, highest) in zip(images, ends)}
        known = replace(output, ranges=ranges)
        return _counted(known, int(found[-1])) if refined else known

    if given.settles_later:
        return replace(output, ranges=_CUT, later=Later((numbers,), settled))
    return settled(arrays_of(numbers))


def _numbers(images: Mapping[str, Tensor]) -> Tensor:
    """The lowest and highest value of each image, then the number of refined cells if there are
    any; float32, which holds any number of cells of a frame."""
    numbers = [end for image in images.values() for end in image.aminmax()]
    if "refinement" in images:
        numbers.append((images["refinement"] > 0).sum(dtype=torch.float32))
    return torch.stack(numbers)


def _counted(output: ModelOutput, cells: int) -> ModelOutput:
    """With the number of pixels in these refined cells in its notes."""
    return replace(output, notes={**output.notes, "refined_pixels": cells * CELL**2})
