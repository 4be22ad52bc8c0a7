"""Strong grain, taken from both pictures before they are matted, and given to the foreground.

    plate - clean plate, at working size --> grain --much?--no--> as they are
                                                     `--yes--> both without it --> keyer, network
    what was taken from the plate --> foreground, as far as alpha goes

Where a picture was pushed, the grain of dark parts is as large as the difference of many a subject
from its set, and keyer and network follow it. A bilateral filter leaves what is larger than the
grain. Ten real composites in low light, MAD / soft e-3: 13.48/136 -> 11.95/124. The amount is found
at working size, in main memory, so that a GPU is not waited for.

Method: bilateral filtering (Tomasi and Manduchi 1998), with the noise of the frame known.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Optional

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mattebridge.models.difference.keyer import Small
from mattebridge.models.difference.noise import MEDIAN
from mattebridge.models.pytorch.frames import Frame

if TYPE_CHECKING:
    from mattebridge.models.base import FloatImage

# Deviation of one channel between plate and clean plate, encoded, from which on grain is taken, and
# from which on all of it. Pictures exposed as usual have 0.01 to 0.019.
FROM, FULL = 0.021, 0.028
# The filter: pixels within this radius, their weight by distance, and by difference in deviations
# of one picture's grain.
RADIUS_PX, NEAR_PX, LIKE = 2, 2.0, 5.0
# Plate and clean plate show the same where their difference, over three pixels, is less; the least
# share of the frame in which grain can be measured.
CHANGED, LEAST_SET = 0.06, 0.02
# Rows at which grain is measured.
_ROWS = 160
# What the second difference makes of a deviation; and that of a difference of two pictures, in
# those of one.
_SECOND, _OF_TWO = 1.5**0.5, 2.0**0.5


class Calm(NamedTuple):
    """A frame and its small pictures without grain; what was taken from the plate, (H, W, 3)."""

    frame: Frame
    small: Small
    grain: Tensor


def calmed(frame: Frame, small: Small) -> Optional[Calm]:
    """The frame without its grain; None where that is not strong. small: of this frame."""
    noise = _noise(*small.pictures)
    share = min((noise - FROM) / (FULL - FROM), 1.0)
    if share <= 0:
        return None
    pictures = small.pictures
    of_one = noise / _OF_TWO
    # Grain is larger at full size by what shrinking averages.
    scale = max(frame.plate.shape[:2]) / max(pictures[0].shape[:2])
    plate, clean_plate = (
        torch.lerp(picture, _smooth(picture, of_one * scale), share)
        for picture in (frame.plate, frame.clean_plate)
    )
    looked = copy(small)
    looked.plate, looked.clean_plate = (
        picture + np.float32(share) * (_smooth_array(picture, of_one) - picture)
        for picture in pictures
    )
    calm = replace(frame, plate=plate, clean_plate=clean_plate)
    return Calm(calm, looked, frame.plate - plate)


def with_its_grain(foreground: Tensor, alpha: Tensor, grain: Tensor, brightest: float) -> Tensor:
    """The foreground (H, W, 3) with the plate's grain, as far as alpha (H, W) goes.

    brightest: of the plate, encoded.
    """
    found = torch.addcmul(foreground, alpha[..., None], grain)
    return found.clamp_(0, max(brightest, 1.0))


def _noise(plate: FloatImage, clean_plate: FloatImage) -> float:
    """The deviation of one channel between the two, where they show the same; 0 if nowhere.

    By how the difference changes from pixel to pixel, which does not depend on its mean over three
    pixels, by which the same is told.
    """
    if min(plate.shape[:2]) <= RADIUS_PX:
        return 0.0
    every = max(1, plate.shape[0] // _ROWS)
    apart = plate[::every] - clean_plate[::every]
    middle, beside = apart[:, 1:-1], apart[:, :-2] + apart[:, 2:]
    same = (np.abs(middle + beside) < 3 * CHANGED).all(axis=2)
    if same.mean() < LEAST_SET:
        return 0.0
    second = np.abs(middle - beside / 2)[same]
    return float(np.median(second)) / (MEDIAN * _SECOND)


def _smooth(picture: Tensor, grain: float) -> Tensor:
    if picture.device.type == "cpu":
        return torch.from_numpy(_smooth_array(picture.numpy(), grain))
    return smooth_by_torch(picture, grain)


def _smooth_array(picture: FloatImage, grain: float) -> FloatImage:
    found = cv2.bilateralFilter(picture, 2 * RADIUS_PX + 1, LIKE * grain, NEAR_PX)
    return np.asarray(found, np.float32)


def smooth_by_torch(picture: Tensor, grain: float) -> Tensor:
    """OpenCV's filter of a picture (H, W, 3), within 2e-3, in the same list of steps for any."""
    height, width = picture.shape[:2]
    planes = picture.permute(2, 0, 1)
    side = (RADIUS_PX,) * 4
    around = functional.pad(planes[None], side, mode="reflect")[0]
    total, weights = torch.zeros_like(planes), torch.zeros_like(planes[:1])
    for down in range(-RADIUS_PX, RADIUS_PX + 1):
        for right in range(-RADIUS_PX, RADIUS_PX + 1):
            away = down * down + right * right
            if away > RADIUS_PX**2:
                continue
            top, left = RADIUS_PX + down, RADIUS_PX + right
            other = around[:, top : top + height, left : left + width]
            unlike = (other - planes).abs_().sum(0, keepdim=True).square_()
            exponent = unlike.mul_(-0.5 / (LIKE * grain) ** 2).sub_(0.5 * away / NEAR_PX**2)
            weight = exponent.exp_()
            total.addcmul_(other, weight)
            weights += weight
    return (total / weights).permute(1, 2, 0).contiguous()
