"""The clean plates that are kept between frames, with what was computed from each of them alone.

    planes --find--> KeptCleanPlate; or a new one, which reads them
           --keep----------> kept (once its pixels are known to be whole)
           --trim----------> the last used, within the budget (after the frame)

The clean plate of a shot is usually the same picture in each frame. It crosses to the device once;
its float pixels, its colour spaces and what the alignment looks for in it (`side`) are computed
once. The alignment itself is computed for every frame: it depends on the plate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Optional

import numpy as np
import torch

from mattebridge.color import Pixels, strips
from mattebridge.engine.blocks import extremes
from mattebridge.engine.device import raw_of
from mattebridge.engine.picture import Picture
from mattebridge.engine.render_scale import Size, resampled
from mattebridge.engine.request import FrameRequest
from mattebridge.engine.samples import (
    is_finite,
    made_finite,
    negatives,
    picture_of,
    plate_alpha_of,
    straight,
)
from mattebridge.ocio.space import ColorSpace

if TYPE_CHECKING:
    from mattebridge.clean_plate.pair import CleanSide

# Six float pictures at most: both colour spaces, cut at 0 and at 1, and the alignment's copy.
_DERIVED_BYTES_PER_PIXEL = 6 * 12


@dataclass(frozen=True)
class CleanPlateKey:
    """What a clean plate is found by, beside its pixels where `content` does not stand for them.

    content: of the client; the caller must keep those of different clients apart. shape, dtype: of
    what was sent. size: height and width of the frame, to which it is resampled (render_scale.py).
    space, plate_alpha: what its samples mean.
    """

    content: Optional[str]
    shape: tuple[int, ...]
    dtype: str
    size: Size
    space: ColorSpace
    plate_alpha: str

    @classmethod
    def of(cls, plane: Pixels, size: Size, request: FrameRequest) -> CleanPlateKey:
        """That of a plane of a request, whose plate is of this size."""
        content, plate_alpha = request.clean_plate_key, request.params.plate_alpha
        return cls(content, plane.shape, plane.dtype.str, size, request.space, plate_alpha)

    @property
    def is_resampled(self) -> bool:
        """Whether it is sent in another size than that of the frame."""
        return self.shape[:2] != self.size


class KeptCleanPlate:
    """A clean plate on its device, at the size of the frames, and what was computed from it.

    Where its key has no content, `raw` is a copy of what was sent, in main memory, which later ones
    are compared with.
    """

    def __init__(self, plane: Pixels, key: CleanPlateKey, device: torch.device) -> None:
        self.key = key
        if key.is_resampled:
            plane = resampled(plane, key.size)
        self.raw = plane.copy() if key.content is None and not key.is_resampled else None
        raw = raw_of(plane if self.raw is None else self.raw, device)
        self._rgb = picture_of(raw)
        self._alpha = plate_alpha_of(raw, key.plate_alpha)
        # What the alignment needs of it; made on first use, so that `off` does not import cv2.
        self.side: Optional[CleanSide] = None
        # What models found out about it, a few numbers and words, by a name of theirs.
        self.found: dict[str, Any] = {}

    @cached_property
    def nonfinite_values(self) -> int:
        """How many values were NaN or infinite; they are 0 from then on."""
        images = [self._rgb, *([] if self._alpha is None else [self._alpha])]
        found = zip(images, extremes(*images))
        return sum(made_finite(image) for image, values in found if not is_finite(values))

    @cached_property
    def picture(self) -> Picture:
        """Finite and straight; only to be asked for once the pixels are known to be whole."""
        assert self.nonfinite_values >= 0
        pixels = straight(self._rgb, self._alpha, self.key.plate_alpha, self.key.space)
        self._alpha = None
        return Picture.of(pixels, self.key.space)

    @cached_property
    def negative_values(self) -> int:
        """How many values are below 0."""
        return negatives(self.picture.pixels, self.picture.lowest)

    @property
    def size_bytes(self) -> int:
        """The memory it takes when everything derived from it exists."""
        height, width = self.key.size
        raw = 0 if self.raw is None else int(self.raw.nbytes)
        return raw + _DERIVED_BYTES_PER_PIXEL * height * width

    def is_of(self, plane: Pixels, key: CleanPlateKey) -> bool:
        """Whether this is the clean plate of a request."""
        if self.key != key:
            return False
        return key.content is not None or (self.raw is not None and same_bits(self.raw, plane))


class CleanPlates:
    """The last clean plates within a budget of bytes; the least recently used is dropped first."""

    def __init__(self, budget_bytes: int, count: int = 4) -> None:
        self._budget_bytes = budget_bytes
        self._count = count
        self._kept: list[KeptCleanPlate] = []

    def find(self, plane: Pixels, key: CleanPlateKey) -> Optional[KeptCleanPlate]:
        """The kept clean plate with these pixels, or None. Where the key has a content the pixels
        are not compared."""
        return next((kept for kept in reversed(self._kept) if kept.is_of(plane, key)), None)

    def keep(self, clean_plate: KeptCleanPlate) -> None:
        """Keep it, as the last used; only once its pixels are known to be whole."""
        others = [kept for kept in self._kept if kept is not clean_plate]
        self._kept = [*others, clean_plate]

    def trim(self) -> None:
        """Drop what is over the budget; called when the frame no longer needs its clean plate."""
        while self._kept and (
            len(self._kept) > self._count or self.size_bytes > self._budget_bytes
        ):
            self._kept.pop(0)

    def clear(self) -> None:
        """Drop all of them: the next frame brings its own."""
        self._kept.clear()

    @property
    def size_bytes(self) -> int:
        return sum(kept.size_bytes for kept in self._kept)

    def __len__(self) -> int:
        return len(self._kept)


def same_bits(one: Pixels, other: Pixels) -> bool:
    """Whether two planes of one shape and type hold the same bits; NaN equals NaN."""
    bits = np.dtype(f"u{one.dtype.itemsize}")
    return all(
        np.array_equal(one[rows].view(bits), other[rows].view(bits))
        for rows in strips(one.shape[0], one.shape[1] * one.shape[2])
    )
