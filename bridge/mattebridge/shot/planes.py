"""The pictures of one frame as the planes of a request: read from disk, in the plate's colours.

    FrameTask (which files, which colour spaces) --> plate, clean plate, mattes

Whoever reads the frames of a shot reads them here, so that a frame has the same planes whichever
way it goes.
"""

from __future__ import annotations

import cv2
import numpy as np

from mattebridge.color import Pixels
from mattebridge.image_io import Frame, matte_of
from mattebridge.image_io.read import is_matte_by_luma
from mattebridge.image_io.sequences import Source
from mattebridge.image_io.sources import Pictures, path_of
from mattebridge.ocio.space import Spaces
from mattebridge.shot.job import MatteJob
from mattebridge.shot.plan import FrameTask
from mattebridge.wire.params import MATTE_ROLES


class FramePlanes:
    """Reads the pictures of a job, for any number of threads."""

    def __init__(self, job: MatteJob, spaces: Spaces) -> None:
        self._job = job
        self._spaces = spaces
        self._pictures = Pictures(deinterlace=job.deinterlace)

    def plate(self, task: FrameTask) -> Pixels:
        """(H, W, 3), or (H, W, 4) where the alpha of the plate counts."""
        frame = self._frame(task, "plate")
        has_alpha = frame.pixels.shape[2] == 4 and self._job.params.plate_alpha != "opaque"
        return frame.pixels if has_alpha else frame.rgb

    def clean_plate(self, task: FrameTask) -> Pixels:
        """(H, W, 3) in the colour space of the plate: a request has one for both."""
        pixels = self._frame(task, "clean_plate").rgb
        spaces = task.colorspaces
        return self._spaces.converted(pixels, spaces["clean_plate"], spaces["plate"])

    def matte(self, task: FrameTask, role: str) -> tuple[Pixels, bool]:
        """A hint or matte, (H, W, 1), and whether it is the luma of a picture in colour."""
        frame, channel = self._frame(task, role), self._job.hint_channel
        by_luma = channel == "auto" and is_matte_by_luma(frame)
        matte = matte_of(frame, path_of(task.inputs.files[role]), channel=channel)
        if role in task.resized:
            assert task.header is not None
            matte = _resized(matte, task.header.width, task.header.height)
        return matte, by_luma

    def picture(self, source: Source) -> Frame:
        """Any other picture of the job, such as that behind a comp."""
        return self._pictures.frame(source)

    def close(self) -> None:
        """Close the videos."""
        self._pictures.close()

    def _frame(self, task: FrameTask, role: str) -> Frame:
        layer = self._job.layer_of(role)
        source = task.inputs.files[role]
        return self._pictures.frame(source, layer=layer, matte=role in MATTE_ROLES)


def _resized(matte: Pixels, width: int, height: int) -> Pixels:
    """(height, width, 1): bilinear, where it shrinks the mean of what falls into a pixel."""
    if matte.dtype == np.float16:
        matte = matte.astype(np.float32)
    shrinks = width < matte.shape[1] and height < matte.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(matte, (width, height), interpolation=method))[..., None]
