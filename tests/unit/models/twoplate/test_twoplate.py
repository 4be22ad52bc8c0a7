"""The project's own network: any size, strips without seams, hints, honest about its weights."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from fakes.small_twoplate import random_state
from mattebridge.checkpoint import no_checkpoint
from mattebridge.engine.engine import Engine
from mattebridge.errors import ModelError
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.keyer import keyed
from mattebridge.models.entry import Entry
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.registry import Registry
from mattebridge.models.twoplate import card as card_module
from mattebridge.models.twoplate import tiles as tiles_module
from mattebridge.models.twoplate.card import card_of
from mattebridge.models.twoplate.grain import without_grain
from mattebridge.models.twoplate.model import TwoPlateModel, describe_state, grain_of
from mattebridge.models.twoplate.network import (
    Inputs,
    NetworkMatte,
    TwoPlate,
    clamped,
    inputs_of,
    set_showing,
)
from mattebridge.models.twoplate.onnx import INPUTS, export_onnx, with_noise
from mattebridge.models.twoplate.strands import with_strands
from mattebridge.models.twoplate.versions import from_state
from mattebridge.models.weights.file import digest_of
from mattebridge.wire.params import RenderParams

SIZES = [(16, 16), (17, 25), (33, 64), (61, 47), (120, 1003)]


@lru_cache(maxsize=1)
def weights() -> dict[str, torch.Tensor]:
    """Of a network whose norms have means."""

    def move_means(network: TwoPlate) -> None:
        for name, buffer in network.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)

    return random_state(move_means)


@lru_cache(maxsize=1)
def model() -> TwoPlateModel:
    made = TwoPlateModel(card_of("sha256:0"), weights)
    made.load("cpu")
    return made


def given(height: int, width: int, **others: object) -> ModelInput:
    rng = np.random.default_rng(height * 7 + width)
    plate, clean = (rng.random((height, width, 3), dtype=np.float32) for _ in range(2))
    frame = ModelInput(plate, clean, None, None, False, {})
    return dataclasses.replace(frame, **others)  # type: ignore[arg-type]


def matte(frame: ModelInput) -> ModelOutput:
    return model().matte(frame, no_checkpoint)


def inputs(frame: ModelInput) -> Inputs:
    """What the network is given of a frame."""
    first = keyed(frame, no_checkpoint)
    assert frame.clean_plate is not None
    plate, clean, colour = (
        torch.from_numpy(image).permute(2, 0, 1)[None].clamp(0, 1)
        for image in (frame.plate, frame.clean_plate, first.foreground)
    )
    return inputs_of(plate, clean, (torch.from_numpy(first.alpha)[None, None], colour))


def plain(frame: ModelInput) -> tuple[NetworkMatte, float]:
    """What the network's own forward makes of it, norms and all, and the grain that is left in."""
    network = from_state(weights()).to_empty(device="cpu").eval()
    network.load_state_dict(weights())
    with torch.inference_mode():
        factor = network.factor_for(*frame.plate.shape[:2])
        made = clamped(network(inputs(frame), factor)[1])
        made = with_strands(made, inputs(frame), factor)
    return made, grain_of(Frame.of(frame), made.alpha[0, 0])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_size_is_taken_and_matted_as_by_the_plain_network(height: int, width: int) -> None:
    made = matte(given(height, width))
    grainy, noise = plain(given(height, width))
    expected = without_grain(grainy, inputs(given(height, width)).clean_plate, noise)
    assert made.alpha.shape == (height, width)
    assert np.abs(made.alpha - expected.alpha[0, 0].numpy()).max() < 1e-5
    colour = expected.foreground[0].permute(1, 2, 0).numpy()
    assert np.abs(made.foreground - colour).max() < 1e-5


def test_weights_of_zero_leave_the_keyers_matte() -> None:
    network = TwoPlate((8, 8), 8).eval()
    frame = given(48, 60)
    with torch.inference_mode():
        made = clamped(network(inputs(frame), 2)[1])
    first = keyed(frame, no_checkpoint)
    assert np.abs(made.alpha[0, 0].numpy() - first.alpha).max() < 1e-6


def test_the_settings_of_the_keyer_reach_it() -> None:
    rng = np.random.default_rng(2)
    clean = rng.uniform(0.3, 0.5, (96, 128, 3)).astype(np.float32)
    plate = clean.copy()
    plate[30:80, 30:90] = (0.8, 0.1, 0.1)
    frame = ModelInput(plate, clean, None, None, False, {})
    schema = model().card.settings_schema
    assert "method" not in schema
    assert set(schema) - {"precision", "screen", "window"} < set(DIFFERENCE.settings_schema)
    usual = keyed(
        dataclasses.replace(frame, settings=schema.validate({}, model="x")), no_checkpoint
    )
    assert np.array_equal(usual.alpha, keyed(frame, no_checkpoint).alpha)
    wider = schema.validate({"band": 1.6}, model="x")
    wide = keyed(dataclasses.replace(frame, settings=wider), no_checkpoint)
    assert wide.notes["unknown_share"] > 1.2 * usual.notes["unknown_share"]


