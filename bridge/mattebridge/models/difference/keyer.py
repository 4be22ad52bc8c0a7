"""The classical keyer: what differs from the clean plate is the subject. No weights.

    evidence --> trimap --> palette --> mixtures --> neighbours --> foreground
    working size (long side at most 960)  |  full size, unknown pixels only

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

from dataclasses import replace
from typing import TYPE_CHECKING, Optional

import cv2
import numpy as np

from mattebridge.checkpoint import Checkpoint
from mattebridge.color import srgb_decode, srgb_encode
from mattebridge.models.base import MattingModel, ModelCard, ModelInput, ModelOutput
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.closed_form import closed_form
from mattebridge.models.difference.evidence import Evidence, gather
from mattebridge.models.difference.islands import without_islands
from mattebridge.models.difference.mixture import (
    BRIGHTEST,
    CODING_NOISE,
    LEAST_NOISE,
    Palette,
    make_palette,
    solve,
)
from mattebridge.models.difference.moved import without_moved
from mattebridge.models.difference.smoothing import smoothed
from mattebridge.models.difference.trimap import Edges, Trimap, links, make_trimap, new_edges
from mattebridge.models.difference.working_size import enlarged, shrunk

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
# Labels of `degraded`.
NO_SET = "no_set_visible"


class DifferenceModel(MattingModel):
    """See the module; the card has the settings and their ranges.

    alpha_hint, if given: where it is 1, likeness to the set counts little (a subject of the set's
    colour is kept if its surroundings agree); farther than a twentieth of the frame outside it
    there is no subject. A hint that shows no subject is not used.
    """

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def matte(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """Alpha and straight foreground of one frame. See `MattingModel.matte`."""
        return without_moved(self.with_moved(given, checkpoint), given)

    def with_moved(self, given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
        """The same with what was moved on the set since the clean plate was shot."""
        settings = given.settings
        small = _Small(given)
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
        trimap = make_trimap(
            small.plate,
            small.clean_plate,
            evidence,
            edges,
            small.hint,
            small.outside,
            fill=float(settings["fill"]),
            band=float(settings["band"]),
            speck_share=float(settings["specks"]),
        )
        degraded = () if trimap.empty.any() else (NO_SET,)
        if not trimap.subject.any():
            return _nothing_sure(given, evidence, trimap)
        checkpoint("alpha")
        if settings["method"] == "closed_form":
            masks = _full_masks(trimap, given.plate.shape[:2])
            alpha, colour = closed_form(given.plate, *masks, checkpoint)
        else:
            alpha, colour = _solved(given, small, evidence, edges, trimap, checkpoint)
        checkpoint("foreground")
        without_islands(alpha, given)
        foreground = _foreground(given, colour, alpha)
        notes = {"unknown_share": round(float(trimap.unknown.mean()), 4)}
        return ModelOutput(alpha, foreground, degraded=degraded, notes=notes)


def keyed(given: ModelInput, checkpoint: Checkpoint) -> ModelOutput:
    """The model's matte of a frame, for models that start from it: with those settings of the frame
    that it has too, and its defaults. What was moved on the set is still in it."""
    schema = DIFFERENCE.settings_schema
    shared = {name: value for name, value in given.settings.items() if name in schema}
    settings = schema.validate(shared, model=DIFFERENCE.name)
    return DifferenceModel(DIFFERENCE).with_moved(replace(given, settings=settings), checkpoint)


class _Small:
    """The inputs at working size, cut at `BRIGHTEST`."""

    def __init__(self, given: ModelInput) -> None:
        assert given.clean_plate is not None
        self.plate = shrunk(np.minimum(given.plate, BRIGHTEST))
        self.clean_plate = shrunk(np.minimum(given.clean_plate, BRIGHTEST))
        self.hint = None if given.alpha_hint is None else shrunk(given.alpha_hint)
        self.outside: Optional[Mask] = None
        if given.outside is not None and given.outside.any():
            self.outside = shrunk(given.outside.astype(np.float32)) > 0


def _nothing_sure(given: ModelInput, evidence: Evidence, trimap: Trimap) -> ModelOutput:
    """The matte where no pixel is certainly subject: alpha follows the difference, or, where the
    set shows through, the coverage that follows from its detail."""
    ramp = np.clip(evidence.distance / np.float32(RAMP), 0, 1)
    ramp = np.where(evidence.through, evidence.covered_by, ramp)
    alpha = enlarged(np.where(trimap.unknown, ramp, 0), given.plate.shape).copy()
    degraded = () if trimap.empty.any() else (NO_SET,)
    return ModelOutput(alpha, _foreground(given, given.plate.copy(), alpha), degraded=degraded)


# --- alpha ----------------------------------------------------------------------------------------


def _solved(
    given: ModelInput,
    small: _Small,
    evidence: Evidence,
    edges: Edges,
    trimap: Trimap,
    checkpoint: Checkpoint,
) -> tuple[FloatImage, FloatImage]:
    """Alpha (H, W) and the subject's colour (H, W, 3): known pixels as they are, others solved."""
    assert given.clean_plate is not None
    shape = given.plate.shape[:2]
    subject, unknown = _full_masks(trimap, shape)
    # The wide band holds colours that nothing else has, such as those of hair.
    palette = make_palette(small.plate, trimap.depth > 1)
    noise = pixel_noise(given.plate, given.clean_plate, ~(subject | unknown))
    alpha = subject.astype(np.float32)
    trust = np.ones(shape, np.float32)
    colour = _base_colour(given.plate, subject, palette)
    rows, columns = np.nonzero(unknown)
    chunks = solve(
        given.plate,
        given.clean_plate,
        unknown,
        palette,
        evidence,
        trimap,
        noise,
        given.scene_linear,
    )
    for part, found in chunks:
        checkpoint("alpha", part.stop, len(rows))
        y, x = rows[part], columns[part]
        alpha[y, x], trust[y, x], colour[y, x] = found.alpha, found.trust, found.colour
    if given.outside is not None:
        trust[given.outside & unknown] = 0
    near = _neighbours(alpha, trust, edges, trimap)
    own, others = trust[unknown], enlarged(near, shape)[unknown]
    alpha[unknown] = np.clip(own * alpha[unknown] + (1 - own) * others, 0, 1)
    return alpha, colour


