"""The form of `twoplate` for a GPU: the pixels of the form for a CPU, few launches, two waits."""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch

from fakes.grainy_pair import given
from fakes.mostly_slow import mostly_slow
from fakes.pretended_cuda import CUDA, Counts, pretended_cuda, recorder
from fakes.small_twoplate import weights
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.pytorch.graphs import FIRST, RECORDED, REPLAYED, Graphs
from mattebridge.models.twoplate.card import card_of
from mattebridge.models.twoplate.model import TwoPlateModel, _Prepared
from mattebridge.models.twoplate.screens import screen_behind
from mattebridge.models.twoplate.tiles import TILE
from mattebridge.models.twoplate.whole import WholeFrame

# Between the forms: they enlarge and convolve the same values in pieces of other sizes. Measured:
# 6e-8 with the shipped weights, 1.5e-7 with these.
APART = 1e-5
# The same where the keyer takes its form for a GPU as well: it rounds by 5e-7, and these weights
# amplify that up to 25 times.
APART_WITH_KEYER = 1e-4
# Operations of a frame whose steps are replayed, the keyer's and the network's: 26 measured, of
# which 24 are copies into and out of the recordings.
LAUNCHES_REPLAYED = 30
# Of one that is computed step by step, with a network of this depth: 3,716 measured; and of the
# first frame, whose unknown pixels are counted before: 5,222.
LAUNCHES, LAUNCHES_TO_COUNT = 3900, 1600
# What a linear frame has beyond these, for its explanation in light and light above white: 209
# measured.
LAUNCHES_IN_LIGHT = 220
# A wait for the pictures that the keyer looks at, and one for what is looked at of the mattes; one
# more of the first frame, for that count.
WAITS = 2
# What a frame sends to the device: two numbers.
SENT_BYTES = 8


@lru_cache(maxsize=1)
def on_cpu() -> TwoPlateModel:
    made = TwoPlateModel(card_of("sha256:0"), weights)
    made.load("cpu")
    return made


def at_once() -> TwoPlateModel:
    """The form for a GPU, on the CPU."""
    made = TwoPlateModel(card_of("sha256:0"), weights)
    made.load("cpu")
    network = made._prepared[torch.float32].network
    made._prepared[torch.float32] = _Prepared(network, WholeFrame(network))
    return made


def assert_same(found: ModelOutput, wanted: ModelOutput, apart: float = APART) -> None:
    alpha, foreground = (
        np.asarray(torch.as_tensor(image).cpu()) for image in (found.alpha, found.foreground)
    )
    assert alpha.shape == wanted.alpha.shape
    assert foreground.flags.c_contiguous
    assert np.abs(alpha - wanted.alpha).max() <= apart
    assert np.abs(foreground - wanted.foreground).max() <= apart
    assert found.notes["refined_share"] == wanted.notes["refined_share"]
    assert found.notes["noise"] == wanted.notes["noise"]


@pytest.mark.parametrize("size", [(17, 25), (131, 203), (6 * TILE, 8 * TILE)])
def test_both_forms_give_the_same_pixels(size: tuple[int, int]) -> None:
    assert_same(
        at_once().matte(given(*size), no_checkpoint), on_cpu().matte(given(*size), no_checkpoint)
    )


@pytest.mark.parametrize("scene_linear", mostly_slow([True, False]))
def test_with_light_above_white_too(scene_linear: bool) -> None:
    frame = given(131, 203, scene_linear=scene_linear)
    brighter = dataclasses.replace(
        frame, plate=1.6 * frame.plate, clean_plate=np.float32(1.6) * frame.clean_plate
    )
    assert (brighter.plate > 1).mean() > 0.01
    assert_same(at_once().matte(brighter, no_checkpoint), on_cpu().matte(brighter, no_checkpoint))


def test_with_a_hint_and_a_border_that_the_clean_plate_does_not_cover_too() -> None:
    hint = np.zeros((131, 203), np.float32)
    hint[30:100, 50:120] = 1
    outside = np.zeros((131, 203), bool)
    outside[:, :9] = True
    for planes in ({"alpha_hint": hint}, {"outside": outside}, {"exact": True}):
        frame = given(131, 203, scene_linear=True, **planes)
        found = at_once().matte(frame, no_checkpoint)
        assert_same(found, on_cpu().matte(frame, no_checkpoint))
    assert found.notes["refined_share"] == 1


