"""The clean plate of a frame, aligned to its plate and matched in exposure where that is wanted.

The search works on small arrays in main memory; on a GPU the full-size pictures stay there. Each
frame is aligned by itself: equal inputs give equal pixels, whatever was rendered before. What
depends on the clean plate alone is kept with it (`KeptCleanPlate.side`). cv2 is imported only where
something is to be aligned or fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Optional, Protocol

import torch
from torch import Tensor

from mattebridge.checkpoint import Checkpoint
from mattebridge.engine.clean_plates import KeptCleanPlate
from mattebridge.engine.device import array_from, picture_on
from mattebridge.engine.picture import Picture
from mattebridge.engine.request import FrameRequest
from mattebridge.models.base import ModelCard, SmallImages
from mattebridge.models.pytorch.frames import arrays_of
from mattebridge.ocio.space import SRGB
from mattebridge.wire.params import RenderParams

if TYPE_CHECKING:
    from mattebridge.clean_plate.match import Alignment
    from mattebridge.clean_plate.on_device import Found, Looked
    from mattebridge.clean_plate.pair import CleanSide
    from mattebridge.models.base import Mask


class SearchAhead(Protocol):
    """A search for a frame's alignment that was begun before its turn."""

    def found(self, clean_plate: KeptCleanPlate, checkpoint: Checkpoint) -> Optional[Found]:
        """Wait for what was found with this clean plate; None where it is to be looked for."""


@dataclass(frozen=True)
class MatchedCleanPlate:
    """The clean plate as the model sees it, None without one.

    outside: (H, W) bool, where it does not cover the plate; None where it covers all of it.
    unfitted: the clean plate before, None where it was not changed. degraded: labels of what was
    asked for and not reached. notes: what was found, for the reply. found: see
    `KeptCleanPlate.found`. small: what was looked at, its hint being `subject`; None where that is
    not in main memory.
    """

    picture: Optional[Picture] = None
    outside: Optional[Tensor] = None
    unfitted: Optional[Picture] = None
    degraded: tuple[str, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    found: Optional[MutableMapping[str, Any]] = None
    small: Optional[SmallImages] = None


@dataclass(frozen=True)
class Wanted:
    """What is to be looked for: as asked for, else the model's default; the exposure by default
    wherever the alignment is `auto`."""

    alignment: Alignment
    exposure: bool

    @classmethod
    def of(cls, params: RenderParams, card: ModelCard) -> Optional[Wanted]:
        """None where the clean plate is to stay as it is."""
        alignment = params.alignment or card.default_alignment
        exposure = alignment == "auto" if params.match_exposure is None else params.match_exposure
        if alignment == "off" and not exposure:
            return None
        return cls(alignment, exposure)  # type: ignore[arg-type]


def matched_clean_plate(
    plate: Picture,
    kept: Optional[KeptCleanPlate],
    subject: Optional[Tensor],
    request: FrameRequest,
    checkpoint: Checkpoint,
    search: Optional[SearchAhead] = None,
    looked: Optional[Looked] = None,
) -> MatchedCleanPlate:
    """The clean plate, aligned and fitted as far as the request or its model want that.

    subject: (H, W) 0..1, where the subject is known to be. search: of this frame, if it was begun
    ahead (ahead.py). looked: the plate of a frame on a GPU, if it was looked at with its range.
    """
    if kept is None:
        return MatchedCleanPlate()
    wanted = Wanted.of(request.params, request.card)
    device, picture = plate.pixels.device, kept.picture
    if wanted is None:
        if device.type != "cpu" and request.card.takes_small_images:
            _look_at(kept)
        small = _small_images(looked, kept.side, None)
        return MatchedCleanPlate(picture, found=kept.found, small=small)
    checkpoint("align")
    if device.type == "cpu":
        match = _found_here(plate, kept, subject, wanted, checkpoint)
    else:
        match = _found_there(plate, kept, subject, wanted, checkpoint, search, looked)
    unfitted, seen = None, kept.side
    if match.clean_plate is not picture.display:
        unfitted = picture
        if looked is None:
            picture = Picture.of(match.clean_plate, SRGB)
        else:
            picture, seen = _looked_at(match.clean_plate)
    outside = None if match.outside is None else torch.from_numpy(match.outside).to(device)
    notes = {"alignment": _notes_of(match)}
    small = _small_images(looked, seen, match.outside)
    return MatchedCleanPlate(picture, outside, unfitted, match.degraded, notes, kept.found, small)


def _found_here(
    plate: Picture,
    kept: KeptCleanPlate,
    subject: Optional[Tensor],
    wanted: Wanted,
    checkpoint: Checkpoint,
) -> Any:
    """The match of a frame in main memory; its clean plate is a tensor, the kept one if unchanged.

    The arrays are the frame's own memory.
    """
    from mattebridge.clean_plate.match import match_clean_plate
    from mattebridge.clean_plate.pair import CleanSide

    kept.side = kept.side or CleanSide(array_from(kept.picture.display))
    match = match_clean_plate(
        array_from(plate.display),
        kept.side.picture,
        alignment=wanted.alignment,
        match_exposure=wanted.exposure,
        subject=None if subject is None else array_from(subject),
        clean_side=kept.side,
        checkpoint=checkpoint,
    )
    found: Any = kept.picture.display
    if match.clean_plate is not kept.side.picture:
        found = picture_on(match.clean_plate, plate.pixels.device)
    return replace(match, clean_plate=found)


def _found_there(
    plate: Picture,
    kept: KeptCleanPlate,
    subject: Optional[Tensor],
    wanted: Wanted,
    checkpoint: Checkpoint,
    search: Optional[SearchAhead],
    looked: Optional[Looked],
) -> Any:
    """The same for a frame on a GPU, whose full-size pictures stay there."""
    from mattebridge.clean_plate.on_device import match_on_device

    return match_on_device(
        plate.display,
        kept.picture.display,
        alignment=wanted.alignment,
        match_exposure=wanted.exposure,
        subject=subject,
        clean_side=_look_at(kept),
        checkpoint=checkpoint,
        found=None if search is None else search.found(kept, checkpoint),
        looked=looked,
    )


def _look_at(kept: KeptCleanPlate) -> CleanSide:
    """A clean plate on a GPU in main memory, small; waits at its first use."""
    from mattebridge.clean_plate.on_device import Looked

    kept.side = kept.side or Looked.at(kept.picture.display).side
    return kept.side


def _small_images(
    looked: Optional[Looked], seen: Optional[CleanSide], outside: Optional[Mask]
) -> Optional[SmallImages]:
    """For the model, where plate and clean plate were looked at. outside: see `SmallImages`."""
    if looked is None or seen is None:
        return None
    brightest = looked.brightest, seen.peak
    return SmallImages(looked.small, seen.small, looked.subject, outside, brightest)


def _looked_at(clean_plate: Tensor) -> tuple[Picture, CleanSide]:
    """A fitted clean plate on a GPU with its range, and as a model looks at it; one wait."""
    from mattebridge.clean_plate.on_device import Looked, what_is_looked_at

    lowest = clean_plate.amin().view(1)
    least, *arrays = arrays_of(lowest, *what_is_looked_at(clean_plate))
    looked = Looked.of(arrays)
    return Picture(clean_plate, SRGB, float(least[0]), looked.brightest), looked.side


def _notes_of(match: Any) -> dict[str, Any]:
    """What alignment and exposure fit found, in plain values."""
    homography = match.homography
    return {
        **match.report,
        "homography": None if homography is None else [float(v) for v in homography.ravel()],
        "gain": [float(v) for v in match.gain],
        "offset": [float(v) for v in match.offset],
    }
