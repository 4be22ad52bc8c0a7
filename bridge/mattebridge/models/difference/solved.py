"""Alpha and the subject's colour at full size: the known pixels as they are, the others solved.

    trimap, palette, evidence --> mixtures of the unknown pixels --> doubtful ones follow their
                                                                     neighbours
    main memory, working size      the frame's device, full size     working size

On a CPU this is done pixel chunk by chunk, and the neighbours by elimination, row after row. A GPU
does everything in the same list of steps for any picture of a size and about so many unknown
pixels, the foreground included; so it can be recorded (`pytorch/graphs.py`), and is not waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.difference import working_size
from mattebridge.models.difference.evidence import Evidence
from mattebridge.models.difference.foreground import foreground_of
from mattebridge.models.difference.full_size import (
    copy_where,
    enlarged,
    enlarged_by_torch,
    shrunk,
    small_arrays,
)
from mattebridge.models.difference.mixture import (
    Maps,
    Mixtures,
    Noise,
    Palette,
    make_palette,
    solve,
    solve_by,
)
from mattebridge.models.difference.noise import every_of, noise_at, noise_of_first
from mattebridge.models.difference.smoothing import smoothed, smoothed_at_once
from mattebridge.models.difference.trimap import Edges, Trimap, links
from mattebridge.models.pytorch.frames import Frame, sent
from mattebridge.models.pytorch.graphs import Graphs, Tensors
from mattebridge.models.pytorch.pixels import put, taken

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

Pictures = tuple[Tensor, Tensor]
Given = TypeVar("Given", bound=tuple[Any, ...])

# A doubtful pixel follows neighbours over about this many pixels squared; a step in the plate of
# the third number separates neighbours.
NEIGHBOUR_STRENGTH, NEIGHBOUR_ROUNDS, NEIGHBOUR_STEP = 5.0, 2, 0.03
# The weight of the region's likelihood where neither the pixel nor its neighbours tell.
REGION_TRUST = 0.1
# A frame can be cancelled after so many unknown pixels.
REPORTED = 32_768
# A GPU is given so many places at least, and else the next power of two of them, so that frames
# with about as many have the same list of steps.
LEAST_PLACES = 1 << 14


@dataclass(frozen=True)
class Known:
    """A trimap at full size, in main memory: a GPU need not be waited for to count the pixels.

    subject: (H, W) bool, where it is certain. unknown: (N,) the places of the pixels that enlarging
    leaves undecided, too, in reading order. empty: (M,) the places of some of the others, at which
    noise is measured.
    """

    subject: Mask
    unknown: NDArray[np.int64]
    empty: NDArray[np.int64]

    @classmethod
    def of(cls, trimap: Trimap, shape: tuple[int, ...]) -> Known:
        subject, empty = (
            working_size.enlarged(mask.astype(np.float32), shape) > np.float32(0.999)
            for mask in (trimap.subject, trimap.empty)
        )
        unknown = np.flatnonzero(~(subject | empty))
        places = np.flatnonzero(empty & ~subject)
        return cls(subject, unknown, np.ascontiguousarray(places[:: every_of(len(places))]))


@dataclass(frozen=True)
class SolveInput:
    """What both forms start from: the frame, and in main memory, at working size, its plate and
    what was found out about it. calm: plate and clean plate without grain, by which the pixels are
    explained, (2, H, W, 3); None: they are by those of the frame."""

    frame: Frame
    small_plate: FloatImage
    evidence: Evidence
    edges: Edges
    trimap: Trimap
    calm: Optional[Tensor] = None

    @property
    def explained(self) -> Pictures:
        """Plate and clean plate by which pixels are explained."""
        return _explained(self.frame.plate, self.frame.clean_plate, self.calm)

    def palette(self) -> Palette:
        # The wide band holds colours that nothing else has, such as those of hair.
        return make_palette(self.small_plate, self.trimap.depth > 1)


def _explained(plate: Tensor, clean_plate: Tensor, calm: Optional[Tensor]) -> Pictures:
    """calm: see `SolveInput`."""
    if calm is None:
        return plate, clean_plate
    seen, empty = calm.unbind()
    return seen, empty


class Solved(NamedTuple):
    """Alpha (H, W) and the subject's colour (H, W, 3); the places (N,) that were solved, outside of
    which alpha is 0 or 1; the sure subject (H, W), and the noise of a pixel."""

    alpha: Tensor
    colour: Tensor
    places: Tensor
    subject: Tensor
    noise: Noise


class Finished(NamedTuple):
    """What a GPU made, and has not been waited for: see `Solved`; and the foreground (H, W, 3) that
    goes with it, alpha at working size, and numbers: the lowest and highest value of alpha, and of
    the foreground, (4,), and perhaps more behind them."""

    solved: Solved
    foreground: Tensor
    small: Tensor
    numbers: Tensor

    @property
    def looked_at(self) -> tuple[Tensor, ...]:
        """What tells whether the matte has islands, and the range of what has none."""
        return self.small, self.numbers


def solved_here(given: SolveInput, checkpoint: Checkpoint) -> Solved:
    """As a CPU does it."""
    frame, trimap = given.frame, given.trimap
    plate, clean_plate = frame.plate, frame.clean_plate
    known = Known.of(trimap, plate.shape)
    subject, places, empty = (
        torch.from_numpy(one) for one in (known.subject, known.unknown, known.empty)
    )
    palette = given.palette()
    noise = noise_at(plate, clean_plate, empty)
    mean = enlarged(palette.mean, plate)
    if palette.mean.shape == plate.shape:
        mean = mean.clone()
    colour = _base_colour(plate, subject, mean)
    linear, evidence = frame.scene_linear, given.evidence
    chunks = solve(*given.explained, places, palette, evidence, trimap, noise, linear)
    alpha, trust = _filled(frame, subject, places, colour, chunks, checkpoint)
    value, weight = small_arrays(alpha, trust)
    between = links(given.edges, NEIGHBOUR_STEP)
    value, weight = _with_region(value, np.square(weight), trimap.unknown, trimap.likelihood, np)
    near = smoothed(value, weight, between, NEIGHBOUR_STRENGTH, NEIGHBOUR_ROUNDS)
    _follow(alpha, trust, places, enlarged(near, plate))
    return Solved(alpha, colour, places, subject, noise)


def _base_colour(plate: Tensor, subject: Tensor, mean: Tensor) -> Tensor:
    """The plate where the subject is certain, elsewhere the colour of the subject nearby (H, W, 3),
    which may be written into."""
    colour = mean.contiguous()
    copy_where(subject, plate, colour)
    return colour


def _filled(
    frame: Frame,
    subject: Tensor,
    places: Tensor,
    colour: Tensor,
    chunks: Iterator[tuple[slice, Mixtures]],
    checkpoint: Optional[Checkpoint] = None,
) -> tuple[Tensor, Tensor]:
    """Alpha and trust (H, W) with what was solved at these places; colour is written into."""
    alpha, trust = subject.float(), torch.ones_like(frame.plate[..., 0])
    for part, found in chunks:
        if checkpoint is not None and (part.stop % REPORTED == 0 or part.stop == len(places)):
            checkpoint("alpha", part.stop, len(places))
        put(alpha, places[part], found.alpha)
        put(trust, places[part], found.trust)
        put(colour, places[part], found.colour)
    if frame.outside is not None:
        own = taken(trust, places).masked_fill_(taken(frame.outside, places), 0)
        put(trust, places, own)
    return alpha, trust


def _with_region(
    value: Any, squared: Any, unknown: Any, likelihood: Any, library: Any
) -> tuple[Any, Any]:
    """Alpha and its weight, of squared trust, with the likelihood of the region where a pixel is
    unknown; all at working size, arrays or tensors of that library."""
    weight = squared + np.float32(1e-3)
    mixed = value * weight + REGION_TRUST * likelihood
    value = library.where(unknown, mixed / (weight + REGION_TRUST), value)
    return value, library.where(unknown, weight + np.float32(REGION_TRUST), weight)


def _follow(alpha: Tensor, trust: Tensor, places: Tensor, near: Tensor) -> None:
    """Mix what the neighbours say into alpha at these places, the more the less its own is trusted;
    near: (H, W)."""
    own, others = taken(trust, places), taken(near, places)
    mixed = own * taken(alpha, places) + (1 - own) * others
    put(alpha, places, mixed.clamp_(0, 1))


# --- on a GPU -------------------------------------------------------------------------------------


class OnDevice(NamedTuple):
    """What the steps read, on the device. places: see `Solved`; the last may be there several
    times. empty: of pixels that show the set alone, at which noise is measured; measured: how many
    of them count, (1,). colours, region, noise: see `Maps`, noise (1,). beside, below: the links of
    neighbours. unknown: at working size. calm: see `SolveInput`."""

    plate: Tensor
    clean_plate: Tensor
    subject: Tensor
    places: Tensor
    empty: Tensor
    measured: Tensor
    colours: Tensor
    region: Tensor
    noise: Tensor
    beside: Tensor
    below: Tensor
    unknown: Tensor
    outside: Optional[Tensor] = None
    calm: Optional[Tensor] = None


def solved_at_once(given: SolveInput, graphs: Optional[Graphs]) -> Finished:
    """As a GPU does it, of what was found in main memory; recorded in `graphs`."""
    frame, device = given.frame, given.frame.plate.device
    known = Known.of(given.trimap, frame.plate.shape)
    maps = Maps.of(given.palette(), given.evidence, given.trimap, device)
    arrays = [known.subject, _filled_up(known.unknown), _filled_up(known.empty)]
    subject, places, empty = (sent(array, device) for array in arrays)
    of_noise = sent(np.array([given.evidence.noise], np.float32), device)
    count = sent(np.array([len(known.empty)], np.int64), device)
    beside, below = (sent(link, device) for link in links(given.edges, NEIGHBOUR_STEP))
    unknown = sent(given.trimap.unknown, device)
    pictures = frame.plate, frame.clean_plate
    seen = OnDevice(
        *pictures, subject, places, empty, count, maps.colours, maps.region, of_noise, beside,
        below, unknown, frame.outside, given.calm,
    )  # fmt: skip
    linear, above_white = frame.scene_linear, maps.above_white
    present, inputs = what_is_there(seen)

    def compute(*tensors: Tensor) -> Tensors:
        there = with_missing(OnDevice, present, tensors)
        alpha, colour, noise = solved_by(there, linear, above_white)
        foreground, small, ranges = finished(there, linear, alpha, colour)
        return alpha, colour, foreground, small, noise, ranges

    if graphs is None:
        made = compute(*inputs)
    else:
        key = (*(tensor.shape for tensor in inputs), present, linear, above_white)
        made, _ = graphs.run(key, compute, inputs)
    alpha, colour, foreground, small, noise, ranges = made
    return Finished(Solved(alpha, colour, places, subject, noise), foreground, small, ranges)


def length_for(count: int) -> int:
    """How long the list of so many places is."""
    return max(LEAST_PLACES, 1 << max(count - 1, 0).bit_length())


def _filled_up(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places with the last one repeated: what is computed of it is written several times."""
    wanted = length_for(len(places))
    if not len(places):
        return np.zeros(wanted, np.int64)
    return np.pad(places, (0, wanted - len(places)), mode="edge")


