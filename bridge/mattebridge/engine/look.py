"""What the host looks at of a plate on a GPU before its model: small, and how bright it is.

    plate, hint, core matte --finite, straight, display--> small, brightest value --> main memory

The search for the clean plate (align.py) and a model's first steps work on it. It is made without
a look at the values of the full-size pictures, so that these are waited for once; what the frame
itself is made of later has the same values.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

from mattebridge.engine.align import Wanted
from mattebridge.engine.blocks import ends_of, pairs_of
from mattebridge.engine.clean_plates import KeptCleanPlate
from mattebridge.engine.request import FrameRequest
from mattebridge.engine.samples import straight
from mattebridge.engine.space import display_of
from mattebridge.models.pytorch.frames import arrays_of
from mattebridge.ocio.space import Curve

if TYPE_CHECKING:
    from mattebridge.clean_plate.on_device import Looked

_SUBJECT = ("alpha_hint", "core_matte")


def wanted_ahead(
    kept: Optional[KeptCleanPlate], request: FrameRequest, size: tuple[int, ...]
) -> Optional[Wanted]:
    """What is to be looked for with a clean plate; None where nothing is, or nothing before the
    values of the plate are known: with one that was not used before, or a colour space of main
    memory."""
    wanted = Wanted.of(request.params, request.card)
    if wanted is None or kept is None or kept.side is None:
        return None
    if request.space.curve is Curve.WHOLE:
        return None
    from mattebridge.clean_plate.pair import MINIMUM_SIDE

    return None if min(size[:2]) < MINIMUM_SIDE else wanted


def what_is_looked_at(
    plate: Tensor, alpha: Optional[Tensor], mattes: Mapping[str, Tensor], request: FrameRequest
) -> list[Tensor]:
    """Of images as they were read, which are not written into: see `on_device`."""
    from mattebridge.clean_plate import on_device

    alpha = None if alpha is None else _finite(alpha)
    shown = straight(_finite(plate), alpha, request.params.plate_alpha, request.space)
    finite = {role: _finite(mattes[role]).clamp_(0, 1) for role in _SUBJECT if role in mattes}
    display = display_of(shown, request.space)
    return on_device.what_is_looked_at(display, subject_of(finite))


def subject_of(mattes: Mapping[str, Tensor]) -> Optional[Tensor]:
    """Where the hint or the core matte show the subject, (H, W) 0..1; None without either."""
    shown = [mattes[role] for role in _SUBJECT if role in mattes]
    return functools.reduce(torch.maximum, shown) if shown else None


def looked_at_with_ranges(
    images: Mapping[str, Tensor], request: FrameRequest
) -> tuple[dict[str, tuple[float, float]], Looked]:
    """The lowest and highest value of each image, NaN where it holds one, and the plate as it is
    looked at; one wait for all of it. images: see `preprocess`."""
    from mattebridge.clean_plate.on_device import Looked

    seen = what_is_looked_at(images["plate"], images.get("plate_alpha"), images, request)
    found, *arrays = arrays_of(ends_of(*images.values()), *seen)
    return dict(zip(images, pairs_of(found.tolist()))), Looked.of(arrays)


def _finite(values: Tensor) -> Tensor:
    return values.nan_to_num(0.0, 0.0, 0.0)