def _full_masks(trimap: Trimap, shape: tuple[int, int]) -> tuple[Mask, Mask]:
    """Certain subject and unknown at full size; what enlarging leaves undecided is unknown."""
    if trimap.subject.shape == shape:
        return trimap.subject, trimap.unknown
    subject = enlarged(trimap.subject.astype(np.float32), shape) > 0.999
    empty = enlarged(trimap.empty.astype(np.float32), shape) > 0.999
    return subject, ~(subject | empty)


def pixel_noise(plate: FloatImage, clean_plate: FloatImage, empty: Mask) -> float:
    """Standard deviation of one channel of one pixel between plate and clean plate, encoded.

    empty: (H, W), where the plate shows only the set.
    """
    rows, columns = np.nonzero(empty)
    every = max(1, len(rows) // 100_000)
    rows, columns = rows[::every], columns[::every]
    measured = 0.01
    if len(rows) >= 100:
        apart = np.abs(plate[rows, columns] - clean_plate[rows, columns])
        measured = min(float(np.median(apart)) / 0.6745, 0.2)
    return float(np.hypot(max(measured, LEAST_NOISE), CODING_NOISE))


def _base_colour(plate: FloatImage, subject: Mask, palette: Palette) -> FloatImage:
    """The plate where the subject is certain, elsewhere the colour of the subject nearby."""
    colour = enlarged(palette.mean, plate.shape)
    if colour is palette.mean:
        colour = colour.copy()
    cv2.copyTo(plate, subject.astype(np.uint8), colour)
    return colour


def _neighbours(alpha: FloatImage, trust: FloatImage, edges: Edges, trimap: Trimap) -> FloatImage:
    """Alpha at working size that follows from trusted neighbours and the region."""
    value, weight = shrunk(alpha), np.square(shrunk(trust)) + np.float32(1e-3)
    unknown = trimap.unknown
    mixed = value * weight + REGION_TRUST * trimap.likelihood
    value = np.where(unknown, mixed / (weight + REGION_TRUST), value)
    weight = np.where(unknown, weight + np.float32(REGION_TRUST), weight)
    between = links(edges, NEIGHBOUR_STEP)
    return smoothed(value, weight, between, NEIGHBOUR_STRENGTH, NEIGHBOUR_ROUNDS)


# --- foreground -----------------------------------------------------------------------------------


def _foreground(given: ModelInput, colour: FloatImage, alpha: FloatImage) -> FloatImage:
    """Straight colour: the plate where alpha is 1, unmixed where there is enough of it, else
    `colour`, which is written into."""
    assert given.clean_plate is not None
    opaque = alpha >= 1
    cv2.copyTo(given.plate, opaque.astype(np.uint8), colour)
    soft = ~opaque & (alpha > UNMIX_FROM)
    if not soft.any():
        return colour
    part, near = alpha[soft][:, None], colour[soft]
    seen: FloatImage = np.minimum(given.plate[soft], np.float32(LARGEST))
    empty: FloatImage = np.minimum(given.clean_plate[soft], np.float32(LARGEST))
    ceiling = np.maximum(1, seen.max(axis=1, keepdims=True))
    if given.scene_linear:
        seen, empty = srgb_decode(seen), srgb_decode(empty)
    unmixed: FloatImage = np.maximum(seen - (1 - part) * empty, 0)
    unmixed /= np.maximum(part, UNMIX_LEAST)
    if given.scene_linear:
        unmixed = srgb_encode(unmixed)
    weight = np.clip((part - UNMIX_FROM) / (UNMIX_FULL - UNMIX_FROM), 0, 1)
    colour[soft] = weight * np.minimum(unmixed, ceiling) + (1 - weight) * near
    return colour
