"""The straight colour of the keyer's alpha: the plate's own, or unmixed from the set."""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from mattebridge.models.difference.full_size import copy_where, places_of
from mattebridge.models.difference.mixture import CHUNK
from mattebridge.models.pytorch.curves import all_decoded, encoded
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.pytorch.pixels import put, taken

# The unmixed colour is used from the first alpha on, alone from the second on; below them that of
# the palette. It is divided by the third at least.
UNMIX_FROM, UNMIX_FULL, UNMIX_LEAST = 0.3, 0.8, 0.1
# Encoded; a larger value has no meaning, and decoding it would exceed float32.
LARGEST = 1e6


def foreground_of(frame: Frame, colour: Tensor, alpha: Tensor, places: Optional[Tensor]) -> Tensor:
    """Straight colour: the plate where alpha is 1, unmixed where there is enough of it, else
    `colour`, which is written into.

    places: (N,) in reading order, outside of which alpha is 0 or 1; None where that is not known.
    """
    copy_where(alpha >= 1, frame.plate, colour)
    on_cpu = colour.device.type == "cpu"
    if places is None:
        everywhere = torch.arange(alpha.numel(), device=colour.device)
        places = places_of(_is_soft(alpha)) if on_cpu else everywhere
    elif on_cpu:
        places = places[_is_soft(taken(alpha, places))]
    unmix(frame, colour, alpha, places)
    return colour


def unmix(frame: Frame, colour: Tensor, alpha: Tensor, places: Tensor) -> None:
    """Mix what is unmixed from the plate into `colour` at these places, as far as they are soft: a
    GPU is not waited for to tell which are; on a CPU all of them must be."""
    on_cpu = colour.device.type == "cpu"
    for some in torch.split(places, CHUNK if on_cpu else max(1, len(places))):
        part, near = taken(alpha, some)[:, None], taken(colour, some)
        seen = taken(frame.plate, some).clamp_(max=LARGEST)
        empty = taken(frame.clean_plate, some).clamp_(max=LARGEST)
        unmixed = _unmixed(seen, empty, part, frame.scene_linear)
        weight = ((part - UNMIX_FROM) / (UNMIX_FULL - UNMIX_FROM)).clamp_(0, 1)
        found = weight * unmixed + (1 - weight) * near
        put(colour, some, found if on_cpu else torch.where(_is_soft(part), found, near))


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
