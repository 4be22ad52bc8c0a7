"""The keyer's matte with a wider band: less of the subject is taken for granted.

    trimap: sure subject --less than `WIDE` edge widths inside?--> solved as well
                          `--deeper---------------------------------> stays

A narrow band is right for bodies, above all those in the set's colours, and wrong for hair and the
gaps in it; a wide one the other way round. A network that is given both can choose. The narrow
matte is that of `keyed`; the wide one differs from it only where that is sure subject, so evidence,
trimap, palette and everything outside are computed once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mattebridge.models.difference.evidence import Evidence
from mattebridge.models.difference.full_size import enlarged, places_of
from mattebridge.models.difference.mixture import Palette, solve
from mattebridge.models.difference.trimap import Trimap
from mattebridge.models.pytorch.frames import Frame

# Sure subject this many edge widths deep stays sure.
WIDE = 3.0


@dataclass(frozen=True)
class Opened:
    """Pixels of the sure subject that were solved: their places (N,), alpha (N,), colour (N, 3)."""

    places: Tensor
    alpha: Tensor
    colour: Tensor


def opened_inside(
    frame: Frame,
    subject: Tensor,
    palette: Palette,
    evidence: Evidence,
    trimap: Trimap,
    noise: float,
) -> Opened:
    """The outer part of the sure subject, solved like the unknown pixels.

    subject: (H, W), the sure subject at full size. An alpha that the mixtures hardly support is
    drawn towards 1, what the narrow band says.
    """
    shallow = (trimap.subject & (trimap.depth <= WIDE)).astype("float32")
    places = places_of(subject & (enlarged(shallow, frame.plate) > 0))
    wider = replace(trimap, depth=trimap.depth / WIDE)
    alpha, colour = torch.ones(len(places)), torch.zeros(len(places), 3)
    alpha, colour = alpha.to(frame.plate.device), colour.to(frame.plate.device)
    pictures = frame.plate, frame.clean_plate
    chunks = solve(*pictures, places, palette, evidence, wider, noise, frame.scene_linear)
    for part, found in chunks:
        alpha[part] = (1 + found.trust * (found.alpha - 1)).clamp_(0, 1)
        colour[part] = found.colour
    return Opened(places, alpha, colour)
