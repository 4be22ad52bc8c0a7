"""The keyer's matte of a frame as a GPU makes it: from its pictures to the foreground, recorded.

    small pictures --grain filter--> evidence --> trimap, palette --> places --> `solved_by`
                                                                          `--> alpha, foreground

How many pixels are unknown is seen when the matte has arrived. The list of their places is at least
a quarter longer than frames of this size have needed of late; for the first one they are counted,
which waits for the device. A frame that has more is computed once more, with a longer list, and so
is one whose regions took more rounds to measure. So the matte does not depend on other frames.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Optional

import numpy as np
import torch
from torch import Tensor

from mattebridge.models.difference.evidence import RAMP
from mattebridge.models.difference.full_size import enlarged_by_torch, shrunk
from mattebridge.models.difference.grain_filter import GrainFilter, Place, smooth
from mattebridge.models.difference.mixture import BRIGHTEST
from mattebridge.models.difference.noise import ENOUGH
from mattebridge.models.difference.recorded.evidence import DeviceEvidence, gather
from mattebridge.models.difference.recorded.linear import Filters
from mattebridge.models.difference.recorded.masks import ROUNDS
from mattebridge.models.difference.recorded.palette import make_palette, palette_size
from mattebridge.models.difference.recorded.places import listed, some_of
from mattebridge.models.difference.recorded.trimap import (
    DeviceTrimap,
    links,
    make_trimap,
    new_edges,
)
from mattebridge.models.difference.small import Small, small_pictures
from mattebridge.models.difference.solved import (
    NEIGHBOUR_STEP,
    Finished,
    OnDevice,
    Solved,
    finished,
    length_for,
    solved_by,
    what_is_there,
    with_missing,
)
from mattebridge.models.difference.working_size import size_of
from mattebridge.models.pytorch.frames import Frame, arrays_of, sent
from mattebridge.models.pytorch.graphs import Graphs, Tensors

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# Sizes of frames of which matrices, and lengths of lists, are kept.
_KEPT = 4
# How much longer a list is than what a frame needed, and after how many frames in a row that needed
# less than half of it it becomes shorter.
_ROOM, _PATIENCE = 1.25, 12


class KeyerSettings(NamedTuple):
    """Those of a frame that its steps depend on; see the card, and `ModelInput.part_of`."""

    edge_tolerance: float
    deepest_shadow: float
    fill: float
    band: float
    speck_share: float
    part_of: float


@dataclass(frozen=True)
class Facts:
    """What is known of a frame's keyer when its matte has arrived: `Finished.numbers` behind the
    first four.

    unknown: how many pixels are, and of the pixels at working size. fits: whether the list of
    places was long enough. is_measured: whether the regions were.
    """

    unknown: int
    fits: bool
    is_measured: bool
    has_subject: bool
    has_set: bool
    unknown_at_working_size: int

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Facts:
        unknown, fits, measured, subject, empty, small_unknown = map(int, numbers)
        return cls(unknown, fits > 0, measured > 0, subject > 0, empty > 0, small_unknown)

    @property
    def hold(self) -> bool:
        """Whether a longer list and more rounds would change nothing."""
        return self.fits and self.is_measured


class Settled(NamedTuple):
    """What is known of a frame: its matte at working size and its numbers, see `Finished`, in main
    memory. made: the matte they are of, where it had to be made once more."""

    facts: Facts
    small: FloatImage
    numbers: FloatImage
    made: Optional[Finished]


class _Inputs(NamedTuple):
    """The frame on the device; numbers: `Small.same_noises`, and of the grain filter `alike`.
    small_plate, small_clean_plate: see `Small.there`."""

    plate: Tensor
    clean_plate: Tensor
    numbers: Tensor
    hint: Optional[Tensor]
    outside: Optional[Tensor]
    small_plate: Optional[Tensor]
    small_clean_plate: Optional[Tensor]


@dataclass(frozen=True)
class _Steps:
    """What the list of steps depends on beside the sizes; equal for equal lists.

    beside: of the grain filter, None without one. length: of the list of places. rounds: see
    `without_specks`. is_cut: see `small_pictures`.
    """

    settings: KeyerSettings
    scene_linear: bool
    above_white: bool
    beside: Optional[tuple[Place, ...]]
    explains: bool
    length: int
    rounds: int
    is_cut: bool


class RecordedKeyer:
    """The keyer's steps on one device."""

    def __init__(self, graphs: Optional[Graphs]) -> None:
        """graphs: where they are recorded; None: they are not."""
        self._graphs = graphs
        self._filters: OrderedDict[tuple[int, int], _Filters] = OrderedDict()
        # By the size of a frame: how long its list is, and how many frames in a row needed less.
        self._lengths: OrderedDict[tuple[int, ...], tuple[int, int]] = OrderedDict()

    @property
    def memory_bytes(self) -> int:
        held = sum(each.memory_bytes for pair in self._filters.values() for each in pair)
        return held + (0 if self._graphs is None else self._graphs.memory_bytes)

    def matte(
        self, frame: Frame, small: Small, settings: KeyerSettings, *, rounds: int = ROUNDS
    ) -> Finished:
        """The matte of a frame, which holds where its `Facts` say so. Nothing is waited for but at
        the first frame of its size.

        small: of this frame. rounds: more than usual after a matte that did not hold.
        """
        by = small.grain_filter
        numbers = np.array([small.same_noises, 0 if by is None else by.alike], np.float32)
        device, size = frame.plate.device, frame.plate.shape[:2]
        pictures = small.there(frame) or (None, None)
        seen = _Inputs(
            frame.plate,
            frame.clean_plate,
            sent(numbers, device),
            frame.hint,
            frame.outside,
            *pictures,
        )
        filters = self._filters_for(size_of(size), device)
        steps = _Steps(
            settings=settings,
            scene_linear=frame.scene_linear,
            above_white=small.brightest[0] > 1,
            beside=None if by is None else by.beside,
            explains=small.explains,
            length=self._lengths.get(size, (0, 0))[0],
            rounds=rounds,
            is_cut=max(small.brightest) > BRIGHTEST,
        )
        if not steps.length:
            subject, empty = _full_size(_front(seen, steps, filters).trimap, size)
            self._learn_length(size, int((~(subject | empty)).sum()))
            steps = replace(steps, length=self._lengths[size][0])

        present, inputs = what_is_there(seen)

        def compute(*tensors: Tensor) -> Tensors:
            return _computed(with_missing(_Inputs, present, tensors), steps, filters)

        if self._graphs is None:
            made = compute(*inputs)
        else:
            key = (*(tensor.shape for tensor in inputs), present, steps)
            made, _ = self._graphs.run(key, compute, inputs)
        alpha, colour, foreground, small_alpha, noise, facts, places, subject = made
        solved = Solved(alpha, colour, places, subject, noise)
        return Finished(solved, foreground, small_alpha, facts)

    def settled(
        self, frame: Frame, small: Small, settings: KeyerSettings, arrays: Sequence[FloatImage]
    ) -> Settled:
        """What is known of a matte of this frame, which is made once more until it holds. arrays:
        the values of its `looked_at`, in main memory."""
        made, rounds = None, ROUNDS
        while True:
            alpha, numbers = arrays
            facts = Facts.of(numbers[4:])
            self._learn_length(frame.plate.shape[:2], facts.unknown)
            if facts.hold:
                return Settled(facts, alpha, numbers, made)
            if not facts.is_measured:
                rounds *= 4
            made = self.matte(frame, small, settings, rounds=rounds)
            arrays = arrays_of(*made.looked_at)

    def _learn_length(self, size: tuple[int, ...], unknown: int) -> None:
        wanted = length_for(int(_ROOM * unknown))
        now, spare = self._lengths.pop(size, (0, 0))
        # A list that is too long for some frames stays, for there is a recording for it.
        spare = spare + 1 if 2 * wanted <= now else 0
        if not now or unknown > now or spare == _PATIENCE:
            now, spare = wanted, 0
        self._lengths[size] = now, spare
        while len(self._lengths) > _KEPT:
            self._lengths.popitem(last=False)

    def _filters_for(self, size: tuple[int, int], device: torch.device) -> _Filters:
        """For pictures at working size; a recording keeps those that it reads."""
        if size not in self._filters:
            of_palette = Filters(palette_size(size), device)
            self._filters[size] = _Filters(Filters(size, device), of_palette)
        self._filters.move_to_end(size)
        while len(self._filters) > _KEPT:
            self._filters.popitem(last=False)
        return self._filters[size]


