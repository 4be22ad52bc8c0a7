"""What the host looks at of a frame on a GPU before its model: ranges, and the plate small.

    planes as they were read ---------------------------> lowest and highest values --.
    plate, hint, core matte --finite, straight, display--> small, brightest value ----+--> `Looks`

The search for the clean plate (align.py) and a model's first steps work on the small picture. It is
made without a look at the values of the full-size pictures, so that all of this is waited for once,
or ahead of the frame's turn (ahead.py); what the frame itself is made of later has the same values.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import torch
from torch import Tensor

from mattebridge.color import FloatImage
from mattebridge.engine.align import Wanted
from mattebridge.engine.blocks import ends_of, pairs_of
from mattebridge.engine.clean_plates import KeptCleanPlate
from mattebridge.engine.request import FrameRequest
from mattebridge.engine.samples import straight
from mattebridge.engine.space import display_of
from mattebridge.models.pytorch.fetched import Fetched
from mattebridge.ocio.space import Curve

if TYPE_CHECKING:
    from mattebridge.clean_plate.on_device import Looked

_SUBJECT = ("alpha_hint", "core_matte")


def is_looked_at_small(
    kept: Optional[KeptCleanPlate], request: FrameRequest, size: tuple[int, ...]
) -> bool:
    """Whether a plate is looked at small: where its clean plate is searched for, and for a model
    that works on it. Not before its values are known: with a clean plate that was not used before,
    or a colour space of main memory."""
    wanted = Wanted.of(request.params, request.card) is not None
    if not (wanted or request.card.takes_small_images) or kept is None or kept.side is None:
        return False
    if request.space.curve is Curve.WHOLE:
        return False
    from mattebridge.clean_plate.pair import MINIMUM_SIDE

    return min(size[:2]) >= MINIMUM_SIDE


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


@dataclass(frozen=True)
class Looks:
    """What the host looks at of a frame as it was read, on its way to main memory.

    roles: of the images of which there are ranges, in order.
    """

    roles: tuple[str, ...]
    fetched: Fetched

    @classmethod
    def begin(cls, images: Mapping[str, Tensor], request: FrameRequest, *, small: bool) -> Looks:
        """images: see `preprocess`. small: the plate as alignment looks at it, too."""
        shown = [ends_of(*images.values())]
        if small:
            shown += what_is_looked_at(images["plate"], images.get("plate_alpha"), images, request)
        return cls(tuple(images), Fetched.begin(*shown))

    @property
    def has_small(self) -> bool:
        """Whether the plate is looked at as alignment does."""
        return len(self.fetched.arrays) > 1

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The lowest and highest value of each image, NaN where it holds one; waits unless the
        copies are over."""
        return dict(zip(self.roles, pairs_of(self._arrays()[0].tolist())))

    def looked(self) -> Optional[Looked]:
        """The plate as it is looked at, if that was asked for; waits likewise."""
        from mattebridge.clean_plate.on_device import Looked

        _, *small = self._arrays()
        return Looked.of(small) if small else None

    def _arrays(self) -> list[FloatImage]:
        return self.fetched.arrays if self.fetched.is_over() else self.fetched.wait()


def _finite(values: Tensor) -> Tensor:
    return values.nan_to_num(0.0, 0.0, 0.0)
