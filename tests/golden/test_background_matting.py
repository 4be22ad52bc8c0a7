"""The networks against what the published ones gave: state dicts, and arrays to 1e-4."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fakes.generated_weights import generated_state, plate_pair
from mattebridge.models.background_matting.fast import FastMatting
from mattebridge.models.background_matting.networks import make_network

FOLDER = Path(__file__).parent / "background_matting"
STATE_DICTS = json.loads((FOLDER / "state_dict.json").read_text())
GOLDEN = sorted(path.stem for path in FOLDER.glob("*.npz"))
RETURNED = {
    "MattingBase": ("pha", "fgr", "err", "hid"),
    "MattingRefine": ("pha", "fgr", "pha_sm", "fgr_sm", "err_sm", "ref_sm"),
}
PARAMETERS = {
    "MattingRefine/mobilenetv2": 5_006_839,
    "MattingRefine/mobilenetv2/k1": 4_993_207,
    "MattingRefine/resnet50": 40_247_703,
    "MattingRefine/resnet101": 59_239_831,
}


def _network_of(key: str) -> torch.nn.Module:
    family, backbone, *kernel = key.split("/")
    with torch.device("meta"):
        return make_network(family, backbone, **({"refine_kernel_size": 1} if kernel else {}))


@pytest.mark.parametrize("key", STATE_DICTS)
def test_keys_shapes_types_and_order_are_the_published_ones(key: str) -> None:
    ours = {
        name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in _network_of(key).state_dict().items()
    }
    assert ours == STATE_DICTS[key]
    assert list(ours) == list(STATE_DICTS[key])


@pytest.mark.parametrize("key", PARAMETERS)
def test_parameter_counts_are_the_published_ones(key: str) -> None:
    assert sum(p.numel() for p in _network_of(key).parameters()) == PARAMETERS[key]


def _golden(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], dict[str, np.ndarray]]:
    """The network of a golden file with its weights, its plates, and what it gave."""
    with np.load(FOLDER / f"{name}.npz") as golden:
        settings = json.loads(str(golden["settings"]))
        expected = {key: golden[key] for key in golden.files if key != "settings"}
    family = settings.pop("model")
    plates = plate_pair(settings.pop("height"), settings.pop("width"))
    settings.pop("stride")
    network = make_network(family, **settings)
    network.load_state_dict(generated_state(network.state_dict()))
    return network, plates, expected


@pytest.mark.parametrize("name", GOLDEN)
def test_outputs_agree_with_the_published_network(name: str) -> None:
    network, plates, expected = _golden(name)
    with torch.inference_mode():
        returned = network(*plates)
    names = RETURNED[network.family]
    assert len(returned) == len(names)
    found = dict(zip(names, returned))
    assert expected.keys() <= found.keys()
    for key, wanted in expected.items():
        bar = 0.0 if key == "ref_sm" else 1e-4
        assert np.abs(found[key][0].numpy() - wanted).max() <= bar, key


@pytest.mark.parametrize("name", GOLDEN)
def test_the_fast_path_agrees_with_the_published_network_too(name: str) -> None:
    network, plates, expected = _golden(name)
    matte = FastMatting(network)(*(image[0].permute(1, 2, 0).contiguous() for image in plates))
    found = {"pha": matte.alpha, "fgr": matte.foreground.permute(2, 0, 1)}
    found["err" if matte.cells is None else "err_sm"] = matte.error
    if matte.cells is not None:
        assert np.array_equal(matte.cells[None].numpy(), expected["ref_sm"])
    for key, image in found.items():
        assert np.abs(image.numpy() - expected[key]).max() <= 1e-4, key
