"""A frame on a pretended CUDA device waits once for its results; what the host sees then counts."""

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

from fakes.generated_model import background_matting
from fakes.matting_models import registry_of
from fakes.pretended_cuda import CUDA, Counts, pretended_cuda, recorder
from mattebridge.engine import crossing, postprocess
from mattebridge.engine.clock import Clock
from mattebridge.engine.engine import Engine
from mattebridge.engine.report import RenderReport
from mattebridge.engine.started import StartedFrame
from mattebridge.errors import ModelError, OutOfMemoryError
from mattebridge.models.background_matting.gpu import GpuMatting
from mattebridge.models.difference.recorded import keyed
from mattebridge.models.pytorch.graphs import Graphs
from mattebridge.models.registry import Registry
from mattebridge.models.twoplate.whole import WholeFrame
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 96, 128
MODELS = ("difference", "twoplate", "background matting")
# Launches of a frame that is replayed, the stages around the network included. Counted 53, 62, 46.
MOST_LAUNCHES = 70
PATHS = ("difference.keyer", "twoplate.model", "background_matting.model")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counts]:
    with pretended_cuda() as counts:
        for path in PATHS:
            monkeypatch.setattr(
                f"mattebridge.models.{path}.Graphs", lambda: Graphs(recorder(counts))
            )
        yield counts


def registry(model: str) -> Registry | None:
    return registry_of(background_matting()) if model == "background matting" else None


def name_of(model: str) -> str:
    return "default" if model == "background matting" else model


