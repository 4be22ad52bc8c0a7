"""The plate + hint keyer in the engine: settings, hints, precision, highlights, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from fakes.generated_weights import plate_pair
from fakes.seeded_keyer import seeded_state
from mattebridge.checkpoint import no_checkpoint
from mattebridge.engine.engine import Engine
from mattebridge.errors import InputsError, ModelError, OutOfMemoryError
from mattebridge.models.base import ModelCard, ModelInput
from mattebridge.models.difference.card import shipped
from mattebridge.models.entry import Entry
from mattebridge.models.greenformer import budget, fast
from mattebridge.models.greenformer.card import card_of
from mattebridge.models.greenformer.model import GreenformerModel
from mattebridge.models.registry import Registry
from mattebridge.models.screen import card as screen_card
from mattebridge.models.weights.file import WeightsRecord
from mattebridge.wire.labels import SENTENCES
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 60, 81
State = Mapping[str, torch.Tensor]
REFINER_SETTINGS = ("auto", "full_frame", "tiled")


def card_for(screen: str = "green") -> ModelCard:
    settings = {"img_size": 64, "refiner": "present", "screen": screen}
    return card_of(WeightsRecord("key", "", "sha256:" + "0" * 64, "greenformer", settings))


def engine_of(state: State, screen: str = "green") -> Engine:
    """An engine whose only model is `key`."""

    def make(card: ModelCard) -> GreenformerModel:
        return GreenformerModel(card, lambda: state, screen)

    entry = Entry(card_for(screen), make)
    return Engine("cpu", registry=Registry(lambda: {"key": entry}, aliases={}))


@cache
def shared_engine() -> Engine:
    return engine_of(seeded_state())


@cache
def loaded_model() -> GreenformerModel:
    model = GreenformerModel(card_for(), seeded_state, "green")
    model.load("cpu")
    return model


@pytest.fixture
def engine() -> Engine:
    return shared_engine()


def planes(*roles: str) -> dict[str, np.ndarray]:
    plate, clean = (
        np.ascontiguousarray(image[0].permute(1, 2, 0).numpy())
        for image in plate_pair(HEIGHT, WIDTH)
    )
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    hint = (np.hypot((x - 0.45) / 0.2, (y - 0.55) / 0.3) < 1).astype(np.float32)[..., None]
    every = {"plate": plate, "clean_plate": clean, "alpha_hint": hint}
    return {role: every[role] for role in ("plate", *roles)}


class Matted:
    """The results of one frame and its report."""

    def __init__(
        self,
        engine: Engine,
        given: Mapping[str, np.ndarray],
        *,
        colorspace: str = "srgb",
        foreground: str = "model",
        exact: bool = False,
        **settings: Any,
    ) -> None:
        height, width = given["plate"].shape[:2]
        self.alpha = np.empty((height, width, 1), np.float32)
        self.foreground = np.empty((height, width, 3), np.float32)
        self.premultiplied = np.empty((height, width, 4), np.float32)
        report = engine.matte(
            given,
            RenderParams(
                colorspace=colorspace,
                foreground=foreground,
                exact=exact,
                nonfinite="zero",
                settings={"img_size": 64, **settings},
            ),
            model="key",
            out={
                "alpha": self.alpha,
                "foreground": self.foreground,
                "premultiplied": self.premultiplied,
            },
        )
        self.notes, self.degraded = report.notes["model"], report.degraded


def difference(one: Matted, other: Matted) -> float:
    return float(
        max(
            np.abs(one.alpha - other.alpha).max(),
            np.abs(one.foreground - other.foreground).max(),
        )
    )


def test_a_frame_of_any_size_is_matted_and_the_reply_says_how(engine: Engine) -> None:
    made = Matted(engine, planes("alpha_hint"))
    assert made.degraded == ()
    assert made.notes == {
        "img_size": 64,
        "refiner": "full_frame",
        "refiner_scale": 1.0,
        "precision": "float32",
        "fit": "stretch",
        "screen": "green",
        "channels_swapped": False,
        "hint": "sent",
        "exact": False,
    }
    assert made.alpha.std() > 0.02
    assert (made.alpha.min() >= 0) & (made.alpha.max() <= 1)
    # The fast way and the published forward, which are two: measured 2e-6.
    exact = Matted(engine, planes("alpha_hint"), exact=True)
    assert exact.notes["exact"]
    assert difference(made, exact) <= 5e-5


@pytest.mark.slow
def test_the_hint_decides_and_so_does_each_setting(engine: Engine) -> None:
    usual = Matted(engine, planes("alpha_hint"))
    other = planes("alpha_hint")
    other["alpha_hint"] = 1 - other["alpha_hint"]
    changed = [Matted(engine, other)]
    for settings in (
        {"fit": "letterbox"},
        {"refiner": "off"},
        {"refiner_scale": 0.5},
        {"screen": "blue"},
        {"img_size": 96},
        {"image_upsample_mode": "bicubic"},
        {"sharpen_strength": 1.0},
        {"result_upsample_mode": "bilinear"},
    ):
        # A small frame, so that the enlargement counts.
        changed.append(Matted(engine, planes("alpha_hint"), **settings))
    small = {role: plane[:40, :50] for role, plane in planes("alpha_hint").items()}
    assert all(difference(usual, made) > 1e-3 for made in changed[:6])
    plain = Matted(engine, small)
    for settings in ({"image_upsample_mode": "bicubic"}, {"sharpen_strength": 1.0}):
        assert difference(plain, Matted(engine, small, **settings)) > 1e-4
    assert difference(usual, changed[-1]) > 1e-4


def test_tiles_are_named_in_the_reply_and_change_no_pixel(engine: Engine) -> None:
    whole = Matted(engine, planes("alpha_hint"), refiner="full_frame")
    tiled = Matted(engine, planes("alpha_hint"), refiner="tiled")
    assert tiled.notes["refiner"] == "tiled_layers"
    assert tiled.degraded == ("refiner_tiled",)
    assert "refiner_tiled" in SENTENCES
    assert difference(whole, tiled) <= 1e-5


def test_the_way_of_the_refiner_follows_the_free_memory(engine, monkeypatch) -> None:
    made = {}
    for free in (2**40, 10**9, 0):
        monkeypatch.setattr(budget, "free_bytes", lambda device, free=free: free)
        made[free] = [
            budget.ways_for(which, 2048, torch.device("cpu"))[0] for which in REFINER_SETTINGS
        ]
    assert made[2**40] == ["full_frame", "full_frame", "tiled_layers"]
    assert made[0] == ["tiled_prefix", "full_frame", "tiled_prefix"]
    least = Matted(engine, planes("alpha_hint"))
    assert least.notes["refiner"] == "tiled_prefix"
    assert least.degraded == ("refiner_tiled",)
    monkeypatch.undo()
    assert difference(least, Matted(engine, planes("alpha_hint"))) <= 1e-5


def test_exhausted_memory_leads_to_the_next_way_under_auto_only(monkeypatch) -> None:
    # Its own: an engine remembers for a while that memory was exhausted.
    engine = engine_of(seeded_state())

    def exhausted(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(fast.REFINE, fast.FULL_FRAME, exhausted)
    assert Matted(engine, planes("alpha_hint")).notes["refiner"] == "tiled_layers"
    with pytest.raises(OutOfMemoryError, match="img_size"):
        Matted(engine, planes("alpha_hint"), refiner="full_frame")


def test_the_size_by_memory_is_chosen_once_and_named(monkeypatch) -> None:
    cuda = torch.device("cuda:0")
    for free, size in ((2**37, 2048), (2 * 2**30, 1024), (0, 512)):
        monkeypatch.setattr(budget, "free_bytes", lambda device, free=free: free)
        assert budget.size_for(cuda) == size
        assert budget.size_for(torch.device("cpu")) == 512
    model = GreenformerModel(card_for(), dict, "green")
    model._device = cuda
    sizes = []
    for free in (2 * 2**30, 2**37):
        monkeypatch.setattr(budget, "free_bytes", lambda device, free=free: free)
        sizes.append(model.size_of(0))
    assert sizes == [1024, 1024]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"img_size": 100}, "img_size of model 'key' must be a multiple of 32.*got 100"),
        ({"img_size": 8192}, "img_size.*from 0 to 4096"),
        ({"refiner_scale": 6.0}, "refiner_scale.*from 0 to 5"),
        ({"precision": "half"}, "precision.*one of"),
        ({"hint_source": "difference"}, "makes the hint from a clean plate of 81x60; got none"),
        ({"exact": True, "precision": "bfloat16"}, "exact computes in float32"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(engine, settings, says: str) -> None:
    with pytest.raises((ModelError, InputsError), match=says):
        Matted(engine, planes("alpha_hint"), **settings)


def test_a_scale_beyond_the_training_is_accepted_and_said(engine: Engine) -> None:
    assert Matted(engine, planes("alpha_hint"), refiner_scale=2.0).degraded == (
        "refiner_scale_above_1",
    )
    off = Matted(engine, planes("alpha_hint"), refiner_scale=2.0, refiner="off")
    assert (off.degraded, off.notes["refiner"]) == ((), "off")


def test_a_hint_is_made_from_a_clean_plate_and_the_reply_says_so(engine: Engine) -> None:
    made = Matted(engine, planes("clean_plate"))
    assert made.notes["hint"] == "difference"
    by_hand = planes("alpha_hint")
    keyer = Engine("cpu", registry=Registry(shipped, aliases={}))
    keyed = np.empty((HEIGHT, WIDTH, 1), np.float32)
    keyer.matte(
        planes("clean_plate"),
        RenderParams(colorspace="srgb"),
        model="difference",
        out={"alpha": keyed},
    )
    by_hand["alpha_hint"] = keyed
    assert difference(made, Matted(engine, by_hand)) <= 1e-6
    sent = Matted(engine, planes("clean_plate", "alpha_hint"))
    assert sent.notes["hint"] == "sent"
    assert difference(made, sent) > 1e-3
    asked = Matted(engine, planes("clean_plate", "alpha_hint"), hint_source="difference")
    assert asked.notes["hint"] == "difference"


def test_the_hint_can_be_of_twoplate(engine: Engine) -> None:
    made = Matted(engine, planes("clean_plate"), hint_source="twoplate")
    assert made.notes["hint"] == "twoplate"
    assert difference(made, Matted(engine, planes("clean_plate"))) > 1e-5


def test_a_plate_with_a_green_screen_needs_no_other_input(engine: Engine) -> None:
    given = {"plate": green_screen()}
    made = Matted(engine, given)
    assert made.notes["hint"] == "screen"
    keyer = Engine("cpu", registry=Registry(screen_card.shipped, aliases={}))
    keyed = np.empty((HEIGHT, WIDTH, 1), np.float32)
    keyer.matte(given, RenderParams(colorspace="srgb"), model="screen", out={"alpha": keyed})
    assert 0.05 < keyed.mean() < 0.5
    assert difference(made, Matted(engine, {**given, "alpha_hint": keyed})) <= 1e-6


def green_screen() -> np.ndarray:
    """A plate (H, W, 3) of a subject in front of an uneven green screen."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    alpha = np.clip((1.1 - np.hypot((x - 0.5) / 0.2, (y - 0.6) / 0.3)) / 0.2, 0, 1)[..., None]
    screen = np.stack([0.15 + 0.05 * x, 0.7 - 0.1 * y, 0.2 + 0 * x], axis=2)
    subject = np.stack([0.7 - 0.2 * y, 0.4 + 0.1 * x, 0.3 + 0 * x], axis=2)
    return (alpha * subject + (1 - alpha) * screen).astype(np.float32)


