"""A frame on a pretended CUDA device: no device is mixed, and what it costs stays in a budget."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch

from fakes.generated_model import background_matting
from fakes.matting_models import Keyer, keyer_card, registry_of
from fakes.pretended_cuda import CUDA, Counts, pretended_cuda, recorder
from mattebridge.engine.device import deliver
from mattebridge.engine.engine import Engine
from mattebridge.models.base import ModelOutput
from mattebridge.models.difference import keyer
from mattebridge.models.difference.card import DIFFERENCE
from mattebridge.models.difference.keyer import DifferenceModel
from mattebridge.models.pytorch.graphs import Graphs
from mattebridge.models.pytorch.known_pair import known_pair
from mattebridge.wire.params import RenderParams

HEIGHT, WIDTH = 96, 128
PIXELS = HEIGHT * WIDTH
CHANNELS = {"alpha": 1, "foreground": 3, "premultiplied": 4}


class TensorKeyer(Keyer):
    """The fake keyer's matte, as a model that works on tensors."""

    takes_tensors = True

    def matte(self, given: Any, checkpoint: Any) -> ModelOutput:
        self.given.append(given)
        difference = (given.plate - given.clean_plate).abs().amax(2)
        alpha = (difference * given.settings["slope"]).clamp(0, 1)
        return ModelOutput(alpha, given.plate.clone())


def planes(dtype: Any = np.float32, *, high: float = 1.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(4)
    shapes = {"plate": (HEIGHT, WIDTH, 4), "clean_plate": (HEIGHT, WIDTH, 4)}
    return {
        role: (random.random(shape, np.float32) * high).astype(dtype)
        for role, shape in shapes.items()
    }


def outputs(roles: Any = CHANNELS, dtype: Any = np.float32) -> dict[str, np.ndarray]:
    return {role: np.full((HEIGHT, WIDTH, CHANNELS[role]), np.nan, dtype) for role in roles}


def matte(engine: Engine, sent: Any, out: Any, *, key: str | None = "shot-1", **params: Any) -> Any:
    wanted = RenderParams(**{"colorspace": "linear", **params})
    return engine.matte(sent, wanted, model="default", out=out, clean_plate_key=key)


def on_the_device(
    sent: dict[str, np.ndarray], out: dict[str, np.ndarray], *, frames: int = 2, **params: Any
) -> Counts:
    """What the last of some frames with one held clean plate does, with the keyer on tensors."""
    with pretended_cuda() as counts:
        engine = Engine(str(CUDA), registry=registry_of(TensorKeyer()))
        for _ in range(frames):
            counts.reset()
            matte(engine, sent, out, **params)
    return counts


def _copies(counts: Counts) -> int:
    """How many copies went to the device."""
    return sum(n for place, n in counts.places.items() if place.endswith("copy to the device"))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.uint16])
@pytest.mark.parametrize("foreground", ["model", "unmix", "plate"])
@pytest.mark.parametrize("colorspace", ["linear", "srgb"])
def test_a_gpu_gives_the_pixels_of_the_cpu(dtype: Any, foreground: str, colorspace: str) -> None:
    high = 1.0 if np.dtype(dtype).kind == "f" else 65535.0
    sent = planes(dtype, high=2 * high if np.dtype(dtype).kind == "f" else high)
    sent["core_matte"] = np.linspace(0, 1, PIXELS, dtype=np.float32).reshape(HEIGHT, WIDTH, 1)
    params = {"foreground": foreground, "colorspace": colorspace}
    here, there = outputs(), outputs()
    matte(Engine("cpu", registry=registry_of(TensorKeyer())), sent, here, **params)
    on_the_device(sent, there, **params)
    for role in here:
        # The same operators on the same values, whether in blocks of rows or at once.
        assert np.array_equal(here[role], there[role])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_planes_cross_once_as_they_are_and_only_what_was_asked_for_comes_back(dtype: Any) -> None:
    out = outputs(("premultiplied",), dtype)
    counts = on_the_device(planes(dtype), out)
    # The plate; the clean plate is there already.
    assert counts.to_bytes == 4 * PIXELS * np.dtype(dtype).itemsize
    assert _copies(counts) == 1
    # Beside the plane itself only the extremes that are looked at come back.
    assert 0 <= counts.from_bytes - out["premultiplied"].nbytes <= 200
    first = on_the_device(planes(dtype), out, frames=1)
    assert first.to_bytes == 2 * counts.to_bytes


