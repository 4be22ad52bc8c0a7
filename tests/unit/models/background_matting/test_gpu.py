"""The form for a GPU: the pixels of the form for a CPU, and few launches without a host wait.

Both forms run here on the CPU, and the one for a GPU on a pretended card as well.
"""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fakes.generated_weights import generated_state, plate_pair
from fakes.mostly_slow import mostly_slow
from fakes.pretended_cuda import pretended_cuda, recorder
from mattebridge.checkpoint import no_checkpoint
from mattebridge.errors import Cancelled
from mattebridge.models.background_matting import cells
from mattebridge.models.background_matting.card import FAMILY, card_of
from mattebridge.models.background_matting.fast import FastMatting
from mattebridge.models.background_matting.gpu import GpuMatting
from mattebridge.models.background_matting.matting import Look, NetworkMatte
from mattebridge.models.background_matting.model import BackgroundMattingModel, prepared
from mattebridge.models.background_matting.networks import make_network
from mattebridge.models.base import ModelInput
from mattebridge.models.pytorch.graphs import FIRST, RECORDED, REPLAYED, Graphs
from mattebridge.models.weights.file import WeightsRecord

GOLDEN = Path(__file__).parents[3] / "golden" / "background_matting"
# Between the forms, on float32: they sum in another order. Measured: 4.8e-7 at most, with one
# thread and AVX2, over backbones, modes, scales and sizes up to 3840x2160.
APART = 2e-6
# Cells may differ where their errors are nearer to the last one taken than this.
TIED = 1e-6
# Operations of a frame, measured at HD and UHD too: 170 and 194; with resnet101, 313.
LAUNCHES = {"mobilenetv2": 180, "resnet50": 200, "resnet101": 325}
# Of a frame that is replayed: plates into the recording (2), the graph, results out of it (4).
LAUNCHES_REPLAYED = 7

# Few enough that single cells are refined in all frames here but the smallest.
SAMPLED = {"refine_sample_pixels": 1600}
MODES: dict[str, dict[str, Any]] = {
    "sampling": SAMPLED,
    "sampling of nearly all": {"refine_sample_pixels": 40_000},
    "thresholding": {"refine_mode": "thresholding", "refine_threshold": 0.2},
    "full": {"refine_mode": "full"},
}


@lru_cache(maxsize=8)
def network(family: str = "MattingRefine", backbone: str = "mobilenetv2", kernel: int = 3) -> Any:
    settings = {"refine_kernel_size": kernel} if family == "MattingRefine" else {}
    made = make_network(family, backbone, **settings)
    made.load_state_dict(generated_state(made.state_dict()))
    return made


def frame(height: int, width: int) -> tuple[Tensor, Tensor]:
    plate, clean_plate = (image[0].permute(1, 2, 0) for image in plate_pair(height, width))
    return plate.contiguous(), clean_plate.contiguous()


def assert_same(found: NetworkMatte, wanted: NetworkMatte, look: Look) -> None:
    same = torch.ones_like(wanted.alpha, dtype=torch.bool)
    if wanted.cells is not None:
        assert found.cells is not None
        agreed = found.cells == wanted.cells
        assert int((~agreed).sum()) <= _ties(wanted, look)
        rows, columns = same.shape
        same = agreed.repeat_interleave(4, 0).repeat_interleave(4, 1)[:rows, :columns]
    assert found.alpha.is_contiguous()
    assert found.foreground.is_contiguous()
    assert found.error.is_contiguous()
    assert float((found.alpha - wanted.alpha)[same].abs().max()) <= APART
    assert float((found.foreground - wanted.foreground)[same].abs().max()) <= APART
    assert float((found.error - wanted.error).abs().max()) <= APART


def _ties(matte: NetworkMatte, look: Look) -> int:
    """Cells of which rounding may decide whether they are chosen."""
    assert matte.cells is not None
    error = torch.nn.functional.interpolate(
        matte.error[None, None], size=matte.cells.shape, mode="bilinear"
    )[0, 0]
    limit = look.refine_threshold
    if look.refine_mode == "sampling":
        limit = float(error[matte.cells > 0].min()) if matte.cells.any() else 0.0
    return int(((error - limit).abs() <= TIED).sum())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", mostly_slow([0.25, 0.125, 0.2]))
