"""The clean plates that are kept between frames, with what was computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import numpy as np

from mattebridge.color import FloatImage, strips
from mattebridge.engine.picture import Picture, Plane

if TYPE_CHECKING:
    from mattebridge.clean_plate.match import CleanSide
    from mattebridge.wire.params import RenderParams


@dataclass
class HeldCleanPlate:
    """A clean plate as it was sent, and what was made of it once."""

    raw: Plane
    colorspace: str
    plate_alpha: str
    key: Optional[str] = None
    nonfinite: int = 0
    picture: Optional[Picture] = None
    # What alignment needs of it; made on first use, so that `off` imports no cv2.
    side: Optional[CleanSide] = None

    @property
    def size_bytes(self) -> int:
        """What it takes when everything derived from it exists."""
        height, width = self.raw.shape[:2]
        return int(self.raw.nbytes + 6 * 12 * height * width)

    def matched_picture(self, display: FloatImage) -> Picture:
        """The matched clean plate as a picture; the picture itself where nothing was changed."""
        assert self.picture is not None
        return self.picture if display is self.picture.display else Picture(display, "srgb")


class CleanPlates:
    """The clean plates of the last shots, least recently used first out of a byte budget."""

    def __init__(self, budget_bytes: int, count: int = 4) -> None:
        self._budget_bytes = budget_bytes
        self._count = count
        self._held: list[HeldCleanPlate] = []

    def find_or_copy(
        self, plane: Plane, params: RenderParams, key: Optional[str]
    ) -> HeldCleanPlate:
        """The held clean plate with these pixels, or a private copy of them, not yet held.

        A `key` stands for its content: the same key, layout and parameters are the same pixels
        without a look. Whoever passes keys keeps those of different clients apart.
        """
        for held in reversed(self._held):
            if self._is_same(held, plane, params, key):
                return held
        return HeldCleanPlate(plane.copy(), params.colorspace, params.plate_alpha, key)

    def keep(self, plate: HeldCleanPlate) -> None:
        """Hold it, as the one used last; only once its pixels are known to be whole."""
        self._held = [held for held in self._held if held is not plate] + [plate]

    def trim(self) -> None:
        """Let go of what is over the budget; called when the frame no longer needs it."""
        while self._held and (
            len(self._held) > self._count or self.size_bytes > self._budget_bytes
        ):
            self._held.pop(0)

    def clear(self) -> None:
        self._held.clear()

    @property
    def size_bytes(self) -> int:
        return sum(held.size_bytes for held in self._held)

    def __len__(self) -> int:
        return len(self._held)

    @staticmethod
    def _is_same(
        held: HeldCleanPlate, plane: Plane, params: RenderParams, key: Optional[str]
    ) -> bool:
        if (held.colorspace, held.plate_alpha) != (params.colorspace, params.plate_alpha):
            return False
        if held.raw.shape != plane.shape or held.raw.dtype != plane.dtype or held.key != key:
            return False
        return key is not None or same_bits(held.raw, plane)


def same_bits(one: Plane, other: Plane) -> bool:
    """Whether two planes of one shape and type hold the same bytes; NaN equals itself."""
    bits = np.dtype(f"u{one.dtype.itemsize}")
    return all(
        np.array_equal(one[rows].view(bits), other[rows].view(bits))
        for rows in strips(one.shape[0], one.shape[1] * one.shape[2])
    )
