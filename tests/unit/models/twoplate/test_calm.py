"""Strong grain is taken from both pictures before they are matted; the foreground keeps it."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from mattebridge.models.difference.keyer import Small
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.twoplate.calm import calmed, smooth_by_torch, with_its_grain

SIZE = (96, 128)


def shot(sigma: float) -> Frame:
    """A subject of flat colour before a gradient, with a step of 0.3 between; grain in both."""
    rng = np.random.default_rng(4)
    empty = np.zeros((*SIZE, 3)) + np.linspace(0.2, 0.5, SIZE[1])[None, :, None]
    plate = empty.copy()
    plate[20:80, 30:90] = 0.8
    grainy = [picture + rng.normal(0, sigma, picture.shape) for picture in (plate, empty)]
    tensors = [torch.from_numpy(np.clip(picture, 0, 1).astype(np.float32)) for picture in grainy]
    return Frame(tensors[0], tensors[1], None, None, False)


def test_a_frame_with_usual_grain_is_left_as_it_is() -> None:
    frame = shot(0.012)
    assert calmed(frame, Small(frame)) is None


def test_strong_grain_is_halved_and_edges_stay() -> None:
    frame = shot(0.03)
    calm = calmed(frame, Small(frame))
    assert calm is not None
    inside = (slice(24, 76), slice(34, 86))
    # 0.3 measured, of a seeded picture.
    assert calm.frame.plate[inside].std() < 0.5 * frame.plate[inside].std()
    step = calm.frame.plate[24:76, 32].mean() - calm.frame.plate[24:76, 27].mean()
    before = frame.plate[24:76, 32].mean() - frame.plate[24:76, 27].mean()
    assert abs(float(step - before)) < 0.02
    assert np.array_equal(calm.small.plate, calm.frame.plate.numpy())


def test_the_foreground_is_the_plate_again_where_it_is_opaque() -> None:
    frame = shot(0.03)
    calm = calmed(frame, Small(frame))
    assert calm is not None
    found = with_its_grain(calm.frame.plate, torch.ones(SIZE), calm.grain, 1.0)
    # A few roundings.
    assert torch.allclose(found, frame.plate, atol=1e-6)
    empty = with_its_grain(calm.frame.plate, torch.zeros(SIZE), calm.grain, 1.0)
    assert torch.equal(empty, calm.frame.plate)


def test_a_gpu_takes_the_same_grain() -> None:
    frame = shot(0.03)
    calm = calmed(frame, Small(frame))
    assert calm is not None

    expected = cv2.bilateralFilter(frame.plate.numpy(), 5, 0.15, 2.0)
    # OpenCV takes its weights from a table.
    assert np.abs(smooth_by_torch(frame.plate, 0.03).numpy() - expected).max() < 2e-3
