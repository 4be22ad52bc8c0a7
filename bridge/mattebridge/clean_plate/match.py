"""The clean plate aligned with the plate, pixel by pixel, and matched to its exposure.

A clean plate shot a minute earlier is never exactly the plate without the subject: the camera stood
elsewhere or was touched, the exposure drifted. Whatever is left of that becomes matte. So, in
order:

    exposure --> homography --> exposure --> refinement --> exposure
                 camera moved                last fraction of a pixel

All of it is solved on small copies (`pair`, `geometry`, `exposure`) and applied once, to the
full-size float clean plate.

The rules that must not be broken: nothing is changed unless it measurably helps. Each step is kept
only where it lowers the median difference on the part of the set that did not change, a clean plate
that needs nothing is returned as it is, and what was asked for and not reached is in `degraded`.
And what is found for a frame is found from that frame and the clean plate alone, never from the
frames before it: a farm's chunks, a resumed job and an artist's single frame agree to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Optional

import numpy as np

from mattebridge.checkpoint import Checkpoint, no_checkpoint
from mattebridge.clean_plate.exposure import with_exposure
from mattebridge.clean_plate.geometry import (
    Refined,
    find_homography,
    find_similarity,
    refine,
    shift_px,
)
from mattebridge.clean_plate.pair import (
    CHANGED,
    MINIMUM_SIDE,
    CleanSide,
    Matrix,
    Pair,
    Solution,
    compared,
    improves,
    outside_of,
    unexplained,
    warp,
    worsens_somewhere,
)
from mattebridge.color import FloatImage, Mask

Alignment = Literal["off", "auto", "homography"]

# Labels of `degraded`.
UNALIGNED = "clean_plate_unaligned"
PARTLY_OUTSIDE = "clean_plate_does_not_cover"
EXPOSURE_UNMATCHED = "exposure_unmatched"

# Above this the difference on texture is more than grain: 0.85 to 1.25 in sets that are aligned.
MOST_UNEXPLAINED = 1.5
# Up to this a set that has not moved is aligned.
MOST_IN_PLACE = 1.25
# Above this share of the frame, missing clean plate is worth a label.
OUTSIDE_SHARE = 0.005


@dataclass(frozen=True)
class CleanPlateMatch:
    """The clean plate as the model should see it, and what was done to it.

    clean_plate: (H, W, 3) float32 display-encoded, top-down, warped and exposure-matched; may be
    the caller's own array when nothing had to change: do not write into it. outside: (H, W) bool,
    True where the warped clean plate does not cover the plate (the values there repeat its edge),
    or None where it covers all of it. homography: 3x3, clean plate pixels to plate pixels, or None.
    gain, offset: per channel, `gain * clean_plate + offset`. degraded: labels of what was asked for
    and not reached. report: plain values for the reply.
    """

    clean_plate: FloatImage
    outside: Optional[Mask]
    homography: Optional[Matrix]
    gain: tuple[float, float, float]
    offset: tuple[float, float, float]
    degraded: tuple[str, ...]
    report: Mapping[str, Any]


def match_clean_plate(
    plate: FloatImage,
    clean_plate: FloatImage,
    *,
    alignment: Alignment = "off",
    match_exposure: bool = True,
    subject: Optional[FloatImage] = None,
    clean_side: Optional[CleanSide] = None,
    checkpoint: Optional[Checkpoint] = None,
) -> CleanPlateMatch:
    """The clean plate, aligned with the plate and matched to its exposure.

    plate, clean_plate: (H, W, 3) float32, display-encoded RGB, >= 0, values above 1 allowed,
    top-down, of equal size. `alignment`: `off` leaves the geometry alone; `auto` keeps a homography
    or a sub-pixel shift only where it lowers the median difference on the unchanged set;
    `homography` keeps any plausible one that does not raise it. subject: (H, W) 0..1, where the
    subject is known to be (a hint or an earlier matte): left out of every estimate. clean_side:
    that of this same array, if it exists already; the result is the same without it. No picture
    raises an error: what could not be done is in `degraded`. Deterministic.
    """
    checkpoint = checkpoint or no_checkpoint
    wants = (alignment, match_exposure)
    if min(plate.shape[:2]) < MINIMUM_SIDE or wants == ("off", False):
        return unchanged(clean_plate)
    if clean_side is None or clean_side.picture is not clean_plate:
        clean_side = CleanSide(clean_plate)
    pair = Pair(plate, clean_side, subject)
    solution = solve(pair, alignment, match_exposure, checkpoint)
    return _applied(solution, plate, clean_plate, pair.ceiling)


def unchanged(clean_plate: FloatImage) -> CleanPlateMatch:
    """The match of pictures that are too small, or are to stay as they are."""
    return CleanPlateMatch(
        clean_plate=clean_plate,
        outside=None,
        homography=None,
        gain=(1.0, 1.0, 1.0),
        offset=(0.0, 0.0, 0.0),
        degraded=(),
        report={"aligned": False},
    )


def solve(
    pair: Pair, alignment: Alignment, match_exposure: bool, checkpoint: Checkpoint
) -> Solution:
    """Geometry and exposure of the clean plate of a pair, and what was not reached."""
    checkpoint("match_exposure")
    untouched = Solution()
    start = with_exposure(pair, untouched, match_exposure)
    best, report = start, dict[str, Any]()
    degraded: list[str] = []
    if alignment != "off":
        checkpoint("align")
        search = _Search(pair, start, match_exposure, checkpoint)
        moved = None
        if alignment == "homography" or not search.is_in_place():
            moved, found = find_homography(pair, start)
            report.update(found)
        best = search.settled(moved, forced=alignment == "homography")
        if unexplained(pair, best) > MOST_UNEXPLAINED:
            checked = search.checked(best)
            if checked is start and best is not start:
                report["alignment_refused"] = "parts of the frame would differ more"
            best = checked
        if alignment == "homography" and moved is None and best.homography is None:
            degraded.append(UNALIGNED)
        elif _lost(pair, best):
            # Whatever was found then was found by chance.
            best = start
            degraded.append(UNALIGNED)
    if best.exposure.refused:
        degraded.append(EXPOSURE_UNMATCHED)
    before, after = (_median(d) for d in compared(pair, untouched, best))
    report.update(
        unexplained=round(unexplained(pair, best), 2),
        difference_before=round(before, 5),
        difference_after=round(after, 5),
        shift_px=round(shift_px(best.homography, pair.full), 3),
    )
    return Solution(best.homography, best.exposure, tuple(degraded), report)


class _Search:
    """The geometry of a pair, looked for from one start; what was found there is found once."""

    def __init__(
        self, pair: Pair, start: Solution, match_exposure: bool, checkpoint: Checkpoint
    ) -> None:
        self.pair, self.start = pair, start
        self._match_exposure, self._checkpoint = match_exposure, checkpoint
        # Not cached properties: those of all searches wait for each other before Python 3.12.
        self._refinement: Optional[Refined] = None
        self._start_refined: Optional[Solution] = None

    def settled(self, moved: Optional[Solution], *, forced: bool = False) -> Solution:
        """The best of the start, `moved` and what the refinement makes of them.

        forced: `moved` is kept unless it makes things worse.
        """
        best = self.start
        if moved is not None:
            moved = with_exposure(self.pair, moved, self._match_exposure)
            if improves(self.pair, best, moved) or (
                forced and not improves(self.pair, moved, best)
            ):
                best = moved
        self._checkpoint("refine")
        if best is self.start:
            return self._refined_start()
        return self._refined(best, refine(self.pair, best))

    def checked(self, best: Solution) -> Solution:
        """What to take where grain does not explain what is left under `best`.

        A similarity, where it lies better; the start, where either makes a part of the frame worse.
        """
        similar = self.settled(find_similarity(self.pair, self.start))
        sound = [
            one for one in (best, similar) if not worsens_somewhere(self.pair, self.start, one)
        ]
        if len(sound) == 2:
            return similar if improves(self.pair, best, similar) else best
        return sound[0] if sound else self.start

    def is_in_place(self) -> bool:
        """Whether the start is the place: the set has not moved under it, and grain alone explains
        what is left. No corners could tell more; looking for them takes half of the time."""
        return self._of_start().in_place and unexplained(self.pair, self.start) <= MOST_IN_PLACE

    def _of_start(self) -> Refined:
        """What the refinement makes of the start, found once."""
        if self._refinement is None:
            self._refinement = refine(self.pair, self.start)
        return self._refinement

    def _refined_start(self) -> Solution:
        if self._start_refined is None:
            self._start_refined = self._refined(self.start, self._of_start())
        return self._start_refined

    def _refined(self, best: Solution, found: Refined) -> Solution:
        """`best`, or what the refinement found for it where that lies better."""
        if found.solution is None:
            return best
        refined = with_exposure(self.pair, found.solution, self._match_exposure)
        return refined if improves(self.pair, best, refined) else best


def _lost(pair: Pair, best: Solution) -> bool:
    """Whether not even a quarter of the frame is set that stands still.

    Where the set is aligned, it differs by grain only.
    """
    _, covered, whole = pair.seen(best)
    difference = whole[covered][::3]
    return bool(difference.size and np.quantile(difference, 0.25) > CHANGED)


def _median(difference: FloatImage) -> float:
    """The median, 1 where no set is left to compare."""
    return float(np.median(difference)) if difference.size else 1.0


def _applied(
    solution: Solution, plate: FloatImage, clean_plate: FloatImage, ceiling: float
) -> CleanPlateMatch:
    height, width = plate.shape[:2]
    matrix, outside, matched = solution.homography, None, clean_plate
    if matrix is not None:
        matched = warp(clean_plate, matrix, (width, height))
        outside = outside_of(matrix, (clean_plate.shape[1], clean_plate.shape[0]), (width, height))
    return described(solution, solution.exposure.apply(matched, ceiling), outside)


def described(solution: Solution, matched: FloatImage, outside: Optional[Mask]) -> CleanPlateMatch:
    """What was found, with the clean plate as it was laid under the plate."""
    share = 0.0 if outside is None else float(outside.mean())
    degraded = list(solution.degraded)
    if share > OUTSIDE_SHARE:
        degraded.append(PARTLY_OUTSIDE)
    gain, offset = solution.exposure.gain, solution.exposure.offset
    report = {
        **solution.report,
        "aligned": solution.homography is not None,
        "outside_share": round(share, 5),
        "gain": [round(float(v), 4) for v in gain],
        "offset": [round(float(v), 4) for v in offset],
    }
    if solution.exposure.refused:
        report["exposure_refused"] = solution.exposure.refused
    return CleanPlateMatch(
        clean_plate=matched,
        outside=outside if share else None,
        homography=solution.homography,
        gain=_triple(gain),
        offset=_triple(offset),
        degraded=tuple(degraded),
        report=report,
    )


def _triple(values: FloatImage) -> tuple[float, float, float]:
    red, green, blue = (float(v) for v in values)
    return red, green, blue
