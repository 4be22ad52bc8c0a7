"""The empty green or blue screen of a shot: what its frames show of it, continued where none does.

    frame --find, field--> where it shows more than screen   (the subject of make_clean_plate)
    all frames --make_clean_plate--> the median of the samples that show nothing but screen
    --continued_screen--> the whole screen, under a subject that never leaves as well

A frame for itself knows the screen only beside its subject. With one screen for the whole shot,
each frame is keyed against the same, and so in the same way, in whatever order and on however many
machines the frames are made.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from mattebridge.clean_plate.estimate import CleanPlate
from mattebridge.clean_plate.register import Reader
from mattebridge.color import FloatImage, srgb_decode, srgb_encode
from mattebridge.errors import ModelError
from mattebridge.models.difference.mixture import BRIGHTEST
from mattebridge.models.difference.working_size import enlarged, shrunk
from mattebridge.models.screen.field import continued, make_field
from mattebridge.models.screen.find import find_screen, refusal

# Less of the frame than this, seen as screen in any frame, is no screen to continue.
LEAST_SEEN = 0.02


class NotScreen:
    """Where each frame of a shot shows more than screen; a `SubjectReader` for `make_clean_plate`.

    read: see `Reader`. wanted: auto, green or blue. A frame in which no screen is found counts as
    covered; `refuse_none` raises where that is so of all.
    """

    def __init__(self, read: Reader, wanted: str) -> None:
        self._read, self._wanted = read, wanted
        self._known: dict[int, FloatImage] = {}
        self._refusal: ModelError | None = None
        self._found = False

    def __call__(self, index: int) -> FloatImage:
        """(H, W) 0..1 of the frame at an index."""
        if index not in self._known:
            picture = _display(self._read(index))
            self._shape = picture.shape
            self._known[index] = self._covered(picture)
        return enlarged(self._known[index], self._shape)

    def refuse_none(self) -> None:
        """Raise `ModelError` where no frame that was asked for shows a screen."""
        if not self._found and self._refusal is not None:
            raise self._refusal

    def _covered(self, picture: FloatImage) -> FloatImage:
        small = shrunk(picture)
        try:
            screen = find_screen(picture, self._wanted, "")
            seen = make_field(small, None, screen).seen
        except ModelError as none_here:
            self._refusal = none_here
            return np.ones(small.shape[:2], np.float32)
        self._found = True
        return 1 - seen.astype(np.float32)


def continued_screen(made: CleanPlate) -> CleanPlate:
    """A clean plate that was made with `NotScreen`, with screen where none was seen.

    The confidence stays 0 there. Raises `ModelError` where hardly any screen was seen.
    """
    seen = ~made.hidden
    if seen.mean() < LEAST_SEEN:
        raise refusal(f"only {seen.mean():.1%} of the frame ever shows nothing but the screen")
    if seen.all():
        return made
    encoded = _display(made.pixels)
    small = shrunk(encoded)
    # A pixel at working size is seen where all that it is made of is.
    whole = shrunk(seen.astype(np.float32)) > 0.999
    if not whole.any():
        whole = shrunk(seen.astype(np.float32)) > 0.5
    screen = enlarged(continued(small, whole), encoded.shape)
    weight = cv2.erode(seen.astype(np.float32), np.ones((3, 3), np.uint8))
    weight = cv2.GaussianBlur(weight, (0, 0), 1.0)[..., None] * seen[..., None]
    return replace(made, pixels=srgb_decode(screen + weight * (encoded - screen)))


def _display(light: FloatImage) -> FloatImage:
    encoded = srgb_encode(np.maximum(np.nan_to_num(light), np.float32(0)))
    return np.minimum(encoded, np.float32(BRIGHTEST))