def test_without_hint_clean_plate_and_screen_the_frame_is_refused(engine: Engine) -> None:
    grey = np.full((HEIGHT, WIDTH, 3), 0.5, np.float32)
    grey[20:40, 20:40] = (0.8, 0.3, 0.2)
    with pytest.raises(InputsError, match=r"needs an alpha hint of 81x60, or a clean plate or a"):
        Matted(engine, {"plate": grey})
    with pytest.raises(ModelError, match="screen"):
        Matted(engine, {"plate": grey}, hint_source="screen")


def test_less_memory_is_used_when_the_engine_asks_for_it() -> None:
    model, given, made = loaded_model(), planes("alpha_hint"), []
    for less in (False, True):
        assert model.use_less_memory(less) is less
        seen = ModelInput(
            plate=given["plate"],
            clean_plate=None,
            alpha_hint=given["alpha_hint"][..., 0],
            outside=None,
            scene_linear=False,
            settings={"img_size": 64},
        )
        made.append(model.matte(seen, no_checkpoint))
    model.use_less_memory(False)
    assert [output.notes["refiner"] for output in made] == ["full_frame", "tiled_prefix"]
    assert np.abs(made[0].alpha - made[1].alpha).max() <= 1e-5


@pytest.mark.slow
def test_a_plate_of_the_other_screen_is_keyed_with_green_and_blue_exchanged() -> None:
    turned = planes("alpha_hint")
    turned["plate"] = turned["plate"][..., [0, 2, 1]]
    green = Matted(shared_engine(), planes("alpha_hint"))
    blue = Matted(shared_engine(), turned, screen="blue")
    assert blue.notes["channels_swapped"]
    assert np.array_equal(green.alpha, blue.alpha)
    assert np.array_equal(green.foreground[..., [0, 2, 1]], blue.foreground)
    same = Matted(engine_of(seeded_state(), "blue"), turned, screen="blue")
    assert not same.notes["channels_swapped"]
    assert difference(blue, same) > 1e-3


