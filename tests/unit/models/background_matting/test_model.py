"""The networks as a model of the engine: what goes in, what comes out, which settings hold."""

from __future__ import annotations

import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from fakes.generated_weights import generated_state, plate_pair
from fakes.matting_models import registry_of
from mattebridge.checkpoint import no_checkpoint
from mattebridge.color import srgb_decode, srgb_encode
from mattebridge.engine.engine import Engine
from mattebridge.errors import MessageError, ModelError, TooLargeError
from mattebridge.models.background_matting.card import FAMILY, card_of, entry_of, recommended
from mattebridge.models.background_matting.model import BackgroundMattingModel, describe_state
from mattebridge.models.background_matting.networks import MattingBase, MattingRefine, make_network
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.pytorch.precision import MEAN_TOLERANCE
from mattebridge.models.registry import Registry
from mattebridge.models.weights.file import WeightsRecord, digest_of
from mattebridge.wire.linux import LinuxLayer
from mattebridge.wire.params import RenderParams


@lru_cache(maxsize=4)
def weights(family: str, backbone: str = "mobilenetv2") -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        shapes = make_network(family, backbone).state_dict()
    return generated_state(shapes)


def record(family: str, path: Path | str = "", digest: str = "sha256:0") -> WeightsRecord:
    settings = {"class": family, "backbone": "mobilenetv2"}
    return WeightsRecord("bgm", str(path), digest, FAMILY, settings, "MIT")


def made_of(family: str, backbone: str = "mobilenetv2") -> BackgroundMattingModel:
    made = BackgroundMattingModel(card_of(record(family)), lambda: weights(family, backbone))
    made.load("cpu")
    return made


@lru_cache(maxsize=2)
def model(family: str = "MattingRefine") -> BackgroundMattingModel:
    return made_of(family)


def given(height: int, width: int, exact: bool = False, **settings: Any) -> ModelInput:
    plate, clean_plate = (
        np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        for image in plate_pair(height, width)
    )
    return ModelInput(plate, clean_plate, None, None, False, settings, exact=exact)


def matte(frame: ModelInput, family: str = "MattingRefine") -> ModelOutput:
    return model(family).matte(frame, no_checkpoint)


def test_the_exact_path_gives_the_published_numbers() -> None:
    settings = {"refine_mode": "thresholding", "refine_threshold": 0.2, "backbone_scale": 0.25}
    network = MattingRefine("mobilenetv2", **settings)
    network.load_state_dict(weights("MattingRefine"))
    with torch.inference_mode():
        alpha, foreground, _, _, error, cells = network(*plate_pair(96, 128))
    made = matte(given(96, 128, exact=True, **settings))
    assert np.array_equal(made.alpha, alpha[0, 0].numpy())
    assert np.array_equal(made.foreground, foreground[0].permute(1, 2, 0).numpy())
    assert np.array_equal(made.extra["error"], error[0, 0].numpy())
    assert np.array_equal(made.extra["refinement"], cells[0, 0].numpy())
    assert made.notes["exact"] is True


def test_the_exact_path_of_a_network_without_refiner_is_the_published_one() -> None:
    network = MattingBase("mobilenetv2")
    network.load_state_dict(weights("MattingBase"))
    with torch.inference_mode():
        alpha, foreground, error, _ = network(*plate_pair(61, 90))
    made = matte(given(61, 90, exact=True), "MattingBase")
    assert np.array_equal(made.alpha, alpha[0, 0].numpy())
    assert np.array_equal(made.foreground, foreground[0].permute(1, 2, 0).numpy())
    assert np.array_equal(made.extra["error"], error[0, 0].numpy())
    assert "refinement" not in made.extra


@pytest.mark.parametrize("family", ["MattingRefine", "MattingBase"])
@pytest.mark.parametrize("size", [(96, 128), (61, 90), (1, 1)])
def test_fast_and_exact_agree(family: str, size: tuple[int, int]) -> None:
    fast, exact = matte(given(*size), family), matte(given(*size, exact=True), family)
    assert fast.alpha.shape == exact.alpha.shape == size
    assert np.abs(fast.alpha - exact.alpha).max() < 1e-3
    assert np.abs(fast.foreground - exact.foreground).max() < 1e-3
    for image in (fast.alpha, fast.foreground, *fast.extra.values()):
        assert image.dtype == np.float32
        assert image.flags.c_contiguous
        assert image.flags.writeable


