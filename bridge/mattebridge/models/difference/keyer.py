"""The classical keyer: what differs from the clean plate is the subject. No weights.

    evidence --> trimap --> palette --> mixtures --> neighbours --> foreground
    working size (long side at most 960)  |  full size, unknown pixels only
    arrays in main memory                 |  tensors on the frame's device

1. `evidence`: how far each pixel is from the set, apart from shadows; where the set shows through.
2. `trimap`: what is subject, set or unknown, by the pixel and its neighbours.
3. `mixture`: unknown pixels as mixtures of the set with colours of the subject nearby.
4. Here: doubtful pixels follow their neighbours (`smoothing`), islands are emptied (`islands`),
   then the foreground is unmixed.
5. `moved`: things of the set that stand elsewhere in the clean plate are emptied.

With `method="closed_form"` steps 3 and 4 are closed-form matting instead: slow, for stills.

Deterministic, and the same for any number of threads. Values above `BRIGHTEST` count as that; the
foreground keeps the plate's own values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.difference import working_size
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.closed_form import closed_form
from mattebridge.models.difference.evidence import Evidence, gather
from mattebridge.models.difference.full_size import (
    copy_where,
    cut,
    enlarged,
    places_of,
    small_arrays,
)
from mattebridge.models.difference.islands import without_islands
from mattebridge.models.difference.mixture import (
    BRIGHTEST,
    CHUNK,
    Noise,
    Palette,
    make_palette,
    solve,
)
from mattebridge.models.difference.moved import without_moved
from mattebridge.models.difference.noise import every_of, noise_at
from mattebridge.models.difference.noise import pixel_noise as pixel_noise
from mattebridge.models.difference.smoothing import smoothed
from mattebridge.models.difference.trimap import Edges, Trimap, links, make_trimaps, new_edges
from mattebridge.models.difference.wide import WIDE, Opened, opened_inside
from mattebridge.models.pytorch.curves import all_decoded, encoded
from mattebridge.models.pytorch.frames import Frame, array_of, given_back, sent, tensor_of

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, Mask

# A doubtful pixel follows neighbours over about this many pixels squared; a step in the plate of
# the third number separates neighbours.
NEIGHBOUR_STRENGTH, NEIGHBOUR_ROUNDS, NEIGHBOUR_STEP = 5.0, 2, 0.03
# The weight of the region's likelihood where neither the pixel nor its neighbours tell.
REGION_TRUST = 0.1
# Without any certain subject: the distance at which alpha is 1.
RAMP = 0.15
# The unmixed colour is used from the first alpha on, alone from the second on; below them that of
# the palette. It is divided by the third at least.
UNMIX_FROM, UNMIX_FULL, UNMIX_LEAST = 0.3, 0.8, 0.1
# Encoded; a larger value has no meaning, and decoding it would exceed float32.
LARGEST = 1e6
# A frame can be cancelled after so many unknown pixels.
REPORTED = 32_768
# Labels of `degraded`.
NO_SET = "no_set_visible"


class _Mattes(NamedTuple):
    """Two mattes of a frame. wide: with a wider band; else, and where nothing was solved, the same
    again. small_alpha: the narrow alpha at working size if that is known."""

    narrow: ModelOutput
    wide: ModelOutput
    small_alpha: Optional[FloatImage]


class DifferenceModel(MattingModel):
    """See the module; the card has the settings and their ranges.

    alpha_hint, if given: where it is 1, likeness to the set counts little (a subject of the set's
    colour is kept if its surroundings agree); farther than a twentieth of the frame outside it
    there is no subject. A hint that shows no subject is not used.
    """

    takes_tensors = True

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground of one frame. See `MattingModel.matte`.

        given: tensors of any device, or arrays; the output holds what the input does.
        """
        frame = Frame.of(given)
        small = Small(frame)
        made = self._mattes(given, frame, small, checkpoint, wide=False)
        return without_moved(made.narrow, given, small.pictures, made.small_alpha)

    def with_moved(
        self, given: ModelInput, checkpoint: Checkpoint, small: Optional[Small] = None
    ) -> ModelOutput:
        """The same with what was moved on the set since the clean plate was shot."""
        frame = Frame.of(given)
        return self._mattes(given, frame, small or Small(frame), checkpoint, wide=False).narrow

    def with_wide(
        self, given: ModelInput, checkpoint: Checkpoint, small: Optional[Small] = None
    ) -> tuple[ModelOutput, ModelOutput]:
        """`with_moved`, and the same with a wider band (`wide`)."""
        frame = Frame.of(given)
        made = self._mattes(given, frame, small or Small(frame), checkpoint, wide=True)
        return made.narrow, made.wide

    @torch.inference_mode()
    def _mattes(
        self, given: ModelInput, frame: Frame, small: Small, checkpoint: Checkpoint, *, wide: bool
    ) -> _Mattes:
        settings = given.settings
        checkpoint("difference")
        evidence = gather(
            small.plate,
            small.clean_plate,
            small.outside,
            edge_tolerance=float(settings["edge_tolerance"]),
            deepest_shadow=float(settings["shadow"]),
        )
        checkpoint("trimap")
        edges = new_edges(small.plate, small.clean_plate, evidence.light)
        band = float(settings["band"])
        trimaps = make_trimaps(
            small.plate,
            small.clean_plate,
            evidence,
            edges,
            small.hint,
            small.outside,
            fill=float(settings["fill"]),
            bands=(band, WIDE * band) if wide else (band,),
            speck_share=float(settings["specks"]),
        )
        trimap = trimaps[0]
        degraded = () if trimap.empty.any() else (NO_SET,)
        notes: Mapping[str, Any] = {}
        places: Optional[Tensor] = None
        matte: Optional[FloatImage] = None
        more: Optional[Opened] = None
        if trimap.subject.any():
            checkpoint("alpha")
            if settings["method"] == "closed_form":
                alpha, colour = _closed_form(frame, trimap, checkpoint)
            else:
                solved = _solved(frame, small, evidence, edges, trimap, checkpoint)
                alpha, colour, places = solved.alpha, solved.colour, solved.places
                if wide:
                    checkpoint("alpha")
                    subject, noise = solved.subject, solved.noise
                    more = opened_inside(frame, small.plate, subject, evidence, trimaps, noise)
            checkpoint("foreground")
            specks = float(settings["specks"])
            matte = without_islands(alpha, frame.plate, frame.clean_plate, specks)
            notes = {"unknown_share": round(float(trimap.unknown.mean()), 4)}
        else:
            alpha, colour = _nothing_sure(frame, evidence, trimap)
        foreground = _foreground(frame, colour, alpha, places)
        mattes = [(alpha, foreground)]
        if more is not None:
            mattes.append(_with_opened(frame, alpha, foreground, more))
        both = [given_back(given.plate, *one) for one in mattes]
        outputs = [ModelOutput(a, f, degraded=degraded, notes=notes) for a, f in both]
        return _Mattes(outputs[0], outputs[-1], matte)