def test_a_checkpoint_that_is_given_another_screen_is_used_with_it_at_once() -> None:
    """Its weights, and so its digest, are the same."""
    screens = ["green"]

    def source() -> dict[str, Entry]:
        screen = screens[-1]
        return {
            "key": Entry(
                card_for(screen), lambda card: GreenformerModel(card, seeded_state, screen)
            )
        }

    engine = Engine("cpu", registry=Registry(source, aliases={}))
    for screen in ("green", "blue"):
        screens.append(screen)
        made = Matted(engine, planes("alpha_hint"), refiner="off", screen="blue")
        assert made.notes["screen"] == screen
        assert made.notes["channels_swapped"] is (screen == "green")


def with_values(**changed: Callable[[torch.Tensor], torch.Tensor]) -> State:
    """The seeded state with some entries changed (dots as __)."""
    state = dict(seeded_state())
    for name, change in changed.items():
        key = name.replace("__", ".")
        state[key] = change(state[key].clone())
    return state


@pytest.mark.slow
def test_light_above_white_comes_back_from_the_plate_in_an_opaque_subject() -> None:
    def opaque(bias: torch.Tensor) -> torch.Tensor:
        return bias + 60

    engine = engine_of(
        with_values(alpha_decoder__classifier__bias=opaque, fg_decoder__classifier__bias=opaque)
    )
    given = planes("alpha_hint")
    given["plate"][20:30, 30:40] = 20.0
    made = Matted(engine, given, colorspace="linear")
    assert np.array_equal(made.alpha, np.ones_like(made.alpha))
    # Encoding and decoding in float32: measured 1e-6.
    np.testing.assert_allclose(made.premultiplied[20:30, 30:40, :3], 20.0, rtol=1e-4)
    given["plate"][20:30, 30:40] = 0.5
    calm = Matted(engine, given, colorspace="linear")
    assert calm.foreground.max() <= 1.0001


