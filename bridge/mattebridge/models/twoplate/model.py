"""`twoplate` as a model of the engine: one frame, plate and clean plate, perhaps a hint.

    `difference` --> coarse net, whole frame --> refiner, in the tiles where something is unsure
                                                  (`tiles`; on a GPU everywhere: `whole`)
                 --> strands that the keyer resolves --> alpha without the plate's grain
                 --> a linear plate explained in light --> light above white, which the network
                     does not see --> without islands far from the subject, and things of the set
                     that were moved

With `exact` the whole frame is refined, as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mattebridge.checkpoint import Checkpoint
from mattebridge.color import FloatImage
from mattebridge.errors import ModelError
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.difference.islands import without_islands
from mattebridge.models.difference.keyer import keyed, pixel_noise
from mattebridge.models.difference.moved import without_moved
from mattebridge.models.pytorch.fold import folded
from mattebridge.models.pytorch.frames import array_of, arrays_of, memory_translated, tensor_of
from mattebridge.models.pytorch.graphs import Graphs
from mattebridge.models.twoplate.card import WEIGHTS
from mattebridge.models.twoplate.grain import without_grain, without_grain_at_once
from mattebridge.models.twoplate.highlights import with_highlights
from mattebridge.models.twoplate.light import explain_in_light
from mattebridge.models.twoplate.network import (
    SURE,
    Inputs,
    NetworkMatte,
    TwoPlate,
    clamped,
    factor_for,
    from_state,
    inputs_of,
    padded,
)
from mattebridge.models.twoplate.strands import with_strands
from mattebridge.models.twoplate.tiles import refined_in_tiles, small_inputs_by_rows
from mattebridge.models.twoplate.whole import Planes, WholeFrame
from mattebridge.models.weights.file import WeightsRecord, digest_of, read_whole
from mattebridge.models.weights.state_dict import load_strictly, parse_state_dict

Weights = Callable[[], Mapping[str, Tensor]]

_SMALLER = "use a smaller proxy or crop"
_LOOKS_LIKE = "They look like those of another network, or of another version of this one."


class _Made(NamedTuple):
    """The network's results in main memory: alpha (H, W), foreground (H, W, 3), and of it all."""

    alpha: FloatImage
    foreground: FloatImage
    share: float
    noise: float
    notes: Mapping[str, str]