def keyed(given: ModelInput, checkpoint: Checkpoint, small: Optional[Small] = None) -> ModelOutput:
    """The model's matte of a frame, for models that start from it: with those settings of the frame
    that it has too, and its defaults. What was moved on the set is still in it. small: of the same
    frame, if it exists already."""
    return DifferenceModel(DIFFERENCE).with_moved(_with_defaults(given), checkpoint, small)


def keyed_both(
    given: ModelInput, checkpoint: Checkpoint, small: Optional[Small] = None
) -> tuple[ModelOutput, ModelOutput]:
    """`keyed`, and the matte with a wider band: below it only where that is sure subject."""
    return DifferenceModel(DIFFERENCE).with_wide(_with_defaults(given), checkpoint, small)


def _with_defaults(given: ModelInput) -> ModelInput:
    schema = DIFFERENCE.settings_schema
    shared = {name: value for name, value in given.settings.items() if name in schema}
    return replace(given, settings=schema.validate(shared, model=DIFFERENCE.name))


class Small:
    """The inputs at working size in main memory, cut at `BRIGHTEST`."""

    @torch.inference_mode()
    def __init__(self, frame: Frame) -> None:
        pictures = (frame.plate, frame.clean_plate)
        brightest = torch.stack([picture.max() for picture in pictures])
        images = [cut(picture, BRIGHTEST, peak) for picture, peak in zip(pictures, brightest)]
        others = [frame.hint, None if frame.outside is None else frame.outside.float()]
        shown = (*images, *(image for image in others if image is not None))
        *found, peaks = small_arrays(*shown, beside=[brightest])
        # The brightest value of the whole plate, and of the clean plate.
        self.brightest = float(peaks[0]), float(peaks[1])
        self.plate, self.clean_plate, *rest = found
        self.hint = None if frame.hint is None else rest[0]
        outside = None if frame.outside is None else rest[-1] > 0
        self.outside = outside if outside is not None and outside.any() else None

    @property
    def pictures(self) -> tuple[FloatImage, FloatImage]:
        """Plate and clean plate."""
        return self.plate, self.clean_plate