@pytest.mark.parametrize(("size", "kernel"), [((172, 268), 3), ((123, 99), 1)])
def test_both_forms_give_the_same_pixels(
    mode: str, scale: float, size: tuple[int, int], kernel: int
) -> None:
    look, net = Look(scale, **MODES[mode]), network(kernel=kernel)
    assert_same(GpuMatting(net)(*frame(*size), look), FastMatting(net)(*frame(*size), look), look)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "backbone", "size"),
    [
        ("MattingRefine", "resnet50", (128, 192)),
        ("MattingBase", "resnet50", (64, 96)),
        ("MattingBase", "mobilenetv2", (101, 77)),
    ],
)
def test_so_they_do_with_other_networks(family: str, backbone: str, size: tuple[int, int]) -> None:
    net, look = network(family, backbone), Look(**SAMPLED)
    assert_same(GpuMatting(net)(*frame(*size), look), FastMatting(net)(*frame(*size), look), look)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 17), (12, 8)])
def test_small_frames_come_back_at_their_size(mode: str, size: tuple[int, int]) -> None:
    look = Look(0.5, **MODES[mode])
    made = GpuMatting(network())(*frame(*size), look)
    assert made.alpha.shape == size
    assert made.foreground.shape == (*size, 3)
    assert_same(made, FastMatting(network())(*frame(*size), look), look)


@pytest.mark.parametrize(
    "name", mostly_slow(sorted(path.stem for path in GOLDEN.glob("*.npz")), quick=2)
)
def test_it_agrees_with_the_published_network(name: str) -> None:
    with np.load(GOLDEN / f"{name}.npz") as golden:
        settings = json.loads(str(golden["settings"]))
        expected = {key: golden[key] for key in golden.files if key != "settings"}
    plates = frame(settings.pop("height"), settings.pop("width"))
    settings.pop("stride")
    net = make_network(settings.pop("model"), **settings)
    net.load_state_dict(generated_state(net.state_dict()))
    matte = GpuMatting(net)(*plates)
    found = {"pha": matte.alpha[None], "fgr": matte.foreground.permute(2, 0, 1)}
    found["err" if matte.cells is None else "err_sm"] = matte.error[None]
    if matte.cells is not None:
        assert np.array_equal(matte.cells[None].numpy(), expected["ref_sm"])
    for key, image in found.items():
        assert np.abs(image.numpy() - expected[key]).max() <= 1e-4, key


