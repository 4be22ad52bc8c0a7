"""Whether weights are of this network, and the network with them; each other file has its sentence.

A file is recognised by its keys and shapes, never by its name. Nothing is loaded in part: a network
with a layer left random runs and gives a matte that only looks busy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from mattebridge.errors import ModelError
from mattebridge.models.greenformer.card import ABSENT, PRESENT, REFINER, SCREENS
from mattebridge.models.greenformer.encoder import CHANNELS, PATCH
from mattebridge.models.greenformer.network import Greenformer
from mattebridge.models.weights.state_dict import KEYS_NAMED, OPTIONAL_SUFFIX

POSITIONS = "encoder.model.pos_embed"
PATCHES = "patch_embed.proj.weight"
# Of the classifier that the encoder was first trained with: in some files, and not used.
DROPPED = "encoder.model.head."
# Where a key begins or ends so, a file is meant to be of this network or of its encoder.
_SIGNS = ("encoder.model.", "alpha_decoder.", "fg_decoder.")
_BACKBONE_SIGN = "blocks.0.attn.qkv.weight"


def describe_state(state: Mapping[str, Tensor]) -> dict[str, str | int]:
    """The size, refiner and screen of weights, for their record; `ModelError` for others."""
    checked(state)
    return {
        "img_size": PATCH * grid_of(state),
        REFINER: PRESENT if has_refiner(state) else ABSENT,
        # It cannot be seen in the weights: the user may say otherwise.
        "screen": SCREENS[0],
    }


def network_from(state: Mapping[str, Tensor]) -> Greenformer:
    """The network with these weights, float32, in evaluation, without gradients, on the CPU.

    Weights that are float32 are not copied. Without a refiner in the file its layers are zero.
    Raises `ModelError` as `describe_state`.
    """
    kept = checked(state)
    with torch.device("meta"):
        network = Greenformer(grid_of(kept))
    full = {
        name: kept[name].to(wanted.dtype)
        if name in kept
        else torch.zeros(wanted.shape, dtype=wanted.dtype)
        for name, wanted in network.state_dict().items()
    }
    network.load_state_dict(full, assign=True)
    return network.requires_grad_(False).eval()


def has_refiner(state: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("refiner.") for name in state)


def grid_of(state: Mapping[str, Tensor]) -> int:
    """The side of the position table of checked weights."""
    return math.isqrt(state[POSITIONS].shape[1])


def checked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The entries that the network uses, if all are there and fit.

    Raises `ModelError` (`reason`: family, no_hint_channel, mlx, position_table, missing_keys,
    unexpected_keys, shapes, nonfinite).
    """
    _check_family(state)
    kept = {name: tensor for name, tensor in state.items() if not name.startswith(DROPPED)}
    _check_patches(kept)
    with torch.device("meta"):
        expected = dict(Greenformer(1).state_dict())
    _check_missing(kept, expected)
    _check_unexpected(kept, expected)
    _check_positions(kept[POSITIONS])
    expected[POSITIONS] = kept[POSITIONS]
    _check_shapes(kept, expected)
    _check_finite(kept)
    return kept


def _check_family(state: Mapping[str, Tensor]) -> None:
    if any(name.startswith(_SIGNS) or name.endswith(_BACKBONE_SIGN) for name in state):
        return
    some = ", ".join(sorted(state)[:KEYS_NAMED])
    raise ModelError(
        "these are not weights of a plate + hint keyer (no encoder.model.* among the keys); found "
        f"{some}",
        reason="family",
        keys=sorted(state)[:KEYS_NAMED],
    )


def _check_patches(state: Mapping[str, Tensor]) -> None:
    """Refuse an encoder of plain pictures, and weights whose convolutions are turned round."""
    for name in (f"encoder.model.{PATCHES}", PATCHES, f"encoder.{PATCHES}"):
        if name not in state:
            continue
        shape = tuple(state[name].shape)
        if shape[1:] == (3, 7, 7):
            raise ModelError(
                f"this network has no hint channel ({name} takes 3 channels, not 4): it is a "
                "backbone for plain pictures, not a keyer - add the checkpoint of the keyer",
                reason="no_hint_channel",
                keys=[name],
            )
        if len(shape) == 4 and shape[1:3] == (7, 7):
            raise ModelError(
                f"these weights were converted for MLX ({name} is {shape}): add the file that "
                "they were converted from",
                reason="mlx",
                keys=[name],
            )


def _check_missing(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    refines = has_refiner(state)
    missing = [
        name
        for name in expected
        if name not in state
        and not name.endswith(OPTIONAL_SUFFIX)
        and (refines or not name.startswith("refiner."))
    ]
    if missing:
        raise _unfit(
            "missing_keys",
            missing,
            f"{len(missing)} of the {len(expected)} entries of a plate + hint keyer are missing",
            "download the checkpoint again, or ask its author for the whole one",
        )


def _check_unexpected(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    unknown = [name for name in state if name not in expected]
    if unknown:
        raise _unfit(
            "unexpected_keys",
            unknown,
            f"of its entries {len(unknown)} are unknown to a plate + hint keyer",
            "it is a checkpoint of another network or version",
        )


def _check_positions(table: Tensor) -> None:
    shape = tuple(table.shape)
    square = len(shape) == 3 and math.isqrt(shape[1]) ** 2 == shape[1] > 0
    if not square or shape[::2] != (1, CHANNELS[0]):
        raise ModelError(
            f"the position table {POSITIONS} is {shape}; a plate + hint keyer has (1, N, "
            f"{CHANNELS[0]}) with N a square number - it is a checkpoint of another network",
            reason="position_table",
            keys=[POSITIONS],
        )


def _check_shapes(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong = [
        f"{name} {tuple(state[name].shape)}, not {tuple(wanted.shape)}"
        for name, wanted in expected.items()
        if name in state and not name.endswith(OPTIONAL_SUFFIX) and not _fits(state[name], wanted)
    ]
    turned = [
        name
        for name, wanted in expected.items()
        if name in state and wanted.dim() == 4 and _is_turned(state[name], wanted)
    ]
    if turned:
        raise ModelError(
            f"these weights were converted for MLX ({turned[0]} is "
            f"{tuple(state[turned[0]].shape)}): add the file that they were converted from",
            reason="mlx",
            keys=turned[:KEYS_NAMED],
        )
    if wrong:
        raise _unfit(
            "shapes",
            wrong,
            f"{len(wrong)} of {len(expected)} entries have another shape or type",
            "it is a checkpoint of another network or version",
        )


def _fits(found: Tensor, wanted: Tensor) -> bool:
    # Weights may be of half precision, but not integers.
    kind = found.is_floating_point() == wanted.is_floating_point()
    return kind and found.shape == wanted.shape and not found.is_quantized


def _is_turned(found: Tensor, wanted: Tensor) -> bool:
    """Whether a convolution's weight has its input channels last."""
    out, into, height, width = wanted.shape
    return found.shape != wanted.shape and tuple(found.shape) == (out, height, width, into)


def _check_finite(state: Mapping[str, Tensor]) -> None:
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(
                f"{name} holds NaN or infinity: the file is damaged - download it again",
                reason="nonfinite",
                keys=[name],
            )


def _unfit(reason: str, keys: list[str], found: str, remedy: str) -> ModelError:
    return ModelError(
        f"{found}, the first: {', '.join(keys[:KEYS_NAMED])} - {remedy}",
        reason=reason,
        keys=keys[:KEYS_NAMED],
        count=len(keys),
    )