def _closed_form(frame: Frame, trimap: Trimap, checkpoint: Checkpoint) -> tuple[Tensor, Tensor]:
    known = _Known.of(trimap, frame.plate.shape)
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


# --- alpha ----------------------------------------------------------------------------------------


class _Solved(NamedTuple):
    """Alpha (H, W) and the subject's colour (H, W, 3); the places (N,) that were solved, outside of
    which alpha is 0 or 1; the sure subject (H, W), and the noise of a pixel."""

    alpha: Tensor
    colour: Tensor
    places: Tensor
    subject: Tensor
    noise: Noise


def _solved(
    frame: Frame,
    small: Small,
    evidence: Evidence,
    edges: Edges,
    trimap: Trimap,
    checkpoint: Checkpoint,
) -> _Solved:
    """Known pixels as they are, others solved."""
    plate, clean_plate = frame.plate, frame.clean_plate
    known = _Known.of(trimap, plate.shape)
    subject, places = sent(known.subject, plate.device), sent(known.unknown, plate.device)
    # The wide band holds colours that nothing else has, such as those of hair.
    palette = make_palette(small.plate, trimap.depth > 1)
    noise = noise_at(plate, clean_plate, sent(known.empty, plate.device))
    alpha, trust = subject.float(), torch.ones_like(plate[..., 0])
    colour = _base_colour(plate, subject, palette)
    linear = frame.scene_linear
    chunks = solve(plate, clean_plate, places, palette, evidence, trimap, noise, linear)
    for part, found in chunks:
        if part.stop % REPORTED == 0 or part.stop == len(places):
            checkpoint("alpha", part.stop, len(places))
        alpha.view(-1)[places[part]] = found.alpha
        trust.view(-1)[places[part]] = found.trust
        colour.view(-1, 3)[places[part]] = found.colour
    if frame.outside is not None:
        own = trust.view(-1)[places]
        trust.view(-1)[places] = own.masked_fill_(frame.outside.view(-1)[places], 0)
    value, weight = small_arrays(alpha, trust)
    near = enlarged(_neighbours(value, weight, edges, trimap), plate)
    own, others = trust.view(-1)[places], near.reshape(-1)[places]
    mixed = own * alpha.view(-1)[places] + (1 - own) * others
    alpha.view(-1)[places] = mixed.clamp_(0, 1)
    return _Solved(alpha, colour, places, subject, noise)


@dataclass(frozen=True)
class _Known:
    """A trimap at full size, in main memory: a GPU need not be waited for to count the pixels.

    subject: (H, W) bool, where it is certain. unknown: (N,) the places of the pixels that enlarging
    leaves undecided, too, in reading order. empty: (M,) the places of some of the others, at which
    noise is measured.
    """

    subject: Mask
    unknown: NDArray[np.int64]
    empty: NDArray[np.int64]

    @classmethod
    def of(cls, trimap: Trimap, shape: tuple[int, ...]) -> _Known:
        subject, empty = (
            working_size.enlarged(mask.astype(np.float32), shape) > np.float32(0.999)
            for mask in (trimap.subject, trimap.empty)
        )
        unknown = np.flatnonzero(~(subject | empty))
        return cls(subject, unknown, _some(np.flatnonzero(empty & ~subject)))


