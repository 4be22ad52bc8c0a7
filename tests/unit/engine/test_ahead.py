"""The search for a clean plate's place that is begun before the frame's turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fakes.daemon_process import wait_for
from fakes.mostly_slow import mostly_slow
from fakes.pretended_cuda import CUDA, Counts, pretended_cuda
from fakes.searches import LONG_S, Searched
from mattebridge.engine.engine import Engine
from mattebridge.engine.picture import Picture
from mattebridge.engine.space import display_of
from mattebridge.errors import Cancelled
from mattebridge.ocio.space import Spaces
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 72, 96


def shot(frame: int = 0, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    """A set, and a brighter plate of it with a subject at another place in each frame."""
    random = np.random.default_rng(3)
    coarse = torch.from_numpy(random.random((1, 4, HEIGHT // 4, WIDTH // 4), np.float32))
    scene = torch.nn.functional.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic")
    clean = scene[0].permute(1, 2, 0).clamp(0.02, 0.9).numpy()
    plate = clean * 1.1 + random.normal(0, 0.002, clean.shape).astype(np.float32)
    plate[20:50, 20 + 8 * frame : 45 + 8 * frame, :3] = (0.9, 0.2, 0.1)
    plate[..., 3], clean[..., 3] = 1, 1
    scale = np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else 1
    return {
        "plate": (plate * scale * 0.9).astype(dtype),
        "clean_plate": (clean * scale * 0.9).astype(dtype),
    }


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Searched:
    return Searched(monkeypatch)


@pytest.fixture
def card() -> Iterator[Counts]:
    with pretended_cuda() as counts:
        yield counts


def params(**changed: Any) -> RenderParams:
    return RenderParams(**{"colorspace": "linear", **changed})


def rendered(
    engine: Engine,
    planes: dict[str, np.ndarray],
    wanted: RenderParams,
    *,
    checkpoint: Any = None,
    wait_for: Searched | None = None,
    ahead: bool = False,
) -> dict[str, Any]:
    """A frame's alpha and its notes; `ahead`: sent before its turn."""
    how = {"model": "difference", "clean_plate_key": "shot"}
    sent = engine.send_ahead(planes, wanted, **how) if ahead else None
    if wait_for is not None:
        assert wait_for.begun.wait(LONG_S)
    out = {"alpha": np.empty((HEIGHT, WIDTH, 1), np.float32)}
    started = engine.start(planes, wanted, out=out, sent=sent, checkpoint=checkpoint, **how)
    return {**out, "notes": started.finished().notes}


def first_then(engine: Engine, wanted: RenderParams, **first: Any) -> Engine:
    """The engine after a frame of the shot, whose clean plate it keeps."""
    rendered(engine, shot(**first), wanted)
    return engine


@pytest.mark.parametrize("dtype", mostly_slow([np.float16, np.float32, np.uint8]))
@pytest.mark.parametrize(
    "how",
    mostly_slow(
        [
            {},
            {"colorspace": "ACEScg"},
            {"colorspace": "srgb"},
            {"plate_alpha": "premultiplied"},
            {"alignment": "homography", "match_exposure": False},
        ],
        quick=2,
    ),
)
def test_a_search_ahead_sees_what_the_frame_would_and_finds_the_same(
    card: Counts, searched: Searched, dtype: Any, how: dict[str, Any]
) -> None:
    wanted, planes = params(**how), shot(1, dtype)
    planes["plate"][10:30, 50:70, 3] = np.iinfo(dtype).max // 2 if dtype == np.uint8 else 0.5
    planes["core_matte"] = np.zeros((HEIGHT, WIDTH, 1), dtype)
    planes["core_matte"][25:40, 35:45] = 1
    engine = first_then(Engine(str(CUDA)), wanted, dtype=dtype)
    alone = rendered(engine, planes, wanted)
    together = rendered(engine, planes, wanted, ahead=True, wait_for=searched)
    assert searched.threads == [False, False, True]
    (_, one), (_, other) = searched.seen[1:]
    assert np.array_equal(one.small, other.small)
    assert np.array_equal(one.subject, other.subject)
    assert one.brightest == other.brightest
    assert np.array_equal(alone["alpha"], together["alpha"])
    assert alone["notes"] == together["notes"]


def test_the_small_picture_of_a_frame_comes_with_its_range(
    card: Counts, searched: Searched
) -> None:
    wanted = params()
    engine = first_then(Engine(str(CUDA)), wanted)
    how = {"model": "difference", "clean_plate_key": "shot"}
    waits = []
    for is_ahead in (False, True):
        sent = engine.send_ahead(shot(1), wanted, **how) if is_ahead else None
        if is_ahead:
            assert searched.begun.wait(LONG_S)
        card.reset()
        out = {"alpha": np.empty((HEIGHT, WIDTH, 1), np.float32)}
        engine.start(shot(1), wanted, out=out, sent=sent, **how).finished()
        waits.append(card.waits)
    # The plate, unless it was looked at ahead; the aligned clean plate; the outputs, and with them
    # the matte. The search waits by itself.
    assert waits == [3, 2]