def in_engine(plate: np.ndarray, clean_plate: np.ndarray, exact: bool) -> dict[str, np.ndarray]:
    """Alpha and foreground of a display-encoded frame, through the engine."""
    out = {
        name: np.empty((*plate.shape[:2], count), np.float32)
        for name, count in {"alpha": 1, "foreground": 3}.items()
    }
    planes, params = {"plate": plate, "clean_plate": clean_plate}, RenderParams("srgb", exact=exact)
    Engine(registry=registry_of(model())).matte(planes, params, model="bgm", out=out)
    return out


@pytest.mark.parametrize("exact", [False, True])
def test_highlights_of_the_subject_survive_and_the_sets_own_light_adds_nothing(exact: bool) -> None:
    frame, lamp = given(64, 96), (slice(10, 14), slice(20, 24))
    assert frame.clean_plate is not None
    plate, clean_plate = frame.plate.copy(), frame.clean_plate.copy()
    plate[lamp] = 20.0
    assert float(in_engine(plate, clean_plate, exact)["foreground"][lamp].min()) >= 19
    clean_plate[lamp] = 20.0
    alpha = in_engine(plate, clean_plate, exact)["alpha"][lamp]
    # What the matte leaves of the set; above white it looks the same to the network.
    plate[lamp] = srgb_encode((1 - alpha) * srgb_decode(clean_plate[lamp]))
    assert float(plate[lamp].min()) > 1
    made = in_engine(plate, clean_plate, exact)
    assert np.array_equal(made["alpha"][lamp], alpha)
    assert float(made["foreground"][lamp].max()) <= 1


@pytest.mark.parametrize("exact", [False, True])
def test_inputs_that_must_not_be_written_to_are_not(exact: bool) -> None:
    frame = given(64, 96, exact=exact)
    assert frame.clean_plate is not None
    copies = frame.plate.copy(), frame.clean_plate.copy()
    frame.plate.setflags(write=False)
    frame.clean_plate.setflags(write=False)
    made = matte(frame)
    made.alpha[:] = 7
    made.foreground[:] = 7
    assert np.array_equal(frame.plate, copies[0])
    assert np.array_equal(frame.clean_plate, copies[1])
    assert float(matte(frame).alpha.max()) <= 1


def test_settings_are_the_documented_ones_for_the_resolution() -> None:
    assert recommended(1080, 1920) == (0.25, 80_000)
    assert recommended(1080, 2048) == (0.25, 80_000)
    assert recommended(2160, 3840) == (0.125, 320_000)
    assert recommended(4320, 7680) == (0.125, 320_000)
    assert recommended(3840, 2160) == (0.125, 320_000)


def test_settings_of_the_request_win_over_the_recommended_ones() -> None:
    assert matte(given(64, 96)).notes["backbone_scale"] == 0.25
    made = matte(given(64, 96, backbone_scale=0.5, refine_sample_pixels=160))
    assert made.extra["error"].shape == (32, 48)
    assert made.notes["backbone_scale"] == 0.5
    assert made.notes["refined_pixels"] == 160
    assert int(made.extra["refinement"].sum()) == 10


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"backbone_scale": 0.7}, ModelError),
        ({"refine_mode": "some"}, ModelError),
        ({"refine_threshold": 2.0}, ModelError),
        ({"refine_kernel_size": 1}, MessageError),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(
    settings: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error, match=next(iter(settings))):
        matte(given(16, 16, **settings))


def test_a_network_without_refiner_has_no_refiner_settings() -> None:
    with pytest.raises(MessageError, match="refine_mode"):
        matte(given(16, 16, refine_mode="full"), "MattingBase")


def test_an_exact_frame_that_the_machine_cannot_hold_is_refused_before_it_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(LinuxLayer, "total_memory_bytes", lambda self: 1_000_000)
    with pytest.raises(TooLargeError, match="leave out exact"):
        matte(given(64, 96, exact=True))
    assert matte(given(64, 96)).alpha.shape == (64, 96)


def test_memory_is_reported_while_loaded() -> None:
    made = BackgroundMattingModel(model().card, lambda: weights("MattingRefine"))
    assert made.memory_bytes == 0
    made.load("cpu")
    loaded = made.memory_bytes
    assert loaded > 15_000_000
    made.matte(given(64, 96, exact=True), no_checkpoint)
    assert made.memory_bytes > 2 * loaded - 1_000_000
    made.unload()
    assert made.memory_bytes == 0


def saved(path: Path) -> WeightsRecord:
    safetensors.torch.save_file(weights("MattingRefine"), path)
    return record("MattingRefine", path, digest_of(path.read_bytes()))