def test_the_sets_texture_is_told_from_another_and_from_its_share_behind_a_veil() -> None:
    rng = np.random.default_rng(5)
    clean, other = (
        torch.from_numpy(rng.uniform(0.2, 0.8, (1, 3, 40, 40)).astype(np.float32)) for _ in range(2)
    )
    veil = 0.4 * 0.9 + 0.6 * clean
    shown = {
        name: set_showing(plate, clean).mean((0, 2, 3)).tolist()
        for name, plate in (("same", clean), ("veiled", veil), ("other", other))
    }
    slope, texture, near, far, unlike = zip(*shown.values())
    assert slope == pytest.approx((1.0, 0.6, 0.0), abs=0.05)
    assert near == pytest.approx((1.0, 1.0, 0.0), abs=0.05)
    assert far == pytest.approx((1.0, 1.0, 0.0), abs=0.05)
    assert unlike[0] < -1.9 < -0.5 < unlike[1] < unlike[2]
    assert texture[0] == texture[1] == texture[2] > 1


def test_a_set_without_texture_says_nothing_of_what_shows() -> None:
    flat = torch.full((1, 3, 12, 9), 0.4)
    slope, texture, near, far, _unlike = (
        set_showing(flat + 0.1, flat)[0].flatten(1).mean(1).tolist()
    )
    assert (slope, near, far) == pytest.approx((0, 0, 0), abs=1e-4)
    assert texture < 1e-3


def test_where_alpha_is_one_the_colour_is_the_plates() -> None:
    frame = given(64, 64)
    made = matte(frame)
    opaque = made.alpha == 1
    assert opaque.any()
    assert np.abs(made.foreground - frame.plate)[opaque].max() < 1e-6


@pytest.mark.parametrize(("height", "width"), [(90, 70), (64, 128), (150, 1010)])
def test_tiles_give_what_the_whole_frame_at_once_gives(
    height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles_module, "DOUBTFUL", -1.0)
    monkeypatch.setattr(tiles_module, "_TILES", 3)
    tiles = matte(given(height, width))
    whole = matte(given(height, width, exact=True))
    assert tiles.notes["refined_share"] == whole.notes["refined_share"] == 1
    assert np.abs(whole.alpha - tiles.alpha).max() < 1e-5
    assert np.abs(whole.foreground - tiles.foreground).max() < 1e-5


def test_with_less_memory_it_refines_fewer_tiles_at_a_time_and_gives_the_same_matte(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tiles_module, "DOUBTFUL", -1.0)
    steps: list[int] = []

    def count(stage: str, done: int = 0, total: int = 0) -> None:
        if stage == "refine":
            steps.append(done)

    monkeypatch.setattr(tiles_module, "_FEW_TILES", 1)
    usual = model().matte(given(90, 70), count)
    usual_steps, steps[:] = len(steps), []
    assert model().use_less_memory(True)
    try:
        lean = model().matte(given(90, 70), count)
    finally:
        assert not model().use_less_memory(False)
    assert (usual_steps, len(steps)) == (1, 4)
    # Equal on a processor with AVX2; another kernel for another batch may move the last bits.
    assert np.abs(lean.alpha - usual.alpha).max() < 1e-5
    assert np.abs(lean.foreground - usual.foreground).max() < 1e-5


def half_known() -> ModelInput:
    """A frame whose left half is the clean plate's, and whose right half is another picture."""
    frame = given(128, 256)
    assert frame.clean_plate is not None
    plate = frame.clean_plate.copy()
    plate[:, 140:] = frame.plate[:, 140:]
    return dataclasses.replace(frame, plate=plate)


def test_where_everything_is_sure_the_refiner_is_not_asked() -> None:
    state = dict(weights())
    # A coarse net that changes nothing and doubts nothing, and a refiner that spoils everything.
    answer = (
        torch.zeros_like(state["coarse.last.1.weight"]),
        torch.zeros(len(state["coarse.last.1.bias"])),
    )
    answer[1][-1] = -9
    state |= {"coarse.last.1.weight": answer[0], "coarse.last.1.bias": answer[1]}
    state["refiner.leave.bias"] = torch.full_like(state["refiner.leave.bias"], 3.0)
    sure = TwoPlateModel(card_of("sha256:0"), lambda: state)
    sure.load("cpu")
    frame = half_known()
    made, first = sure.matte(frame, no_checkpoint), keyed(frame, no_checkpoint)
    assert 0 < made.notes["refined_share"] <= 0.75
    assert np.abs(made.alpha - first.alpha)[:, :64].max() < 1e-5
    assert np.abs(made.alpha - first.alpha)[:, 192:].max() > 0.1
    # Unless the coarse net doubts itself.
    answer[1][-1] = 9
    sure.load("cpu")
    assert sure.matte(frame, no_checkpoint).notes["refined_share"] == 1