def _some(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """As many of them as tell the noise."""
    return np.ascontiguousarray(places[:: every_of(len(places))])


def _base_colour(plate: Tensor, subject: Tensor, palette: Palette) -> Tensor:
    """The plate where the subject is certain, elsewhere the colour of the subject nearby."""
    colour = enlarged(palette.mean, plate).contiguous()
    if palette.mean.shape == plate.shape:
        colour = colour.clone()
    copy_where(subject, plate, colour)
    return colour


def _neighbours(alpha: FloatImage, trust: FloatImage, edges: Edges, trimap: Trimap) -> FloatImage:
    """Alpha that follows from trusted neighbours and the region; all at working size."""
    value, weight = alpha, np.square(trust) + np.float32(1e-3)
    unknown = trimap.unknown
    mixed = value * weight + REGION_TRUST * trimap.likelihood
    value = np.where(unknown, mixed / (weight + REGION_TRUST), value)
    weight = np.where(unknown, weight + np.float32(REGION_TRUST), weight)
    between = links(edges, NEIGHBOUR_STEP)
    return smoothed(value, weight, between, NEIGHBOUR_STRENGTH, NEIGHBOUR_ROUNDS)


# --- foreground -----------------------------------------------------------------------------------


def _foreground(frame: Frame, colour: Tensor, alpha: Tensor, places: Optional[Tensor]) -> Tensor:
    """Straight colour: the plate where alpha is 1, unmixed where there is enough of it, else
    `colour`, which is written into.

    places: (N,) in reading order, outside of which alpha is 0 or 1; None where that is not known.
    """
    copy_where(alpha >= 1, frame.plate, colour)
    if places is None:
        places = places_of(_is_soft(alpha))
    elif colour.device.type == "cpu":
        places = places[_is_soft(alpha.view(-1)[places])]
    _unmix(frame, colour, alpha, places)
    return colour


def _with_opened(
    frame: Frame, alpha: Tensor, foreground: Tensor, more: Opened
) -> tuple[Tensor, Tensor]:
    """Alpha and foreground of the wider band: copies of the narrow one's, and what is `more`."""
    kept = alpha.view(-1)[more.places] >= 1  # what is no island
    places = more.places[kept]
    alpha, foreground = alpha.clone(), foreground.clone()
    alpha.view(-1)[places] = more.alpha[kept]
    soft = alpha.view(-1)[places] < 1
    foreground.view(-1, 3)[places[soft]] = more.colour[kept][soft]
    soft &= alpha.view(-1)[places] > UNMIX_FROM
    _unmix(frame, foreground, alpha, places[soft])
    return alpha, foreground


def _unmix(frame: Frame, colour: Tensor, alpha: Tensor, places: Tensor) -> None:
    """Mix what is unmixed from the plate into `colour` at these places, as far as they are soft: a
    GPU is not waited for to tell which are; on a CPU all of them must be."""
    on_cpu = colour.device.type == "cpu"
    for some in torch.split(places, CHUNK if on_cpu else max(1, len(places))):
        part, near = alpha.view(-1)[some][:, None], colour.view(-1, 3)[some]
        seen = frame.plate.reshape(-1, 3)[some].clamp_(max=LARGEST)
        empty = frame.clean_plate.reshape(-1, 3)[some].clamp_(max=LARGEST)
        unmixed = _unmixed(seen, empty, part, frame.scene_linear)
        weight = ((part - UNMIX_FROM) / (UNMIX_FULL - UNMIX_FROM)).clamp_(0, 1)
        found = weight * unmixed + (1 - weight) * near
        colour.view(-1, 3)[some] = found if on_cpu else torch.where(_is_soft(part), found, near)


def _is_soft(alpha: Tensor) -> Tensor:
    """Where a colour is unmixed."""
    return (alpha < 1) & (alpha > UNMIX_FROM)


def _unmixed(seen: Tensor, empty: Tensor, alpha: Tensor, scene_linear: bool) -> Tensor:
    """The subject's encoded colour (N, 3), no brighter than white or the pixel itself."""
    ceiling = seen.amax(1, keepdim=True).clamp_(min=1)
    if scene_linear:
        seen, empty = all_decoded(seen, empty)
    own = (seen - (1 - alpha) * empty).clamp_(min=0).div_(alpha.clamp(min=UNMIX_LEAST))
    return (encoded(own) if scene_linear else own).minimum(ceiling)