def test_what_is_worth_remembering_is_told_by_the_weights() -> None:
    found = describe_state(weights("MattingRefine"))
    assert found == {"class": "MattingRefine", "backbone": "mobilenetv2", "kernel": 3}
    found = describe_state(weights("MattingBase"))
    assert found == {"class": "MattingBase", "backbone": "mobilenetv2"}


def test_a_checkpoint_on_disk_becomes_a_model_of_the_registry(tmp_path: Path) -> None:
    file = saved(tmp_path / "weights.safetensors")
    registry = Registry(lambda: {"bgm": entry_of(file)})
    card = registry.card("bgm")
    assert (card.name, card.licence, card.digest) == ("bgm", "MIT", file.digest)
    assert card.default_alignment == "off"
    assert card.needs == ("plate", "clean_plate")
    made = registry.make("bgm")
    made.load("cpu")
    expected, found = matte(given(64, 96)), made.matte(given(64, 96), no_checkpoint)
    assert np.array_equal(found.alpha, expected.alpha)


def test_a_checkpoint_that_was_changed_on_disk_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    file = saved(path)
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    made = Registry(lambda: {"bgm": entry_of(file)}).make("bgm")
    with pytest.raises(ModelError, match="not those that were added") as caught:
        made.load("cpu")
    assert caught.value.details["reason"] == "digest"
    path.unlink()
    with pytest.raises(ModelError, match="No such file"):
        made.load("cpu")


# --- precision ------------------------------------------------------------------------------------


def test_a_network_computes_in_float32_unless_told_otherwise() -> None:
    for settings in ({}, {"precision": "auto"}, {"precision": "float32"}):
        made = matte(given(64, 96, **settings))
        assert made.notes["precision"] == "float32"
        assert np.array_equal(made.alpha, matte(given(64, 96)).alpha)


@pytest.mark.parametrize(("precision", "needs"), [("bfloat16", "AMX"), ("float16", "CUDA")])
def test_half_precision_is_refused_where_it_would_only_be_worse(
    precision: str, needs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mattebridge.models.pytorch.precision.cpu_has_amx", lambda: False)
    with pytest.raises(ModelError, match=f"needs .*{needs}.*slower and coarser") as caught:
        matte(given(64, 96, precision=precision))
    assert caught.value.details["field"] == "params.settings.precision"


@pytest.mark.slow  # a CPU without AMX emulates bfloat16
@pytest.mark.parametrize("family", ["MattingRefine", "MattingBase"])
def test_weights_that_hold_in_half_precision_stay_within_its_tolerance(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mattebridge.models.pytorch.precision.cpu_has_amx", lambda: True)
    made = made_of(family, "resnet50")
    full = made.matte(given(128, 192), no_checkpoint)
    half = made.matte(given(128, 192, precision="bfloat16"), no_checkpoint)
    assert half.notes["precision"] == "bfloat16"
    assert half.alpha.dtype == np.float32
    difference = np.abs(full.alpha - half.alpha)
    assert 0 < difference.mean() <= MEAN_TOLERANCE
    assert made.memory_bytes > 0
    made.unload()
    assert made.memory_bytes == 0


def test_weights_that_do_not_hold_in_half_precision_are_refused_with_the_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mattebridge.models.pytorch.precision.cpu_has_amx", lambda: True)
    with pytest.raises(ModelError, match=r"do not hold in bfloat16.*off by 0\.\d+ on average"):
        matte(given(64, 96, precision="bfloat16"))


def test_exact_and_half_precision_cannot_both_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mattebridge.models.pytorch.precision.cpu_has_amx", lambda: True)
    with pytest.raises(ModelError, match="exact computes in float32"):
        matte(given(64, 96, exact=True, precision="bfloat16"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_a_cuda_device_gives_the_matte_of_the_cpu(precision: str) -> None:
    """Its CPU twins: the golden test for float32, the two tests above for the halves."""
    made = BackgroundMattingModel(
        card_of(record("MattingRefine")), lambda: weights("MattingRefine", "resnet50")
    )
    made.load("cuda:0")
    found = made.matte(given(128, 192, precision=precision), no_checkpoint)
    wanted = made_of("MattingRefine", "resnet50").matte(given(128, 192), no_checkpoint)
    mean = 1e-4 if precision == "float32" else MEAN_TOLERANCE
    assert np.abs(found.alpha - wanted.alpha).mean() <= mean
    assert np.abs(found.foreground - wanted.foreground).mean() <= 2 * mean


def test_describing_a_checkpoint_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "import mattebridge.models.background_matting.card\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
