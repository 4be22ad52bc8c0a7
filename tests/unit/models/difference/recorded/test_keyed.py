"""The keyer's matte on a pretended CUDA device, where a frame is not what the ones before were."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fakes.pretended_cuda import CUDA, Counts, pretended_cuda, recorder
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference import keyer, solved
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.keyer import DifferenceModel, with_defaults
from mattebridge.models.difference.recorded import keyed
from mattebridge.models.pytorch.graphs import Graphs
from mattebridge_sample.composites import composite

# Rounding; a threshold that it crosses may change single pixels altogether.
APART, MOST_CHANGED = 1e-3, 1e-4
# For the pictures and for the matte.
WAITS = 2


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    monkeypatch.setattr(solved, "LEAST_PLACES", 16)
    with pretended_cuda() as counted:
        monkeypatch.setattr(keyer, "Graphs", lambda: Graphs(recorder(counted)))
        yield counted


def given() -> ModelInput:
    frame = composite("clean", 3, long_side=192)
    linear = frame.blend == "linear"
    return with_defaults(ModelInput(frame.plate, frame.clean_plate, None, None, linear, {}))


def with_band(frame: ModelInput, band: float) -> ModelInput:
    """The same; the wider the band, the more pixels are unknown."""
    return dataclasses.replace(frame, settings={**frame.settings, "band": band})


def there(frame: ModelInput) -> ModelInput:
    names = ("plate", "clean_plate", "alpha_hint", "outside")
    images: dict[str, Any] = {
        name: torch.from_numpy(getattr(frame, name)).to(CUDA)
        for name in names
        if getattr(frame, name) is not None
    }
    return dataclasses.replace(frame, **images)


def loaded() -> DifferenceModel:
    model = DifferenceModel(DIFFERENCE)
    model.load(str(CUDA))
    return model


def assert_same(found: ModelOutput, wanted: ModelOutput) -> None:
    for name in ("alpha", "foreground"):
        one, other = torch.as_tensor(getattr(found, name)).cpu().numpy(), getattr(wanted, name)
        assert (np.abs(one - other) > APART).mean() <= MOST_CHANGED, name
    assert found.notes == wanted.notes
    assert found.degraded == wanted.degraded


def of_main_memory(frame: ModelInput) -> ModelOutput:
    return DifferenceModel(DIFFERENCE).matte(frame, no_checkpoint)


def test_a_frame_with_more_unknown_pixels_is_made_once_more(counts: Counts) -> None:
    small, large = (with_band(given(), band) for band in (0.5, 4.0))
    model = loaded()
    for frame, waits in ((small, WAITS + 1), (small, WAITS), (large, WAITS + 1), (large, WAITS)):
        counts.reset()
        found = model.matte(there(frame), no_checkpoint)
        assert counts.waits == waits, counts.places
        assert_same(found, of_main_memory(frame))


def test_a_list_becomes_shorter_when_frames_have_needed_less_for_long(counts: Counts) -> None:
    small, large = (with_band(given(), band) for band in (0.5, 4.0))
    model = loaded()
    for frame in (large, small, large, small):
        counts.reset()
        model.matte(there(frame), no_checkpoint)
    # Frames of two kinds by turns have one list, and none is made twice.
    assert counts.waits == WAITS
    recorded, size = model._recorded, small.plate.shape[:2]
    assert recorded is not None
    before, _ = recorded._lengths[size]
    for _ in range(keyed._PATIENCE - 1):
        recorded._learn_length(size, before // 8)
    assert recorded._lengths[size][0] < before


@pytest.mark.parametrize("subject", ["flat", "two colours", "tiny"])
def test_a_subject_of_few_colours_has_the_matte_of_main_memory(
    counts: Counts, subject: str
) -> None:
    """Colours that its palette does not have explain nothing."""
    rng = np.random.default_rng(8)
    clean = cv2.GaussianBlur(rng.random((90, 120, 3), np.float32), (0, 0), 2)
    y, x = np.mgrid[:90, :120].astype(np.float32)
    radius = 12 if subject == "tiny" else 34
    alpha = np.clip((radius - np.hypot(x - 60, y - 45)) / 5 + 0.5, 0, 1)[..., None]
    colour = np.full((90, 120, 3), (0.9, 0.2, 0.1), np.float32)
    if subject == "two colours":
        colour[:, 60:] = (0.1, 0.3, 0.9)
    plate = (alpha * colour + (1 - alpha) * clean).astype(np.float32)
    frame = with_defaults(ModelInput(plate, clean, None, None, False, {}))
    wanted, model = of_main_memory(frame), loaded()
    assert wanted.alpha.max() == 1
    for _ in range(2):
        assert_same(model.matte(there(frame), no_checkpoint), wanted)


@pytest.mark.parametrize("size", [(1, 60), (60, 1), (3, 4000), (2, 2), (7, 5)])
def test_frames_of_a_few_rows_have_the_matte_of_main_memory(
    counts: Counts, size: tuple[int, int]
) -> None:
    rng = np.random.default_rng(9)
    clean = rng.random((*size, 3), np.float32)
    plate = clean.copy()
    plate[:, : size[1] // 2] = 1 - plate[:, : size[1] // 2]
    frame = with_defaults(ModelInput(plate, clean, None, None, False, {}))
    assert_same(loaded().matte(there(frame), no_checkpoint), of_main_memory(frame))


def test_a_recording_does_not_hold_the_frame_it_was_made_with(counts: Counts) -> None:
    model, frame = loaded(), given()
    plates = []
    for _ in range(3):
        pictures = there(frame)
        plates.append(weakref.ref(pictures.plate))
        model.matte(pictures, no_checkpoint)
        del pictures
    gc.collect()
    assert [plate() for plate in plates] == [None] * 3


def test_recordings_are_gone_where_memory_is_short_though_a_frame_is_in_hand(
    counts: Counts,
) -> None:
    model, frame = loaded(), given()
    for _ in range(3):
        in_hand = model.matte(dataclasses.replace(there(frame), settles_later=True), no_checkpoint)
    assert in_hand.later is not None
    recordings = model._graphs._recordings  # type: ignore[union-attr]
    assert recordings
    assert model.use_less_memory(True)
    assert not recordings
    assert_same(model.matte(there(frame), no_checkpoint), of_main_memory(frame))


def test_a_matte_is_the_same_whatever_came_before(counts: Counts) -> None:
    small, large = (with_band(given(), band) for band in (0.5, 4.0))
    model, other = loaded(), loaded()
    other.matte(there(large), no_checkpoint)
    for _ in range(2):
        one, two = (each.matte(there(small), no_checkpoint) for each in (model, other))
        for name in ("alpha", "foreground"):
            assert torch.equal(getattr(one, name).cpu(), getattr(two, name).cpu())


def test_regions_that_take_more_rounds_are_measured_to_the_end(
    counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame, model = given(), loaded()
    model.matte(there(frame), no_checkpoint)
    assert model._recorded is not None
    matte, asked = model._recorded.matte, []

    def with_few(*args: Any, rounds: int = 1) -> Any:
        asked.append(rounds)
        return matte(*args, rounds=rounds)

    monkeypatch.setattr(model._recorded, "matte", with_few)
    assert_same(model.matte(there(frame), no_checkpoint), of_main_memory(frame))
    assert asked == [1, 4 * keyed.ROUNDS]


@pytest.mark.parametrize("empty", ["subject", "set"])
def test_frames_without_subject_or_set_are_those_of_main_memory(counts: Counts, empty: str) -> None:
    frame = given()
    plate = frame.clean_plate if empty == "subject" else 1 - np.round(frame.clean_plate)
    frame = dataclasses.replace(frame, plate=np.ascontiguousarray(plate, np.float32))
    wanted, model = of_main_memory(frame), loaded()
    assert wanted.degraded == (() if empty == "subject" else (keyer.NO_SET,))
    for _ in range(3):
        assert_same(model.matte(there(frame), no_checkpoint), wanted)


def test_a_hint_without_any_subject_is_not_used(counts: Counts) -> None:
    frame = given()
    shape = frame.plate.shape[:2]
    faint = dataclasses.replace(frame, alpha_hint=np.full(shape, 0.05, np.float32))
    assert_same(loaded().matte(there(faint), no_checkpoint), of_main_memory(faint))
    assert np.array_equal(of_main_memory(faint).alpha, of_main_memory(frame).alpha)


def test_what_is_kept_of_sizes_is_bounded(counts: Counts) -> None:
    model = loaded()
    for side in range(40, 40 + keyed._KEPT + 2):
        rng = np.random.default_rng(side)
        pictures = [rng.random((side, 50, 3), np.float32) for _ in range(2)]
        frame = with_defaults(ModelInput(*pictures, None, None, False, {}))
        model.matte(there(frame), no_checkpoint)
    assert model._recorded is not None
    assert len(model._recorded._filters) == len(model._recorded._lengths) == keyed._KEPT
    assert model.memory_bytes > 0
    model.unload()
    assert model.memory_bytes == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_gives_the_matte_of_main_memory() -> None:
    """Its CPU twins: the tests above."""
    model = loaded()
    for frame in (given(), with_band(given(), 4.0), given()):
        wanted = of_main_memory(frame)
        # Step by step, recorded, replayed.
        for _ in range(3):
            assert_same(model.matte(there(frame), no_checkpoint), wanted)