def test_light_is_unmixed_with_the_clean_plate(engine: Engine) -> None:
    given = planes("clean_plate", "alpha_hint")
    made = Matted(engine, given, colorspace="linear", foreground="unmix")
    over = made.premultiplied[..., :3] + (1 - made.alpha) * given["clean_plate"]
    seen = np.broadcast_to(made.alpha >= 1 / 1024, over.shape)
    assert seen.mean() > 0.2
    # The clean plate is fitted to the plate first, which moves it by a rounding.
    assert np.abs(over - given["plate"])[seen].max() <= 2e-2


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38, -5.0])
def test_no_pixel_of_the_plate_or_hint_makes_nan_in_alpha(engine: Engine, value: float) -> None:
    given = planes("alpha_hint")
    given["plate"][10:20, 10:20] = value
    given["alpha_hint"][5:15, 5:15] = value
    for colorspace in ("linear", "srgb"):
        made = Matted(engine, given, colorspace=colorspace)
        assert np.isfinite(made.alpha).all()
        assert np.isfinite(made.premultiplied).all()


@pytest.mark.slow
def test_a_frame_that_overflows_float16_is_computed_again_in_float32() -> None:
    def large(bias: torch.Tensor) -> torch.Tensor:
        return bias.fill_(1e5)

    engine = engine_of(with_values(encoder__model__blocks__0__mlp__fc2__bias=large))
    made = Matted(engine, planes("alpha_hint"), precision="float16")
    assert made.degraded == ("half_precision_overflow",)
    assert made.notes["precision"] == "float32"
    assert difference(made, Matted(engine, planes("alpha_hint"))) == 0


