"""Weights files: read without running them, recognised by their keys, refused with reasons."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from fakes.generated_weights import generated_state, plate_pair
from mattebridge.errors import ModelError
from mattebridge.models.background_matting.networks import MattingRefine, make_network
from mattebridge.models.background_matting.recognise import (
    Architecture,
    load_weights,
    network_from,
    recognise,
)
from mattebridge.models.weights.file import digest_of, read_whole
from mattebridge.models.weights.state_dict import read_state_dict


@lru_cache(maxsize=8)
def _weights(family: str, backbone: str, kernel_size: int | None = 3) -> dict[str, Tensor]:
    settings = {"refine_kernel_size": kernel_size} if family == "MattingRefine" else {}
    with torch.device("meta"):
        shapes = make_network(family, backbone, **settings).state_dict()
    return generated_state(shapes)


def small_weights() -> dict[str, Tensor]:
    return dict(_weights("MattingRefine", "mobilenetv2"))


def _refused(path: Path, reason: str) -> str:
    with pytest.raises(ModelError) as caught:
        read_state_dict(path)
    assert caught.value.details["reason"] == reason
    return caught.value.message


def _same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in found)


@pytest.mark.parametrize("under", [None, "state_dict"])
@pytest.mark.parametrize("prefix", ["", "model.", "module."])
@pytest.mark.parametrize("old_format", [False, True])
def test_a_pth_file_is_read_bare_nested_or_wrapped(
    tmp_path: Path, under: str | None, prefix: str, old_format: bool
) -> None:
    weights = {prefix + name: tensor for name, tensor in small_weights().items()}
    content: Any = {under: weights, "epoch": 3} if under else weights
    path = tmp_path / "weights.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert _same(read_state_dict(path), small_weights())


def test_a_safetensors_file_is_read_whatever_it_is_called(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    safetensors.torch.save_file(small_weights(), path)
    assert _same(read_state_dict(path), small_weights())


@pytest.mark.parametrize(
    ("family", "backbone", "kernel_size"),
    [
        ("MattingBase", "mobilenetv2", None),
        ("MattingBase", "resnet50", None),
        ("MattingRefine", "mobilenetv2", 3),
        ("MattingRefine", "mobilenetv2", 1),
        ("MattingRefine", "resnet50", 3),
        ("MattingRefine", "resnet101", 3),
    ],
)
def test_class_backbone_and_kernel_are_told_by_the_keys(
    family: str, backbone: str, kernel_size: int | None
) -> None:
    settings = {"refine_kernel_size": kernel_size} if kernel_size else {}
    with torch.device("meta"):
        state = make_network(family, backbone, **settings).state_dict()
    assert recognise(state) == Architecture(family, backbone, kernel_size)


def test_a_network_from_a_file_gives_the_pixels_of_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(small_weights(), path)
    network = network_from(read_state_dict(path), refine_mode="full")
    direct = MattingRefine("mobilenetv2", refine_mode="full")
    direct.load_state_dict(small_weights())
    assert not network.training
    with torch.inference_mode():
        for a, b in zip(network(*plate_pair(64, 96)), direct(*plate_pair(64, 96))):
            assert torch.equal(a, b)


def test_half_precision_weights_are_taken_as_float() -> None:
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in small_weights().items()
    }
    network = network_from(halves)
    assert network.decoder.conv4.weight.dtype == torch.float32
    assert torch.equal(network.decoder.conv4.weight, halves["decoder.conv4.weight"].float())


def test_batch_counters_may_be_missing() -> None:
    kept = {k: v for k, v in small_weights().items() if not k.endswith("num_batches_tracked")}
    state = network_from(kept).state_dict()
    assert int(state["backbone.features.0.1.num_batches_tracked"]) == 0
    assert _same({k: state[k] for k in kept}, kept)


def test_missing_keys_are_named_with_their_number() -> None:
    weights = {k: v for k, v in small_weights().items() if not k.startswith("aspp.")}
    with pytest.raises(ModelError, match=r"lack aspp\.convs\.0\.0\.weight.* and 25 more") as caught:
        network_from(weights)
    assert caught.value.details["reason"] == "missing_keys"
    assert len(caught.value.details["keys"]) == 5


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(ModelError, match=r"unknown: decoder\.extra") as caught:
        network_from({**small_weights(), "decoder.extra": torch.zeros(1)})
    assert caught.value.details["reason"] == "unexpected_keys"


def test_a_key_of_another_shape_is_named_with_both_shapes() -> None:
    weights = {**small_weights(), "decoder.conv4.bias": torch.zeros(36)}
    with pytest.raises(ModelError, match=r"decoder\.conv4\.bias \(36,\), not \(37,\)") as caught:
        network_from(weights)
    assert caught.value.details["reason"] == "shapes"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_numbers_are_named(value: float) -> None:
    bias = small_weights()["decoder.conv4.bias"].clone()
    bias[3] = value
    with pytest.raises(ModelError, match=r"NaN or infinity in decoder\.conv4\.bias") as caught:
        network_from({**small_weights(), "decoder.conv4.bias": bias})
    assert caught.value.details["reason"] == "nonfinite"


def test_a_file_for_another_backbone_says_which_one_it_looks_like() -> None:
    network = make_network("MattingRefine", "resnet50")
    with pytest.raises(
        ModelError,
        match=r"looks like MattingRefine with backbone mobilenetv2.*"
        r"the network is MattingRefine with backbone resnet50",
    ):
        load_weights(network, small_weights())


def test_weights_of_another_network_altogether_are_refused() -> None:
    with pytest.raises(ModelError, match=r"not weights of BackgroundMattingV2.*encoder\.weight"):
        recognise({"encoder.weight": torch.zeros(1)})


def test_torchscript_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    path = tmp_path / "scripted.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 3)).save(path)
    message = _refused(path, "torchscript")
    command = message.split("python -c ")[1].strip('"')
    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(command)
    finally:
        os.chdir(here)
    assert read_state_dict(tmp_path / "scripted-weights.pth").keys() == {"weight", "bias"}


class _Trap:
    """Creates a file when it is unpickled by a reader that trusts."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (open, (str(self.canary), "w"))


