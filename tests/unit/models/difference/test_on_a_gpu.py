"""The keyer on a pretended CUDA device: the pixels of the CPU, within a budget."""

from __future__ import annotations

import dataclasses
from typing import Any
from unittest import mock

import cv2
import numpy as np
import pytest
import torch

from fakes.mostly_slow import mostly_slow
from fakes.pretended_cuda import CUDA, Counts, pretended_cuda, recorder
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference import full_size, keyer, working_size
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.keyer import DifferenceModel, with_defaults
from mattebridge.models.pytorch.graphs import Graphs

# Above working size, and not a whole multiple of it.
HEIGHT, WIDTH = 150, 1300
# Of alpha and colour: torch sums the same areas and weights in another order than OpenCV. Measured
# 3e-5. A threshold that rounding crosses may change single pixels altogether.
APART, MOST_CHANGED = 1e-3, 1e-4
# Counted for a linear frame: 44, of which 25 make the pictures small for the host, 5 are copies
# into the recording and 8 out of it. A wait each for the pictures, and for alpha, in which islands
# are looked for.
LAUNCHES, WAITS = 48, 2
# Of a frame that is computed step by step: 4,911 counted, of which 1,670 find out how many pixels
# are unknown; so many are waited for once more. The others are half of them for smoothing and for
# distances.
LAUNCHES_STEP_BY_STEP = 5150
# What a frame sends to the device: two numbers.
SENT_BYTES = 8


def frame(*, scene_linear: bool = True, high: float = 1.0) -> ModelInput:
    """A red disc with a soft edge before a set with detail and grain."""
    rng = np.random.default_rng(5)
    clean = cv2.GaussianBlur(rng.random((HEIGHT, WIDTH, 3), np.float32), (0, 0), 3)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    away = np.hypot((x - 600) / 4, y - 80)
    alpha = np.clip((50 - away) / 12 + 0.5, 0, 1)[..., None]
    plate = alpha * np.float32([0.8 * high, 0.1, 0.1]) + (1 - alpha) * clean
    plate += rng.normal(0, 0.004, plate.shape).astype(np.float32)
    hint = (alpha[..., 0] > 0.5).astype(np.float32)
    outside = np.zeros((HEIGHT, WIDTH), bool)
    outside[:, :20] = True
    plate = np.maximum(plate, 0).astype(np.float32)
    return ModelInput(plate, clean, hint, outside, scene_linear, {})


def on_the_cpu(given: ModelInput) -> ModelOutput:
    return DifferenceModel(DIFFERENCE).matte(with_defaults(given), no_checkpoint)


def on_the_device(given: ModelInput, *, frames: int = 3) -> tuple[ModelOutput, Counts]:
    """The last of some equal frames: the first is computed step by step, the second recorded."""
    names = ("plate", "clean_plate", "alpha_hint", "outside")
    with pretended_cuda() as counts:
        images: dict[str, Any] = {
            name: torch.from_numpy(getattr(given, name)).to(CUDA)
            for name in names
            if getattr(given, name) is not None
        }
        there = with_defaults(dataclasses.replace(given, **images))
        with mock.patch.object(keyer, "Graphs", return_value=Graphs(recorder(counts))):
            model = DifferenceModel(DIFFERENCE)
            model.load(str(CUDA))
        for _ in range(frames):
            counts.reset()
            made = model.matte(there, no_checkpoint)
        found = Counts(counts.launches, counts.waits, counts.to_bytes, counts.from_bytes)
        results: list[Any] = [made.alpha.cpu().numpy(), made.foreground.cpu().numpy()]  # type: ignore[attr-defined]
        ranges = made.ranges
    return ModelOutput(*results, degraded=made.degraded, notes=made.notes, ranges=ranges), found


@pytest.mark.parametrize(
    ("scene_linear", "high"), mostly_slow([(True, 3.0), (True, 1.0), (False, 1.0)], several=True)
)
def test_a_gpu_gives_the_matte_of_the_cpu(scene_linear: bool, high: float) -> None:
    given = frame(scene_linear=scene_linear, high=high)
    wanted, (found, counts) = on_the_cpu(given), on_the_device(given)
    assert 0.05 < wanted.alpha.mean() < 0.5
    assert ((wanted.alpha > 0.1) & (wanted.alpha < 0.9)).mean() > 0.01
    for one, other in ((found.alpha, wanted.alpha), (found.foreground, wanted.foreground)):
        assert (np.abs(one - other) > APART).mean() <= MOST_CHANGED
    assert found.notes == wanted.notes
    assert counts.launches <= LAUNCHES, counts.launches
    assert counts.waits <= WAITS, counts.waits
    assert counts.to_bytes == SENT_BYTES
    assert found.ranges is not None
    for name in ("alpha", "foreground"):
        image = getattr(found, name)
        assert found.ranges[name] == (min(image.min(), 0 if name == "alpha" else 1), image.max())