class _Filters(NamedTuple):
    """Of pictures at working size, and of the palette."""

    large: Filters
    palette: Filters


class _Front(NamedTuple):
    """What is found at working size. plate: (3, h, w), by which it is. edges: see `new_edges`.
    calm: see `SolveInput`."""

    plate: Tensor
    evidence: DeviceEvidence
    edges: tuple[Tensor, Tensor]
    trimap: DeviceTrimap
    calm: Optional[Tensor]


def _front(given: _Inputs, steps: _Steps, filters: _Filters) -> _Front:
    frame = Frame(given.plate, given.clean_plate, given.hint, given.outside, steps.scene_linear)
    if given.small_plate is not None and given.small_clean_plate is not None:
        pictures = given.small_plate, given.small_clean_plate
    else:
        pictures = small_pictures(frame, is_cut=steps.is_cut)
    calm = None
    if steps.beside is not None:
        by = GrainFilter(given.numbers[1], steps.beside)
        calm = torch.stack([smooth(picture, by) for picture in pictures])
        pictures = calm[0], calm[1]
    plate, clean_plate = (picture.permute(2, 0, 1).contiguous() for picture in pictures)
    settings, size = steps.settings, filters.large.size
    hint = None if given.hint is None else shrunk(size, given.hint)[0]
    outside = None if given.outside is None else shrunk(size, given.outside.float())[0] > 0
    evidence = gather(
        plate,
        clean_plate,
        outside,
        filters.large,
        edge_tolerance=settings.edge_tolerance,
        deepest_shadow=settings.deepest_shadow,
        same_noises=given.numbers[0],
    )
    edges = new_edges(plate, clean_plate, evidence.light, filters.large)
    trimap = make_trimap(
        plate,
        clean_plate,
        evidence,
        edges,
        hint,
        outside,
        filters.large,
        fill=settings.fill,
        band=settings.band,
        speck_share=settings.speck_share,
        part_of=settings.part_of,
        rounds=steps.rounds,
    )
    return _Front(plate, evidence, edges, trimap, calm if steps.explains else None)


