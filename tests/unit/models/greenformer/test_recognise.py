"""Which files are plate + hint checkpoints, and the sentence for each that is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from fakes.seeded_keyer import entries, flat_state, seeded_state
from mattebridge.errors import ModelError, UsageError
from mattebridge.models.background_matting.networks import MattingRefine
from mattebridge.models.greenformer.recognise import checked, describe_state, network_from
from mattebridge.models.weights.installed import InstalledModels
from mattebridge.models.weights.state_dict import parse_state_dict

PATCH = "encoder.model.patch_embed.proj.weight"
POSITIONS = "encoder.model.pos_embed"


def refusal(state: dict[str, torch.Tensor]) -> ModelError:
    with pytest.raises(ModelError) as caught:
        describe_state(state)
    return caught.value


def test_a_checkpoint_of_any_size_is_recognised_by_its_keys() -> None:
    found = {"refiner": "present", "screen": "green"}
    assert describe_state(flat_state(8)) == {"img_size": 32, **found}
    assert describe_state(flat_state(512)) == {"img_size": 2048, **found}


@pytest.mark.parametrize(
    "missing", ["fg_decoder.bn.weight", "encoder.model.blocks.23.mlp.fc2.bias"]
)
def test_a_checkpoint_minus_one_key_is_refused_and_the_key_named(missing: str) -> None:
    state = flat_state()
    del state[missing]
    error = refusal(state)
    assert "1 of the 367 entries of a plate + hint keyer are missing" in error.message
    assert missing in error.message
    assert error.details["reason"] == "missing_keys"


def test_of_many_missing_keys_five_are_named_with_the_count() -> None:
    state = {name: v for name, v in flat_state().items() if "decoder" not in name}
    error = refusal(state)
    # 32 entries of the decoders, less the two counters, which are not used.
    assert "30 of the 367" in error.message
    assert error.details["keys"] == [n for n in entries() if n.startswith("alpha_decoder.")][:5]


def test_batch_counters_may_be_missing_and_a_classifier_of_the_encoder_is_dropped() -> None:
    state = flat_state(encoder__model__head__fc__weight=torch.zeros(2, 2))
    for name in [name for name in state if name.endswith("num_batches_tracked")]:
        del state[name]
    assert describe_state(state)["refiner"] == "present"
    assert len(checked(state)) == 365


def test_an_unknown_key_is_refused_and_named() -> None:
    error = refusal(flat_state(refiner__res5__conv1__weight=torch.zeros(1)))
    assert "unknown" in error.message
    assert "refiner.res5.conv1.weight" in error.message


def test_a_checkpoint_without_any_refiner_is_recognised_as_such() -> None:
    state = {name: v for name, v in flat_state().items() if not name.startswith("refiner.")}
    assert describe_state(state)["refiner"] == "absent"
    del state["alpha_decoder.bn.bias"]
    assert "1 of the 367" in refusal(state).message


@pytest.mark.parametrize("prefix", ["encoder.model.", "", "encoder."])
def test_a_backbone_for_plain_pictures_has_no_hint_channel(prefix: str) -> None:
    state = {
        f"{prefix}{name.removeprefix('encoder.model.')}": tensor
        for name, tensor in flat_state().items()
        if name.startswith("encoder.model.")
    }
    state[f"{prefix}patch_embed.proj.weight"] = torch.zeros(112, 3, 7, 7)
    assert "has no hint channel" in refusal(state).message


def test_weights_converted_for_mlx_are_refused_as_such() -> None:
    turned = {
        name: v.permute(0, 2, 3, 1) if v.dim() == 4 else v for name, v in flat_state().items()
    }
    assert "converted for MLX" in refusal(turned).message
    one = flat_state(refiner__stem__0__weight=torch.zeros(64, 3, 3, 7))
    assert "converted for MLX" in refusal(one).message


@pytest.mark.parametrize("shape", [(1, 17, 112), (1, 16, 96), (16, 112)])
def test_a_position_table_that_is_no_square_or_of_other_width_is_refused(shape) -> None:
    error = refusal(flat_state() | {POSITIONS: torch.zeros(shape)})
    assert "position table" in error.message
    assert str(shape) in error.message


def test_another_shape_or_type_is_refused_and_both_are_named() -> None:
    error = refusal(flat_state(fg_decoder__classifier__weight=torch.zeros(4, 256, 1, 1)))
    assert "fg_decoder.classifier.weight (4, 256, 1, 1), not (3, 256, 1, 1)" in error.message
    whole = torch.zeros(64, dtype=torch.int32)
    assert "another shape or type" in refusal(flat_state(refiner__stem__1__bias=whole)).message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_and_the_first_is_named(value: float) -> None:
    bad = torch.zeros(64)
    bad[3] = value
    error = refusal(flat_state(refiner__stem__1__bias=bad))
    assert error.message.startswith("refiner.stem.1.bias holds NaN or infinity")


def test_a_checkpoint_of_another_model_is_refused_with_what_it_has() -> None:
    state = MattingRefine("mobilenetv2").state_dict()
    error = refusal(dict(state))
    assert error.details["reason"] == "family"
    assert "no encoder.model.*" in error.message


def test_half_weights_and_the_prefix_of_a_compiled_network_are_accepted(tmp_path: Path) -> None:
    state = {f"_orig_mod.{name}": v.half().contiguous() for name, v in flat_state(2).items()}
    data = safetensors.torch.save(state)
    found = parse_state_dict(data, "a file")
    assert next(iter(found)) in entries()
    assert describe_state(found)["img_size"] == 8


def test_a_network_without_refiner_in_its_file_is_whole() -> None:
    state = {name: v for name, v in seeded_state().items() if not name.startswith("refiner.")}
    network = network_from(state)
    assert not network.refiner.final.weight.any()
    assert torch.equal(network.alpha_decoder.bn.bias, state["alpha_decoder.bn.bias"])
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.slow
def test_adding_records_the_screen_and_a_refusal_names_the_file(tmp_path: Path) -> None:
    models = InstalledModels(tmp_path / "models")
    path = tmp_path / "some keyer.pth"
    # Saved as it is in memory: a file of a few kilobytes with all entries.
    torch.save({"state_dict": flat_state(8)}, path)
    assert models.add(path, "key").settings["screen"] == "green"
    assert models.add(path, "key", screen="blue").settings["screen"] == "blue"
    # Added once more without a screen, it keeps the one that was given.
    record = models.add(path, "key", licence="mine")
    assert (record.settings["screen"], record.licence) == ("blue", "mine")
    assert "trained on blue screens" in models()["key"].card.summary
    assert record.digest.startswith("sha256:")
    state = flat_state(8)
    del state["refiner.final.bias"]
    torch.save(state, path)
    with pytest.raises(ModelError, match=r"some keyer\.pth.*1 of the 367.*refiner\.final\.bias"):
        models.add(path, "other")
    torch.save(MattingRefine("mobilenetv2").state_dict(), path)
    with pytest.raises(UsageError, match="--screen"):
        models.add(path, "other", screen="green")
