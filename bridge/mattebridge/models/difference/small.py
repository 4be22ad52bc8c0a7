"""The pictures of a frame at working size, by which the keyer decides, with or without grain."""

from __future__ import annotations

from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Optional

import numpy as np
import torch
from torch import Tensor

from mattebridge.models.difference.evidence import SAME_NOISES
from mattebridge.models.difference.full_size import cut, small_arrays
from mattebridge.models.difference.full_size import shrunk as shrunk_there
from mattebridge.models.difference.grain_filter import GrainFilter, smooth
from mattebridge.models.difference.mixture import BRIGHTEST
from mattebridge.models.difference.working_size import shrunk, size_of
from mattebridge.models.pytorch.frames import Frame, arrays_of, sent, tensor_of

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage, SmallImages


class Small:
    """The inputs at working size in main memory, cut at `BRIGHTEST`.

    brightest: the highest value of the whole plate, and of the clean plate. hint (h, w), outside
    (h, w) bool: None without. grain_filter: by which `pictures` are without grain; None: they are
    as they were. same_noises: see `gather`; more where grain was taken from them.
    """

    same_noises = SAME_NOISES
    grain_filter: Optional[GrainFilter] = None

    @torch.inference_mode()
    def __init__(self, frame: Frame, seen: Optional[SmallImages] = None) -> None:
        """seen: the same images, if they were looked at already; then a GPU is not waited for."""
        self._frame = frame
        if seen is not None and self._is_of(frame, seen):
            self.brightest, outside = seen.brightest, seen.outside
            self._as_they_were, self.hint = (seen.plate, seen.clean_plate), seen.alpha_hint
            self.outside = None if outside is None else shrunk(outside.astype(np.float32)) > 0
            return
        pictures = (frame.plate, frame.clean_plate)
        brightest = torch.stack([picture.max() for picture in pictures])
        images = [cut(picture, BRIGHTEST, peak) for picture, peak in zip(pictures, brightest)]
        others = [frame.hint, None if frame.outside is None else frame.outside.float()]
        shown = (*images, *(image for image in others if image is not None))
        *found, peaks = small_arrays(*shown, beside=[brightest])
        self.brightest = float(peaks[0]), float(peaks[1])
        plate, clean_plate, *rest = found
        self._as_they_were = plate, clean_plate
        self.hint = None if frame.hint is None else rest[0]
        outside = None if frame.outside is None else rest[-1] > 0
        self.outside = outside if outside is not None and outside.any() else None

    @staticmethod
    def _is_of(frame: Frame, seen: SmallImages) -> bool:
        """Whether these images are what would be made of a frame."""
        is_whole = (frame.outside is None, frame.hint is None) == (
            seen.outside is None,
            seen.alpha_hint is None,
        )
        is_cut = max(seen.brightest) <= BRIGHTEST
        return is_whole and is_cut and seen.plate.shape[:2] == size_of(frame.plate.shape)

    def without_grain(self, by: GrainFilter, same_noises: float) -> Small:
        """The same images without grain. same_noises: see there."""
        found = copy(self)
        vars(found).pop("pictures", None)
        found.grain_filter, found.same_noises = by, same_noises
        return found

    @cached_property
    def pictures(self) -> tuple[FloatImage, FloatImage]:
        """Plate and clean plate, (h, w, 3). Where they are without grain, they are made at their
        first use: a GPU makes its own."""
        if self.grain_filter is None:
            return self._as_they_were
        here = torch.device("cpu")
        found = (smooth(tensor_of(one, here), self.grain_filter) for one in self._as_they_were)
        plate, clean_plate = arrays_of(*found)
        return plate, clean_plate

    @property
    def plate(self) -> FloatImage:
        return self.pictures[0]

    @property
    def clean_plate(self) -> FloatImage:
        return self.pictures[1]

    @property
    def explains(self) -> bool:
        """Whether the pixels of the frame are explained by these pictures: they have its size, and
        were changed."""
        same_size = self._frame.plate.shape == self._as_they_were[0].shape
        return self.grain_filter is not None and same_size and max(self.brightest) <= BRIGHTEST

    def explaining(self) -> Tensor:
        """Plate and clean plate on the frame's device, (2, H, W, 3)."""
        return sent(np.stack(self.pictures), self._frame.plate.device)

    def there(self, frame: Frame) -> Optional[tuple[Tensor, Tensor]]:
        """Plate and clean plate as they were, (h, w, 3) on the device, which is not waited for;
        None where they were made of the pictures of `frame` itself."""
        own = self._frame
        if own.plate is frame.plate and own.clean_plate is frame.clean_plate:
            return None
        return small_pictures(own, is_cut=max(self.brightest) > BRIGHTEST)


def small_pictures(frame: Frame, *, is_cut: bool) -> tuple[Tensor, Tensor]:
    """Plate and clean plate (h, w, 3) at working size on the device of a frame. is_cut: whether
    they are brighter than `BRIGHTEST` somewhere."""
    pictures = [frame.plate, frame.clean_plate]
    if is_cut:
        pictures = [picture.clamp(max=BRIGHTEST) for picture in pictures]
    plate, clean_plate = shrunk_there(size_of(frame.plate.shape), *pictures)
    return plate, clean_plate
