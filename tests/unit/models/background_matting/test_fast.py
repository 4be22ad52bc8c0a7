"""The fast path: the plain network's matte, whatever way its parts are cut up."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fakes.generated_weights import generated_state, plate_pair
from fakes.mostly_slow import mostly_slow
from mattebridge.errors import Cancelled
from mattebridge.models.background_matting import tiles
from mattebridge.models.background_matting.coarse import CoarsePass
from mattebridge.models.background_matting.fast import FastMatting
from mattebridge.models.background_matting.matting import Look, NetworkMatte
from mattebridge.models.background_matting.networks import MattingBase, MattingRefine, make_network
from mattebridge.models.background_matting.resize import (
    Enlargement,
    axis_windows,
    shrunk,
    windows,
)

# Of the reference: largest and mean difference from the plain path where both chose a cell.
LARGEST, MEAN_ALPHA, MEAN_FOREGROUND = 1e-3, 1e-5, 2e-5


@lru_cache(maxsize=8)
def network(family: str = "MattingRefine", backbone: str = "mobilenetv2", kernel: int = 3) -> Any:
    settings = {"refine_kernel_size": kernel} if family == "MattingRefine" else {}
    made = make_network(family, backbone, **settings)
    made.load_state_dict(generated_state(made.state_dict()))
    return made


@lru_cache(maxsize=8)
def fast(family: str = "MattingRefine", backbone: str = "mobilenetv2", kernel: int = 3) -> Any:
    return FastMatting(network(family, backbone, kernel))


def frame(height: int, width: int) -> tuple[Tensor, Tensor]:
    plate, clean_plate = (image[0].permute(1, 2, 0) for image in plate_pair(height, width))
    return plate.contiguous(), clean_plate.contiguous()


def plainly(net: MattingBase, look: Look, height: int, width: int) -> tuple[Tensor, ...]:
    if isinstance(net, MattingRefine):
        look.apply_to(net)
    with torch.inference_mode():
        return net(*plate_pair(height, width))


def assert_near(matte: NetworkMatte, plain: tuple[Tensor, ...]) -> None:
    alpha = (matte.alpha - plain[0][0, 0]).abs()
    foreground = (matte.foreground - plain[1][0].permute(1, 2, 0)).abs()
    same = torch.ones_like(alpha, dtype=torch.bool)
    if matte.cells is not None:
        agreed = matte.cells == plain[5][0, 0]
        assert (~agreed).sum() <= 2
        grown = agreed.repeat_interleave(4, 0).repeat_interleave(4, 1)
        same = grown[: same.shape[0], : same.shape[1]]
    assert float(alpha[same].max()) <= LARGEST
    assert float(foreground[same].max()) <= LARGEST
    assert float(alpha[same].mean()) <= MEAN_ALPHA
    assert float(foreground[same].mean()) <= MEAN_FOREGROUND
    error = plain[4] if matte.cells is not None else plain[2]
    assert float((matte.error - error[0, 0]).abs().max()) <= LARGEST


@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize("scale", [0.5, 0.25, 0.2, 0.125])
@pytest.mark.parametrize(
    "mode",
    [
        {"refine_mode": "full"},
        {"refine_sample_pixels": 8000},
        {"refine_mode": "thresholding", "refine_threshold": 0.2},
    ],
)
@pytest.mark.parametrize("size", [pytest.param((256, 388), marks=pytest.mark.slow), (123, 99)])
def test_the_matte_is_the_plain_networks(
    kernel: int, scale: float, mode: dict[str, Any], size: tuple[int, int]
) -> None:
    look = Look(backbone_scale=scale, **mode)
    plain = plainly(network(kernel=kernel), look, *size)
    assert_near(fast(kernel=kernel)(*frame(*size), look), plain)


@pytest.mark.parametrize(
    ("backbone", "size"),
    mostly_slow(
        [
            ("mobilenetv2", (101, 77)),
            ("mobilenetv2", (200, 30)),
            ("resnet50", (101, 77)),
        ],
        several=True,
    ),
)
def test_the_whole_frame_matte_is_the_plain_networks(backbone: str, size: tuple[int, int]) -> None:
    plain = plainly(network("MattingBase", backbone), Look(), *size)
    assert_near(fast("MattingBase", backbone)(*frame(*size)), plain)


@pytest.mark.slow
def test_resnet_refined_is_the_plain_networks() -> None:
    look = Look(refine_sample_pixels=4000)
    plain = plainly(network(backbone="resnet50"), look, 128, 192)
    assert_near(fast(backbone="resnet50")(*frame(128, 192), look), plain)


@pytest.mark.parametrize("scale", [0.25, 0.3, pytest.param(0.125, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kernel", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_tiles_of_every_size_give_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch, scale: float, kernel: int
) -> None:
    # 172 x 268: no multiple of a tile of 8 cells, so the last ones reach over the edge.
    look, mattes = Look(scale, refine_sample_pixels=6000), []
    for side in (1, 2, 4, 8, 16, 32):
        monkeypatch.setattr(tiles, "TILE_SIDES", (side,))
        mattes.append(fast(kernel=kernel)(*frame(172, 268), look))
    for matte in mattes[1:]:
        assert matte.cells is not None
        assert mattes[0].cells is not None
        assert torch.equal(matte.cells, mattes[0].cells)
        torch.testing.assert_close(matte.alpha, mattes[0].alpha, atol=1e-6, rtol=0)
        torch.testing.assert_close(matte.foreground, mattes[0].foreground, atol=1e-6, rtol=0)


def test_batches_of_tiles_and_all_at_once_give_the_same_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    look = Look(refine_mode="full")
    at_once = fast()(*frame(172, 268), look)
    monkeypatch.setattr(tiles, "BATCH_HALF_PIXELS", 1)
    one_by_one = fast()(*frame(172, 268), look)
    torch.testing.assert_close(one_by_one.alpha, at_once.alpha, atol=1e-6, rtol=0)
    torch.testing.assert_close(one_by_one.foreground, at_once.foreground, atol=1e-6, rtol=0)


def test_full_is_thresholding_below_everything() -> None:
    dense = fast()(*frame(96, 132), Look(refine_mode="full"))
    every = fast()(*frame(96, 132), Look(refine_mode="thresholding", refine_threshold=-1.0))
    assert torch.equal(dense.alpha, every.alpha)
    assert torch.equal(dense.foreground, every.foreground)


@pytest.mark.parametrize("side", [1, 8])
@pytest.mark.parametrize("cell", [(0, 0), (0, 12), (0, 24), (17, 0), (17, 24), (9, 0), (9, 24)])
def test_a_cell_at_the_edge_of_the_frame_is_the_dense_result(
    monkeypatch: pytest.MonkeyPatch, cell: tuple[int, int], side: int
) -> None:
    plates = frame(72, 100)
    dense = plainly(network(), Look(refine_mode="full"), 72, 100)
    only = torch.zeros(18, 25)
    only[cell] = 1.0
    monkeypatch.setattr(tiles, "TILE_SIDES", (side,))
    monkeypatch.setattr("mattebridge.models.background_matting.fast._chosen", lambda *_: only)
    matte = fast()(*plates)
    rows, columns = (slice(4 * index, 4 * index + 4) for index in cell)
    found, wanted = matte.alpha[rows, columns], dense[0][0, 0, rows, columns]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_the_cheapest_tiles_are_large_where_cells_are_dense_and_small_where_they_are_not() -> None:
    refiner = tiles.TileRefiner(network().refiner)
    dense, sparse = torch.ones(64, 64, dtype=torch.bool), torch.zeros(64, 64, dtype=torch.bool)
    sparse[::16, ::16] = True
    assert refiner.choose_tiles(dense).side >= 16
    assert refiner.choose_tiles(sparse).side == 1
    assert len(refiner.choose_tiles(sparse).row) == 16


def test_no_cell_chosen_leaves_the_enlarged_small_result() -> None:
    look = Look(refine_mode="thresholding", refine_threshold=1.0)
    plain = plainly(network(), look, 64, 96)
    matte = fast()(*frame(64, 96), look)
    assert matte.cells is not None
    assert not matte.cells.any()
    assert_near(matte, plain)


@pytest.mark.parametrize("mode", ["sampling", "thresholding", "full"])
@pytest.mark.parametrize("scale", [0.5, 0.125])
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (3, 17), (12, 8), (64, 64)])
def test_small_frames_come_back_at_their_size(
    mode: str, scale: float, size: tuple[int, int]
) -> None:
    look = Look(scale, mode)
    plain = plainly(network(), look, *size)
    matte = fast()(*frame(*size), look)
    assert matte.alpha.shape == size
    assert matte.foreground.shape == (*size, 3)
    assert_near(matte, plain)


def test_a_held_clean_plate_gives_the_very_pixels_of_a_new_one() -> None:
    plates, others = frame(96, 128), frame(96, 128)[::-1]
    used = FastMatting(network())
    first = used(*plates)
    held = used(*plates)
    used(*others)
    new = used(*plates)
    fresh = FastMatting(network())(*plates)
    for again in (held, new, fresh):
        assert torch.equal(again.alpha, first.alpha)
        assert torch.equal(again.foreground, first.foreground)


@pytest.mark.parametrize("pixel", [(40, 50), (41, 49)])
def test_one_changed_pixel_of_the_clean_plate_is_noticed(pixel: tuple[int, int]) -> None:
    # (41, 49) is among the middle pixels that the small copy is made of, (40, 50) is not.
    plate, clean_plate = frame(96, 128)
    used, look = FastMatting(network()), Look(refine_mode="full")
    before = used(plate, clean_plate, look)
    clean_plate[pixel] += 0.3
    after = used(plate, clean_plate, look)
    fresh = FastMatting(network())(plate, clean_plate, look)
    assert not torch.equal(after.alpha, before.alpha)
    assert torch.equal(after.alpha, fresh.alpha)


def test_frames_of_other_sizes_between_leave_no_trace() -> None:
    used = FastMatting(network())
    before = used(*frame(96, 128))
    used(*frame(61, 90))
    used(*frame(256, 256))
    after = used(*frame(96, 128))
    assert torch.equal(before.alpha, after.alpha)
    assert torch.equal(before.foreground, after.foreground)


def test_a_matte_is_new_memory_and_inputs_are_left_alone() -> None:
    plates = frame(64, 96)
    copies = [image.clone() for image in plates]
    used = FastMatting(network())
    first = used(*plates)
    kept = [first.alpha.clone(), first.foreground.clone(), first.error.clone()]
    used(plates[1], plates[0])
    assert all(torch.equal(a, b) for a, b in zip(plates, copies))
    for image, copy in zip((first.alpha, first.foreground, first.error), kept):
        assert torch.equal(image, copy)


@pytest.mark.parametrize("family", ["MattingRefine", "MattingBase"])
def test_light_above_white_is_cut_off(family: str) -> None:
    plate, clean_plate = frame(64, 96)
    bright, clipped = plate.clone(), plate.clone()
    bright[20:30, 40:50] = 20.0
    clipped[20:30, 40:50] = 1.0
    high = fast(family)(bright, clean_plate)
    low = fast(family)(clipped, clean_plate)
    assert torch.equal(high.alpha, low.alpha)
    assert torch.equal(high.foreground, low.foreground)


def test_every_stage_can_be_cancelled() -> None:
    seen: list[str] = []
    fast()(*frame(64, 96), checkpoint=lambda stage, done=0, total=0: seen.append(stage))
    assert {"coarse", "refine", "finish"} <= set(seen)
    for wanted in set(seen):

        def stop(stage: str, done: int = 0, total: int = 0, wanted: str = wanted) -> None:
            if stage == wanted:
                raise Cancelled("stopped")

        with pytest.raises(Cancelled):
            fast()(*frame(64, 96), checkpoint=stop)


def test_a_matte_after_a_cancelled_one_is_whole() -> None:
    used = FastMatting(network())

    def stop(stage: str, done: int = 0, total: int = 0) -> None:
        if stage == "refine":
            raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        used(*frame(96, 128)[::-1], checkpoint=stop)
    assert torch.equal(used(*frame(96, 128)).alpha, FastMatting(network())(*frame(96, 128)).alpha)


@pytest.mark.parametrize("rows", [16, 64])
def test_hidden_features_in_windows_are_those_of_the_whole_map(rows: int) -> None:
    plates = [image.unsqueeze(0) for image in torch.rand(2, 3, rows, 40)]
    top, left = torch.tensor([-3, 29, 2 * rows - 19]), torch.tensor([-3, 13, 61])
    with torch.inference_mode():
        maps = CoarsePass(network()).whole(*plates)
        alone = maps.feature_windows(top, left, 22, 2 * rows, 80)
        maps.make_all_hidden()
        together = maps.feature_windows(top, left, 22, 2 * rows, 80)
    torch.testing.assert_close(alone, together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("small", [(1, 1), (5, 7), (17, 30)])
@pytest.mark.parametrize("large", [(1, 1), (4, 9), (68, 120), (77, 101)])
def test_an_enlargement_in_bands_is_the_whole_one(
    small: tuple[int, int], large: tuple[int, int]
) -> None:
    image = torch.rand(*small, 3, generator=torch.Generator().manual_seed(3))
    whole = functional.interpolate(image.permute(2, 0, 1)[None], size=large, mode="bilinear")
    wanted = whole[0].permute(1, 2, 0)
    enlargement = Enlargement(image, *large)
    found = enlargement.into(torch.empty(*large, 3))
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=0)
    middle = large[0] // 2
    torch.testing.assert_close(
        enlargement.rows(middle, large[0]), wanted[middle:], atol=2e-6, rtol=0
    )


@pytest.mark.parametrize("small", [(1, 1), (90, 160), (77, 101)])
def test_a_shrunk_picture_is_torchs_whatever_the_number_of_threads(small: tuple[int, int]) -> None:
    image = torch.rand(360, 640, 3, generator=torch.Generator().manual_seed(3))
    whole = functional.interpolate(image.permute(2, 0, 1)[None], size=small, mode="bilinear")
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(shrunk(image, *small))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[0], whole[0].permute(1, 2, 0), atol=2e-6, rtol=0)
    assert all(torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize(("size", "length"), [(40, 20), (40, 10), (41, 17), (5, 1), (10, 30)])
def test_axis_windows_cut_an_enlarged_axis_with_zeros_around_it(size: int, length: int) -> None:
    values = torch.rand(1, 1, length)
    whole = functional.interpolate(values, size=size, mode="linear")[0, 0]
    padded = functional.pad(whole, (10, 30))
    start = torch.tensor([-7, 0, size // 2, size - 3])
    first, matrix = axis_windows(start, 12, size, length)
    reach = matrix.shape[2]
    assert int(first.min()) >= 0
    assert int(first.max()) + reach <= length
    for place, offset, weights in zip(start.tolist(), first.tolist(), matrix):
        found = weights @ values[0, 0, offset : offset + reach]
        torch.testing.assert_close(found, padded[place + 10 : place + 22], atol=2e-6, rtol=0)


def test_windows_are_zero_outside_the_image() -> None:
    image = torch.from_numpy(np.arange(1, 31, dtype=np.float32).reshape(5, 6, 1))
    padded = functional.pad(image, (0, 0, 4, 4, 4, 4))
    top, left = torch.tensor([-4, 0, 3, -1]), torch.tensor([2, -3, 4, -2])
    cut = windows(image, top, left, 5, 4)
    for found, row, column in zip(cut, top.tolist(), left.tolist()):
        assert torch.equal(found, padded[row + 4 : row + 9, column + 4 : column + 8])