def test_the_inputs_are_not_written_to() -> None:
    frame = given(40, 40)
    kept = frame.plate.copy()
    frame.plate.flags.writeable = False
    matte(frame)
    assert np.array_equal(frame.plate, kept)


def test_a_hint_what_is_outside_and_the_light_have_a_say() -> None:
    base = matte(given(48, 48)).alpha
    others = {
        "alpha_hint": np.ones((48, 48), np.float32),
        "outside": np.ones((48, 48), bool),
        "scene_linear": True,
    }
    for name, value in others.items():
        assert not np.array_equal(matte(given(48, 48, **{name: value})).alpha, base), name


def test_an_empty_hint_is_not_the_same_as_no_hint() -> None:
    empty = matte(given(48, 48, alpha_hint=np.zeros((48, 48), np.float32)))
    assert not np.array_equal(empty.alpha, matte(given(48, 48)).alpha)
    assert empty.notes["alpha_hint_used"] is True


def test_light_above_one_stays_in_the_foreground() -> None:
    frame = given(32, 32)
    frame.plate[4:8, 4:8] = 5.0
    assert np.all(matte(frame).foreground[4:8, 4:8] >= 4.0)


def test_it_works_in_the_engine_with_alignment_and_all() -> None:
    card = card_of("sha256:0")
    entry = Entry(card, lambda _: TwoPlateModel(card, weights))
    engine = Engine(registry=Registry(lambda: {card.name: entry}, aliases={}))
    frame, out = given(75, 101), {"premultiplied": np.zeros((75, 101, 4), np.float32)}
    planes = {"plate": frame.plate, "clean_plate": frame.clean_plate}
    report = engine.matte(planes, RenderParams(colorspace="linear"), model="twoplate", out=out)
    assert np.isfinite(out["premultiplied"]).all()
    assert "alignment" in report.notes


def test_weights_of_another_shape_are_recognised_and_others_refused() -> None:
    assert describe_state(weights())["parameters"] > 1000
    with pytest.raises(ModelError, match="not weights of twoplate"):
        describe_state({"conv.weight": torch.zeros(1)})
    broken = {k: v for k, v in weights().items() if k != "refiner.enter.bias"}
    with pytest.raises(ModelError, match=r"refiner\.enter\.bias"):
        TwoPlateModel(card_of("sha256:0"), lambda: broken).load("cpu")


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder as the package has it, with weights and their description."""
    halves = {k: v.half() if v.is_floating_point() else v for k, v in weights().items()}
    data = safetensors.torch.save(halves)
    monkeypatch.setattr(card_module, "WEIGHTS", tmp_path / "twoplate.safetensors")
    monkeypatch.setattr(
        "mattebridge.models.twoplate.model.WEIGHTS", tmp_path / "twoplate.safetensors"
    )
    monkeypatch.setattr(card_module, "DESCRIPTION", tmp_path / "twoplate.json")
    (tmp_path / "twoplate.safetensors").write_bytes(data)
    text = json.dumps({"digest": digest_of(data)})
    (tmp_path / "twoplate.json").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_registry_offers_it_where_its_weights_are(shipped: Path) -> None:
    made = Registry().make("twoplate")
    made.load("cpu")
    assert made.memory_bytes > 0
    assert made.matte(given(20, 20), no_checkpoint).alpha.shape == (20, 20)


@pytest.mark.parametrize("lacking", ["twoplate.safetensors", "twoplate.json"])
def test_the_registry_does_not_offer_it_without_them(shipped: Path, lacking: str) -> None:
    (shipped / lacking).unlink()
    assert "twoplate" not in Registry().names()


def test_weights_that_are_not_those_described_are_refused(shipped: Path) -> None:
    path = shipped / "twoplate.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    with pytest.raises(ModelError, match="have the digest"):
        Registry().make("twoplate").load("cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width"), [(61, 47), pytest.param(40, 1010, marks=pytest.mark.slow)]
)
def test_the_onnx_file_gives_the_same_matte(tmp_path: Path, height: int, width: int) -> None:
    import onnxruntime

    network = from_state(weights()).to_empty(device="cpu").eval()
    network.load_state_dict(weights())
    export_onnx(network, tmp_path / "twoplate.onnx", height=height, width=width)
    frame = given(height, width)
    planes = with_noise(inputs(frame), plain(frame)[1])
    feeds = {name: plane.contiguous().numpy() for name, plane in zip(INPUTS, planes)}
    session = onnxruntime.InferenceSession(str(tmp_path / "twoplate.onnx"))
    alpha, foreground = session.run(None, feeds)
    made = matte(frame)
    assert np.abs(alpha[0, 0] - made.alpha).max() < 1e-4
    assert np.abs(foreground[0].transpose(1, 2, 0) - made.foreground).max() < 1e-4


def test_without_the_extra_the_export_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"mattebridge\[onnx\]"):
        export_onnx(TwoPlate((8,), 8), tmp_path / "x.onnx", height=8, width=8)