@pytest.mark.slow
def test_weights_that_overflow_float32_are_an_error_and_no_matte() -> None:
    def huge(bias: torch.Tensor) -> torch.Tensor:
        return bias.fill_(3e38)

    engine = engine_of(with_values(encoder__model__blocks__0__mlp__fc2__bias=huge))
    with pytest.raises(ModelError, match="NaN or infinite"):
        Matted(engine, planes("alpha_hint"))


@pytest.mark.parametrize(
    ("device", "capability", "precision"),
    [
        ("cuda:0", (9, 0), "bfloat16"),
        ("cuda:0", (8, 0), "bfloat16"),
        ("cuda:0", (7, 5), "float16"),
        ("mps", (9, 0), "float32"),
        ("cpu", (9, 0), "float32"),
    ],
)
def test_the_precision_by_itself_is_that_which_the_device_is_quick_at(
    monkeypatch: pytest.MonkeyPatch, device: str, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    model = GreenformerModel(card_for(), dict, "green")
    model._device = torch.device(device)
    assert model._precision_of("auto", exact=False) == precision
    assert model._precision_of("auto", exact=True) == "float32"
    assert model._precision_of("float16", exact=False) == "float16"


@pytest.mark.slow
def test_half_precision_is_named_and_stays_close(engine: Engine) -> None:
    half = Matted(engine, planes("alpha_hint"), precision="bfloat16")
    assert half.notes["precision"] == "bfloat16"
    full = Matted(engine, planes("alpha_hint"))
    assert 0 < np.abs(half.alpha - full.alpha).mean() < 0.03  # measured 0.001


@pytest.mark.slow
def test_a_checkpoint_without_refiner_is_refused_unless_it_is_off() -> None:
    state = {name: v for name, v in seeded_state().items() if not name.startswith("refiner.")}
    engine = engine_of(state)
    with pytest.raises(ModelError, match="has no refiner: set refiner to off"):
        Matted(engine, planes("alpha_hint"))
    made = Matted(engine, planes("alpha_hint"), refiner="off")
    whole = Matted(shared_engine(), planes("alpha_hint"), refiner="off")
    assert difference(made, whole) == 0


@pytest.mark.slow
def test_memory_is_reported_while_the_model_is_loaded() -> None:
    model = GreenformerModel(card_for(), seeded_state, "green")
    assert model.memory_bytes == 0
    model.load("cpu")
    assert model.memory_bytes > 70_000_000 * 4
    model.unload()
    assert model.memory_bytes == 0


@pytest.mark.parametrize("refiner", ["full_frame", "tiled"])
@pytest.mark.parametrize("exact", [False, True])
def test_a_frame_can_be_stopped_at_each_block_of_the_network(refiner: str, exact: bool) -> None:
    """These calls are also what tells the daemon that a frame of minutes is still computed."""
    model, given = loaded_model(), planes("alpha_hint")
    steps: list[tuple[str, int]] = []
    model.matte(
        ModelInput(
            plate=given["plate"],
            clean_plate=None,
            alpha_hint=given["alpha_hint"][..., 0],
            outside=None,
            scene_linear=False,
            settings={"img_size": 64, "refiner": refiner},
            exact=exact,
        ),
        lambda stage, done=0, total=0: steps.append((stage, done)),
    )
    assert [done for stage, done in steps if stage == "encoder"] == list(range(24))
    assert sum(stage == "refine" for stage, _ in steps) >= 4
    assert steps[-1][0] == "finish"