@pytest.mark.parametrize("limit", mostly_slow(["MOST_WINDOWS", "BAND_PIXELS"]))
def test_windows_and_bands_give_what_all_at_once_gives(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = ("sampling", "thresholding", "full")
    looks = [Look(0.25, **MODES[mode]) for mode in modes]
    at_once = [GpuMatting(network())(*frame(172, 268), look) for look in looks]
    monkeypatch.setattr(cells, limit, 70)
    for look, wanted in zip(looks, at_once):
        assert_same(GpuMatting(network())(*frame(172, 268), look), wanted, look)


def test_cells_without_error_keep_the_small_result() -> None:
    plate, clean_plate = frame(64, 96)
    sure = network_without_error()
    look = Look(refine_sample_pixels=160)
    made = GpuMatting(sure)(plate, clean_plate, look)
    assert made.cells is not None
    assert not made.cells.any()
    assert_same(made, FastMatting(sure)(plate, clean_plate, look), look)
    asked = Look(refine_sample_pixels=160, refine_prevent_oversampling=False)
    made = GpuMatting(sure)(plate, clean_plate, asked)
    assert made.cells is not None
    assert int(made.cells.sum()) == 10


def network_without_error() -> Any:
    made = make_network("MattingRefine", "mobilenetv2")
    made.load_state_dict(generated_state(made.state_dict()))
    with torch.no_grad():
        made.decoder.conv4.weight[4].zero_()
        made.decoder.conv4.bias[4] = -1
    return made


def test_light_above_white_is_cut_off_and_inputs_are_left_alone() -> None:
    plate, clean_plate = frame(64, 96)
    bright, clipped = plate.clone(), plate.clone()
    bright[20:30, 40:50] = 20.0
    clipped[20:30, 40:50] = 1.0
    before, used = bright.clone(), GpuMatting(network())
    high, low = used(bright, clean_plate), used(clipped, clean_plate)
    assert torch.equal(high.alpha, low.alpha)
    assert torch.equal(high.foreground, low.foreground)
    assert torch.equal(bright, before)


def test_a_frame_can_be_cancelled_before_and_after_its_steps() -> None:
    seen: list[str] = []
    GpuMatting(network())(*frame(64, 96), checkpoint=lambda stage, *_: seen.append(stage))
    assert seen == ["coarse", "finish"]

    def stop(stage: str, done: int = 0, total: int = 0) -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        GpuMatting(network())(*frame(64, 96), checkpoint=stop)


def on_card() -> Any:
    return copy.deepcopy(network()).to("cuda:0")


def back(matte: NetworkMatte) -> NetworkMatte:
    images = (matte.alpha, matte.foreground, matte.error, matte.cells)
    return NetworkMatte(*(image if image is None else image.cpu() for image in images))


def test_replayed_frames_are_those_that_are_computed() -> None:
    look, here = Look(**SAMPLED), GpuMatting(network())
    with pretended_cuda() as counts:
        there = GpuMatting(on_card(), graphs=Graphs(recorder(counts)))
        empty = there.memory_bytes
        for turn, note in enumerate((FIRST, RECORDED, REPLAYED, REPLAYED)):
            pair = frame(96, 128)[:: 1 - 2 * (turn % 2)]
            made = there(*(image.to("cuda:0") for image in pair), look)
            assert made.graph == note
            assert_same(back(made), here(*pair, look), look)
        assert there.memory_bytes > empty


# --- the model on a card --------------------------------------------------------------------------


def model_on(device: str, family: str, backbone: str) -> BackgroundMattingModel:
    with torch.device("meta"):
        shapes = make_network(family, backbone).state_dict()
    settings = {"class": family, "backbone": backbone}
    record = WeightsRecord("bgm", "", "sha256:0", FAMILY, settings, "MIT")
    made = BackgroundMattingModel(card_of(record), lambda: generated_state(shapes))
    made.load(device)
    return made


def given(height: int, width: int, **settings: Any) -> ModelInput:
    plate, clean_plate = (image.numpy() for image in frame(height, width))
    return ModelInput(plate, clean_plate, None, None, False, settings)


@pytest.mark.parametrize(
    "backbone",
    [
        "mobilenetv2",
        pytest.param("resnet50", marks=pytest.mark.slow),
        # Its 59 million weights take longer to make than the frame.
        pytest.param("resnet101", marks=pytest.mark.slow),
    ],
)
def test_a_frame_is_few_launches_and_one_wait(backbone: str) -> None:
    """The number depends neither on the picture nor on its size, up to UHD; here are two modes."""
    plate_bytes = 97 * 129 * 3 * 4
    with pretended_cuda() as counts:
        made = model_on("cuda:0", "MattingRefine", backbone)
        for mode in ("sampling", "thresholding"):
            counts.reset()
            made.matte(given(97, 129, **MODES[mode]), no_checkpoint)
            assert 100 < counts.launches <= LAUNCHES[backbone], counts.places.most_common(50)
            assert counts.waits == 1, counts.places
            assert counts.to_bytes == 2 * plate_bytes
            # Alpha, foreground; error at a quarter of the padded size, and as many cells.
            assert counts.from_bytes == plate_bytes // 3 + plate_bytes + 2 * 25 * 33 * 4


def test_a_frame_of_the_whole_frame_network_is_few_launches_and_one_wait() -> None:
    with pretended_cuda() as counts:
        made = model_on("cuda:0", "MattingBase", "mobilenetv2")
        counts.reset()
        made.matte(given(61, 90), no_checkpoint)
    assert 100 < counts.launches <= LAUNCHES["mobilenetv2"], counts.places.most_common(50)
    assert counts.waits == 1, counts.places


def test_a_replayed_frame_is_seven_launches_and_one_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    with pretended_cuda() as counts:
        monkeypatch.setattr(
            "mattebridge.models.background_matting.model.Graphs", lambda: Graphs(recorder(counts))
        )
        made = model_on("cuda:0", "MattingRefine", "mobilenetv2")
        notes = []
        for _ in range(3):
            counts.reset()
            notes.append(made.matte(given(64, 96, **SAMPLED), no_checkpoint).notes["graph"])
    assert notes == [FIRST, RECORDED, REPLAYED]
    assert counts.launches == LAUNCHES_REPLAYED, counts.places
    assert counts.waits == 1, counts.places


@pytest.mark.slow
def test_a_card_that_cannot_record_gives_the_frame_all_the_same_and_says_so() -> None:
    wanted = model_on("cpu", "MattingRefine", "mobilenetv2").matte(given(64, 96), no_checkpoint)
    assert "graph" not in wanted.notes
    with pretended_cuda():
        made = model_on("cuda:0", "MattingRefine", "mobilenetv2")
        found = [made.matte(given(64, 96), no_checkpoint) for _ in range(3)]
    assert found[0].notes["graph"] == FIRST
    for output in found[1:]:
        assert output.notes["graph"].startswith("off: ")
        assert output.notes["refined_pixels"] == wanted.notes["refined_pixels"]
        assert np.abs(output.alpha - wanted.alpha).max() <= APART
        assert np.abs(output.foreground - wanted.foreground).max() <= APART


@pytest.mark.slow
def test_the_device_chooses_the_form_and_that_for_a_cpu_would_wait_on_a_card() -> None:
    assert isinstance(prepared(network()), FastMatting)
    with pretended_cuda() as counts:
        there = on_card()
        assert isinstance(prepared(there), GpuMatting)
        matting = FastMatting(there)
        counts.reset()
        # A scale at which the small copy is enlarged row by row.
        look = Look(backbone_scale=0.3, **SAMPLED)
        matting(*(image.to("cuda:0") for image in frame(97, 129)), look)
    # What the budget above is held against: waits are found where they are.
    assert counts.waits > 20


@pytest.mark.slow
def test_where_memory_is_short_a_card_computes_in_tiles_and_drops_what_was_recorded() -> None:
    frame, cpu = given(64, 96, **SAMPLED), model_on("cpu", "MattingRefine", "mobilenetv2")
    assert not cpu.use_less_memory(True)
    wanted = cpu.matte(frame, no_checkpoint)
    with pretended_cuda() as counts:
        made = model_on("cuda:0", "MattingRefine", "mobilenetv2")
        assert made.use_less_memory(True)
        assert made.memory_bytes == 0
        counts.reset()
        found = made.matte(frame, no_checkpoint)
        assert counts.waits > 1
        assert "graph" not in found.notes
        assert np.abs(found.alpha - wanted.alpha).max() <= APART
        assert not made.use_less_memory(False)
        assert made.matte(frame, no_checkpoint).notes["graph"] == FIRST


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_a_card_replays_the_matte_of_the_cpu(mode: str) -> None:
    """Its CPU twins: the pixels of both forms, and the replayed frames, above."""
    look, wanted = (
        Look(**MODES[mode]),
        FastMatting(network())(*frame(172, 268), Look(**MODES[mode])),
    )
    there = GpuMatting(on_card(), graphs=Graphs())
    pair = [image.to("cuda:0") for image in frame(172, 268)]
    notes = []
    for _ in range(4):
        made = there(*pair, look)
        notes.append(made.graph)
        found = back(made)
        assert float((found.alpha - wanted.alpha).abs().mean()) <= 1e-4
        assert float((found.foreground - wanted.foreground).abs().mean()) <= 2e-4
    assert notes == [FIRST, RECORDED, REPLAYED, REPLAYED]
