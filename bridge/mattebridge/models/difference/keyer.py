"""The classical keyer: what differs from the clean plate is the subject. No weights.

    evidence --> trimap --> palette --> mixtures --> neighbours --> foreground
    working size (long side at most 960)  |  full size, unknown pixels only
    arrays in main memory                 |  tensors on the frame's device
    on a CUDA device all of it is there, and recorded (`recorded/`)

1. `evidence`: how far each pixel is from the set, apart from shadows; where the set shows through.
2. `trimap`: what is subject, set or unknown, by the pixel and its neighbours.
3. `mixture`: unknown pixels as mixtures of the set with colours of the subject nearby.
4. `solved`: doubtful pixels follow their neighbours (`smoothing`). Islands are emptied (`islands`),
   and the foreground is unmixed (`foreground`); on a GPU the other way round (`Begun`).
5. `moved`: things of the set that stand elsewhere in the clean plate are emptied.

With `method="closed_form"` steps 3 and 4 are closed-form matting instead: slow, for stills.

Deterministic, and the same for any number of threads. Values above `BRIGHTEST` count as that; the
foreground keeps the plate's own values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

import numpy as np
import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.closed_form import closed_form
from mattebridge.models.difference.evidence import RAMP, Evidence, gather
from mattebridge.models.difference.foreground import foreground_of
from mattebridge.models.difference.full_size import enlarged
from mattebridge.models.difference.islands import without_islands
from mattebridge.models.difference.moved import without_moved
from mattebridge.models.difference.recorded.keyed import KeyerSettings, RecordedKeyer, Settled
from mattebridge.models.difference.small import Small
from mattebridge.models.difference.solved import (
    Finished,
    Known,
    SolveInput,
    solved_at_once,
    solved_here,
)
from mattebridge.models.difference.trimap import Trimap, make_trimaps, new_edges
from mattebridge.models.difference.wide import WIDE, Opened, opened_inside, with_opened
from mattebridge.models.later import Later
from mattebridge.models.pytorch.frames import Frame, array_of, arrays_of, given_back, tensor_of
from mattebridge.models.pytorch.graphs import Graphs

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Ranges

# Labels of `degraded`.
NO_SET = "no_set_visible"


@dataclass
class Begun:
    """The keyer's matte of a frame, in which there may be islands until it is settled.

    alpha (H, W), foreground (H, W, 3): tensors of the frame's device. looked_at: what is to be
    looked at for islands; nothing on a CPU, where that is done already. A GPU is not waited for
    before it: most mattes have none, and a model that starts from this one begins with it as it is.
    settled: gives what is known of the matte then, which may have to be made once more; None where
    it is known already. had_islands: whether there were any. small_alpha: the settled alpha at
    working size, where it is known. notes, degraded, ranges: see `ModelOutput`.
    """

    frame: Frame
    specks: float
    alpha: Tensor
    colour: Tensor
    foreground: Tensor
    places: Optional[Tensor]
    looked_at: tuple[Tensor, ...] = ()
    settled: Optional[Callable[[Sequence[FloatImage]], Settled]] = None
    had_islands: bool = False
    small_alpha: Optional[FloatImage] = None
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    ranges: Optional[Ranges] = None

    @torch.inference_mode()
    def settle(self, arrays: Optional[Sequence[FloatImage]] = None) -> bool:
        """Empty the islands; whether there were any, or the matte was made once more. arrays: the
        values of `looked_at`, in main memory, if they are there already."""
        if not self.looked_at:
            return False
        arrays = arrays_of(*self.looked_at) if arrays is None else arrays
        self.looked_at = ()
        changed, has_subject = False, True
        if self.settled is not None:
            known, self.settled = self.settled(arrays), None
            arrays, facts = (known.small, known.numbers), known.facts
            if known.made is not None:
                self._take(known.made)
                changed = True
            has_subject = facts.has_subject
            self.degraded = () if facts.has_set else (NO_SET,)
            if has_subject:
                self.notes = _notes(facts.unknown_at_working_size / arrays[0].size)
        small, numbers = arrays
        plate, clean_plate = self.frame.plate, self.frame.clean_plate
        self.small_alpha = small  # without any subject nothing is an island
        if has_subject:
            self.alpha, self.small_alpha = without_islands(
                self.alpha, plate, clean_plate, self.specks, small
            )
        if self.small_alpha is not None:
            low, high, lowest, highest = map(float, numbers[:4])
            # What is emptied later, moved things, is 0.
            self.ranges = {"alpha": (min(low, 0.0), high), "foreground": (lowest, highest)}
            return changed
        self.had_islands = True
        self.foreground = foreground_of(self.frame, self.colour, self.alpha, self.places)
        return True

    def _take(self, made: Finished) -> None:
        """Another matte of the frame."""
        self.alpha, self.colour, self.places = made.solved[:3]
        self.foreground = made.foreground

    def unsettled(self, later: Later[ModelOutput], brightest: float) -> ModelOutput:
        """The matte as it is, tensors of a GPU; brightest: the highest value of the plate."""
        alpha: Any = self.alpha
        foreground: Any = self.foreground
        return ModelOutput(alpha, foreground, ranges=reach(brightest), later=later)

    def output(self, given: ModelInput) -> ModelOutput:
        """The settled matte, as the input was given."""
        assert not self.looked_at
        images = given_back(given.plate, self.alpha, self.foreground)
        return ModelOutput(
            images[0], images[1], degraded=self.degraded, notes=self.notes, ranges=self.ranges
        )


class DifferenceModel(MattingModel):
    """See the module; the card has the settings and their ranges.

    alpha_hint, if given: where it is 1, likeness to the set counts little (a subject of the set's
    colour is kept if its surroundings agree); farther than a twentieth of the frame outside it
    there is no subject. A hint that shows no subject is not used.
    """

    takes_tensors = True

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self._graphs: Optional[Graphs] = None
        self._recorded: Optional[RecordedKeyer] = None
        self._device = torch.device("cpu")

    def load(self, device: str) -> None:
        """A CUDA device records its steps."""
        self._device = torch.device(device)
        self.use_less_memory(False)

    def unload(self) -> None:
        if self._graphs is not None:
            # A frame in hand may still hold them.
            self._graphs.clear()
        self._graphs = self._recorded = None

    def use_less_memory(self, less: bool) -> bool:
        """Without recordings, which hold the memory of all their steps."""
        self.unload()
        records = self._device.type == "cuda"
        self._graphs = Graphs() if records and not less else None
        self._recorded = RecordedKeyer(self._graphs) if records else None
        return records and less

    @property
    def memory_bytes(self) -> int:
        """The memory of recordings, and of the matrices that they read."""
        return 0 if self._recorded is None else self._recorded.memory_bytes

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground of one frame. See `MattingModel.matte`.

        given: tensors of any device, or arrays; the output holds what the input does.
        """
        frame = Frame.of(given)
        small = Small(frame, given.small)
        begun = self.begun(given, frame, small, checkpoint)

        def settled(arrays: Optional[Sequence[FloatImage]] = None) -> ModelOutput:
            begun.settle(arrays)
            output = begun.output(given)
            return without_moved(output, given, lambda: small.pictures, begun.small_alpha)

        if given.settles_later and begun.looked_at:
            return begun.unsettled(Later(begun.looked_at, settled), small.brightest[0])
        return settled()

    def begun(self, given: ModelInput, frame: Frame, small: Small, checkpoint: Checkpoint) -> Begun:
        """The same, not yet settled, with what was moved on the set since the clean plate was shot.

        frame, small: of this input.
        """
        return self._begun(given, frame, small, checkpoint, wide=False)[0]

    @torch.inference_mode()
    def with_wide(
        self, given: ModelInput, frame: Frame, small: Small, checkpoint: Checkpoint
    ) -> tuple[Begun, Tensor, Tensor]:
        """`begun`, settled, and alpha and foreground of the same with a wider band (`wide`): below
        it only where that is sure subject."""
        begun, more = self._begun(given, frame, small, checkpoint, wide=True)
        begun.settle()
        if more is None:
            return begun, begun.alpha, begun.foreground
        return begun, *with_opened(frame, begun.alpha, begun.foreground, more)

    @torch.inference_mode()
    def _begun(
        self, given: ModelInput, frame: Frame, small: Small, checkpoint: Checkpoint, *, wide: bool
    ) -> tuple[Begun, Optional[Opened]]:
        settings = given.settings
        checkpoint("difference")
        in_main_memory = wide or settings["method"] == "closed_form"
        if self._recorded is not None and not in_main_memory:
            begun = self._begun_there(self._recorded, given, frame, small)
            checkpoint("foreground")
            return begun, None
        evidence = gather(
            small.plate,
            small.clean_plate,
            small.outside,
            edge_tolerance=float(settings["edge_tolerance"]),
            deepest_shadow=float(settings["shadow"]),
            same_noises=small.same_noises,
        )
        checkpoint("trimap")
        edges = new_edges(small.plate, small.clean_plate, evidence.light)
        band, specks = float(settings["band"]), float(settings["specks"])
        trimaps = make_trimaps(
            small.plate,
            small.clean_plate,
            evidence,
            edges,
            small.hint,
            small.outside,
            fill=float(settings["fill"]),
            bands=(band, WIDE * band) if wide else (band,),
            speck_share=specks,
            part_of=given.part_of,
        )
        trimap = trimaps[0]
        degraded = () if trimap.empty.any() else (NO_SET,)
        if not trimap.subject.any():
            alpha, colour = _nothing_sure(frame, evidence, trimap)
            foreground = foreground_of(frame, colour, alpha, None)
            return Begun(frame, specks, alpha, colour, foreground, None, degraded=degraded), None
        checkpoint("alpha")
        notes = _notes(float(trimap.unknown.mean()))
        calm = small.explaining() if small.explains else None
        start = SolveInput(frame, small.plate, evidence, edges, trimap, calm)
        if settings["method"] == "closed_form":
            alpha, colour = _closed_form(frame, trimap, checkpoint)
            solved, finished = None, None
        elif frame.plate.device.type == "cpu":
            solved, finished = solved_here(start, checkpoint), None
        else:
            finished = solved_at_once(start, self._graphs)
            solved = finished.solved
        places, more = None, None
        if solved is not None:
            alpha, colour, places = solved.alpha, solved.colour, solved.places
            if wide:
                checkpoint("alpha")
                subject, noise = solved.subject, solved.noise
                more = opened_inside(
                    frame, small.plate, subject, evidence, trimaps, noise, start.explained
                )
        checkpoint("foreground")
        begun = Begun(frame, specks, alpha, colour, colour, places, degraded=degraded, notes=notes)
        if finished is not None:
            begun.foreground, begun.looked_at = finished.foreground, finished.looked_at
        else:
            pictures = frame.plate, frame.clean_plate
            begun.alpha, begun.small_alpha = without_islands(alpha, *pictures, specks)
            begun.foreground = foreground_of(frame, colour, begun.alpha, places)
        return begun, more

    def _begun_there(
        self, recorded: RecordedKeyer, given: ModelInput, frame: Frame, small: Small
    ) -> Begun:
        """All of it on a CUDA device."""
        settings = given.settings
        specks = float(settings["specks"])
        of_steps = KeyerSettings(
            edge_tolerance=float(settings["edge_tolerance"]),
            deepest_shadow=float(settings["shadow"]),
            fill=float(settings["fill"]),
            band=float(settings["band"]),
            speck_share=specks,
            part_of=given.part_of,
        )
        made = recorded.matte(frame, small, of_steps)
        solved = made.solved
        settled = partial(recorded.settled, frame, small, of_steps)
        return Begun(
            frame, specks, solved.alpha, solved.colour, made.foreground, solved.places,
            made.looked_at, settled,
        )  # fmt: skip


