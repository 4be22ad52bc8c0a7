"""A small subject in a large frame is matted in a window around it, at a finer working size."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from fakes.mostly_slow import mostly_slow
from fakes.pretended_cuda import CUDA, pretended_cuda, recorder
from fakes.small_twoplate import weights
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput, ModelOutput
from mattebridge.models.difference.small import Small
from mattebridge.models.pytorch.frames import Frame
from mattebridge.models.pytorch.graphs import REPLAYED, Graphs
from mattebridge.models.twoplate.card import card_of
from mattebridge.models.twoplate.model import TwoPlateModel
from mattebridge.models.twoplate.window import MARGIN_PX, Window, has_windows, mixed, windows_of

HD, UHD = (1080, 1920), (2160, 3840)
# The smallest frames with windows.
LARGE = (720, 1440)
SPECKS = 0.0002


def loaded(device: str = "cpu") -> TwoPlateModel:
    made = TwoPlateModel(card_of("sha256:0"), weights)
    made.load(device)
    return made


def given(
    shape: tuple[int, int] = LARGE,
    box: tuple[int, int, int, int] = (250, 800, 420, 930),
    scene_linear: bool = False,
) -> ModelInput:
    """A set with some texture and grain, and an ellipse before it; box: top, left, bottom, right.

    Its pixels lie where they lie, whatever the shape."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    waves = 0.05 * np.sin(x / 9) * np.cos(y / 7)
    clean = np.stack([0.3 + x / 9000, 0.45 - y / 9000, 0.4 + waves], axis=2)
    top, left, bottom, right = box
    size = (right - left) / 2, (bottom - top) / 2
    radius = np.hypot((x - left - size[0]) / size[0], (y - top - size[1]) / size[1])
    alpha = np.clip((1 - radius) / 0.1, 0, 1)[..., None]
    plate = alpha * np.float32([0.85, 0.6, 0.1]) + (1 - alpha) * clean
    plate, clean = (
        (image + 0.004 * rng.standard_normal(image.shape)).clip(0, 1).astype(np.float32)
        for image in (plate, clean)
    )
    return ModelInput(plate, clean, None, None, scene_linear, {})


def windows(frame: ModelInput, specks: float = SPECKS) -> list[Window]:
    return windows_of(frame.plate.shape, Small(Frame.of(frame)), specks)


def holds(window: Window, box: tuple[int, int, int, int]) -> bool:
    rows, columns = window.rows, window.columns
    inside = rows.start < box[0] and box[2] < rows.stop
    return inside and columns.start < box[1] and box[3] < columns.stop


def test_only_frames_larger_than_working_size_have_windows() -> None:
    assert not has_windows((960, 640))
    assert not has_windows((720, 1280))
    assert has_windows(LARGE)
    assert has_windows(HD)
    assert not has_windows(HD, times=2)
    assert has_windows(UHD, times=2)
    assert windows(given((640, 960), (250, 400, 420, 530))) == []


def test_a_small_subject_has_one_of_its_own_pixels() -> None:
    box = (250, 800, 420, 930)
    for shape in (LARGE, HD, UHD, (1440, 1440)):
        (window,) = windows(given(shape, box))
        assert window.share == 1
        assert holds(window, box)
        height, width = window.rows.stop - window.rows.start, window.columns.stop
        width -= window.columns.start
        # About as many as the frame has at working size, at their own size.
        assert max(height, width) <= 960
        assert height * width <= 1.15 * 960 * 960 * shape[0] / shape[1]


def test_a_larger_one_of_a_uhd_frame_has_one_of_half_as_many() -> None:
    box = (500, 1200, 1500, 2100)
    (window,) = windows(given(UHD, box))
    assert window.share == 1
    assert holds(window, box)
    assert window.rows.stop - window.rows.start == 2 * 768


def test_a_subject_that_fills_the_frame_has_none() -> None:
    assert windows(given(LARGE, (20, 100, 700, 1300))) == []


def test_an_empty_set_has_none() -> None:
    frame = given()
    assert windows(dataclasses.replace(frame, plate=frame.clean_plate)) == []


def test_no_margin_is_needed_beyond_the_frame() -> None:
    (window,) = windows(given(LARGE, (100, 900, 720, 1000)))
    assert window.rows == slice(16, 720)
    (window,) = windows(given(LARGE, (0, 900, 720, 1000)))
    assert window.rows == slice(0, 720)