def test_rows_with_gaps_between_them_cross_as_they_are() -> None:
    wide = {role: np.zeros((HEIGHT, WIDTH + 16, 4), np.float32) for role in planes()}
    for role, plane in planes().items():
        wide[role][:, :WIDTH] = plane
    sent = {role: plane[:, :WIDTH] for role, plane in wide.items()}
    out, wanted = outputs(), outputs()
    counts = on_the_device(sent, out)
    on_the_device(planes(), wanted)
    assert np.array_equal(out["premultiplied"], wanted["premultiplied"])
    assert _copies(counts) == 1


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_outputs_whose_rows_have_gaps_are_copied_in_one_piece(dtype: Any) -> None:
    sent, wanted = planes(), outputs(dtype=dtype)
    on_the_device(sent, wanted)
    memory = {
        role: np.full((HEIGHT, WIDTH + 5, CHANNELS[role]), 7, dtype) for role in ("alpha", *wanted)
    }
    out = {role: whole[:, :WIDTH] for role, whole in memory.items()}
    counts = on_the_device(sent, out)
    for role, whole in memory.items():
        assert np.array_equal(out[role], wanted[role])
        # What lies behind the last row is not part of the plane.
        assert (whole[-1, WIDTH:] == 7).all()
    # The whole memory came back, so no row was copied for itself.
    rows = (HEIGHT - 1) * (WIDTH + 5) + WIDTH
    crossed = sum(rows * CHANNELS[role] * np.dtype(dtype).itemsize for role in out)
    assert 0 <= counts.from_bytes - crossed <= 200


def test_a_result_of_another_layout_than_its_plane_is_delivered_too() -> None:
    whole = np.full((HEIGHT, WIDTH + 5, 1), 7, np.float32)
    result = torch.rand(HEIGHT, WIDTH, 1)
    with pretended_cuda():
        deliver({"alpha": result.to(CUDA)}, {"alpha": whole[:, :WIDTH]})
    assert np.array_equal(whole[:, :WIDTH], result.numpy())
    assert (whole[:, WIDTH:] == 7).all()


# Without highlights and with them. Counted 54 and 79, six of them the keyer's own. The waits are
# for the planes and for the outputs.
@pytest.mark.parametrize(("high", "launches"), [(1.0, 56), (8.0, 81)])
def test_the_stages_around_the_model_start_little_and_wait_twice(
    high: float, launches: int
) -> None:
    counts = on_the_device(planes(np.float16, high=high), outputs(dtype=np.float16))
    assert counts.launches <= launches, counts.places
    assert counts.waits == 2, counts.places


def test_a_model_of_arrays_gets_arrays_and_its_matte_goes_back_to_the_device() -> None:
    keyer, sent = Keyer(keyer_card(multiple=16)), planes()
    here, there = outputs(), outputs()
    matte(Engine("cpu", registry=registry_of(Keyer())), sent, here)
    with pretended_cuda():
        matte(Engine(str(CUDA), registry=registry_of(keyer)), sent, there)
    assert isinstance(keyer.given[0].plate, np.ndarray)
    assert np.array_equal(here["premultiplied"], there["premultiplied"])


def test_background_matting_runs_on_the_device_alone() -> None:
    sent, found = planes(np.float16), []
    for device_name in ("cpu", str(CUDA)):
        out = outputs(("alpha", "premultiplied"))
        with pretended_cuda() as counts:
            engine = Engine(device_name, registry=registry_of(background_matting()))
            engine.load_model("default")
            counts.reset()
            matte(engine, sent, out)
        found.append(out)
    # Counted 214 and 4: two of them for the new clean plate.
    assert counts.launches <= 240, counts.places
    assert counts.waits <= 4, counts.places
    assert _copies(counts) == 2
    # Another order of the same sums: see the tests of the network.
    assert np.abs(found[0]["alpha"] - found[1]["alpha"]).max() < 1e-3


def test_the_keyer_and_the_alignment_leave_the_pictures_on_the_device() -> None:
    """Small planes, of which main memory sees all; the tests of both parts use larger ones."""
    plate, clean_plate = known_pair(HEIGHT, WIDTH)
    sent = {"plate": plate.numpy(), "clean_plate": clean_plate.numpy()}
    here, there = outputs(), outputs()
    matte(Engine("cpu", registry=registry_of(DifferenceModel(DIFFERENCE))), sent, here)
    with pretended_cuda() as counts:
        with mock.patch.object(keyer, "Graphs", return_value=Graphs(recorder(counts))):
            engine = Engine(str(CUDA), registry=registry_of(DifferenceModel(DIFFERENCE)))
            engine.load_model("default")
        for _ in range(3):
            counts.reset()
            matte(engine, sent, there)
    assert 0.05 < here["alpha"].mean() < 0.95
    for role, wanted in here.items():
        # Rounding alone; measured 1e-5. A threshold that it crosses may change a pixel altogether.
        assert (np.abs(there[role] - wanted) > 1e-3).mean() <= 1e-3
    # Counted 59 and 3: the waits are for the plate, with what the alignment and the keyer look at
    # of it, and for the outputs, with what is looked at of the matte. And one because these plates
    # have one range: then they are compared.
    assert counts.launches <= 66, counts.launches
    assert counts.waits <= 3, counts.places
    assert np.array_equal(sent["plate"], plate.numpy())


def test_loading_a_model_changes_nothing_of_how_the_others_compute() -> None:
    def flags() -> tuple[bool, ...]:
        cudnn = torch.backends.cudnn
        return cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark

    before = flags()
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = False
    try:
        with pretended_cuda():
            engine = Engine(str(CUDA), registry=registry_of(background_matting()))
            assert flags() == (False, True, False)
            engine.load_model("default")
            assert flags() == (False, True, False)
    finally:
        cudnn = torch.backends.cudnn
        cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before
