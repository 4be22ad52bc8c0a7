"""The plain BackgroundMattingV2 networks: structure, sizes, and one window form for all modes."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor

from fakes.generated_weights import generated_state, plate_pair
from fakes.mostly_slow import mostly_slow
from mattebridge.errors import InputsError
from mattebridge.models.background_matting.networks import MattingBase, MattingRefine

MODES = ("sampling", "thresholding", "full")


@lru_cache(maxsize=8)
def refine(**settings: Any) -> MattingRefine:
    network = MattingRefine("mobilenetv2", **settings)
    network.load_state_dict(generated_state(network.state_dict()))
    return network


@lru_cache(maxsize=1)
def base() -> MattingBase:
    network = MattingBase("mobilenetv2")
    network.load_state_dict(generated_state(network.state_dict()))
    return network


def run(network: torch.nn.Module, *plates: Tensor) -> tuple[Tensor, ...]:
    with torch.inference_mode():
        return network(*plates)  # type: ignore[no-any-return]


def test_resnet_strides_and_dilations_sit_where_the_published_weights_expect_them() -> None:
    with torch.device("meta"):
        backbone = MattingBase("resnet50").backbone
    assert backbone.conv1.stride == (2, 2)
    assert backbone.conv1.padding == (3, 3)
    for name, stride in {"layer1": 1, "layer2": 2, "layer3": 2, "layer4": 1}.items():
        for index, block in enumerate(getattr(backbone, name)):
            dilation = 2 if name == "layer4" and index > 0 else 1
            step = stride if index == 0 else 1
            assert block.conv1.stride == block.conv3.stride == (1, 1)
            assert block.conv2.stride == (step, step)
            assert block.conv2.dilation == block.conv2.padding == (dilation, dilation)
            if index == 0:
                assert block.downsample[0].stride == (stride, stride)
            else:
                assert block.downsample is None


def test_mobilenet_strides_and_dilations_sit_where_the_published_weights_expect_them() -> None:
    with torch.device("meta"):
        features = MattingBase("mobilenetv2").backbone.features
    assert features[0][0].stride == (2, 2)
    for index, block in enumerate(features[1:], start=1):
        depthwise = next(m for m in block.modules() if getattr(m, "groups", 1) > 1)
        stride = 2 if index in (2, 4, 7) else 1
        dilation = 2 if index in (15, 16, 17) else 1
        assert depthwise.stride == (stride, stride), index
        assert depthwise.dilation == depthwise.padding == (dilation, dilation), index
        assert block.adds_input == (index in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)), index


@pytest.mark.parametrize("backbone", ["resnet50", "mobilenetv2"])
def test_five_maps_leave_the_backbone_with_the_published_sizes(backbone: str) -> None:
    with torch.device("meta"):
        network = MattingBase(backbone).backbone
        maps = network(torch.empty(1, 6, 270, 480))
    sizes = [(270, 480), (135, 240), (68, 120), (34, 60), (17, 30)]
    assert [tuple(m.shape) for m in maps] == [
        (1, channels, *size) for channels, size in zip(network.channels, sizes)
    ]


@pytest.mark.parametrize(
    "settings",
    [
        {"refine_mode": "everything"},
        {"refine_kernel_size": 5},
        {"backbone_scale": 0.75},
        {"backbone_scale": 0.0},
    ],
)
def test_a_setting_the_network_cannot_have_is_refused_by_name(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        MattingRefine("mobilenetv2", **settings)


def test_an_unknown_backbone_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="resnet50, resnet101, mobilenetv2"):
        MattingBase("resnet18")


def test_plates_of_two_sizes_are_refused_with_both_sizes() -> None:
    plate, _ = plate_pair(64, 64)
    _, clean_plate = plate_pair(64, 68)
    for network in (base(), refine()):
        with pytest.raises(InputsError, match=r"64, 64.*64, 68"):
            run(network, plate, clean_plate)


@pytest.mark.parametrize("kernel_size", [3, 1])
def test_full_low_threshold_and_unbounded_sampling_give_the_same_pixels(kernel_size: int) -> None:
    plates = plate_pair(96, 132)
    full = run(refine(refine_mode="full", refine_kernel_size=kernel_size), *plates)
    low = run(
        refine(refine_mode="thresholding", refine_threshold=-1.0, refine_kernel_size=kernel_size),
        *plates,
    )
    every = run(
        refine(
            refine_sample_pixels=96 * 132,
            refine_prevent_oversampling=False,
            refine_kernel_size=kernel_size,
        ),
        *plates,
    )
    for other in (low, every):
        assert torch.equal(full[5], other[5])
        for a, b in zip(full, other):
            torch.testing.assert_close(a, b, atol=2e-6, rtol=0)


@pytest.mark.parametrize("mode", MODES)
def test_a_batch_of_two_is_two_batches_of_one(mode: str) -> None:
    first, second = plate_pair(64, 96), tuple(p.flip(-1) * 0.9 for p in plate_pair(64, 96))
    network = refine(refine_mode=mode, refine_sample_pixels=1600)
    both = run(network, *(torch.cat(pair) for pair in zip(first, second)))
    for index, plates in enumerate((first, second)):
        for together, alone in zip(both, run(network, *plates)):
            torch.testing.assert_close(together[index : index + 1], alone, atol=2e-6, rtol=0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("scale", mostly_slow([0.25, 0.5, 0.125]))
@pytest.mark.parametrize("size", [(4, 4), (4, 64), (12, 8), (64, 64), (1, 1), (3, 17)])
def test_small_frames_come_back_at_their_size(
    mode: str, scale: float, size: tuple[int, int]
) -> None:
    network = refine(refine_mode=mode, backbone_scale=scale)
    alpha, foreground, *_, cells = run(network, *plate_pair(*size))
    assert alpha.shape == (1, 1, *size)
    assert foreground.shape == (1, 3, *size)
    assert cells.shape == (1, 1, -(-size[0] // 4), -(-size[1] // 4))
    assert 0 <= float(alpha.min()) <= float(alpha.max()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [(858, 2048), pytest.param((1080, 1998), marks=pytest.mark.slow)])
def test_sizes_the_published_code_refuses_come_back_as_they_are(size: tuple[int, int]) -> None:
    alpha, foreground, *_ = run(refine(), *plate_pair(*size))
    assert alpha.shape == (1, 1, *size)
    assert foreground.shape == (1, 3, *size)


def test_odd_sizes_are_edge_replicated_and_cropped() -> None:
    plates = plate_pair(61, 90)
    grown = tuple(torch.nn.functional.pad(p, (0, 2, 0, 3), mode="replicate") for p in plates)
    odd, even = run(refine(), *plates), run(refine(), *grown)
    for a, b in zip(odd[:2], even[:2]):
        assert torch.equal(a, b[..., :61, :90])
    for a, b in zip(odd[2:], even[2:]):
        assert torch.equal(a, b)


def test_without_a_cell_above_the_threshold_the_small_result_is_enlarged() -> None:
    plates = plate_pair(64, 96)
    network = refine(refine_mode="thresholding", refine_threshold=2.0)
    alpha, _, small_alpha, *_, cells = run(network, *plates)
    assert not cells.any()
    enlarged = torch.nn.functional.interpolate(small_alpha, size=(64, 96), mode="bilinear")
    assert torch.equal(alpha, enlarged)


def test_only_chosen_cells_differ_from_the_enlarged_small_result() -> None:
    plates = plate_pair(96, 128)
    alpha, _, small_alpha, *_, cells = run(refine(refine_sample_pixels=640), *plates)
    assert int(cells.sum()) == 40
    enlarged = torch.nn.functional.interpolate(small_alpha, size=(96, 128), mode="bilinear")
    chosen = cells.repeat_interleave(4, 2).repeat_interleave(4, 3) > 0
    assert torch.equal(alpha[~chosen], enlarged[~chosen])
    assert not torch.allclose(alpha[chosen], enlarged[chosen])


def test_cells_without_error_are_left_alone_unless_oversampling_is_allowed() -> None:
    error = torch.zeros(1, 1, 4, 4)
    error[0, 0, 1, 2] = 0.5
    assert int(refine().refiner.select(error).sum()) == 1
    assert int(refine(refine_prevent_oversampling=False).refiner.select(error).sum()) == 16


def test_a_window_at_the_edge_sees_zeros_and_not_the_picture_repeated() -> None:
    # The window of the corner cell by hand: two rows and columns of zeros around the plates.
    refiner = refine(refine_mode="thresholding", refine_threshold=0.5).refiner
    torch.manual_seed(1)
    pair, coarse, hidden = (torch.rand(1, c, s, s) for c, s in ((6, 32), (4, 8), (32, 8)))
    error = torch.zeros(1, 1, 8, 8)
    error[0, 0, 0, 0] = 1.0
    with torch.inference_mode():
        found = refiner(pair, coarse, error, hidden)
        joined = torch.cat([hidden, coarse], 1)
        features = torch.nn.functional.interpolate(joined, size=(16, 16), mode="bilinear")
        half = torch.zeros(1, 42, 8, 8)
        half[..., 3:, 3:] = torch.cat([features, torch.nn.functional.avg_pool2d(pair, 2)], 1)[
            ..., :5, :5
        ]
        full = torch.zeros(1, 6, 8, 8)
        full[..., 2:, 2:] = pair[..., :6, :6]
        x = refiner.bn1(refiner.conv1(half)).relu()
        x = refiner.bn2(refiner.conv2(x)).relu().repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = refiner.bn3(refiner.conv3(torch.cat([x, full], 1))).relu()
        corner = refiner.conv4(x)
    torch.testing.assert_close(found.alpha[..., :4, :4], corner[:, :1], atol=1e-6, rtol=0)
    torch.testing.assert_close(found.residual[..., :4, :4], corner[:, 1:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("network", [base, refine])
def test_inputs_are_left_unchanged_and_nothing_is_kept_of_a_frame(network: Any) -> None:
    plates = plate_pair(64, 96)
    copies = [p.clone() for p in plates]
    before = run(network(), *plates)
    run(network(), *plate_pair(101, 77))
    after = run(network(), *plates)
    assert all(torch.equal(a, b) for a, b in zip(plates, copies))
    assert all(torch.equal(a, b) for a, b in zip(before, after))


def test_the_whole_frame_network_takes_any_size() -> None:
    alpha, foreground, error, hidden = run(base(), *plate_pair(101, 77))
    assert alpha.shape == error.shape == (1, 1, 101, 77)
    assert foreground.shape == (1, 3, 101, 77)
    assert hidden.shape == (1, 32, 101, 77)
    assert float(hidden.min()) >= 0


def test_a_plate_equal_to_its_clean_plate_gives_finite_values_in_range() -> None:
    _, clean_plate = plate_pair(64, 96)
    alpha, foreground, *_ = run(refine(), clean_plate, clean_plate)
    for image in (alpha, foreground):
        assert 0 <= float(image.min()) <= float(image.max()) <= 1