@pytest.mark.parametrize(
    ("box", "size"),
    [
        ((300, 800, 900, 1400), (768, 768)),
        ((180, 800, 1000, 1200), (960, 608)),
        ((400, 500, 800, 1300), (608, 960)),
    ],
)
def test_a_tall_subject_has_a_tall_one(
    box: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    (window,) = windows(given(HD, box))
    assert window.share == 1
    assert holds(window, box)
    rows, columns = window.rows, window.columns
    assert (rows.stop - rows.start, columns.stop - columns.start) == size


def test_specks_may_lie_outside_and_what_is_hinted_at_may_not() -> None:
    frame = given()
    plate = frame.plate.copy()
    plate[100:108, 20:28] = 0.9
    speck = dataclasses.replace(frame, plate=plate)
    assert windows(speck) == windows(frame)
    assert windows(speck, specks=0) == []
    hint = np.zeros(LARGE, np.float32)
    hint[100:108, 20:28] = 1
    assert windows(dataclasses.replace(frame, alpha_hint=hint)) == []
    same = dataclasses.replace(frame, plate=frame.clean_plate, alpha_hint=hint)
    assert len(windows(same)) == 1


def test_a_set_that_is_seen_from_elsewhere_may_lie_outside_and_a_ball_may_not() -> None:
    frame = given()
    plate, clean = frame.plate.copy(), frame.clean_plate.copy()
    blinds = np.where(np.arange(60)[:, None, None] // 10 % 2, np.float32(0.9), np.float32(0.1))
    plate[100:126, 20:46], clean[100:126, 20:46] = blinds[6:32], blinds[:26]
    moved = dataclasses.replace(frame, plate=plate, clean_plate=clean)
    assert windows(moved) == windows(frame)
    ball = frame.plate.copy()
    ball[100:126, 20:46] = 0.9
    assert windows(dataclasses.replace(frame, plate=ball)) == []


def test_a_shot_passes_to_the_next_size_little_by_little() -> None:
    shares = []
    for right in range(1120, 1208, 4):
        found = windows(given(LARGE, (250, 300, 420, right)))
        shares.append(found[0].share if found else 0.0)
    assert shares[0] == 1
    assert shares[-1] == 0
    steps = -np.diff(shares)
    assert (steps >= 0).all()
    # 4 pixels more, of 64 in which it passes.
    assert steps.max() < 0.1


def test_the_matte_is_that_of_the_window_and_empty_around_it() -> None:
    frame, model = given(), loaded()
    (window,) = windows(frame)
    made = model.matte(frame, no_checkpoint)
    alone = model.matte(window.cut(frame), no_checkpoint)
    part = window.rows, window.columns
    assert np.array_equal(made.alpha[part], alone.alpha)
    assert np.array_equal(made.foreground[part], alone.foreground)
    around = np.ones(LARGE, bool)
    around[part] = False
    assert made.alpha[around].max() == 0
    assert np.isfinite(made.foreground).all()
    assert np.array_equal(made.foreground[0, 0], alone.foreground[0, 0])
    size = [window.columns.start, window.rows.start, *alone.alpha.shape[::-1]]
    assert made.notes["window"] == size
    assert "window" not in alone.notes


def test_the_whole_frame_is_matted_where_it_is_asked_for() -> None:
    frame, model = given(), loaded()
    made = model.matte(dataclasses.replace(frame, settings={"window": "off"}), no_checkpoint)
    assert "window" not in made.notes
    assert (made.alpha != model.matte(frame, no_checkpoint).alpha).any()


def test_specks_keep_their_area() -> None:
    frame = dataclasses.replace(given(), settings={"specks": 0.001, "band": 2.0})
    (window,) = windows(frame)
    part = window.cut(frame)
    area = 0.001 * frame.plate.size
    assert part.settings["specks"] * part.plate.size == pytest.approx(area)
    assert part.settings["band"] == 2
    most = window.cut(dataclasses.replace(frame, settings={"specks": 0.05}))
    assert most.settings["specks"] == 0.05


def test_between_two_sizes_their_mattes_are_mixed() -> None:
    box = (250, 300, 420, 1164)
    frame, model = given(LARGE, box), loaded()
    (window,) = windows(frame)
    assert 0.1 < window.share < 0.9
    output = model.matte(frame, no_checkpoint)
    assert output.notes["window_share"] == round(window.share, 3)
    made = output.alpha
    fine = window.put(model.matte(window.cut(frame), no_checkpoint), LARGE).alpha
    # What is left of it is the matte of the whole frame.
    whole = (made - window.share * fine) / (1 - window.share)
    assert whole.min() > -0.01
    assert whole.max() < 1.01
    assert np.abs(whole - fine).max() > 0.05


def test_colours_count_as_their_alpha_does() -> None:
    one = ModelOutput(np.float32([[1, 0, 0]]), np.float32([[[1, 1, 1]] * 3]), degraded=("a",))
    other = ModelOutput(np.float32([[0, 0, 0.5]]), np.zeros((1, 3, 3), np.float32))
    made = mixed(one, other, 0.25)
    assert np.allclose(made.alpha, [[0.25, 0, 0.375]])
    assert np.allclose(made.foreground[0, :, 0], [1, 0.25, 0])
    assert made.degraded == ("a",)


@pytest.mark.parametrize("in_light", mostly_slow([True, False]))
def test_a_gpu_gives_the_same_with_one_wait_more(
    monkeypatch: pytest.MonkeyPatch, in_light: bool
) -> None:
    frame = given(scene_linear=in_light)
    wanted = loaded().matte(frame, no_checkpoint)
    with pretended_cuda() as counts:
        for part in ("twoplate.model", "difference.keyer"):
            name = f"mattebridge.models.{part}.Graphs"
            monkeypatch.setattr(name, lambda: Graphs(recorder(counts)))
        model = loaded("cuda:0")
        images = {name: getattr(frame, name) for name in ("plate", "clean_plate")}
        there = dataclasses.replace(
            frame,
            of_clean_plate={},
            **{name: torch.from_numpy(image).to(CUDA) for name, image in images.items()},
        )
        for _ in range(3):
            counts.reset()
            made = model.matte(there, no_checkpoint)
        assert made.notes["graph"] == REPLAYED
        assert made.notes["window"] == wanted.notes["window"]
        assert "window_share" not in made.notes
        # 67 measured: 31 of a frame without windows; the others make the whole frame small, which
        # the engine has done otherwise, cut the window out, and put it back.
        assert counts.launches <= 72, counts.launches
        assert counts.waits <= 3, counts.places
        alpha, foreground = made.alpha.cpu().numpy(), made.foreground.cpu().numpy()
    assert made.ranges is not None
    low, high = made.ranges["alpha"]
    assert low <= alpha.min()
    assert high >= alpha.max()
    # Where rounding crosses a threshold a pixel may change altogether.
    assert (np.abs(alpha - wanted.alpha) > 1e-3).mean() <= 1e-4
    assert (np.abs(foreground - wanted.foreground) > 1e-3).mean() <= 1e-4


def test_outside_of_the_clean_plate_nothing_is_looked_for() -> None:
    frame = given()
    plate, outside = frame.plate.copy(), np.zeros(LARGE, bool)
    plate[:, :60], outside[:, :60] = 0.9, True
    covered = dataclasses.replace(frame, plate=plate, outside=outside)
    assert windows(covered) == windows(frame)
    assert windows(dataclasses.replace(covered, outside=None)) == []


def test_a_subject_that_goes_on_beyond_the_clean_plate_lies_in_the_window() -> None:
    """Or the whole frame is matted as one."""
    outside = np.zeros(HD, bool)
    outside[:, :60] = True
    box = (200, 20, 620, 560)
    (window,) = windows(dataclasses.replace(given(HD, box), outside=outside))
    assert holds(window, box)
    outside[:, :150] = True
    box = (200, 20, 800, 790)
    found = windows(dataclasses.replace(given(HD, box), outside=outside))
    assert all(holds(window, box) for window in found)
    # What does not end there has the window that it has without.
    apart = given(HD, (200, 300, 700, 800))
    assert windows(dataclasses.replace(apart, outside=outside)) == windows(apart)


@pytest.mark.parametrize("screen", [False, True])
def test_a_hint_reaches_as_far_as_in_the_whole_frame(screen: bool) -> None:
    """A rough hint that is smaller than the subject, by more than a twentieth of the window."""
    shape, box = (1600, 3000), (500, 1200, 900, 1500)
    frame, model = given(shape, box), loaded()
    if screen:
        clean = np.broadcast_to(np.float32([0.1, 0.7, 0.15]), frame.plate.shape).copy()
        own = np.abs(frame.plate - frame.clean_plate).max(axis=2, keepdims=True) > 0.05
        plate = np.where(own, np.float32([0.85, 0.3, 0.3]), clean)
        frame = dataclasses.replace(frame, plate=plate, clean_plate=clean)
    hint = np.zeros(shape, np.float32)
    hint[600:800, 1300:1400] = 1
    made = model.matte(dataclasses.replace(frame, alpha_hint=hint), no_checkpoint)
    assert "window" in made.notes
    assert (made.notes.get("keyer") == "screen") == screen
    # Between hint and outline.
    assert made.alpha[520:540, 1340:1360].min() > 0.9


def test_the_margin_holds_a_soft_edge() -> None:
    """What differs too little to be seen beside the box lies in the window, too."""
    frame = given()
    alpha = np.zeros(LARGE, np.float32)
    alpha[250:420, 800:930] = 1
    soft = cv2.GaussianBlur(alpha, (0, 0), MARGIN_PX / 4)[..., None]
    plate = soft * np.float32([0.85, 0.6, 0.1]) + (1 - soft) * frame.clean_plate
    (window,) = windows(dataclasses.replace(frame, plate=plate.astype(np.float32)))
    soft[window.rows, window.columns] = 0
    assert soft.max() < 1e-3