@pytest.mark.parametrize("old_format", [False, True])
def test_a_hostile_pickle_is_refused_and_never_runs(tmp_path: Path, old_format: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    content = {"a": torch.zeros(2), "b": _Trap(canary)}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    _refused(path, "unreadable")
    assert not canary.exists()


def test_a_bare_pickle_is_refused_and_never_runs(tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(_Trap(canary)))
    _refused(path, "unreadable")
    assert not canary.exists()


def test_an_archive_that_unpacks_to_more_than_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weights/data.pkl", b"\0" * 10_000_000)
    assert "does not compress" in _refused(path, "unreadable")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [5, 40, 3000, -1000])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: int) -> None:
    path = tmp_path / f"weights{suffix}"
    weights = {"a": torch.rand(5000), "b": torch.rand(7)}
    if suffix == ".pth":
        torch.save(weights, path)
    else:
        safetensors.torch.save_file(weights, path)
    path.write_bytes(path.read_bytes()[:keep])
    _refused(path, "unreadable")


def test_what_is_no_file_is_refused_without_opening_it(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.pth"
    os.mkfifo(fifo)
    assert "is not a file" in _refused(fifo, "missing")
    assert "is not a file" in _refused(tmp_path, "missing")
    assert "No such file" in _refused(tmp_path / "absent.pth", "missing")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.touch()
    assert "is empty" in _refused(path, "unreadable")


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1.0}, {"state_dict": {3: torch.ones(1)}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    assert "does not hold a state dict" in _refused(path, "content")


def test_a_link_is_followed_only_where_that_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"abc")
    (tmp_path / "link.pth").symlink_to(tmp_path / "weights.pth")
    assert read_whole(tmp_path / "link.pth", "it") == b"abc"
    with pytest.raises(ModelError, match="it is a symbolic link") as caught:
        read_whole(tmp_path / "link.pth", "it", follow_links=False)
    assert caught.value.details["reason"] == "link"


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"abc")
    seen = path.stat()
    path.write_bytes(b"abcdef")
    monkeypatch.setattr(os, "fstat", lambda descriptor: seen)
    with pytest.raises(ModelError, match="is being written to"):
        read_whole(path, "it")


def test_a_file_of_an_absurd_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole: nothing is stored
    assert "has 1024.0 GiB" in _refused(path, "size")


def test_a_torch_that_trusts_too_much_opens_no_pickles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, path)
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    assert "install torch 2.10" in _refused(path, "torch")
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    assert read_state_dict(path).keys() == {"a"}


def test_the_digest_is_the_files_sha256() -> None:
    assert digest_of(b"abc") == (
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