def _notes(unknown_share: float) -> dict[str, Any]:
    return {"unknown_share": round(unknown_share, 4)}


def reach(brightest: float) -> Ranges:
    """How far colours reach, which are no brighter than white or than some pixel of the plate."""
    return {"foreground": (0.0, max(1.0, brightest))}


def keyed(given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
    """The model's matte of a frame, for models that start from it: with those settings of the frame
    that it has too, and its defaults. What was moved on the set is still in it."""
    given, frame = with_defaults(given), Frame.of(given)
    begun = DifferenceModel(DIFFERENCE).begun(given, frame, Small(frame), checkpoint)
    begun.settle()
    return begun.output(given)


def with_defaults(given: ModelInput) -> ModelInput:
    """A frame with the settings of this model: those of its own that it has too, else defaults."""
    schema = DIFFERENCE.settings_schema
    shared = {name: value for name, value in given.settings.items() if name in schema}
    return replace(given, settings=schema.validate(shared, model=DIFFERENCE.name))


def _closed_form(frame: Frame, trimap: Trimap, checkpoint: Checkpoint) -> tuple[Tensor, Tensor]:
    known = Known.of(trimap, frame.plate.shape)
    unknown = np.zeros(known.subject.shape, bool)
    unknown.reshape(-1)[known.unknown] = True
    found = closed_form(array_of(frame.plate), known.subject, unknown, checkpoint)
    alpha, colour = (tensor_of(image, frame.plate.device) for image in found)
    return alpha, colour


def _nothing_sure(frame: Frame, evidence: Evidence, trimap: Trimap) -> tuple[Tensor, Tensor]:
    """Alpha and colour where no pixel is certainly subject: alpha follows the difference, or, where
    the set shows through, the coverage that follows from its detail."""
    ramp = np.clip(evidence.distance / np.float32(RAMP), 0, 1)
    ramp = np.where(evidence.through, evidence.covered_by, ramp)
    alpha = np.where(trimap.unknown, ramp, 0).astype(np.float32)
    return enlarged(alpha, frame.plate), frame.plate.clone()