def test_some_tiles_keep_what_the_coarse_net_gave() -> None:
    frame = given(6 * TILE, 8 * TILE)
    made = at_once().matte(frame, no_checkpoint)
    everywhere = at_once().matte(dataclasses.replace(frame, exact=True), no_checkpoint)
    assert 0 < made.notes["refined_share"] < 1
    # This refiner changes what is sure as well, by 0.19 at most.
    assert np.abs(made.foreground - everywhere.foreground).max() > 0.01


@pytest.mark.parametrize("in_light", mostly_slow([True, False]))
def test_a_replayed_frame_is_few_launches_and_waits(
    monkeypatch: pytest.MonkeyPatch, in_light: bool
) -> None:
    frame = given(131, 203, scene_linear=in_light)
    wanted = on_cpu().matte(frame, no_checkpoint)
    with pretended_cuda() as counts:
        # A clean plate that is kept: it is no screen, which was found out once.
        there = dataclasses.replace(on_the_device(frame), of_clean_plate={})
        assert screen_behind(there) is None
        replayed(monkeypatch, counts)
        made = TwoPlateModel(card_of("sha256:0"), weights)
        made.load("cuda:0")
        steps = LAUNCHES + LAUNCHES_IN_LIGHT * in_light
        first = (FIRST, steps + LAUNCHES_TO_COUNT)
        for note, most in (first, (RECORDED, 2 * steps), (REPLAYED, LAUNCHES_REPLAYED)):
            counts.reset()
            output = made.matte(there, no_checkpoint)
            assert output.notes["graph"] == note
            assert counts.launches <= most, counts.launches
            assert counts.waits <= WAITS + (note == FIRST), counts.places
            if note == REPLAYED:
                assert counts.to_bytes == SENT_BYTES
            assert_same(output, wanted, APART_WITH_KEYER)
        assert made.use_less_memory(True)
        in_tiles = made.matte(there, no_checkpoint)
        assert "graph" not in in_tiles.notes
        assert_same(in_tiles, wanted, APART_WITH_KEYER)


def replayed(monkeypatch: pytest.MonkeyPatch, counts: Counts) -> None:
    """The steps of models that are loaded from now on can be recorded."""
    for part in ("twoplate.model", "difference.keyer"):
        monkeypatch.setattr(f"mattebridge.models.{part}.Graphs", lambda: Graphs(recorder(counts)))


def test_a_keyed_matte_with_islands_goes_through_the_network_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That of the first frame; in later ones they are looked for before."""

    def emptied(alpha: Any, *_: Any) -> tuple[Any, None]:
        alpha = alpha.clone()
        alpha[40:90, 60:100] = 0
        return alpha, None

    computed, passes = WholeFrame.__call__, []

    def counted(*given: Any, **how: Any) -> Any:
        passes.append(1)
        return computed(*given, **how)

    frame = given(131, 203)
    before = on_cpu().matte(frame, no_checkpoint)
    monkeypatch.setattr("mattebridge.models.difference.keyer.without_islands", emptied)
    wanted = on_cpu().matte(frame, no_checkpoint)
    assert np.abs(wanted.alpha - before.alpha).max() > 0.1
    with pretended_cuda() as counts:
        there = dataclasses.replace(on_the_device(frame), of_clean_plate={})
        replayed(monkeypatch, counts)
        made = TwoPlateModel(card_of("sha256:0"), weights)
        made.load("cuda:0")
        monkeypatch.setattr(WholeFrame, "__call__", counted)
        for so_far in (2, 3):
            assert_same(made.matte(there, no_checkpoint), wanted, APART_WITH_KEYER)
            assert len(passes) == so_far


def on_the_device(frame: ModelInput) -> ModelInput:
    assert frame.clean_plate is not None
    images = (torch.from_numpy(image).to(CUDA) for image in (frame.plate, frame.clean_plate))
    return dataclasses.replace(frame, **dict(zip(("plate", "clean_plate"), images)))  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_gives_the_matte_of_the_cpu() -> None:
    """Its CPU twins: the tests above."""
    made = TwoPlateModel(card_of("sha256:0"), weights)
    made.load("cuda:0")
    frame = given(6 * TILE, 8 * TILE)
    wanted = on_cpu().matte(frame, no_checkpoint)
    for note in (FIRST, RECORDED, REPLAYED):
        found = made.matte(frame, no_checkpoint)
        assert found.notes["graph"] == note
        assert np.abs(found.alpha - wanted.alpha).mean() <= 1e-4
        assert np.abs(found.foreground - wanted.foreground).mean() <= 2e-4