@pytest.mark.slow
def test_the_first_frame_is_computed_step_by_step() -> None:
    given = frame()
    wanted, (found, counts) = on_the_cpu(given), on_the_device(given, frames=1)
    assert (np.abs(found.alpha - wanted.alpha) > APART).mean() <= MOST_CHANGED
    assert counts.launches <= LAUNCHES_STEP_BY_STEP, counts.launches
    assert counts.waits <= WAITS + 1, counts.waits


def test_a_matte_with_islands_gets_another_foreground(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at behind the foreground, which is made again where there were some."""

    def emptied(alpha: Any, *_: Any) -> tuple[Any, None]:
        alpha = alpha.clone()
        alpha[60:100, 380:430] = 0
        return alpha, None

    given = frame()
    before = on_the_cpu(given)
    monkeypatch.setattr(keyer, "without_islands", emptied)
    wanted, (found, counts) = on_the_cpu(given), on_the_device(given)
    assert (np.abs(wanted.foreground - before.foreground) > 0.01).any()
    for one, other in ((found.alpha, wanted.alpha), (found.foreground, wanted.foreground)):
        assert (np.abs(one - other) > APART).mean() <= MOST_CHANGED
    assert found.ranges is None
    # Alpha without them is looked at for what was moved.
    assert counts.waits <= WAITS + 1, counts.waits


@pytest.mark.slow
def test_without_anything_of_a_subject_the_device_gives_the_matte_of_the_cpu_too() -> None:
    given = frame()
    ramp = given.clean_plate + np.float32(0.04)  # type: ignore[operator]
    given = dataclasses.replace(given, plate=ramp.astype(np.float32), alpha_hint=None)
    wanted, (found, _) = on_the_cpu(given), on_the_device(given)
    assert found.notes == wanted.notes
    for one, other in ((found.alpha, wanted.alpha), (found.foreground, wanted.foreground)):
        assert (np.abs(one - other) > APART).mean() <= MOST_CHANGED


def test_only_pictures_of_working_size_come_to_main_memory() -> None:
    given = frame()
    _, counts = on_the_device(given, frames=1)
    height, width = working_size.size_of((HEIGHT, WIDTH))
    # Plate, clean plate, hint, border, and alpha for the islands; twenty single numbers.
    assert counts.from_bytes <= 4 * ((3 + 3 + 1 + 1 + 1) * height * width + 20)


@pytest.mark.parametrize("size", [(540, 960), (540, 1920), (151, 1301), (1301, 151), (50, 60)])
def test_torch_shrinks_and_enlarges_as_opencv_does(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    picture, mask = rng.random((*size, 3), np.float32), rng.random((*size, 1), np.float32)[..., 0]
    wanted = [working_size.shrunk(image) for image in (picture, mask)]
    small = working_size.size_of(size)
    found = full_size.shrunk(small, torch.from_numpy(picture), torch.from_numpy(mask))
    for one, other in zip(found, wanted):
        assert one.shape == other.shape
        # Sums of the same shares in another order; measured 4e-7.
        np.testing.assert_allclose(one.numpy(), other, atol=1e-5)
        again = full_size.enlarged_by_torch(one, size)
        # Positions between pixels are rounded in another way; measured 6e-6.
        np.testing.assert_allclose(again, working_size.enlarged(other, size), atol=1e-4)


def test_a_mask_is_enlarged_by_the_same_pixels_everywhere() -> None:
    small = np.random.default_rng(2).random((107, 960)) > 0.5
    with pretended_cuda():
        like = torch.zeros(HEIGHT, WIDTH)
        there = full_size.enlarged_mask(small, like.to(CUDA)).cpu()
    here = full_size.enlarged_mask(small, like)
    # A position that falls between two pixels may be given to either.
    assert (here != there).float().mean() < 0.01
