"""The keyer's matte with a wider band: less of the subject is taken for granted.

    trimap --sure subject--------> trimap of the wide band --sure subject--> stays
                                                          `--unknown-------> solved as well

A narrow band is right for bodies, above all those in the set's colours, and wrong for hair and the
gaps in it; a wide one the other way round. A network that is given both can choose. The narrow
matte is that of `keyed`; the wide one differs from it only where that is sure subject, so evidence,
region and everything outside are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mattebridge.models.difference.evidence import Evidence
from mattebridge.models.difference.foreground import UNMIX_FROM, unmix
from mattebridge.models.difference.full_size import enlarged, places_of
from mattebridge.models.difference.mixture import Noise, make_palette, solve
from mattebridge.models.difference.trimap import Trimap
from mattebridge.models.pytorch.frames import Frame

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# How many times as wide the wide band is.
WIDE = 2.5


@dataclass(frozen=True)
class Opened:
    """Pixels of the sure subject that were solved: their places (N,), alpha (N,), colour (N, 3)."""

    places: Tensor
    alpha: Tensor
    colour: Tensor


def opened_inside(
    frame: Frame,
    small_plate: FloatImage,
    subject: Tensor,
    evidence: Evidence,
    trimaps: Sequence[Trimap],
    noise: Noise,
    explained: tuple[Tensor, Tensor],
) -> Opened:
    """What is sure subject for the narrow band and not for the wide one, solved.

    small_plate: at working size. subject: (H, W), the sure subject of the narrow band at full size.
    trimaps: narrow and wide. explained: plate and clean plate, by which pixels are. An alpha that
    the mixtures hardly support is drawn towards 1, what the narrow band says.
    """
    narrow, wide = trimaps
    sure = wide.depth > 1
    palette = make_palette(small_plate, sure if sure.any() else narrow.depth > 1)
    deep = enlarged(wide.subject.astype(np.float32), frame.plate) > 0.999
    places = places_of(subject & ~deep)
    alpha = torch.ones(len(places), device=frame.plate.device)
    colour = alpha.new_zeros(len(places), 3)
    chunks = solve(*explained, places, palette, evidence, wide, noise, frame.scene_linear)
    for part, found in chunks:
        alpha[part] = (1 + found.trust * (found.alpha - 1)).clamp_(0, 1)
        colour[part] = found.colour
    return Opened(places, alpha, colour)


def with_opened(
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
    unmix(frame, foreground, alpha, places[soft])
    return alpha, foreground
