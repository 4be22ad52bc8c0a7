"""A clean plate that is laid under its plate on a GPU, against the same in main memory."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fakes.mostly_slow import mostly_slow
from fakes.pretended_cuda import CUDA, pretended_cuda
from mattebridge.checkpoint import no_checkpoint
from mattebridge.clean_plate.match import CleanPlateMatch, match_clean_plate
from mattebridge.clean_plate.on_device import Looked, match_on_device
from mattebridge.clean_plate.pair import GEOMETRY_SIDE, size_at

# Above working size, and not a whole multiple of it.
SIZE = (300, 1100)
# Positions and areas are rounded in another way; measured 1.3e-4.
APART = 2e-3


def pair(turn: float, gain: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A clean plate, and the plate from a camera that was turned and opened up, with a subject."""
    rng = np.random.default_rng(7)
    clean = cv2.GaussianBlur(rng.random((*SIZE, 3), np.float32), (0, 0), 4)
    clean = np.clip((clean - 0.5) * 5 + 0.4, 0.05, 0.9).astype(np.float32)
    matrix = cv2.getRotationMatrix2D((SIZE[1] / 2, SIZE[0] / 2), turn, 1.0)
    matrix[:, 2] += (2.4, -1.3) if turn else (0, 0)
    plate = clean
    if turn:
        plate = cv2.warpAffine(clean, matrix, SIZE[::-1], borderMode=cv2.BORDER_REPLICATE)
    plate = (plate * gain + rng.normal(0, 0.003, plate.shape)).astype(np.float32)
    subject = np.zeros(SIZE, np.float32)
    subject[80:250, 400:520] = 1
    plate[subject > 0] = (0.9, 0.1, 0.1)
    return np.clip(plate, 0, 1), clean, subject


@pytest.mark.parametrize(
    ("turn", "gain"), mostly_slow([(0.3, 1.1), (0.0, 1.1), (0.0, 1.0)], several=True)
)
def test_it_is_the_match_of_main_memory(turn: float, gain: float) -> None:
    plate, clean, subject = pair(turn, gain)
    wanted = match_clean_plate(plate, clean, alignment="auto", subject=subject)
    found, from_bytes = on_the_device(plate, clean, subject)
    assert (found.homography is None) == (wanted.homography is None) == (turn == 0)
    assert (found.clean_plate is clean) == (wanted.clean_plate is clean) == (gain == 1)
    assert np.abs(found.clean_plate - wanted.clean_plate).max() <= APART
    assert found.degraded == wanted.degraded
    assert found.report["aligned"] == wanted.report["aligned"]
    if wanted.outside is not None:
        assert found.outside is not None
        assert (found.outside != wanted.outside).mean() < 1e-3
    height, width = size_at(SIZE, GEOMETRY_SIDE)
    # Plate, subject and the brightest value.
    assert from_bytes == 4 * (height * width * (3 + 1) + 1)


def on_the_device(
    plate: np.ndarray, clean: np.ndarray, subject: np.ndarray
) -> tuple[CleanPlateMatch, int]:
    with pretended_cuda() as counts:
        there: list[Any] = [torch.from_numpy(image).to(CUDA) for image in (plate, clean, subject)]
        side = Looked.at(there[1]).side
        counts.reset()
        made = match_on_device(
            there[0],
            there[1],
            alignment="auto",
            match_exposure=True,
            subject=there[2],
            clean_side=side,
            checkpoint=no_checkpoint,
        )
        from_bytes = counts.from_bytes
        assert counts.waits == 1
        found: Any = made.clean_plate
        same = found is there[1]
        array = clean if same else found.cpu().numpy()
    made = CleanPlateMatch(**{**vars(made), "clean_plate": array})
    return made, from_bytes
