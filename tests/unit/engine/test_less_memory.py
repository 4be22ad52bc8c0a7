"""Exhausted memory: what is given up for a frame, in which order, and what is said about it."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
import pytest
import torch

from fakes.matting_models import Keyer, keyer_card, registry_of
from mattebridge.engine import device_memory, less_memory
from mattebridge.engine.engine import Engine
from mattebridge.errors import Cancelled, OutOfMemoryError
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.wire.params import RenderParams

SIZE = (24, 31)
# What the engine keeps of the clean plate of such a frame: 3 floats as sent, and 6 times as much
# again of what is derived from it.
CLEAN_PLATE_BYTES = 24 * 31 * (3 * 4 + 6 * 12)


class Memory:
    """A device of so many bytes; whoever takes more than is left gets a MemoryError."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.taken: dict[str, int] = {}
        self.engine: Optional[Engine] = None

    def take(self, name: str, size_bytes: int) -> None:
        kept = self.engine.clean_plates.size_bytes if self.engine else 0
        if sum(self.taken.values()) + kept + size_bytes > self.size_bytes:
            raise MemoryError
        self.taken[name] = size_bytes

    @contextlib.contextmanager
    def held(self, name: str, size_bytes: int) -> Iterator[None]:
        self.take(name, size_bytes)
        try:
            yield
        finally:
            del self.taken[name]


class Hungry(Keyer):
    """The fake keyer with weights, working memory, and perhaps a way to work with less."""

    def __init__(
        self, name: str, memory: Memory, *, weights: int, needs: int, small: Optional[int] = None
    ) -> None:
        super().__init__(keyer_card(name=name))
        self.memory, self.weights, self.needs, self.small = memory, weights, needs, small
        self.in_pieces = False

    def load(self, device: str) -> None:
        self.memory.take(self.card.name, self.weights)
        super().load(device)

    def unload(self) -> None:
        self.memory.taken.pop(self.card.name, None)
        super().unload()

    @property
    def memory_bytes(self) -> int:
        return self.memory.taken.get(self.card.name, 0)

    def use_less_memory(self, less: bool) -> bool:
        self.in_pieces = less and self.small is not None
        return self.in_pieces

    def matte(self, given: ModelInput, checkpoint: Any) -> ModelOutput:
        needs = self.small if self.in_pieces and self.small is not None else self.needs
        with self.memory.held("frame", needs):
            return super().matte(given, checkpoint)


def pictures(seed: int = 1) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {role: random.random((*SIZE, 3), np.float32) for role in ("plate", "clean_plate")}


def frame(engine: Engine, model: str, seed: int = 1) -> tuple[Any, Any]:
    out = {"alpha": np.zeros((*SIZE, 1), np.float32)}
    report = engine.matte(pictures(seed), RenderParams("linear"), model=model, out=out)
    return out["alpha"], report


def engine_of(memory: Memory, *models: Hungry, **options: Any) -> Engine:
    memory.engine = Engine(registry=registry_of(*models), **options)
    return memory.engine


def names(engine: Engine) -> list[str]:
    return [model["name"] for model in engine.loaded_models()]


MB = 1 << 20


def test_a_frame_that_fits_gives_up_nothing() -> None:
    memory = Memory(100 * MB)
    engine = engine_of(memory, Hungry("a", memory, weights=10 * MB, needs=50 * MB))
    _alpha, report = frame(engine, "a")
    assert ("memory" in report.notes, report.degraded) == (False, ())
    assert len(engine.clean_plates) == 1


def test_kept_clean_plates_leave_first_and_the_pixels_are_the_same() -> None:
    memory = Memory(100 * MB)
    engine = engine_of(memory, Hungry("a", memory, weights=10 * MB, needs=50 * MB))
    for seed in (1, 2, 3):
        frame(engine, "a", seed)
    expected, _report = frame(engine, "a", 1)
    assert len(engine.clean_plates) == 3
    # One clean plate fits beside the frame, three do not.
    memory.size_bytes = 60 * MB + CLEAN_PLATE_BYTES * 3 // 2
    alpha, report = frame(engine, "a", 1)
    assert report.notes["memory"] == ["caches freed"]
    assert report.degraded == ()
    assert np.array_equal(alpha, expected)
    assert len(engine.clean_plates) == 1


@pytest.mark.slow
def test_other_models_leave_one_by_one_the_least_recently_used_first() -> None:
    memory = Memory(100 * MB)
    models = [Hungry(name, memory, weights=10 * MB, needs=MB) for name in "abcd"]
    engine = engine_of(memory, *models)
    for name in "abcdb":
        frame(engine, name)
    models[3].needs = 75 * MB
    _alpha, report = frame(engine, "d")
    assert report.notes["memory"] == ["caches freed", "model a dropped", "model c dropped"]
    assert names(engine) == ["b", "d"]
    # What was dropped is loaded again when it is asked for.
    frame(engine, "a")
    assert names(engine) == ["b", "d", "a"]