def planes(
    high: float = 1.0, grain: float = 0.0, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> dict[str, np.ndarray]:
    """A smooth set with a subject whose edge is soft, so that nothing else differs."""
    height, width = size
    dice = np.random.default_rng(5)
    coarse = dice.random((5, 6, 3), np.float32) * 0.5 + 0.2
    empty = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    subject = np.zeros((height, width), np.float32)
    subject[15:HEIGHT, 40:90] = 1
    alpha = cv2.GaussianBlur(subject, (0, 0), 2)[..., None]
    seen = alpha * np.float32([0.9, 0.15, 0.1]) + (1 - alpha) * empty
    noise = dice.normal(0, grain, (2, height, width, 3)).astype(np.float32)
    images = (np.clip(image * high + own, 0, None) for image, own in zip((seen, empty), noise))
    plate, clean_plate = (np.dstack([image, np.ones_like(alpha)]) for image in images)
    return {"plate": plate, "clean_plate": clean_plate}


def outputs(
    dtype: Any = np.float32, size: tuple[int, int] = (HEIGHT, WIDTH)
) -> dict[str, np.ndarray]:
    channels = {"alpha": 1, "foreground": 3, "premultiplied": 4}
    return {role: np.full((*size, n), np.nan, dtype) for role, n in channels.items()}


def started(
    engine: Engine, sent: Any, out: Any, model: str, *, ahead: bool = False, **how: Any
) -> StartedFrame:
    params = RenderParams(**{"colorspace": "srgb", "alignment": "off", **how.pop("params", {})})
    how = {"model": name_of(model), "clean_plate_key": "shot", **how}
    if not ahead:
        return engine.start(sent, params, out=out, **how)
    begun = engine.send_ahead(sent, params, model=how["model"], clean_plate_key="shot")
    return engine.start(sent, params, out=out, sent=begun, **how)


def on_both(
    card: Counts, model: str, sent: Any = None, dtype: Any = np.float32, **how: Any
) -> list[tuple[dict[str, np.ndarray], RenderReport]]:
    """Planes and report of the CPU, and of the third of equal frames of the device."""
    sent, found = sent or planes(), []
    for device, frames in (("cpu", 1), (str(CUDA), 3)):
        out = outputs(dtype, sent["plate"].shape[:2])
        engine = Engine(device, registry=registry(model))
        for _ in range(frames):
            report = started(engine, sent, out, model, **how).finished()
        found.append((out, report))
    return found


def assert_alike(found: Any, other: Any) -> None:
    for role, plane in found.items():
        # A threshold that rounding crosses may change a pixel altogether.
        away = np.abs(plane.astype(np.float32) - other[role].astype(np.float32)) > 2e-3
        assert away.mean() <= 5e-3, role


def without_a_part(alpha: Any, *_: Any) -> tuple[Any, None]:
    """In place of `without_islands`."""
    alpha = alpha.clone()
    alpha[20:60, 30:70] = 0
    return alpha, None


@pytest.mark.parametrize("model", MODELS)
def test_a_frame_that_was_sent_ahead_is_waited_for_once(card: Counts, model: str) -> None:
    engine, out = Engine(str(CUDA), registry=registry(model)), outputs()
    for _ in range(3):
        card.reset()
        frame = started(engine, planes(), out, model, ahead=True)
    assert card.waits == 0, card.places
    frame.finished()
    assert card.waits == 1, card.places
    assert card.launches <= MOST_LAUNCHES, card.places


@pytest.mark.parametrize("model", MODELS)
def test_a_frame_alone_is_waited_for_twice(card: Counts, model: str) -> None:
    """Once until its planes are read, as the client waits for that, too."""
    engine, out = Engine(str(CUDA), registry=registry(model)), outputs()
    for _ in range(3):
        card.reset()
        started(engine, planes(), out, model).finished()
    assert card.waits == 2, card.places


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_report_is_that_of_a_device_that_is_waited_for(
    card: Counts, model: str, dtype: Any
) -> None:
    (here, wanted), (there, report) = on_both(card, model, planes(2.0), dtype)
    assert_alike(there, here)
    assert report.degraded == wanted.degraded
    notes, others = dict(report.notes), dict(wanted.notes)
    own, other = dict(notes.pop("model")), dict(others.pop("model"))
    assert own.pop("graph", "replayed") == "replayed"
    # On a GPU all is refined, and kept by tiles of another size.
    for name in ("refined_share", "refined_pixels", "noise"):
        assert (name in own) == (name in other)
        own.pop(name, None), other.pop(name, None)
    assert own == other
    assert notes == others
    assert report.timings_ms.keys() == wanted.timings_ms.keys()


@pytest.mark.slow
def test_a_window_of_a_large_frame_is_settled_as_the_frame_is(
    card: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (810, 1440)
    sent, waits = planes(size=size), []
    (here, wanted), (there, report) = on_both(card, "twoplate", sent)
    assert_alike(there, here)
    assert report.notes["model"]["window"] == wanted.notes["model"]["window"]
    engine, out = Engine(str(CUDA)), outputs(size=size)
    for _ in range(3):
        card.reset()
        started(engine, sent, out, "twoplate", ahead=True).finished()
        waits.append(card.waits)
    assert waits[-1] == 2, card.places  # for the window's pictures, and for the results

    monkeypatch.setattr("mattebridge.models.twoplate.ending.without_islands", without_a_part)
    (changed, _), (there, _) = on_both(card, "twoplate", sent)
    assert np.abs(changed["alpha"] - here["alpha"]).max() > 0.5
    assert_alike(there, changed)


def test_strong_grain_is_given_back_before_anything_is_known(card: Counts) -> None:
    (here, wanted), (there, report) = on_both(card, "twoplate", planes(grain=0.03))
    assert_alike(there, here)
    assert report.degraded == wanted.degraded


# Two places where the keyer's islands are emptied, and those of the network.
@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("difference", "difference.keyer"),
        ("twoplate", "difference.keyer"),
        ("twoplate", "twoplate.ending"),
    ],
)
@pytest.mark.parametrize("grain", [0.0, 0.03])
def test_islands_that_are_seen_late_are_emptied_in_all_planes(
    card: Counts, monkeypatch: pytest.MonkeyPatch, model: str, place: str, grain: float
) -> None:
    sent = planes(grain=grain)
    (before, _), _ = on_both(card, model, sent)
    monkeypatch.setattr(f"mattebridge.models.{place}.without_islands", without_a_part)
    (here, wanted), (there, report) = on_both(card, model, sent)
    assert np.abs(here["premultiplied"] - before["premultiplied"]).max() > 0.1
    assert_alike(there, here)
    assert report.degraded == wanted.degraded