def what_is_there(given: tuple[Optional[Tensor], ...]) -> tuple[tuple[bool, ...], Tensors]:
    """Which tensors there are, and these."""
    present = tuple(tensor is not None for tensor in given)
    return present, tuple(tensor for tensor in given if tensor is not None)


def with_missing(kind: type[Given], present: tuple[bool, ...], tensors: Tensors) -> Given:
    """The tuple again of which `what_is_there` told."""
    rest = iter(tensors)
    every: list[Any] = [next(rest) if there else None for there in present]
    return kind(*every)


def solved_by(
    given: OnDevice, linear: bool, above_white: bool, some_missing: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Alpha (H, W), the subject's colour (H, W, 3), and the noise of a pixel, a tensor of one
    value. above_white, some_missing: see `Maps`."""
    plate, clean_plate, places = given.plate, given.clean_plate, given.places
    frame = Frame(plate, clean_plate, None, given.outside, linear)
    noise = noise_of_first(plate, clean_plate, given.empty, given.measured)
    shape = tuple(plate.shape[:2])
    mean = given.colours[0, :3].permute(1, 2, 0)
    colour = _base_colour(plate, given.subject, enlarged_by_torch(mean.clone(), shape))
    maps = Maps(given.colours, given.region, given.noise, above_white, some_missing)
    explained = _explained(plate, clean_plate, given.calm)
    chunks = solve_by(*explained, places, maps, noise, linear)
    alpha, trust = _filled(frame, given.subject, places, colour, chunks)
    value, weight = shrunk(working_size.size_of(shape), alpha, trust)
    likelihood = given.region[0, 3]
    value, weight = _with_region(value, weight.square(), given.unknown, likelihood, torch)
    between = given.beside, given.below
    near = smoothed_at_once(value, weight, between, NEIGHBOUR_STRENGTH, NEIGHBOUR_ROUNDS)
    _follow(alpha, trust, places, enlarged_by_torch(near, shape))
    return alpha, colour, noise


def finished(
    given: OnDevice, linear: bool, alpha: Tensor, colour: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The foreground, alpha at working size, and the ranges of `Finished`."""
    frame = Frame(given.plate, given.clean_plate, None, given.outside, linear)
    foreground = foreground_of(frame, colour.clone(), alpha, given.places)
    (small,) = shrunk(working_size.size_of(alpha.shape), alpha)
    ranges = torch.stack([*alpha.aminmax(), *foreground.aminmax()])
    return foreground, small, ranges