def _full_size(trimap: DeviceTrimap, size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Subject and set of a trimap at full size, (H, W): the pixels that enlarging leaves undecided
    are neither."""
    subject, empty = (
        enlarged_by_torch(mask.float(), size) > 0.999 for mask in (trimap.subject, trimap.empty)
    )
    return subject, empty


def _computed(given: _Inputs, steps: _Steps, filters: _Filters) -> Tensors:
    size = given.plate.shape[:2]
    front = _front(given, steps, filters)
    evidence, trimap = front.evidence, front.trimap
    subject, empty = _full_size(trimap, size)
    places, unknown = listed(~(subject | empty), steps.length)
    some, measured = some_of(empty & ~subject, ENOUGH)
    evident = (evidence.distance, evidence.covered_by, evidence.covered_by_variance)
    region = torch.stack([*evident, trimap.likelihood, trimap.depth, evidence.through.float()])
    there = OnDevice(
        plate=given.plate,
        clean_plate=given.clean_plate,
        subject=subject,
        places=places,
        empty=some,
        measured=measured.view(1),
        colours=make_palette(front.plate, trimap.depth > 1, *filters),
        region=region[None],
        noise=evidence.noise.view(1),
        beside=(between := links(front.edges, NEIGHBOUR_STEP))[0],
        below=between[1],
        unknown=trimap.unknown,
        outside=given.outside,
        calm=front.calm,
    )
    alpha, colour, noise = solved_by(there, steps.scene_linear, steps.above_white, True)
    any_subject = trimap.subject.any()
    alpha = torch.where(any_subject, alpha, _nothing_sure(evidence, trimap, size))
    colour = torch.where(any_subject, colour, given.plate)
    foreground, small, ranges = finished(there, steps.scene_linear, alpha, colour)
    facts = [
        unknown,
        unknown <= steps.length,
        trimap.settled,
        any_subject,
        trimap.empty.any(),
        trimap.unknown.sum(),
    ]
    numbers = torch.cat([ranges, torch.stack([fact.float() for fact in facts])])
    return alpha, colour, foreground, small, noise.view(1), numbers, places, subject


def _nothing_sure(evidence: DeviceEvidence, trimap: DeviceTrimap, size: tuple[int, ...]) -> Tensor:
    """Alpha (H, W) where no pixel is certainly subject: see `keyer`."""
    ramp = (evidence.distance / RAMP).clamp(0, 1)
    ramp = torch.where(evidence.through, evidence.covered_by, ramp)
    return enlarged_by_torch(ramp * trimap.unknown, size)