@pytest.mark.parametrize("model", ["difference", "twoplate"])
def test_moved_things_that_are_seen_late_are_emptied_and_named(
    card: Counts, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    def moved(alpha: torch.Tensor, *_: Any) -> torch.Tensor:
        mask = torch.zeros(alpha.shape, dtype=torch.bool)
        mask[20:60, 30:70] = True
        return mask.to(alpha.device)

    monkeypatch.setattr("mattebridge.models.difference.moved.moved_of", moved)
    (here, wanted), (there, report) = on_both(card, model)
    assert report.degraded == wanted.degraded == ("set_moved",)
    assert not there["premultiplied"][20:60, 30:70].any()
    assert_alike(there, here)


@pytest.fixture
def broken_frame(card: Counts, monkeypatch: pytest.MonkeyPatch) -> StartedFrame:
    """A frame in whose matte there are values that are not finite."""
    computed = GpuMatting.__call__

    def broken(*given: Any, **how: Any) -> Any:
        made = computed(*given, **how)
        return dataclasses.replace(made, alpha=made.alpha * float("nan"))

    monkeypatch.setattr(GpuMatting, "__call__", broken)
    engine = Engine(str(CUDA), registry=registry("background matting"))
    return started(engine, planes(), outputs(), "background matting")


def test_values_that_are_not_finite_are_refused_when_they_are_seen(
    broken_frame: StartedFrame,
) -> None:
    with pytest.raises(ModelError, match="NaN or infinite values"):
        broken_frame.finished()


def test_a_frame_that_failed_holds_no_memory_until_that_is_reported(
    broken_frame: StartedFrame,
) -> None:
    """It is settled early where memory is short for another one."""
    results = weakref.ref(broken_frame._report.args[0])  # type: ignore[union-attr]
    assert results() is not None
    broken_frame.settle()
    gc.collect()
    assert results() is None
    with pytest.raises(ModelError, match="NaN or infinite values"):
        broken_frame.finished()


def test_what_was_clamped_is_counted_to_the_last_value(
    card: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postprocess, "_BITS", 2)  # more would take a frame of millions of pixels
    sent = planes()
    sent["plate"][10:13, 10:15, :3] = 1e6
    how = {"params": {"colorspace": "linear", "foreground": "plate"}}
    (_, wanted), (_, report) = on_both(card, "difference", sent, np.float16, **how)
    assert report.notes["clamped"] == wanted.notes["clamped"]
    assert report.notes["clamped"]["foreground"] == 45


def test_a_frame_that_is_kept_is_known_at_once(
    card: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mattebridge.models.twoplate.ending.without_islands", without_a_part)
    engine = Engine(str(CUDA), frame_budget_bytes=1 << 28)
    first, again = outputs(), outputs()
    for out in (first, again):
        report = started(engine, planes(), out, "twoplate", keep=True).finished()
    assert report.notes["reused"] == "result"
    for role, plane in first.items():
        assert np.array_equal(plane, again[role])
    assert not first["alpha"][20:60, 30:70].any()


def test_the_time_of_the_device_is_that_of_the_model() -> None:
    clock = Clock()
    clock.timings_ms.update(write=5.0, model=1.0)
    clock.set("model", 0.004, "write")
    assert clock.timings_ms == {"write": 2.0, "model": 4.0}
    clock.set("model", 5.0, "write")  # most of it was spent on other frames
    assert clock.timings_ms == {"write": 0.0, "model": 5000.0}
    clock.set("model", 0.001, "write")
    assert clock.timings_ms == {"write": 0.0, "model": 1.0}


def test_what_is_computed_again_is_computed_as_the_frame_was(
    card: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tensors of inference mode, as recordings have them, can be written to in that mode alone."""
    computed, modes = WholeFrame.__call__, []

    def noted(*given: Any, **how: Any) -> Any:
        modes.append(torch.is_inference_mode_enabled())
        return computed(*given, **how)

    monkeypatch.setattr(WholeFrame, "__call__", noted)
    monkeypatch.setattr("mattebridge.models.difference.keyer.without_islands", without_a_part)
    frame = started(Engine(str(CUDA)), planes(), outputs(), "twoplate")
    assert modes == [True]
    frame.finished()
    assert modes == [True, True]


@pytest.mark.parametrize("times", [1, 3])
def test_a_matte_that_changes_without_memory_for_it_is_computed_once_more(
    card: Counts, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    monkeypatch.setattr("mattebridge.models.twoplate.ending.without_islands", without_a_part)
    (here, _), _ = on_both(card, "twoplate")
    failures = [torch.OutOfMemoryError("CUDA out of memory")] * times

    def exhausted(*given: Any) -> Any:
        if failures:
            raise failures.pop()
        return without_a_part(*given)

    monkeypatch.setattr("mattebridge.models.twoplate.ending.without_islands", exhausted)
    out = outputs()
    frame = started(Engine(str(CUDA)), planes(), out, "twoplate")
    assert len(failures) == times
    if times == 3:  # more than there are steps
        with pytest.raises(OutOfMemoryError, match="model 'twoplate'"):
            frame.finished()
        return
    assert frame.finished().notes["memory"] == ["caches freed"]
    assert_alike(out, here)


def test_frames_in_hand_are_finished_where_memory_is_short(
    card: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, first, second = Engine(str(CUDA)), outputs(), outputs()
    card.late = 10**6  # no copy is over unless it is waited for
    before = started(engine, planes(), first, "difference")
    # Of the recording, and of the steps one by one.
    failures = [torch.OutOfMemoryError("CUDA out of memory") for _ in range(2)]
    found = keyed.gather

    def exhausted(*given: Any, **how: Any) -> Any:
        if failures:
            raise failures.pop()
        assert before._report is None, "it still holds its memory"
        return found(*given, **how)

    monkeypatch.setattr(keyed, "gather", exhausted)
    report = started(engine, planes(), second, "difference").finished()
    assert report.notes["memory"] == ["caches freed"]
    assert before.finished().notes == {k: v for k, v in report.notes.items() if k != "memory"}
    assert np.array_equal(first["premultiplied"], second["premultiplied"])


def test_no_copy_writes_into_the_planes_of_a_frame_that_failed(
    card: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(str(CUDA))
    started(engine, planes(), outputs(), "difference").finished()

    def exhausted(*images: Any, **_: Any) -> Any:
        card.order.append(("test", "no memory"))
        raise RuntimeError("broken")

    waited = Counts.wait

    def noted(counts: Counts, what: str) -> None:
        counts.order.append(("test", "waited"))
        waited(counts, what)

    monkeypatch.setattr(Counts, "wait", noted)
    monkeypatch.setattr(crossing.Fetched, "begin", exhausted)
    with pytest.raises(RuntimeError, match="broken"):
        engine._crossing.deliver({"alpha": torch.zeros(8, 8, 1).to(CUDA)}, outputs(size=(8, 8)))
    assert [what for _, what in card.order][-2:] == ["no memory", "waited"]


def test_a_new_clean_plate_is_read_before_anything_is_concluded(card: Counts) -> None:
    engine, waits = Engine(str(CUDA)), {}

    def checkpoint(stage: str, done: int = 0, total: int = 0) -> None:
        waits.setdefault(stage, card.waits)

    for is_kept in (False, True):
        card.reset()
        waits.clear()
        how: Any = {"ahead": True, "checkpoint": checkpoint}
        started(engine, planes(), outputs(), "difference", **how).finished()
        assert (waits["inputs"] == 0) is is_kept


def test_what_is_kept_has_the_pixels_of_what_is_not(card: Counts) -> None:
    engine = Engine(str(CUDA), frame_budget_bytes=1 << 28)
    for model in ("difference", "twoplate"):
        kept, other = outputs(), outputs()
        started(engine, planes(), kept, model, keep=True).finished()
        started(engine, planes(), other, model).finished()
        for role, plane in kept.items():
            assert np.array_equal(plane, other[role])
