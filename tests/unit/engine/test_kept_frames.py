"""Frames that are asked for again: what is found, what is not, and what leaves when."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from fakes.matting_models import Keyer, keyer_card, registry_of
from mattebridge.engine.engine import Engine
from mattebridge.engine.report import RenderReport
from mattebridge.errors import Cancelled, ModelError
from mattebridge.wire.params import PARAMS, RenderParams

HEIGHT, WIDTH = 24, 31
MEBIBYTE = 2**20
# Another value for each parameter that the model's matte may depend on.
OTHER: dict[str, Any] = {
    "colorspace": "srgb",
    "plate_alpha": "straight",
    "alignment": "homography",
    "match_exposure": True,
    "nonfinite": "zero",
    "exact": True,
    "settings": {"slope": 3.0},
}


def planes(**changes: Any) -> dict[str, Any]:
    random = np.random.default_rng(4)
    images = {
        "plate": random.random((HEIGHT, WIDTH, 4), np.float32),
        "clean_plate": random.random((HEIGHT, WIDTH, 3), np.float32),
        "alpha_hint": random.random((HEIGHT, WIDTH, 1), np.float32),
        "core_matte": random.random((HEIGHT, WIDTH, 1), np.float32) * np.float32(0.3),
        "garbage_matte": random.random((HEIGHT, WIDTH, 1), np.float32) * np.float32(0.3),
    }
    return {**images, **changes}


class Desk:
    """An engine with the fake keyer, and a frame that is asked for again and again."""

    def __init__(self, budget_bytes: int = 64 * MEBIBYTE, **card: Any) -> None:
        self.keyer = Keyer(keyer_card(uses_alpha_hint=True, **card))
        self.engine = Engine(registry=registry_of(self.keyer), frame_budget_bytes=budget_bytes)
        self.out: dict[str, Any] = {}

    def matte(self, images: Any = None, *, keep: bool = True, **asked: Any) -> RenderReport:
        dtype, checkpoint = asked.pop("dtype", np.float32), asked.pop("checkpoint", None)
        frame, channels = asked.pop("frame", 1), {"alpha": 1, "foreground": 3, "premultiplied": 4}
        self.out = {role: np.zeros((HEIGHT, WIDTH, n), dtype) for role, n in channels.items()}
        params = RenderParams(**{"colorspace": "linear", "alignment": "off", **asked})
        given = planes() if images is None else images
        return self.engine.matte(
            given,
            params,
            model="keyer",
            out=self.out,
            frame=frame,
            keep=keep,
            checkpoint=checkpoint,
        )

    @property
    def runs(self) -> int:
        return len(self.keyer.given)


def bits(out: dict[str, Any]) -> dict[str, bytes]:
    return {role: plane.tobytes() for role, plane in out.items()}


def test_parameters_behind_the_model_are_finished_anew_and_no_more() -> None:
    desk, fresh = Desk(), Desk()
    desk.matte()
    for asked in (
        {"despill_strength": 0.5},
        {"foreground": "unmix"},
        {"output_colorspace": "srgb", "premultiply": "display"},
        {"hint_sharpen": True, "hint_blur_px": 2},
        {"dtype": np.float16},
    ):
        report = desk.matte(**asked)
        plain = fresh.matte(keep=False, **asked)
        assert report == dataclasses.replace(
            plain, notes={**plain.notes, "reused": "matte"}, timings_ms=report.timings_ms
        )
        assert bits(desk.out) == bits(fresh.out)
    assert desk.runs == 1


def test_the_same_frame_again_has_its_planes_whatever_the_client_did_to_its_own() -> None:
    desk = Desk()
    desk.matte(despill_strength=0.5)
    expected = bits(desk.out)
    for plane in desk.out.values():
        plane[:] = 7
    assert desk.matte(despill_strength=0.5).notes["reused"] == "result"
    assert bits(desk.out) == expected
    assert desk.engine.kept_frames.hits == {"mattes": 1, "results": 1}


@pytest.mark.parametrize("role", ["plate", "clean_plate", "alpha_hint", "core_matte"])
def test_one_other_bit_in_a_picture_makes_another_frame(role: str) -> None:
    desk, images = Desk(), planes()
    images[role][20, 17, 0] = 0.0
    desk.matte(images)
    images[role][20, 17, 0] = -0.0 if role == "plate" else 1e-7
    assert "reused" not in desk.matte(images).notes
    assert desk.runs == 2


def test_another_garbage_matte_is_finished_anew() -> None:
    desk, images = Desk(), planes()
    desk.matte(images)
    images["garbage_matte"][3, 4] = 1
    assert desk.matte(images).notes["reused"] == "matte"
    assert desk.out["alpha"][3, 4] == 0


def test_every_parameter_is_part_of_what_is_looked_for_unless_the_table_says_otherwise() -> None:
    before = {param.name for param in PARAMS if not param.after_model}
    assert before == set(OTHER)
    for name, value in OTHER.items():
        desk = Desk()
        desk.matte()
        assert "reused" not in desk.matte(**{name: value}).notes, name
        assert desk.runs == 2


def test_another_frame_number_and_other_weights_make_another_frame() -> None:
    desk = Desk()
    desk.matte(frame=1)
    assert "reused" not in desk.matte(frame=2).notes
    other = Keyer(keyer_card(uses_alpha_hint=True, digest="keyer:2"))
    desk.engine.registry = registry_of(other)
    assert "reused" not in desk.matte(frame=2).notes
    assert len(other.given) == 1


def test_an_error_is_not_kept_and_a_frame_that_is_cancelled_at_its_end_is() -> None:
    desk = Desk()
    desk.keyer.alpha = np.nan
    for _ in range(2):
        with pytest.raises(ModelError, match="NaN"):
            desk.matte()
    assert desk.runs == 2
    desk.keyer.alpha = None

    def cancelled_at(stage: str, done: int = 0, total: int = 0) -> None:
        if stage == "finish":
            raise Cancelled("the frame was cancelled")

    with pytest.raises(Cancelled):
        desk.matte(checkpoint=cancelled_at)
    assert desk.matte().notes["reused"] == "matte"
    assert desk.runs == 3


def test_a_frame_that_is_found_passes_the_stages_of_one_that_is_computed() -> None:
    desk, stages = Desk(), []

    def seen(stage: str, done: int = 0, total: int = 0) -> None:
        stages.append(stage)

    for _ in range(2):
        desk.matte(checkpoint=seen)
    wanted = {"inputs", "model", "finish"}
    assert wanted <= set(stages[-3:])
    # The result is delivered only once the last of them has agreed.
    assert stages[-1] == "finish"


def test_the_least_recently_used_leaves_when_the_budget_is_used_up() -> None:
    desk = Desk()
    desk.matte(frame=1)
    one = desk.engine.kept_frames.size_bytes
    assert (
        desk.engine.memory()["caches"]["mattes"] + desk.engine.memory()["caches"]["results"] == one
    )
    desk = Desk(budget_bytes=2 * one)
    for frame in (1, 2, 1, 3):
        desk.matte(frame=frame)
    assert desk.engine.kept_frames.size_bytes <= 2 * one
    assert desk.matte(frame=1).notes["reused"] == "result"
    assert "reused" not in desk.matte(frame=2).notes


def test_results_leave_before_the_matte_they_are_made_of() -> None:
    desk = Desk()
    desk.matte()
    kept = desk.engine.kept_frames
    desk = Desk(budget_bytes=kept.matte_bytes)
    desk.matte()
    assert desk.engine.kept_frames.result_bytes == 0
    assert desk.matte().notes["reused"] == "matte"


def test_frames_leave_for_one_that_the_free_memory_would_not_suffice_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk()
    desk.matte()
    monkeypatch.setattr(desk.engine, "_free_bytes", lambda: 1000)
    assert "reused" not in desk.matte().notes
    assert desk.runs == 2


def test_frames_leave_with_their_model_and_with_their_clean_plate() -> None:
    desk = Desk()
    desk.matte()
    desk.engine.unload_model("default")
    assert len(desk.engine.kept_frames) == 0
    desk.matte()
    desk.engine.clean_plates.clear()
    assert "reused" not in desk.matte().notes
    assert len(desk.engine.kept_frames) == 1
