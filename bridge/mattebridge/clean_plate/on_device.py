"""The clean plate of a frame on a GPU: laid under the plate there, solved in main memory.

    plate, clean plate --small--> main memory: `match.solve`
          |                            | homography, gain and offset
          `----------------------------+--> warped and matched on the device

The full-size pictures stay on the device. Within 2e-4 the result is that of `match_clean_plate`,
which is for pictures in main memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.checkpoint import Checkpoint
from mattebridge.clean_plate.match import Alignment, CleanPlateMatch, described, solve, unchanged
from mattebridge.clean_plate.pair import (
    GEOMETRY_SIDE,
    MINIMUM_SIDE,
    CleanSide,
    Matrix,
    Pair,
    Solution,
    outside_of,
    size_at,
)
from mattebridge.color import FloatImage
from mattebridge.models.difference.full_size import shrunk
from mattebridge.models.pytorch.double import double_of
from mattebridge.models.pytorch.frames import arrays_of


@dataclass(frozen=True)
class Looked:
    """A picture (H, W, 3) of the device as alignment looks at it: small, and its brightest value.

    subject: (h, w) 0..1, where the subject is known to be.
    """

    small: FloatImage
    brightest: float
    subject: Optional[FloatImage] = None

    @classmethod
    def at(cls, picture: Tensor, subject: Optional[Tensor] = None) -> Looked:
        """Waits for the device once."""
        return cls.of(arrays_of(*what_is_looked_at(picture, subject)))

    @classmethod
    def of(cls, arrays: Sequence[FloatImage]) -> Looked:
        """Of the values of `what_is_looked_at`, in main memory."""
        small, *rest, peak = arrays
        return cls(small, float(peak[0]), rest[0] if rest else None)

    @property
    def side(self) -> CleanSide:
        """What alignment needs of it, where it is the clean plate."""
        return CleanSide(self.small, self.brightest)


def what_is_looked_at(picture: Tensor, subject: Optional[Tensor] = None) -> list[Tensor]:
    """Of a picture (H, W, 3), on the device: small, with the subject where it is known; then its
    brightest value, (1,)."""
    images = [picture] if subject is None else [picture, subject]
    small = shrunk(size_at(picture.shape, GEOMETRY_SIDE), *images)
    return [*small, picture.amax().view(1)]


@dataclass(frozen=True)
class Found:
    """What was found for a plate: see `match.solve`; ceiling: see `Pair`."""

    solution: Solution
    ceiling: float


def found_for(
    seen: Looked,
    size: tuple[int, int],
    clean_side: CleanSide,
    *,
    alignment: Alignment,
    match_exposure: bool,
    checkpoint: Checkpoint,
) -> Found:
    """Look for the place of a clean plate under a plate of this height and width.

    seen: the plate. clean_side: `Looked.side` of the clean plate. In main memory alone.
    """
    pair = Pair(seen.small, clean_side, seen.subject, full=size, brightest=seen.brightest)
    return Found(solve(pair, alignment, match_exposure, checkpoint), pair.ceiling)


def match_on_device(
    plate: Tensor,
    clean_plate: Tensor,
    *,
    alignment: Alignment,
    match_exposure: bool,
    subject: Optional[Tensor],
    clean_side: CleanSide,
    checkpoint: Checkpoint,
    found: Optional[Found] = None,
    looked: Optional[Looked] = None,
) -> CleanPlateMatch:
    """`match_clean_plate` for tensors of a GPU, which the result holds too.

    clean_side: `Looked.side` of the clean plate. found: what `found_for` found for this plate, if
    that was looked for already. looked: the plate, with its subject, if that was looked at.
    """
    laid: Any = clean_plate
    height, width = plate.shape[:2]
    if min(height, width) < MINIMUM_SIDE:
        return unchanged(laid)
    if found is None:
        found = found_for(
            looked or Looked.at(plate, subject),
            (height, width),
            clean_side,
            alignment=alignment,
            match_exposure=match_exposure,
            checkpoint=checkpoint,
        )
    solution, outside = found.solution, None
    if solution.homography is not None:
        laid = _warped(clean_plate, solution.homography)
        mask = outside_of(solution.homography, (width, height), (width, height))
        outside = mask if mask.any() else None
    return described(solution, _exposed(laid, solution, found.ceiling), outside)


def _warped(picture: Tensor, matrix: Matrix) -> Tensor:
    """The picture (H, W, 3) seen under a homography; its edge is repeated."""
    (height, width), device = picture.shape[:2], picture.device
    kind = double_of(device)
    back = np.linalg.inv(matrix)
    x = torch.arange(width, device=device, dtype=kind)[None]
    y = torch.arange(height, device=device, dtype=kind)[:, None]
    from_x, from_y, depth = (float(a) * x + float(b) * y + float(c) for a, b, c in back)
    grid = torch.stack(
        [(2 * from_x / depth + 1) / width - 1, (2 * from_y / depth + 1) / height - 1], dim=2
    )
    moved = functional.grid_sample(
        picture.permute(2, 0, 1)[None],
        grid.float()[None],
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    return moved[0].permute(1, 2, 0).contiguous()


def _exposed(picture: Tensor, solution: Solution, ceiling: float) -> Any:
    exposure = solution.exposure
    if exposure.is_identity:
        return picture
    gain, offset = torch.from_numpy(np.stack([exposure.gain, exposure.offset])).to(picture.device)
    return (picture * gain + offset).clamp_(0, ceiling)
