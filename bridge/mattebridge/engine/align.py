"""The clean plate of a frame, aligned to its plate and matched in exposure where that is wanted.

Each frame is aligned by itself: equal inputs give equal pixels, whatever was rendered before. What
depends on the clean plate alone is kept with it (`KeptCleanPlate.side`). cv2 is imported only where
something is to be aligned or fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional

from mattebridge.checkpoint import Checkpoint
from mattebridge.engine.inputs import PreparedInputs
from mattebridge.engine.picture import Picture
from mattebridge.models.base import ModelCard
from mattebridge.wire.params import RenderParams

if TYPE_CHECKING:
    from mattebridge.models.base import Mask


@dataclass(frozen=True)
class MatchedCleanPlate:
    """The clean plate as the model sees it, None without one.

    outside: (H, W) bool, where it does not cover the plate; None where it covers all of it.
    degraded: labels of what was asked for and not reached.
    """

    picture: Optional[Picture] = None
    outside: Optional[Mask] = None
    degraded: tuple[str, ...] = ()


def matched_clean_plate(
    inputs: PreparedInputs, params: RenderParams, card: ModelCard, checkpoint: Checkpoint
) -> MatchedCleanPlate:
    """The clean plate, aligned and fitted; what was found goes into the notes of `inputs`."""
    kept = inputs.clean_plate
    if kept is None or kept.picture is None:
        return MatchedCleanPlate()
    alignment, exposure = _alignment_for(params, card), _fits_exposure(params, card)
    if alignment == "off" and not exposure:
        return MatchedCleanPlate(kept.picture)
    from mattebridge.clean_plate.match import match_clean_plate
    from mattebridge.clean_plate.pair import CleanSide

    checkpoint("align")
    kept.side = kept.side or CleanSide(kept.picture.display)
    match = match_clean_plate(
        inputs.plate.display,
        kept.picture.display,
        alignment=alignment,  # type: ignore[arg-type]
        match_exposure=exposure,
        subject=inputs.subject,
        clean_side=kept.side,
        checkpoint=checkpoint,
    )
    inputs.notes["alignment"] = _notes_of(match)
    picture = kept.matched_picture(match.clean_plate)
    return MatchedCleanPlate(picture, match.outside, match.degraded)


def _alignment_for(params: RenderParams, card: ModelCard) -> str:
    """How the clean plate is aligned: as asked for, else the model's default."""
    return params.alignment or card.default_alignment


def _fits_exposure(params: RenderParams, card: ModelCard) -> bool:
    """Whether exposure is fitted: as asked for, else wherever the alignment is `auto`."""
    if params.match_exposure is None:
        return _alignment_for(params, card) == "auto"
    return params.match_exposure


def _notes_of(match: Any) -> dict[str, Any]:
    """What alignment and exposure fit found, in plain values."""
    homography = match.homography
    return {
        **match.report,
        "homography": None if homography is None else [float(v) for v in homography.ravel()],
        "gain": [float(v) for v in match.gain],
        "offset": [float(v) for v in match.offset],
    }