def test_a_model_that_can_computes_in_pieces_at_last_and_says_so_while_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = Memory(100 * MB)
    model = Hungry("a", memory, weights=10 * MB, needs=80 * MB, small=20 * MB)
    engine = engine_of(memory, model)
    expected, _report = frame(engine, "a")
    memory.size_bytes = 40 * MB
    alpha, report = frame(engine, "a")
    assert report.notes["memory"] == ["caches freed", "tiled"]
    assert report.degraded == ("tiled",)
    assert np.array_equal(alpha, expected)
    # The next frame of the shot does not fail first.
    _alpha, report = frame(engine, "a")
    assert ("memory" in report.notes, report.degraded) == (False, ("tiled",))
    # When the pressure is gone, whole frames come back.
    memory.size_bytes = 100 * MB
    loaded = engine._models.get("a")
    assert loaded is not None
    loaded.small_until = 1e-9
    _alpha, report = frame(engine, "a")
    assert (report.degraded, model.in_pieces) == ((), False)


@pytest.mark.slow
def test_memory_that_does_not_suffice_at_all_is_an_error_with_need_and_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mattebridge.engine.engine.free_bytes", lambda _device: 3 << 29)
    memory = Memory(100 * MB)
    model = Hungry("a", memory, weights=10 * MB, needs=500 * MB, small=400 * MB)
    engine = engine_of(memory, model, Hungry("b", memory, weights=MB, needs=MB))
    expected, _report = frame(engine, "b")
    with pytest.raises(
        OutOfMemoryError, match=r"31x24 with model 'a'.*1\.5 GiB are free"
    ) as caught:
        frame(engine, "a")
    needed = 24 * 31 * (144 + model.card.bytes_per_pixel)
    assert caught.value.details == {"needed_bytes": needed, "free_bytes": 3 << 29}
    assert "frame" not in memory.taken
    alpha, _report = frame(engine, "b")
    assert np.array_equal(alpha, expected)


@pytest.mark.slow
def test_memory_that_is_exhausted_while_a_model_loads_makes_the_others_leave() -> None:
    memory = Memory(100 * MB)
    models = [Hungry(name, memory, weights=40 * MB, needs=MB) for name in "abc"]
    engine = engine_of(memory, *models)
    engine.load_model("a")
    engine.load_model("b")
    assert engine.load_model("c")["name"] == "c"
    assert names(engine) == ["b", "c"]
    _alpha, report = frame(engine, "a")
    assert report.notes["memory"] == ["caches freed", "model b dropped"]
    models[1].weights = 200 * MB
    with pytest.raises(OutOfMemoryError, match="the weights of model 'b'"):
        engine.load_model("b")


def test_models_over_their_budget_leave_without_an_error() -> None:
    memory = Memory(1000 * MB)
    models = [Hungry(name, memory, weights=40 * MB, needs=MB) for name in "abc"]
    engine = engine_of(memory, *models, model_budget_bytes=100 * MB)
    for name in "abca":
        frame(engine, name)
    assert names(engine) == ["c", "a"]
    engine = engine_of(memory, *models, model_budget_bytes=1)
    frame(engine, "b")
    assert names(engine) == ["b"]  # one alone may exceed it


def test_what_a_failed_attempt_had_allocated_is_gone_before_the_next_one() -> None:
    """An exception keeps the variables of the functions that it passed through."""
    seen: list[weakref.ref[Any]] = []

    class Large:
        pass

    def inner(large: Large) -> None:
        working = Large()
        seen.append(weakref.ref(working))
        try:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        except RuntimeError as error:
            raise OutOfMemoryError("a frame of 4x4") from error

    def attempt() -> str:
        assert all(reference() is None for reference in seen)
        if len(seen) == 4:
            return "fits"
        large = Large()
        seen.append(weakref.ref(large))
        inner(large)
        return "never"

    result = less_memory.first_that_fits(
        attempt, ["one", "two", "three"], needed_bytes=None, free_bytes=lambda: None
    )
    assert result == ("fits", ("one", "two"))


@pytest.mark.parametrize("error", [Cancelled("stop"), ValueError("a bug"), RuntimeError("shapes")])
def test_other_errors_are_not_tried_again(error: Exception) -> None:
    attempts = []

    def attempt() -> None:
        attempts.append(1)
        raise error

    with pytest.raises(type(error)):
        less_memory.first_that_fits(attempt, ["one"], needed_bytes=None, free_bytes=lambda: None)
    assert attempts == [1]


@pytest.mark.slow
def test_the_memory_of_a_gpu_is_that_of_all_programs_and_of_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emptied: list[int] = []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (30, 100))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 20)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 25)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(1))
    found = device_memory.device_memory("cuda:0")
    assert found == device_memory.DeviceMemory(100, 30, 20, 5)
    assert device_memory.free_bytes("cuda:0") == 35
    device_memory.give_back("cuda:0")
    assert emptied == [1]
    assert device_memory.device_memory("cpu") is None
    assert (device_memory.free_bytes("cpu") or 0) > 0
    device_memory.give_back("cpu")
    engine = Engine("cuda:0", registry=registry_of(Keyer()))
    engine.load_model("keyer")
    assert engine.memory() == {
        "models": {"keyer": 4096},
        "caches": {"clean_plates": 0, "mattes": 0, "results": 0},
        "hits": {"mattes": 0, "results": 0},
        "gpu": {"total_bytes": 100, "free_bytes": 30, "used_bytes": 20, "kept_bytes": 5},
    }