class TwoPlateModel(MattingModel):
    """The network with one set of weights."""

    def __init__(self, card: ModelCard, weights: Weights) -> None:
        """weights: gives the state dict; called at each load."""
        self.card = card
        self._weights = weights
        self._device = torch.device("cpu")
        self._network: Optional[TwoPlate] = None
        self._whole: Optional[WholeFrame] = None
        self._few_tiles = False

    @classmethod
    def from_record(cls, card: ModelCard, record: WeightsRecord) -> TwoPlateModel:
        """The model of a file, which must still have the recorded digest when it is loaded."""
        return cls(card, lambda: parse_state_dict(record.read(), record.label))

    def load(self, device: str) -> None:
        """Read the weights and fold the norms into the convolutions.

        Raises `ModelError` if the weights are missing, were changed or do not fit.
        """
        self._device = torch.device(device)
        self._network = folded(self.plain_network(), fuse_conv_bn_eval).to(self._device)
        self._whole = self._whole_frame(self._network)

    def _whole_frame(self, network: TwoPlate) -> Optional[WholeFrame]:
        """The form for a GPU, with nothing recorded yet; `None` on a CPU."""
        if self._device.type == "cpu":
            return None
        return WholeFrame(network, Graphs() if self._device.type == "cuda" else None)

    def plain_network(self) -> TwoPlate:
        """The network as it was trained, with its norms, in evaluation, on the CPU.

        Raises `ModelError` like `load`.
        """
        state = self._weights()
        network = from_state(state)
        load_strictly(network, state, looks_like=_LOOKS_LIKE)
        return network.float().eval()

    def unload(self) -> None:
        self._network = self._whole = None

    def use_less_memory(self, less: bool) -> bool:
        """Refine a few tiles at a time, except with `exact`, which has none."""
        if less and self._network is not None:
            self._whole = self._whole_frame(self._network)
        self._few_tiles = less
        return less

    @property
    def memory_bytes(self) -> int:
        state = {} if self._network is None else self._network.state_dict()
        recorded = 0 if self._whole is None else self._whole.memory_bytes
        return sum(int(tensor.nbytes) for tensor in state.values()) + recorded

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground.

        Raises `OutOfMemoryError` where the device cannot hold the frame.
        """
        assert self._network is not None, "load() comes before matte()"
        height, width = given.plate.shape[:2]
        first = keyed(given, checkpoint)
        with memory_translated(self.name, (height, width), _SMALLER), torch.inference_mode():
            in_tiles = self._whole is None or self._few_tiles
            compute = self._in_tiles if in_tiles else self._at_once
            made = compute(given, first, checkpoint)
        explain_in_light(given, made.alpha, made.foreground, made.noise)
        with_highlights(given, made.alpha, made.foreground, first)
        without_islands(made.alpha, given)
        notes = {
            **first.notes,
            "alpha_hint_used": given.alpha_hint is not None,
            "refined_share": round(made.share, 3),
            "noise": round(made.noise, 4),
            **made.notes,
        }
        output = ModelOutput(made.alpha, made.foreground, degraded=first.degraded, notes=notes)
        return without_moved(output, given)

    def _in_tiles(self, given: ModelInput, first: ModelOutput, checkpoint: Checkpoint) -> _Made:
        """On a CPU, and where memory is short: refined only where something is unsure."""
        network = self._network
        assert network is not None
        height, width = given.plate.shape[:2]
        factor = factor_for(height, width)
        grown = padded(self._inputs(given, first), factor)
        checkpoint("coarse")
        change = network.coarse(small_inputs_by_rows(grown, factor))
        if given.exact:
            made, share = clamped(network.refiner(grown, change, factor)), 1.0
        else:
            made, share = refined_in_tiles(
                network, grown, change, factor, checkpoint, few=self._few_tiles
            )
        made = NetworkMatte(*(plane[:, :, :height, :width] for plane in made))
        checkpoint("finish")
        made = with_strands(made, grown, factor)
        noise = grain_of(given, array_of(made.alpha[0, 0]))
        made = without_grain(made, grown.clean_plate, noise)
        foreground = array_of(made.foreground[0].permute(1, 2, 0))
        return _Made(array_of(made.alpha[0, 0]), foreground, share, noise, {})

    def _at_once(self, given: ModelInput, first: ModelOutput, checkpoint: Checkpoint) -> _Made:
        """On a GPU: everything refined; waits for the sample of alpha, and for the results."""
        assert self._whole is not None
        planes = self._planes(given, first)
        checkpoint("coarse")
        made = self._whole(planes, scene_linear=given.scene_linear, exact=given.exact)
        checkpoint("finish")
        rows = sampled_rows(*given.plate.shape[:2])
        noise = grain_of_rows(given, array_of(made.alpha[rows].contiguous()), rows)
        clean_plate = planes.clean_plate.clamp(0, 1)
        steady = without_grain_at_once(made.alpha, made.foreground, clean_plate, noise)
        alpha, foreground, share = arrays_of(*steady, made.share)
        notes = {} if made.graph is None else {"graph": made.graph}
        return _Made(alpha, foreground, float(share[0]), noise, notes)

    def _planes(self, given: ModelInput, first: ModelOutput) -> Planes:
        assert given.clean_plate is not None
        pictures = (given.plate, given.clean_plate, first.alpha, first.foreground)
        others = (given.alpha_hint, given.outside)
        return Planes(
            *(tensor_of(picture, self._device) for picture in pictures),
            *(None if plane is None else tensor_of(plane, self._device) for plane in others),
        )

    def _inputs(self, given: ModelInput, first: ModelOutput) -> Inputs:
        assert given.clean_plate is not None
        alpha = tensor_of(first.alpha, self._device)[None, None]
        return inputs_of(
            self._picture(given.plate),
            self._picture(given.clean_plate),
            (alpha, self._picture(first.foreground)),
            self._plane(given.alpha_hint),
            self._plane(given.outside),
            scene_linear=given.scene_linear,
        )

    def _picture(self, image: FloatImage) -> Tensor:
        """(H, W, 3) as contiguous (1, 3, H, W), clipped to 0..1, as the network was trained."""
        picture = tensor_of(image, self._device).permute(2, 0, 1)[None]
        return torch.clamp(picture, 0, 1, out=torch.empty(picture.shape, device=self._device))

    def _plane(self, plane: Optional[np.ndarray]) -> Optional[Tensor]:
        return None if plane is None else tensor_of(plane, self._device)[None, None]


def grain_of(given: ModelInput, alpha: FloatImage) -> float:
    """The deviation between plate and clean plate where `alpha` (H, W) has nothing of a subject."""
    rows = sampled_rows(*alpha.shape)
    return grain_of_rows(given, alpha[rows], rows)


def sampled_rows(height: int, width: int) -> slice:
    """The rows that are enough to measure grain."""
    return slice(None, None, max(1, height * width // 400_000))


def grain_of_rows(given: ModelInput, alpha: FloatImage, rows: slice) -> float:
    """The same from some rows of alpha, those of the frame that `rows` takes."""
    assert given.clean_plate is not None
    empty = alpha < SURE
    if given.outside is not None:
        empty &= ~given.outside[rows]
    return pixel_noise(given.plate[rows], given.clean_plate[rows], empty)


def shipped_model(card: ModelCard) -> TwoPlateModel:
    """The model with the package's own weights, which must have the card's digest."""

    def weights() -> Mapping[str, Tensor]:
        label = f"the weights of model '{card.name}'"
        data = read_whole(WEIGHTS, label)
        found = digest_of(data)
        if found != card.digest:
            raise ModelError(
                f"{label} in {WEIGHTS} have the digest {found}, not {card.digest} - install "
                "mattebridge again",
                reason="digest",
            )
        return parse_state_dict(data, label)

    return TwoPlateModel(card, weights)


def describe_state(state: Mapping[str, Tensor]) -> dict[str, str | int]:
    """The settings of the record of weights; raises `ModelError` for those of other networks."""
    if "coarse.down.0.0.weight" not in state or "refiner.enter.weight" not in state:
        raise ModelError("these are not weights of twoplate", reason="family")
    network = from_state(state)
    load_strictly(network, state, looks_like=_LOOKS_LIKE)
    return {"parameters": sum(tensor.numel() for tensor in network.parameters())}
