"""The clean plates that are kept between frames, with what was computed from each of them alone.

    planes --find_or_copy--> KeptCleanPlate, kept or new
           --keep----------> kept (once its pixels are known to be whole)
           --trim----------> the last used, within the budget (after the frame)

The clean plate of a shot is usually the same picture in each frame. Its float pixels, its colour
spaces and what the alignment looks for in it (`side`) are computed once. The alignment itself is
computed for every frame: it depends on the plate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

import numpy as np

from mattebridge.color import FloatImage, Pixels, strips
from mattebridge.engine.picture import Picture
from mattebridge.engine.render_scale import Size, resampled
from mattebridge.wire.params import RenderParams

if TYPE_CHECKING:
    from mattebridge.clean_plate.pair import CleanSide


@dataclass
class KeptCleanPlate:
    """A clean plate as it was sent, and what was computed from it.

    raw: at the size of the frames. sent: shape and sample type of what was sent, which is larger
    where it was resampled. key: stands for its content, where the client gave one. nonfinite: how
    many values were NaN or infinite. picture: straight and finite, once it was prepared.
    """

    raw: Pixels
    colorspace: str
    plate_alpha: str
    sent: tuple[tuple[int, ...], str]
    key: Optional[str] = None
    nonfinite: int = 0
    picture: Optional[Picture] = None
    # What the alignment needs of it; made on first use, so that `off` does not import cv2.
    side: Optional[CleanSide] = None

    @property
    def size_bytes(self) -> int:
        """The memory it takes when everything derived from it exists."""
        height, width = self.raw.shape[:2]
        return int(self.raw.nbytes + 6 * 12 * height * width)

    @property
    def was_resampled(self) -> bool:
        """Whether it was sent at another size than that of the frames."""
        return self.sent[0] != self.raw.shape

    def matched_picture(self, display: FloatImage) -> Picture:
        """The matched clean plate, display-encoded, as a picture; its own where nothing changed."""
        assert self.picture is not None
        return self.picture if display is self.picture.display else Picture(display, "srgb")


class CleanPlates:
    """The last clean plates within a budget of bytes; the least recently used is dropped first."""

    def __init__(self, budget_bytes: int, count: int = 4) -> None:
        self._budget_bytes = budget_bytes
        self._count = count
        self._kept: list[KeptCleanPlate] = []

    def find_or_copy(
        self, plane: Pixels, params: RenderParams, key: Optional[str], size: Size
    ) -> KeptCleanPlate:
        """The kept clean plate with these pixels, or a private copy of them that is not kept yet.

        size: height and width of the frame, to which it is resampled (render_scale.py). A `key`
        stands for the content: with the same key, layout and parameters the pixels are not
        compared. The caller must keep the keys of different clients apart.
        """
        for kept in reversed(self._kept):
            if kept.raw.shape[:2] == size and self._is_same(kept, plane, params, key):
                return kept
        raw = plane.copy() if plane.shape[:2] == size else resampled(plane, size)
        sent = (plane.shape, plane.dtype.str)
        return KeptCleanPlate(raw, params.colorspace, params.plate_alpha, sent, key)

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

    @staticmethod
    def _is_same(
        kept: KeptCleanPlate, plane: Pixels, params: RenderParams, key: Optional[str]
    ) -> bool:
        if (kept.colorspace, kept.plate_alpha) != (params.colorspace, params.plate_alpha):
            return False
        if kept.sent != (plane.shape, plane.dtype.str) or kept.key != key:
            return False
        return key is not None or (not kept.was_resampled and same_bits(kept.raw, plane))


def same_bits(one: Pixels, other: Pixels) -> bool:
    """Whether two planes of one shape and type hold the same bits; NaN equals NaN."""
    bits = np.dtype(f"u{one.dtype.itemsize}")
    return all(
        np.array_equal(one[rows].view(bits), other[rows].view(bits))
        for rows in strips(one.shape[0], one.shape[1] * one.shape[2])
    )
