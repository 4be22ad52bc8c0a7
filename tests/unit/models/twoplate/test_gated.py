"""The version `gated` of the network: where it starts from, and what only it can do."""

from __future__ import annotations

import dataclasses
import importlib.util
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes.both_bands import keyed_both
from fakes.grainy_pair import given
from mattebridge.checkpoint import no_checkpoint
from mattebridge.models.base import ModelInput
from mattebridge.models.difference.keyer import keyed
from mattebridge.models.twoplate.card import WEIGHTS, card_of
from mattebridge.models.twoplate.gated import GatedTwoPlate, grown
from mattebridge.models.twoplate.model import TwoPlateModel, _Prepared, describe_state
from mattebridge.models.twoplate.network import Inputs, TwoPlate, clamped, inputs_of
from mattebridge.models.twoplate.onnx import export_onnx, names_of, with_noise
from mattebridge.models.twoplate.tiles import TILE
from mattebridge.models.twoplate.versions import VERSIONS, from_state, version_of
from mattebridge.models.twoplate.whole import WholeFrame
from mattebridge.models.weights.state_dict import read_state_dict

# Channels of the refiner's gates, four pixels each: narrow, wide, projection, own; its own logit.
NARROW, WIDE, PROJECTION, OWN, OWN_LOGIT = (slice(4 * n, 4 * n + 4) for n in range(5))