def test_values_that_are_not_finite_are_left_out_of_it(card: Counts, searched: Searched) -> None:
    wanted, planes = params(nonfinite="zero"), shot(1)
    planes["plate"][3, 4:7, 0] = (np.nan, np.inf, -np.inf)
    engine = first_then(Engine(str(CUDA)), wanted)
    alone = rendered(engine, planes, wanted)
    together = rendered(engine, planes, wanted, ahead=True, wait_for=searched)
    assert np.array_equal(searched.seen[1][1].small, searched.seen[2][1].small)
    assert np.array_equal(alone["alpha"], together["alpha"])


def test_nothing_is_searched_ahead_without_a_kept_clean_plate_or_a_wish_for_it(
    card: Counts, searched: Searched
) -> None:
    engine = Engine(str(CUDA))
    how: dict[str, Any] = {"model": "difference"}
    first = engine.send_ahead(shot(), params(), clean_plate_key="shot", **how)
    first_then(engine, params())
    wishes = [
        (params(alignment="off", match_exposure=False), "shot"),
        (params(), "another shot"),
        (params(), None),
        (params(colorspace="no such space"), "shot"),
    ]
    later = [engine.send_ahead(shot(1), p, clean_plate_key=key, **how) for p, key in wishes]
    for sent in (first, *later):
        assert sent is not None
        assert sent.search is None
    assert searched.threads == [False]


def test_an_error_of_the_search_is_left_to_the_frame(card: Counts, searched: Searched) -> None:
    wanted = params()
    engine = first_then(Engine(str(CUDA)), wanted)
    alone = rendered(engine, shot(1), wanted)

    def broken(_checkpoint: Any) -> None:
        raise RuntimeError("broken")

    searched.before = broken
    together = rendered(engine, shot(1), wanted, ahead=True, wait_for=searched)
    assert searched.threads == [False, False, True, False]
    assert np.array_equal(alone["alpha"], together["alpha"])


def test_a_frame_that_is_dropped_ends_its_search_at_the_next_stage(
    card: Counts, searched: Searched
) -> None:
    engine = first_then(Engine(str(CUDA)), params())
    held = searched.hold()
    sent = engine.send_ahead(shot(1), params(), model="difference", clean_plate_key="shot")
    assert sent is not None
    assert searched.begun.wait(LONG_S)
    sent.drop()
    held.gate.set()
    assert held.over.wait(LONG_S)
    alone = rendered(engine, shot(1), params())  # the thread is free again, and nothing is left
    assert searched.ended == ["_Dropped"]
    assert alone["alpha"].max() > 0.5


def test_a_frame_can_be_cancelled_while_it_waits_for_its_search(
    card: Counts, searched: Searched
) -> None:
    engine, gate, asked = first_then(Engine(str(CUDA)), params()), threading.Event(), []
    searched.before = lambda checkpoint: (gate.wait(LONG_S), checkpoint("refine"))

    def checkpoint(stage: str, done: int = 0, total: int = 0) -> None:
        asked.append(stage)
        if asked.count("align") > 2:
            raise Cancelled("the frame was cancelled")

    with pytest.raises(Cancelled):
        rendered(engine, shot(1), params(), checkpoint=checkpoint, ahead=True, wait_for=searched)
    gate.set()
    assert rendered(engine, shot(1), params())["alpha"].max() > 0.5


def test_a_frame_whose_search_has_not_begun_searches_itself(
    card: Counts, searched: Searched
) -> None:
    """An artist's frame overtakes those of a job, whose searches come first."""
    engine, gate = first_then(Engine(str(CUDA)), params()), threading.Event()
    searched.before = lambda _checkpoint: gate.wait(LONG_S)
    how = {"model": "difference", "clean_plate_key": "shot"}
    others = [engine.send_ahead(shot(seed), params(), **how) for seed in (2, 3)]
    wait_for(lambda: searched.threads == [False, True, True], LONG_S, "both are searched")
    rendered(engine, shot(1), params(), ahead=True)
    assert searched.threads == [False, True, True, False]
    gate.set()
    for other in others:
        assert other is not None
        other.drop()


@pytest.mark.parametrize("name", ["linear", "srgb", "ACEScg", "ACEScct"])
def test_a_display_picture_without_a_look_at_its_values_is_the_same(name: str) -> None:
    space = Spaces().of(name)
    pixels = torch.rand(40, 50, 3, generator=torch.Generator().manual_seed(1)) * 3 - 0.5
    assert torch.equal(display_of(pixels, space), Picture.of(pixels, space).display)
