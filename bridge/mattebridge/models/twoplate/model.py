"""`twoplate` as a model of the engine: one frame, plate and clean plate, perhaps a hint.

    grain is taken from what the keyer sees, and where it is strong from both pictures (`calm`), and
    then given back to the foreground at the end

    `difference` --> soft edges above white as the network can see them (`dimmed`)
                 --> coarse net, whole frame --> refiner, in the tiles where something is unsure
                                                  (`tiles`; on a GPU everywhere: `whole`)
                 --> strands that the keyer resolves --> alpha without the plate's grain
                 --> a linear plate explained in light --> light above white, which the network
                     does not see --> without islands far from the subject, and things of the set
                     that were moved

A small subject in a large frame is matted in a window around it (`window`). With `exact` all of
that is refined, as one. A frame before a green or blue screen is given to
`screen` (`screens`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

import torch
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mattebridge.checkpoint import Checkpoint
from mattebridge.errors import ModelError
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.difference.card import DIFFERENCE, specks_of
from mattebridge.models.difference.islands import without_islands
from mattebridge.models.difference.keyer import DifferenceModel
from mattebridge.models.difference.moved import without_moved
from mattebridge.models.difference.noise import pixel_noise
from mattebridge.models.difference.small import Small
from mattebridge.models.later import Later
from mattebridge.models.precision import PRECISION
from mattebridge.models.pytorch.fold import folded
from mattebridge.models.pytorch.frames import (
    Frame,
    arrays_of,
    given_back,
    memory_translated,
    tensor_of,
)
from mattebridge.models.pytorch.graphs import Graphs
from mattebridge.models.pytorch.precision import AlphaOf, check_holds, dtype_for
from mattebridge.models.pytorch.threads import in_one_way
from mattebridge.models.pytorch.weights import weights_bytes
from mattebridge.models.screen.card import SCREEN
from mattebridge.models.twoplate.card import WEIGHTS
from mattebridge.models.twoplate.ending import Ending, MadeMatte
from mattebridge.models.twoplate.grain import rows_between, without_grain
from mattebridge.models.twoplate.highlights import with_highlights
from mattebridge.models.twoplate.light import explain_in_light
from mattebridge.models.twoplate.mixed import Lit
from mattebridge.models.twoplate.network import (
    SURE,
    NetworkMatte,
    TwoPlate,
    clamped,
    enlarged,
    padded,
)
from mattebridge.models.twoplate.screens import keyed_by_screen, screen_behind
from mattebridge.models.twoplate.start import Seen, seen_by_network
from mattebridge.models.twoplate.strands import put_strands
from mattebridge.models.twoplate.tiles import refined_in_tiles, small_inputs_by_rows
from mattebridge.models.twoplate.versions import from_state
from mattebridge.models.twoplate.whole import Planes, WholeFrame, WholeMatte
from mattebridge.models.twoplate.window import OF_SCREEN, Window, has_windows, mixed, windows_of
from mattebridge.models.weights.file import WeightsRecord, digest_of, read_whole
from mattebridge.models.weights.state_dict import load_strictly, parse_state_dict

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

Weights = Callable[[], Mapping[str, Tensor]]

_SMALLER = "use a smaller proxy or crop"
_LOOKS_LIKE = "They look like those of another network, or of another version of this one."


class _Prepared(NamedTuple):
    """The network in one precision, and in the form for a GPU, `None` on a CPU."""

    network: TwoPlate
    whole: Optional[WholeFrame]

    @property
    def memory_bytes(self) -> int:
        held = weights_bytes(self.network)
        return held + (0 if self.whole is None else self.whole.memory_bytes)


class TwoPlateModel(MattingModel):
    """The network with one set of weights."""

    takes_tensors = True

    def __init__(self, card: ModelCard, weights: Weights) -> None:
        """weights: gives the state dict; called at each load."""
        self.card = card
        self._weights = weights
        self._device = torch.device("cpu")
        self._prepared: dict[torch.dtype, _Prepared] = {}
        self._few_tiles = False
        self._keyer = DifferenceModel(DIFFERENCE)
        # Whether there were islands in the keyer's matte of the last frame.
        self._had_islands = False

    @classmethod
    def from_record(cls, card: ModelCard, record: WeightsRecord) -> TwoPlateModel:
        """The model of a file, which must still have the recorded digest when it is loaded."""
        return cls(card, lambda: parse_state_dict(record.read(), record.label))

    def load(self, device: str) -> None:
        """Read the weights and fold the norms into the convolutions.

        Raises `ModelError` if the weights are missing, were changed or do not fit.
        """
        self._device = torch.device(device)
        self._prepared = {torch.float32: self._prepare(self.plain_network())}
        self._keyer.load(device)

    def _prepare(self, network: TwoPlate, dtype: torch.dtype = torch.float32) -> _Prepared:
        network = in_one_way(folded(network, fuse_conv_bn_eval).to(self._device, dtype))
        return _Prepared(network, self._whole_frame(network))

    def _whole_frame(self, network: TwoPlate) -> Optional[WholeFrame]:
        """The form for a GPU, with nothing recorded yet; `None` on a CPU."""
        if self._device.type == "cpu":
            return None
        return WholeFrame(network, Graphs() if self._device.type == "cuda" else None)

    def _in_precision(self, precision: str, exact: bool) -> _Prepared:
        """The network in a precision, prepared on first use; `ModelError` where it cannot be."""
        assert torch.float32 in self._prepared, "load() comes before matte()"
        dtype = dtype_for(precision, self._device, self.name)
        if dtype != torch.float32 and exact:
            raise ModelError(
                f"exact computes in float32, and precision is {precision}: leave out one of them",
                field="params.settings.precision",
                reason="precision",
            )
        full = self._prepared[torch.float32]
        if dtype not in self._prepared:
            half = self._prepare(self.plain_network(), dtype)
            in_full, in_half = map(self._alpha_by, (full.network, half.network))
            check_holds(in_full, in_half, precision, self.name)
            self._prepared = {torch.float32: full, dtype: half}
        return self._prepared[dtype]

    def _alpha_by(self, network: TwoPlate) -> AlphaOf:
        """Alpha by a network, which has nothing recorded, for the check of a precision."""

        def alpha(*pair: Tensor) -> Tensor:
            plate, clean_plate = (image.to(self._device) for image in pair)
            # Any matte will do as the keyer's: opaque, empty and half parts.
            keyed = (8 * (plate - clean_plate).abs().mean(2)).clamp(0, 1)
            wide = keyed if network.takes_wide else None
            planes = Planes(plate, clean_plate, keyed, plate, None, None, wide)
            matte, _ = WholeFrame(network).of_network(planes, scene_linear=False, exact=True)
            return matte.alpha[0, 0]

        return alpha

    def plain_network(self) -> TwoPlate:
        """The network as it was trained, with its norms, in evaluation, on the CPU.

        Raises `ModelError` like `load`.
        """
        state = self._weights()
        network = from_state(state)
        load_strictly(network, state, looks_like=_LOOKS_LIKE)
        return network.float().eval()

    def unload(self) -> None:
        self._prepared = {}
        self._keyer.unload()

    def use_less_memory(self, less: bool) -> bool:
        """Refine a few tiles at a time, except with `exact`, which has none."""
        if less:
            self._prepared = {
                dtype: _Prepared(each.network, self._whole_frame(each.network))
                for dtype, each in self._prepared.items()
            }
        self._few_tiles = less
        self._keyer.use_less_memory(less)
        return less

    @property
    def memory_bytes(self) -> int:
        held = sum(each.memory_bytes for each in self._prepared.values())
        return held + self._keyer.memory_bytes

    @torch.inference_mode()
    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground.

        given: tensors of any device, or arrays; the output holds what the input does. Raises
        `ModelError` for a precision that cannot be used here, `OutOfMemoryError` where the device
        cannot hold the frame.
        """
        precision = str(given.settings.get("precision", PRECISION.default))
        prepared = self._in_precision(precision, given.exact)
        screen = None
        if given.settings.get("screen", "auto") == "auto":
            screen = screen_behind(given)
        times = 1 if screen is None else OF_SCREEN
        shape, small = given.plate.shape, None
        windows: list[Window] = []
        with memory_translated(self.name, shape, _SMALLER):
            if given.settings.get("window", "auto") == "auto" and has_windows(shape, times):
                small = Small(Frame.of(given, self._device), given.small)
                windows = windows_of(shape, small, specks_of(given.settings), times)
            made = None
            if len(windows) > 1 or (windows and windows[0].share < 1):
                given = replace(given, settles_later=False)  # what is mixed is known before
            if not windows or windows[-1].share < 1:
                made = self._matted(prepared, given, screen, small, checkpoint)
            for window in reversed(windows):
                part = self._matted(prepared, window.cut(given), screen, None, checkpoint)
                found = window.put(part, shape)
                made = found if made is None else mixed(found, made, window.share)
        assert made is not None
        return made

    def _matted(
        self,
        prepared: _Prepared,
        given: ModelInput,
        screen: Optional[str],
        small: Optional[Small],
        checkpoint: Checkpoint,
    ) -> ModelOutput:
        """A frame, or a window of one. screen: the colour of the screen behind. small: of this
        frame, where there is one already."""
        if screen is not None:
            return _by_screen(given, screen, checkpoint)
        frame = Frame.of(given, self._device)
        small = Small(frame, given.small) if small is None else small
        wide = prepared.network.takes_wide
        seen = seen_by_network(self._keyer, given, frame, small, checkpoint, wide=wide)
        frame, small, grain = seen.calm
        precision = str(given.settings.get("precision", PRECISION.default))
        ending = Ending(given, frame, small, grain, seen.start.keyed, precision)
        if prepared.whole is None or self._few_tiles:
            made = self._in_tiles(prepared, seen, given.exact, checkpoint)
            return ending.output(made)
        matte, later = self._at_once(prepared, seen, given.exact, checkpoint)
        if given.settles_later:
            return ending.unsettled(matte, later)
        return ending.output(later.settle(arrays_of(*later.looked_at)))

    def _in_tiles(
        self,
        prepared: _Prepared,
        seen: Seen,
        exact: bool,
        checkpoint: Checkpoint,
    ) -> MadeMatte:
        """On a CPU, and where memory is short: refined only where something is unsure."""
        network = prepared.network
        frame, start, brightest = seen.calm.frame, seen.start, seen.calm.small.brightest
        start.keyed.settle()
        height, width = frame.plate.shape[:2]
        factor = network.factor_for(height, width)
        bright = max(brightest) > 1
        grown = padded(seen.inputs(), factor)
        checkpoint("coarse")
        change = network.coarse(small_inputs_by_rows(network, grown, factor))
        if exact:
            made, share = clamped(network.refine(grown, enlarged(change, factor // 2))), 1.0
        else:
            made, share = refined_in_tiles(
                network, grown, change, factor, checkpoint, few=self._few_tiles
            )
        checkpoint("finish")
        if network.strands_put_back:
            lit = Lit.of(frame.plate, frame.clean_plate) if bright else None
            put_strands(made, grown, factor, height, width, lit)
        made = NetworkMatte(*(plane[:, :, :height, :width] for plane in made))
        noise = grain_of(frame, made.alpha[0, 0])
        made = without_grain(made, grown.clean_plate, noise)
        alpha = made.alpha[0, 0].contiguous()
        foreground = made.foreground[0].permute(1, 2, 0).contiguous()
        explain_in_light(frame, alpha, foreground, noise, start.foreground if bright else None)
        keyed = start.keyed.alpha, start.keyed.foreground
        with_highlights(frame, alpha, foreground, keyed, brightest)
        return MadeMatte(alpha, foreground, share, noise, {})

    def _at_once(
        self,
        prepared: _Prepared,
        seen: Seen,
        exact: bool,
        checkpoint: Checkpoint,
    ) -> tuple[WholeMatte, Later[MadeMatte]]:
        """On a GPU: everything refined. The matte of a keyer without islands, and what holds."""
        whole = prepared.whole
        assert whole is not None
        frame, start, brightest = seen.calm.frame, seen.start, seen.calm.small.brightest
        outside = None if frame.outside is None else frame.outside.float()
        highlights = max(brightest) > 1
        keyed = start.keyed
        if self._had_islands:
            keyed.settle()
            self._had_islands = keyed.had_islands

        def computed() -> WholeMatte:
            pictures = frame.plate, frame.clean_plate, keyed.alpha, start.foreground
            own = None if start.wide_alpha is None or not highlights else keyed.foreground
            planes = Planes(*pictures, frame.hint, outside, start.wide_alpha, own)
            return whole(
                planes, scene_linear=frame.scene_linear, exact=exact, highlights=highlights
            )

        def settled(arrays: Sequence[FloatImage]) -> MadeMatte:
            made, (small, numbers, *of_keyer) = first, arrays
            if keyed.settle(of_keyer):
                # Few mattes have islands. Those of later frames are settled before the network.
                self._had_islands = keyed.had_islands
                made = computed()
                small, numbers = arrays_of(made.small, made.numbers)
            share, noise, *ends = map(float, numbers)
            # What is emptied later, islands, is 0.
            ranges = {"alpha": (min(ends[0], 0.0), ends[1]), "foreground": (ends[2], ends[3])}
            notes = {} if made.graph is None else {"graph": made.graph}
            return MadeMatte(made.alpha, made.foreground, share, noise, notes, small, ranges)

        checkpoint("coarse")
        first = computed()
        checkpoint("finish")
        return first, Later((first.small, first.numbers, *keyed.looked_at), settled)


def _by_screen(given: ModelInput, screen: str, checkpoint: Checkpoint) -> ModelOutput:
    """The frame before a screen of that colour, without islands and moved things as any other."""
    made = keyed_by_screen(given, screen, checkpoint)
    frame = Frame.of(given)
    found = tensor_of(made.alpha, frame.plate.device)
    pictures = frame.plate, frame.clean_plate
    alpha, _ = without_islands(found, *pictures, specks_of(given.settings))
    (made_alpha,) = given_back(given.plate, alpha)
    notes = {**made.notes, "keyer": SCREEN.name, "alpha_hint_used": given.alpha_hint is not None}
    return without_moved(replace(made, alpha=made_alpha, notes=notes), given)


def grain_of(frame: Frame, alpha: Tensor) -> float:
    """The deviation between plate and clean plate where `alpha` (H, W) has nothing of a subject;
    of as many rows as are enough."""
    every = rows_between(alpha)
    empty = alpha[::every] < SURE
    if frame.outside is not None:
        empty &= ~frame.outside[::every]
    return pixel_noise(frame.plate[::every], frame.clean_plate[::every], empty)


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
    parameters = sum(tensor.numel() for tensor in network.parameters())
    return {"parameters": parameters, "version": network.version}