def small(kind: type[TwoPlate]) -> TwoPlate:
    """A small network, random, with a refiner that does something."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = kind((8, 8, 8), 8)
        torch.nn.init.normal_(network.refiner.leave.weight, 0, 0.05)
        if isinstance(network, GatedTwoPlate):
            torch.nn.init.normal_(network.refiner.gates.weight, 0, 0.05)
        with torch.no_grad():
            network.coarse.last[1].bias[-1] -= 6  # else it doubts every tile
    return network.eval()


@lru_cache(maxsize=1)
def model() -> TwoPlateModel:
    made = TwoPlateModel(card_of("sha256:0"), lambda: small(GatedTwoPlate).state_dict())
    made.load("cpu")
    return made


def planes(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.atleast_3d(image)).permute(2, 0, 1)[None].clamp(0, 1)


def inputs(frame: ModelInput, *, wide_colour: bool = True) -> Inputs:
    """What the network is given of a frame."""
    narrow, wide = keyed_both(frame)
    assert frame.clean_plate is not None
    colour = (wide if wide_colour else narrow).foreground
    return inputs_of(
        planes(frame.plate),
        planes(frame.clean_plate),
        (planes(narrow.alpha), planes(colour)),
        wide_alpha=planes(wide.alpha),
    )


def seen(alpha: float, wide: float, foreground: float = 0.9, *, size: int = 16) -> Inputs:
    """A flat picture: plate half way between a set of 0.1 and the foreground, and two alphas."""
    clean = torch.full((1, 3, size, size), 0.1)
    front, first = torch.full_like(clean, foreground), torch.full_like(clean[:, :1], alpha)
    plate = 0.5 * (clean + front)
    return inputs_of(plate, clean, (first, front), wide_alpha=torch.full_like(first, wide))


def opened_by(gates: slice, share: float = 1.0) -> GatedTwoPlate:
    """A network that only takes that much of one candidate."""
    network = GatedTwoPlate((8, 8), 8).eval()
    with torch.no_grad():
        network.refiner.gates.bias[gates] = share
    return network


def alpha_of(network: TwoPlate, frame: Inputs) -> float:
    with torch.inference_mode():
        return float(clamped(network(frame, 2)[1]).alpha.mean())


def test_a_version_is_told_by_the_names_of_its_weights() -> None:
    assert set(VERSIONS) == {"correction", "gated"}
    for name, kind in VERSIONS.items():
        state = kind((8, 8), 8).state_dict()
        assert version_of(state) == name
        assert type(from_state(state)) is kind
        assert describe_state(state)["version"] == name


def test_the_shipped_weights_are_of_the_version_correction() -> None:
    assert type(from_state(read_state_dict(WEIGHTS))) is TwoPlate


@pytest.mark.parametrize(("longest", "factor"), [(1000, 2), (1001, 4), (2048, 4), (3840, 8)])
def test_large_frames_are_seen_smaller_by_the_coarse_net(longest: int, factor: int) -> None:
    network = GatedTwoPlate((8, 8), 8)
    assert network.factor_for(600, longest) == network.factor_for(longest, 600) == factor


def test_a_new_network_leaves_the_keyers_matte() -> None:
    frame = given(48, 60)
    with torch.inference_mode():
        made = clamped(GatedTwoPlate((8, 8), 8).eval()(inputs(frame), 2)[1])
    narrow = keyed(frame, no_checkpoint).alpha
    # Alpha is stretched by a hundredth about its middle, which moves it by .005 at most.
    assert np.abs(made.alpha[0, 0].numpy() - narrow).max() < 0.0051


def test_weights_of_correction_are_a_start_with_the_same_matte() -> None:
    old, new = small(TwoPlate), GatedTwoPlate((8, 8, 8), 8).eval()
    new.load_state_dict(grown(old.state_dict(), new))
    frame = given(72, 90)
    narrow, wide = (inputs(frame, wide_colour=colour) for colour in (False, False))
    with torch.inference_mode():
        before, after = (n(i, 2)[1].alpha.clamp(0, 1) for n, i in ((old, narrow), (new, wide)))
    # The stretch: .005. The change itself is up to .9 of alpha.
    assert (after - before).abs().max() < 0.0051
    assert (after - narrow.keyed_alpha).abs().max() > 0.1


def test_what_the_keyer_closed_is_opened_without_a_large_logit() -> None:
    solid = seen(alpha=1, wide=0.3)
    assert alpha_of(GatedTwoPlate((8, 8), 8).eval(), solid) == 1
    # Half of the projection (.5), half of the keyer's 1: .75, stretched .7525.
    assert alpha_of(opened_by(PROJECTION, 0.5), solid) == pytest.approx(0.7525, abs=0.002)
    # The refiner's own alpha is .5 with weights of zero.
    assert alpha_of(opened_by(OWN), solid) == pytest.approx(0.5, abs=0.001)


def test_the_keyers_detail_comes_with_the_mean_that_the_coarse_net_wants() -> None:
    # The coarse net of weights zero wants the narrow mean: the wide alpha is raised to it.
    assert alpha_of(opened_by(WIDE), seen(alpha=0.6, wide=0.3)) == pytest.approx(0.601, abs=0.002)
    network = opened_by(WIDE)
    with torch.no_grad():
        network.coarse.last[1].bias[0] = -1.0  # an alpha of about 0 instead of 0.6
    assert alpha_of(network, seen(alpha=0.6, wide=0.3)) < 0.1


def test_every_candidate_is_learned_from_a_start_of_zero() -> None:
    network = GatedTwoPlate((8, 8), 8)
    frame = seen(alpha=1, wide=0.3)
    matte = network(frame, 2)[1]
    (matte.alpha - 0.5).abs().sum().backward()
    gradient = network.refiner.gates.bias.grad
    assert gradient is not None
    for gates in (PROJECTION, OWN):
        # 256 pixels, each |candidate - base| away from the keyer's alpha.
        assert float(gradient[gates].min()) < -10


@pytest.mark.parametrize("size", [(17, 25), (131, 203), (6 * TILE, 8 * TILE)])
def test_tiles_the_form_for_a_gpu_and_the_plain_network_agree(size: tuple[int, int]) -> None:
    frame = given(*size)
    made = model().matte(frame, no_checkpoint)
    whole = TwoPlateModel(card_of("sha256:0"), lambda: small(GatedTwoPlate).state_dict())
    whole.load("cpu")
    network = whole._prepared[torch.float32].network
    whole._prepared[torch.float32] = _Prepared(network, WholeFrame(network))
    other = whole.matte(frame, no_checkpoint)
    # Pieces of other sizes sum in other orders: 1e-7.
    assert np.abs(made.alpha - other.alpha).max() < 1e-5
    assert np.abs(made.foreground - other.foreground).max() < 1e-5
    assert made.notes["refined_share"] == other.notes["refined_share"]
    exact = dataclasses.replace(frame, exact=True)
    everywhere = model().matte(exact, no_checkpoint)
    assert everywhere.notes["refined_share"] == 1
    assert np.abs(everywhere.alpha - whole.matte(exact, no_checkpoint).alpha).max() < 1e-5


@pytest.mark.slow
def test_the_onnx_file_has_the_wide_alpha_as_an_input(tmp_path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime")):
        pytest.skip("needs the extra 'onnx'")
    import onnxruntime

    network, frame = small(GatedTwoPlate), given(33, 47)
    path = tmp_path / "network.onnx"
    export_onnx(network, path, height=33, width=47)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == set(names_of(network))
    assert "wide_alpha" in names_of(network)
    assert "wide_alpha" not in names_of(small(TwoPlate))
    feeds = dict(zip(names_of(network), (p.numpy() for p in with_noise(inputs(frame), 0.0))))
    found = session.run(["alpha"], feeds)[0]
    with torch.inference_mode():
        made = clamped(network(inputs(frame), 2)[1]).alpha
    # Runtimes sum in other orders: 1e-6.
    assert np.abs(found - made.numpy()).max() < 1e-3
